"""Case 03: levels, features, the ladder, and the Sunday run under everything that goes wrong."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from casebook.cases.inventory_demand import benchmarks, feed, fresh, policies, stress, studies
from casebook.cases.inventory_demand import levels as levels_module
from casebook.cases.inventory_demand.demand import DAYS, NAMES, SWITCH, TEST
from casebook.cases.inventory_demand.features import FEATURES, GROUPS, history_rows, rows_at
from casebook.cases.inventory_demand.levels import capped, unannounced
from casebook.cases.inventory_demand.oracle import KINDS, Learnt, Shocks, samples
from casebook.cases.inventory_demand.orders import ABSURD, check_orders
from casebook.cases.inventory_demand.play import FRESH, WEEKLY, Seen, Window, incumbent, joined
from casebook.cases.inventory_demand.policies import (
    LEVELS,
    RATIO,
    Model,
    SafetyStock,
    last_week,
    spread_of,
)
from casebook.cases.inventory_demand.studies import MODEL, ORACLE, RULES, Setting, bill, bills
from casebook.data.contracts import ContractBroken
from casebook.evaluate import conformal
from casebook.forecasting import order_trees
from casebook.forecasting.censored_levels import WARM_UP
from casebook.serving.nights import NightFailed
from casebook.worlds.shelf import Shelf


@cache
def small(seed: int = 5) -> Setting:
    return studies.setting(seed, None, 3)


#: The run's Sunday: a week after the training, so that its levels learn seven days of reports.
DAY = SWITCH + 7


@pytest.fixture(scope="module")
def sunday(tmp_path_factory):
    """Return the run of a small world's Sunday, its reports and stock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks, "setting", lambda seed: small())
        return benchmarks.sunday(tmp_path_factory.mktemp("orders"), weeks=1)


def units(lines: pd.DataFrame) -> pd.Series:
    return lines.set_index(["store", "product"])["units"]


def seen_at(here: Setting, day: int) -> Seen:
    return Seen(here.world.plan, day, here.past.sales[: day + 1], here.past.closing[: day + 1],
                here.past.shelf)  # fmt: skip


# What is learnt, and from when ---------------------------------------------------------------


def test_features_do_not_see_the_days_after_their_evening():
    here = small()
    fresh_levels, training = here.trained()
    levels, day = fresh_levels(), 500
    before = {window: rows_at(levels, day, window).X for window in (WEEKLY, FRESH)}
    for table in (levels.wanted, levels.expected, levels.level):
        table[day + 1 :] = 99.0
    plan = here.world.plan
    sky = replace(plan.weather, noise=plan.weather.noise.copy(), rain=~plan.weather.rain)
    sky.noise[day + 1 :] = 50.0
    levels.plan = replace(plan, weather=sky)
    for window, X in before.items():
        np.testing.assert_array_equal(rows_at(levels, day, window).X, X)
    assert {name for names in GROUPS.values() for name in names} == {*FEATURES}
    with pytest.raises(ValueError, match="ends after the history"):
        history_rows(levels, training.wanted, WEEKLY, [len(training.wanted) - 5], False)


def test_no_window_of_the_training_reaches_into_the_calibration_weeks():
    _, training = small().trained()
    for window in (WEEKLY, FRESH):
        rows, units, late = training.rows(window)
        assert late.any() and (~late).any() and not np.isnan(units).any()
        assert rows.day[~late].max() + window.last < rows.day[late].min()
    sundays, *_ = training.rows(WEEKLY)
    assert {*DAYS.dayofweek[sundays.day]} == {6}


def test_filled_demand_is_nearer_to_the_truth_than_sales_in_every_rhythm():
    here = small()
    hidden, n = here.sold_out, len(here.past.sales)
    for rhythm in (here.world.plan.fresh, ~here.world.plan.fresh):
        where = hidden & rhythm
        where[:100] = False
        true = here.world.demand[:n][where].sum()
        bias = {}
        for way in ("as sold", "kaplan_meier", "tobit"):
            levels = here.trained(way)[0]()
            bias[way] = np.nansum(levels.wanted[:n][where]) / true - 1
        assert bias["as sold"] < -0.25
        assert max(abs(bias["tobit"]), abs(bias["kaplan_meier"])) < 0.15


def test_a_new_cell_starts_where_its_attributes_put_it():
    here = small()
    plan = here.world.plan
    levels, alone = (here.trained("tobit", start)[0]() for start in ("attributes", ""))
    new = (plan.born > SWITCH) & (plan.store == 0)
    true = (here.world.mean / np.maximum(levels.factor, 1e-9))[plan.born[new] + 60, new]
    for table, most in ((levels, 0.8), (alone, np.inf)):
        wrong = np.log(table.level[SWITCH, new] / true)
        assert np.abs(wrong).mean() < most
    assert (alone.level[SWITCH, new] == 1).all()


def test_the_noise_of_a_day_is_a_variance(monkeypatch):
    here, told = small(), []
    made = levels_module.prior

    def spy(X, level, seen, noise):
        told.append(noise)
        return made(X, level, seen, noise)

    monkeypatch.setattr(levels_module, "prior", spy)
    plan, n = here.world.plan, len(here.past.sales)
    levels = levels_module.learn_levels(plan, here.past.sales.astype(float), here.sold_out,
                                        "as sold")  # fmt: skip
    open_ = plan.alive[WARM_UP:n] & ~plan.closed[WARM_UP:n, None]
    expected = np.nan_to_num(levels.expected[WARM_UP:n])
    ratio = (levels.wanted[WARM_UP:n] / np.maximum(expected, 1e-9))[open_ & (expected > 0.5)]
    assert told == pytest.approx([ratio.var()], rel=0.2)  # its levels had no prior yet


def test_a_way_that_drops_days_has_no_window_with_one():
    here = small()
    for window in (FRESH, WEEKLY):
        kept, *_ = here.trained("dropped")[1].rows(window)
        whole, *_ = here.trained("as sold")[1].rows(window)
        hidden = [
            np.any([here.sold_out[rows.day + k, rows.cell] for k in window.ahead], axis=0)
            for rows in (kept, whole)
        ]
        assert not hidden[0].any() and len(kept.day) == len(whole.day) - hidden[1].sum()


def test_the_correction_of_a_life_comes_from_its_own_goods():
    _, training = small().trained()
    rows, units, late = training.rows(WEEKLY)
    for life in (7, 28):
        fitted = training.fit(life, 0.9)
        own = late & (small().world.plan.life[rows.cell] == life)
        base = np.maximum(rows.plan[own], 0.5)
        off = units[own] / base - fitted.model.booster_.predict(rows.X[own])
        assert fitted.shift == pytest.approx(conformal.quantile(off, 0.9))


# The ladder -------------------------------------------------------------------------------------


def test_one_function_orders_for_every_rung(monkeypatch):
    here, calls = small(), []
    made = policies.order

    def counted(*given):
        calls.append(1)
        return made(*given)

    for module in (policies, studies, stress):
        monkeypatch.setattr(module, "order", counted)
    monkeypatch.setattr("casebook.cases.inventory_demand.oracle.order", counted)
    seen = seen_at(here, SWITCH)
    watched = studies.Watched(here.model())
    for name, policy in [*studies.rungs(here, ("tobit",)), ("watched", watched)]:
        if name != studies.USED:  # the planners of the past have their own rule
            before = len(calls)
            policy(seen, WEEKLY)
            assert len(calls) == before + 1, name


def test_the_order_is_the_target_less_what_will_be_left():
    here = small()
    seen, need = seen_at(here, SWITCH), np.full(len(here.world.plan.product), 50.0)
    left = seen.usable(WEEKLY, 3.0)
    np.testing.assert_array_equal(policies.order(need, 3.0, seen, WEEKLY), np.maximum(50 - left, 0))


def test_stock_that_expires_before_the_window_is_sold_first():
    here = small()
    shelf = Shelf(len(here.world.plan.product), 28)
    shelf.ages[:, 2], shelf.ages[:, 10] = 10, 15  # three nights and eleven are left
    seen = replace(seen_at(here, SWITCH), shelf=shelf)
    for before, left in ((0, 15), (8, 15), (18, 7), (40, 0)):
        assert (seen.usable(WEEKLY, np.full(len(shelf.ages), before)) == left).all()


def test_days_added_are_those_on_which_stores_are_open():
    here = small()
    policy, plan = policies.DaysAdded(here.trained()[0]()), here.world.plan
    day = next(k for k in range(SWITCH, TEST.stop) if plan.closed[k + WEEKLY.ahead].sum() == 1)
    policy.levels.level[day], policy.levels.now = 3.0, day
    seen = replace(seen_at(here, SWITCH), now=day)
    safety = policy.target(seen, WEEKLY) - policy.expected(seen, WEEKLY)
    np.testing.assert_allclose(safety, ndtri(policy.z) * np.sqrt(6) * policy.sigma)


def test_a_policy_that_follows_sales_learns_each_day_once():
    here = small()
    fresh_levels, training = here.trained()
    spread = spread_of(training)
    policy = SafetyStock(fresh_levels(), spread)
    whole = here.play(policy, SWITCH + 30)
    again = here.play(SafetyStock(fresh_levels(), spread), SWITCH + 30)
    np.testing.assert_array_equal(whole.sales, again.sales)
    assert policy.levels.now == SWITCH + 29  # the last evening orders nothing
    with pytest.raises(ValueError, match="start anew"):
        policy.caught_up(seen_at(here, SWITCH - 10))


def test_last_week_lets_its_own_sales_fall_and_the_model_does_not():
    here = small()
    rows = {}
    for name, policy in (("last week", last_week), ("model", here.model())):
        played = here.play(policy)
        fill = played.sales.sum(axis=1) / np.maximum(played.demand.sum(axis=1), 1)
        rows[name] = fill[:21].mean(), fill[-42:].mean()
    assert rows["last week"][1] < 0.75 * rows["last week"][0]
    assert rows["model"][1] > 0.85


@pytest.mark.parametrize("seed", [5, 6])
def test_the_ladder_stands_in_its_order(seed):
    here = small(seed)
    table = {}
    keep = (RULES, studies.FILLED, MODEL, ORACLE, studies.NAIVE)
    for name, policy in studies.rungs(here, ("as sold", "tobit"), keep):
        table[name] = bills(here.world, here.play(policy)).set_index("life")
    cost = {name: rows.loc[0, "cost"] for name, rows in table.items()}
    assert cost[ORACLE] < cost[MODEL] < 0.92 * cost[RULES] < cost[studies.NAIVE]
    assert abs(table[MODEL].loc[1, "service"] - RATIO) < 0.08
    for rows in table.values():
        assert rows.loc[0, "cost"] == pytest.approx(rows.drop(0)["cost"].sum())
        parts = rows[["short", "over", "hold"]].sum(axis=1)
        np.testing.assert_allclose(rows["cost"], parts)


def test_the_oracles_draws_are_what_comes():
    here = small()
    cells, hits = np.flatnonzero(~here.world.plan.fresh & (here.world.plan.born == 0)), []
    for day in range(SWITCH, SWITCH + 98, 7):
        drawn = samples(Shocks(here.world), day, WEEKLY, cells, 200)
        hits.append(here.world.demand[day + WEEKLY.ahead][:, cells].sum(axis=0)
                    <= np.quantile(drawn, 0.8, axis=0))  # fmt: skip
    assert np.mean(hits) == pytest.approx(0.8, abs=0.06)
    knows = Shocks(here.world, 28), Learnt(here.world), Shocks(here.world)
    scatter = [samples(each, SWITCH, WEEKLY, cells, 200).std(axis=0).mean() for each in knows]
    assert scatter[0] > 1.02 * scatter[1] and scatter[1] > 1.05 * scatter[2]


def test_what_the_filter_knows_comes_from_past_demand_and_is_as_sure_as_it_is_right():
    here = small()
    knows, rng = Learnt(here.world), np.random.default_rng(0)
    knows.draw(rng, SWITCH, 1)
    before = knows.known.mean.copy()
    true = np.concatenate([here.world.shocks[name][SWITCH] for name in KINDS])
    off = true - before
    assert (off / np.sqrt(np.diag(knows.known.cov))).std() == pytest.approx(1.0, abs=0.25)
    assert off.std() < 0.9 * true.std()
    later = replace(here.world, demand=here.world.demand.copy())
    later.demand[SWITCH + 1 :] = 99
    other = Learnt(later)
    other.draw(rng, SWITCH, 1)
    np.testing.assert_array_equal(other.known.mean, before)
    with pytest.raises(ValueError, match="start anew"):
        knows.draw(rng, SWITCH - 1, 1)


def test_the_bill_counts_what_was_played():
    here = small()
    played = here.play(here.model(), TEST.start + 13)
    days, cells = range(TEST.start, TEST.start + 14), np.arange(len(here.world.plan.product))
    found = bill(here.world, played, cells, days)
    rows = played.days(days)
    missed = played.demand[rows] - played.sales[rows]
    assert found["short"] == 5 * missed.sum() and found["over"] == 2 * played.waste[rows].sum()
    assert found["hold"] == pytest.approx(0.02 * played.closing[rows].sum()) and found["hold"] > 0
    assert found["cost"] == pytest.approx(found["short"] + found["over"] + found["hold"])
    assert found["fill"] == pytest.approx(1 - missed.sum() / played.demand[rows].sum())
    weekly = np.flatnonzero(~here.world.plan.fresh)
    part = bill(here.world, played, weekly, days)
    asked = here.world.plan.alive[days.start : days.stop][:, weekly].reshape(2, 7, -1).any(axis=1)
    empty = (missed[:, weekly] > 0).reshape(2, 7, -1).any(axis=1)
    assert part["service"] == pytest.approx(1 - (empty & asked).sum() / asked.sum())


# What breaks orders ----------------------------------------------------------------------


def test_a_horizon_of_seven_days_misses_the_days_that_it_orders_for():
    assert [DAYS[SWITCH + k].day_name() for k in (4, 10)] == ["Thursday", "Wednesday"]
    here = small()
    right, wrong = here.model(), stress.Short(here.trained()[0](), here.model().fitted)
    seen = seen_at(here, SWITCH)
    assert (right.target(seen, FRESH) == wrong.target(seen, FRESH)).all()
    assert np.abs(right.target(seen, WEEKLY) - wrong.target(seen, WEEKLY)).sum() > 100


def test_a_cap_is_the_largest_single_effect_of_the_category_and_cuts_stacked_days_only():
    here = small()
    plan, levels = here.world.plan, here.trained()[0]()
    made, alone = capped(levels, SWITCH + 1), (plan.discount > 0) != (plan.coupon > 0)
    open_ = ~plan.closed
    effect, limited = levels.factor[open_] / levels.plain[open_], made[open_] / levels.plain[open_]
    single, both = (m[open_][:, plan.product] for m in (alone, (plan.discount * plan.coupon) > 0))
    cut = limited < effect - 1e-9
    assert cut[both].mean() > 0.3 and not cut[~both].any()
    before = np.flatnonzero(open_) <= SWITCH
    for code in range(len(NAMES)):
        own = plan.category == code
        most = effect[before][:, own][single[before][:, own]].max()
        assert limited[:, own].max() == pytest.approx(most)


def test_goods_that_keep_are_billed_at_their_own_prices():
    assert stress.prices_of(7).over == pytest.approx(2)
    assert stress.prices_of(28).over < 0.2


def test_vans_split_the_true_demand_and_every_schedule_sees_the_same():
    here = small()
    parts = fresh.quarters(here.world, TEST)
    np.testing.assert_array_equal(parts.sum(axis=0), here.world.demand[TEST.start : TEST.stop])


# The Sunday run --------------------------------------------------------------------------


def test_a_sunday_run_writes_the_same_file_twice_and_keeps_its_contract(sunday):
    run, reports, shelf = sunday
    first = run.run(reports, DAY, shelf)
    text = first.path.read_bytes()
    assert run.run(reports.sample(frac=1, random_state=0), DAY, shelf).path.read_bytes() == text
    table = pd.read_csv(first.path)
    check_orders(table, run.plan, run.terms)
    assert first.source == "model" and (table["units"] == table["cases"] * table["pack"]).all()
    lives = run.plan.products.set_index("product")["life"]
    assert (lives[table["product"]] > 1).all()
    check_orders(table.head(0), run.plan, run.terms)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"units": 7777}, "units"),
        ({"cases": 61}, "cases"),
        ({"store": "S77"}, "unknown store"),
        ({"source": "nobody"}, "nobody that may order"),
        ({"pack": 0}, "pack"),
        ({"pack": 1, "units": 1, "cases": 1}, "another pack than agreed"),
        ({"cases": 0, "units": 0}, "cases"),
        ({"product": "bakery-01"}, "unknown product"),
    ],
)
def test_a_bad_line_of_an_order_file_is_refused(sunday, change, says):
    run, reports, shelf = sunday
    lines = run.run(reports, DAY, shelf).lines.copy()
    lines.loc[0, [*change]] = [*change.values()]
    with pytest.raises(ContractBroken, match=says):
        check_orders(lines, run.plan, run.terms)
    with pytest.raises(ContractBroken, match="twice"):
        check_orders(pd.concat([lines.iloc[1:2], lines.iloc[1:2]]), run.plan, run.terms)
    with pytest.raises(ContractBroken, match="for more than 90 euro"):
        check_orders(lines.iloc[1:], run.plan, replace(run.terms, budget=90.0))


def test_rungs_stand_in_and_say_why(sunday):
    run, reports, shelf = sunday
    run = copy.copy(run)
    usual = run.run(reports, DAY, shelf)
    blind = run.run(reports, DAY, shelf, weather=False)
    assert blind.source == "model without weather" and "has not come" in blind.notes[-1]
    plain = run.run(reports, DAY, shelf, promotions=False)
    assert any("confirm" in note for note in plain.notes)
    assert plain.lines["units"].sum() != usual.lines["units"].sum()
    run.fitted = None
    textbook = run.run(reports, DAY, shelf)
    assert textbook.source == "safety stock" and "train it again" in textbook.notes[-1]

    class Broken:
        def order(self, X, plan):
            return np.full(len(X), np.nan)

    run.fitted = dict.fromkeys(LEVELS, Broken())
    assert run.run(reports, DAY, shelf).source == "safety stock"
    assert 0.5 < textbook.lines["units"].sum() / usual.lines["units"].sum() < 1.5


def test_when_no_rung_works_the_old_file_stays(sunday, monkeypatch):
    run, reports, shelf = sunday
    text = run.run(reports, DAY, shelf).path.read_bytes()

    def fails(*_):
        raise RuntimeError("disk")

    for name in ("Model", "SafetyStock", "last_week"):
        monkeypatch.setattr(f"casebook.cases.inventory_demand.orders.{name}", fails)
    with pytest.raises(NightFailed, match="disk"):
        run.run(reports, DAY, shelf)
    assert run.path(DAY).read_bytes() == text


def test_what_a_report_says_moves_the_plan_and_one_absurd_report_does_not(sunday):
    run, reports, shelf = sunday
    usual = units(run.run(reports, DAY, shelf).lines)
    week = (reports["day"] > DAYS[SWITCH]) & (reports["product"] == "dairy-01")
    busy = reports.assign(
        sold=np.where(week, 3 * reports["sold"], reports["sold"]),
        delivered=reports["delivered"] + np.where(week, 2 * reports["sold"], 0),
    )
    moved = units(run.run(busy, DAY, shelf).lines) / usual
    assert moved.xs("dairy-01", level="product").max() > 1.3  # fmt: skip
    bad = reports.copy()
    last = bad.index[(bad["day"] == DAYS[DAY]) & (bad["product"] == "dairy-01")]
    bad.loc[last[0], "sold"] = 1_000_000
    bad.loc[last[1], "sold"] = feed.MOST  # as much as the contract lets in
    made = run.run(bad, DAY, shelf)
    assert any("quarantine" in note and "count again" in note for note in made.notes)
    assert any(note.startswith("absurd: 1 rows") for note in made.notes)
    bad.loc[last[1], "delivered"] += feed.MOST - reports.loc[last[1], "sold"]  # and adds up
    for rows in (bad, bad.assign(delivered=reports["delivered"])):
        again = units(run.run(rows, DAY, shelf).lines).reindex(usual.index, fill_value=0)
        off = (again - usual).abs()
        assert off.median() == 0 and off.max() <= 2 * run.terms.pack.max()


def test_one_value_that_is_none_costs_one_row(sunday):
    run, reports, shelf = sunday
    usual = units(run.run(reports, DAY, shelf).lines)
    text = reports.astype({"sold": object})
    text.loc[5, "sold"] = str(text.loc[5, "sold"])
    blank = reports.astype({"closing": float})
    blank.loc[5, "closing"] = np.nan
    few = reports.astype({"sold": "int32", "store": "category", "product": "string"})
    for rows in (text, blank, few, reports.assign(day=reports["day"].astype(str))):
        pd.testing.assert_series_equal(units(run.run(rows, DAY, shelf).lines), usual)
    assert len(feed.accepted(blank, run.plan).quarantined) == 1
    with pytest.raises(ValueError, match="column 'day' is missing"):
        run.run(reports.drop(columns="day"), DAY, shelf)


def test_rows_that_say_two_things_and_days_to_come_are_refused_in_any_order(sunday):
    run, reports, _ = sunday
    rows = reports[reports["day"] > DAYS[DAY - 3]].drop_duplicates(feed.KEYS)
    other = rows.head(3).assign(sold=77)
    for both in (pd.concat([rows, other]), pd.concat([other, rows])):
        found = feed.accepted(both, run.plan, DAY)
        assert len(found.quarantined) == 6 and "two rows that differ" in found.lines[0]
    late = rows.head(2).assign(day=DAYS[DAY + 1])
    found = feed.accepted(pd.concat([rows, late]), run.plan, DAY)
    assert len(found.quarantined) == 2 and "has not come" in found.lines[0]


def test_a_silent_store_is_told_and_two_of_three_stop_the_run(sunday):
    run, reports, shelf = sunday
    recent = reports["day"] > DAYS[DAY - 5]
    made = run.run(reports[~(recent & (reports["store"] == "S01"))], DAY, shelf)
    assert any(note.startswith("silent: S01") for note in made.notes)
    with pytest.raises(ValueError, match="from S01, S02: ask the stores"):
        run.run(reports[~recent], DAY, shelf)
    one = reports.index[reports["day"] == DAYS[DAY]][:1]  # a row is no report
    with pytest.raises(ValueError, match="ask the stores"):
        run.run(reports[~recent | reports.index.isin(one)], DAY, shelf)


def test_a_ledger_of_another_evening_is_refused(sunday):
    run, reports, shelf = sunday
    for change in (lambda a: a * 0, lambda a: a + 100_000, lambda a: a[:-1], lambda a: a - 1,
                   lambda a: a * np.nan):  # fmt: skip
        other = shelf.copy()
        other.ages = change(other.ages)
        with pytest.raises(ValueError, match="ledger"):
            run.run(reports, DAY, other)


def test_a_model_that_orders_too_little_or_not_all_goods_is_passed_over(sunday):
    run, reports, shelf = sunday
    whole = run.fitted

    class Little:
        def order(self, X, plan):
            return 0.05 * plan

    for fitted, says in (
        (dict.fromkeys(LEVELS, Little()), "of produce, at least"),
        ({life: made for life, made in whole.items() if life != 7}, r"lacks goods that live \[7\]"),
    ):
        made = replace(run, fitted=fitted).run(reports, DAY, shelf)
        assert made.source == "safety stock" and re.search(says, made.notes[-1])
    for ratios in ({}, {**run.ratios, 7: np.array([np.nan])}):
        with pytest.raises(ValueError, match="train it again"):
            replace(run, ratios=ratios)
    for budget in (0.0, -5.0, np.nan):
        with pytest.raises(ValueError, match="budget"):
            replace(run.terms, budget=budget)
    with pytest.raises(ValueError, match="0 lines"):  # nothing is written
        replace(run, terms=replace(run.terms, budget=0.01)).run(reports, DAY, shelf)


@pytest.mark.parametrize("broken", ["raises", "nan", "hot"])
def test_a_forecast_of_the_weather_that_is_none_leaves_the_model(sunday, broken):
    run, reports, shelf = sunday

    class Sky:
        def __getattr__(self, name):
            return getattr(run.plan.weather, name)

        def forecast(self, day, ahead):
            if broken == "raises":
                raise OSError("no forecast")
            degrees, rain = run.plan.weather.forecast(day, ahead)
            return degrees * np.nan if broken == "nan" else degrees + 500, rain

    bad = replace(run, plan=replace(run.plan, weather=Sky()))
    made = bad.run(reports, DAY, shelf)
    assert made.source == "model without weather" and "forecast" in made.notes[-1]


def test_lines_that_were_cut_are_told_in_the_notes_beside_the_file(sunday):
    run, reports, shelf = sunday
    many = replace(run, terms=replace(run.terms, pack=np.ones_like(run.terms.pack)))
    made = many.run(reports, DAY, shelf)
    assert made.lines["cases"].max() == 60
    cut = [note for note in made.notes if note.endswith("more than 60 cases, cut")]
    assert cut and cut[0] in made.path.with_suffix(".notes").read_text()
    none = replace(run.plan, discount=run.plan.discount * 0, coupon=run.plan.coupon * 0)
    made = replace(run, plan=none).run(reports, DAY, shelf)
    assert any("ask the buyers" in note for note in made.notes)


def test_weeks_that_are_not_known_are_no_weeks_of_nothing(sunday):
    run, reports, shelf = sunday
    gone = (reports["store"] == "S01") & (reports["day"] > DAYS[DAY - 35])
    made = run.run(reports[~gone], DAY, shelf)
    assert not any("cut to" in note for note in made.notes)
    before = units(run.run(reports, DAY, shelf).lines)["S01"].sum()
    assert 0.6 < units(made.lines)["S01"].sum() / before < 1.6


def test_a_target_beyond_the_last_weeks_is_cut_and_told(sunday):
    run, notes = sunday[0], []
    here = small()
    seen = seen_at(here, SWITCH)
    usual = np.median(seen.sales[-56:].reshape(8, 7, -1).sum(axis=1), axis=0)
    target = usual.copy()
    cell = int(np.flatnonzero((run.plan.life == 7) & (usual > 10))[0])
    target[cell] = 50 * usual[cell]
    young = int(np.flatnonzero(run.plan.born > SWITCH)[0])
    target[young] = 1e6
    made = run._sane(target, seen, notes)
    assert made[cell] == ABSURD * usual[cell] and made[young] < 2_000
    assert len(notes) == 2 and all("cut to" in note for note in notes)
    both = [cell, young]
    np.testing.assert_array_equal(np.delete(made, both), np.delete(target, both))


def test_days_and_reports_that_cannot_be_are_refused(sunday):
    run, reports, shelf = sunday
    for day in (DAY - 1, 6, 13, 924, 10**6, -1, DAYS[DAY], DAY + 0.5):
        with pytest.raises(ValueError, match="no Sunday"):
            run.run(reports, day, shelf)
    for rows in (reports.head(0), reports[reports["day"] < DAYS[DAY - 10]]):
        with pytest.raises(ValueError, match="ask the stores"):
            run.run(rows, DAY, shelf)
    with pytest.raises(ValueError, match="ask the stores"):
        run.run(reports.assign(sold="many"), DAY, shelf)


def test_orders_that_were_sent_are_not_run_again(sunday, tmp_path):
    run, reports, shelf = sunday
    run = copy.copy(run)
    run.folder = tmp_path
    made = run.run(reports, DAY, shelf)
    made.path.with_suffix(".sent").touch()
    with pytest.raises(ValueError, match="have been sent"):
        run.run(reports, DAY, shelf)


def test_a_budget_is_kept_in_every_store_and_its_worth_is_told(sunday):
    run, reports, shelf = sunday
    run = copy.copy(run)
    free = run.run(reports, DAY, shelf)
    run.terms = replace(run.terms, budget=500.0)
    bound = run.run(reports, DAY, shelf)
    price = run.plan.products.set_index("product")["price"]
    spent = 0.6 * price[bound.lines["product"]].to_numpy() * bound.lines["units"]
    assert spent.groupby(bound.lines["store"]).sum().max() <= 500
    assert (free.worth == 0).all() and (bound.worth > 0).any()
    assert bound.lines["units"].sum() < free.lines["units"].sum()


def test_promotions_that_have_not_come_are_in_no_factor_and_in_no_feature():
    here = small()
    known = here.trained()[0]()
    plan, factor, names = here.world.plan, known.factor, FEATURES.index
    blind = unannounced(known, SWITCH)
    np.testing.assert_array_equal(blind.factor[: SWITCH + 1], factor[: SWITCH + 1])
    days = SWITCH + Window(1, 10).ahead
    hit = (plan.discount[days] + plan.coupon[days] > 0)[:, plan.product]
    np.testing.assert_allclose(blind.factor[days][~hit], factor[days][~hit])
    assert blind.factor[days][hit].sum() < factor[days][hit].sum()
    ahead = [names(name) for name in ("discount", "coupon", "stacked")]
    assert rows_at(known, SWITCH, WEEKLY).X[:, ahead].any()
    other = rows_at(blind, SWITCH, WEEKLY).X
    assert not other[:, ahead].any()
    # What was promoted until this evening is known.
    since = names("since_promotion")
    np.testing.assert_array_equal(other[:, since], rows_at(known, SWITCH, WEEKLY).X[:, since])


def test_neither_the_run_nor_the_study_sees_promotions_that_have_not_come(sunday, monkeypatch):
    run, reports, shelf = sunday
    here, seen_X = small(), []
    asked = order_trees.Fitted.order

    def spy(self, X, plan):
        seen_X.append(X)
        return asked(self, X, plan)

    monkeypatch.setattr(order_trees.Fitted, "order", spy)
    run.run(reports, DAY, shelf, promotions=False)
    blind = stress.Blind(here.trained()[0](), here.model().fitted)
    before = len(seen_X)
    blind.target(seen_at(here, SWITCH), WEEKLY)
    assert 0 < before < len(seen_X)
    ahead = [FEATURES.index(name) for name in ("discount", "coupon", "stacked")]
    assert not any(X[:, ahead].any() for X in seen_X)
    assert blind.levels.plan.discount[SWITCH + 1 :].any()  # it forgets nothing


def test_the_last_rung_orders_for_a_store_that_missed_a_report(sunday):
    run, reports, shelf = sunday
    run = copy.copy(run)
    run.fitted, run.spread = None, None
    whole = run.run(reports, DAY, shelf)
    gone = (reports["store"] == "S01") & (reports["day"] == DAYS[DAY - 1])
    less = run.run(reports[~gone], DAY, shelf)
    for made in (whole, less):
        assert made.source == "last week" and "no spread was learnt" in made.notes[-1]
        sold = run.plan.alive[DAY + WEEKLY.ahead].any(axis=0)
        names = run.plan.products["product"].to_numpy()[run.plan.product[sold]]
        places = run.plan.stores["store"].to_numpy()[run.plan.store[sold]]
        lines = zip(made.lines["store"], made.lines["product"], strict=True)
        assert {*lines} <= {*zip(places, names, strict=True)}
    made = [m.lines.groupby("store")["units"].sum() for m in (whole, less)]
    assert made[1]["S01"] == pytest.approx(made[0]["S01"], rel=0.2)
    assert made[1].drop("S01").equals(made[0].drop("S01"))


def test_the_season_of_the_last_rung_is_that_of_the_store_ledger(sunday):
    run, reports, shelf = sunday
    told = run.seen(reports, DAY, shelf, [])
    played = joined(small().past, small().play(incumbent, DAY))
    own = Seen(run.plan, DAY, played.sales, played.closing, shelf)
    index = [policies.season_index(seen, WEEKLY) for seen in (told, own)]
    assert (index[1] != 1).all()
    np.testing.assert_allclose(index[0], index[1], rtol=0.1)


def test_without_levels_the_last_rung_orders(sunday):
    run, reports, shelf = sunday
    run = copy.copy(run)

    def gone():
        raise FileNotFoundError("levels.pkl")

    run.fresh_levels = gone
    made = run.run(reports, DAY, shelf)
    assert made.source == "last week" and "levels.pkl" in made.notes[-1]


def test_the_service_and_the_page_order_by_the_same_function(sunday):
    """The Sunday run's targets are those of the policy that was billed in the world."""
    run, reports, shelf = sunday
    mended = feed.repair(feed.accepted(reports, run.plan).accepted, run.plan, DAY + 1)
    seen = Seen(run.plan, DAY, mended.sales, np.where(mended.sold_out, 0, 1), shelf)
    target, _, source = run._target(seen, True, True, [])
    model = Model(run.fresh_levels(), run.fitted)
    weekly = ~run.plan.fresh
    sold = run.plan.alive[DAY + WEEKLY.ahead].any(axis=0)
    made = np.where(sold, model.target(seen, WEEKLY), 0)
    np.testing.assert_allclose(target[weekly], made[weekly])
    assert source == "model"
