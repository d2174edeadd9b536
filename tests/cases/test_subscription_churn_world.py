"""Case 07: what the world promises, and that a policy changes nothing but what follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import population
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import there
from casebook.cases.subscription_churn.month import LOTTERY, TEST, TYPES, night_of, open_month, who
from casebook.cases.subscription_churn.population import CLOSING, MONTH, Constants
from casebook.cases.subscription_churn.records import date
from casebook.evaluate.uplift import ips_scores, over_random

SMALL = Constants(subscribers=20_000, joiners=800, accounts=2_400)


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.simulate(3, SMALL)


@pytest.fixture(scope="module")
def quiet(world: worlds.World) -> worlds.World:
    return worlds.play(world, months=2)


@pytest.fixture(scope="module")
def busy(world: worlds.World) -> worlds.World:
    """A world in which every third subscriber is called in each of two months."""
    return worlds.play(world, lambda t, night: there(t.subscribers, night)[::3], months=2)


def same(a: worlds.World, b: worlds.World) -> bool:
    frames = ("subscribers", "tickets", "payments", "changes", "surveys", "calls")
    equal = all(getattr(a.tables, name).equals(getattr(b.tables, name)) for name in frames)
    return equal and np.array_equal(a.tables.logins, b.tables.logins)


def test_a_seed_makes_one_world(world):
    assert same(world, worlds.simulate(3, SMALL))
    assert not same(world, worlds.simulate(4, SMALL))


@pytest.mark.parametrize("fault", [{"dial": 1.0}, {"subscribers": 10}, {"accounts": 0}])
def test_a_constant_out_of_range_is_refused(fault):
    with pytest.raises(ValueError, match="dial"):
        worlds.simulate(1, replace(SMALL, **fault))


# Another policy, the same numbers ----------------------------------------------------


def test_who_is_not_called_lives_the_same_life_under_another_policy(quiet, busy):
    untouched = ~busy.state.called[:, :2].any(axis=1)
    assert 0.3 < untouched.mean() < 0.9
    for name in ("alive", "left", "reason", "since", "plan"):
        a, b = (getattr(w.state, name)[untouched] for w in (quiet, busy))
        assert np.array_equal(a, b), name
    assert np.array_equal(quiet.tables.logins[untouched], busy.tables.logins[untouched])


def test_a_call_decides_between_the_two_outcomes_that_were_drawn(quiet, busy):
    before, after = quiet.months[TEST], busy.months[TEST]
    assert np.array_equal(before.cancels_called, after.cancels_called)
    called = after.called
    assert np.array_equal(after.cancelled[called], before.cancels_called[called])
    saved = called & before.cancels & ~before.cancels_called
    assert saved.sum() > 20
    assert (busy.state.reason[: len(saved)][saved] != CLOSING).mean() > 0.95


def test_a_saved_trouble_is_solved(quiet, busy):
    """Of those in trouble and called, more are out of it a month later."""
    month = busy.months[TEST]
    hit = month.called & (month.state.reason > 0) & (month.chances.saves > 0.4) & ~month.cancelled
    later = (w.months[TEST + 1].state.reason[: len(hit)][hit] for w in (quiet, busy))
    left_alone, helped = ((reason == population.NONE).mean() for reason in later)
    assert helped > left_alone + 0.25


# Rates and mechanisms ----------------------------------------------------------------


def test_rates(world, quiet):
    for number, month in quiet.months.items():
        assert 0.028 < month.cancelled.sum() / len(month.here) < 0.046, number
    assert 0.08 < world.state.dormant[world.state.alive].mean() < 0.13
    month, here = quiet.months[TEST], quiet.months[TEST].here
    risks = {"cancels": month.chances.risk, "cancels_called": month.chances.risk_called}
    for name, chance in risks.items():
        assert getattr(month, name)[here].mean() == pytest.approx(chance[here].mean(), abs=0.005)
    kinds = np.bincount(month.type[here], minlength=4) / len(here)
    assert dict(zip(TYPES, kinds > 0.004, strict=True)) == dict.fromkeys(TYPES, True)


@pytest.mark.parametrize("dial", [-0.6, 0.0, 0.6])
def test_the_dial_is_the_correlation_of_risk_and_what_a_call_saves(dial):
    world = worlds.play(worlds.simulate(5, replace(SMALL, dial=dial), until=-5))
    month = world.months[-5]
    found = np.corrcoef(month.chances.index[month.here], month.chances.seen[month.here])[0, 1]
    assert found == pytest.approx(dial, abs=0.06)


def test_a_call_saves_some_reasons_and_wakes_the_dormant(quiet):
    month = quiet.months[TEST]
    here = month.here
    why = np.array(population.REASONS)[month.state.reason[here]]
    by = pd.Series(month.effect[here]).groupby(why).mean()
    assert by["adoption"] > 0.03 and by["service"] > 0.02
    assert by["price"] < 0.02 and abs(by["closing"]) < 0.02
    assert month.effect[here][month.state.dormant[here]].mean() < -0.03
    risk = pd.Series(month.chances.risk[here]).groupby(month.state.reason[here]).mean()
    assert risk.idxmax() == CLOSING and risk.is_monotonic_increasing


def test_each_earlier_call_saves_less_and_breaks_more(world):
    rows, night = np.flatnonzero(world.state.alive), night_of(world.next)
    effects = []
    for calls in range(4):
        called = np.arange(3) < calls
        state = replace(world.state, called=np.tile(called, (len(world.state), 1)))
        assert (population.earlier(state) == calls).all()
        given = state, night, SMALL, world.shocks, np.zeros(len(state)), world.scale
        now = population.chances(*given)
        effects.append((now.risk - now.risk_called)[rows].mean())
    assert (np.diff(effects) < -0.004).all()


def test_the_oracle_knows_all_but_the_rumour(quiet):
    month, expected = quiet.months[TEST], quiet.expected(TEST)
    here = month.here
    assert expected[here].mean() == pytest.approx(month.effect[here].mean(), abs=5e-4)
    heard = month.chances.logit - month.chances.seen
    assert np.corrcoef(expected[here], heard[here])[0, 1] == pytest.approx(0, abs=0.02)
    assert np.corrcoef(month.effect[here], heard[here])[0, 1] > 0.1


# The log and the lottery -------------------------------------------------------------


def test_rumours_make_the_log_blame_the_calls(world):
    """The team calls whom it has heard of: among equals in all else, the called cancel more."""
    naive, true = [], []
    for number in range(4):
        month = world.months[number]
        open_ = month.state.alive & ~month.state.called.any(axis=1) & ~month.state.dormant
        columns = {name: getattr(month, name) for name in ("called", "cancelled", "effect")}
        alike = pd.qcut(month.chances.seen, 40, labels=False, duplicates="drop")
        frame = pd.DataFrame({"same": alike, **columns})[open_]
        by = frame.groupby(["same", "called"])["cancelled"].mean().unstack()
        n = frame[frame["called"]]["same"].value_counts().reindex(by.index, fill_value=0)
        naive.append(((by[False] - by[True]).fillna(0) * n).sum() / n.sum())
        true.append(frame.loc[frame["called"], "effect"].mean())
    assert np.mean(true) > 0.01
    assert np.mean(naive) < np.mean(true) - 0.02


def test_chance_decides_in_the_lottery(world):
    month = world.months[LOTTERY]
    here = month.here
    drawn, chance = month.assigned[here], month.chance[here]
    for value in np.unique(chance):
        assert drawn[chance == value].mean() == pytest.approx(value, abs=0.02)
    for column in (month.state.dormant, month.chances.logit, month.state.plan):
        own = column[here][np.isclose(chance, chance.max())]
        mine = drawn[np.isclose(chance, chance.max())]
        se = own.std() * np.sqrt(1 / mine.sum() + 1 / (~mine).sum())
        assert abs(own[mine].mean() - own[~mine].mean()) < 4 * se
    assert (month.called & ~month.assigned).sum() == int(SMALL.leak * len(here))
    assert not (month.assigned & ~month.called).any()


@pytest.mark.parametrize(("leak", "low", "high"), [(0.0, -3.5, 3.5), (0.03, -9.0, -2.0)])
def test_the_estimate_is_right_on_average_without_calls_off_the_list_and_too_small_with(
    leak, low, high
):
    """The randomised month is drawn again and again; the score knows no outcome."""
    c = replace(SMALL, leak=leak)
    world, off = worlds.simulate(3, c, until=LOTTERY), []
    for seed in range(1_000, 1_100):
        month = open_month(world.state, LOTTERY, seed, c, world.shocks, world.scale)
        month = replace(month, **who(month, None, seed, c))
        here, score = month.here, month.expected(c.rumour)[month.here]
        y, account = month.cancelled[here], world.state.account[here]
        scores = ips_scores(y - y.mean(), month.assigned[here], month.chance[here])
        found, truth = (over_random(score, x, account).value for x in (scores, month.effect[here]))
        off.append(found - truth)
    assert low < np.mean(off) / (np.std(off) / np.sqrt(len(off))) < high


# The company's tables ----------------------------------------------------------------


def test_the_tables_end_where_a_subscriber_ends(quiet):
    tables = quiet.tables
    left = tables.subscribers["left"]
    for name in ("tickets", "payments", "surveys"):
        events = getattr(tables, name)
        assert not (events["at"].to_numpy() > left.reindex(events["row"]).to_numpy()).any(), name
    week = ((left - date(night_of(-6))).dt.days // 7 + 1).dropna().astype(int)
    after = [tables.logins[row, first:].sum() for row, first in week[week > 0].items()]
    assert sum(after) == 0
    assert tables.logins[: SMALL.subscribers].sum(axis=1).mean() > 50


def test_a_downgrade_is_booked_back_and_often_comes_just_before_the_end(quiet):
    changes = quiet.tables.changes
    lag = (changes["recorded"] - changes["at"]).dt.days
    assert lag.between(1, MONTH).all() and lag.mean() > 8
    left = quiet.tables.subscribers["left"].reindex(changes["row"]).to_numpy()
    soon = pd.Series(left - changes["recorded"].to_numpy()) <= pd.Timedelta(days=7)
    assert 0.1 < soon.mean() < 0.6


def test_texts_tell_the_mood_but_not_surely(world):
    rated = world.tables.tickets.dropna(subset="rating")
    assert 0.25 < len(rated) / len(world.tables.tickets) < 0.35
    tense = rated["text"].str.contains("alternatives|urgent|expect|pay for")
    means = rated.groupby(tense)["rating"].mean()
    assert means[False] - means[True] > 0.8
    assert ((rated["rating"] <= 2) & ~tense).any() and ((rated["rating"] >= 4) & tense).any()


def test_calls_are_logged_with_what_they_annoy(busy):
    calls = busy.tables.calls
    assert calls.loc[calls["called"], "reached"].mean() == pytest.approx(0.8, abs=0.02)
    asleep = busy.state.dormant[calls["row"]]
    rate = calls[calls["called"]].groupby(asleep[calls["called"]])["complains"].mean()
    assert rate[True] > rate[False] + 0.02
    drawn = calls["chance"].notna()
    assert (calls.loc[drawn, "at"] == date(night_of(LOTTERY))).all()


def test_logins_rise_after_a_call(quiet, busy):
    """What a feature of the weeks after the call would see is the call."""
    weeks = slice(-2 * 4, -2 * 4 + 1)
    called = busy.months[TEST].called & ~busy.months[TEST].cancelled
    means = [w.tables.logins[: len(called), weeks][called].mean() for w in (quiet, busy)]
    assert means[1] > means[0] + 0.5
