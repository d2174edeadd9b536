"""People who answer customers, and what customers make of an answer, whoever gave it.

Mechanisms
----------
* A person costs ``person_eur`` and answers after a lognormal wait (median ``wait_hours``); a
  machine answers at once. What a machine leaves to a person's approval costs that person, too.
* A wrong answer that is noticed, whoever gave it, comes to a person (again) with a complaint
  (``person_eur`` + ``complaint_eur``); one that is not noticed costs goodwill later
  (``goodwill_eur``). Money that was paid wrongly costs ``paid_wrongly`` of it, whoever paid.
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
    paid_wrongly : float
        Share of the money that was paid wrongly and does not come back.
    """

    person_eur: float = 5.0
    complaint_eur: float = 9.0
    goodwill_eur: float = 4.0
    turn_eur: float = 0.012
    wait_hours: float = 3.0
    human_error: float = 1.0
    paid_wrongly: float = 0.0

    def mistake(self, notices: float) -> float:
        """Return the euro of a wrong answer on top, where a share of the customers notices it.

        >>> round(Constants().mistake(0.6), 2)
        10.0
        """
        return notices * (self.person_eur + self.complaint_eur) + (1 - notices) * self.goodwill_eur


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
    queued : bool
        Whether a person of the staff has to allow what the system has asked for.
    paid : float
        Euro that the system paid wrongly.
    """

    outcome: str
    answered: bool
    turns: int
    helped: bool | None = None
    asked_again: bool = False
    refused: bool = False
    queued: bool = False
    paid: float = 0.0


def worth(
    ticket: Answered,
    person: str,
    seed: Sequence[int],
    constants: Constants,
    notices: float,
    paid: float = 0.0,
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
    paid : float
        Euro that the person would pay wrongly.

    Returns
    -------
    dict
        ``deflected`` (nobody of the staff worked on it), ``wrong`` (something wrong was told or
        done, by whomever), ``ai_wrong`` (by the system), ``escalated`` (to a person after its
        answer), ``csat``, ``eur``, ``turns``, ``hours`` of waiting.
    """
    rng = np.random.default_rng(seed)
    noticed, wait = rng.random() < notices, constants.wait_hours * rng.lognormal(0, 0.7)
    noise = rng.normal(0, 0.6)
    ai_wrong = ticket.outcome.startswith("wrong")
    # Who pressed yes has not noticed anything; who said no more may find out later.
    complains = ai_wrong and (ticket.helped is False or (ticket.helped is None and noticed))
    escalated = ticket.answered and (ticket.asked_again or complains)
    to_person = not ticket.answered or escalated
    by_person = to_person and person.startswith("wrong")
    wrong = ai_wrong or by_person
    hours = wait if to_person else 0.0
    liking = 4.4 - 1.0 * ticket.refused - 2.4 * wrong - 0.45 * np.log1p(hours) - 0.4 * escalated
    liking -= 0.15 * max(0, ticket.turns - 5)
    # A complaint about the machine brings the ticket to a person; one about that person, again.
    again = by_person and noticed
    handled = int(to_person) + int(again) + int(ticket.queued and not to_person)
    cost = constants.turn_eur * ticket.turns + constants.person_eur * handled
    cost += constants.complaint_eur * (complains or again)
    cost += constants.goodwill_eur * (wrong and not (complains or again))
    cost += constants.paid_wrongly * (ticket.paid + paid * by_person)
    return {
        "deflected": not to_person and not ticket.queued,
        "wrong": bool(wrong),
        "ai_wrong": ai_wrong,
        "answered": ticket.answered,
        "escalated": bool(escalated),
        "csat": int(np.clip(np.rint(liking + noise), 1, 5)),
        "eur": float(cost),
        "turns": ticket.turns,
        "hours": float(hours),
    }
