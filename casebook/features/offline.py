"""A feature store's past: each feature at any moment, as it was served then.

A training table that joins by the time of an event knows late events early. Here an event enters a
running sum when it becomes known and leaves it when its window ends; a row looks the sum up *as of*
its moment (DuckDB's ``ASOF JOIN``), so that a table of a million rows takes one pass.

Examples
--------
>>> from casebook.features.definition import HOUR
>>> views = Feature("views_1h", ("item",), "count", HOUR)
>>> when = pd.to_datetime(["2025-01-01 10:00", "2025-01-01 10:30"])
>>> late = when + pd.to_timedelta(["1s", "20min"])
>>> events = pd.DataFrame({"event": [1, 2], "at": when, "known_at": late, "item": 7})
>>> rows = pd.DataFrame({"item": 7, "asked": pd.to_datetime(["2025-01-01 10:40"] * 2)})
>>> rows.loc[1, "asked"] += pd.Timedelta("15min")
>>> Offline([views], events).at(rows, "asked")["views_1h"].tolist()
[1.0, 2.0]
>>> Offline([views], events, received="at").at(rows, "asked")["views_1h"].tolist()  # a leak
[2.0, 2.0]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from casebook.features.definition import (
    SUMS,
    Feature,
    Tier,
    checked,
    defined,
    picked,
    ticks,
)


class Offline:
    """Values of any moment, from the history of all events.

    Parameters
    ----------
    features : sequence of Feature
    events : DataFrame
        ``event`` (id; a second row of one is ignored), ``at``, ``known_at`` and what features
        name.
    received : str
        Column from which an event counts; another one than ``known_at`` would be a leak.
    """

    def __init__(
        self, features: Sequence[Feature], events: pd.DataFrame, received: str = "known_at"
    ) -> None:
        import duckdb

        self.features = defined(features)
        checked(features, events)
        events = events.sort_values(received, kind="stable").drop_duplicates("event")
        self.events = events[(events["at"] <= events["known_at"]).to_numpy()]
        self._known = ticks(self.events[received])
        self._db = duckdb.connect(config={"threads": 1})
        self._db.execute("SET enable_progress_bar = false")

    def at(self, rows: pd.DataFrame, asked: str) -> pd.DataFrame:
        """Return the features of rows, each as it was served at the row's moment.

        Parameters
        ----------
        rows : DataFrame
            Columns of all keys, and ``asked``.
        asked : str
            Column of moments.

        Returns
        -------
        DataFrame
            Index of ``rows``, a column for each feature. Nothing counted is 0, a mean or a last
            value of nothing is NaN, the most recent of nothing are ``()``.
        """
        moment = ticks(rows[asked])
        made = {f.name: self._of(f, rows, f.tier.cut(moment)) for f in self.features}
        return pd.DataFrame(made, rows.index)

    def night(self, tier: Tier, cut: pd.Timestamp) -> dict[str, pd.DataFrame]:
        """Return a batch: each feature's values at a cut, for all keys that have any.

        Returns
        -------
        dict of str to DataFrame
            By feature: its keys, ``total`` and ``n``, or ``newest``; for :meth:`Online.publish`.
        """
        made = {}
        for f in (f for f in self.features if f.tier == tier):
            mine = self._mine(f)
            rows = mine[[*f.keys]].drop_duplicates(ignore_index=True)
            at = np.full(len(rows), ticks(cut))
            found = self._sums(f, mine, rows, at) if f.how in SUMS else self._newest(f, rows, at)
            made[f.name] = pd.concat([rows, found], axis=1)
        return made

    def close(self) -> None:
        self._db.close()

    def _mine(self, f: Feature) -> pd.DataFrame:
        keep = f.counts(self.events)
        mine = self.events.loc[keep, [*f.keys]].reset_index(drop=True)
        at = ticks(self.events.loc[keep, "at"])
        mine["_at"] = at
        mine["_known"], mine["_leaves"] = self._known[keep], f.leaves(at)
        if f.how in SUMS:
            return mine.assign(_value=f.units(self.events[keep]))
        kept = self.events[keep]
        came = np.flatnonzero(keep)  # of two of one time, what became known last is the newest
        return mine.assign(_value=pd.to_numeric(kept[f.value]).to_numpy(), _came=came)

    def _of(self, f: Feature, rows: pd.DataFrame, cut: np.ndarray) -> Any:
        if f.how in SUMS:
            found = self._sums(f, self._mine(f), rows, cut)
            return f.finish(found["total"], found["n"])
        newest = self._newest(f, rows, cut)["newest"]
        return picked(f, [json.loads(text) for text in newest])

    def _sums(
        self, f: Feature, events: pd.DataFrame, rows: pd.DataFrame, cut: np.ndarray
    ) -> pd.DataFrame:
        """Return sums of each row: an event enters when it is known and leaves with its window.

        The running sum of what enters and leaves is looked up *as of* the row's moment. An event
        that becomes known after its window has ended never counts.
        """
        keys = ", ".join(f.keys)
        asked = rows[[*f.keys]].assign(_cut=cut, _row=np.arange(len(rows)))
        self._db.register("events", events)
        self._db.register("asked", asked)
        query = f"""
            WITH alive AS (SELECT * FROM events WHERE _known + 1 < _leaves),
            steps AS (
                SELECT {keys}, _known + 1 AS _tick, _value AS v, 1 AS n FROM alive
                UNION ALL SELECT {keys}, _leaves, -_value, -1 FROM alive),
            running AS (
                SELECT {keys}, _tick,
                    sum(sum(v)) OVER (PARTITION BY {keys} ORDER BY _tick) AS total,
                    sum(sum(n)) OVER (PARTITION BY {keys} ORDER BY _tick) AS n
                FROM steps GROUP BY {keys}, _tick)
            SELECT coalesce(total, 0)::BIGINT AS total, coalesce(n, 0)::BIGINT AS n
            FROM asked ASOF LEFT JOIN running
                ON {" AND ".join(f"asked.{k} = running.{k}" for k in f.keys)} AND _cut >= _tick
            ORDER BY _row"""
        return self._db.execute(query).df()

    def _newest(self, f: Feature, rows: pd.DataFrame, cut: np.ndarray) -> pd.DataFrame:
        """Return each row's newest events as a store keeps them, in JSON."""
        asked = rows[[*f.keys]].assign(_cut=cut, _row=np.arange(len(rows)))
        self._db.register("events", self._mine(f))
        self._db.register("asked", asked)
        query = f"""
            SELECT _row, _at, _came, _value FROM asked JOIN events
                ON {" AND ".join(f"asked.{k} = events.{k}" for k in f.keys)}
                AND _known < _cut AND _cut < _leaves
            QUALIFY row_number() OVER (PARTITION BY _row ORDER BY _at DESC, _came DESC) <= {f.n}
            ORDER BY _row, _at DESC, _came DESC"""
        tops: list[list] = [[] for _ in range(len(rows))]
        for row, *entry in self._db.execute(query).fetchall():
            tops[row].append(entry)
        return pd.DataFrame({"newest": [json.dumps(top) for top in tops]})
