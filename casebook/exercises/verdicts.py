"""What is found of an answer: right, or wrong for which reason, and how the reader is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from casebook.exercises.code import Scope, fill, run
from casebook.exercises.declared import Part, Slip
from casebook.exercises.grading import BLANK, Form
from casebook.exercises.kinds import Function


@dataclass(frozen=True)
class Verdict:
    """What was found of one part: ``"missing"``, ``"right"``, ``"wrong"`` or ``"form"``."""

    name: str
    found: str
    value: object = None
    reason: str = ""


def judged(part: Part, answer: object, right: object, scope: Scope) -> Verdict:
    """Return what one answer is: missing, right, wrong for a reason, or of the wrong form."""
    if answer is BLANK:
        return Verdict(part.name, "missing")
    if isinstance(part.kind, Function):
        right = _returned(part, right, scope)
    try:
        value = part.kind.read(answer, part.name, right, scope)
    except Form as wrong:
        local = {**scope, "value": answer, "right": right}
        for slip in part.slips:
            if slip.form and _holds(slip.form, local):
                return Verdict(part.name, "wrong", answer, fill(slip.says, local))
        return Verdict(part.name, "form", reason=str(wrong))
    reason, found = _reason(part, value, right, {**scope, "value": value, "right": right})
    kept = answer if found == "right" and isinstance(part.kind, Function) else value
    return Verdict(part.name, found, kept, reason)


def _holds(condition: str, local: Scope) -> bool:
    """Say whether a condition holds of an answer that may be anything."""
    try:
        return bool(run(condition, local))
    except (TypeError, ValueError):
        return False


def _reason(part: Part, value: object, right: object, local: Scope) -> tuple[str, str]:
    """Return the reason for a value, and whether it is right, wrong or of the wrong form."""
    to_right = part.kind.distance(value, right)
    near = {slip: d for slip in part.slips if (d := _to_slip(part, slip, value, local)) <= 1}
    if near and min(near.values()) < to_right:
        nearest = min(near.values())
        says = [fill(slip.says, local) for slip, d in near.items() if d <= max(nearest, 0.5)]
        return either(says), "wrong"
    if to_right <= 1 or (part.accepts and run(part.accepts, local)):
        return "", "right"
    if hasattr(part.kind, "nearly") and (said := part.kind.nearly(value, right)):
        return said, "form"
    for slip in part.slips:
        if slip.when and run(slip.when, local):
            return fill(slip.says, local), "wrong"
    return fill(part.otherwise, local), "wrong"


def _to_slip(part: Part, slip: Slip, value: object, local: Scope) -> float:
    """Return how far a value is from what a slip gives; a family is known by its condition."""
    if slip.when or slip.form:
        return np.inf
    return min(_to_code(part, code, value, local) for code in slip.codes)


def _to_code(part: Part, code: str, value: object, local: Scope) -> float:
    try:
        return part.kind.distance(value, result(part, code, local))
    except Form:  # in this world the slip gives nothing that could be an answer
        return np.inf


#: Where a scope holds what it has kept; no code can name it.
KEPT = "<kept>"


@dataclass
class Kept:
    """What right answers and slips give in a world, unless it depends on the reader's answers."""

    answers: frozenset[str]
    values: dict[tuple[str, ...], object] = field(default_factory=dict)

    def once(self, key: tuple[str, ...], code: str, made: Callable[[], object]) -> object:
        """Return what a call gives; make it once for a key, if no answer stands in the code."""
        if self.answers & set(re.findall(r"\w+", code)):
            return made()
        if key not in self.values:
            self.values[key] = made()
        return self.values[key]


def right_of(part: Part, scope: Scope) -> object:
    """Return the right value of a part; computed once, if no answer changes it."""
    kept: Kept = scope[KEPT]
    return kept.once((part.name,), part.right, lambda: run(part.right, dict(scope)))


def _returned(part: Part, right: object, scope: Scope) -> object:
    """Return what the right function returns; called once, if no answer changes it."""
    kept: Kept = scope[KEPT]
    code = f"{part.right} {part.kind.probes}"
    return kept.once(
        (part.name, "", "returned"), code, lambda: part.kind.read(right, part.name, right, scope)
    )


def result(part: Part, code: str, scope: Scope) -> object:
    """Return what code gives, as the check would read it; once, if no answer changes it."""

    def read() -> object:
        return part.kind.read(run(code, dict(scope)), part.name, scope["right"], scope)

    kept: Kept = scope[KEPT]
    return kept.once((part.name, code), f"{code} {part.right}", read)


def either(says: Sequence[str]) -> str:
    """Return one reason, or several that cannot be told apart."""
    says = list(dict.fromkeys(says))
    return says[0] if len(says) == 1 else "Either: " + " Or: ".join(says)


def follows(part: Part, value: object, scope: Scope, others: Mapping[str, object]) -> str:
    """Return the wrong answer from which a value follows, if it does."""
    for name, wrong in others.items():
        if re.search(rf"\b{name}\b", part.right):
            right = run(part.right, {**scope, name: wrong})
            with_wrong = result(part, part.right, {**scope, name: wrong, "right": right})
            if part.kind.distance(value, with_wrong) <= 1:
                return name
    return ""


def told(verdicts: Sequence[Verdict]) -> str:
    """Return what is right, what is wrong and why, and what is missing."""
    if len(verdicts) == 1:
        return verdicts[0].reason
    by = {found: [v for v in verdicts if v.found == found] for found in ("right", "missing")}
    wrong = [v for v in verdicts if v.found in ("wrong", "form")]
    lines = [_are(by["right"], "right")] if by["right"] else []
    for verdict in wrong:
        plain = (len(wrong) == 1 and by["right"]) or f"`{verdict.name}`" in verdict.reason
        lines.append(verdict.reason if plain else f"`{verdict.name}`: {verdict.reason}")
    lines += [_are(by["missing"], "still missing")] if by["missing"] else []
    return " ".join(lines)


def _are(verdicts: Sequence[Verdict], what: str) -> str:
    *others, last = (f"`{verdict.name}`" for verdict in verdicts)
    said = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    return f"{said} {what}."
