"""From the event log to each parcel's state: what a message changes.

All that messages change is written in the transaction that also says how far the log was read.
"""

from __future__ import annotations

import json
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
from casebook.serving.consumer import Decoded, Refused
from casebook.serving.feed_clock import FeedClock

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
CREATE TABLE IF NOT EXISTS follower (one INTEGER PRIMARY KEY, alpha, recent);
CREATE TABLE IF NOT EXISTS version (one INTEGER PRIMARY KEY, number, now);
"""
TIMES = {"accepted_at", "window_low", "window_high", "published_at", "label_at"}
NUMBERS = {"km", "took", "n", "backlog_hours"}
_ZERO = pd.Timestamp("1970-01-01")


def seconds(moment: datetime) -> int:
    """Return a time as the store keeps it: whole seconds since 1970."""
    return int((pd.Timestamp(moment) - _ZERO).total_seconds())


def _times(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of the store with its times and numbers as such, also where it is empty."""
    for name in NUMBERS & {*frame}:
        frame[name] = frame[name].astype(float)
    for name in TIMES & {*frame}:
        frame[name] = pd.to_datetime(frame[name].astype("int64"), unit="s").astype("datetime64[s]")
    return frame


def _joined(before: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return a table with new rows; an empty one has no types that could be kept."""
    new = _times(new)
    return pd.concat([before, new], ignore_index=True) if len(before) else new


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
        number = self._recall(db)
        self._version = -1  # until all is written: a failure half-way is read from the store again
        messages = [event.value for event in events]
        latest = self._in_order(messages, db)
        self._reports([m for m in messages if isinstance(m, Load)], db)
        fresh = self._announced([m for m in messages if isinstance(m, Parcel)], db)
        scans = [m for m in messages if isinstance(m, Scan)]
        plan = fresh + self._merged(scans, db)
        self._forecast(plan, db)
        self._forget(latest, db)
        self._version = number + 1
        db.execute(
            "INSERT INTO version VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE "
            "SET number = excluded.number, now = max(now, excluded.now)",
            (self._version, latest),
        )

    def _in_order(self, messages: Sequence[Scan | Parcel | Load], db: sqlite3.Connection) -> int:
        """Return when the last message became known; refuse one whose clock is wrong."""
        found = db.execute("SELECT now FROM version").fetchone()
        came = ((key_of(message), seconds(became_known(message))) for message in messages)
        return self._feed.latest(found[0] if found else None, came) or 0

    def _forget(self, latest: int, db: sqlite3.Connection) -> None:
        """Once a day, drop what is older than ``keep``; the sums of deliveries stay."""
        found = db.execute("SELECT now FROM version").fetchone()
        if self.keep is None or (found and found[0] // 86400 == latest // 86400):
            return
        oldest = (latest // 86400 - self.keep) * 86400
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

    def _recall(self, db: sqlite3.Connection) -> int:
        """Read from the store what is kept in memory, unless it is still that of the store.

        Returns the number of the store's version.
        """
        found = db.execute("SELECT number FROM version").fetchone()
        stored = found[0] if found else 0
        if stored == self._version:
            return stored
        load = pd.read_sql_query("SELECT * FROM load", db)
        done = pd.read_sql_query(SUMS, db)
        kept = db.execute("SELECT alpha, recent FROM follower").fetchone()
        self._tables = Tables(_times(load), _times(done))
        self._follower = self.models.follower()
        if kept:
            self._follower = Adaptive(json.loads(kept[1]))
            self._follower.alpha = kept[0]
        return stored

    def _remember_reports(self, load: pd.DataFrame) -> None:
        if len(load):
            self._tables = Tables(_joined(self._tables.load, load), self._tables.outcomes)

    def _remember_deliveries(self, done: pd.DataFrame, now: pd.Timestamp) -> None:
        if len(done):
            outcomes = _joined(self._tables.outcomes, done.assign(n=1))
            self._tables = Tables(self._tables.load, condensed(outcomes, now))

    # The three kinds of message

    def _reports(self, messages: Sequence[Load], db: sqlite3.Connection) -> None:
        rows = [(m.hub, m.backlog_hours, seconds(m.published_at)) for m in messages]
        new = []
        for row in rows:
            made = db.execute("INSERT INTO load VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
            if made.rowcount == 1:
                new.append(row)
                continue
            query = "SELECT * FROM load WHERE hub = ? AND published_at = ?"
            _same(db.execute(query, (row[0], row[2])).fetchone(), row)
        self._remember_reports(pd.DataFrame(new, columns=["hub", "backlog_hours", "published_at"]))

    def _announced(self, messages: Sequence[Parcel], db: sqlite3.Connection) -> list[dict]:
        """Store master data; return the moments of parcels that were scanned before."""
        late: list[dict] = []
        for m in messages:
            values = [getattr(m, name) for name in PARCEL]
            values = [seconds(v) if isinstance(v, datetime) else v for v in values]
            marks = ", ".join("?" * len(values))
            query = f"INSERT INTO parcels VALUES ({marks}) ON CONFLICT DO NOTHING"
            if db.execute(query, values).rowcount == 0:
                query = "SELECT * FROM parcels WHERE parcel = ?"
                _same(db.execute(query, (m.parcel,)).fetchone(), values)
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
        marks = ", ".join("?" * len(wanted))
        query = f"SELECT * FROM parcels WHERE parcel IN ({marks})"
        master = _times(pd.read_sql_query(query, db, params=wanted))
        rows = rows.merge(master, on="parcel", how="inner")
        asked = rows[rows["step"] < DONE]
        done = self._delivered(rows[rows["step"] == DONE], asked, db)
        # A batch may hold days: what its first moment looks back to is kept.
        self._remember_deliveries(done, rows["known_at"].min())
        made, ahead = self._decided(asked)
        correction = self._followed(rows, made, db)
        self._store(asked, made, correction, ahead, db)
        if self.models.model is None:
            return  # nothing was corrected: a model that comes later starts from its own scores
        db.execute(
            "INSERT INTO follower VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE "
            "SET alpha = excluded.alpha, recent = excluded.recent",
            (self._follower.alpha, json.dumps(list(self._follower.recent))),
        )

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
        db.executemany(f"INSERT INTO outcomes VALUES ({', '.join('?' * (1 + len(OUTCOME)))})", new)
        frame = pd.DataFrame(new, columns=["parcel", *OUTCOME])
        return frame.drop(columns="parcel")

    def _followed(
        self, rows: pd.DataFrame, made: pd.DataFrame, db: sqlite3.Connection
    ) -> pd.Series:
        """Return each forecast's correction, learning from the deliveries in their order."""
        done = rows.loc[rows["step"] == DONE, "parcel"].tolist()
        given: dict[int, list[tuple]] = {}
        query = "SELECT parcel, known_at, low, high, correction FROM eta WHERE source = 'model'"
        query += f" AND parcel IN ({', '.join('?' * len(done))}) ORDER BY parcel, step"
        for parcel, *values in db.execute(query, done):
            given.setdefault(parcel, []).append(tuple(values))
        correction = pd.Series(0.0, made.index)
        by_model = dict(zip(made.index, made["source"] == "model", strict=True))
        ends = dict(zip(made.index, zip(made["p10"], made["p90"], strict=True), strict=True))
        columns = rows[["parcel", "step", "known_at", "event_at"]]
        for at, parcel, step, known, event in columns.itertuples():
            if step < DONE and by_model[at]:
                correction[at] = asked = self._follower.ask()
                given.setdefault(parcel, []).append((seconds(known), *ends[at], asked))
            elif step == DONE:
                for asked_at, low, high, before in given.get(parcel, []):
                    took = (seconds(event) - asked_at) / 3600
                    if took > 0:
                        self._follower.learn(max(low - took, took - high), before)
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
        query += f"({', '.join('?' * len(parcels))}) ORDER BY parcel, step"
        said = {parcel: values for parcel, *values in db.execute(query, parcels)}
        values = np.column_stack([final[["p10", "p50", "p90"]], made[["p10", "p90"]]])
        rows = []
        for k, (parcel, step, stage, known) in enumerate(
            zip(*(asked[name] for name in ("parcel", "step", "stage", "known_at")), strict=True)
        ):
            known_at, p50 = seconds(known), float(final["p50"].iat[k])
            before = said.get(parcel)
            # The first promise stands: what is learned later moves the forecast, not the promise.
            day = before[3] if before else int(made["promised"].iat[k])
            why = reason(stage, before and _said(*before[:3]), _said(known_at, p50, ahead[k]))
            said[parcel] = [known_at, p50, ahead[k], day]
            ends = [float(value) for value in values[k]]
            rest = (made["source"].iat[k], made["why"].iat[k], why, ahead[k], day)
            rows.append((parcel, step, stage, known_at, *ends, correction.iat[k], *rest))
        db.executemany(f"INSERT INTO eta VALUES ({', '.join('?' * len(ETA))})", rows)


def _same(stored: Sequence[object], sent: Sequence[object]) -> None:
    """Refuse a message that was stored before with other content: the first one counts."""
    if tuple(stored) != tuple(sent):
        raise Refused(f"differs from what came first: {tuple(sent)}, first {tuple(stored)}")


def _said(known_at: int, p50: float, ahead: float) -> Said:
    return Said(known_at + 3600 * p50, ahead)


def _tracks(db: sqlite3.Connection, parcels: Iterable[int]) -> dict[int, Track]:
    """Return the tracks of parcels, as far as the store knows them."""
    wanted = list(parcels)
    query = f"SELECT * FROM steps WHERE parcel IN ({', '.join('?' * len(wanted))})"
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
