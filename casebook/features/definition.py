"""What a feature is: which events count, for whom, for how long, and how fresh it has to be.

It is all that the two sides of a feature store share: :mod:`casebook.features.offline` computes it
for any moment of the past, :mod:`casebook.features.store` keeps it up to date.

Examples
--------
>>> views = Feature("views_1h", ("item",), "count", HOUR)
>>> views.leaves(ticks("1970-01-01 00:01:30")) == ticks("1970-01-01 01:01")
True
>>> Feature("paid", ("user",), "sum", HOUR)
Traceback (most recent call last):
...
ValueError: feature 'paid': a count has no value, all others name its column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
SUMS, NEWEST = ("count", "sum", "mean"), ("last", "recent")
#: A value beyond it is no measurement: the event does not count.
MOST = 1e12
#: What each event has, besides the columns that features name.
COLUMNS = ("event", "at", "known_at")


def ticks(moment: Any) -> Any:
    """Return times, or one, as whole microseconds since 1970."""
    if isinstance(moment, pd.Series):
        return moment.to_numpy("datetime64[us]").astype(np.int64)
    return pd.Timestamp(moment).value // 1000


@dataclass(frozen=True)
class Tier:
    """How often features are brought up to date, and what is promised of them.

    Attributes
    ----------
    name : str
    sla, alert : float
        Seconds since the last update that are promised, and after which somebody is called.
    every : float
        Seconds between two cuts; 0 follows each event.
    ready : float
        Seconds after a cut from which its values are served.
    """

    name: str
    sla: float
    alert: float
    every: float = 0.0
    ready: float = 0.0

    def cut(self, moment: Any) -> Any:
        """Return the tick of which values are served at ticks."""
        if not self.every:
            return moment
        every = round(self.every * 1e6)
        return (moment - round(self.ready * 1e6)) // every * every


STREAM = Tier("stream", sla=5.0, alert=MINUTE)
#: The night begins at midnight, and has an hour.
BATCH = Tier("batch", sla=24 * HOUR, alert=26 * HOUR, every=DAY, ready=HOUR)


@dataclass(frozen=True)
class Feature:
    """What a number of an entity is made of.

    Attributes
    ----------
    name : str
    keys : tuple of str
        Columns that name the entity: ``("user",)``, or ``("user", "category")``.
    how : str
        ``count``, ``sum``, ``mean``; ``last`` (value, a number) or ``recent`` (the newest ``n``
        whole numbers, newest first).
    window : float
        Seconds for which an event counts; ``inf`` for ``last`` and ``recent`` only.
    value : str
        Column of values, but for ``count``. An event without a finite value does not count.
    where : mapping of str to tuple
        Column → values: which events count; by default all.
    tier : Tier
    step : float, optional
        Seconds; windows begin on whole steps. By default a minute for sums, so that a store keeps
        ``window / step`` numbers and not each event, and none for ``last`` and ``recent``. With a
        step and a window of a day a feature is of the day so far.
    n : int
        Of ``recent``.
    unit : float
        Of sums, such as a cent.

    Raises
    ------
    ValueError
        With what is wrong.
    """

    name: str
    keys: tuple[str, ...]
    how: str
    window: float
    value: str = ""
    where: Mapping[str, tuple] = field(default_factory=dict)
    tier: Tier = STREAM
    step: float | None = None
    n: int = 10
    unit: float = 0.01

    def __post_init__(self) -> None:
        wrong = ""
        names = [self.name, *self.keys, *self.where, *([self.value] if self.value else [])]
        if not all(name.isidentifier() for name in names) or not self.keys:
            wrong = "names are identifiers, and at least one column is the key"
        elif self.how not in SUMS + NEWEST:
            wrong = f"how is {self.how!r}: one of {', '.join(SUMS + NEWEST)}"
        elif (self.how == "count") == bool(self.value):
            wrong = "a count has no value, all others name its column"
        elif self.how in SUMS and not self.window < math.inf:
            wrong = "the window of a sum is finite"
        elif not 0 < self.steps <= self.window:
            wrong = f"the window is {self.window:g} s: at least a step ({self.steps:g} s)"
        elif self.n < 1 or not self.unit > 0:
            wrong = "n and unit are positive"
        if wrong:
            raise ValueError(f"feature {self.name!r}: {wrong}.")

    @property
    def steps(self) -> float:
        """Seconds of a step."""
        return self.step if self.step is not None else MINUTE if self.how in SUMS else 1e-6

    def leaves(self, at: Any) -> Any:
        """Return the tick from which an event of a tick no longer counts."""
        step = max(round(self.steps * 1e6), 1)
        return at // step * step + round(min(self.window, 1e11) * 1e6)

    def counts(self, events: pd.DataFrame) -> np.ndarray:
        """Return which events count, shape (n,)."""
        keep = events[[*self.keys]].notna().all(axis=1).to_numpy()
        for column, values in self.where.items():
            keep &= events[column].isin(values).to_numpy()
        if self.value:
            values = pd.to_numeric(events[self.value], errors="coerce").to_numpy(float)
            keep &= np.abs(values) < MOST  # false for a missing number, too
        return keep

    def units(self, events: pd.DataFrame) -> np.ndarray:
        """Return the values as whole units, shape (n,); of a count, ones."""
        if self.how == "count":
            return np.ones(len(events), np.int64)
        return np.rint(events[self.value].to_numpy(float) / self.unit).astype(np.int64)

    def finish(self, total: Any, n: Any) -> np.ndarray:
        """Return a feature from sums of units and numbers of events: on both sides this."""
        total, n = np.asarray(total, float), np.asarray(n, float)
        if self.how == "mean":
            with np.errstate(invalid="ignore"):
                return np.where(n > 0, total * self.unit / n, np.nan)
        return n if self.how == "count" else total * self.unit


def defined(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return the features of a store; refuse two of one name."""
    names = [feature.name for feature in features]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} is defined twice: give each feature its own name.")
    return tuple(features)


def checked(features: Sequence[Feature], events: pd.DataFrame) -> None:
    """Refuse events that lack a column.

    Raises
    ------
    ValueError
    """
    named = {c for f in features for c in (*f.keys, *f.where, *([f.value] if f.value else []))}
    if missing := sorted({*COLUMNS, *named} - {*events}):
        raise ValueError(f"the events have no column {', '.join(missing)}: add it to each event.")


def picked(f: Feature, tops: Sequence[Sequence[Sequence]]) -> Any:
    """Return last values, or tuples of the most recent ones, from newest events."""
    if f.how == "last":
        return np.array([top[0][2] if top else np.nan for top in tops], float)
    made = np.empty(len(tops), object)
    made[:] = [tuple(int(entry[2]) for entry in top[: f.n]) for top in tops]
    return made


def skew(served: Mapping[str, Sequence], offline: pd.DataFrame) -> dict[str, int]:
    """Return by feature in how many rows the served values are not those of a training table.

    Parameters
    ----------
    served : mapping of str to sequence
        Values that a service logged with its answers, as of :meth:`Online.read`.
    offline : DataFrame
        The same rows of :meth:`Offline.at`.

    Examples
    --------
    >>> skew({"views": [1.0, 2.0]}, pd.DataFrame({"views": [1.0, 3.0]}))
    {'views': 1}
    """
    found = {}
    for name in served:
        pairs = zip(served[name], offline[name], strict=True)
        differ = sum(a != b and not (a != a and b != b) for a, b in pairs)
        found |= {name: differ} if differ else {}
    return found
