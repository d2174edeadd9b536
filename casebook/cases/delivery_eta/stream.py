"""From the event log to each parcel's state: what a message changes.

All that messages change is written in the transaction that also says how far the log was read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.eta import Models, Said, decide, promise_day, queue_ahead, reason
from casebook.cases.delivery_eta.features import KEYS, Tables, build, condensed
from casebook.cases.delivery_eta.messages import Load, Parcel, Scan, became_known, key_of
from casebook.cases.delivery_eta.stages import DELIVERED, OUT, STAGES
from casebook.cases.delivery_eta.tracking import DONE, Track
from casebook.evaluate.conformal import Adaptive
from casebook.evaluate.ranges import widened
from casebook.serving.breaker import Breaker
from casebook.serving.consumer import Decoded
from casebook.serving.feed_clock import FeedClock
from casebook.serving.following import TABLE, Following, keep, recalled
from casebook.serving.stored import among, frame, joined, put, seconds, typed

# The state ---------------------------------------------------------------------------

PARCEL = [name for name in Parcel.model_fields if name != "kind"]
OUTCOME = [*KEYS, "label_at", "took"]
#: Deliveries of a pair and a day, added up: what the features need of them.
SUMS = (
    f"SELECT {', '.join(KEYS)}, max(label_at) AS label_at, sum(took) AS took, count(*) AS n "
    f"FROM outcomes GROUP BY {', '.join(KEYS)}, label_at / 86400"
)
_TOLD = ["p10", "p50", "p90", "low", "high", "correction", "source", "why", "reason"]
ETA = ["parcel", "step", "stage", "known_at", *_TOLD, "ahead", "promised"]
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS parcels ({", ".join(PARCEL)}, PRIMARY KEY (parcel));
CREATE TABLE IF NOT EXISTS steps
    (parcel, step, received_at, scan_id, event_at, PRIMARY KEY (parcel, step));
CREATE TABLE IF NOT EXISTS eta ({", ".join(ETA)}, PRIMARY KEY (parcel, step));
CREATE TABLE IF NOT EXISTS load (hub, backlog_hours, published_at, PRIMARY KEY (hub, published_at));
CREATE TABLE IF NOT EXISTS outcomes ({", ".join(["parcel", *OUTCOME])}, PRIMARY KEY (parcel));
{TABLE}
CREATE TABLE IF NOT EXISTS version (one INTEGER PRIMARY KEY, number, now);
"""
#: Columns that are times and numbers also where a table is empty.
TYPES = {
    "times": ("accepted_at", "window_low", "window_high", "published_at", "label_at"),
    "numbers": ("km", "took", "n", "backlog_hours"),
}


@dataclass
class State:
    """Applies messages to the store; it keeps in memory what it can read from there at any time.

    ``clock`` gives seconds since 1970 where the service runs on its own time; ``keep`` the days for
    which a parcel is kept after its last scan, and a report (None keeps all).
    """

    models: Models
    breaker: Breaker | None = None
    clock: Callable[[], float] | None = None
    keep: float | None = None
    _version: int = field(default=-1, init=False)
    _tables: Tables | None = field(default=None, init=False)
    _follower: Adaptive | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._feed = FeedClock(self.clock)

    def apply(self, db: sqlite3.Connection, events: Sequence[Decoded]) -> None:
        """Write what messages change, in their order."""
        number, before = self._recall(db)
        self._version = -1  # until all is written: a failure half-way is read from the store again
        messages = [event.value for event in events]
        came = ((key_of(message), seconds(became_known(message))) for message in messages)
        latest = self._feed.latest(before, came) or 0  # one whose clock is wrong is refused
        self._reports([m for m in messages if isinstance(m, Load)], db)
        fresh = self._announced([m for m in messages if isinstance(m, Parcel)], db)
        scans = [m for m in messages if isinstance(m, Scan)]
        plan = fresh + self._merged(scans, db)
        self._forecast(plan, db)
        if self.keep is not None and (before or 0) // 86400 < latest // 86400:
            self._forget(latest // 86400 - self.keep, db)
        self._version = number + 1
        db.execute(
            "INSERT INTO version VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE "
            "SET number = excluded.number, now = max(now, excluded.now)",
            (self._version, latest),
        )

    def _forget(self, day: float, db: sqlite3.Connection) -> None:
        """Drop what is older than a day; the sums of deliveries stay."""
        oldest = day * 86400
        old = "SELECT parcel FROM steps GROUP BY parcel HAVING max(received_at) < ?"
        for table in ("eta", "parcels", "steps"):
            db.execute(f"DELETE FROM {table} WHERE parcel IN ({old})", (oldest,))
        silent = "window_high < ? AND parcel NOT IN (SELECT parcel FROM steps)"
        db.execute(f"DELETE FROM parcels WHERE {silent}", (oldest,))
        last = "SELECT hub, max(published_at) FROM load GROUP BY hub"
        db.execute(
            f"DELETE FROM load WHERE published_at < ? AND (hub, published_at) NOT IN ({last})",
            (oldest,),
        )
        reports = self._tables.load.sort_values("published_at", ignore_index=True)
        kept = reports["published_at"] >= pd.Timestamp(oldest, unit="s")
        kept |= ~reports.duplicated("hub", keep="last")
        self._tables = Tables(reports[kept].reset_index(drop=True), self._tables.outcomes)

    # What is kept in memory

    def _recall(self, db: sqlite3.Connection) -> tuple[int, int | None]:
        """Read from the store what is kept in memory, unless it is still that of the store.

        Returns the number of the store's version, and when its last message became known.
        """
        found = db.execute("SELECT number, now FROM version").fetchone() or (0, None)
        if found[0] == self._version:
            return found
        self._tables = Tables(*(frame(db, q, **TYPES) for q in ("SELECT * FROM load", SUMS)))
        self._follower = recalled(db, self.models.follower())
        return found

    # The three kinds of message

    def _reports(self, messages: Sequence[Load], db: sqlite3.Connection) -> None:
        rows = [(m.hub, m.backlog_hours, seconds(m.published_at)) for m in messages]
        new = [row for row in rows if put(db, "load", row, ["hub", "published_at"])]
        if new:
            columns = ["hub", "backlog_hours", "published_at"]
            load = typed(pd.DataFrame(new, columns=columns), **TYPES)
            self._tables = Tables(joined(self._tables.load, load), self._tables.outcomes)

    def _announced(self, messages: Sequence[Parcel], db: sqlite3.Connection) -> list[dict]:
        """Store master data; return the moments of parcels that were scanned before."""
        late: list[dict] = []
        for m in messages:
            values = [getattr(m, name) for name in PARCEL]
            values = [seconds(v) if isinstance(v, datetime) else v for v in values]
            put(db, "parcels", values, ["parcel"])
            given = db.execute("SELECT 1 FROM eta WHERE parcel = ?", (m.parcel,)).fetchone()
            if not given:
                late += _replayed(_tracks(db, [m.parcel]).get(m.parcel, Track(m.parcel)))
        return sorted(late, key=lambda moment: moment["known_at"])

    def _merged(self, scans: Sequence[Scan], db: sqlite3.Connection) -> list[dict]:
        """Merge scans into their tracks; return moments and deliveries in order."""
        tracks = _tracks(db, {scan.parcel for scan in scans})
        plan, changed = [], {}
        for scan in scans:
            seen = scan.model_dump(exclude={"kind", "device"})
            seen |= {name: pd.Timestamp(seen[name]) for name in ("scanned_at", "received_at")}
            track = tracks.setdefault(scan.parcel, Track(scan.parcel))
            if moment := track.merge(seen):
                plan.append(moment)
            changed[scan.parcel] = track
        rows = [
            (parcel, step, seconds(received), scan_id, seconds(event))
            for parcel, track in changed.items()
            for step, (received, scan_id, event) in track.steps.items()
        ]
        db.executemany(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?) ON CONFLICT (parcel, step) DO UPDATE SET "
            "received_at = excluded.received_at, scan_id = excluded.scan_id, "
            "event_at = excluded.event_at",
            rows,
        )
        return plan

    # Forecasts

    def _forecast(self, plan: Sequence[dict], db: sqlite3.Connection) -> None:
        """Forecast each moment, and learn from each delivery, in order."""
        if not plan:
            return
        rows = pd.DataFrame(plan).reset_index(names="order")
        rows["known_at"] = rows["known_at"].astype("datetime64[s]")
        rows["event_at"] = rows["event_at"].astype("datetime64[s]")
        wanted = rows["parcel"].unique().tolist()
        query = f"SELECT * FROM parcels WHERE parcel IN {among(wanted)}"
        master = frame(db, query, wanted, **TYPES)
        rows = rows.merge(master, on="parcel", how="inner")
        asked = rows[rows["step"] < DONE]
        done = self._delivered(rows[rows["step"] == DONE], asked, db)
        # A batch may hold days: what its first moment looks back to is kept.
        if len(done):
            outcomes = joined(self._tables.outcomes, typed(done.assign(n=1), **TYPES))
            first = rows["known_at"].min()
            self._tables = Tables(self._tables.load, condensed(outcomes, first))
        made, ahead = self._decided(asked)
        correction = self._followed(rows, made, db)
        self._store(asked, made, correction, ahead, db)
        if self.models.model is not None:  # one that comes later starts from its own scores
            keep(db, self._follower)

    def _decided(self, asked: pd.DataFrame) -> tuple[pd.DataFrame, list[float]]:
        """Return the decisions on moments, and the hours of queue before each parcel."""
        features = build(asked, self._tables)
        whole = asked.join(features.drop(columns=[name for name in features if name in asked]))
        loads = zip(asked["step"], whole["origin_load"], whole["destination_load"], strict=True)
        made = decide(whole, self.models, self.breaker)
        made = made.assign(promised=promise_day(whole, made, self.models, self.breaker))
        return made, [queue_ahead(*load) for load in loads]

    def _delivered(
        self, rows: pd.DataFrame, asked: pd.DataFrame, db: sqlite3.Connection
    ) -> pd.DataFrame:
        """Store deliveries of which a forecast was given before; return the new ones."""
        new = []
        first = asked.groupby("parcel")["known_at"].min()
        for row in rows.itertuples():
            given = db.execute("SELECT min(known_at) FROM eta WHERE parcel = ?", (row.parcel,))
            before = given.fetchone()[0]
            if before is None and row.parcel in first.index:
                before = seconds(first[row.parcel])
            if before is None or before >= seconds(row.event_at):
                continue
            took = (row.event_at - row.accepted_at) / pd.Timedelta(hours=1)
            if took <= 0:
                continue  # delivered before it was accepted: one of the two clocks is wrong
            keys = [getattr(row, name) for name in OUTCOME[:4]]
            new.append((row.parcel, *keys, seconds(row.known_at), took))
        db.executemany(f"INSERT INTO outcomes VALUES {among(['parcel', *OUTCOME])}", new)
        return pd.DataFrame(new, columns=["parcel", *OUTCOME]).drop(columns="parcel")

    def _followed(
        self, rows: pd.DataFrame, made: pd.DataFrame, db: sqlite3.Connection
    ) -> pd.Series:
        """Return each forecast's correction, learning from the deliveries in their order."""
        done = rows.loc[rows["step"] == DONE, "parcel"].tolist()
        query = "SELECT parcel, known_at, low, high, correction FROM eta WHERE source = 'model'"
        query += f" AND parcel IN {among(done)} ORDER BY parcel, step"
        follows = Following(self._follower, db.execute(query, done))
        model = made.loc[made["source"] == "model", ["p10", "p90"]]
        ends = dict(zip(model.index, model.itertuples(index=False, name=None), strict=True))
        correction = pd.Series(0.0, made.index)
        columns = rows[["parcel", "step", "known_at", "event_at"]]
        for at, parcel, step, known, event in columns.itertuples():
            if step == DONE:
                follows.ended(parcel, seconds(event))
            elif at in ends:
                correction[at] = follows.ask(parcel, seconds(known), *ends[at])
        return correction

    def _store(
        self,
        asked: pd.DataFrame,
        made: pd.DataFrame,
        correction: pd.Series,
        ahead: Sequence[float],
        db: sqlite3.Connection,
    ) -> None:
        """Store the forecasts of moments, each with the reason why it changed."""
        final = widened(made, correction)
        parcels = asked["parcel"].unique().tolist()
        query = "SELECT parcel, known_at, p50, ahead, promised FROM eta WHERE parcel IN "
        query += f"{among(parcels)} ORDER BY parcel, step"
        said = {
            parcel: (Said(known + 3600 * p50, load), day)
            for parcel, known, p50, load, day in db.execute(query, parcels)
        }
        values = np.column_stack([final[["p10", "p50", "p90"]], made[["p10", "p90"]]])
        rows = []
        for k, (parcel, step, stage, known) in enumerate(
            zip(*(asked[name] for name in ("parcel", "step", "stage", "known_at")), strict=True)
        ):
            known_at, p50 = seconds(known), float(final["p50"].iat[k])
            now = Said(known_at + 3600 * p50, ahead[k])
            # The first promise stands: what is learned later moves the forecast, not the promise.
            before, day = said.get(parcel, (None, int(made["promised"].iat[k])))
            said[parcel] = now, day
            ends = [float(value) for value in values[k]]
            whose = (made["source"].iat[k], made["why"].iat[k], reason(stage, before, now))
            rows.append(
                (parcel, step, stage, known_at, *ends, correction.iat[k], *whose, ahead[k], day)
            )
        db.executemany(f"INSERT INTO eta VALUES {among(ETA)}", rows)


def _tracks(db: sqlite3.Connection, parcels: Iterable[int]) -> dict[int, Track]:
    """Return the tracks of parcels, as far as the store knows them."""
    wanted = list(parcels)
    query = f"SELECT * FROM steps WHERE parcel IN {among(wanted)}"
    tracks: dict[int, Track] = {}
    for parcel, step, received, scan_id, event in db.execute(query, wanted):
        entry = (pd.Timestamp(received, unit="s"), scan_id, pd.Timestamp(event, unit="s"))
        tracks.setdefault(parcel, Track(parcel)).steps[step] = entry
    return tracks


def _replayed(track: Track) -> list[dict[str, Any]]:
    """Return the moments of scans that were merged before their parcel was announced."""
    again, found = Track(track.parcel), []
    for step, (received, scan_id, event) in sorted(track.steps.items(), key=lambda item: item[1]):
        scan = {"parcel": track.parcel, "scan_id": scan_id, "received_at": received}
        moment = again.merge(scan | {"scanned_at": event} | _named(step))
        if moment:
            found.append(moment)
    return found


def _named(step: int) -> dict[str, Any]:
    """Return stage and attempt of a step."""
    if step == DONE:
        return {"stage": STAGES[DELIVERED], "attempt": 0}
    attempt = max(step - OUT, 0) // 2
    return {"stage": STAGES[step - 2 * attempt], "attempt": attempt}
