"""The rules rung finds planted ratios, uses the past alone and keeps to its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting import rules as module
from casebook.forecasting.cold_start import with_cold_start
from casebook.forecasting.rules import EFFECTS, ratios, rules, season, seasonal_rules

PLANTED = pd.Series([1.5, 0.1, 1.2, 1.3, 1.1], EFFECTS)
DAYS = pd.date_range("2024-01-01", periods=7 * 40)
ORIGIN = DAYS[-28]


def planted(noise: float = 0.0, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Return train, future and the true future of four routes: level x weekday x one effect."""
    rng, frames = np.random.default_rng(seed), []
    for k, level in enumerate((5.0, 40.0, 300.0, 1000.0)):
        # A day in five has one effect of five; the rest are plain.
        what = rng.choice([*EFFECTS, ""], len(DAYS), p=[0.04] * 5 + [0.8])
        week = np.array([1.2, 1.1, 1.0, 1.0, 0.9, 0.5, 0.2])[DAYS.dayofweek]
        effect = PLANTED.reindex(what).fillna(1.0).to_numpy()
        y = level * week * effect * rng.lognormal(0, noise, len(DAYS))
        flags = {name: (what == name).astype(float) for name in EFFECTS}
        known = {"age": 365.0, "distance": 100.0 * (k + 1)}
        frames.append(pd.DataFrame({"unique_id": f"A/A1/r{k}", "ds": DAYS, "y": y} | flags | known))
    rows = pd.concat(frames, ignore_index=True)
    future = rows[rows["ds"] >= ORIGIN].reset_index(drop=True)
    return rows[rows["ds"] < ORIGIN], future.drop(columns="y"), future["y"].to_numpy()


def assert_finds_the_plan() -> None:
    train, future, actual = planted()
    np.testing.assert_allclose(module.rules(train, future), actual, rtol=1e-9)
    np.testing.assert_allclose(module.ratios(train), PLANTED, rtol=1e-9)


def test_without_noise_ratios_and_forecasts_are_exact():
    assert_finds_the_plan()


@pytest.mark.parametrize("forgotten", EFFECTS)
def test_a_forgotten_effect_is_found(monkeypatch, forgotten):
    """Its days count as plain then: the usual day is wrong, and so are the other ratios."""
    monkeypatch.setattr(module, "EFFECTS", [name for name in EFFECTS if name != forgotten])
    with pytest.raises(AssertionError):
        assert_finds_the_plan()


def test_a_day_with_two_effects_teaches_no_ratio():
    train, _, _ = planted()
    both = train["promotion"].eq(1)
    odd = train.assign(eve=train["eve"].where(~both | (train["unique_id"] != "A/A1/r0"), 1.0))
    odd.loc[odd["promotion"].eq(1) & odd["eve"].eq(1), "y"] = 1e6
    np.testing.assert_allclose(ratios(odd), PLANTED, rtol=1e-9)


def test_an_effect_without_a_day_changes_nothing():
    train, future, _ = planted()
    assert ratios(train[train["holiday"] == 0])["holiday"] == 1.0
    plain = train[train[EFFECTS].eq(0).all(axis=1)]
    assert ratios(plain).eq(1.0).all() and np.isfinite(rules(plain, future)).all()


def test_units_and_order_of_rows_do_not_matter():
    train, future, _ = planted(noise=0.2)
    values = rules(train, future)
    np.testing.assert_allclose(rules(train.assign(y=100 * train["y"]), future), 100 * values)
    order = np.random.default_rng(1).permutation(len(future))
    shuffled = rules(train.sample(frac=1, random_state=2), future.iloc[order])
    np.testing.assert_allclose(shuffled, values[order])


def test_a_route_without_a_usual_day_is_left_to_the_analogues():
    train, future, _ = planted(noise=0.1)
    new = future["unique_id"].eq("A/A1/r2").to_numpy()
    train = train[train["unique_id"] != "A/A1/r2"]
    assert (np.isnan(rules(train, future)) == new).all()
    assert np.isfinite(with_cold_start(rules)(train, future)).all()


# Last year's index ---------------------------------------------------------------------


def two_years(step: float) -> pd.DataFrame:
    """Return plain days of two routes; from a year before the origin on, a step for four weeks."""
    days = pd.date_range(ORIGIN - pd.Timedelta(weeks=70), ORIGIN - pd.Timedelta(days=1))
    last = ORIGIN - pd.Timedelta(weeks=52)
    higher = (days >= last) & (days < last + pd.Timedelta(weeks=5))
    week = np.array([1.2, 1.1, 1.0, 1.0, 0.9, 0.5, 0.2])[days.dayofweek]
    flags = dict.fromkeys(EFFECTS, 0.0)
    rows = [
        pd.DataFrame({"unique_id": name, "ds": days, "y": y * week * np.where(higher, step, 1)})
        for name, y in (("A/A1/r0", 10.0), ("B/B1/r0", 200.0))
    ]
    return pd.concat(rows, ignore_index=True).assign(**flags)


def ahead_of(train: pd.DataFrame) -> pd.DataFrame:
    days = pd.Series(pd.date_range(ORIGIN, periods=28), name="ds")
    routes = train[["unique_id"]].drop_duplicates()
    return routes.merge(days, how="cross").assign(**dict.fromkeys(EFFECTS, 0.0))


def test_the_season_is_last_years_week_over_the_eight_weeks_before_it():
    train = two_years(1.5)
    index = season(train, pd.date_range(ORIGIN, periods=28))
    np.testing.assert_allclose(index.iloc[3:], 1.5)
    # ORIGIN is a Monday: its week reaches back to the Friday before the step.
    week = np.array([0.9, 0.5, 0.2, 1.2, 1.1, 1.0, 1.0])
    by_hand = (week * [1, 1, 1, 1.5, 1.5, 1.5, 1.5]).sum() / week.sum()
    assert index.iloc[0] == pytest.approx(by_hand)
    future = ahead_of(train)
    factor = future["ds"].map(index)
    np.testing.assert_allclose(seasonal_rules(train, future), rules(train, future) * factor)


def test_a_promotion_of_last_year_is_no_season_and_this_year_has_no_say():
    train, days = two_years(1.5), pd.date_range(ORIGIN, periods=28)
    promoted = train["ds"].between(ORIGIN - pd.Timedelta(weeks=51), ORIGIN - pd.Timedelta(weeks=50))
    odd = train.assign(promotion=promoted.astype(float), y=train["y"].where(~promoted, 1e6))
    np.testing.assert_allclose(season(odd, days)[7 + 7 + 4 :], 1.5)
    recent = train["ds"] >= ORIGIN - pd.Timedelta(weeks=40)
    other = train.assign(y=train["y"].where(~recent, 7.0))
    np.testing.assert_allclose(season(other, days), season(train, days))


def test_without_a_year_of_history_there_is_no_season():
    train, future, _ = planted(noise=0.2)
    assert season(train, pd.date_range(ORIGIN, periods=28)).eq(1.0).all()
    np.testing.assert_allclose(seasonal_rules(train, future), rules(train, future))
