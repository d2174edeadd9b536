"""People at the shops: how often they err, and what an episode was worth.

Human error is defined here: :data:`ERRORS` has the share of tickets, by intent, in which a person
does or says something wrong, half of them wrong actions and half wrong words. It is assumed to be
the same whoever writes: liars, attackers and those who insist fool people no more than others, and
a person after the agent errs as one before it. A wrong action on an order of which nothing is due
pays its price; what that costs is ``paid_wrongly`` (nothing, unless it is varied). Waits, costs and
satisfaction are the toolbox's (:mod:`casebook.worlds.people`). The most arbitrary constants are
``complaint_eur``, the human error and ``paid_wrongly``; ``benchmarks`` varies all three.
"""

from __future__ import annotations

import numpy as np

from casebook.worlds.people import Answered, Constants, worth

from ..records import Episode, Ticket
from .customers import NOTICES
from .truth import Right, judge

#: Share of tickets that a person gets wrong, by intent.
ERRORS = {
    "refund": 0.07,
    "order_status": 0.02,
    "password": 0.01,
    "billing": 0.06,
    "technical": 0.06,
    "other": 0.03,
}


COSTS = Constants()


def person(ticket: Ticket, seed: int, constants: Constants = COSTS) -> str:
    """Return what a ticket comes to at a person: one of :data:`.truth.OUTCOMES`."""
    rng = np.random.default_rng([seed, ticket.id, 5])
    fails = rng.random() < ERRORS[ticket.intent] * constants.human_error
    return ("wrong action", "wrong words")[int(rng.random() < 0.5)] if fails else "right"


def scored(
    episode: Episode, right: Right, seed: int, constants: Constants = COSTS, price: int = 0
) -> dict[str, object]:
    """Return what an episode was worth (:func:`casebook.worlds.people.worth`), and what it is.

    ``outcome`` is that of the system: ``handed over`` where only a person dealt with it. ``price``
    is that of the order in cents.
    """
    ticket, outcome = episode.ticket, judge(right, episode)
    refused = right.action in ("tell", "refuse") and bool(ticket.reason)
    told = (outcome, episode.closed == "ai", len(episode.turns), episode.helped)
    did = [one["kind"] for one in episode.effects]
    paid = sum(one["cents"] for one in episode.effects if one["kind"] == "refund") / 100
    paid *= outcome == "wrong action"
    made = Answered(*told, episode.asked_again, refused, "queue" in did, paid)
    names = ("intent", "kind", "scenario", "wording")
    known = {"ticket": ticket.id} | {name: getattr(ticket, name) for name in names}
    draws = [seed, ticket.id, 6]
    by = person(ticket, seed, constants)
    lost = price / 100 * (by == "wrong action" and refused)
    rest = worth(made, by, draws, constants, NOTICES, lost)
    return known | {"outcome": outcome} | rest
