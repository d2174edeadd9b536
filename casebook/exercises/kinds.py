"""Kinds of an answer: what each reads, and when two answers are the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.exercises.code import Scope, names, run
from casebook.exercises.grading import Form, kind, number, raised


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
        if unknown := sorted({str(label) for label in answer} - {*known}):
            raise Form(
                f"There is no {names(unknown)} to choose in `{name}`. The names are {names(known)}."
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
    exact : bool
        Whether the labels are part of the answer: a Series then, in which a label too many or too
        few is a mistake and no wrong form.
    """

    tolerance: float = 0.003
    surplus: bool = False
    exact: bool = False
    styles = ("{}.iloc[::-1]", "{}.to_dict()", "{}.to_numpy()", "{}.to_frame('any')")

    def read(self, answer: object, name: str, right: pd.Series, scope: Scope) -> pd.Series:
        if not self.exact:
            return _aligned(answer, name, right, self.surplus)
        if not isinstance(answer, pd.Series):
            raise Form(f"`{name}` should be a Series with its index; it is {kind(answer)}.")
        return _aligned(answer, name, answer, self.surplus)

    def distance(self, value: pd.Series, other: pd.Series) -> float:
        if not value.index.equals(other.index):
            if set(value.index) != set(other.index):
                return np.inf
            other = other.reindex(value.index)
        return _distance(value.to_numpy(float), other.to_numpy(float), self.tolerance)


@dataclass(frozen=True)
class Groups:
    """A group for each label, of any name: what counts is which labels are together.

    A Series in any order, a dict, or an array or a list in the course's order.

    Attributes
    ----------
    surplus : bool
        As in :class:`Column`.
    called : str
        What the question calls a group, for what is said of a wrong form.
    """

    surplus: bool = False
    called: str = "group"
    styles = ("{}.iloc[::-1]", "{}.to_dict()", "{}.to_numpy()", "'g' + {}.astype(str)")

    def read(self, answer: object, name: str, right: pd.Series, scope: Scope) -> pd.Series:
        given = _in_order(answer, name, right, self.surplus, self.called)
        if given.isna().any():
            missing = names(given.index[given.isna()][:3])
            raise Form(f"`{name}` has no {self.called} for {missing}.")
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
                raise Form(f"`{name}` should have the columns {names(right.columns)}.")
            answer = pd.DataFrame(answer, columns=right.columns)
        if not isinstance(answer, pd.DataFrame):
            raise Form(f"`{name}` should be a DataFrame; it is {kind(answer)}.")
        if answer.columns.nlevels > 1:
            raise Form(f"`{name}` has columns of {answer.columns.nlevels} levels; name each once.")
        named = [level for level in answer.index.names if level in self.keys]
        lacking = [level for level in named if level not in answer]
        answer = answer.reset_index(level=lacking) if lacking else answer
        if missing := [column for column in right if column not in answer]:
            raise Form(f"`{name}` has no column {names(missing)}.")
        table = answer[list(right.columns)].reset_index(drop=True)
        try:
            table = table.astype(right.dtypes.to_dict())
        except (TypeError, ValueError) as error:
            raise Form(f"`{name}` holds values of another kind: {error}.") from None
        if table.duplicated(list(self.keys)).any():
            raise Form(f"`{name}` has two rows for one {names(self.keys)}.")
        return self._sorted(table)

    def _sorted(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.sort_values(list(self.keys)).reset_index(drop=True)

    def distance(self, value: pd.DataFrame, other: pd.DataFrame) -> float:
        if len(value) != len(other):
            return np.inf
        keys, other = list(self.keys), other[list(value.columns)]
        named = value[keys].to_numpy()
        if not (named == other[keys].to_numpy()).all():
            other = self._sorted(other)  # as `value` is
            if not (named == other[keys].to_numpy()).all():
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
        raise Form(f"`{name}` should be a Series, a dict or an array; it is {kind(answer)}.")
    if not answer.index.is_unique:
        raise Form(f"`{name}` has two {what}s for one label of its index.")
    if len(missing := right.index.difference(answer.index)):
        raise Form(f"`{name}` has no {what} for {names(missing[:3])}.")
    more = answer.index.difference(right.index, sort=False)
    if len(more) and not surplus:
        raise Form(
            f"`{name}` should have a {what} for {len(right)} labels; it has {len(more)} more, such "
            f"as for {names(more[:3])}."
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
