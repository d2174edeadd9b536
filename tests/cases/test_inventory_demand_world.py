"""Case 03: the promises of its world, of the shelves in it, and of the stores' reports."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.inventory_demand import feed
from casebook.cases.inventory_demand import play as plays
from casebook.cases.inventory_demand.demand import (
    CHAPTER,
    CLOSES,
    DAYS,
    LATE,
    NAMES,
    OPENS_SECOND,
    STACKS,
    SWAN,
    SWITCH,
    TEST,
    Constants,
    World,
    promotion_effect,
    simulate,
)
from casebook.cases.inventory_demand.play import FRESH, WEEKLY, Played, incumbent, play, whole
from casebook.cases.inventory_demand.world import snapshots
from casebook.data import snapshot
from casebook.project import data_dir

SEEDS = [2026, 1, 2, 3, 4]


@cache
def world(seed: int) -> World:
    return simulate(seed)


@cache
def past(seed: int) -> Played:
    return play(world(seed), incumbent, 400)


def ratio(here: World, rows: np.ndarray, cells: np.ndarray) -> float:
    """Return demand over its expectation on some days, where anything is expected."""
    return here.demand[rows][:, cells].sum() / here.mean[rows][:, cells].sum()


# The same seed, the same world -----------------------------------------------------------


def test_the_same_seed_gives_the_same_world_and_another_gives_another():
    first, again, other = simulate(1), simulate(1), simulate(2)
    np.testing.assert_array_equal(first.demand, again.demand)
    assert_frame_equal(first.plan.stores, again.plan.stores)
    assert (first.demand != other.demand).mean() > 0.5


def test_a_constant_changes_what_it_governs_and_nothing_else():
    usual, wild = world(1), simulate(1, Constants(product_sd=0.24))
    assert_frame_equal(usual.plan.products, wild.plan.products)
    np.testing.assert_array_equal(usual.plan.discount, wild.plan.discount)
    np.testing.assert_array_equal(usual.shocks["store"], wild.shocks["store"])
    np.testing.assert_allclose(2 * usual.shocks["product"], wild.shocks["product"])


def test_the_committed_snapshots_are_what_the_world_makes():
    made = snapshots()
    assert made.keys() == {path.name for path in (data_dir() / CHAPTER).glob("*.parquet")}
    for name, frame in made.items():
        assert (data_dir() / CHAPTER / name).stat().st_size < 2_000_000
        assert_frame_equal(snapshot(CHAPTER, name), frame, rtol=1e-9, atol=0, check_dtype=False)


def test_what_a_policy_sees_holds_no_truth():
    plan = world(1).plan
    assert "log" not in {*plan.products, *plan.stores}
    assert {field.name for field in fields(plays.Seen)} == {
        *("plan", "now", "sales", "closing", "shelf")
    }


def test_two_stores_are_too_few():
    with pytest.raises(ValueError, match="three at least"):
        simulate(1, stores=2)


# Calendar, promotions, weather -------------------------------------------------------------


def test_the_days_of_the_plan_fall_where_they_must():
    assert DAYS[SWITCH].day_name() == "Sunday"
    assert {DAYS[day].day_name() for day in (TEST.start, LATE.start, SWAN.start)} == {"Thursday"}
    assert (DAYS[SWITCH + WEEKLY.first].day_name(), DAYS[SWITCH + WEEKLY.last].day_name()) == (
        "Thursday",
        "Wednesday",
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_discount_and_coupon_fall_together_only_from_a_day_on(seed):
    plan = world(seed).plan
    both = (plan.discount > 0) & (plan.coupon > 0)
    assert not both[:STACKS].any()
    share = both[STACKS:].sum() / (plan.discount[STACKS:] > 0).sum()
    assert 0.2 < share < 0.5
    starts = np.diff(plan.discount, axis=0).any(axis=1).nonzero()[0] + 1
    assert {DAYS[day].day_name() for day in starts} == {"Thursday"}


def test_stacked_effects_overlap():
    here = world(2026)
    plan, effect = here.plan, promotion_effect(here.plan, here.constants)
    apart = promotion_effect(plan, replace(here.constants, overlap=0.0))
    both = ((plan.discount > 0) & (plan.coupon > 0))[:, plan.product]
    assert (effect[both] < apart[both]).all()
    np.testing.assert_array_equal(effect[~both], apart[~both])


@pytest.mark.parametrize("seed", SEEDS)
def test_demand_scatters_around_its_expectation_and_is_nothing_where_nothing_is_sold(seed):
    here = world(seed)
    plan = here.plan
    assert not here.demand[plan.closed].any() and not here.demand[~plan.alive].any()
    assert plan.closed.sum() > 15
    for code in range(len(NAMES)):
        # exp of shocks and weather has a mean of 1.03 or so
        assert ratio(here, np.arange(700), plan.category == code) == pytest.approx(1.03, abs=0.17)
    seen = here.mean[: TEST.stop] > 2
    z = (here.demand[: TEST.stop] / np.where(seen, here.mean[: TEST.stop], 1))[seen]
    assert 0.4 < z.std() < 0.75


def test_a_forecast_of_the_weather_is_right_on_average_and_worse_further_ahead():
    sky = world(3).plan.weather
    days, errors = np.arange(800), {}
    for ahead in (1, 10):
        made = np.stack([sky.forecast(day, np.array([ahead]))[0][0] for day in days])
        wrong = (sky.pattern + sky.noise)[days + ahead] - made
        errors[ahead] = wrong.std()
        assert abs(wrong.mean()) < 0.3
    assert errors[1] < errors[10] < 2
    assert np.abs(sky.rain.mean() - sky.chance.mean()) < 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_launches_openings_closing_and_the_swan_are_there(seed):
    here = world(seed)
    plan = here.plan
    new, old = plan.store == len(plan.stores) - 1, plan.store == 1
    assert plan.alive[OPENS_SECOND:, new].any(axis=0).all()
    assert not plan.alive[:OPENS_SECOND, new].any()
    assert plan.alive[CLOSES - 1, old].any() and not plan.alive[CLOSES:, old].any()
    born = plan.born[(plan.born > 0) & ~new & (plan.store != len(plan.stores) - 2)]
    assert {*born} == {TEST.start, TEST.start + 14, TEST.start + 28, TEST.start + 56}
    pantry = plan.category == NAMES.index("pantry")
    plain = (here.mean / np.exp(promotion_effect(plan, here.constants)))[:, pantry]
    before = plain[SWAN.start - 7 : SWAN.start].sum()
    assert plain[SWAN.start : SWAN.stop].sum() / before == pytest.approx(3, abs=0.3)


# The policy acts -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_units_add_up_and_nothing_is_sold_that_is_not_there(seed):
    played = past(seed)
    came = played.closing + played.sales - feed.evening_stock(played)
    assert (came >= 0).all() and (played.sales <= played.demand).all()
    left = played.closing[-1].sum() - played.waste[-1].sum()
    assert came.sum() == played.sales.sum() + played.waste.sum() + left
    due = played.ordered[: 400 - 3].sum()  # the rest may be on its way
    assert due <= came.sum() <= played.ordered.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_policy_in_force_hides_demand(seed):
    played, plan = past(seed), world(seed).plan
    rows = slice(100, 400)
    lost = 1 - played.sales[rows].sum() / played.demand[rows].sum()
    assert 0.07 < lost < 0.22
    sold_out = (played.closing[rows] == 0) & plan.alive[rows] & ~plan.closed[rows, None]
    assert played.demand[rows][sold_out].mean() > 1.15 * played.sales[rows][sold_out].mean()
    np.testing.assert_array_equal(
        played.demand[rows][~sold_out & plan.alive[rows]],
        played.sales[rows][~sold_out & plan.alive[rows]],
    )


def test_another_policy_meets_the_same_demand_and_changes_what_is_seen_later():
    here, start = world(2), past(2)
    less = play(here, lambda seen, window: incumbent(seen, window) * 0.7, 460, start)
    same = play(here, incumbent, 460, start)
    np.testing.assert_array_equal(less.demand, same.demand)
    assert less.sales.sum() < 0.95 * same.sales.sum()
    assert less.first == same.first == 401


def test_a_day_at_a_time_or_all_at_once_is_one_world():
    here, start = world(2), past(2)
    np.testing.assert_array_equal(play(here, incumbent, 400).sales, start.sales)
    longer = play(here, incumbent, 460)
    np.testing.assert_array_equal(longer.sales[401:], play(here, incumbent, 460, start).sales)


def test_an_empty_shelf_costs_trust_where_the_world_says_so():
    loyal, hurt = simulate(3), simulate(3, Constants(trust=0.3))
    np.testing.assert_array_equal(loyal.demand, hurt.demand)

    def none(seen, window):
        return np.full(len(seen.plan.product), 1.0)

    usual, lost = play(loyal, none, 60), play(hurt, none, 60)
    np.testing.assert_array_equal(usual.demand, loyal.demand[:61])
    assert lost.demand[30:].sum() < 0.5 * usual.demand[30:].sum()


def test_goods_arrive_on_their_day_and_live_as_long_as_they_should():
    here = world(1)
    plan = here.plan

    def once(seen, window):
        due = {WEEKLY: 6, FRESH: 9}[window]
        return np.full(len(plan.product), 500.0 if seen.now == due else 0.0)

    played = play(here, once, 45)
    for life in (1, 7, 14, 28):
        cells = (plan.life == life) & (plan.born == 0)
        days = np.flatnonzero(played.closing[:, cells].any(axis=1))
        first = 10  # a Thursday
        assert (days[0], days[-1]) == (first, first + life - 1)
        assert played.waste[first + life - 1, cells].all()


def test_orders_are_whole_and_not_below_zero():
    assert whole(np.array([-3.0, 0.4, 0.5, np.nan, 7.5])).tolist() == [0, 0, 1, 0, 8]


def test_stock_that_expires_before_the_window_is_not_counted():
    here = world(1)
    played = play(here, incumbent, 41)
    seen = plays.Seen(here.plan, 41, played.sales, played.closing, played.shelf)
    none = np.zeros(len(here.plan.product))
    lasts = seen.usable(WEEKLY, none)
    assert (lasts <= played.shelf.stock).all()
    one_cycle = here.plan.life == 7
    assert not lasts[one_cycle].any() and lasts[here.plan.life == 28].any()
    assert (seen.usable(WEEKLY, none + 1e6) == 0).all()


# What the stores report ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_the_audit_finds_what_was_planted(seed):
    plan, played = world(seed).plan, past(seed)
    rows, planted = feed.reports(world(seed), played)
    found = feed.audit(rows, plan, 401)
    both = found.merge(planted, how="outer", indicator=True)
    table = both.groupby(["fault", "_merge"], observed=True).size().unstack(fill_value=0)
    table = table.reindex(columns=["both", "left_only", "right_only"], fill_value=0)
    exact = table.loc[["missing", "returns", "twice"]]
    assert (exact["both"] > 0).all() and not exact[["left_only", "right_only"]].to_numpy().any()
    pieces = table.loc["pieces"]  # the balance of a day after a missing one is not known
    assert pieces["left_only"] == 0 and pieces["right_only"] <= 0.03 * pieces["both"]
    phantom = table.loc["phantom"]
    assert phantom["both"] / (phantom["both"] + phantom["right_only"]) > 0.8
    assert phantom["both"] / (phantom["both"] + phantom["left_only"]) > 0.7


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_the_repair_gives_back_what_was_sold(seed):
    plan, played = world(seed).plan, past(seed)
    rows, planted = feed.reports(world(seed), played)
    repaired = feed.repair(rows, plan, 401)
    known = ~np.isnan(repaired.sales) & plan.alive[:401]
    wrong = known & (repaired.sales != played.sales[:401])
    assert wrong[~repaired.sold_out].sum() <= 0.2 * (planted["fault"] == "phantom").sum()
    assert known.sum() / plan.alive[:401].sum() > 0.98


def test_clean_reports_have_no_faults():
    plan, played = world(1).plan, past(1)
    found = feed.audit(feed.table(plan, played), plan, 401)
    assert (found["fault"] == "phantom").all() and len(found) < 60  # quiet weeks of slow sellers


def test_a_bad_row_is_refused_with_its_reason_and_a_good_one_is_not():
    plan, played = world(1).plan, past(1)
    rows = feed.table(plan, played).head(6)
    bad = rows.copy()
    bad.loc[0, "sold"] = 1_000_000
    bad.loc[1, "store"] = "S99"
    bad.loc[2, "closing"] = -1
    bad.loc[3, "day"] += pd.Timedelta(hours=5)
    result = feed.accepted(bad, plan)
    assert result.quarantined.index.tolist() == [0, 1, 2, 3]
    assert len(result.accepted) == 2 and len(result.lines) == 4
    assert any("S99" in line and "master data" in line for line in result.lines)
    for broken in (rows.drop(columns="sold"), rows.assign(sold="many"), rows.assign(day="monday")):
        result = feed.accepted(broken, plan)
        assert result.accepted.empty and result.lines
    assert (feed.accepted(rows.assign(sold="7"), plan).accepted["sold"] == 7).all()
    assert feed.accepted(rows.head(0), plan).accepted.empty
