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

import ast
import copy
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from casebook.exercises.grading import (
    BLANK,
    Form,
    Outcome,
    Question,
    WrongAnswer,
    fingerprint,
    kind,
    number,
    raised,
    student_seed,
)

Scope = dict[str, object]


# What an answer is, and when two are the same.


@dataclass(frozen=True)
class Number:
    """One number; a numpy scalar, an array or a Series of one number will do.

    Distances are in units of the tolerance: up to 1 two numbers count as the same.

    Attributes
    ----------
    tolerance : float
        Relative.
    unrounded : bool
        Whether the right answer with fewer digits is told so; not where round numbers are
        answers of their own.
    """

    tolerance: float = 0.003
    unrounded: bool = True
    styles = ("float({})", "np.float64({})", "np.array({})", "pd.Series([{}], index=['a'])")

    def read(self, answer: object, name: str, right: object, scope: Scope) -> float:
        return number(answer, name)

    def distance(self, value: float, other: float) -> float:
        return _distance(value, other, self.tolerance)

    def nearly(self, value: float, right: float) -> str:
        """Say that an answer is the right one with too few digits, if it is."""
        rounded = any(value == round(float(right), places) for places in range(5))
        if self.unrounded and rounded and _distance(value, right, 0.05) <= 1:
            return f"{value:g} is near, but rounded too much. Give the number unrounded."
        return ""


@dataclass(frozen=True)
class Numbers:
    """Numbers of a given shape: a list, an array, a Series or a DataFrame, in the given order."""

    shape: tuple[int, ...]
    tolerance: float = 0.003
    styles = ("np.array({}).tolist()", "np.array({}, dtype=float)", "pd.DataFrame({}).squeeze()")

    def read(self, answer: object, name: str, right: object, scope: Scope) -> np.ndarray:
        wanted = " by ".join(map(str, self.shape)) + " numbers"
        if isinstance(answer, (str, dict, set)) or not isinstance(answer, (Sequence, *_ARRAYS)):
            raise Form(f"`{name}` should be {wanted}; it is {kind(answer)}.")
        try:
            array = np.asarray(answer, float)
        except (TypeError, ValueError):
            raise Form(f"`{name}` should hold numbers only, {wanted}.") from None
        if len(self.shape) == 1 and array.squeeze().shape == self.shape:
            array = array.squeeze()
        if array.shape != self.shape:
            raise Form(f"`{name}` should be {wanted}; its shape is {array.shape}.")
        if not np.isfinite(array).all():
            raise Form(f"`{name}` holds a missing or infinite number.")
        return array

    def distance(self, value: np.ndarray, other: object) -> float:
        return _distance(value, np.asarray(other, float), self.tolerance)


@dataclass(frozen=True)
class Labels:
    """A set of names; any collection of them will do, in any order.

    Attributes
    ----------
    known : str
        An expression for all names that may stand in it.
    """

    known: str
    styles = ("set({})", "sorted({})", "pd.Index(sorted({}))", "np.array(sorted({}))")

    def read(self, answer: object, name: str, right: object, scope: Scope) -> frozenset:
        known = [str(label) for label in run(self.known, scope)]
        if isinstance(answer, str):
            answer = {answer}
        if not isinstance(answer, (set, frozenset, list, tuple, pd.Index, pd.Series, np.ndarray)):
            raise Form(
                f"`{name}` should be a set of names in quotes, such as "
                f'`{{"one_name", "another_name"}}`; it is {kind(answer)}.'
            )
        if unknown := sorted(str(label) for label in answer if str(label) not in known):
            raise Form(
                f"There is no {_names(unknown)} to choose in `{name}`. The names are "
                f"{_names(known)}."
            )
        return frozenset(str(label) for label in answer)

    def distance(self, value: frozenset, other: object) -> float:
        return 0.0 if value == frozenset(map(str, other)) else np.inf


@dataclass(frozen=True)
class Column:
    """A number for each label: a Series in any order, a dict, or an array in the course's order.

    Attributes
    ----------
    tolerance : float
        Relative.
    surplus : bool
        Whether the answer may have further labels; they are left out then.
    """

    tolerance: float = 0.003
    surplus: bool = False
    styles = ("{}.iloc[::-1]", "{}.to_dict()", "{}.to_numpy()", "{}.to_frame('any')")

    def read(self, answer: object, name: str, right: pd.Series, scope: Scope) -> pd.Series:
        return _aligned(answer, name, right, self.surplus)

    def distance(self, value: pd.Series, other: pd.Series) -> float:
        if not value.index.equals(other.index):
            if set(value.index) != set(other.index):
                return np.inf
            other = other.reindex(value.index)
        return _distance(value.to_numpy(float), other.to_numpy(float), self.tolerance)


@dataclass(frozen=True)
class Groups:
    """A group for each label, of any name: what counts is which labels are together.

    A Series in any order, a dict, or an array or a list in the course's order. ``surplus`` is as
    in :class:`Column`.
    """

    surplus: bool = False
    styles = ("{}.iloc[::-1]", "{}.to_dict()", "{}.to_numpy()", "'g' + {}.astype(str)")

    def read(self, answer: object, name: str, right: pd.Series, scope: Scope) -> pd.Series:
        given = _in_order(answer, name, right, self.surplus, "group")
        if given.isna().any():
            raise Form(f"`{name}` has no group for {_names(given.index[given.isna()][:3])}.")
        return pd.Series(pd.factorize(given)[0], given.index)

    def distance(self, value: pd.Series, other: pd.Series) -> float:
        return 0.0 if np.array_equal(value, pd.factorize(other)[0]) else np.inf


@dataclass(frozen=True)
class Word:
    """One of a few words, in upper or lower case."""

    options: tuple[str, ...]
    styles = ("{}.upper()", "' ' + {}", "np.str_({})")

    def read(self, answer: object, name: str, right: str, scope: Scope) -> str:
        words = {option.casefold(): option for option in self.options}
        given = answer.strip().casefold() if isinstance(answer, str) else None
        if given not in words:
            options = " or ".join(f'"{option}"' for option in self.options)
            raise Form(f"`{name}` should be {options}; it is {kind(answer)}.")
        return words[given]

    def distance(self, value: str, other: str) -> float:
        return 0.0 if value == other else np.inf


@dataclass(frozen=True)
class Table:
    """A DataFrame with given columns: any order of columns and rows, any dtype, any index.

    Attributes
    ----------
    keys : sequence of str
        Columns that name a row; the other columns of the right answer are compared as numbers.
    """

    keys: tuple[str, ...]
    tolerance: float = 0.003
    styles = (
        "{}[{}.columns[::-1]]",
        "{}.sample(frac=1, random_state=0)",
        "{}.astype(object)",
        "{}.to_numpy()",
    )

    def read(self, answer: object, name: str, right: pd.DataFrame, scope: Scope) -> pd.DataFrame:
        if isinstance(answer, np.ndarray) and answer.ndim == 2:
            if answer.shape[1] != right.shape[1]:
                raise Form(f"`{name}` should have the columns {_names(right.columns)}.")
            answer = pd.DataFrame(answer, columns=right.columns)
        if not isinstance(answer, pd.DataFrame):
            raise Form(f"`{name}` should be a DataFrame; it is {kind(answer)}.")
        named = [level for level in answer.index.names if level in self.keys]
        answer = answer.reset_index(level=named) if named else answer
        if missing := [column for column in right if column not in answer]:
            raise Form(f"`{name}` has no column {_names(missing)}.")
        table = answer[list(right.columns)].copy()
        try:
            table = table.astype(right.dtypes.to_dict())
        except (TypeError, ValueError) as error:
            raise Form(f"`{name}` holds values of another kind: {error}.") from None
        if table.duplicated(list(self.keys)).any():
            raise Form(f"`{name}` has two rows for one {_names(self.keys)}.")
        return self._sorted(table)

    def _sorted(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.sort_values(list(self.keys)).reset_index(drop=True)

    def distance(self, value: pd.DataFrame, other: pd.DataFrame) -> float:
        other, keys = self._sorted(other[list(value.columns)]), list(self.keys)
        if len(value) != len(other) or not (value[keys] == other[keys]).to_numpy().all():
            return np.inf
        rest = [column for column in value if column not in keys]
        numbers = [table[rest].to_numpy(float) for table in (value, other)]
        return _distance(*numbers, self.tolerance) if rest else 0.0


@dataclass(frozen=True)
class Function:
    """A function, judged by what it returns on the course's own inputs.

    Attributes
    ----------
    probes : str
        An expression for a list of tuples of arguments. Each edge that the text states has one.
    returns : Table, Column, Number, ..., optional
        What the function returns; by default numbers, or values that are compared as they are.
    """

    probes: str
    tolerance: float = 0.003
    returns: Kind | None = None
    styles = ("{}", "lambda *given: {}(*given)", "__import__('functools').partial({})")

    def read(self, answer: object, name: str, right: object, scope: Scope) -> list[object]:
        if not callable(answer):
            raise Form(f"`{name}` should be a function; it is {kind(answer)}.")
        results = self._called(answer, name, scope)
        if self.returns is None:
            return results
        wanted = self._called(right, name, scope) if callable(right) else right
        read = self.returns.read
        return [read(r, f"{name}(…)", w, scope) for r, w in zip(results, wanted, strict=True)]

    def _called(self, function: Callable, name: str, scope: Scope) -> list[object]:
        results = []
        for arguments in run(self.probes, scope):
            try:
                results.append(function(*copy.deepcopy(arguments)))
            except Exception as error:  # the reader's own code
                raise Form(f"`{name}` stopped with {raised(error)}.") from None
        return results

    def distance(self, value: list[object], other: object) -> float:
        apart = self.returns.distance if self.returns else self._apart
        return max(map(apart, value, other), default=0.0)

    def _apart(self, one: object, other: object) -> float:
        try:
            first, second = np.asarray(one), np.asarray(other)
            if first.shape != second.shape:
                return np.inf
            if all(array.dtype.kind in "biuf" for array in (first, second)):
                return _distance(first.astype(float), second.astype(float), self.tolerance)
            return 0.0 if bool(np.all(first == second)) else np.inf
        except (TypeError, ValueError):
            return np.inf


Kind = Number | Numbers | Labels | Column | Groups | Word | Table | Function
_ARRAYS = (np.ndarray, pd.Series, pd.DataFrame, pd.Index)


def _distance(value: object, other: object, tolerance: float) -> float:
    """Return the largest distance of two arrays, in units of the relative tolerance."""
    value, other = np.asarray(value, float), np.asarray(other, float)
    if value.shape != other.shape:
        return np.inf
    if not value.size:
        return 0.0
    size = np.maximum(np.abs(other), max(1e-6 * np.nanmax(np.abs(other), initial=0), 1e-12))
    apart = np.where(value == other, 0.0, np.abs(value - other) / size)
    return float(np.where(np.isnan(value) & np.isnan(other), 0.0, apart).max()) / tolerance


def _in_order(
    answer: object, name: str, right: pd.Series, surplus: bool, what: str = "number"
) -> pd.Series:
    """Return an answer as a Series in the order of the right one, which has one `what` a label."""
    if isinstance(answer, pd.DataFrame) and answer.shape[1] == 1:
        answer = answer.iloc[:, 0]
    if isinstance(answer, dict):
        answer = pd.Series(answer)
    if isinstance(answer, (np.ndarray, list, tuple)):
        if np.size(answer) != len(right):
            raise Form(f"`{name}` should hold {len(right)} {what}s; it holds {np.size(answer)}.")
        answer = pd.Series(np.ravel(answer), right.index)
    if not isinstance(answer, pd.Series):
        raise Form(f"`{name}` should be a Series; it is {kind(answer)}.")
    if not answer.index.is_unique:
        raise Form(f"`{name}` has two {what}s for one label of its index.")
    if len(missing := right.index.difference(answer.index)):
        raise Form(f"`{name}` has no {what} for {_names(missing[:3])}.")
    more = answer.index.difference(right.index, sort=False)
    if len(more) and not surplus:
        raise Form(
            f"`{name}` should have a {what} for {len(right)} labels; it has {len(more)} more, such "
            f"as for {_names(more[:3])}."
        )
    return answer.reindex(right.index)


def _aligned(answer: object, name: str, right: pd.Series, surplus: bool) -> pd.Series:
    """Return an answer as numbers in the order of the right one."""
    answer = _in_order(answer, name, right, surplus)
    try:
        values = answer.astype(float)
    except (TypeError, ValueError):
        raise Form(f"`{name}` should hold numbers only.") from None
    if not np.isfinite(values).all():
        raise Form(f"`{name}` holds a missing or infinite number.")
    return values


def _names(labels: object) -> str:
    return ", ".join(f"`{label}`" for label in labels)


# What a question is made of.


@dataclass(frozen=True)
class Slip:
    """A misconception: code that has it, and the reason that whoever gives it reads.

    Attributes
    ----------
    code : str or tuple of str
        Expressions (statements may stand before them) for what the misconception gives;
        ``right`` is what the right answer would be.
    says : str
        The reason, a template: ``{value}``, ``{right}``, the answers so far and all names of
        the question may stand in it, in expressions.
    when : str
        A condition on ``value`` for a whole family of answers, of which ``code`` is one. It is
        asked after all slips that are known by their value.
    form : str
        A condition on ``value`` as it was given, for a form that betrays its misconception
        (a matrix on its side). It is asked only where the answer cannot be read.
    """

    code: str | tuple[str, ...]
    says: str
    when: str = ""
    form: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        return (self.code,) if isinstance(self.code, str) else self.code

    @property
    def reason(self) -> str:
        """The longest piece of ``says`` that holds no expression."""
        return max((text for text, *_ in string.Formatter().parse(self.says)), key=len).strip()


def slips(text: str) -> list[Slip]:
    """Read slips from a text: each with its code, a line for each way to it, and what it says.

    Parameters
    ----------
    text : str
        Code stands at the margin. What is said stands below it, indented by two spaces; its lines
        are joined. A first one ``when: …`` or ``form: …`` is the condition of a :class:`Slip`.

    Raises
    ------
    ValueError
        If a slip has no code or says nothing.

    Examples
    --------
    >>> slips('''
    ... 100 * right
    ...   when: value > 1
    ...   Give a share
    ...   between 0 and 1.
    ... ''')
    [Slip(code='100 * right', says='Give a share between 0 and 1.', when='value > 1', form='')]
    """
    found: list[Slip] = []
    for code, said in re.findall(r"((?:^\S.*\n)*)((?:^ .*\n)*)", f"{text}\n", re.MULTILINE):
        codes, says = code.splitlines(), " ".join(line.strip() for line in said.splitlines())
        if bool(codes) != bool(says):
            raise ValueError(
                f"a slip is code and, indented below it, what it says: {code + said!r}."
            )
        condition = re.match(r"  (when|form): (.*)\n", said)
        if condition:
            says = says.removeprefix(f"{condition[0].strip()} ")
        if codes:
            one = codes[0] if len(codes) == 1 else tuple(codes)
            found.append(Slip(one, says, **({condition[1]: condition[2]} if condition else {})))
    return found


@dataclass(frozen=True)
class Part:
    """One of the answers that a question asks for.

    Attributes
    ----------
    name, right : str
        The name that the reader assigns, and code for its value.
    slips : sequence of Slip
        Each with a reason of its own.
    otherwise : str
        Said of any other value, a template as in :class:`Slip`.
    kind : Number, Numbers, Labels, Column, Groups, Word, Table or Function
        What the answer is, with its tolerance.
    also : sequence of str
        Code for the right answer by other methods or in other forms.
    accepts : str
        A condition on ``value``, where more than one value is right.
    """

    name: str
    right: str
    slips: Sequence[Slip]
    otherwise: str
    kind: Kind = field(default_factory=Number)
    also: Sequence[str] = ()
    accepts: str = ""


def parts(text: str, **kinds: Kind) -> list[Part]:
    """Read the parts of a question from a text.

    Parameters
    ----------
    text : str
        A part begins with a line ``name = code``, which gives what is right. It is written like a
        slip, and its slips follow, as in :func:`slips`: further lines of code are
        :attr:`Part.also`, ``when: …`` is :attr:`Part.accepts`, and what is said below it is
        :attr:`Part.otherwise`.
    **kinds : Number, Numbers, Labels, ...
        By the part's name; by default a :class:`Number`.

    Raises
    ------
    ValueError
        If the text begins with no part, or a kind has none.

    Examples
    --------
    >>> [part] = parts('''
    ... middle = trips.median()
    ... sorted(trips)[1]
    ...   {value:g} is not in the middle.
    ... trips.mean()
    ...   This is the mean.
    ... ''')
    >>> part.name, part.right, part.also
    ('middle', 'trips.median()', ('sorted(trips)[1]',))
    >>> part.otherwise, [slip.code for slip in part.slips]
    ('{value:g} is not in the middle.', ['trips.mean()'])
    """
    before, *blocks = re.split(r"^(?=[A-Za-z_]\w* = )", text, flags=re.MULTILINE)
    if before.strip() or not blocks:
        raise ValueError(f"parts begin with `name = code`: {(before or text)[:60]!r}.")
    found = []
    for block in blocks:
        right, *wrong = slips(block)
        name, code = right.codes[0].split(" = ", 1)
        kind, also = kinds.pop(name, Number()), right.codes[1:]
        found.append(Part(name, code, wrong, right.says, kind, also, right.when))
    if kinds:
        raise ValueError(f"there is no part {_names(kinds)}.")
    return found


@dataclass(frozen=True)
class Prediction:
    """A guess before the measurement: it has a place to be written and costs nothing.

    Attributes
    ----------
    name : str
        The name that the reader assigns.
    options : tuple of str
        What may be written.
    right : str
        Code for the option that comes true.
    says : str
        Why, a template: told with the right answer.
    """

    name: str
    options: tuple[str, ...]
    right: str
    says: str

    def told(self, answer: object, came_true: str, why: str) -> str:
        """Return what is said of the prediction once the answer is right."""
        guess = answer.strip().casefold() if isinstance(answer, str) else answer
        if answer is BLANK:
            return f"You wrote no prediction; “{came_true}” comes true. {why}"
        guess = {option.casefold(): option for option in self.options}.get(guess)
        if guess is None:
            options = " or ".join(f'"{option}"' for option in self.options)
            return f"`{self.name}` should be {options}; “{came_true}” comes true. {why}"
        if guess == came_true:
            return f"You predicted it: “{came_true}”. {why}"
        return f"You predicted “{guess}”, but “{came_true}” comes true. {why}"


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
            wrong_answers=tuple(_wrong_answers(parts, setup)),
            right_answers=tuple(_right_answers(parts, setup)),
            stem=self.stem,
            parts=tuple(parts),
            exercise=self,
            shows=shows,
            setup=setup,
            prediction=prediction,
            helps=tuple(helps),
        )


@dataclass(frozen=True)
class _Verdict:
    """What was found of one part: ``"missing"``, ``"right"``, ``"wrong"`` or ``"form"``."""

    name: str
    found: str
    value: object = None
    reason: str = ""


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
            return Outcome("wrong", _told(verdicts), self._open_hints(), earned)
        return Outcome("right in part", _told(verdicts), self._open_hints(), earned)

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
            kept = _Kept(frozenset({"value", *(part.name for part in self.parts)}))
            scope: Scope = {**_TOOLS, **given, _KEPT: kept}
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
        return _answered(self.parts, self.setup)

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

    def _verdicts(self, answers: Sequence[object], scope: Scope) -> list[_Verdict]:
        """Judge the parts in turn, each after the reader's right answers or else the course's."""
        verdicts, others = [], {}
        for part, answer in zip(self.parts, answers, strict=True):
            right = _right(part, scope)
            verdict = _judged(part, answer, right, scope)
            if verdict.found == "wrong" and (cause := _follows(part, verdict.value, scope, others)):
                reason = f"`{part.name}` follows from your `{cause}`: mend that first."
                verdict = _Verdict(part.name, "wrong", verdict.value, reason)
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


def _judged(part: Part, answer: object, right: object, scope: Scope) -> _Verdict:
    """Return what one answer is: missing, right, wrong for a reason, or of the wrong form."""
    if answer is BLANK:
        return _Verdict(part.name, "missing")
    if isinstance(part.kind, Function):
        right = part.kind.read(right, part.name, right, scope)
    try:
        value = part.kind.read(answer, part.name, right, scope)
    except Form as wrong:
        local = {**scope, "value": answer, "right": right}
        for slip in part.slips:
            if slip.form and _holds(slip.form, local):
                return _Verdict(part.name, "wrong", answer, fill(slip.says, local))
        return _Verdict(part.name, "form", reason=str(wrong))
    reason, found = _reason(part, value, right, {**scope, "value": value, "right": right})
    kept = answer if found == "right" and isinstance(part.kind, Function) else value
    return _Verdict(part.name, found, kept, reason)


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
        return _either(says), "wrong"
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
        return part.kind.distance(value, _result(part, code, local))
    except Form:  # in this world the slip gives nothing that could be an answer
        return np.inf


#: Where a scope holds what it has kept; no code can name it.
_KEPT = "<kept>"


@dataclass
class _Kept:
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


def _right(part: Part, scope: Scope) -> object:
    """Return the right value of a part; computed once, if no answer changes it."""
    kept: _Kept = scope[_KEPT]
    return kept.once((part.name,), part.right, lambda: run(part.right, dict(scope)))


def _result(part: Part, code: str, scope: Scope) -> object:
    """Return what code gives, as the check would read it; once, if no answer changes it."""

    def read() -> object:
        return part.kind.read(run(code, dict(scope)), part.name, scope["right"], scope)

    kept: _Kept = scope[_KEPT]
    return kept.once((part.name, code), f"{code} {part.right}", read)


def _either(says: Sequence[str]) -> str:
    """Return one reason, or several that cannot be told apart."""
    says = list(dict.fromkeys(says))
    return says[0] if len(says) == 1 else "Either: " + " Or: ".join(says)


def _follows(part: Part, value: object, scope: Scope, others: Mapping[str, object]) -> str:
    """Return the wrong answer from which a value follows, if it does."""
    for name, wrong in others.items():
        if re.search(rf"\b{name}\b", part.right):
            right = run(part.right, {**scope, name: wrong})
            with_wrong = _result(part, part.right, {**scope, name: wrong, "right": right})
            if part.kind.distance(value, with_wrong) <= 1:
                return name
    return ""


def _told(verdicts: Sequence[_Verdict]) -> str:
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


def _are(verdicts: Sequence[_Verdict], what: str) -> str:
    *others, last = (f"`{verdict.name}`" for verdict in verdicts)
    said = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    return f"{said} {what}."


# Code and templates.


def run(code: str, scope: Scope) -> object:
    """Run code and return the value of its last expression.

    Parameters
    ----------
    code : str
        Statements; the last one may be an expression.
    scope : dict
        Names that the code may use. Those that it assigns are added.

    Returns
    -------
    object
        None if the last statement is no expression.

    Examples
    --------
    >>> run("half = 1 / 2\\nhalf + 1", {})
    1.5
    """
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<casebook question>", "exec"), scope)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<casebook question>", "eval"), scope)


class _Template(string.Formatter):
    """A template whose fields are expressions."""

    def get_field(self, field_name: str, args: Sequence, kwargs: Mapping) -> tuple[object, str]:
        return run(field_name, dict(kwargs)), field_name


def fill(template: str, scope: Scope) -> str:
    """Return a template with its expressions replaced by their values.

    Examples
    --------
    >>> fill("{share:.0%} of {len(rows)} rows", {"share": 0.25, "rows": [1, 2]})
    '25% of 2 rows'
    """
    return _Template().vformat(template, (), scope)


def evaluated(code: str, names: Mapping[str, object], setup: str = "", right: str = "") -> object:
    """Return what code gives among the names of a notebook, and leave these as they are.

    Parameters
    ----------
    code : str
        As in :class:`Slip`.
    names : mapping
        ``globals()`` of the notebook.
    setup : str
        Run before it.
    right : str
        Code for the value that ``code`` may call ``right``.
    """
    scope = {**_TOOLS, **names}
    run(setup, scope)
    if right:
        scope["right"] = run(right, scope)
    return run(code, scope)


def distinct(value: float, *others: float, digits: int = 3) -> str:
    """Return a number with as many digits as it takes to tell it from others.

    Examples
    --------
    >>> distinct(1.0029, 1.0031)
    '1.0029'
    >>> distinct(0.5, 0.25)
    '0.5'
    """
    for count in range(digits, 16):
        said = f"{value:.{count}g}"
        if all(said != f"{other:.{count}g}" for other in others if other != value):
            return said
    return repr(value)


#: Names that every question's code and templates may use.
_TOOLS: Scope = {"np": np, "pd": pd, "distinct": distinct, "names": _names}


# What the contract runs in the solution's kernel.

_IMPORT = "from casebook.exercises.asked import evaluated\n"


def _assigned(part: Part, code: str, setup: str) -> str:
    needs = f", right={part.right!r}" if re.search(r"\bright\b", code) else ""
    return f"{part.name} = evaluated({code!r}, globals(), {setup!r}{needs})\n"


def _wrong_answers(parts: Sequence[Part], setup: str) -> list[WrongAnswer]:
    """Return each slip with the right answers for the other parts."""
    return [
        WrongAnswer(_answered(parts, setup) + _assigned(part, code, setup), slip.reason)
        for part in parts
        for slip in part.slips
        for code in slip.codes
    ]


def _right_answers(parts: Sequence[Part], setup: str) -> list[str]:
    """Return the right answers by other methods, and in each form that the kinds accept."""
    return [
        _answered(parts, setup) + _assigned(part, code, setup)
        for part in parts
        for code in (*part.also, *(s.replace("{}", "right") for s in part.kind.styles))
    ]


def _answered(parts: Sequence[Part], setup: str) -> str:
    return _IMPORT + "".join(_assigned(part, part.right, setup) for part in parts)


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
        values = [("", part.right, _result(part, part.right, local))]
        for slip in (slip for slip in part.slips if not slip.form):
            values += [(slip.reason, code, _result(part, code, local)) for code in slip.codes]
        for (one, first, a), (other, second, b) in combinations(values, 2):
            if one != other and min(part.kind.distance(a, b), part.kind.distance(b, a)) <= 1:
                reasons = (one, other) if one else (other,)
                found.append(Collision(part, (first, second), reasons, b))
    return found
