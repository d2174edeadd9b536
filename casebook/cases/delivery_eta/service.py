"""The customer's question over HTTP: where is my parcel, and when does it come?

``POST /scans`` takes scans into the log, ``GET /parcels/{id}/eta`` answers from the state that the
consumer keeps, ``GET /health`` says how far it is behind. Every error is a JSON object
``{"error", "what", "do"}``. There are no users and no encryption: it runs behind a gateway.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from casebook.cases.delivery_eta.eta import Models
from casebook.cases.delivery_eta.feed import MOST_ID
from casebook.cases.delivery_eta.messages import Scan, became_known, decode, key_of
from casebook.cases.delivery_eta.stages import START
from casebook.cases.delivery_eta.stream import SCHEMA, State
from casebook.cases.delivery_eta.tracking import DONE
from casebook.forecasting.back_off import History
from casebook.forecasting.quantile_trees import Quantiles
from casebook.serving import parts
from casebook.serving.app import (
    Problem,
    bare_app,
    body_of,
    json_list,
    one_by_one,
    reply,
    whole_number,
)
from casebook.serving.breaker import Breaker
from casebook.serving.consumer import Consumer, Store
from casebook.serving.eventlog import EventLog, Log
from casebook.serving.stored import contents, iso, seconds
from casebook.serving.worker import Worker

#: Bytes of a request, and scans in it.
MOST_BYTES, MOST_SCANS = 1_000_000, 1_000
#: Milliseconds that the model may take for a batch.
BUDGET_MS = 5_000.0
#: Days for which the service keeps a parcel after its last scan.
KEEP = 90.0


class Tracking(Worker):
    """The log, the state, and what customers are told.

    ``reader`` is the same file, opened once more: who asks then does not wait for the consumer's
    batch. ``clock`` gives the time in UTC without a zone, which the gateway stamps on each scan
    that is posted; without it the time is that of the last message, for a feed that is played
    again. ``keep`` are the days for which a parcel is kept after its last scan, ``missing`` says
    what is wrong with the models' files.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        models: Models,
        breaker: Breaker | None = None,
        reader: Store | None = None,
        clock: Callable[[], pd.Timestamp] | None = None,
        keep: float | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self._clock, self.missing = clock, list(missing)
        self.log, self.store, self.reader = log, store, reader or store
        self.state = State(models, breaker, clock and self._now, keep)
        consumer = Consumer(log, store, decode, self.state.apply)
        super().__init__(consumer, self.reader, lambda message: seconds(became_known(message)))

    def post(self, raw: bytes) -> dict[str, Any]:
        """Take a JSON list of scans into the log; those that are none are refused, one by one.

        They come without ``received_at``: when a scan became known is for the gateway to say.

        Raises
        ------
        Problem
            413 or 400 if it is no list that can be read, 422 if no scan of it can be taken.
        """
        sent = json_list(raw, "scans", MOST_BYTES, MOST_SCANS)
        received = pd.Timestamp(round(self._now()), unit="s").isoformat()

        def event(scan: dict[str, Any]) -> tuple[str, str]:
            if "received_at" in scan:
                raise ValueError("received_at: the gateway sets it, leave it out")
            body = {"kind": "scan", **scan, "received_at": received}
            body = json.dumps(body, allow_nan=False)
            message = decode(body)
            if not isinstance(message, Scan):
                raise ValueError("kind: only scans are sent here")
            return key_of(message), body

        good, refused = one_by_one(sent, event)
        if refused and not good:
            do = "Correct the fields and send them again."
            raise Problem(422, "no scan", f"Refused: {refused[:3]}", do)
        self.log.append(good)
        return {"accepted": len(good), "refused": refused}

    def eta(self, parcel: str) -> dict[str, Any]:
        """Return what the customer is told of a parcel, by its number as it stands in the address.

        ``promised`` is fixed at the first scan (None before it); ``overdue`` says that it, or the
        window, has ended without a delivery; ``why`` says what kept the model from answering.

        Raises
        ------
        Problem
            400 if that is no number, 404 if nothing is known of the parcel.
        """
        number = whole_number(parcel, MOST_ID, "a parcel's number", "Send the digits of the label.")
        query = (
            "SELECT event_at FROM steps JOIN parcels USING (parcel) WHERE parcel = ? AND step = ?"
        )
        if done := self.reader.all(query, (number, DONE)):
            return {"parcel": number, "stage": "delivered", "delivered_at": iso(done[0][0])}
        query = (
            "SELECT stage, known_at, promised, p10, p50, p90, source, why, reason FROM eta "
            "WHERE parcel = ? ORDER BY step DESC LIMIT 1"
        )
        found = self.reader.all(query, (number,))
        return self._forecast(number, found[0]) if found else self._announced(number)

    def _forecast(self, number: int, row: tuple) -> dict[str, Any]:
        stage, known, day, *hours, source, why, reason = row
        times = [known + 3600 * value for value in hours]
        told = dict(zip(("p10", "p50", "p90"), map(iso, times), strict=True))
        more = {"source": source, "why": why, "reason": reason, "known_at": iso(known)}
        return {"parcel": number, "stage": stage, **told, **more, **self._promised(day)}

    def _promised(self, day: int) -> dict[str, Any]:
        """Return a promised day, and whether it has ended."""
        begins = START + pd.Timedelta(days=day)
        ends = (begins + pd.Timedelta(days=1) - pd.Timestamp(0)).total_seconds()
        return {"promised": f"{begins:%Y-%m-%d}", "overdue": self._now() >= ends}

    def _announced(self, number: int) -> dict[str, Any]:
        """Return the carrier's window of a parcel that has not been scanned."""
        query = "SELECT window_low, window_high FROM parcels WHERE parcel = ?"
        found = self.reader.all(query, (number,))
        if not found:
            query = "SELECT count(*) FROM steps WHERE parcel = ?"
            scanned = self.reader.all(query, (number,))[0][0]
            told = "was scanned and is not announced" if scanned else "is not known"
            what = f"Parcel {number} {told}."
            raise Problem(404, "unknown parcel", what, "Check the number; try again in an hour.")
        low, high = found[0]
        times = {"p10": iso(low), "p50": iso((low + high) / 2), "p90": iso(high)}
        told = {"source": "window", "why": "no scan yet", "reason": "first forecast"}
        day = (pd.Timestamp(high, unit="s") - START).days
        ends = self._promised(day) | {"promised": None}
        return {"parcel": number, "stage": "announced", **times, **told, **ends}

    def _now(self) -> float:
        """Return the time in seconds since 1970."""
        if self._clock is not None:
            return (self._clock() - pd.Timestamp(0)).total_seconds()
        found = self.reader.all("SELECT now FROM version")
        return found[0][0] if found else 0.0

    def health(self) -> dict[str, Any]:
        """Return how the consumer is, and who answered lately.

        ``sources`` are of the last 1,000 forecasts, ``model`` is the breaker's state, ``models``
        what is wrong with their files; the rest as of :meth:`Worker.condition`.
        """
        recent = "SELECT source FROM eta ORDER BY rowid DESC LIMIT 1000"
        query = f"SELECT source, count(*) FROM ({recent}) GROUP BY source"
        breaker = self.state.breaker
        return self.condition(self._now()) | {
            "sources": dict(self.reader.all(query)),
            "model": breaker.state if breaker else "not guarded",
            "models": "; ".join(self.missing) or "well",
        }


def create_app(tracking: Tracking) -> FastAPI:
    """Return the service; ``tracking`` stands at ``app.state.tracking``."""
    app = bare_app("Delivery dates")
    app.state.tracking = tracking

    @app.post("/scans", status_code=202)
    async def scans(request: Request) -> Response:
        raw = await body_of(request, MOST_BYTES)
        return reply(await run_in_threadpool(tracking.post, raw), 202)

    @app.get("/parcels/{parcel}/eta")
    def eta(parcel: str) -> Response:
        return reply(tracking.eta(parcel))

    @app.get("/health")
    def health() -> Response:
        return reply(tracking.health(), 503 if tracking.trouble else 200)

    return app


# In a process of its own -------------------------------------------------------------


def save(folder: Path, models: Models) -> None:
    """Write the models for :func:`app_from`, the zone pairs in a file of their own."""
    parts.save(folder, {"model": replace(models, routes=None), "routes": models.routes})


def load(folder: Path) -> tuple[Models, list[str]]:
    """Read what :func:`save` wrote, as far as it is whole, and what is wrong with the rest."""
    found, missing = parts.load(folder, {"model": Models, "routes": History})
    models = found.get("model", Models())
    for name in ("model", "promises"):
        part = getattr(models, name)
        if not isinstance(part, Quantiles | None):
            missing.append(f"model.pickle: its {name} is a {type(part).__name__}, not Quantiles")
            models = replace(models, **{name: None})
    return replace(models, routes=found.get("routes")), missing


def app_from(folder: str, consume: bool = False) -> FastAPI:
    """Return the service on a folder with ``log.db``, ``state.db`` and the files of :func:`save`.

    With ``consume`` the consumer runs in a thread of this process. It goes by the feed's time, for
    a feed that is played again: the world's calendar has an end. A service on its own time gives
    :class:`Tracking` a clock.
    """
    path = Path(folder)
    models, missing = load(path)
    log, store = EventLog(path / "log.db"), Store(path / "state.db", SCHEMA)
    reader = Store(path / "state.db", SCHEMA)
    tracking = Tracking(log, store, models, Breaker(BUDGET_MS), reader, None, KEEP, missing)
    if consume:
        threading.Thread(target=tracking.forever, daemon=True).start()
    return create_app(tracking)


@contextmanager
def opened(folder: Path, models: Models, breaker: Breaker | None = None) -> Iterator[Tracking]:
    """Open the log and the state of a folder, for tests, drills and the page."""
    log, store = EventLog(Path(folder) / "log.db"), Store(Path(folder) / "state.db", SCHEMA)
    try:
        yield Tracking(log, store, models, breaker)
    finally:
        log.close()
        store.close()


def state_of(store: Store) -> dict[str, list[tuple]]:
    """Return all that the events have changed: to compare two runs."""
    tables = {"parcels": 1, "steps": 2, "eta": 2, "load": 3, "outcomes": 1, "follower": 1}
    return {name: contents(store, name, keys) for name, keys in tables.items()}
