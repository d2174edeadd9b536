"""People who answer customers, and what customers make of an answer, whoever gave it.

Mechanisms
----------
* A person costs ``person_eur`` and answers after a lognormal wait (median ``wait_hours``); a
  machine answers at once.
* A wrong answer that is noticed comes back to a person with a complaint (``complaint_eur``); one
  that is not noticed costs goodwill later (``goodwill_eur``).
* CSAT from 1 to 5 is a rounded normal around 4.4, less for a refusal (1.0), for something wrong
  (2.4, noticed or not: it shows later), for waiting (0.45 for each factor e of hours above zero),
  for a person after a machine (0.4), for each turn beyond five (0.15).

Draws belong to a seed and a ticket, not to the system: two systems are compared on the same luck.

Examples
--------
>>> quick = Answered("right", answered=True, turns=2, helped=True)
>>> worth(quick, "right", [1, 7], Constants(), notices=0.6)["deflected"]
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
        Factor on a world's share of tickets that a person gets wrong.
    """

    person_eur: float = 5.0
    complaint_eur: float = 9.0
    goodwill_eur: float = 4.0
    turn_eur: float = 0.012
    wait_hours: float = 3.0
    human_error: float = 1.0


@dataclass(frozen=True)
class Answered:
    """What a ticket came to at a system.

    Attributes
    ----------
    outcome : str
        ``right``, ``handed over``, or one that begins with ``wrong``.
    answered : bool
        Whether the system gave an answer.
    turns : int
    helped : bool or None
        What the customer pressed.
    asked_again : bool
        Whether the customer went to a person after the answer.
    refused : bool
        Whether the right answer is not what the customer wants.
    """

    outcome: str
    answered: bool
    turns: int
    helped: bool | None = None
    asked_again: bool = False
    refused: bool = False


def worth(
    ticket: Answered, person: str, seed: Sequence[int], constants: Constants, notices: float
) -> dict[str, object]:
    """Return what a ticket was worth.

    Parameters
    ----------
    ticket : Answered
    person : str
        What it would come to at a person: ``right``, or one that begins with ``wrong``.
    seed : sequence of int
        Of its wait, of whether what is wrong is noticed, and of how it is liked.
    constants : Constants
    notices : float
        Share of the customers who notice something wrong.

    Returns
    -------
    dict
        ``deflected`` (no person was needed), ``wrong`` (something wrong was told or done, by
        whomever), ``ai_wrong`` (by the system), ``escalated`` (to a person after its answer),
        ``csat``, ``eur``, ``turns``, ``hours`` of waiting.
    """
    rng = np.random.default_rng(seed)
    noticed, wait = rng.random() < notices, constants.wait_hours * rng.lognormal(0, 0.7)
    noise = rng.normal(0, 0.6)
    ai_wrong = ticket.outcome.startswith("wrong")
    # Who pressed yes has not noticed anything; who said no more may find out later.
    complains = ai_wrong and (ticket.helped is False or (ticket.helped is None and noticed))
    escalated = ticket.answered and (ticket.asked_again or complains)
    to_person = not ticket.answered or escalated
    wrong = ai_wrong or (to_person and person.startswith("wrong"))
    hours = wait if to_person else 0.0
    liking = 4.4 - 1.0 * ticket.refused - 2.4 * wrong - 0.45 * np.log1p(hours) - 0.4 * escalated
    liking -= 0.15 * max(0, ticket.turns - 5)
    cost = constants.turn_eur * ticket.turns + constants.person_eur * to_person
    cost += constants.complaint_eur * (complains or (to_person and wrong and noticed))
    cost += constants.goodwill_eur * (wrong and not complains)
    return {
        "deflected": not to_person,
        "wrong": bool(wrong),
        "ai_wrong": ai_wrong,
        "answered": ticket.answered,
        "escalated": bool(escalated),
        "csat": int(np.clip(np.rint(liking + noise), 1, 5)),
        "eur": float(cost),
        "turns": ticket.turns,
        "hours": float(hours),
    }
