"""Case 01: the rules rung finds planted ratios, uses the past alone and keeps to its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.demand_forecasting import rules as module
from casebook.cases.demand_forecasting.forecasters import with_cold_start
from casebook.cases.demand_forecasting.rules import EFFECTS, ratios, rules

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
