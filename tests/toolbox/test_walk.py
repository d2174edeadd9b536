"""The walk-forward at all levels, its reconciliation, scores and intervals."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting import walk as module
from casebook.forecasting.classical import ets_with_errors, seasonal_naive_week
from casebook.forecasting.hierarchy import aggregate, from_columns, from_ids, incoherence
from casebook.forecasting.scores import paired_interval, scales, score
from casebook.forecasting.walk import (
    add_reconciled,
    at_origin,
    earlier_errors,
    planning_origins,
    route_forecasts,
    walk_forward,
)

KEYS = ["unique_id", "ds"]
DAYS = pd.date_range("2022-07-02", "2024-06-30")
KNOWN = ["promotion"]


@pytest.fixture(scope="module")
def panel() -> pd.DataFrame:
    """Return 18 routes with a week and noise; one opens late, one closes."""
    rng, frames = np.random.default_rng(0), []
    names = [f"{c}/{c}{d}/r{k}" for c in ("A", "B", "C") for d in (1, 2) for k in (1, 2, 3)]
    shared = np.exp(rng.normal(0, 0.05, len(DAYS)))
    for k, name in enumerate(names):
        days = DAYS[-150:] if k == 4 else DAYS[:-10] if k == 7 else DAYS
        mean = (20 + 15 * k) * (1.2 - 0.1 * days.dayofweek) * shared[: len(days)]
        promotion = (rng.uniform(size=len(days)) < 0.1).astype(float)
        y = rng.poisson(mean * (1 + 0.5 * promotion)).astype(float)
        rows = {"unique_id": name, "ds": days, "y": y, "promotion": promotion}
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def tree(panel):
    return from_ids(panel["unique_id"], ("country", "depot", "route"))


@pytest.fixture(scope="module")
def history(panel, tree) -> pd.DataFrame:
    return aggregate(panel, tree)


def median_of_weeks(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast by the median of the last eight same weekdays: better than last week alone."""
    recent = train[train["ds"] >= train["ds"].max() - pd.Timedelta(days=55)]
    usual = recent.groupby(["unique_id", recent["ds"].dt.dayofweek])["y"].median()
    keys = pd.MultiIndex.from_arrays([future["unique_id"], future["ds"].dt.dayofweek])
    return usual.reindex(keys).to_numpy()


@pytest.fixture(scope="module")
def result(panel, tree) -> pd.DataFrame:
    """Return base forecasts of three origins."""
    shown = {"week": seasonal_naive_week, "direct": median_of_weeks}
    return walk_forward(panel, tree, shown, planning_origins(DAYS[-1], 3))


#: Two ways to walk: all levels, and the bottom series alone.
WALKS = {
    "all levels": walk_forward,
    "routes": lambda panel, _, models, origins: route_forecasts(panel, models, origins),
}
each_walk = pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)


class Spy:
    """A forecaster that refuses to see what was not known at its origin."""

    def __init__(self):
        self.origins = []

    def __call__(self, train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        assert train["ds"].max() < future["ds"].min(), "a day at or after the origin is in train"
        assert set(future.columns) == {*KEYS, *KNOWN}, "the future shows too much"
        self.origins.append(future["ds"].min())
        return np.zeros(len(future))


@each_walk
def test_no_forecaster_sees_its_future(panel, tree, walk):
    spy, origins = Spy(), planning_origins(DAYS[-1], 2)
    walk(panel, tree, {"spy": spy}, origins)
    calls = 2 if walk is walk_forward else 1  # above and bottom
    assert spy.origins == sorted(calls * origins)


#: Functions that show a forecaster its rows, callers last.
SHOWING = ("cut", "at_origin", "walk_forward", "route_forecasts")
LEAKS = {
    "the origin itself": ("cut", 'panel["ds"] < origin', 'panel["ds"] <= origin'),
    "everything": ("cut", 'panel[panel["ds"] < origin]', "panel"),
    "the actuals": ("walk_forward", "asked = rows.drop", "asked = rows.merge(actual).drop"),
    "the routes' actuals": ("route_forecasts", 'ahead.drop(columns="y")', "ahead"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_the_spy_catches_a_planted_leak(panel, tree, leak):
    function, right, leaky = LEAKS[leak]
    names = dict(vars(module))
    for name in SHOWING:
        source = inspect.getsource(getattr(module, name))
        assert name != function or source.count(right) == 1
        exec(source.replace(right, leaky) if name == function else source, names)
    spied = {"spy": Spy()}, planning_origins(DAYS[-1], 1)
    if function != "route_forecasts":
        with pytest.raises(AssertionError, match=r"in train|too much"):
            names["walk_forward"](panel, tree, *spied)
    if function != "walk_forward":
        with pytest.raises(AssertionError, match=r"in train|too much"):
            names["route_forecasts"](panel, *spied)


def test_every_node_and_day_is_forecast_once_and_closed_routes_are_not(panel, tree, result):
    assert not result.duplicated([*KEYS, "origin"]).any()
    routes = result[result["level"] == "route"].merge(panel[[*KEYS, "y"]], on=[*KEYS, "y"])
    ahead = panel[panel["ds"] >= planning_origins(DAYS[-1], 3)[0]]
    assert len(routes) == (result["level"] == "route").sum() == len(ahead)
    assert result[["week", "direct"]].notna().all(axis=None)
    assert (result.loc[result["level"] == "total"].groupby("origin").size() == 28).all()


def test_a_forecaster_for_aggregates_only_and_one_that_forgets_rows(panel, tree):
    origins = planning_origins(DAYS[-1], 1)
    above = walk_forward(panel, tree, {"m": Spy()}, origins, only_above=["m"])
    assert above["m"].isna().equals(above["level"] == "route")
    with pytest.raises(ValueError, match=r"m returned 1 forecasts for"):
        walk_forward(panel, tree, {"m": lambda train, future: np.zeros(1)}, origins)


def test_walk_forward_at_some_levels_shows_those_alone(panel, tree, result):
    seen = []

    def spy(train, future):
        seen.append(set(train["unique_id"].str.count("/")))
        return seasonal_naive_week(train, future)

    origins = planning_origins(DAYS[-1], 1)
    some = walk_forward(panel, tree, {"week": spy}, origins, levels=["total", "country"])
    assert set(some["level"]) == {"total", "country"} and seen == [{0}]
    whole = result[(result["origin"] == origins[0]) & result["level"].isin(["total", "country"])]
    assert some["week"].tolist() == whole["week"].tolist()
    with pytest.raises(ValueError, match="no level 'region'"):
        walk_forward(panel, tree, {"week": spy}, origins, levels=["region"])


def test_known_features_of_aggregates_do_not_look_ahead(panel, tree):
    origin = planning_origins(DAYS[-1], 1)[0]
    other = panel.assign(y=panel["y"].where(panel["ds"] < origin, 1e6))
    one, two = (at_origin(frame, tree, origin)[1] for frame in (panel, other))
    pd.testing.assert_frame_equal(one, two)


@each_walk
def test_origins_that_no_panel_holds_are_refused(panel, tree, walk):
    week, last = {"week": seasonal_naive_week}, DAYS[-1]
    with pytest.raises(ValueError, match="no origins: give at least one"):
        walk(panel, tree, week, [])
    for origin in (last - pd.Timedelta(days=10), last + pd.Timedelta(days=9), DAYS[-730]):
        with pytest.raises(ValueError, match=f"the origin {origin:%Y-%m-%d} needs data before it"):
            walk(panel, tree, week, [origin])


@each_walk
def test_a_forecaster_that_returns_its_rows_in_another_order_is_refused(panel, tree, walk):
    def backwards(train, future):
        return pd.Series(seasonal_naive_week(train, future), future.index)[::-1]

    with pytest.raises(ValueError, match=r"m returned .* or in another order"):
        walk(panel, tree, {"m": backwards}, planning_origins(DAYS[-1], 1))


@pytest.mark.parametrize(("freq", "season"), [("W-MON", 52), ("QS", 4)])
def test_other_frequencies_and_hierarchies_are_forecast_without_known_features(freq, season):
    """A horizon counts periods: 13 weeks are 13 rows, and eight quarters eight."""
    ds = pd.date_range("2015-01-01", periods=160, freq=freq)
    rng, ids = np.random.default_rng(0), ["north/shoes", "north/coats", "south/shoes"]
    wave = 100 + 30 * np.sin(2 * np.pi * np.arange(160) / season)
    shops = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": ds, "y": wave + rng.normal(size=160)})
        for name in ids
    )
    crossed = from_columns(
        shops.assign(product=shops["unique_id"].str.split("/").str[1]),
        {"total": [], "product": ["product"]},
    )

    def last_season(train, future):
        ahead = {day: k for k, day in enumerate(sorted(future["ds"].unique()))}
        wide = train.pivot(index="ds", columns="unique_id", values="y").sort_index()
        where = future["ds"].map(ahead) - season
        rows = zip(where, future["unique_id"], strict=True)
        return np.array([wide[name].iloc[k] for k, name in rows])

    def ets(train, future):
        return ets_with_errors(train, future, 4, freq)[0]

    horizon = 13 if season > 13 else 4
    origins = planning_origins(ds[-1], 2, horizon=horizon, freq=freq)
    assert origins == [ds[-2 * horizon], ds[-horizon]]
    models = {"season": last_season} | ({"ets": ets} if season == 4 else {})
    result = walk_forward(shops, crossed, models, origins, horizon)
    assert (result.groupby(["origin", "unique_id"]).size() == horizon).all()
    alone = route_forecasts(shops, {"season": last_season}, origins, horizon)
    both = alone.merge(result, on=["unique_id", "ds", "origin"], validate="1:1")
    assert len(both) == len(alone) == 2 * 3 * horizon
    assert (both["season_x"] == both["season_y"]).all()
    scores = score(result, aggregate(shops, crossed), list(models), season=season)
    assert (scores["WAPE"] < 0.05).all() and scores["MASE"].between(0.3, 3).all()


def test_reconciled_forecasts_add_up_at_every_origin(tree, result):
    origins = planning_origins(DAYS[-1], 2)
    done, notes = add_reconciled(result, tree, "direct", origins)
    assert sorted(done["origin"].unique()) == origins
    for origin in origins:
        rows = done[done["origin"] == origin]
        for column in ("direct", "direct_bottom_up", "direct_top_down", "direct_mint"):
            wide = rows.pivot(index="unique_id", columns="ds", values=column).reindex(tree.nodes)
            gap = incoherence(wide.fillna(0).to_numpy(), tree.S)
            assert (gap > 1) if column == "direct" else (gap < 1e-6), column
    assert all("fewer than three errors" in note for note in notes)


def test_mint_weighs_by_errors_from_before_the_origin_only(tree, result):
    _, second, third = planning_origins(DAYS[-1], 3)
    errors = earlier_errors(result, "direct", third)
    assert errors.index.max() == third - pd.Timedelta(days=1)
    assert len(errors) == 56
    assert len(earlier_errors(result, "direct", second)) == 28
    other = result.assign(y=result["y"].where(result["ds"] < third, 1e6))
    one, two = (add_reconciled(r, tree, "direct", [third], ["mint"])[0] for r in (result, other))
    np.testing.assert_array_equal(one["direct_mint"], two["direct_mint"])


def test_scores_agree_with_utilsforecast(result, history):
    from utilsforecast.losses import mase, rmsse

    origin = result["origin"].max()
    rows = result[(result["origin"] == origin) & (result["level"] == "depot")]
    past = history[history["ds"] < origin].sort_values(KEYS)
    ours = score(rows, history, ["week", "direct"]).set_index("model")
    for name, loss in (("MASE", mase), ("RMSSE", rmsse)):
        columns = rows[[*KEYS, "y", "week", "direct"]]
        theirs = loss(columns, ["week", "direct"], seasonality=7, train_df=past)
        for model in ("week", "direct"):
            assert ours.loc[model, name] == pytest.approx(theirs[model].mean()), (name, model)


def test_the_denominator_comes_from_before_the_origin(history):
    origin = planning_origins(DAYS[-1], 1)[0]
    later = history["ds"] >= origin
    other = history.assign(y=history["y"].where(~later, 1e6))
    pd.testing.assert_frame_equal(scales(history, origin), scales(other, origin))
    yesterday = history["ds"] == origin - pd.Timedelta(days=1)
    louder = history.assign(y=history["y"].where(~yesterday, 1e6))
    assert (scales(louder, origin)["mae"] > scales(history, origin)["mae"]).any()


@pytest.mark.parametrize("metric", ["WAPE", "MASE", "RMSSE"])
def test_the_interval_holds_the_difference_and_sees_a_clear_gain(result, history, metric):
    rows = result[result["level"] == "depot"]
    gain, low, high = paired_interval(rows, history, "direct", "week", metric)
    assert low < gain < high < 0
    scores = score(rows, history, ["direct", "week"], ["level"]).set_index("model")[metric]
    assert gain == pytest.approx(scores["direct"] - scores["week"])
    back = paired_interval(rows, history, "week", "direct", metric)
    np.testing.assert_allclose(back, (-gain, -high, -low))


def test_a_model_does_not_differ_from_itself_and_noise_is_not_a_gain(result, history):
    rows = result[result["level"] == "depot"].copy()
    assert paired_interval(rows, history, "week", "week") == (0, 0, 0)
    noise = np.random.default_rng(0).normal(size=(2, len(rows))) * rows["y"].std() / 10
    rows["a"], rows["b"] = rows["y"].to_numpy() + noise
    _, low, high = paired_interval(rows, history, "a", "b")
    assert low < 0 < high


def test_the_interval_is_reproducible_and_wider_with_fewer_origins(result, history):
    rows = result[result["level"] == "country"]
    first = paired_interval(rows, history, "direct", "week", seed=1)
    assert paired_interval(rows, history, "direct", "week", seed=1) == first
    one = rows[rows["origin"] == rows["origin"].min()]
    assert len(paired_interval(one, history, "direct", "week")) == 3
    with pytest.raises(ValueError, match="no metric 'MAPE'"):
        paired_interval(rows, history, "direct", "week", "MAPE")
