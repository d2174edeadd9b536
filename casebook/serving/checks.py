"""Checks of a running system: a value, its limit, and the sentence that an operator reads.

A system that is stale, starved of features or answered by its fall-back still replies to each
request in time; only such checks notice.

Examples
--------
>>> rows = [above("errors", 0.2, 0.01, "look at the log"), below("coverage", 0.5, 0.3, "few items")]
>>> table(rows)[["value", "alarm"]].to_numpy().tolist()
[[0.2, True], [0.5, False]]
>>> age("model", pd.Timestamp("2025-01-01"), pd.Timestamp("2025-01-04"), hours=48).what
'model knows until 2025-01-01 00:00:00: make it again, or set the clock right'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd


class Check(NamedTuple):
    """A row of the report; ``what`` is empty without an alarm."""

    name: str
    value: float
    limit: float
    alarm: bool
    what: str


def above(name: str, value: float, limit: float, what: str) -> Check:
    """Alarm above a limit, and when there is no number."""
    alarm = not value <= limit
    return Check(name, float(value), limit, alarm, what if alarm else "")


def below(name: str, value: float, limit: float, what: str) -> Check:
    """Alarm below a limit, and when there is no number."""
    alarm = not value >= limit
    return Check(name, float(value), limit, alarm, what if alarm else "")


def age(name: str, made: pd.Timestamp, now: pd.Timestamp, hours: float) -> Check:
    """Alarm when something is older than so many hours, or of the future."""
    old = (now - made) / pd.Timedelta(hours=1)
    alarm = not 0 <= old <= hours
    what = f"{name} knows until {made}: make it again, or set the clock right"
    return Check(f"age of the {name}, hours", old, hours, alarm, what if alarm else "")


def freshness(store: pd.DataFrame) -> list[Check]:
    """Return the alarms of a feature store, from :meth:`casebook.features.store.Online.freshness`.

    An age below zero is one too: a clock was ahead.

    Examples
    --------
    >>> late = pd.DataFrame({"age": 61.0, "alert": 60.0}, ["stream"])
    >>> freshness(late)[0].what
    'look at what brings them up to date'
    """
    what = "look at what brings them up to date"
    names = [f"{tier} features, age in seconds" for tier in store.index]
    ages = zip(names, store["age"], store["alert"], strict=True)
    return [above(name, abs(value), alert, what) for name, value, alert in ages]


def sources(counts: Mapping[str, int], limit: float = 0.01, model: str = "model") -> Check:
    """Alarm when too many answers did not come from the model."""
    total = sum(counts.values())
    share = 1 - counts.get(model, 0) / total if total else 0.0
    return above("answers of a fall-back", share, limit, "fall-backs serve: /health says why")


def table(checks: Iterable[Check]) -> pd.DataFrame:
    """Return the report, alarms first."""
    frame = pd.DataFrame([*checks], columns=Check._fields).set_index("name")
    return frame.sort_values("alarm", ascending=False, kind="stable")
