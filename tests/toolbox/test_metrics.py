"""Metrics against libraries and hand-computed values, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from utilsforecast.losses import nd

from casebook.evaluate.metrics import mape, score_forecasts, wape, wape_difference_interval

QUARTERS = pd.date_range("2018-01-01", periods=16, freq="QS")


def panel(seed: int = 0, n_series: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.MultiIndex.from_product(
        [[f"s{i}" for i in range(n_series)], QUARTERS], names=["unique_id", "ds"]
    ).to_frame(index=False)
    frame["y"] = rng.lognormal(3, 0.5, len(frame))
    frame["good"] = frame["y"] * rng.lognormal(0, 0.05, len(frame))
    frame["poor"] = frame["y"] * rng.lognormal(0, 0.40, len(frame))
    return frame


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    last_year = frame["ds"] >= QUARTERS[-4]
    return frame[last_year], frame.loc[~last_year, ["unique_id", "ds", "y"]]


def test_wape_is_the_sum_of_errors_over_the_sum_of_actuals():
    assert wape([10, 30], [12, 27]) == pytest.approx(5 / 40)


def test_wape_of_each_series_equals_nd_of_utilsforecast():
    frame = panel()
    theirs = nd(frame, ["poor"]).set_index("unique_id")["poor"]
    ours = frame.groupby("unique_id")[["y", "poor"]].apply(lambda s: wape(s["y"], s["poor"]))
    pd.testing.assert_series_equal(ours, theirs, check_names=False)


def test_pooled_wape_equals_nd_of_one_series():
    frame = panel().assign(unique_id="all")
    assert wape(frame["y"], frame["poor"]) == pytest.approx(nd(frame, ["poor"])["poor"].item())


def test_mape_is_the_mean_of_relative_errors():
    assert mape([10, 20], [11, 16]) == pytest.approx((0.1 + 0.2) / 2)


@pytest.mark.parametrize("metric", [wape, mape])
@pytest.mark.parametrize(
    ("actual", "forecast", "reason"),
    [
        ([1, 2, 3], [1, 2], r"shape \(3,\) and forecast \(2,\): align"),
        ([1.0, np.nan], [1, 2], "actual holds 1 missing values of 2"),
        ([1, 2], [np.nan, np.nan], "forecast holds 2 missing values of 2"),
    ],
)
def test_a_pair_that_cannot_be_scored_is_refused_with_the_reason(metric, actual, forecast, reason):
    with pytest.raises(ValueError, match=reason):
        metric(actual, forecast)


def test_mape_refuses_actuals_of_zero():
    with pytest.raises(ValueError, match="2 of 3 actuals are zero"):
        mape([0, 0, 1], [1, 1, 1])


def test_wape_refuses_actuals_that_sum_to_zero():
    with pytest.raises(ValueError, match="sum to zero"):
        wape([0, 0], [1, 1])


def test_score_forecasts_equals_the_hand_computed_scores():
    train = pd.DataFrame({"unique_id": "a", "ds": QUARTERS[:6], "y": [10.0, 20, 30, 40, 12, 24]})
    test = pd.DataFrame({"unique_id": "a", "ds": QUARTERS[6:8], "y": [33.0, 44], "m": [30.0, 40]})
    scores = score_forecasts(test, train, 4, ["m"]).loc["m"]
    assert scores["WAPE"] == pytest.approx(7 / 77)
    assert scores["MASE"] == pytest.approx(3.5 / 3)  # seasonal steps in train: 2 and 4
    assert scores["RMSSE"] == pytest.approx(np.sqrt(12.5) / np.sqrt(10))


@pytest.mark.parametrize("score", ["MASE", "RMSSE"])
def test_the_denominator_comes_from_train_only(score):
    """The same errors on other test actuals score the same; other training data do not."""
    test, train = split(panel())
    shifted = test.assign(y=test["y"] + 500, poor=test["poor"] + 500)
    before = score_forecasts(test, train, 4, ["poor"]).loc["poor", score]
    assert score_forecasts(shifted, train, 4, ["poor"]).loc["poor", score] == pytest.approx(before)
    wider = train.assign(y=train["y"] * 2)
    assert score_forecasts(test, wider, 4, ["poor"]).loc["poor", score] == pytest.approx(before / 2)


def test_a_test_period_in_the_training_frame_is_refused():
    frame = panel()
    test, _ = split(frame)
    with pytest.raises(ValueError, match="24 test periods also stand in the training frame"):
        score_forecasts(test, frame[["unique_id", "ds", "y"]], 4, ["poor"])


def test_a_missing_forecast_is_refused():
    test, train = split(panel())
    test = test.assign(poor=test["poor"].where(test["unique_id"] != "s1"))
    with pytest.raises(ValueError, match="forecast holds 4 missing values"):
        score_forecasts(test, train, 4, ["good", "poor"])


def test_scores_do_not_depend_on_the_order_of_rows():
    test, train = split(panel())
    mixed = score_forecasts(
        test.sample(frac=1, random_state=1),
        train.sample(frac=1, random_state=2),
        4,
        ["good", "poor"],
    )
    pd.testing.assert_frame_equal(mixed, score_forecasts(test, train, 4, ["good", "poor"]))


def test_seasonal_naive_on_australian_tourism_has_its_known_mase(needs_real_data):
    from casebook.cases.how_a_case_works.system import seasonal_naive, walk_forward
    from casebook.data.tables import tourism

    frame = tourism(needs_real_data)
    forecasts = walk_forward(frame, {"naive": seasonal_naive}, n_origins=1, horizon=8)
    train = frame[frame["ds"] < forecasts["origin"].iloc[0]]
    scores = score_forecasts(forecasts, train, 4, ["naive"])
    assert scores.loc["naive", "MASE"] == pytest.approx(1.167, abs=1e-3)


def test_the_difference_interval_holds_the_difference_of_the_two_wapes():
    frame = panel(n_series=30)
    difference, low, high = wape_difference_interval(frame, "good", "poor")
    assert difference == pytest.approx(
        wape(frame["y"], frame["good"]) - wape(frame["y"], frame["poor"])
    )
    assert low < difference < high


def test_a_clearly_better_model_has_an_interval_below_zero():
    frame = panel(n_series=30)
    assert wape_difference_interval(frame, "good", "poor")[2] < 0
    assert wape_difference_interval(frame, "poor", "good")[1] > 0


def test_two_equally_good_models_have_an_interval_around_zero():
    """In one of twenty worlds it may miss zero: at most 5 of 40 do."""
    rng, missed = np.random.default_rng(5), 0
    for world in range(40):
        frame = panel(seed=world, n_series=30)
        frame["a"] = frame["y"] + rng.normal(0, 3, len(frame))
        frame["b"] = frame["y"] + rng.normal(0, 3, len(frame))
        _, low, high = wape_difference_interval(frame, "a", "b", n_resamples=400)
        missed += not low < 0 < high
    assert missed <= 5


def test_the_difference_interval_is_the_same_for_the_same_seed():
    frame = panel(n_series=30)
    first = wape_difference_interval(frame, "good", "poor", n_resamples=200, seed=1)
    assert wape_difference_interval(frame, "good", "poor", n_resamples=200, seed=1) == first
    assert wape_difference_interval(frame, "good", "poor", n_resamples=200, seed=2) != first


def test_the_difference_interval_is_wider_at_a_higher_level():
    frame = panel(n_series=30)
    _, low, high = wape_difference_interval(frame, "good", "poor", level=0.8)
    _, lower, higher = wape_difference_interval(frame, "good", "poor", level=0.99)
    assert lower < low < high < higher


def test_the_difference_interval_covers_where_errors_of_a_series_hang_together():
    """Both models err together, by series: unpaired or row-wise resampling misses the band."""
    rng = np.random.default_rng(11)
    n_worlds, n_series, n_periods = 150, 40, 8
    truth = np.sqrt(2 / np.pi) * (np.sqrt(1.0**2 + 0.2**2) - np.sqrt(1.3**2 + 0.2**2)) / 10
    frame = pd.DataFrame({"unique_id": np.repeat(np.arange(n_series), n_periods), "y": 10.0})
    covered = 0
    for world in range(n_worlds):
        shared = np.repeat(rng.normal(0, 1, n_series), n_periods)
        for model, bias in (("m", 1.0), ("b", 1.3)):
            frame[model] = frame["y"] + bias * shared + rng.normal(0, 0.2, len(frame))
        _, low, high = wape_difference_interval(frame, "m", "b", n_resamples=300, seed=world)
        covered += low <= truth <= high
    assert 0.88 <= covered / n_worlds <= 0.99
