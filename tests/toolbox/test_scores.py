"""The toolbox of scores: by hand, without a denominator, by date, and what an interval draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.intervals import pigeonhole
from casebook.evaluate.metrics import wape
from casebook.forecasting import scores as module
from casebook.forecasting.scores import paired_interval, scales, score

KEYS = ["unique_id", "ds"]


def test_periods_that_follow_no_frequency_are_refused():
    days = pd.to_datetime(["2024-01-01", "2024-01-03", "2024-01-08", "2024-01-09"])
    assert module.period(days) == pd.offsets.Day()  # a missing day is a missing day
    with pytest.raises(ValueError, match="follow no frequency: fill the missing periods"):
        module.period(pd.to_datetime(["2024-01-01", "2024-01-03", "2024-01-08"]))


def toy() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return forecasts of a steady and a sparse series, and their past."""
    days = pd.date_range("2024-01-01", periods=28)
    past = [
        pd.DataFrame({"unique_id": "big", "ds": days, "y": np.arange(28.0)}),
        pd.DataFrame({"unique_id": "small", "ds": days, "y": (np.arange(28) == 20) * 2.0}),
        pd.DataFrame({"unique_id": "still", "ds": days, "y": 3.0}),
    ]
    ahead = pd.date_range("2024-01-29", periods=2)
    rows = [("big", 10.0, 12.0), ("big", 20.0, 17.0), ("small", 0.0, 0.5), ("small", 1.0, 0.5)]
    rows += [("still", 3.0, 3.0), ("still", 3.0, 4.0)]
    result = pd.DataFrame(rows, columns=["unique_id", "y", "m"])
    return result.assign(level="route", ds=[*ahead] * 3, origin=ahead[0]), pd.concat(past)


def test_scores_by_hand():
    result, past = toy()
    (row,) = score(result, past, ["m"]).to_dict("records")
    assert row["WAPE"] == pytest.approx(7 / 37)
    # big: 2.5 over 7; small: 0.5 over 4 / 21; still has no scale.
    assert row["MASE"] == pytest.approx(np.mean([2.5 / 7, 0.5 / (4 / 21)]))
    rmsse = [np.sqrt(6.5) / 7, 0.5 / np.sqrt(8 / 21)]
    assert row["RMSSE"] == pytest.approx(np.mean(rmsse))
    assert row["sMAPE"] == pytest.approx(np.mean([4 / 22, 6 / 37, 2, 1 / 1.5, 0, 2 / 7]))
    assert row["MAPE"] == pytest.approx(np.mean([0.2, 0.15, 0.5, 0, 1 / 3]))
    assert row["zeros"] == pytest.approx(1 / 6)
    assert row["unscaled"] == 1


def test_a_series_without_a_scale_is_counted_and_left_out():
    _, past = toy()
    table = scales(past, pd.Timestamp("2024-01-29"))
    assert np.isnan(table.loc["still", "mae"])
    assert table.loc["big", "mae"] == 7
    assert scales(past, pd.Timestamp("2024-01-12"))["mae"].isna().all()  # under two seasons


def test_the_scale_lags_by_date_and_not_by_rows():
    """A series that repeats its weeks has next to no scale, also where five days are missing."""
    days = pd.date_range("2024-01-01", periods=84)
    y = 10.0 * days.dayofweek + 1e-9 * (np.arange(84) % 2)
    past = pd.DataFrame({"unique_id": "a", "ds": days, "y": y})
    gone = past[~past["ds"].between("2024-02-05", "2024-02-09")]
    for rows in (past, gone, gone.sample(frac=1, random_state=0)):
        assert scales(rows, pd.Timestamp("2024-03-25")).loc["a", "mae"] == pytest.approx(1e-9)


def test_score_and_wape_agree_that_an_empty_denominator_has_none():
    result, past = toy()
    nothing = result.assign(y=0.0)
    (row,) = score(nothing, past, ["m"]).to_dict("records")
    assert np.isnan(row["WAPE"]) and np.isfinite(row["MASE"])
    with pytest.raises(ValueError, match="WAPE is not defined"):
        wape(nothing["y"], nothing["m"])
    for name, rows in result.groupby("unique_id"):
        (row,) = score(rows, past, ["m"]).to_dict("records")
        assert row["WAPE"] == pytest.approx(wape(rows["y"], rows["m"])), name


def test_a_missing_forecast_gives_no_score_instead_of_a_flattering_one():
    result, past = toy()
    result.loc[0, "m"] = np.nan
    (row,) = score(result, past, ["m"]).to_dict("records")
    assert np.isnan([row[m] for m in ("WAPE", "MASE", "RMSSE", "sMAPE", "MAPE")]).all()


def crossed(by: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a duel whose gain differs between origins alone, or between series alone."""
    origins = pd.date_range("2024-03-04", periods=6, freq="28D")
    names = [f"s{k:02d}" for k in range(20)]
    grid = pd.MultiIndex.from_product([names, origins], names=["unique_id", "origin"])
    rows = grid.to_frame(index=False).assign(level="route", y=100.0, ds=lambda f: f["origin"])
    unit = pd.factorize(rows[by])[0]
    gain = np.random.default_rng(0).normal(5, 4, unit.max() + 1)[unit]
    days = pd.date_range("2024-01-01", periods=60)
    past = pd.MultiIndex.from_product([names, days], names=KEYS).to_frame(index=False)
    past["y"] = np.random.default_rng(1).normal(100, 5, len(past))
    return rows.assign(a=110.0 - gain, b=110.0), past


def check_that_both_are_drawn(interval) -> None:
    """Gains that differ between series make the interval wide, and so do those of origins."""
    assert module.RESAMPLED == ("origin", "unique_id")
    for by in module.RESAMPLED:
        rows, past = crossed(by)
        gains = (rows["b"] - rows["a"]).groupby(rows[by]).mean() / 100
        _, low, high = interval(rows, past, "a", "b", "WAPE")
        assert high - low > 2 * gains.std() / np.sqrt(len(gains)), by


def test_the_interval_draws_origins_and_series():
    check_that_both_are_drawn(paired_interval)


@pytest.mark.parametrize("axis", [0, 1], ids=["origins only", "series only"])
def test_the_check_catches_an_interval_that_draws_only_one_of_them(axis, monkeypatch):
    def one_sided(gain, weight, *options):
        total = pigeonhole(gain.sum(axis=1 - axis).to_frame(), weight.sum(axis=1 - axis).to_frame())
        return total

    monkeypatch.setattr(module, "pigeonhole", one_sided)
    with pytest.raises(AssertionError, match="unique_id" if axis == 0 else "origin"):
        check_that_both_are_drawn(paired_interval)
