"""People: what they decide, how long one waits for them, what they cost; and what customers make
of an answer.

Mechanisms
----------
* **Human error** is defined here: :data:`ERRORS` has the share of tickets, by intent, in which a
  person does or says something wrong. Half of these are wrong actions, half wrong words.
* A person costs ``person_eur`` and answers after a lognormal wait (median ``wait_hours``); a
  machine answers at once.
* A wrong answer that is noticed comes back to a person with a complaint (``complaint_eur``); one
  that is not noticed costs goodwill later (``goodwill_eur``).
* CSAT from 1 to 5 is a rounded normal around 4.4, less for a refusal (1.0), for something wrong
  (2.4, noticed or not: it shows later), for waiting (0.45 for each factor e of hours above zero),
  for a person after a machine (0.4), for each turn beyond five (0.15).

Draws belong to seed and ticket, not to the system: two systems are compared on the same luck. The
two most arbitrary constants are ``complaint_eur`` and the human error; ``studies`` varies both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True)
class Constants:
    """What people and mistakes cost.

    Attributes
    ----------
    person_eur, complaint_eur, goodwill_eur : float
        A ticket at a person; a complaint on top; a wrong answer that nobody noticed.
    turn_eur : float
        A turn of the machine, with its model.
    wait_hours : float
        Median wait for a person.
    human_error : float
        Factor on :data:`ERRORS`.
    """

    person_eur: float = 5.0
    complaint_eur: float = 9.0
    goodwill_eur: float = 4.0
    turn_eur: float = 0.012
    wait_hours: float = 3.0
    human_error: float = 1.0


def person(ticket: Ticket, seed: int, constants: Constants = Constants()) -> str:
    """Return what a ticket comes to at a person: one of :data:`.truth.OUTCOMES`."""
    rng = np.random.default_rng([seed, ticket.id, 5])
    fails = rng.random() < ERRORS[ticket.intent] * constants.human_error
    return ("wrong action", "wrong words")[int(rng.random() < 0.5)] if fails else "right"


def scored(
    episode: Episode,
    right: Right,
    seed: int,
    constants: Constants = Constants(),
) -> dict[str, object]:
    """Return what an episode was worth.

    Returns
    -------
    dict
        ``outcome`` of the system (``handed over`` where only a person dealt with it), ``deflected``
        (no person was needed), ``wrong`` (something wrong was told or done, by whomever),
        ``ai_wrong`` (by the system), ``answered`` (by the system), ``escalated`` (to a person after
        that), ``csat``, ``eur``, ``turns``, ``hours`` of waiting; and what the ticket is.
    """
    ticket, outcome = episode.ticket, judge(right, episode)
    rng = np.random.default_rng([seed, ticket.id, 6])
    noticed, wait = rng.random() < NOTICES, constants.wait_hours * rng.lognormal(0, 0.7)
    noise = rng.normal(0, 0.6)
    ai_wrong = outcome.startswith("wrong")
    # Who pressed yes has not noticed anything; who said no more may find out later.
    complains = ai_wrong and (episode.helped is False or (episode.helped is None and noticed))
    answered = episode.closed == "ai"
    escalated = answered and (episode.asked_again or complains)
    to_person = not answered or escalated
    final = person(ticket, seed, constants) if to_person else outcome
    wrong = ai_wrong or final.startswith("wrong")
    refused = right.action in ("tell", "refuse") and bool(ticket.reason)
    hours = wait if to_person else 0.0
    turns = len(episode.turns)
    liking = 4.4 - 1.0 * refused - 2.4 * wrong - 0.45 * np.log1p(hours) - 0.4 * escalated
    liking -= 0.15 * max(0, turns - 5)
    cost = constants.turn_eur * turns + constants.person_eur * to_person
    cost += constants.complaint_eur * (complains or (to_person and wrong and noticed))
    cost += constants.goodwill_eur * (wrong and not complains)
    return {
        "ticket": ticket.id,
        "intent": ticket.intent,
        "kind": ticket.kind,
        "scenario": ticket.scenario,
        "wording": ticket.wording,
        "outcome": outcome,
        "deflected": not to_person,
        "wrong": bool(wrong),
        "ai_wrong": ai_wrong,
        "answered": answered,
        "escalated": bool(escalated),
        "csat": int(np.clip(np.rint(liking + noise), 1, 5)),
        "eur": float(cost),
        "turns": turns,
        "hours": float(hours),
    }
