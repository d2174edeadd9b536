"""A feature store from one definition: values of now for serving, of any moment for training.

A :class:`Feature` says which events count, for whom and for how long. :class:`Offline` computes it
with DuckDB for any moment of the past, for a training table; :class:`Online` keeps it up to date
event by event in SQLite, or in Redis, for a service. An event counts from when it is *known*, not
from when it happened: for the moment ``c`` it counts if ``known_at < c < at + window``. Sums are of
whole units, so that no order of the events changes a bit, and both sides give equal values.

Streaming features follow each event. Batch features are those of the last night's cut: a training
row must see last night's value too, and not one that only the next night will compute.

Examples
--------
>>> views = Feature("views_1h", ("item",), "count", HOUR, where={"kind": ("view",)})
>>> when = pd.to_datetime(["2025-01-01 10:00", "2025-01-01 10:30"])
>>> late = when + pd.to_timedelta(["1s", "20min"])
>>> events = pd.DataFrame({"event": [1, 2], "at": when, "known_at": late, "item": 7})
>>> events["kind"] = "view"
>>> rows = pd.DataFrame({"item": 7, "asked": pd.to_datetime(["2025-01-01 10:40"] * 2)})
>>> rows.loc[1, "asked"] += pd.Timedelta("15min")
>>> Offline([views], events).at(rows, "asked")["views_1h"].tolist()
[1.0, 2.0]
>>> online = Online([views])
>>> online.ingest(events[:1], rows.loc[0, "asked"])
Taken(new=1, again=0, refused=())
>>> online.read(rows[:1], rows.loc[0, "asked"])["views_1h"].tolist()
[1.0]
>>> online.close()
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.features.definition import (
    BATCH,
    DAY,
    HOUR,
    MINUTE,
    NEWEST,
    STREAM,
    SUMS,
    Feature,
    Tier,
    checked,
    defined,
    picked,
    skew,
    ticks,
)
from casebook.features.hashes import hashes_of, put_aside
from casebook.features.offline import Offline

__all__ = [
    "BATCH",
    "DAY",
    "HOUR",
    "MINUTE",
    "STREAM",
    "Feature",
    "Offline",
    "Online",
    "Taken",
    "Tier",
    "opened",
    "skew",
]


class Taken(NamedTuple):
    """What a store did with events: new ones, such as it had, and why others were refused."""

    new: int
    again: int
    refused: tuple[str, ...]


class Online:
    """Values of now, for a service. One process writes; others may read the same file or server.

    Parameters
    ----------
    features : sequence of Feature
    where : Path or str
        A file of SQLite, by default in memory, or the address of a Redis server (``redis://…``).
    """

    def __init__(self, features: Sequence[Feature], where: Path | str = ":memory:") -> None:
        self.features, self.cells = defined(features), hashes_of(where)
        self._stream = [f for f in self.features if not f.tier.every]
        windows = [f.window for f in self._stream if f.how in SUMS]
        self._longest = round((max(windows, default=0.0)) * 1e6)

    def close(self) -> None:
        self.cells.close()

    def set_back(self, now: pd.Timestamp) -> float:
        """Believe a time that is before what was ingested: a clock was ahead, and is right again.

        What was stamped by it counts until something else comes, in sums until its time is over.

        Returns
        -------
        float
            Seconds by which it was ahead; 0.0 changes nothing.
        """
        ahead = self._until() - ticks(now)
        if ahead > 0:
            self.cells.put([("until", "", str(ticks(now)))])
        return max(ahead, 0) / 1e6

    def ingest(self, events: pd.DataFrame, until: pd.Timestamp) -> Taken:
        """Take in events, and note that all that was known before ``until`` is in.

        A quiet minute is no stale store: call it without events too.

        Parameters
        ----------
        events : DataFrame
            As for :class:`Offline`; one that comes again changes nothing.
        until : Timestamp
            ``known_at`` of all events is before it.

        Returns
        -------
        Taken

        Raises
        ------
        ValueError
            If a column is missing, or ``until`` is before that of an earlier call.
        """
        checked(self._stream, events)
        self.cells.ready()
        before, end = self._until(), ticks(until)
        if end < before:
            raise ValueError(f"all until {_time(before)} is in: {until} is before it.")
        events = events.sort_values("known_at", kind="stable")
        ids = [json.dumps(e) for e in events["event"].tolist()]
        seen = self.cells.get([("seen", ids)])[0]
        new, refused, mine = [], [], set(seen)
        for i, (one, at, known) in enumerate(
            zip(ids, ticks(events["at"]), ticks(events["known_at"]), strict=True)
        ):
            why = _wrong(at, known, before, end)
            over = known < before and 0 <= at <= before - self._longest
            if one in mine or (why and over):
                continue
            if why:
                refused.append(f"event {one}: {why}")
                continue
            mine.add(one)
            new.append(i)
        self._apply(events.iloc[new], [ids[i] for i in new], before, end)
        return Taken(len(new), len(ids) - len(new) - len(refused), tuple(refused))

    def _apply(self, events: pd.DataFrame, ids: Sequence[str], before: int, end: int) -> None:
        """Write what new events change, in one transaction."""
        at = ticks(events["at"])
        changes = [("seen", one, str(when)) for one, when in zip(ids, at, strict=True)]
        for f in self._stream:
            keep = f.counts(events)
            mine, when = events[keep], at[keep]
            if f.how in SUMS:
                changes += self._steps(f, mine, when, end)
            else:
                changes += self._tops(f, mine, when, end)
        old = self.cells.get([("seen", None)])[0] if _hours(before) != _hours(end) else {}
        changes += [("seen", i, None) for i, w in old.items() if int(w) + self._longest <= before]
        self.cells.put([*changes, ("until", "", str(end))])

    def _steps(
        self, f: Feature, events: pd.DataFrame, at: np.ndarray, now: int
    ) -> Iterator[tuple[str, str, str | None]]:
        """Yield the changed sums of each entity's steps; those that are over go."""
        added: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        leaves = f.leaves(at)
        for key, gone, value in zip(_named(f, events), leaves, f.units(events), strict=True):
            cell = added[key][str(gone)]
            cell[0], cell[1] = cell[0] + int(value), cell[1] + 1
        for (name, steps), old in zip(
            added.items(), self.cells.get([(name, None) for name in added]), strict=True
        ):
            yield from ((name, gone, None) for gone in old if int(gone) <= now)
            for gone, (value, n) in steps.items():
                if int(gone) > now:
                    total, count = json.loads(old.get(gone, "[0, 0]"))
                    yield name, gone, json.dumps([total + value, count + n])

    def _tops(
        self, f: Feature, events: pd.DataFrame, at: np.ndarray, now: int
    ) -> Iterator[tuple[str, str, str]]:
        """Yield the changed newest events of each entity; of two of one time, what came last."""
        added: dict[str, list] = defaultdict(list)
        values, known = pd.to_numeric(events[f.value]).tolist(), ticks(events["known_at"]).tolist()
        came = [f"{when:016d} {place:06d}" for place, when in enumerate(known)]  # sorts as text
        for key, *entry in zip(_named(f, events), at.tolist(), came, values, strict=True):
            added[key].append(entry)
        olds = self.cells.get([(name, [""]) for name in added])
        for (name, new), old in zip(added.items(), olds, strict=True):
            # Nothing has happened after now: a clock that was ahead has stamped it.
            kept = [e if e[0] < now else [0, "", e[2]] for e in json.loads(old.get("", "[]"))]
            top = sorted([*kept, *new], reverse=True)
            yield name, "", json.dumps(top[: f.n if f.how == "recent" else 1])

    def publish(
        self, night: Mapping[str, pd.DataFrame], cut: pd.Timestamp, now: pd.Timestamp
    ) -> None:
        """Put a night's values in place of those before, all at once.

        Parameters
        ----------
        night : mapping of str to DataFrame
            As of :meth:`Offline.night`.
        cut, now : Timestamp
            Of the values, and of the update.

        Raises
        ------
        ValueError
            If it is not later than the last cut, or lacks a feature.
        """
        known = self.cells.get([("batch", None)])[0]
        wanted = {f.name for f in self.features if f.tier.every}
        if {*night} != wanted:
            raise ValueError(f"the night has {sorted(night)}, not {sorted(wanted)}: make it again.")
        if known and ticks(cut) <= int(known["cut"]):
            raise ValueError(f"values of {_time(int(known['cut']))} are served: {cut} is no later.")
        number = int(known.get("number", 0)) + 1
        changes = [
            (f"night {number}", f"{name} {key}", text)
            for name, frame in night.items()
            for key, text in self._kept(name, frame)
        ]
        told = {"number": number, "cut": ticks(cut), "at": ticks(now)}
        changes += [("batch", what, str(value)) for what, value in told.items()]
        self.cells.put(changes, drop=[f"night {number - 2}"])

    def _kept(self, name: str, frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
        f = next(f for f in self.features if f.name == name)
        keys = _keys(f, frame)
        if f.how in NEWEST:
            return zip(keys, frame["newest"], strict=True)
        pairs = zip(frame["total"].tolist(), frame["n"].tolist(), strict=True)
        return ((k, json.dumps(pair)) for k, pair in zip(keys, pairs, strict=True) if pair[1])

    def read(
        self, rows: Any, now: pd.Timestamp, names: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Return the features of rows as they are now.

        Parameters
        ----------
        rows : DataFrame or mapping of str to sequence
            Columns of keys, equally long; features whose keys are not there are left out.
        now : Timestamp
            Not before what was ingested: the past is :class:`Offline`'s.
        names : sequence of str, optional
            Features to read; else all of them.

        Returns
        -------
        dict of str to ndarray, shape (n,)
            In the terms of :meth:`Offline.at`.

        Raises
        ------
        ValueError
            If ``now`` is before what was ingested, or a name is none of a feature of these keys.
        """
        tick = ticks(now)
        mine = [f for f in self.features if {*f.keys} <= {*rows}]
        if names:
            if unknown := {*names} - {f.name for f in mine}:
                raise ValueError(f"{sorted(unknown)}: no features of {sorted(rows)}.")
            mine = [f for f in mine if f.name in names]
        about = self.cells.get([("until", None), ("batch", None)])
        if tick < int(about[0].get("", 0)):
            raise ValueError(f"{now} is before what was ingested: ask Offline for the past.")
        night = f"night {about[1].get('number', 0)}"
        asks: list[tuple[str, list[str] | None]] = []
        for f in mine:
            keys = _keys(f, rows)
            if f.tier.every:
                asks.append((night, [f"{f.name} {key}" for key in keys]))
            else:
                whole = None if f.how in SUMS else [""]
                asks += [(f"{f.name} {key}", whole) for key in keys]
        found = iter(self.cells.get(asks))
        return {f.name: self._read(f, _keys(f, rows), found, tick) for f in mine}

    def _read(
        self, f: Feature, keys: Sequence[str], found: Iterator[dict[str, str]], now: int
    ) -> np.ndarray:
        if f.tier.every:
            cells = next(found)
            kept = [json.loads(cells.get(f"{f.name} {key}", "[]")) for key in keys]
            if f.how in SUMS:
                return f.finish(*np.array([pair or (0, 0) for pair in kept]).T)
            return picked(f, kept)
        if f.how in SUMS:
            sums = np.zeros((len(keys), 2), np.int64)
            for i in range(len(keys)):
                for gone, text in next(found).items():
                    sums[i] += json.loads(text) if now < int(gone) else (0, 0)
            return f.finish(*sums.T)
        tops = [json.loads(next(found).get("", "[]")) for _ in keys]
        return picked(f, [[e for e in top if now < f.leaves(e[0])] for top in tops])

    def freshness(self, now: pd.Timestamp) -> pd.DataFrame:
        """Say how old the values are, against what was promised.

        Returns
        -------
        DataFrame
            Index ``tier``; ``age`` (seconds since the last update; infinite before the first),
            ``behind`` (seconds since the cut of the values), ``sla``, ``alert`` and ``state``:
            ``fresh``, ``stale`` (beyond the promise) or ``alarm``.
        """
        batch = self.cells.get([("batch", None)])[0]
        stream = self._until() or -np.inf
        times = {True: (int(batch["at"]), int(batch["cut"])) if batch else (-np.inf, -np.inf)}
        times[False] = (stream, stream)
        rows = {}
        for tier in dict.fromkeys(f.tier for f in self.features):
            age, behind = ((ticks(now) - t) / 1e6 for t in times[bool(tier.every)])
            # Younger than now is what a clock that was ahead has stamped.
            state = (
                "fresh" if abs(age) <= tier.sla else "stale" if abs(age) <= tier.alert else "alarm"
            )
            rows[tier.name] = (age, behind, tier.sla, tier.alert, state)
        columns = ["age", "behind", "sla", "alert", "state"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("tier")

    def _until(self) -> int:
        return int(self.cells.get([("until", [""])])[0].get("", 0))


def opened(features: Sequence[Feature], path: Path) -> tuple[Online, str]:
    """Return the store of a file, and what was wrong with it: what is no store is put aside."""
    try:
        return Online(features, path), ""
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        put_aside(path)
        return Online(features, path), f"store: {error}; it is kept as {path.name}.broken"


def _wrong(at: int, known: int, before: int, end: int) -> str:
    """Return why an event cannot be taken in."""
    if at < 0 or known < 0:
        return "it has no time: stamp it when it is sent, and when it comes in"
    if at > known:
        return f"it was known before it happened, at {_time(known)}: set the clock of its sender"
    if known >= end:
        return f"it becomes known at {_time(known)}, which is not before {_time(end)}"
    if known < before:
        return f"it was known at {_time(known)}; all until {_time(before)} is in: stamp it anew"
    return ""


def _keys(f: Feature, rows: Any) -> list[str]:
    """Return the keys of rows as text."""
    columns = [np.asarray(rows[key]).tolist() for key in f.keys]
    return ["|".join(map(str, key)) for key in zip(*columns, strict=True)]


def _named(f: Feature, rows: Any) -> list[str]:
    return [f"{f.name} {key}" for key in _keys(f, rows)]


def _hours(tick: int) -> int:
    return tick // 3_600_000_000


def _time(tick: int) -> str:
    return str(pd.Timestamp(tick, unit="us"))
