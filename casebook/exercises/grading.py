"""Questions of an exercise and what a check answers.

A check has three outcomes: *not attempted*, *wrong* with a reason that names
the likely misconception, and *right*. Each different wrong answer unlocks one
more hint. Interactively a check shows one friendly line and lets Run All go
on; under nbgrader it raises, because nbgrader gives full credit to every
graded cell that does not.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import display

#: What stands in an answer cell before the reader writes something.
BLANK = ...
OUTCOME_MIME = "application/vnd.casebook.outcome+json"

Status = Literal["not attempted", "wrong", "right"]


class Wrong(Exception):
    """Raised by a check: the answer is wrong, for the reason in the message."""


class NotRight(AssertionError):
    """Raised under nbgrader for an answer that earns no points."""


@dataclass(frozen=True)
class WrongAnswer:
    """A plausible mistake that the check must reject for the right reason.

    Attributes
    ----------
    code : str
        Python that answers the question wrongly, run in the solution's kernel.
    reason : str
        Part of the reason that the check must give.
    """

    code: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    status: Status
    message: str
    hints: tuple[str, ...] = ()


@dataclass
class Question:
    """One question of an exercise.

    Attributes
    ----------
    number : int
        Its place in the exercise.
    asks : str
        What is to be given, for the line that says what is missing
        ("`wape`, a number").
    judge : callable
        Receives the answer; raises :class:`Wrong` with a reason, or returns a
        sentence that says what the right answer shows.
    hints : tuple of str
        At most three, from a nudge to nearly the answer.
    wrong_answers : tuple of WrongAnswer
        At least two.
    """

    number: int
    asks: str
    judge: Callable[..., str]
    hints: tuple[str, ...]
    wrong_answers: tuple[WrongAnswer, ...]
    _tried: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.hints) <= 3:
            raise ValueError(f"Question {self.number} has {len(self.hints)} hints; give 1 to 3.")
        if len(self.wrong_answers) < 2:
            raise ValueError(f"Question {self.number} needs at least two wrong answers.")

    def outcome(self, *answers: object) -> Outcome:
        """Judge the answers without showing anything.

        Parameters
        ----------
        *answers
            The values that the question asks for, in order.

        Returns
        -------
        Outcome
        """
        if any(answer is BLANK for answer in answers):
            return Outcome(
                "not attempted", f"Nothing here yet: this question asks for {self.asks}."
            )
        try:
            return Outcome("right", self.judge(*answers))
        except Wrong as wrong:
            reason = str(wrong)
        except Exception as error:  # an answer of the wrong kind must not end Run All
            reason = (
                f"The answer could not be used ({type(error).__name__}: {error}). "
                f"This question asks for {self.asks}."
            )
        self._tried.add(_fingerprint(answers))
        return Outcome("wrong", reason, self.hints[: len(self._tried)])

    def check(self, *answers: object) -> None:
        """Judge the answers and show the outcome.

        Raises
        ------
        NotRight
            Under nbgrader (``NBGRADER_EXECUTION``) and only there, unless right.
        """
        outcome = self.outcome(*answers)
        if os.environ.get("NBGRADER_EXECUTION") and outcome.status != "right":
            raise NotRight(f"Question {self.number}, {outcome.status}: {outcome.message}")
        mark = {"right": "✓", "wrong": "✗", "not attempted": "○"}[outcome.status]
        lines = [f"{mark} **Question {self.number}, {outcome.status}.** {outcome.message}"]
        lines += [f"> **Hint {i}.** {hint}" for i, hint in enumerate(outcome.hints, 1)]
        text = "\n\n".join(lines)
        display(
            {
                "text/markdown": text,
                "text/plain": text,
                OUTCOME_MIME: {
                    "question": self.number,
                    "status": outcome.status,
                    "message": outcome.message,
                    "hints": len(outcome.hints),
                },
            },
            raw=True,
        )


def _fingerprint(answers: tuple[object, ...]) -> str:
    """Return a text by which the same answer is known again."""
    import joblib

    try:
        return joblib.hash(_canonical(answers))
    except Exception:  # what cannot be pickled is told apart by its text
        return repr(answers)


def _canonical(value: object) -> object:
    """Make answers that differ only after six digits, or only in their identity, equal."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(value)  # 1 and 1.0 are the same answer
    if isinstance(value, (pd.DataFrame, pd.Series)):
        labels = [list(axis) for axis in value.axes]
        return (labels, _canonical(value.to_numpy()))
    if isinstance(value, np.ndarray):
        return (value.shape, _canonical(value.tolist()))
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return _canonical([_code(value.__code__), value.__defaults__, value.__kwdefaults__, cells])
    return value


def _code(code: types.CodeType) -> tuple:
    """Return what a function does, without where it was written."""
    constants = [_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    return (code.co_code, code.co_names, constants)


def number(value: object, name: str) -> float:
    """Return an answer as a float.

    Raises
    ------
    Wrong
        If it is not one finite number.
    """
    if isinstance(value, (pd.Series, np.ndarray)) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise Wrong(f"`{name}` should be one number; it is {_kind(value)}.")
    if not np.isfinite(value):
        raise Wrong(f"`{name}` is {value}: look for a division by zero or a missing value.")
    return float(value)


def _kind(value: object) -> str:
    if isinstance(value, (pd.Series, pd.DataFrame, np.ndarray)):
        return f"a {type(value).__name__} of shape {value.shape}"
    return f"of type {type(value).__name__}"


def close(value: float, expected: float, tolerance: float = 0.005) -> bool:
    """Say whether two numbers agree within a relative tolerance."""
    return abs(value - expected) <= tolerance * max(abs(expected), 1e-12)
