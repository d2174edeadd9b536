"""The global models: what is known as of an origin, forecasters, cold start."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import DAYS, simulate
from casebook.data.contracts import ModelRefused
from casebook.forecasting import origins as features_module
from casebook.forecasting.classical import (
    auto_arima,
    auto_ets,
    prophet,
    seasonal_naive_week,
    seasonal_naive_year,
)
from casebook.forecasting.cold_start import analogue, ramp, with_cold_start
from casebook.forecasting.direct import (
    DirectModel,
    UnknownCountry,
    fit_direct,
    half_life,
    leave_out,
    lightgbm_direct,
    predict_direct,
)
from casebook.forecasting.hierarchy import from_ids
from casebook.forecasting.origins import (
    KNOWN,
    level_and_profile,
    origin_features,
    past_origins,
    recent_ratio,
    to_table,
    training_rows,
)
from casebook.forecasting.recursive import lightgbm_recursive
from casebook.forecasting.walk import aggregate_known

KEYS, DAY = ["unique_id", "ds"], pd.Timedelta(days=1)
ORIGIN = pd.Timestamp("2023-06-05")
YESTERDAY, TOMORROW = "DE/DE1/new", "DE/DE1/soon"
FEW = {"n_estimators": 30}


def fast_direct(train, future):
    return lightgbm_direct(train, future, parameters=FEW)


def fast_recursive(train, future):
    return lightgbm_recursive(train, future, parameters=FEW)


def cold_direct(train, future):
    return with_cold_start(fast_direct)(train, future)


#: Forecasters of routes.
ROUTE_FORECASTERS = {
    "naive week": seasonal_naive_week,
    "naive year": seasonal_naive_year,
    "direct": cold_direct,
    "recursive": lambda train, future: with_cold_start(fast_recursive)(train, future),
}


@pytest.fixture(scope="module")
def world():
    return simulate(7)


@pytest.fixture(scope="module")
def panel(world) -> pd.DataFrame:
    """Return the panel of two countries, one route opened yesterday, one to open tomorrow week."""
    rows = world.truth.loc[world.truth["unique_id"].str[:2].isin(["DE", "FR"]), [*KEYS, "y"]]
    rows = rows[rows["ds"] < ORIGIN + pd.Timedelta(days=56)].astype({"y": float})
    pattern = world.routes["unique_id"].isin(rows["unique_id"])
    routes = world.routes[pattern]
    old = routes[(routes["opens"] == DAYS[0]) & routes["closes"].isna()]
    model = old[old["depot"] == "DE1"].iloc[0]
    parts = [rows]
    for name, opens in ((YESTERDAY, -1), (TOMORROW, 7)):
        opening = ORIGIN + pd.Timedelta(days=opens)
        twin = rows[(rows["unique_id"] == model["unique_id"]) & (rows["ds"] >= opening)]
        parts.append(twin.assign(unique_id=name))
        line = model.to_frame().T.assign(unique_id=name, opens=opening)
        routes = pd.concat([routes, line.astype(routes.dtypes)], ignore_index=True)
    return add_known(pd.concat(parts), routes, world.calendar, world.promotions)


@pytest.fixture(scope="module")
def cut(panel) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training rows and the 28 days after the origin, without ``y``."""
    ahead = panel["ds"].between(ORIGIN, ORIGIN + pd.Timedelta(days=27))
    return panel[panel["ds"] < ORIGIN], panel[ahead].drop(columns="y").reset_index(drop=True)


# Known features ----------------------------------------------------------------------


def test_a_depot_has_the_volume_weighted_mean_of_its_routes():
    days = pd.Timestamp("2024-01-01")
    rows = pd.DataFrame({"unique_id": ["A/1/x", "A/1/y", "A/1/z"], "ds": days})
    rows = rows.assign(**dict.fromkeys(KNOWN, 0.0) | {"promotion": [1.0, 0.0, 0.0]})
    tree = from_ids(rows["unique_id"], ["country", "depot", "route"])
    volume = pd.Series({"A/1/x": 30.0, "A/1/y": 10.0})  # z has not opened: as small as y
    got = aggregate_known(rows, tree, volume).set_index("unique_id")["promotion"]
    assert got["A/1"] == pytest.approx(0.6)
    assert got["total"] == pytest.approx(0.6)
    assert got["A/1/x"] == 1


# Features as of an origin ------------------------------------------------------------


def steady(levels: dict[str, float], week: list[float], n_days: int = 140) -> tuple:
    days = pd.date_range("2024-01-01", periods=n_days)  # a Monday
    frames = [
        pd.DataFrame({"unique_id": name, "ds": days, "y": level * np.array(week)[days.dayofweek]})
        for name, level in levels.items()
    ]
    rows = pd.concat(frames).assign(**dict.fromkeys(KNOWN, 0.0) | {"age": 365.0})
    origin = days[-28]
    return rows[rows["ds"] < origin], rows[rows["ds"] >= origin].drop(columns="y")


def test_level_and_profile_of_a_steady_series():
    week = [1.4, 1.2, 1.1, 1.0, 1.0, 0.8, 0.5]
    table = to_table(*steady({"A/1/x": 1000.0, "A/1/y": 500.0}, week))
    level, profile = level_and_profile(table, table.start)
    np.testing.assert_allclose(level, [1000, 500])
    np.testing.assert_allclose(profile, np.transpose([week, week]), rtol=1e-3)
    ratio = recent_ratio(table, table.start, 7, level, profile)
    np.testing.assert_allclose(ratio, 1, rtol=1e-3)


def test_holidays_and_promotions_do_not_move_the_level():
    train, future = steady({"A/1/x": 1000.0}, [1.0] * 7)
    odd = train["ds"].isin(train["ds"].iloc[-20:-10])
    train["holiday"] = (odd & (train["ds"].dt.day % 2 == 0)).astype(float)
    train["promotion"] = (odd & (train["holiday"] == 0)).astype(float)
    train.loc[odd, "y"] = np.where(train.loc[odd, "holiday"] == 1, 10.0, 5000.0)
    table = to_table(train, future)
    assert level_and_profile(table, table.start)[0] == pytest.approx(1000)


def test_origin_features_do_not_change_with_what_comes_later(cut):
    train, future = cut
    table = to_table(train, future)
    origin = table.start - 28
    changed = to_table(
        train.assign(y=train["y"].where(train["ds"] < table.days[origin], 1e6)), future
    )
    none = np.zeros((2, len(table.ids)))
    (left, level), (right, other) = (origin_features(t, origin, none) for t in (table, changed))
    np.testing.assert_array_equal(level, other)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    assert not np.array_equal(table.y[origin:], changed.y[origin:], equal_nan=True)


def test_training_rows_are_days_before_the_origin_with_their_values(cut):
    table = to_table(*cut)
    rows = training_rows(table)
    assert rows.day.max() == table.start - 1
    np.testing.assert_array_equal(rows.y, table.y[rows.day, rows.node])
    assert set(np.unique(rows.x[:, rows.names.index("ahead")])) == set(range(28))
    assert rows.x_future.shape == (28, len(table.ids), len(rows.names))


def check_that_no_row_holds_its_own_28_days(rows_of) -> None:
    """Parcels of a block change the features of later blocks alone: lifts are of ended ones."""
    train, future = a_year()
    table = to_table(train, future)
    origin = past_origins(table.start)[-3]
    block = train["ds"].between(
        table.days[origin], table.days[origin + features_module.HORIZON - 1]
    )
    assert train.loc[block, "promotion"].sum() > 0
    changed = to_table(train.assign(y=train["y"].where(~block, 3 * train["y"])), future)
    one, two = rows_of(table), rows_of(changed)
    until = one.day < origin + features_module.HORIZON
    np.testing.assert_array_equal(one.x[until], two.x[until])
    lift = one.names.index("lift")
    assert not np.array_equal(one.x[~until, lift], two.x[~until, lift])


def a_year() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a year of two steady routes, with a week of promotion every five weeks."""
    train, future = steady({"A/1/x": 1000.0, "A/1/y": 500.0}, [1.0] * 7, 420)
    train["promotion"] = (train["ds"].dt.dayofyear % 35 < 7).astype(float)
    return train.assign(y=train["y"] * (1 + 0.4 * train["promotion"])), future


def test_lift_sees_no_day_of_its_own_28():
    check_that_no_row_holds_its_own_28_days(training_rows)


def test_the_check_catches_a_lift_that_sees_its_own_28_days():
    names, right = dict(vars(features_module)), "origin_features(table, origin, lifts)"
    source = inspect.getsource(training_rows)
    assert source.count(right) == 1
    leak = "origin_features(table, origin, lifts + block_lifts(table, origin))"
    exec(source.replace(right, leak), names)
    with pytest.raises(AssertionError):
        check_that_no_row_holds_its_own_28_days(names["training_rows"])


def test_rows_that_lack_a_known_column_or_are_weekly_are_refused():
    train, future = a_year()
    for frames in (
        (train.drop(columns="holiday"), future),
        (train, future.drop(columns="holiday")),
    ):
        with pytest.raises(ValueError, match=r"(training|future) rows: no column \['holiday'\]"):
            to_table(*frames)
    weekly = train[train["ds"].dt.dayofweek == 0]
    for forecaster in (lightgbm_direct, lightgbm_recursive, auto_ets):
        with pytest.raises(ValueError, match=r"rows are 7 days apart; .* needs daily rows"):
            forecaster(weekly, future)


def test_a_training_row_at_the_origin_is_refused(panel, cut):
    _, future = cut
    with pytest.raises(ValueError, match="not before the origin"):
        to_table(panel, future)
    with pytest.raises(ValueError, match="at most 28"):
        train = panel[panel["ds"] < ORIGIN]
        training_rows(to_table(train, panel[panel["ds"] >= ORIGIN]))
    with pytest.raises(ValueError, match="less than 84 days"):
        short = panel[(panel["ds"] < ORIGIN) & (panel["ds"] >= ORIGIN - pd.Timedelta(days=60))]
        training_rows(to_table(short, future))


# Every forecaster --------------------------------------------------------------------


@pytest.mark.parametrize("name", ROUTE_FORECASTERS)
def test_forecasts_are_aligned_deterministic_and_complete(cut, name):
    forecaster, (train, future) = ROUTE_FORECASTERS[name], cut
    in_order = forecaster(train, future)
    assert in_order.shape == (len(future),)
    assert (in_order >= 0).all()  # false for a missing value
    mixed = future.sample(frac=1, random_state=1)
    again = forecaster(train.sample(frac=1, random_state=2), mixed)
    np.testing.assert_allclose(again, in_order[mixed.index], rtol=1e-9)


@pytest.mark.parametrize("name", ROUTE_FORECASTERS)
def test_forecasters_use_the_last_day_and_the_rows_asked_for_only(cut, name):
    """A closed route gets nothing: it has no row. What the last day says does count."""
    forecaster, (train, future) = ROUTE_FORECASTERS[name], cut
    gone = future["unique_id"].unique()[3]
    rest = future[future["unique_id"] != gone]
    np.testing.assert_allclose(forecaster(train, rest).shape, (len(rest),))
    yesterday = train["ds"] == train["ds"].max()
    if name != "naive year":
        louder = train.assign(y=train["y"].where(~yesterday, train["y"] * 20))
        assert not np.allclose(forecaster(louder, future), forecaster(train, future))


def test_the_direct_model_is_better_than_naive(panel, cut):
    train, future = cut
    actual = future.merge(panel[[*KEYS, "y"]])["y"]
    errors = [np.abs(actual - f(train, future)).sum() for f in (cold_direct, seasonal_naive_week)]
    assert errors[0] < 0.7 * errors[1]


def test_the_direct_model_has_learned_promotions_and_holidays(cut):
    train, future = cut
    plain = fast_direct(train, future.assign(promotion=0.0, holiday=0.0))
    promoted = fast_direct(train, future.assign(promotion=1.0, holiday=0.0))
    closed = fast_direct(train, future.assign(promotion=0.0, holiday=1.0))
    assert 1.15 < np.nanmedian(promoted / plain) < 1.6
    assert np.nanmedian(closed / plain) < 0.4


def test_the_direct_model_does_without_the_last_days_of_a_country(cut):
    """A file that is late at the origin: what is not there is not taken for zero."""
    train, future = cut
    late = train["unique_id"].str.startswith("FR") & (train["ds"] >= ORIGIN - pd.Timedelta(days=4))
    full, short = (cold_direct(t, future) for t in (train, train[~late]))
    french = future["unique_id"].str.startswith("FR").to_numpy()
    assert (short >= 0).all()
    assert short[french].sum() == pytest.approx(full[french].sum(), rel=0.1)


def test_rows_that_repeat_a_day_are_refused(cut):
    train, future = cut
    with pytest.raises(ValueError, match="1 rows repeat a node and day"):
        to_table(pd.concat([train, train.head(1)]), future)


def test_weights_and_dummies_of_a_shock_reach_the_model(cut):
    train, future = cut
    plain = lightgbm_direct(train, future, parameters=FEW)
    window = ("2022-03-01", "2022-06-30")
    shock = {
        "dummy": {"dummy": window},
        "half-life": {"day_weight": half_life(ORIGIN, 120)},
        "left out": {"day_weight": leave_out(*window)},
        "without": {"without": ("day_of_year",)},
    }
    for name, options in shock.items():
        other = lightgbm_direct(train, future, parameters=FEW, **options)
        assert not np.allclose(other, plain, equal_nan=True), name
    unused = lightgbm_direct(train, future, parameters=FEW, day_weight=half_life(ORIGIN, 1e9))
    np.testing.assert_allclose(unused, plain, rtol=1e-5)


def test_weights_of_days_by_hand():
    days = pd.date_range("2022-02-28", periods=3)
    assert leave_out("2022-03-01", "2022-03-01")(days).tolist() == [1, 0, 1]
    np.testing.assert_allclose(half_life(pd.Timestamp("2022-03-02"), 2)(days), [0.5, 0.5**0.5, 1])


def test_what_is_left_out_teaches_nothing(cut):
    """Parcels of a window that only labels saw do not move the forecasts once it is left out."""
    train, future = cut
    window = ("2022-01-10", "2022-01-11")
    inside = train["ds"].between(*window)
    odd = train.assign(y=train["y"].where(~inside, train["y"] * 50))
    promoted = {"promotion": 1.0}  # not plain: no level sees the two days
    train, odd = (
        f.assign(**{k: f[k].where(~inside, v) for k, v in promoted.items()}) for f in (train, odd)
    )
    kept = [lightgbm_direct(f, future, parameters=FEW, without=("lift",)) for f in (train, odd)]
    left = [
        lightgbm_direct(f, future, parameters=FEW, without=("lift",), day_weight=leave_out(*window))
        for f in (train, odd)
    ]
    assert not np.allclose(*kept, equal_nan=True)
    np.testing.assert_array_equal(*left)


# Classical models --------------------------------------------------------------------


@pytest.fixture(scope="module")
def country(panel) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Return two countries' sums of 400 days, their next 14 days, and what came."""
    old = panel[~panel["unique_id"].isin([YESTERDAY, TOMORROW])]
    tree = from_ids(old["unique_id"], ["country", "depot", "route"])
    volume = old.groupby("unique_id")["y"].mean()
    known = aggregate_known(old, tree, volume)
    known = known[known["level"] == "country"].drop(columns="level")
    from casebook.forecasting.hierarchy import aggregate

    rows = aggregate(old, tree).drop(columns="level").merge(known, on=KEYS)
    rows = rows[rows["ds"] >= ORIGIN - pd.Timedelta(days=400)]
    future = rows[rows["ds"].between(ORIGIN, ORIGIN + pd.Timedelta(days=13))]
    future = future.sample(frac=1, random_state=0).reset_index(drop=True)
    return rows[rows["ds"] < ORIGIN], future.drop(columns="y"), future["y"].to_numpy()


@pytest.mark.parametrize("forecaster", [auto_ets, auto_arima, prophet])
def test_classical_models_answer_for_aggregates_in_any_order(country, forecaster):
    train, future, actual = country
    values = forecaster(train, future)
    assert values.shape == actual.shape
    assert (values >= 0).all()
    assert np.abs(values - actual).sum() < 0.35 * actual.sum()
    assert np.corrcoef(values, actual)[0, 1] > 0.7  # aligned with the shuffled rows


# Cold start --------------------------------------------------------------------------


def depot_with_openings(level_new: float, seen: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a depot of three old routes, one that opened and settled, and a new one."""
    days = pd.date_range("2024-01-01", periods=400)
    frames = []
    for name, level, opens, distance in (
        ("A/1/a", 100.0, 0, 100),
        ("A/1/b", 50.0, 0, 400),
        ("A/1/c", 71.0, 0, 200),
        ("A/1/d", 80.0, 100, 200),
        ("A/1/new", level_new, 372 - seen, 200),
    ):
        age = np.arange(400) - opens
        share = np.where(age < 14, 0.5, 1.0) if opens else np.ones(400)
        frame = pd.DataFrame({"unique_id": name, "ds": days, "y": level * share, "age": age})
        frames.append(frame.assign(distance=float(distance))[age >= 0])
    rows = pd.concat(frames)
    return rows[rows["ds"] < days[372]], rows[rows["ds"] >= days[372]]


def test_the_ramp_of_an_opening_is_read_off():
    train, _ = depot_with_openings(70.0, seen=3)
    np.testing.assert_allclose(ramp(train), [0.5, 0.5] + [1.0] * 11)
    none = train[train["unique_id"] != "A/1/d"]
    assert (ramp(none) == 1).all()


@pytest.mark.parametrize(("level", "seen"), [(70.0, 0), (30.0, 27)])
def test_a_new_route_is_forecast_by_its_depot_distance_ramp_and_first_days(level, seen):
    train, future = depot_with_openings(level, seen)
    actual = future["y"].to_numpy()
    new = (future["unique_id"] == "A/1/new").to_numpy()
    values = analogue(train, future.drop(columns="y"), np.where(new, np.nan, actual))
    np.testing.assert_array_equal(values[~new], actual[~new])
    np.testing.assert_allclose(values[new], actual[new], rtol=0.35 if seen else 0.1)
    if seen:  # the prior says 70: the days that were seen have pulled it most of the way
        assert values[new][-1] < 40
    else:
        np.testing.assert_allclose(values[new][14] / values[new][13], 2)  # the ramp's end


def test_old_routes_of_one_distance_tell_nothing_of_it_and_the_new_one_is_forecast():
    train, future = (rows.assign(distance=200.0) for rows in depot_with_openings(70.0, seen=0))
    actual = future["y"].to_numpy()
    new = (future["unique_id"] == "A/1/new").to_numpy()
    values = analogue(train, future.drop(columns="y"), np.where(new, np.nan, actual))
    assert (values[new] > 30).all()


def test_routes_that_opened_yesterday_or_open_inside_the_horizon_are_forecast(panel, cut):
    train, future = cut
    raw = fast_direct(train, future)
    new = future["unique_id"].isin([YESTERDAY, TOMORROW]).to_numpy()
    assert np.isnan(raw[new]).all()
    values = cold_direct(train, future)
    np.testing.assert_array_equal(
        values[~new & ~np.isnan(raw)][:500], raw[~new & ~np.isnan(raw)][:500]
    )
    assert (values[new] > 0).all()


# A fitted model, kept and asked again ------------------------------------------------


@pytest.fixture(scope="module")
def fitted(cut) -> DirectModel:
    return fit_direct(cut[0], parameters=FEW)


def test_a_fitted_model_forecasts_as_the_one_that_was_trained(cut, fitted):
    train, future = cut
    expected = lightgbm_direct(train, future, parameters=FEW)
    np.testing.assert_allclose(predict_direct(fitted, train, future), expected, rtol=1e-12)
    assert fitted.trained_until == ORIGIN - DAY
    before = fit_direct(train[train["ds"] < ORIGIN - 14 * DAY], parameters=FEW)
    older = predict_direct(before, train, future)
    assert not np.allclose(older, expected, equal_nan=True)  # another model …
    assert np.nansum(np.abs(older - expected)) < 0.1 * np.nansum(expected)  # … on today's levels


def test_a_model_is_asked_in_the_order_of_its_own_features(cut, fitted):
    right, swapped = predict_direct(fitted, *cut), list(fitted.features)
    i, j = swapped.index("weekday"), swapped.index("last_7")
    swapped[i], swapped[j] = swapped[j], swapped[i]
    other = predict_direct(replace(fitted, features=tuple(swapped)), *cut)
    assert not np.allclose(other, right, equal_nan=True)


def test_a_country_that_the_model_does_not_know_is_missing_for_its_own_rows_only(cut, fitted):
    known, future = predict_direct(fitted, *cut), cut[1]
    with pytest.warns(UnknownCountry, match="was not fitted to FR: it answers there without"):
        values = predict_direct(replace(fitted, countries=("DE",)), *cut)
    there = (future["unique_id"].str[:2] == "DE").to_numpy()
    np.testing.assert_array_equal(values[there], known[there])
    assert np.isfinite(values[~there]).sum() == np.isfinite(known[~there]).sum() > 0
    # A country that has closed is one that the model knows and nobody asks for.
    only = [frame[frame["unique_id"].str.startswith("FR")] for frame in cut]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = predict_direct(fitted, *only)
    np.testing.assert_allclose(alone, known[~there], rtol=0.1)  # promotions are pooled


def test_a_model_of_other_features_or_of_later_days_is_refused(cut, fitted):
    train, future = cut
    with pytest.raises(ModelRefused, match=r"fitted to other features \(lift\): train again"):
        predict_direct(replace(fitted, features=fitted.features[:-1]), train, future)
    earlier = train["ds"] < ORIGIN - 7 * DAY
    with pytest.raises(ModelRefused, match="has seen 2023-06-04, which is not before the origin"):
        predict_direct(fitted, train[earlier], train[~earlier].drop(columns="y"))
