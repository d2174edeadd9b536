"""Case 04: the stream says what the tables say, loses nothing, and falls back with a reason."""

from __future__ import annotations

import json
import pickle
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from casebook.cases.delivery_eta import world as worlds
from casebook.cases.delivery_eta.eta import Models, Said, decide, promise_day, reason, train
from casebook.cases.delivery_eta.evaluation import split, with_truth
from casebook.cases.delivery_eta.features import prepare
from casebook.cases.delivery_eta.messages import decode, events_of
from casebook.cases.delivery_eta.service import (
    SCHEMA,
    Tracking,
    app_from,
    create_app,
    opened,
    save,
    state_of,
)
from casebook.cases.delivery_eta.stream import ETA, State
from casebook.evaluate.conformal import adaptive
from casebook.evaluate.ranges import scores, widened
from casebook.serving.app import Problem
from casebook.serving.breaker import Breaker
from casebook.serving.consumer import Store
from casebook.serving.eventlog import EventLog

FIRST = worlds.CALIBRATION_END
QUANTILES = ["p10", "p50", "p90"]
SCAN = {
    "scan_id": 1,
    "parcel": 1,
    "stage": "collected",
    "scanned_at": "2025-10-07T10:00:00",
    "received_at": "2025-10-07T10:01:00",
    "device": "Z01-1",
}
PARCEL = {
    "kind": "parcel",
    "parcel": 1,
    **dict.fromkeys(("origin", "destination", "origin_hub", "destination_hub"), "X"),
    "km": 1.0,
    "service": "express",
    **dict.fromkeys(("accepted_at", "window_low", "window_high"), "2025-10-07T10:00:00"),
}


@cache
def world() -> worlds.World:
    return worlds.simulate(1, parcels=4000)


@cache
def prepared() -> pd.DataFrame:
    here = world()
    return prepare(here.scans, here.parcels, here.load)


@cache
def models() -> Models:
    parts = split(with_truth(prepared(), world().truth))
    return train(parts["train"], parts["calibration"], n_estimators=15)


def feed(days: float, start: pd.Timestamp = FIRST) -> list[tuple[str, str]]:
    """Return the events of some days: only parcels that are collected within them."""
    here, end = world(), start + pd.Timedelta(days=days)
    parcels = here.parcels[here.parcels["accepted_at"].between(start, end)]
    scans = here.scans[here.scans["parcel"].isin(parcels["parcel"])]
    before = start - pd.Timedelta(days=2)
    load = here.load[here.load["published_at"].between(before, end)]
    return list(events_of(scans[scans["received_at"] < end], parcels, load))


def told(tracking) -> pd.DataFrame:
    names = ["parcel", "step", *QUANTILES, "source", "why", "reason", "correction", "promised"]
    rows = tracking.store.all(f"SELECT {', '.join(names)} FROM eta")
    return pd.DataFrame(rows, columns=names).set_index(["parcel", "step"]).sort_index()


@contextmanager
def consumed(folder: Path, with_models: Models, events) -> Iterator[Tracking]:
    """Open a service that has consumed some events."""
    with opened(folder, with_models) as tracking:
        tracking.log.append(events)
        tracking.done = tracking.consumer.run()
        yield tracking


# The stream is the tables ------------------------------------------------------------


@pytest.fixture(scope="module")
def streamed(tmp_path_factory) -> pd.DataFrame:
    """Return what the service said over the whole feed until a day after the storm began."""
    here, end = world(), worlds.STORM + pd.Timedelta(days=1)
    parts = (
        here.scans[here.scans["received_at"] < end],
        here.parcels[here.parcels["accepted_at"] < end],
        here.load[here.load["published_at"] < end],
    )
    with opened(tmp_path_factory.mktemp("stream"), models()) as tracking:
        tracking.log.append(events_of(*parts))
        done = tracking.consumer.run()
        assert done.quarantined == 0 and done.events == sum(map(len, parts))
        return told(tracking)


def of_tables(delay: bool = True) -> pd.DataFrame:
    """Return what the functions of the page say of the same moments."""
    rows = prepared()
    rows = rows[rows["known_at"] < worlds.STORM + pd.Timedelta(days=1)]
    made = decide(rows, models())
    known = rows["label_at"] if delay else rows["known_at"]
    asked = made["source"] == "model"
    found = adaptive(
        rows.loc[asked, "known_at"].to_numpy("datetime64[s]"),
        known[asked].to_numpy("datetime64[s]"),
        scores(rows[asked], made[asked]),
        models().follower(),
    )
    correction = pd.Series(0.0, rows.index)
    correction[asked] = found.correction
    made["promised"] = promise_day(rows, made, models())
    made["promised"] = made.groupby(rows["parcel"])["promised"].transform("first")
    made[QUANTILES] = widened(made, correction)
    return made.assign(parcel=rows["parcel"], step=rows["step"]).set_index(["parcel", "step"])


def test_the_service_says_what_the_page_computes(streamed):
    made = of_tables()
    both = streamed.loc[made.index]
    assert len(made) > 15_000 and len(streamed) - len(made) < 0.01 * len(made)
    np.testing.assert_allclose(both[QUANTILES], made[QUANTILES], rtol=1e-9, atol=1e-6)
    names = ["source", "why", "promised"]
    assert (both[names] == made[names]).all(axis=None)
    assert both.groupby("parcel")["promised"].nunique().max() == 1
    leaky = of_tables(delay=False)
    assert not np.allclose(both[QUANTILES], leaky[QUANTILES], atol=1e-6), "the test can fail"


def test_new_routes_are_the_models_and_say_so(streamed):
    new = streamed[streamed["why"] == "new route"]
    assert set(new["source"]) == {"model"} and 0.02 < len(new) / len(streamed) < 0.2
    assert {"first forecast", "as expected"} <= set(streamed["reason"])
    assert streamed["reason"].str.contains("delivery failed").any()
    assert streamed["reason"].str.contains("hours of queue ahead").any()


# Crashes, repeats, order -------------------------------------------------------------


class Killed(BaseException):
    """What a drill raises in place of the end of the process."""


@cache
def uninterrupted(days: float = 6.0) -> dict:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), models()) as tracking:
        tracking.log.append(feed(days))
        tracking.consumer.run()
        return state_of(tracking.store)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_state(tmp_path, seed):
    rng, kills = random.Random(seed), 0

    def at(point: str) -> None:
        if rng.random() < 0.3:
            raise Killed(point)

    with opened(tmp_path, Models()) as tracking:
        tracking.log.append(feed(6.0))
    while True:
        # What was in memory is gone: a new service on the same files.
        with opened(tmp_path, models()) as tracking:
            tracking.consumer.batch, tracking.consumer.at = rng.choice([25, 60, 150]), at
            try:
                if not tracking.consumer.run().events:
                    break
            except Killed:
                kills += 1
    with opened(tmp_path, models()) as tracking:
        assert state_of(tracking.store) == uninterrupted()
        assert kills and tracking.consumer.consumed == len(feed(6.0))


def test_events_that_are_sent_again_and_some_that_are_none_change_nothing(tmp_path):
    bad = [("x", body) for body in ("", "[]", "{", json.dumps({"kind": "scan", **SCAN, "km": 1}))]
    events = feed(6.0)
    with consumed(tmp_path, models(), events[:99] + bad + events[99:] + events[::-1]) as tracking:
        assert tracking.done.quarantined == len(bad)
        assert state_of(tracking.store) == uninterrupted()


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_arrival_leads_to_the_same_tracks(tmp_path, seed):
    events = feed(6.0)
    random.Random(seed).shuffle(events)
    with consumed(tmp_path, Models(), events) as tracking:
        assert tracking.done.quarantined == 0
        state = state_of(tracking.store)
    for table in ("parcels", "steps", "load"):
        assert state[table] == uninterrupted()[table]


# Fallbacks ---------------------------------------------------------------------------


@cache
def some() -> pd.DataFrame:
    rows = prepared()
    return rows[rows["known_at"].between(FIRST, FIRST + pd.Timedelta(days=3))]


class Broken:
    """A model that crashes, or answers nonsense."""

    def __init__(self, value: float | None) -> None:
        self.value = value

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        if self.value is None:
            raise RuntimeError("planted")
        return pd.DataFrame(self.value, rows.index, QUANTILES)


@pytest.mark.parametrize(
    ("change", "column", "value", "source", "why"),
    [
        ({}, None, None, "model", ""),
        ({"model": None}, None, None, "routes", "no model"),
        ({"model": None, "routes": None}, None, None, "window", "no model"),
        ({"model": Broken(None)}, None, None, "routes", "model: error"),
        ({"model": Broken(np.nan)}, None, None, "routes", "model: nonsense"),
        ({"model": Broken(1e9)}, None, None, "routes", "model: nonsense"),
        ({"model": Broken(-5.0)}, None, None, "routes", "model: nonsense"),
        ({}, "load_age", 36.5, "model", "late load report"),
        ({}, "load_age", 168.5, "routes", "no load report"),
        ({}, "load_age", np.nan, "routes", "no load report"),
        ({"routes": None}, "load_age", 999.0, "window", "no load report"),
        ({}, "destination", "Z99", "model", "new route"),
        ({"model": None}, "stage", "lost", "window", "no model"),
    ],
)
def test_the_answer_degrades_and_says_so(change, column, value, source, why):
    rows = some().assign(**({column: value} if column else {}))
    made = decide(rows, replace(models(), **change), Breaker(5000, failures=20))
    assert set(made["source"]) == {source} and set(made["why"]) == {why}
    assert np.isfinite(made[QUANTILES]).all(axis=None)
    assert (np.diff(made[QUANTILES], axis=1) >= 0).all() and (made[QUANTILES] >= 0).all(axis=None)


def test_only_the_rows_without_a_report_fall_back_and_none_at_all_are_answered():
    rows = some().copy()
    rows.loc[rows.index[::3], "load_age"] = 400.0
    made = decide(rows, models())
    assert (made["source"] == "routes").tolist() == [k % 3 == 0 for k in range(len(rows))]
    usual = decide(some(), models())
    kept = made["source"] == "model"
    pd.testing.assert_frame_equal(made.loc[kept, QUANTILES], usual.loc[kept, QUANTILES])
    assert decide(rows.iloc[:0], models()).empty


def test_one_absurd_row_spoils_no_other():
    """A plan beyond reason, as of two queues of weeks, is not promised."""
    rows = some().copy()
    rows.loc[rows.index[0], "plan_van"] = 3000.0
    made, usual = decide(rows, models(), Breaker(5000)), decide(some(), models())
    assert (made["source"].iloc[0], made["why"].iloc[0]) == ("routes", "model: nonsense")
    pd.testing.assert_frame_equal(made.iloc[1:], usual.iloc[1:])


@pytest.mark.parametrize(
    ("stage", "before", "now", "says"),
    [
        ("collected", None, Said(0.0, 0.0), "first forecast"),
        ("attempted", Said(0.0, 0.0), Said(9e4, 0.0), "delivery failed"),
        ("departed", Said(0.0, 9.0), Said(3600.0, 9.0), "as expected"),
        ("departed", Said(0.0, 1.0), Said(9e4, 30.0), "later by 25 hours: 30 hours of queue"),
        ("departed", Said(9e4, 30.0), Said(0.0, 1.0), "earlier by 25 hours: the queue is shorter"),
        ("origin_hub", Said(0.0, 1.0), Said(9e4, 2.0), "origin hub later than planned"),
    ],
)
def test_a_change_has_a_reason(stage, before, now, says):
    assert says in reason(stage, before, now)


# Bad messages, and HTTP --------------------------------------------------------------


def at(days: float, parcel: int) -> tuple[str, str]:
    """Return the event of a scan that comes so many days after the first."""
    time = f"{FIRST + pd.Timedelta(days=days):%Y-%m-%dT%H:%M:%S}"
    scan = SCAN | {"parcel": parcel, "received_at": time, "scanned_at": time}
    return "x", json.dumps({"kind": "scan", **scan})


POSTED = {name: value for name, value in SCAN.items() if name != "received_at"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stage": "lost"}, "stage: Input should be 'collected'"),
        ({"parcel": -1}, "parcel: Input should be greater than or equal to 1"),
        ({"parcel": 10**20}, "parcel:"),
        ({"parcel": "7"}, "parcel: Input should be a valid integer"),
        ({"attempt": 9}, "attempt: Input should be less than or equal to 2"),
        ({"scanned_at": "1970-01-01T00:00:00"}, "scanned_at: Value error, not between"),
        ({"device": "x" * 41}, "device: String should have at most 40"),
        (PARCEL | {"window_high": "2025-10-06T10:00:00"}, "window_high is before window_low"),
    ],
)
def test_a_message_that_is_none_says_what_is_wrong(change, says):
    with pytest.raises(ValueError, match=":") as error:
        decode(json.dumps(change if "km" in change else {"kind": "scan", **SCAN, **change}))
    assert says in str(error.value)


@pytest.mark.parametrize("batch", [80, 500])
def test_what_is_older_than_it_is_kept_for_is_dropped_and_changes_nothing_else(tmp_path, batch):
    with opened(tmp_path, models()) as tracking:
        tracking.state.keep, tracking.consumer.batch = 2.0, batch
        tracking.log.append(feed(6.0))
        tracking.consumer.run()
        left, usual = state_of(tracking.store), uninterrupted()
        memory = len(tracking.state._tables.load)
    newest = (FIRST + pd.Timedelta(days=6)).timestamp()
    last: dict[int, int] = {}
    for parcel, _, received, *_ in usual["steps"]:
        last[parcel] = max(last.get(parcel, 0), received)
    kept = {parcel for parcel, at in last.items() if at >= (newest // 86400 - 3) * 86400}
    assert kept >= {row[0] for row in left["eta"]} and left["eta"] and len(kept) < 0.9 * len(last)
    assert [row for row in usual["eta"] if row[0] in {r[0] for r in left["steps"]}] == left["eta"]
    assert left["outcomes"] == usual["outcomes"] and left["follower"] == usual["follower"]
    assert len(left["load"]) == memory < len(usual["load"])


class Stumbling(State):
    """Fails half-way, when it has already learned and remembered, at the first vans."""

    def _store(self, asked, *rest):
        if (asked["stage"].eq("out") & (asked["known_at"] < FIRST + pd.Timedelta(hours=32))).any():
            raise RuntimeError("planted")
        super()._store(asked, *rest)


def test_a_batch_that_fails_half_way_leaves_nothing_in_memory(tmp_path):
    with opened(tmp_path, models()) as tracking:
        state = Stumbling(models())
        tracking.consumer.apply, tracking.consumer.batch = state.apply, 60
        tracking.log.append(feed(3.0))
        assert tracking.consumer.run().quarantined > 0
        stored = state_of(tracking.store)
    assert len(stored["outcomes"]) == state._tables.outcomes["n"].sum() > 3
    assert len(stored["load"]) == len(state._tables.load)


def test_scans_before_their_parcel_is_announced_wait_for_it(tmp_path):
    """Also a delivery: nothing is forecast after it, and it is learned from."""
    events = feed(6.0)
    scans = [event for event in events if '"kind": "scan"' in event[1]]
    rest = [event for event in events if '"kind": "scan"' not in event[1]]
    with consumed(tmp_path, models(), scans) as tracking:
        assert tracking.done.quarantined == 0 and not state_of(tracking.store)["eta"]
        done = next(s[0] for s in state_of(tracking.store)["steps"] if s[1] == 99)
        with pytest.raises(Problem, match="is not announced"):
            tracking.eta(str(done))
        tracking.log.append(rest)
        tracking.consumer.run()
        state = state_of(tracking.store)
    usual = uninterrupted()
    assert state["outcomes"] == usual["outcomes"] and len(usual["outcomes"]) > 20
    # All but what depends on the order of learning: the history, the correction.
    kept = [ETA.index(name) for name in ("parcel", "step", "known_at", "source")]
    ours, theirs = ([[row[k] for k in kept] for row in s["eta"]] for s in (state, usual))
    assert ours == theirs


def test_one_message_does_not_move_the_clock_for_ever(tmp_path):
    with consumed(tmp_path, models(), [*feed(0.5), at(80, 10**6)]) as tracking:
        assert tracking.done.quarantined == 1
        assert "days after all before it" in tracking.consumer.quarantined()[0].why
        assert tracking._now() < pd.Timestamp("2025-10-09").timestamp()
        rows = state_of(tracking.store)["eta"]
        assert not any(tracking.eta(str(row[0])).get("overdue") for row in rows)


def test_a_promise_model_that_fails_leaves_the_day_to_p90():
    class Silent:
        def raw(self, rows):
            raise RuntimeError("planted")

    broken = replace(models(), promises=Silent())
    made = decide(some(), models())
    p90 = promise_day(some(), made, replace(models(), promises=None))
    assert (promise_day(some(), made, broken, Breaker(60_000)) == p90).all()
    with pytest.raises(RuntimeError, match="planted"):
        promise_day(some(), made, broken)


def test_a_service_with_a_clock_refuses_the_future(tmp_path):
    with opened(tmp_path, Models()) as plain:
        now = FIRST + pd.Timedelta(days=20)
        clocked = Tracking(plain.log, plain.store, Models(), clock=lambda: now)
        plain.log.append([at(30, 1), at(1, 2), at(15, 3), at(20, 4)])
        assert clocked.consumer.run() == (4, 1)
        assert "hours from now" in clocked.consumer.quarantined()[0].why


def test_a_consumer_in_trouble_is_not_well(client):
    def broken(db, events):
        raise sqlite3.OperationalError("planted: the disk is full")

    client.tracking.log.append(feed(6.0)[-5:])
    client.tracking.consumer.apply = broken
    assert client.tracking.step() == 0 and client.get("/health").status_code == 503
    assert "disk is full" in client.get("/health").json()["consumer"]


def test_a_model_that_comes_later_starts_from_its_own_scores(tmp_path):
    events = feed(4.0)
    with consumed(tmp_path, Models(), events[:200]) as tracking:
        assert state_of(tracking.store)["follower"] == []
    with consumed(tmp_path, models(), events[200:]) as tracking:
        corrections = told(tracking).query("source == 'model'")["correction"]
    assert corrections.abs().max() > 0 and not set(corrections) <= {0.0}


@pytest.fixture
def client(tmp_path):
    with opened(tmp_path, models(), Breaker(5000)) as tracking:
        tracking.log.append(feed(4.0))
        tracking.consumer.run()
        with TestClient(create_app(tracking), raise_server_exceptions=False) as client:
            client.tracking = tracking
            yield client


def test_a_customer_is_told_the_date_whose_it_is_and_why_it_changed(client):
    state = state_of(client.tracking.store)
    open_ = {row[0] for row in state["eta"]} - {s[0] for s in state["steps"] if s[1] == 99}
    reply = client.get(f"/parcels/{min(open_)}/eta")
    body = reply.json()
    assert reply.status_code == 200 and body["p10"] <= body["p50"] <= body["p90"]
    assert body["source"] == "model" and body["reason"] and body["overdue"] in (True, False)
    assert pd.Timestamp(body["promised"]).dayofweek < 6
    done = next(s[0] for s in state["steps"] if s[1] == 99)
    assert set(client.get(f"/parcels/{done}/eta").json()) == {"parcel", "stage", "delivered_at"}
    health = client.get("/health").json()
    assert health["behind"] == 0 and health["quarantined"] == 0 and health["model"] == "closed"


def test_a_scan_that_is_posted_moves_the_date(client):
    state = state_of(client.tracking.store)
    moved = {step[0] for step in state["steps"] if step[1] > 0}
    parcel = next(step[0] for step in state["steps"] if step[0] not in moved)
    late = (FIRST + pd.Timedelta(days=4)).isoformat()
    scan = POSTED | {"parcel": parcel, "scan_id": 10**9, "stage": "out", "scanned_at": late}
    stamped = scan | {"received_at": "2034-01-01T00:00:00"}
    reply = client.post("/scans", json=[scan, scan | {"stage": "lost"}, 7, stamped])
    assert reply.status_code == 202 and reply.json()["accepted"] == 1
    assert [r["position"] for r in reply.json()["refused"]] == [1, 2, 3]
    assert "the gateway sets it" in reply.json()["refused"][2]["what"]
    assert client.get("/health").json()["behind"] == 1
    client.tracking.consumer.run()
    assert client.get(f"/parcels/{parcel}/eta").json()["stage"] == "out"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("GET", "/parcels/999999999/eta", None, 404, "unknown parcel"),
        ("GET", "/parcels/abc/eta", None, 400, "no number"),
        ("POST", "/scans", "{", 400, "not JSON"),
        ("POST", "/scans", '[{"parcel": 1, "parcel": 2}]', 400, "not JSON"),
        ("POST", "/scans", "[1]", 422, "no scan"),
        ("POST", "/scans", json.dumps([POSTED | {"device": "\ud800"}]), 422, "no scan"),
        ("POST", "/scans", json.dumps([{}] * 1001), 413, "too large"),
        ("POST", "/scans", " " * 1_000_001, 413, "too large"),
    ],
)
def test_a_bad_request_gets_a_clear_error(client, method, path, content, status, error):
    reply = client.request(method, path, content=content)
    assert (reply.status_code, reply.json()["error"]) == (status, error)
    assert set(reply.json()) == {"error", "what", "do"} and all(reply.json().values())
    assert client.post("/scans", json=[]).json() == {"accepted": 0, "refused": []}


def test_a_parcel_without_a_scan_has_its_window_and_an_old_date_is_overdue(tmp_path):
    parcel = next(event for event in feed(1.0) if '"kind": "parcel"' in event[1])
    with consumed(tmp_path, Models(), [parcel]) as tracking:
        answer = tracking.eta(parcel[0])
        assert (answer["source"], answer["why"]) == ("window", "no scan yet")
        assert answer["promised"] is None and not answer["overdue"]
        for days in (5, 10):  # further ahead it would be refused
            tracking.log.append([at(days, 10**6)])
            tracking.consumer.run()
        assert tracking.eta(parcel[0])["overdue"]
        clocked = Tracking(tracking.log, tracking.store, Models(), clock=lambda: FIRST)
        assert not clocked.eta(parcel[0])["overdue"]


@pytest.mark.parametrize(
    ("name", "change", "source", "says"),
    [
        ("model", lambda raw: pickle.dumps(Models(model=7)), "routes", "its model is a int"),
        ("routes", None, "model", "routes.pickle: FileNotFoundError"),
    ],
)
def test_a_broken_file_takes_no_other_with_it(tmp_path, name, change, source, says):
    save(tmp_path, models())
    file = tmp_path / f"{name}.pickle"
    raw = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(raw))
    app = app_from(str(tmp_path))
    app.state.tracking.log.append(feed(1.0))
    assert app.state.tracking.step() == len(feed(1.0))
    with TestClient(app) as client:
        health = client.get("/health")
    assert health.status_code == 200 and says in health.json()["models"]
    assert set(health.json()["sources"]) == {source}


def test_a_service_starts_from_its_folder(tmp_path):
    from casebook.serving.load import Server

    save(tmp_path, models())
    EventLog(tmp_path / "log.db").append(feed(1.0))
    Store(tmp_path / "state.db", SCHEMA).close()
    import httpx

    arguments = {"folder": str(tmp_path), "consume": True}
    factory = "casebook.cases.delivery_eta.service:app_from"
    with Server(factory, arguments) as server, httpx.Client(trust_env=False) as client:
        for _ in range(600):
            if client.get(f"{server.url}/health").json()["behind"] == 0:
                break
        health = client.get(f"{server.url}/health").json()
    assert health["consumed"] == len(feed(1.0)) and health["sources"]["model"] > 10
