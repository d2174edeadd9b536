"""Case 07: the nightly list under faults, and the queue under greedy agents."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from casebook.cases.subscription_churn import nightly, studies
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import NAMES, build, there, value_on
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
from casebook.cases.subscription_churn.policy import TERMS, Terms, choose
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.records import date
from casebook.cases.subscription_churn.service import Queue, app_of, run_night
from casebook.evaluate import effects
from casebook.features.mood import Mood
from casebook.serving.app import Problem
from casebook.serving.drills import BEGUN, kill_drill

SMALL = Constants(subscribers=10_000, joiners=400, accounts=1_200)
NIGHT = night_of(TEST)
FEW = replace(TERMS, people=4)


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.simulate(3, SMALL)


@pytest.fixture(scope="module")
def sample(world) -> effects.Sample:
    return studies.lottery(world, Mood(world.tables.tickets, date(NIGHT)))


@pytest.fixture(scope="module")
def trained(world, sample, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    nightly.train(folder, sample, Mood(world.tables.tickets, date(NIGHT)), NIGHT - 1)
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A registry of one's own, to be harmed."""
    return shutil.copytree(trained, tmp_path / "registry")


# The night ---------------------------------------------------------------------------


def test_the_night_decides_as_the_page_does(world, sample, folder):
    made = tonight(folder, world.tables, NIGHT, terms=FEW)
    features = build(world.tables, NIGHT, Mood(world.tables.tickets, date(NIGHT)))
    rows = features.index.to_numpy()
    gains = studies.maker(studies.MODEL, sample)(features, value_on(world.tables, rows, NIGHT))
    off = blocked(world.tables, rows, NIGHT) | held_out(rows, NIGHT // MONTH, 0.05)
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
    held = held_out(rows, night // MONTH, 0.05)
    off = pd.Series(blocked(world.tables, rows, night) | held, rows)
    lately = called[called["at"] > date(night) - pd.Timedelta(days=MONTH)]["row"]
    angry = called[called["complains"] & (called["at"] > date(night) - pd.Timedelta(days=84))]
    for group in (lately, angry["row"]):
        there = group[group.isin(rows)]
        assert len(there) and off[there].all()
    assert held.mean() == pytest.approx(0.05, abs=0.01) and not off[~held].all()
    made = tonight(folder, world.tables, night, terms=FEW)
    assert not off[list(made.rows)].any()


def test_the_hold_out_is_the_same_all_month_and_another_one_next_month():
    rows = np.arange(20_000)
    first = held_out(rows, 5, 0.1)
    assert np.array_equal(first, held_out(rows[::-1], 5, 0.1)[::-1])
    assert (first & held_out(rows, 6, 0.1)).mean() == pytest.approx(0.01, abs=0.004)


def test_who_would_have_been_called_is_noted_with_what_was_expected(world, folder):
    """The held-out rank among the called, and their predictions are those of the models."""
    made = tonight(folder, world.tables, NIGHT, share=0.3, terms=FEW)
    rows = np.array([*made.rows, *made.held])
    assert len(made.held) == pytest.approx(0.3 / 0.7 * FEW.daily, rel=0.7)
    held = held_out(rows, NIGHT // MONTH, 0.3)
    assert held.tolist() == [False] * len(made.rows) + [True] * len(made.held)
    assert len(made.risks) == len(made.effects) == len(rows)
    month = worlds.play(world).months[TEST]
    assert np.corrcoef(made.risks, month.chances.risk[rows])[0, 1] > 0.2


def spoilt(frame: pd.DataFrame, name: str, value: float, n: int) -> pd.DataFrame:
    frame = frame.copy()
    frame.iloc[:n, frame.columns.get_loc(name)] = value
    return frame


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda f: f.assign(tenure=-1.0), "most in tenure .*such as -1"),
        (lambda f: f.assign(logins_week=0.0), "nobody has logged in"),
        (lambda f: f.assign(logins_week=np.nan), "nobody has logged in"),
        (lambda f: spoilt(f, "silent", np.nan, 500), "500 subscribers .*most in silent"),
        (lambda f: spoilt(f, "ratio", np.inf, 500), "500 subscribers .*most in ratio"),
        (lambda f: f.head(5_000), "cut off"),
        (lambda f: f.head(0), "cut off"),
        (lambda f: f.drop(columns="plan"), "two versions"),
    ],
)
def test_features_that_cannot_be_right_are_refused(world, fault, why):
    features = build(world.tables, NIGHT)
    same, note = checked(features, len(features))
    assert same is features and note == ""
    with pytest.raises(NightFailed, match=why):
        checked(fault(features), len(features))


def test_a_few_broken_subscribers_are_left_out_and_named(world):
    features = build(world.tables, NIGHT)
    for name, value in (("silent", np.nan), ("tenure", -3.0), ("ratio", np.inf)):
        kept, note = checked(spoilt(features, name, value, 7), len(features))
        assert kept.index.tolist() == features.index[7:].tolist()
        assert "7 subscribers" in note and name in note and note.endswith("left out.")
    assert len(checked(spoilt(features, "ratio", np.nan, 500), None)[0]) == len(features)


def broken_logins(tables):
    return replace(tables, logins=np.zeros_like(tables.logins))


def one_twice(tables):
    people = tables.subscribers
    return replace(tables, subscribers=pd.concat([people, people.tail(1)]))


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
    "one subscriber twice": (lambda folder: None, one_twice, "stands twice"),
    "nobody there": (
        lambda folder: None,
        lambda t: replace(t, subscribers=t.subscribers.assign(left=date(NIGHT - 1))),
        "no subscriber is there",
    ),
    "late logins": (
        lambda folder: None,
        lambda t: replace(t, logins=t.logins[:, :-1], last_day=t.last_day[:, :-1]),
        "logins are late",
    ),
}
#: Without these the points cannot count either: the night says so.
NOTHING_LEFT = {"no tickets", "one subscriber twice", "nobody there", "late logins", "no logins"}


@pytest.mark.parametrize("name", [*FAULTS])
def test_when_the_night_fails_yesterdays_list_stands_in_and_then_the_points(world, folder, name):
    last = tonight(folder, world.tables, NIGHT, terms=FEW)
    harm, change, why = FAULTS[name]
    harm(folder)
    tables = change(world.tables)
    next_night = tonight(folder, tables, NIGHT + 1, last, terms=FEW)
    assert next_night.source == "last list" and why in next_night.why
    assert set(next_night.rows) <= set(last.rows) and next_night.made == NIGHT
    for night, before in ((NIGHT + KEEPS + 1, last), (NIGHT, None)):
        if name in NOTHING_LEFT:
            with pytest.raises(NightFailed, match=f"(?s){why}.*By points.*run the night again"):
                tonight(folder, tables, night, before, terms=FEW)
        else:
            made = tonight(folder, tables, night, before, terms=FEW)
            assert made.source == "points" and 0 < len(made.rows) <= FEW.daily


def test_a_night_without_anybody_to_call_is_an_empty_list_and_no_error(world, folder):
    off = replace(TERMS, people=0)
    assert tonight(folder, world.tables, NIGHT, terms=off).rows == ()
    everybody = there(world.tables.subscribers, NIGHT)
    calls = pd.DataFrame({"row": everybody, "at": date(NIGHT - 1), "called": True})
    blocked_all = replace(world.tables, calls=calls.assign(complains=False))
    made = tonight(folder, blocked_all, NIGHT, terms=FEW)
    assert (made.source, made.rows, made.held, made.risks) == ("model", (), (), ())
    assert tonight(folder, world.tables, NIGHT, share=1.0, terms=FEW).rows == ()
    (folder / "model.json").unlink()
    assert tonight(folder, blocked_all, NIGHT, terms=FEW).rows == ()


def test_a_clock_that_is_ahead_makes_no_list_from_old_logins(world, folder):
    last = tonight(folder, world.tables, NIGHT, terms=FEW)
    with pytest.raises(NightFailed, match="clock is ahead"):
        tonight(folder, world.tables, NIGHT + 7, last, terms=FEW)
    with pytest.raises(NightFailed, match="does not know yet"):
        tonight(folder, world.tables, night_of(-4), None, terms=FEW)


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


def test_an_old_model_is_refused(world, sample, tmp_path):
    mood = Mood(world.tables.tickets, date(NIGHT))
    nightly.train(tmp_path, sample, mood, NIGHT - 2 * MONTH - 1)
    made = tonight(tmp_path, world.tables, NIGHT, terms=FEW)
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


def test_a_month_between_two_calls_is_a_month_wherever_the_calendar_turns(queue):
    """On the last night of a month and on the first of the next: two days, one call."""
    queue.publish(a_list(NIGHT + MONTH - 1))
    first = queue.next("ann")
    queue.publish(a_list(NIGHT + MONTH))
    assert queue.next("bob")["subscriber"] == 101 != first["subscriber"]
    queue.publish(a_list(NIGHT + 2 * MONTH - 1))
    assert queue.next("cid")["subscriber"] == 100


def test_a_list_that_would_harm_the_queue_is_not_published(queue):
    twice = a_list(NIGHT + 1)
    twice = replace(twice, rows=(*twice.rows[:-1], twice.rows[0]))
    with pytest.raises(ValueError, match="stands on the list twice"):
        queue.publish(twice)
    with pytest.raises(ValueError, match="set the clock right"):
        queue.publish(a_list(NIGHT + 365))
    queue.publish(a_list(NIGHT + 1))
    queue.publish(a_list(NIGHT + 366), after_gap=True)
    assert queue.current().night == NIGHT + 366 and len(queue.lists()) == 3


def test_an_empty_list_tells_the_agents_to_wait(queue):
    queue.publish(replace(a_list(NIGHT + 1), rows=(), gains=(), reasons=()))
    with pytest.raises(Problem) as told:
        queue.next("ann")
    assert (told.value.status, told.value.error) == (409, "empty")


def test_a_list_comes_back_from_the_log_as_it_was(tmp_path, world, folder):
    queue = Queue(tmp_path / "calls.db", FEW)
    made = run_night(queue, folder, world.tables, NIGHT)
    assert queue.current() == made and queue.lists("model") == [made]
    (folder / "model.json").unlink()
    second = run_night(queue, folder, world.tables, NIGHT + 1)
    assert second.source == "last list" and second.made == NIGHT
    assert run_night(queue, folder, world.tables, NIGHT + 1) == second
    assert len(queue.lists()) == 2
    queue.close()


# Killed ------------------------------------------------------------------------------


def prepared(base: str) -> Path:
    """Return a fresh folder with a stored model."""
    folder = Path(base) / f"run {len([*Path(base).iterdir()])}"
    shutil.copytree(Path(base) / "model", folder)
    return folder


def night_job(tables, folder: Path, passed) -> None:
    """Make and publish a night, as the scheduler does."""
    queue = Queue(folder / "calls.db", FEW)
    passed(BEGUN)
    run_night(queue, folder, tables, NIGHT, passed=passed)
    passed("published")
    queue.next("ann")


def left_behind(folder: Path) -> tuple[int, int, bool]:
    """Return the lists and calls in the log, and whether its chain holds."""
    queue = Queue(folder / "calls.db", FEW)
    try:
        return len(queue.lists()), queue.log.count("given"), bool(queue.log.verify())
    finally:
        queue.close()


def test_a_night_that_is_killed_leaves_a_whole_list_or_none_and_can_be_run_again(
    world, folder, tmp_path_factory
):
    base = tmp_path_factory.mktemp("kills")
    shutil.copytree(folder, base / "model")
    work = partial(night_job, world.tables)
    kills = kill_drill(
        partial(prepared, str(base)), work, left_behind, [("made", 1), ("published", 1), None]
    )
    assert [kill.left for kill in kills] == [(0, 0, True), (1, 0, True), (1, 1, True)]
    assert [kill.killed for kill in kills] == [True, True, False]
    queue = Queue(base / "run 1" / "calls.db", FEW)  # the first one, killed before it published
    assert len(run_night(queue, base / "run 1", world.tables, NIGHT).rows) == FEW.daily
    queue.close()


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
        ("/next", b"nonsense", 400),
        ("/next", b"[" * 1_500, 400),
        ("/next", b"[]", 422),
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
