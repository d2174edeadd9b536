"""Case 07: the nightly list under faults, and the queue under greedy agents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from casebook.cases.subscription_churn import nightly, studies, uplift
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import NAMES, Mood, build, value_on
from casebook.cases.subscription_churn.month import TEST, night_of
from casebook.cases.subscription_churn.nightly import (
    KEEPS,
    List,
    NightFailed,
    blocked,
    checked,
    held_out,
    tonight,
)
from casebook.cases.subscription_churn.policy import TERMS, Terms, choose, gain
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.records import date
from casebook.cases.subscription_churn.service import Queue, app_of
from casebook.serving.app import Problem

SMALL = Constants(subscribers=10_000, joiners=400, accounts=1_200)
NIGHT = night_of(TEST)
FEW = replace(TERMS, people=4)


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.simulate(3, SMALL)


@pytest.fixture(scope="module")
def sample(world) -> uplift.Sample:
    return studies.lottery(world, Mood(world.tables.tickets, NIGHT))


@pytest.fixture
def folder(world, sample, tmp_path):
    mood = Mood(world.tables.tickets, NIGHT)
    nightly.train(tmp_path, sample, mood, studies.CHOSEN["DR"], NIGHT - 1)
    return tmp_path


# The night ---------------------------------------------------------------------------


def test_the_night_decides_as_the_page_does(world, sample, folder):
    made = tonight(folder, world.tables, NIGHT, terms=FEW)
    features = build(world.tables, NIGHT, Mood(world.tables.tickets, NIGHT))
    rows = features.index.to_numpy()
    effect = uplift.dr_learner(sample, studies.CHOSEN["DR"])(features)
    gains = gain(effect, value_on(world.tables, rows, NIGHT))
    off = blocked(world.tables, rows, NIGHT, 0.05)
    same = choose(gains, FEW.daily, off, least=-np.inf)
    assert (made.source, made.why, len(made.rows)) == ("model", "", FEW.daily)
    assert list(made.rows) == rows[same].tolist()
    assert np.allclose(made.gains, gains[same], atol=0.01)
    assert all(1 <= len(said) <= 2 and all(said) for said in made.reasons)


def test_reasons_are_true(world, folder):
    made = tonight(folder, world.tables, NIGHT, terms=FEW)
    features = build(world.tables, NIGHT)
    for row, said in zip(made.rows, made.reasons, strict=True):
        for sentence in said:
            if sentence.startswith("No login for"):
                days = features.loc[row, "silent"]
                assert days >= 7 and f"{days:.0f} days" in sentence
            if sentence.startswith("Logins are at"):
                assert f"{features.loc[row, 'ratio']:.0%}" in sentence


def test_nobody_is_listed_who_was_called_complained_or_is_held_out(world, folder):
    called = world.tables.calls[world.tables.calls["called"]]
    night = NIGHT - 7
    rows = build(world.tables, night).index.to_numpy()
    off = pd.Series(blocked(world.tables, rows, night, 0.05), rows)
    lately = called[called["at"] > date(night) - pd.Timedelta(days=MONTH)]["row"]
    angry = called[called["complains"] & (called["at"] > date(night) - pd.Timedelta(days=84))]
    for group in (lately, angry["row"]):
        there = group[group.isin(rows)]
        assert len(there) and off[there].all()
    held = held_out(rows, night // MONTH, 0.05)
    assert held.mean() == pytest.approx(0.05, abs=0.01) and off[held].all()
    assert not off[~held].all()
    made = tonight(folder, world.tables, night, terms=FEW)
    assert not off[list(made.rows)].any()


def test_the_hold_out_is_the_same_all_month_and_another_one_next_month():
    rows = np.arange(20_000)
    first = held_out(rows, 5, 0.1)
    assert np.array_equal(first, held_out(rows[::-1], 5, 0.1)[::-1])
    assert (first & held_out(rows, 6, 0.1)).mean() == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda f: f.assign(tenure=-1.0), "tenure is -1"),
        (lambda f: f.assign(logins_week=0.0), "nobody has logged in"),
        (lambda f: f.assign(silent=np.nan), "values of silent"),
        (lambda f: f.assign(ratio=np.inf), "values of ratio"),
        (lambda f: f.head(5_000), "cut off"),
        (lambda f: f.drop(columns="plan"), "two versions"),
    ],
)
def test_features_that_cannot_be_right_are_refused(world, fault, why):
    features = build(world.tables, NIGHT)
    assert checked(features, len(features)) is features
    with pytest.raises(NightFailed, match=why):
        checked(fault(features), len(features))


def broken_logins(tables):
    return replace(tables, logins=np.zeros_like(tables.logins))


FAULTS = {
    "no model": (lambda folder: (folder / "model.json").unlink(), lambda t: t, "there is no model"),
    "altered model": (
        lambda folder: (folder / "model.json").write_text('{"sha256": "0"}'),
        lambda t: t,
        "altered",
    ),
    "no logins": (lambda folder: None, broken_logins, "nobody has logged in"),
    "no tickets": (
        lambda folder: None,
        lambda t: replace(t, tickets=t.tickets.drop(columns="text")),
        "text",
    ),
}


@pytest.mark.parametrize("name", [*FAULTS])
def test_when_the_night_fails_yesterdays_list_stands_in_and_then_the_points(world, folder, name):
    last = tonight(folder, world.tables, NIGHT, terms=FEW)
    harm, change, why = FAULTS[name]
    harm(folder)
    tables = change(world.tables)
    next_night = tonight(folder, tables, NIGHT + 1, last, terms=FEW)
    assert next_night.source == "last list" and why in next_night.why
    assert set(next_night.rows) <= set(last.rows) and next_night.made == NIGHT
    if name == "no tickets":
        return  # points need tickets too; the list of three nights is what there is
    late = tonight(folder, tables, NIGHT + KEEPS + 1, last, terms=FEW)
    assert late.source == "points" and len(late.rows) <= FEW.daily
    assert tonight(folder, tables, NIGHT, None, terms=FEW).source == "points"


def test_the_last_list_loses_those_who_left_or_were_called(world, folder):
    last = tonight(folder, world.tables, NIGHT, terms=FEW)
    (folder / "model.json").unlink()
    gone, called = last.rows[:2]
    people = world.tables.subscribers.copy()
    people.loc[gone, "left"] = date(NIGHT)
    call = world.tables.calls.tail(1).assign(row=called, at=date(NIGHT), called=True)
    calls = pd.concat([world.tables.calls, call])
    tables = replace(world.tables, subscribers=people, calls=calls)
    again = tonight(folder, tables, NIGHT + 1, last, terms=FEW)
    assert again.rows == last.rows[2:] and again.reasons == last.reasons[2:]


def test_an_old_model_is_refused(world, folder):
    made = tonight(folder, world.tables, NIGHT + 3 * MONTH, terms=FEW)
    assert made.source == "points" and "days ago" in made.why


def test_points_never_list_who_sleeps(world, tmp_path):
    made = tonight(tmp_path, world.tables, NIGHT, terms=FEW)
    assert made.source == "points"
    assert not world.state.dormant[list(made.rows)].any()
    assert set(build(world.tables, NIGHT)) == set(NAMES)


# The queue ---------------------------------------------------------------------------


def a_list(night: int = NIGHT, rows: int = 60) -> List:
    words = tuple((f"Reason {k}.",) for k in range(rows))
    return List(night, "model", tuple(range(100, 100 + rows)), (1.0,) * rows, words, "", night, 99)


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "calls.db", Terms(people=5, calls_a_day=10))
    queue.publish(a_list())
    yield queue
    queue.close()


def test_agents_get_different_subscribers_in_the_order_of_the_list(queue):
    first, second = queue.next("ann"), queue.next("bob")
    assert (first["subscriber"], second["subscriber"]) == (100, 101)
    assert first["reasons"] == ["Reason 0."] and first["list"] == "model"
    assert queue.next("ann") == first
    queue.done(first["call"], "reached")
    assert queue.next("ann")["subscriber"] == 102


def test_many_agents_at_once_never_share_a_subscriber_and_stop_at_the_limits(queue):
    def day(agent: str) -> list[int]:
        rows = []
        while True:
            try:
                given = queue.next(agent)
            except Problem as problem:
                assert problem.status == 409
                return rows
            rows.append(given["subscriber"])
            queue.done(given["call"], "nobody there")

    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(day, [f"agent {k}" for k in range(8)])]
    every = [row for rows in found for row in rows]
    assert len(every) == len(set(every)) == 50
    assert max(map(len, found)) <= 10
    assert queue.log.verify()


def test_nobody_is_called_twice_in_a_month_whatever_the_lists_say(queue):
    first = queue.next("ann")
    queue.done(first["call"], "reached")
    queue.publish(a_list(NIGHT + 1))
    assert queue.next("ann")["subscriber"] == 101
    with pytest.raises(ValueError, match="too late"):
        queue.publish(a_list(NIGHT))
    queue.publish(a_list(NIGHT + MONTH))
    assert queue.next("bob")["subscriber"] == 100


def test_a_restart_remembers(tmp_path):
    queue = Queue(tmp_path / "calls.db")
    queue.publish(a_list())
    given = queue.next("ann")
    queue.close()
    queue = Queue(tmp_path / "calls.db")
    assert queue.next("ann") == given and queue.next("bob")["subscriber"] == 101
    queue.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/next", b"{}", 422),
        ("/next", b'{"agent": ""}', 422),
        ("/next", b'{"agent": 7}', 422),
        ("/next", b"nonsense", 422),
        ("/next", b"[" * 1_500, 422),
        ("/next", b'{"agent": "' + b"a" * 3_000 + b'"}', 413),
        ("/results", b'{"call": 99, "result": "reached"}', 404),
        ("/results", b'{"call": true, "result": "reached"}', 404),
        ("/results", b'{"call": 1, "result": "married"}', 422),
        ("/results", b'{"call": 1, "result": ["reached"]}', 422),
        ("/elsewhere", b"{}", 404),
    ],
)
def test_a_broken_request_is_told_what_to_do(queue, path, body, status):
    client = TestClient(app_of(queue), raise_server_exceptions=False)
    answer = client.post(path, content=body)
    assert answer.status_code == status and answer.json()["do"]
    assert queue.log.count("given") == 0


def test_over_http(queue):
    client = TestClient(app_of(queue))
    given = client.post("/next", json={"agent": "ann"}).json()
    done = {"call": given["call"], "result": "reached"}
    assert client.post("/results", json=done).json() == done
    assert client.post("/results", json=done).status_code == 200
    other = client.post("/results", json=done | {"result": "complained"})
    assert other.status_code == 409
    assert client.get("/list").json()["rows"] == 60
    assert client.get("/health").json() == {"alive": True, "rows": 1}


def test_without_a_list_the_queue_says_so(tmp_path):
    queue = Queue(tmp_path / "calls.db")
    client = TestClient(app_of(queue))
    assert client.post("/next", json={"agent": "ann"}).status_code == 404
    assert client.get("/health").status_code == 200
    queue.close()
