"""People at the shops: how often they err, and what an episode was worth.

Human error is defined here: :data:`ERRORS` has the share of tickets, by intent, in which a person
does or says something wrong, half of them wrong actions and half wrong words. Waits, costs and
satisfaction are the toolbox's (:mod:`casebook.worlds.people`). The two most arbitrary constants are
``complaint_eur`` and the human error; ``benchmarks`` varies both.
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
    episode: Episode, right: Right, seed: int, constants: Constants = COSTS
) -> dict[str, object]:
    """Return what an episode was worth (:func:`casebook.worlds.people.worth`), and what it is.

    ``outcome`` is that of the system: ``handed over`` where only a person dealt with it.
    """
    ticket, outcome = episode.ticket, judge(right, episode)
    refused = right.action in ("tell", "refuse") and bool(ticket.reason)
    told = (outcome, episode.closed == "ai", len(episode.turns), episode.helped)
    made = Answered(*told, episode.asked_again, refused)
    names = ("intent", "kind", "scenario", "wording")
    known = {"ticket": ticket.id} | {name: getattr(ticket, name) for name in names}
    draws = [seed, ticket.id, 6]
    rest = worth(made, person(ticket, seed, constants), draws, constants, NOTICES)
    return known | {"outcome": outcome} | rest
