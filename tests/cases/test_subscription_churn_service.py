"""Case 07: the nightly list under faults, and the queue under greedy agents."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from casebook.cases.subscription_churn import nightly, studies
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import NAMES, build, there, value_on
from casebook.cases.subscription_churn.month import TEST, night_of
from casebook.cases.subscription_churn.nightly import KEEPS, checked, tonight
from casebook.cases.subscription_churn.policy import TERMS, blocked, choose
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.records import date
from casebook.cases.subscription_churn.service import Queue, app_of, day_of, run_night
from casebook.evaluate import effects
from casebook.evaluate.holdback import held_out
from casebook.features.mood import Mood
from casebook.serving import nights, registry
from casebook.serving.drills import BEGUN, kill_drill
from casebook.serving.nights import NightFailed

SMALL = Constants(subscribers=10_000, joiners=400, accounts=1_200)
NIGHT = night_of(TEST)
FEW = replace(TERMS, people=4)
EVENTS = ("tickets", "payments", "changes", "surveys", "calls")


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.simulate(3, SMALL)


@pytest.fixture(scope="module")
def mood(world) -> Mood:
    return Mood(world.tables.tickets, date(NIGHT))


@pytest.fixture(scope="module")
def sample(world, mood) -> effects.Sample:
    return studies.lottery(world, mood)


@pytest.fixture(scope="module")
def trained(sample, mood, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    nightly.train(folder, sample, mood, NIGHT - 1)
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A registry of one's own, to be harmed."""
    return shutil.copytree(trained, tmp_path / "registry")


@pytest.fixture(scope="module")
def features(world, mood) -> pd.DataFrame:
    return build(world.tables, NIGHT, mood)


@pytest.fixture(scope="module")
def good(world, trained):
    return tonight(trained, world.tables, NIGHT, terms=FEW)


# The night ---------------------------------------------------------------------------


def test_the_night_decides_as_the_page_does(world, sample, features, good):
    rows = features.index.to_numpy()
    gains = studies.maker(studies.MODEL, sample)(features, value_on(world.tables, rows, NIGHT))
    off = blocked(world.tables, rows, NIGHT) | held_out(rows, NIGHT // MONTH, 0.05)
    same = choose(gains, FEW.daily, off, least=-np.inf)
    assert (good.source, good.why, len(good.rows)) == ("model", "", FEW.daily)
    assert list(good.rows) == rows[same].tolist()
    assert np.allclose(good.gains, gains[same], atol=0.01)
    assert all(1 <= len(said) <= 2 and all(said) for said in good.reasons)


def test_reasons_are_true(features, good):
    for row, said in zip(good.rows, good.reasons, strict=True):
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
    lately = called[called["at"] >= date(night) - pd.Timedelta(days=3 * MONTH)]
    for group in (lately["row"], lately.loc[lately["complains"], "row"]):
        there = group[group.isin(rows)]
        assert len(there) and off[there].all()
    assert held.mean() == pytest.approx(0.05, abs=0.01) and not off[~held].all()
    made = tonight(folder, world.tables, night, terms=FEW)
    assert not off[list(made.rows)].any()


def test_who_would_have_been_called_is_noted_with_what_was_expected(world, sample, folder):
    """The held-out rank among the called, and their predictions are those of the models."""
    made = tonight(folder, world.tables, NIGHT, share=0.3, terms=FEW)
    rows = np.array([*made.rows, *made.held])
    assert len(made.held) == pytest.approx(0.3 / 0.7 * FEW.daily, rel=0.7)
    held = held_out(rows, NIGHT // MONTH, 0.3)
    assert held.tolist() == [False] * len(made.rows) + [True] * len(made.held)
    assert len(made.risks) == len(made.effects) == len(rows)
    features = build(world.tables, NIGHT, Mood(world.tables.tickets, date(NIGHT))).loc[rows]
    assert np.allclose(made.risks, effects.risk(sample)(features), atol=1e-6)
    own = studies.LEARNERS[studies.MODEL](sample, studies.CHOSEN[studies.MODEL])(features)
    factor = studies.slope(sample)
    assert np.allclose(made.effects, factor.value * own, atol=1e-6)
    assert made.error == pytest.approx(factor.relative, abs=1e-6) and made.error > 0


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
def test_features_that_cannot_be_right_are_refused(features, fault, why):
    same, note = checked(features, len(features))
    assert same is features and note == ""
    with pytest.raises(NightFailed, match=why):
        checked(fault(features), len(features))


def test_a_few_broken_subscribers_are_left_out_and_named(features):
    for name, value in (("silent", np.nan), ("tenure", -3.0), ("ratio", np.inf)):
        kept, note = checked(spoilt(features, name, value, 7), len(features))
        assert kept.index.tolist() == features.index[7:].tolist()
        assert "7 subscribers" in note and name in note and note.endswith("left out.")
    assert len(checked(spoilt(features, "ratio", np.nan, 500), None)[0]) == len(features)


def altered(tables, name: str, change):
    """Return the tables of a company with another one of a name; without a name, all changed."""
    return replace(tables, **{name: change(getattr(tables, name))}) if name else change(tables)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.unlink(), "there is no model"),
        (lambda path: path.write_text('{"sha256": "0"}'), "altered"),
    ],
)
def test_without_a_model_yesterdays_list_stands_in_and_then_the_points(
    world, folder, good, harm, why
):
    harm(folder / "model.json")
    made = tonight(folder, world.tables, NIGHT + 1, good, terms=FEW)
    assert (made.source, made.rows, made.made) == ("last list", good.rows, NIGHT)
    assert why in made.why
    for before in (replace(good, made=NIGHT - KEEPS - 1), None):
        made = tonight(folder, world.tables, NIGHT, before, terms=FEW)
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


def test_a_clock_that_is_ahead_makes_no_list_from_old_logins(world, folder, good):
    for ahead in (2, 6, 7):
        with pytest.raises(NightFailed, match="clock is ahead"):
            tonight(folder, world.tables, NIGHT + ahead, replace(good, made=NIGHT - 9), terms=FEW)
    with pytest.raises(NightFailed, match="does not know yet"):
        tonight(folder, world.tables, night_of(-4), None, terms=FEW)


def test_the_last_list_loses_those_who_left_or_were_called(world, folder, good):
    (folder / "model.json").unlink()
    gone, called = good.rows[:2]
    tables = one_more(world.tables, "calls", row=called, at=date(NIGHT), called=True)
    tables = set_to(tables, gone, left=date(NIGHT))
    again = tonight(folder, tables, NIGHT + 1, good, terms=FEW)
    assert again.rows == good.rows[2:] and again.reasons == good.reasons[2:]


def test_an_old_model_is_refused(world, sample, mood, tmp_path):
    nightly.train(tmp_path, sample, mood, NIGHT - 2 * MONTH - 1)
    made = tonight(tmp_path, world.tables, NIGHT, terms=FEW)
    assert made.source == "points" and "days ago" in made.why


def test_points_never_list_who_sleeps(world, features, tmp_path):
    made = tonight(tmp_path, world.tables, NIGHT, terms=FEW)
    assert made.source == "points"
    assert not world.state.dormant[list(made.rows)].any()
    assert set(features) == set(NAMES)


# What cannot be ------------------------------------------------------------------------


def zoned(tables):
    joined = tables.subscribers["joined"].dt.tz_localize("UTC")
    calls = tables.calls.assign(at=tables.calls["at"].dt.tz_localize("UTC"))
    return replace(tables, calls=calls, subscribers=tables.subscribers.assign(joined=joined))


def unused(tables, weeks: slice, last: bool = False):
    logins, days = tables.logins.copy(), tables.last_day.copy()
    logins[200:, weeks], days[200:, weeks] = 0, -np.inf
    return replace(tables, logins=logins, last_day=days if last else tables.last_day)


def weeks_of(tables, weeks: slice):
    return replace(tables, logins=tables.logins[:, weeks], last_day=tables.last_day[:, weeks])


def doubled(tables):
    both = {name: np.vstack([getattr(tables, name)] * 2) for name in ("logins", "last_day")}
    people = pd.concat([tables.subscribers] * 2, ignore_index=True)
    return replace(tables, subscribers=people, **both)


def part(tables, n: int):
    made = {name: getattr(tables, name)[:n] for name in ("subscribers", "logins", "last_day")}
    events = {name: getattr(tables, name) for name in EVENTS}
    return replace(tables, **made, **{name: f[f["row"] < n] for name, f in events.items()})


#: Loads of which no list may be made, by a model or by points: the table, and what is said.
LOADS = {
    "no logins": ("logins", np.zeros_like, "nobody has logged in"),
    "no texts": ("tickets", lambda f: f.drop(columns="text"), "text"),
    "one twice": ("subscribers", lambda f: pd.concat([f, f.tail(1)]), "stands twice"),
    "late logins": ("", lambda t: weeks_of(t, slice(None, -1)), "logins are late"),
}
WRONG = {
    **LOADS,
    **{f"{name} empty": (name, lambda f: f.head(0), f"{name}.*load") for name in EVENTS},
    "nobody": ("subscribers", lambda f: f.assign(left=date(NIGHT - 1)), "no subscriber is there"),
    "one missing": ("subscribers", lambda f: f.drop(index=5), "place 5 holds"),
    "another order": ("subscribers", lambda f: f.sample(frac=1, random_state=0), "place 0 holds"),
    "fewer logins": ("logins", lambda a: a[:-1], "logins has"),
    "no complaints": ("calls", lambda f: f.drop(columns="complains"), r"no column \['complains'\]"),
    "no leavers": ("subscribers", lambda f: f.drop(columns="left"), r"no column \['left'\]"),
    "few users": ("", lambda t: unused(t, slice(None), True), "have logged in within the week"),
    "last week gone": ("", lambda t: unused(t, slice(-1, None)), "logged in within the week"),
    "three weeks gone": ("", lambda t: unused(t, slice(-4, -1)), r"week 41\): 0.01\d* now, 0.79"),
    "days gone": ("last_day", lambda a: np.full_like(a, -np.inf), "do not agree with the logins"),
    "another unit": ("logins", lambda a: a * np.int64(10**6), "logins that cannot"),
    "twice, new ids": ("", doubled, "some are there twice"),
    "cut off": ("", lambda t: part(t, 3_000), "cut off"),
    "-999": (
        "surveys",
        lambda f: f.assign(score=-999),
        "rows of surveys have no row, time or value",
    ),
}


@pytest.mark.parametrize("name", [*WRONG])
def test_no_list_is_made_of_a_load_that_cannot_be_right(world, folder, good, name):
    table, change, why = WRONG[name]
    tables = altered(world.tables, table, change)
    said = f"(?s)By the model: .*{why}.*By points: .*{why}.*run the night again"
    old = replace(good, made=NIGHT - KEEPS - 1)
    for before in (old, None) if name in LOADS else (good,):
        with pytest.raises(NightFailed, match=said):
            tonight(folder, tables, NIGHT, before, terms=FEW)


@pytest.mark.parametrize("name", [*LOADS, "nobody"])
def test_yesterdays_list_stands_in_for_such_a_load_if_anybody_is_there(world, folder, good, name):
    table, change, why = WRONG[name]
    night = partial(tonight, folder, altered(world.tables, table, change), NIGHT + 1, terms=FEW)
    if name == "nobody":
        with pytest.raises(NightFailed, match="0 are left on the list of night 140"):
            night(good)
        return
    made = night(good)
    assert (made.source, made.rows, made.made) == ("last list", good.rows, NIGHT)
    assert why in made.why


def one_more(tables, name: str, **values):
    more = getattr(tables, name).tail(1).assign(**values)
    return altered(tables, name, lambda f: pd.concat([f, more], ignore_index=True))


def set_to(tables, row: int, **values):
    """Return the tables with other values of one subscriber."""
    with_ = {k: lambda f, k=k, v=v: f[k].mask(f.index == row, v) for k, v in values.items()}
    return altered(tables, "subscribers", lambda f: f.assign(**with_))


def unknown_plan(tables):
    return set_to(tables, tables.subscribers["left"].first_valid_index(), plan="enterprise")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unknown_plan, "1 of 14,400 subscribers"),
        (lambda t: one_more(t, "tickets", row=-1), "1 of .* rows of tickets"),
        (lambda t: one_more(t, "payments", row=np.nan), "1 of .* rows of payments"),
        (lambda t: one_more(t, "tickets", row=2e13), "1 of .* rows of tickets"),
        (lambda t: one_more(t, "surveys", score=-999), "1 of .* rows of surveys"),
        (lambda t: one_more(t, "changes", recorded=pd.NaT), "1 of .* rows of changes"),
        (lambda t: one_more(t, "tickets", text="never again " * 100_000), "^$"),
        (zoned, "^$"),
        (lambda t: replace(t, calls=t.calls.astype({"called": object})), "^$"),
    ],
)
def test_one_bad_record_is_left_out_and_the_list_stays(world, folder, good, change, said):
    made = tonight(folder, change(world.tables), NIGHT, good, terms=FEW)
    assert made.source == "model" and re.search(said, made.why)
    assert len({*made.rows} & {*good.rows}) >= FEW.daily - 1


def test_who_may_have_been_called_is_spared(world, folder, good):
    tables = one_more(world.tables, "calls", row=good.rows[0], called=None, at=date(NIGHT - 1))
    assert good.rows[0] not in tonight(folder, tables, NIGHT, terms=FEW).rows


@pytest.mark.parametrize(("name", "value"), [("risk", np.nan), ("risk", 0)])
def test_a_model_without_numbers_or_order_makes_no_list(world, folder, monkeypatch, name, value):
    def load(kind: str, text: str):
        flat = SimpleNamespace(predict=lambda x: np.full(len(x), value))
        return flat if kind == name else nights.booster(kind, text)

    monkeypatch.setattr(nightly, "nights", SimpleNamespace(**vars(nights) | {"booster": load}))
    made = tonight(folder, world.tables, NIGHT, terms=FEW)
    assert made.source == "points" and f"{name} is" in made.why and made.rows


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("slope", np.nan, "slope"),
        ("error", np.nan, "slope"),
        ("risk", "tree\nversion=v4\n", "risk"),
        ("shares", {}, "effect is 0 for all"),
        ("shares", {"steady": [np.nan, 0.1]}, "shares is no number"),
    ],
)
def test_a_model_that_was_stored_in_part_makes_no_list(world, folder, name, value, says):
    stored = registry.take(folder, date(NIGHT))
    registry.put(folder, stored.pop("trained_until"), **stored | {name: value})
    made = tonight(folder, world.tables, NIGHT, terms=FEW)
    assert made.source == "points" and says in made.why and made.rows


def test_what_no_night_can_have_is_refused_at_once(world, folder, good):
    with pytest.raises(ValueError, match=r"share of 1\.5"):
        tonight(folder, world.tables, NIGHT, good, share=1.5)


def test_a_list_that_was_worked_gives_way_to_the_points(world, folder, good):
    (folder / "model.json").unlink()
    for left, source in ((39, "last list"), (20, "points"), (0, "points")):
        spared = good.rows[left:]
        made = tonight(folder, world.tables, NIGHT + 1, good, terms=FEW, spared=spared)
        assert made.source == source and not {*made.rows} & {*spared}
        assert len(made.rows) == (left if source == "last list" else FEW.daily)


# The queue and the night -----------------------------------------------------------------


@pytest.fixture
def days():
    """A clock of days that a test sets."""
    return {"now": day_of(NIGHT)}


@pytest.fixture
def queue(tmp_path, days):
    queue = Queue(tmp_path / "calls.db", FEW, now=lambda: 86_400 * days["now"])
    yield queue
    queue.close()


def test_a_list_comes_back_from_the_log_as_it_was(queue, world, folder):
    made = run_night(queue, folder, world.tables, NIGHT)
    assert queue.current() == made and queue.lists("model") == [made]
    (folder / "model.json").unlink()
    second = run_night(queue, folder, world.tables, NIGHT + 1)
    assert second.source == "last list" and second.made == NIGHT
    assert run_night(queue, folder, world.tables, NIGHT + 1) == second
    assert len(queue.lists()) == 2


def test_the_night_knows_what_the_queue_knows(queue, world, folder, days):
    """Calls of a day are spared though the table of calls is late; who complained for longer."""
    first = run_night(queue, folder, world.tables, NIGHT)
    given = [queue.next(f"agent {k}") for k in range(30)]
    queue.done(given[0]["call"], "complained")
    days["now"] += 1
    second = run_night(queue, folder, world.tables, NIGHT + 1)
    assert second.source == "model" and not {*second.rows} & {one["subscriber"] for one in given}
    assert {*second.rows} & {*first.rows}
    assert not {*second.rows, *second.held} & {*first.held}


def test_nobody_held_out_is_called_before_that_was_read(queue, world, folder):
    """Over the turn of the month, at which another hold-out is drawn."""
    later = worlds.play(world, months=2).tables
    made = {}
    for night in (NIGHT + 21, NIGHT + 28, NIGHT + 42, NIGHT + 49):
        made[night] = run_night(queue, folder, later, night, share=0.5, after_gap=True)
    assert all(one.source == "model" and one.held for one in made.values())
    for night, one in made.items():
        held = {row for at, old in made.items() if 0 <= night - at < MONTH for row in old.held}
        assert not held & {*one.rows}


def beside(tables, path: Path, folder: Path) -> tuple[int, ...]:
    """Make and publish a night in another process than the service's."""
    queue = Queue(path, FEW, beside=True)
    rows = run_night(queue, folder, tables, NIGHT + 1).rows
    queue.close()
    return rows


def test_a_night_is_published_from_another_process_while_the_queue_serves(queue, world, folder):
    run_night(queue, folder, world.tables, NIGHT)
    client = TestClient(app_of(queue))
    given = client.post("/next", json={"agent": "ann"}).json()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        rows = pool.submit(beside, world.tables, queue.log.path, folder).result()
    assert client.get("/list").json()["night"] == NIGHT + 1
    assert queue.current().rows == rows and given["subscriber"] not in rows


# Killed ------------------------------------------------------------------------------


def prepared(model: str) -> Path:
    """Return a fresh folder with a stored model."""
    base = Path(model).parent
    return shutil.copytree(model, base / f"run {len([*base.iterdir()])}")


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


def test_a_night_that_is_killed_leaves_a_whole_list_or_none_and_can_be_run_again(world, folder):
    work, points = partial(night_job, world.tables), [("made", 1), ("published", 1), None]
    kills = kill_drill(partial(prepared, str(folder)), work, left_behind, points)
    assert [kill.left for kill in kills] == [(0, 0, True), (1, 0, True), (1, 1, True)]
    assert [kill.killed for kill in kills] == [True, True, False]
    first = folder.parent / "run 1"  # killed before it published
    queue = Queue(first / "calls.db", FEW)
    assert len(run_night(queue, first, world.tables, NIGHT).rows) == FEW.daily
    queue.close()
