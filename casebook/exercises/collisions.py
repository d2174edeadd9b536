"""Slips that the check cannot tell from the right answer or from each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

from casebook.exercises.asked import Asked
from casebook.exercises.code import run
from casebook.exercises.declared import Part
from casebook.exercises.grading import BLANK
from casebook.exercises.verdicts import result


@dataclass(frozen=True)
class Collision:
    """Two codes of a part whose values lie within its tolerance.

    Attributes
    ----------
    part : Part
    codes : tuple of str
        The right answer's is the first, if it is one of the two.
    reasons : tuple of str
        Of the slips; one only if the other is the right answer.
    value : object
        What the second code gives.
    """

    part: Part
    codes: tuple[str, str]
    reasons: tuple[str, ...]
    value: object

    def __str__(self) -> str:
        return f"`{self.part.name}`: {self.codes[0]!r} and {self.codes[1]!r} give the same"


def collisions(question: Asked, seed: int | None = None) -> list[Collision]:
    """Return the slips that give what the right answer or another slip gives.

    Parameters
    ----------
    question : Asked
    seed : int, optional
        Of the world; by default the student's, or the chapter's.

    Returns
    -------
    list of Collision
        One for each pair. Two codes of one slip are one misconception and no pair.
    """
    scope, found = dict(question.scope(seed)), []
    for part in question.parts:
        scope[part.name] = run(part.right, dict(scope))
        local = {**scope, "right": scope[part.name]}
        values = [("", part.right, result(part, part.right, local))]
        for slip in (slip for slip in part.slips if not slip.form):
            values += [(slip.reason, code, result(part, code, local)) for code in slip.codes]
        for (one, first, a), (other, second, b) in combinations(values, 2):
            if one != other and min(part.kind.distance(a, b), part.kind.distance(b, a)) <= 1:
                reasons = (one, other) if one else (other,)
                found.append(Collision(part, (first, second), reasons, b))
    return found


def collision_faults(question: Asked) -> list[str]:
    """Return the slips that the check cannot tell from the right answer, or from each other.

    Parameters
    ----------
    question : Asked

    Returns
    -------
    list of str
        Empty when all can be told apart, or the reader is told "either … or …".
    """
    question = replace(question, _tried=set(), _opened=[])  # opens no hint
    return [
        f"question {question.number}, {collision} and the reader is not told so"
        for collision in collisions(question)
        if not _both_are_told(question, collision)
    ]


def _both_are_told(question: Asked, collision: Collision) -> bool:
    if len(collision.reasons) < 2:
        return False
    answers = {**question.expected(), collision.part.name: collision.value}
    message = question.outcome(*(answers.get(name, BLANK) for name in question.names)).message
    return all(reason in message for reason in collision.reasons)
