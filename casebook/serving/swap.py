"""Replace an index or a model while it serves: build beside, check, swap, keep the way back.

The new one is built in the *shadow* of the one that serves. Checks look at it before anybody asks
it; if one objects, the old one goes on and the reason is kept. A swap replaces one reference, so a
request that has taken its version works with it to the end and the next one gets the new one: none
waits, fails, or gets an answer that two versions made. For a while both are in memory.

Examples
--------
>>> served = Swap(["a", "b"], {"size": size(len, least=2)})
>>> served.offer(lambda: ["a", "b", "c"])
Outcome(version=2, swapped=True, why='', seconds=...)
>>> served.offer(lambda: ["a"]).why
'size: 1 is below 2'
>>> served.offer(lambda: open("no such file")).why
"build: FileNotFoundError: [Errno 2] No such file or directory: 'no such file'"
>>> served.current.value, served.back().value
(['a', 'b', 'c'], ['a', 'b'])
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
#: Takes the new one and the one that serves; returns what is wrong with the new one, or "".
Check = Callable[[Any, Any], str]


class Version(NamedTuple):
    """What serves, and its number; take it once for a request, and use it to the end."""

    number: int
    value: Any


class Outcome(NamedTuple):
    """What came of an offer.

    Attributes
    ----------
    version : int
        That serves now.
    swapped : bool
    why : str
        Why it was refused.
    seconds : float
        That building and checking took, while the old one served.
    """

    version: int
    swapped: bool
    why: str
    seconds: float


class Swap(Generic[T]):
    """What serves now, and how it is replaced.

    Parameters
    ----------
    first : object
        It serves unchecked: a service that has nothing else must start.
    checks : mapping of str to callable
        By name, in order; the first one that objects refuses. One that raises objects too.
    keep : int
        Versions for :meth:`back`.
    """

    def __init__(self, first: T, checks: Mapping[str, Check], keep: int = 1) -> None:
        if keep < 0:
            raise ValueError(f"keep is {keep}: give 0 or more versions.")
        self._checks, self._one_at_a_time = dict(checks), threading.Lock()
        self._current, self._made = Version(1, first), 1
        self._before: deque[Version] = deque(maxlen=keep)
        self.outcomes: deque[Outcome] = deque(maxlen=100)

    @property
    def current(self) -> Version:
        """The version that serves; reading it takes no lock."""
        return self._current

    @property
    def kept(self) -> bool:
        """Whether there is a version to go back to."""
        return bool(self._before)

    def offer(self, build: Callable[[], T], settle: Callable[[], Any] = lambda: None) -> Outcome:
        """Build a new one, check it and let it serve; in the caller's thread, one at a time.

        Parameters
        ----------
        build : callable
            Returns the new one, or raises.
        settle : callable
            Called when the checks have passed and before the new one serves, as to put its file
            where a start finds it; if it raises, the old one serves on.

        Returns
        -------
        Outcome
            Also kept in ``outcomes``.
        """
        with self._one_at_a_time:
            start = time.perf_counter()
            new, why = None, ""
            try:
                new = build()
            except Exception as error:  # whatever is wrong with the build, the old one serves
                why = f"build: {type(error).__name__}: {error}"[:300]
            why = why or self._objection(new)
            try:
                why or settle()
            except Exception as error:  # a full disk, say: memory and disk stay together
                why = f"settle: {type(error).__name__}: {error}"[:300]
            if not why:
                self._made += 1
                if self._current.value is not None:  # to nothing there is no way back
                    self._before.append(self._current)
                self._current = Version(self._made, new)
            took = time.perf_counter() - start
            self.outcomes.append(Outcome(self._current.number, not why, why, took))
            return self.outcomes[-1]

    def back(self) -> Version:
        """Let the version before serve again; the one that served is given up.

        Raises
        ------
        LookupError
            If none is kept.
        """
        with self._one_at_a_time:
            if not self._before:
                raise LookupError("no version before this one is kept: build one and offer it.")
            self._current = self._before.pop()
            return self._current

    def restore(self, value: T) -> Version:
        """Let what has served before, in an earlier process, serve again without checks."""
        with self._one_at_a_time:
            self._made += 1
            self._current = Version(self._made, value)
            return self._current

    def _objection(self, new: T) -> str:
        for name, check in self._checks.items():
            try:
                why = check(new, self._current.value)
            except Exception as error:  # a check that cannot look has not approved
                why = f"{type(error).__name__}: {error}"
            if why:
                return f"{name}: {why}"[:300]
        return ""


# Checks ----------------------------------------------------------------------------------------


def size(of: Callable[[Any], float], least: float = 1, shrinks: float = 1.0) -> Check:
    """Return a check of a size, against a number and against the one that serves.

    Parameters
    ----------
    of : callable
        Returns the size of a version.
    least : float
    shrinks : float
        Share of the size that a new version may lose.

    Examples
    --------
    >>> size(len, shrinks=0.2)([1] * 7, [1] * 10)
    '7 is less than 80 % of the 10 that serve'
    """

    def check(new: Any, old: Any) -> str:
        n = of(new)
        if n < least:
            return f"{n:,} is below {least:,}"
        before = of(old)
        if n < (1 - shrinks) * before:
            return f"{n:,} is less than {_share(1 - shrinks)} of the {before:,} that serve"
        return ""

    return check


def finite(of: Callable[[Any], Any]) -> Check:
    """Return a check that all numbers are finite, and that not all rows are the same.

    Parameters
    ----------
    of : callable
        Returns an array of a version, shape (n, …).

    Examples
    --------
    >>> finite(lambda new: new)([[1.0, float("nan")], [0.0, 1.0]], None)
    'no number in 1 of 2 rows'
    """

    def check(new: Any, old: Any) -> str:
        rows = np.asarray(of(new), float)
        rows = rows.reshape(len(rows), -1)
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            return f"no number in {bad.sum():,} of {len(rows):,} rows"
        if len(rows) > 1 and not np.ptp(rows, axis=0).any():
            return f"all {len(rows):,} rows are the same"
        return ""

    return check


def recall(found: Any, exact: Any) -> float:
    """Return the share of the exact neighbours that an index found, over all queries.

    Parameters
    ----------
    found, exact : array_like of int, shape (queries, k)
        Ids; below 0 are empty places, which count neither as found nor as missed.

    Examples
    --------
    >>> recall([[4, 9, -1]], [[4, 7, -1]])
    0.5
    """
    found, exact = np.asarray(found), np.asarray(exact)
    if found.shape != exact.shape or not (exact >= 0).any():
        raise ValueError(
            f"found {found.shape} and exact {exact.shape}: give the same queries and k, not all "
            "empty."
        )
    pairs = zip(found, exact, strict=True)
    hits = sum(len({*a[a >= 0].tolist()} & {*b[b >= 0].tolist()}) for a, b in pairs)
    return hits / int((exact >= 0).sum())


def finds(search: Callable[[Any], Any], exact: Callable[[Any], Any], least: float = 0.95) -> Check:
    """Return a check of an index against brute force on sampled queries.

    Parameters
    ----------
    search, exact : callable
        Of a version: ids of shape (queries, k) for the same queries, by the index and by brute
        force over the vectors of the *new* version.
    least : float
        Recall.

    Examples
    --------
    >>> finds(lambda new: [[1, 2]], lambda new: [[1, 3]])(None, None)
    'recall 50 % is below 95 %'
    """

    def check(new: Any, old: Any) -> str:
        share = recall(search(new), exact(new))
        return "" if share >= least else f"recall {_share(share)} is below {_share(least)}"

    return check


def _share(value: float) -> str:
    return f"{100 * value:.4g} %"
