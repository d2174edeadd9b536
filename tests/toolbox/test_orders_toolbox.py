"""The newsvendor, demand behind sales, levels, cases within a budget and vans."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.data.sales import online_retail
from casebook.forecasting import order_ladder, order_trees
from casebook.forecasting.cases import Terms, cases_of, within_budget, worth_of_cases
from casebook.forecasting.censored_levels import Levels, drawn, follow, tails_of
from casebook.forecasting.credibility import Prior, prior
from casebook.forecasting.intraday import Day, Vans, ordered, shape_of
from casebook.forecasting.newsvendor import (
    cost,
    critical_ratio,
    order_at,
    over_for,
    over_plan,
    safety_stock,
    window_spread,
)
from casebook.forecasting.order_ladder import ladder
from casebook.forecasting.unconstrain import Curve, SquaredNormal, tobit
from casebook.worlds.shelf import Shelf

# The newsvendor ------------------------------------------------------------------------------


@pytest.mark.parametrize(("short", "over"), [(5, 2), (5, 0.263), (1, 9)])
def test_no_order_is_cheaper_than_the_quantile_at_the_critical_ratio(short, over):
    demand = np.random.default_rng(0).poisson(12.0, 4000)
    best = order_at(demand, critical_ratio(short, over))
    bill = {q: cost(demand, q, short, over).mean() for q in range(40)}
    assert bill[int(best)] == min(bill.values())
    assert over_for(critical_ratio(short, over), short) == pytest.approx(over)


def test_the_wrong_ratio_of_five_and_two_costs_more():
    demand = np.random.default_rng(1).gamma(4.0, 3.0, 50_000)
    bill = {share: cost(demand, np.quantile(demand, share), 5, 2).mean()
            for share in (5 / 7, 0.83, 0.95, 0.5)}  # fmt: skip
    assert min(bill, key=bill.get) == 5 / 7
    assert bill[0.95] > bill[0.5] > bill[5 / 7]


def test_costs_and_levels_that_are_none_are_refused():
    for costs in ((0, 2), (5, -1), (np.nan, 2), (np.inf, 2)):
        with pytest.raises(ValueError, match="numbers above 0"):
            critical_ratio(*costs)
    for values, level in (([], 0.5), ([1.0, np.nan], 0.5), ([1.0], 1.0)):
        with pytest.raises(ValueError, match="give known ones"):
            order_at(values, level)


def test_the_textbooks_formula_is_the_spread_of_a_sum():
    rng = np.random.default_rng(0)
    sums = rng.normal(10, 3, (40_000, 7)).sum(axis=1)
    assert 70 + safety_stock(3.0, 7, 0.9) == pytest.approx(np.quantile(sums, 0.9), rel=0.01)
    leads = rng.normal(7, 1, 40_000)
    sums = rng.normal(10 * leads, 3 * np.sqrt(np.maximum(leads, 0)))
    made = 70 + safety_stock(3.0, 7, 0.9, mean=10.0, lead_sd=1.0)
    assert made == pytest.approx(np.quantile(sums, 0.9), rel=0.02)


def test_the_spread_of_windows_holds_where_days_move_together():
    rng = np.random.default_rng(0)
    cell = np.repeat([0, 1], 4000)
    plan = np.array([40.0, 80.0])[cell]
    shared = rng.normal(0, 2, 8000)  # of all seven days of a window
    wanted = plan + (rng.normal(0, 3, (8000, 7)) + shared[:, None]).sum(axis=1)
    spread = window_spread(wanted, plan, cell, 3)
    for own in (cell == 0, cell == 1):
        suffices = wanted[own] <= over_plan(plan, spread[cell], 0.9)[own]
        assert suffices.mean() == pytest.approx(0.9, abs=0.02)
        days = (wanted - plan)[own].std() / np.sqrt(7)
        assert safety_stock(3.0, 7, 0.9) < 0.6 * safety_stock(days, 7, 0.9)
    assert spread[2] == pytest.approx(np.sqrt((spread[:2] ** 2).mean()))  # it was never seen
    # A promoted window of the same cell is as uncertain as its plan is large.
    assert over_plan(80.0, spread[0], 0.9) - 80 > 1.5 * (over_plan(40.0, spread[0], 0.9) - 40)


# Demand behind sales ----------------------------------------------------------------------------


def hidden(n: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a covariate, true values, what was seen, and what was hidden."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    y = 1 + 0.5 * x + 0.7 * rng.normal(size=n)
    limit = 1.2 + 0.5 * rng.normal(size=n)
    return x, y, np.minimum(y, limit), y > limit


def test_tobit_agrees_with_lifelines():
    from lifelines import LogNormalAFTFitter

    x, _, seen, out = hidden()
    ours = tobit(np.column_stack([np.ones(len(x)), x]), seen, out)
    frame = pd.DataFrame({"T": np.exp(seen), "E": ~out, "x": x})
    theirs = LogNormalAFTFitter().fit(frame, "T", "E").params_
    assert ours.beta[0] == pytest.approx(theirs["mu_", "Intercept"], abs=1e-4)
    assert ours.beta[1] == pytest.approx(theirs["mu_", "x"], abs=1e-4)
    assert ours.sigma == pytest.approx(np.exp(theirs["sigma_", "Intercept"]), rel=1e-4)


def test_the_curve_agrees_with_lifelines():
    from lifelines import KaplanMeierFitter

    _, _, seen, out = hidden(400)
    ours = Curve(np.exp(seen), out)
    theirs = KaplanMeierFitter().fit(np.exp(seen), ~out).survival_function_.iloc[:, 0]
    for bound in (0.5, 1.7, 3.0):
        left = theirs[theirs.index < bound].iloc[-1]
        mass = -theirs.diff().fillna(0)[theirs.index >= bound]
        top = np.exp(seen).max() * theirs.iloc[-1]
        mean = ((mass * mass.index).sum() + top) / left
        assert ours.mean_above(np.array([bound]))[0] == pytest.approx(mean, rel=1e-9)


def test_both_ways_find_what_dropping_and_taking_it_as_seen_do_not():
    _, y, seen, out = hidden()
    fit = tobit(np.ones((len(y), 1)), seen, out)
    true = y.mean()
    assert abs(fit.beta[0] - true) < 0.05 < true - seen.mean() < true - seen[~out].mean()


@pytest.mark.parametrize("tail", [SquaredNormal(1.0, 0.3), Curve([0.5, 1, 1.5, 2], [0, 0, 1, 0])])
def test_draws_of_a_tail_have_its_mean_and_keep_its_bound(tail):
    luck = (np.arange(20_000) + 0.5) / 20_000
    for bound in (0.0, 0.8, 1.4, 5.0):
        made = tail.draw_above(np.full(len(luck), bound), luck)
        assert made.min() >= bound
        assert made.mean() == pytest.approx(tail.mean_above(np.array([bound]))[0], rel=0.02)


def test_too_little_that_is_known_is_refused():
    with pytest.raises(ValueError, match="two at least"):
        tobit(np.ones((3, 1)), [1, 2, 3], [True, True, False])
    with pytest.raises(ValueError, match="needs one"):
        Curve([1.0, 2.0], [True, True])


def cells(way: str, tails=None, n: int = 300) -> tuple[Levels, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    demand = rng.poisson(8.0, (n, 40)).astype(float)
    stock = rng.integers(5, 13, demand.shape)
    sold, ones = np.minimum(demand, stock), np.ones(demand.shape)
    start = Prior(np.full(40, 8.0), 3.0)
    group = np.zeros(40, int)
    levels = Levels(ones, ones > 0, group, way, tails or {}, start)
    return follow(levels, sold, demand >= stock), demand, sold, demand >= stock


@pytest.mark.parametrize("way", ["kaplan_meier", "tobit"])
def test_levels_that_fill_find_the_level_that_sales_hide(way):
    plain, demand, sold, out = cells("as sold")
    levels = plain
    for _ in range(6):  # levels and tails need each other
        levels.way, before = way, levels
        levels, *_ = cells(way, tails_of(before, sold, out))
    assert plain.level[-100:].mean() < 0.93 * 8 < 0.95 * 8 < levels.level[-100:].mean() < 1.07 * 8
    made = drawn(levels, sold, out)
    assert (made >= sold).all()
    assert made[56:].std() == pytest.approx(demand[56:].std(), rel=0.15)
    assert np.nanstd(levels.wanted[56:300]) < 0.9 * made[56:].std()  # means have no scatter


def test_levels_learn_days_in_order_and_do_not_look_ahead():
    first, _, sold, out = cells("as sold")
    changed = sold.copy()
    changed[200:] = 0
    ones = np.ones(sold.shape)
    other = Levels(ones, ones > 0, np.zeros(40, int), "as sold", {}, Prior(np.full(40, 8.0), 3.0))
    follow(other, changed, out)
    np.testing.assert_array_equal(first.level[:200], other.level[:200])
    assert (first.level[200] != other.level[200]).any()
    with pytest.raises(ValueError, match="in order"):
        first.learn(5, sold[5], out[5])
    with pytest.raises(ValueError, match="one of"):
        Levels(ones, ones > 0, np.zeros(40, int), "guessed")


def test_a_day_that_is_unknown_or_empty_from_the_morning_moves_nothing():
    levels, _, sold, _ = cells("tobit", {(0, k): SquaredNormal(1.0, 0.3) for k in range(4)}, 60)
    more = Levels(np.ones((61, 40)), np.ones((61, 40), bool), levels.group, "tobit", levels.tails,
                  levels.prior)  # fmt: skip
    follow(more, sold, np.zeros(sold.shape, bool))
    before = more.level[59].copy()
    unknown = np.full(40, np.nan)
    unknown[:20] = 0.0
    more.learn(60, unknown, np.ones(40, bool))
    faded = (more.level[60] - before) / before
    assert np.abs(faded).max() < 0.05  # only the prior gains a little weight


def test_credibility_weighs_noise_against_spread():
    X, seen = np.ones((400, 1)), np.full(400, 200.0)
    level = np.exp(0.5 * np.random.default_rng(0).standard_normal(400))
    assert prior(X, level, seen, 0.25).days == pytest.approx(1.0, rel=0.2)
    assert prior(X, level, seen, 2.5).days == pytest.approx(10.0, rel=0.2)
    with pytest.raises(ValueError, match="no cell"):
        prior(X, level, np.zeros(400), 0.25)


# Orders --------------------------------------------------------------------------------------


def test_the_trees_cover_their_level_on_rows_that_they_have_not_seen():
    rng = np.random.default_rng(0)
    plan = rng.uniform(2, 20, 9000)
    X = np.column_stack([plan, rng.normal(size=9000)])
    units = rng.poisson(plan * np.exp(0.3 * X[:, 1]))
    part = np.arange(9000) // 3000
    model = order_trees.fit(X[part < 2], units[part < 2], plan[part < 2], part[part < 2] == 1, 0.8)
    test = part == 2
    assert (units[test] <= model.order(X[test], plan[test])).mean() == pytest.approx(0.8, abs=0.03)
    more = np.where(part > 0, units + rng.poisson(0.3 * plan), units)  # demand has grown since
    share = {}
    for correct in (True, False):
        old = part < 2
        model = order_trees.fit(X[old], more[old], plan[old], part[old] == 1, 0.8, correct=correct)
        share[correct] = (more[test] <= model.order(X[test], plan[test])).mean()
    assert share[True] == pytest.approx(0.8, abs=0.03) and share[False] < 0.7
    with pytest.raises(ValueError, match="calibrate"):
        order_trees.fit(X, units, plan, np.zeros(9000, bool), 0.8)


def test_an_order_counts_from_the_plan_that_its_labels_were_counted_from():
    rng = np.random.default_rng(0)
    plan, late = np.full(6000, 0.2), np.arange(6000) % 2 == 0
    X, units = rng.normal(size=(6000, 1)), rng.poisson(2.0, 6000)
    model = order_trees.fit(X, units, plan, late, 0.8)
    assert (units <= model.order(X, plan)).mean() == pytest.approx(0.857, abs=0.02)  # P(<= 3)
    assert not model.order(X, plan * 0).any()


def test_the_programme_chooses_what_worth_by_euro_would():
    rng = np.random.default_rng(2)
    demand = rng.poisson(rng.uniform(2, 30, 12)[:, None], (12, 50)).astype(float)
    pack = rng.integers(2, 8, 12)
    price = rng.uniform(1, 9, 12)
    worth = worth_of_cases(demand, np.zeros(12), pack, 5.0, np.full(12, 2.0), 20)
    assert (np.diff(worth, axis=1) <= 1e-9).all()
    free, nothing = within_budget(worth, price)
    assert nothing == 0 and (free == (worth > 1e-9).sum(axis=1)).all()
    cap = 0.5 * (free * price).sum()
    chosen, value = within_budget(worth, price, cap)
    row, k = np.nonzero(worth > 1e-9)
    order = np.argsort(-worth[row, k] / price[row], kind="stable")
    spent = price[row[order]].cumsum()
    greedy = np.bincount(row[order[spent <= cap]], minlength=12)
    assert (chosen * price).sum() <= cap
    assert np.abs(chosen - greedy).sum() <= 1
    dual = (worth[row, k] / price[row])[order[np.flatnonzero(spent > cap)[0]]]
    assert value == pytest.approx(dual, rel=1e-6)


def test_what_is_left_of_a_budget_buys_the_case_that_it_still_pays():
    worth = np.array([[9.0, 1.0], [7.0, 1.0]])
    chosen, _ = within_budget(worth, np.array([10.0, 8.0]), 9.0)
    assert chosen.tolist() == [0, 1]  # the programme splits the first one


def test_terms_and_cases_that_cannot_be_are_refused():
    one = np.ones(2)
    for name, value in (("pack", one * 0), ("pack", one * 1.5), ("price", one * np.nan),
                        ("budget", np.nan), ("budget", 0.0)):  # fmt: skip
        change = {name: value}
        with pytest.raises(ValueError, match=r"above 0|more than 0"):
            Terms(**{"pack": one, "price": one, **change})
    demand = np.full((2, 4), 200.0)
    cases, _, cut = cases_of(demand, np.zeros(2), np.arange(2), Terms(one * 4, one), 5.0, one * 2)
    assert cases.tolist() == [50, 50] and not cut.any()
    cases, _, cut = cases_of(demand, np.zeros(2), np.arange(2), Terms(one * 2, one), 5.0, one * 2)
    assert cases.tolist() == [60, 60] and cut.all()
    for bad in (demand * np.nan, demand * np.inf):
        with pytest.raises(ValueError, match="2 cells is no number"):
            cases_of(bad, np.zeros(2), np.arange(2), Terms(one, one), 5.0, one)


@pytest.mark.parametrize(
    "vans",
    [
        {"shares": (0.5, 1.5)},
        {"shares": (0.5, 0.5), "arrivals": (1,)},
        {"shares": (0.5, 0.5), "arrivals": (0, 1, 1)},
        {"shares": (0.5, 0.5), "arrivals": (0, 2)},
        {"shares": (1.0,), "extra": np.nan},
    ],
)
def test_vans_and_days_that_cannot_be_are_refused(vans):
    with pytest.raises(ValueError, match=r"one together|each arrival"):
        Vans(**vans)
    for mean, shape in ((0.0, 5.0), (np.nan, 5.0), (3.0, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            Day(np.array([mean]), shape)


def test_a_second_van_helps_and_a_forecast_without_a_van_does_not():
    rng = np.random.default_rng(0)
    rate = rng.gamma(6.0, 2.0, 4000)
    wanted = rng.poisson(np.outer([0.35, 0.45, 0.2], rate))
    day = Day(np.full(4000, 12.0), 6.0)
    bill = {
        name: ordered(wanted, day, Vans((0.35, 0.45, 0.2), arrivals), 5, 2, 5 / 7)["cost"]
        for name, arrivals in (("once", (0,)), ("noon", (0, 1)), ("six hours", (0, 1, 2)))
    }
    assert bill["noon"] < 0.9 * bill["once"] and bill["six hours"] < bill["noon"]
    told = day.seen(0.35, wanted[0]).ahead(0.65)
    assert np.corrcoef(told, rate)[0, 1] > 0.6


def test_a_shelf_that_was_emptied_does_not_tell_what_was_wanted():
    day, vans = Day(np.array([10.0]), 8.0), Vans((0.5, 0.5), (0, 1), extra=0.0)
    flood = ordered(np.array([[50.0], [0.0]]), day, vans, 5, 2, 5 / 7)
    assert flood["later"] == day.order(0.5, 5 / 7)[0]
    quiet = ordered(np.array([[0.0], [0.0]]), day, vans, 5, 2, 5 / 7)
    assert quiet["later"] == 0  # the morning's units are all there


def test_the_ladder_of_orders_needs_days_and_bills_every_rung():
    days = pd.date_range("2024-01-01", periods=380)
    daily = pd.DataFrame({"a": np.random.default_rng(0).poisson(6.0, 380)}, days)
    none = pd.DataFrame(index=days)
    with pytest.raises(ValueError, match="too few"):
        ladder(daily.head(200), none.head(200), np.array([1]), 1, 5, 2)
    table = ladder(daily, none, np.arange(4, 11), 7, 5, 2)
    assert len(table) == 12 and table["cost"].between(0, 2).all()


def test_nothing_of_the_test_teaches_the_ladder(monkeypatch):
    days, told = pd.date_range("2024-01-01", periods=400), []
    daily = pd.DataFrame({"a": np.random.default_rng(0).poisson(6.0, 400)}, days)
    changed = daily.copy()
    changed.iloc[-order_ladder.TEST :] = 60
    made = order_ladder.fit

    def spy(X, units, plan, late, *more):
        told.append((X, units, plan))
        return made(X, units, plan, late, *more)

    monkeypatch.setattr(order_ladder, "fit", spy)
    for table in (daily, changed):
        ladder(table, pd.DataFrame(index=days), np.arange(4, 11), 7, 5, 2)
    for before, after in zip(*told, strict=True):
        np.testing.assert_array_equal(before, after)


def test_products_are_chosen_before_the_test(tmp_path):
    days = {"10000": (1, 2, 3), "10001": (3, 4, 5, 6)}
    rows = pd.DataFrame([(code, pd.Timestamp(2010, 1, k)) for code in days for k in days[code]],
                        columns=["StockCode", "InvoiceDate"])  # fmt: skip
    rows = rows.assign(Invoice="1", Quantity=1)
    none = rows.assign(Quantity=-1).iloc[np.zeros(525_461 - len(rows), int)]
    pd.concat([rows, none]).to_parquet(tmp_path / "retail.parquet")
    assert [*online_retail(tmp_path / "retail.parquet", 1)] == ["10001"]
    assert [*online_retail(tmp_path / "retail.parquet", 1, unseen=2)] == ["10000"]


def test_the_shape_of_a_day_leaves_out_the_poisson_part():
    rng = np.random.default_rng(0)
    mean = np.full(40_000, 8.0)
    assert shape_of(rng.poisson(rng.gamma(5.0, mean / 5.0)), mean) == pytest.approx(5.0, rel=0.1)
    assert shape_of(rng.poisson(mean), mean) == 50


# Shelves and desks ---------------------------------------------------------------------------


def test_the_oldest_go_first_and_nothing_is_lost():
    rng, shelf = np.random.default_rng(0), Shelf(5, 6)
    came = sold = waste = 0
    for _ in range(60):
        units = rng.integers(0, 9, 5)
        shelf.deliver(units, rng.integers(1, 7, 5))
        out = shelf.sell(rng.integers(0, 7, 5))
        gone = shelf.night()
        came, sold, waste = came + units.sum(), sold + out.sum(), waste + gone.sum()
        assert (shelf.ages >= 0).all()
    assert came == sold + waste + shelf.stock.sum()
    with pytest.raises(ValueError, match="0 or more"):
        shelf.deliver(np.full(5, -1), np.full(5, 2))
    with pytest.raises(ValueError, match="one of each"):
        Shelf(0, 3)
