"""Declared questions: what is right, what is usually done instead, and what to say then.

A question is an expression for each of its answers, and one more for each
misconception with the sentence that it earns. The check evaluates them on the
course's own frames, never on what the reader has; the contract runs the *same*
text in the solution's kernel, on what the reader has. So a slip, its value and
its test are written once, and the two sides cannot agree by accident.

A named slip is recognised before any slack: whoever gives exactly what a slip
gives reads its reason, also where that lies near the right answer. Where two
slips give the same value, the reader reads "either … or …".

Examples
--------
>>> import pandas as pd
>>> exercise = Exercise("00_tiny", seed=1, given={"trips": lambda seed: pd.Series([1.0, 2.0, 9.0])})
>>> q1 = exercise.asked(
...     1,
...     "`middle`, a number",
...     [
...         Part(
...             "middle",
...             "trips.median()",
...             [
...                 Slip("trips.mean()", "This is the mean, {value:.0f}."),
...                 Slip("len(trips)", "This is the number of trips."),
...             ],
...             otherwise="{value:g} is not in the middle.",
...             also=["sorted(trips)[1]"],
...         )
...     ],
...     shows="Half of the trips are shorter than {middle:.0f} km.",
...     hints=["Sort them."],
... )
>>> q1.outcome(2.0).message
'Half of the trips are shorter than 2 km.'
>>> q1.outcome(3).message
'This is the number of trips.'
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from casebook.exercises.code import TOOLS, Scope, fill, run
from casebook.exercises.declared import Part, Prediction, Slip, parts, slips, written
from casebook.exercises.grading import BLANK, Outcome, Question, fingerprint, raised, student_seed
from casebook.exercises.kinds import (
    Column,
    Function,
    Groups,
    Labels,
    Number,
    Numbers,
    Table,
    Word,
)
from casebook.exercises.trials import answered, right_answers, wrong_answers
from casebook.exercises.verdicts import KEPT, Kept, Verdict, follows, judged, right_of, told

#: What a case declares its questions with.
__all__ = [
    "Asked",
    "Column",
    "Exercise",
    "Function",
    "Groups",
    "Labels",
    "Number",
    "Numbers",
    "Part",
    "Prediction",
    "Slip",
    "Table",
    "Word",
    "parts",
    "slips",
    "written",
]


@dataclass(frozen=True)
class Exercise:
    """What the questions of an exercise share.

    Attributes
    ----------
    stem : str
        Name of its notebook, such as ``01_demand_forecasting``.
    seed : int
        Of the chapter's world. ``CASEBOOK_STUDENT_SEED`` takes its place.
    given : mapping of str to callable
        For each name that the notebook shows, a function that takes a seed and returns its
        value. A question calls those that its code mentions, and no others.
    """

    stem: str
    seed: int
    given: Mapping[str, Callable[[int], object]]

    def asked(
        self,
        number: int,
        asks: str,
        parts: Sequence[Part],
        *,
        shows: str,
        hints: Sequence[str],
        helps: Sequence[str] = (),
        setup: str = "",
        prediction: Prediction | None = None,
    ) -> Asked:
        """Make a question of its parts.

        Parameters
        ----------
        number : int
            Its place in the exercise.
        asks : str
            What is to be given, for the line that says what is missing.
        parts : sequence of Part
            In the order in which the check receives them. Code of a later one may use the
            names of those before it.
        shows : str
            Said of the right answer, a template.
        hints : sequence of str
            At most three.
        helps : sequence of str
            For each hint the part that it helps: the hints of a part that is wrong open first.
            By default hints open in their order.
        setup : str
            Code that the expressions need, run on both sides before them.
        prediction : Prediction, optional
            The check receives it after the parts.

        Returns
        -------
        Asked

        Raises
        ------
        ValueError
            With fewer than two wrong or three right answers, or if `helps` does not name a part
            for each hint.
        """
        return Asked(
            number=number,
            asks=asks,
            judge=_not_called,
            hints=tuple(hints),
            wrong_answers=tuple(wrong_answers(parts, setup)),
            right_answers=tuple(right_answers(parts, setup)),
            stem=self.stem,
            parts=tuple(parts),
            exercise=self,
            shows=shows,
            setup=setup,
            prediction=prediction,
            helps=tuple(helps),
        )


@dataclass
class Asked(Question):
    """A declared question; :meth:`Exercise.asked` makes it."""

    parts: tuple[Part, ...] = ()
    exercise: Exercise | None = None
    shows: str = ""
    setup: str = ""
    prediction: Prediction | None = None
    helps: tuple[str, ...] = ()
    _failed: frozenset[str] = frozenset()
    _opened: list[int] = field(default_factory=list, repr=False)
    _scopes: dict[int, Scope] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.right_answers) < 3:
            raise ValueError(f"Question {self.number} needs at least three right answers.")
        known = {part.name for part in self.parts}
        if self.helps and (len(self.helps) != len(self.hints) or not known.issuperset(self.helps)):
            raise ValueError(f"Question {self.number}: `helps` names a part for each hint.")

    def outcome(self, *answers: object) -> Outcome:
        """Judge each part by itself; see :meth:`Question.outcome`."""
        try:
            return self._outcome(answers)
        except Exception as error:  # whatever an answer is, Run All goes on
            reason = f"The answer could not be used ({raised(error)}). "
            return Outcome(
                "wrong", reason + f"This question asks for {self.asks}.", self._open_hints()
            )

    def _outcome(self, answers: Sequence[object]) -> Outcome:
        wanted = len(self.parts) + (self.prediction is not None)
        if len(answers) != wanted:
            raise TypeError(f"The check of question {self.number} takes {wanted} answers.")
        given = answers[: len(self.parts)]
        if all(answer is BLANK for answer in given):
            return Outcome("not attempted", self._nothing_here())
        scope = dict(self.scope())
        verdicts = self._verdicts(given, scope)
        wrong = [(v.name, v.value) for v in verdicts if v.found == "wrong"]
        if wrong:
            self._tried.add(fingerprint(wrong))
            self._failed = frozenset(name for name, _ in wrong)
        earned = sum(v.found == "right" for v in verdicts) / len(verdicts)
        if earned == 1:
            return Outcome("right", self._success(answers, scope), earned=1.0)
        if any(v.found in ("wrong", "form") for v in verdicts):
            return Outcome("wrong", told(verdicts), self._open_hints(), earned)
        return Outcome("right in part", told(verdicts), self._open_hints(), earned)

    def _open_hints(self) -> tuple[str, ...]:
        """Return the open hints, those of the parts that are wrong before others."""
        rest = [i for i in range(len(self.hints)) if i not in self._opened]
        while rest and len(self._opened) < len(self._tried) + self._requested:
            fits = [i for i in rest if self.helps and self.helps[i] in self._failed]
            self._opened.append((fits or rest)[0])
            rest.remove(self._opened[-1])
        return tuple(self.hints[i] for i in self._opened)

    def scope(self, seed: int | None = None) -> Scope:
        """Return what the question's code may name, in the world of a seed.

        Parameters
        ----------
        seed : int, optional
            By default the student's, or the chapter's.
        """
        seed = student_seed(self.exercise.seed) if seed is None else seed
        if seed not in self._scopes:
            named = self._names_in_code()
            given = {n: f(seed) for n, f in self.exercise.given.items() if n in named}
            kept = Kept(frozenset({"value", *(part.name for part in self.parts)}))
            scope: Scope = {**TOOLS, **given, KEPT: kept}
            run(self.setup, scope)
            self._scopes[seed] = scope
        return self._scopes[seed]

    def expected(self, seed: int | None = None) -> dict[str, object]:
        """Return the right value of each part in the world of a seed."""
        scope = dict(self.scope(seed))
        for part in self.parts:
            scope[part.name] = run(part.right, scope)
        return {part.name: scope[part.name] for part in self.parts}

    @property
    def right_code(self) -> str:
        """The code with which each answer to be tried begins: it assigns what is right."""
        return answered(self.parts, self.setup)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the reader assigns, as the check receives them."""
        predicted = (self.prediction.name,) if self.prediction else ()
        return (*(part.name for part in self.parts), *predicted)

    def _names_in_code(self) -> set[str]:
        """Return every word of the question's code, and of the expressions in its templates."""
        code, templates = [self.setup], [self.shows]
        for part in self.parts:
            code += [part.right, part.accepts, *part.also]
            code += [getattr(part.kind, name, "") for name in ("known", "probes")]
            templates.append(part.otherwise)
            for slip in part.slips:
                code += [*slip.codes, slip.when, slip.form]
                templates.append(slip.says)
        if self.prediction:
            code.append(self.prediction.right)
            templates.append(self.prediction.says)
        fields = [field for text in templates for _, field, *_ in string.Formatter().parse(text)]
        return set(re.findall(r"\w+", "\n".join([*code, *filter(None, fields)])))

    def _verdicts(self, answers: Sequence[object], scope: Scope) -> list[Verdict]:
        """Judge the parts in turn, each after the reader's right answers or else the course's."""
        verdicts, others = [], {}
        for part, answer in zip(self.parts, answers, strict=True):
            right = right_of(part, scope)
            verdict = judged(part, answer, right, scope)
            if verdict.found == "wrong" and (cause := follows(part, verdict.value, scope, others)):
                reason = f"`{part.name}` follows from your `{cause}`: mend that first."
                verdict = Verdict(part.name, "wrong", verdict.value, reason)
            if verdict.found == "wrong":
                others[part.name] = verdict.value
            scope[part.name] = verdict.value if verdict.found == "right" else right
            verdicts.append(verdict)
        return verdicts

    def _success(self, answers: Sequence[object], scope: Scope) -> str:
        said = fill(self.shows, scope)
        if self.prediction:
            came_true = run(self.prediction.right, scope)
            why = fill(self.prediction.says, scope)
            said += " " + self.prediction.told(answers[-1], came_true, why)
        return said


def _not_called(*answers: object) -> str:
    raise NotImplementedError("A declared question judges each of its parts.")
