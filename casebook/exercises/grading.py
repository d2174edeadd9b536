"""Questions of an exercise and what a check answers.

A check has three outcomes: *not attempted*, *wrong* with a reason that names
the likely misconception, and *right*. A question with several parts is *right
in part* while some are right and the others are still missing. Each different
wrong answer unlocks one more hint; an answer in the wrong form (text for a
number, ``None``, a wrong shape) unlocks none.

Interactively a check shows one friendly line and lets Run All go on. Under
nbgrader it raises where nothing is right, because nbgrader gives full credit to
every graded cell that does not raise; where some parts are right it returns
their share, which nbgrader reads as partial credit. A check cell is worth one
point.

Whether nbgrader runs the notebook is read once, when this module is imported,
so that an answer that changes the environment earns nothing. That is no
protection against fraud: answers and checks share one process, and code that
replaces a check can earn points. Who grades should read what was handed in.
"""

from __future__ import annotations

import contextlib
import io
import json
import linecache
import numbers
import os
import sysconfig
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import display

from casebook import project

#: What stands in an answer cell before the reader writes something.
BLANK = ...
OUTCOME_MIME = "application/vnd.casebook.outcome+json"

#: Read before any answer runs, see above.
_GRADED = bool(os.environ.get("NBGRADER_EXECUTION"))
STUDENT_SEED = "CASEBOOK_STUDENT_SEED"
#: For the same reason: an answer that sets another seed is still judged in its student's world.
_SEED_AT_IMPORT = os.environ.get(STUDENT_SEED, "")

Status = Literal["not attempted", "wrong", "right in part", "right"]
_MARKS = {"right": "✓", "right in part": "◐", "wrong": "✗", "not attempted": "○"}


class Wrong(Exception):
    """Raised by a check: the answer is wrong, for the reason in the message."""


class Form(Wrong):
    """Raised by a check: the answer has the wrong form, which says nothing and costs no hint."""


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
    """What a check found.

    Attributes
    ----------
    status : str
    message : str
    hints : tuple of str
        The open ones.
    earned : float
        Share of the parts that are right, from 0 to 1.
    """

    status: Status
    message: str
    hints: tuple[str, ...] = ()
    earned: float = 0.0


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
    right_answers : tuple of str
        Code of answers in other styles that must be accepted.
    stem : str
        Name of the exercise, such as ``01_demand_forecasting``.
    """

    number: int
    asks: str
    judge: Callable[..., str]
    hints: tuple[str, ...]
    wrong_answers: tuple[WrongAnswer, ...]
    right_answers: tuple[str, ...] = ()
    stem: str = ""
    _tried: set[str] = field(default_factory=set, repr=False)
    _requested: int = field(default=0, repr=False)

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
            return Outcome("not attempted", self._nothing_here())
        try:
            return Outcome("right", self.judge(*answers), earned=1.0)
        except Form as wrong:
            return Outcome("wrong", str(wrong), self._open_hints())
        except Wrong as wrong:
            self._tried.add(fingerprint(answers))
            return Outcome("wrong", str(wrong), self._open_hints())
        except Exception as error:  # an answer of the wrong kind must not end Run All
            reason = f"The answer could not be used ({raised(error)}). "
            return Outcome(
                "wrong", reason + f"This question asks for {self.asks}.", self._open_hints()
            )

    def check(self, *answers: object) -> float | None:
        """Judge the answers and show the outcome.

        Returns
        -------
        float or None
            Under nbgrader the share of the parts that are right, unless all are.

        Raises
        ------
        NotRight
            Under nbgrader and only there, if nothing is right.
        """
        with _without_stderr():
            outcome = self.outcome(*answers)
        if _GRADED and not outcome.earned:
            raise NotRight(f"Question {self.number}, {outcome.status}: {outcome.message}")
        mark = _MARKS[outcome.status]
        self._show(
            f"{mark} **Question {self.number}, {outcome.status}.** {outcome.message}",
            outcome.hints,
            status=outcome.status,
            message=outcome.message,
        )
        return round(outcome.earned, 4) if _GRADED and outcome.earned < 1 else None

    def hint(self) -> None:
        """Open one more hint, without a guess, and show all that are open."""
        self._requested += len(self._open_hints()) < len(self.hints)
        self._show(f"**Question {self.number}.**", self._open_hints(), status="hint")

    def solution(self) -> None:
        """Show the course's answer and its reasoning."""
        self._show(
            f"**Question {self.number}, solution.**\n\n{self._reasoning()}", status="solution"
        )

    def _nothing_here(self) -> str:
        return f"Nothing here yet: this question asks for {self.asks}."

    def _open_hints(self) -> tuple[str, ...]:
        return self.hints[: len(self._tried) + self._requested]

    def _reasoning(self) -> str:
        path = project.solutions_dir() / f"{self.stem}.ipynb"
        if not self.stem or not path.is_file():
            return "It is folded under the question on the exercise's page in the book."
        return reasoning(path, self.number)

    def _show(self, line: str, hints: tuple[str, ...] = (), **outcome: object) -> None:
        text = "\n\n".join([line, *(f"> **Hint {i}.** {h}" for i, h in enumerate(hints, 1))])
        shown = {"question": self.number, **outcome, "hints": len(hints)}
        display({"text/markdown": text, "text/plain": text, OUTCOME_MIME: shown}, raw=True)


def student_seed(default: int) -> int:
    """Return the seed of this student's world: ``CASEBOOK_STUDENT_SEED``, or the default.

    Parameters
    ----------
    default : int
        Seed of the chapter's world.

    Raises
    ------
    ValueError
        If the variable holds something else than a whole number from 0 on.

    Examples
    --------
    >>> student_seed(7)
    7
    """
    text = (_SEED_AT_IMPORT if _GRADED else os.environ.get(STUDENT_SEED, "")).strip()
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(
            f"{STUDENT_SEED} is {text!r}; set it to a whole number from 0 on, or remove it."
        )
    return int(text) if text else default


def reasoning(path: Path, number: int) -> str:
    """Return the answer to a question and why, as Markdown, from its solution notebook.

    The text may speak of cells below it, which an exercise does not have: it says where they are.

    Parameters
    ----------
    path : Path
        A notebook in ``solutions/``.
    number : int
        Of the question.

    Raises
    ------
    ValueError
        If the notebook has no such question.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found, inside, more = [], False, False
    for cell in cells:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        source = "".join(cell["source"])
        if name.startswith("answer-"):
            if inside := name == f"answer-{number}":
                answer = source.partition("### BEGIN SOLUTION\n")[2].partition("### END")[0]
                found.append(f"```python\n{answer.rstrip()}\n```")
        elif inside and "solution" in _tags(cell):
            more |= cell["cell_type"] == "code"
            found += [source] if cell["cell_type"] == "markdown" else []
    if not found:
        raise ValueError(f"{path.name} has no question {number}.")
    if more:
        found.append(
            f"*The cells below this text are in `solutions/{path.name}`; the exercise's page in "
            "the book shows them with what they print.*"
        )
    return "\n\n".join(found)


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def raised(error: BaseException) -> str:
    """Return type and text of an error, and the reader's own line that it came from.

    Examples
    --------
    >>> raised(KeyError("y"))
    "KeyError: 'y'"
    """
    said = f"{type(error).__name__}: {error}"
    own = None
    trace = error.__traceback__
    while trace is not None:
        if _is_own(trace.tb_frame.f_code.co_filename):
            own = trace
        trace = trace.tb_next
    if own is None:
        return said
    code, line = own.tb_frame.f_code, own.tb_lineno
    text = linecache.getline(code.co_filename, line, own.tb_frame.f_globals).strip()
    where = f"in line {line} of the cell" + (f", `{text}`" if text else "")
    return f"{said}; {where}"


_NOT_OWN = (
    str(Path(project.__file__).parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen",
    "<casebook",
)


def _is_own(file: str) -> bool:
    """Say whether code is the reader's: neither the course's nor a library's."""
    return not file.startswith(_NOT_OWN) and "-packages" not in file


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep warnings of a reader's function away: nbgrader takes a line on stderr for an error."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def fingerprint(answers: object) -> str:
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
        labels = [str(axis.tolist()) for axis in value.axes]
        return (labels, _canonical(value.to_numpy()))
    if isinstance(value, np.ndarray):
        return (value.shape, _one_text(value))
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return _canonical([_code(value.__code__), value.__defaults__, value.__kwdefaults__, cells])
    return value


def _one_text(values: np.ndarray) -> object:
    """Return an array as one text, if it can be: a text for each value takes ten times as long."""
    listed = values.ravel().tolist()
    if values.dtype.kind in "fiu":
        form = "%.6g" if values.dtype.kind == "f" else "%d"
        return ",".join([form] * len(listed)) % tuple(listed)
    if values.dtype.kind in "bU" or all(type(one) is str for one in listed):
        return repr(listed)
    return _canonical(listed)


def _code(code: types.CodeType) -> tuple:
    """Return what a function does, without where it was written."""
    constants = [_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    return (code.co_code, code.co_names, constants)


def number(value: object, name: str) -> float:
    """Return an answer as a float.

    Raises
    ------
    Form
        If it is not one finite number.
    """
    if isinstance(value, (pd.Series, np.ndarray)) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal)):
        raise Form(f"`{name}` should be one number; it is {kind(value)}.")
    if not np.isfinite(value := float(value)):
        raise Form(f"`{name}` is {value}: look for a division by zero or a missing value.")
    return value


def kind(value: object) -> str:
    """Return what an answer is, for the line that asks for something else.

    Examples
    --------
    >>> kind([0.17])
    'a list of length 1'
    """
    if isinstance(value, (pd.Series, pd.DataFrame, np.ndarray)):
        return f"a {type(value).__name__} of shape {value.shape}"
    if isinstance(value, (list, tuple, set, dict)):
        return f"a {type(value).__name__} of length {len(value)}"
    if isinstance(value, str):
        return f"text in quotes (of type str): {value[:40]!r}"
    return f"of type {type(value).__name__}"


def close(value: float, expected: float, tolerance: float = 0.005) -> bool:
    """Say whether two numbers agree within a relative tolerance."""
    return abs(value - expected) <= tolerance * max(abs(expected), 1e-12)
