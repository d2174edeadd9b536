"""What the contract runs in the solution's kernel: right and wrong answers as code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from casebook.exercises.declared import Part
from casebook.exercises.grading import WrongAnswer

_IMPORT = "from casebook.exercises.code import evaluated, set_up\n"


def _assigned(part: Part, code: str) -> str:
    needs = f", right={part.right!r}" if re.search(r"\bright\b", code) else ""
    return f"{part.name} = evaluated({code!r}, {{**globals(), **_made}}{needs})\n"


def wrong_answers(parts: Sequence[Part], setup: str) -> list[WrongAnswer]:
    """Return each slip with the right answers for the other parts."""
    return [
        WrongAnswer(answered(parts, setup) + _assigned(part, code), slip.reason)
        for part in parts
        for slip in part.slips
        for code in slip.codes
    ]


def right_answers(parts: Sequence[Part], setup: str) -> list[str]:
    """Return the right answers by other methods, and in each form that the kinds accept."""
    return [
        answered(parts, setup) + _assigned(part, code)
        for part in parts
        for code in (*part.also, *(s.replace("{}", "right") for s in part.kind.styles))
    ]


def answered(parts: Sequence[Part], setup: str) -> str:
    """Return the code that sets up, once for all trials, and assigns what is right to each part."""
    begins = f"{_IMPORT}_made = set_up({setup!r}, globals())\n"
    return begins + "".join(_assigned(part, part.right) for part in parts)
