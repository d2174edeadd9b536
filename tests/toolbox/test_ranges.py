"""Ranges: their losses by hand, their corrections, and the trees that make them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate import gap
from casebook.evaluate.conformal import cqr_scores, quantile
from casebook.evaluate.quantiles import crossings
from casebook.evaluate.ranges import (
    COVER,
    NAMES,
    adapted,
    as_forecast,
    compare,
    conformalise,
    daily_sums,
    follower,
    jumps,
    losses,
    rolling_means,
    sane,
    score,
    scores,
    usable,
    widened,
)
from casebook.forecasting.quantile_trees import Quantiles, fit, mapie_interval


def cases(n: int, seed: int) -> pd.DataFrame:
    """Return cases whose spread depends on their group, one an hour, each known after a day."""
    rng = np.random.default_rng(seed)
    known = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(n), unit="h")
    group, x = np.where(np.arange(n) % 3, "calm", "wild"), rng.uniform(0, 50, n)
    rows = pd.DataFrame({"known_at": known, "x": x, "code": np.arange(n) % 4, "group": group})
    rows["remaining"] = 50 + x + rng.normal(0, np.where(group == "wild", 15.0, 3.0))
    return rows.assign(truth=rows["remaining"], label_at=known + pd.Timedelta(days=1))


@pytest.fixture(scope="module")
def model() -> Quantiles:
    return fit(cases(1500, 0), ["x", "code"], categories=["code"], n_estimators=20, offset="x")


def covered(rows: pd.DataFrame, made: pd.DataFrame) -> pd.Series:
    return rows["remaining"].between(made["p10"] - 1e-9, made["p90"] + 1e-9)


def test_losses_by_hand():
    rows = pd.DataFrame({"truth": [10.0, 30.0], "stage": ["out", "out"], "remaining": [7.0, 15.0]})
    forecast = pd.DataFrame([[8.0, 9.0, 12.0], [8.0, 9.0, 12.0]], columns=NAMES)
    found = score(rows, forecast).iloc[0]
    assert found["n"] == 2 and found["coverage"] == 0.5 and found["late"] == 0.5
    assert found["width"] == 4 and found["mae"] == 11
    assert found["interval_score"] == pytest.approx((4 + 4 + 10 * 18) / 2)
    first = np.mean([0.1 * 2, 0.5 * 1, 0.1 * 2])
    second = np.mean([0.1 * 22, 0.5 * 21, 0.9 * 18])
    assert found["pinball"] == pytest.approx((first + second) / 2)
    assert score(rows, forecast, "stage").loc["out", "n"] == 2
    both = compare(rows, {"b": forecast, "a": widened(forecast, 20.0)})
    assert both["coverage"].to_dict() == {"b": 0.5, "a": 1.0} and list(both.index) == ["b", "a"]
    assert scores(rows, forecast).tolist() == [1.0, 3.0]
    with pytest.raises(ValueError, match="different indexes"):
        losses(rows, forecast.set_axis([3, 4]))


def test_crossings_are_mended_and_nothing_is_below_zero():
    raw = np.array([[5.0, 3.0, 9.0], [-2.0, 1.0, 2.0]])
    made = as_forecast(raw, pd.RangeIndex(2))
    assert crossings(raw) == 0.5 and made.to_numpy().tolist() == [[3, 5, 9], [0, 1, 2]]


def test_a_row_that_is_nonsense_spoils_no_other():
    values = np.array([[1.0, 2, 3], [1, np.nan, 3], [1, 2, np.inf], [-1, 2, 3], [1, 2, 99]])
    assert sane(values, most=50).tolist() == [True, False, False, False, False]
    assert usable(values, most=50) is values and len(usable(values[:0], most=50)) == 0
    with pytest.raises(ValueError, match="no row of 4 is usable, such as"):
        usable(values[1:], most=50)


def test_a_new_forecast_moves_the_end_of_its_own_case():
    known = pd.Timestamp("2025-01-01") + pd.to_timedelta([0, 1, 5, 2], unit="h")
    rows = pd.DataFrame({"known_at": known, "case": [1, 2, 1, 1]}, index=[9, 3, 5, 7])
    forecast = pd.DataFrame({"p50": [10.0, 4.0, 8.0, 8.0]}, rows.index)
    found = jumps(rows, forecast, "case")
    assert found.index.tolist() == [9, 3, 5, 7]
    np.testing.assert_allclose(found, [np.nan, np.nan, 3.0, 0.0])  # due at 10, 10, then 13


def test_a_rolling_mean_weighs_each_case_alike_and_fills_empty_days():
    rows = cases(60, 8)
    rows = rows[rows["known_at"].dt.day != 2]
    forecast = pd.DataFrame({"p10": 60.0, "p50": 75.0, "p90": 90.0}, rows.index)
    means = rolling_means(daily_sums(rows, forecast), days=2)
    assert len(means) == 3 and means["n"].tolist() == [24, 24, 12]
    last = rows[rows["known_at"].dt.day >= 2]
    assert means["covered"].iloc[-1] == pytest.approx(
        score(last, forecast.loc[last.index])["coverage"].iloc[0]
    )


def test_an_interval_that_gets_narrower_never_turns_around():
    forecast = pd.DataFrame([[10.0, 12.0, 20.0], [1.0, 2.0, 3.0]], columns=NAMES)
    assert widened(forecast, 2.0).to_numpy().tolist() == [[8, 12, 22], [0, 2, 5]]
    narrow = widened(forecast, np.array([-8.0, 0.0]))
    assert narrow.iloc[0].tolist() == [15, 15, 15] and narrow.iloc[1].tolist() == [1, 2, 3]


def test_the_calibration_rows_are_covered_as_often_as_is_promised(model):
    rows = cases(1200, 1)
    one, own = (covered(rows, conformalise(model, rows, by).predict(rows)) for by in ("", "group"))
    assert one.mean() == pytest.approx(COVER, abs=0.01)
    by_group = own.groupby(rows["group"]).mean()
    np.testing.assert_allclose(by_group, COVER, atol=0.01)
    assert one.groupby(rows["group"]).mean()["wild"] < 0.7, "one correction pays for the other"


def test_what_is_not_known_yet_is_not_used(model):
    start, rows = cases(300, 2), cases(500, 3)
    rows["remaining"] *= np.where(np.arange(500) < 250, 1.0, 2.0)
    moving = adapted(model, follower(model, start, gamma=0.01, window=100), rows)
    cut = rows["known_at"].iloc[300]
    hidden = rows.assign(remaining=rows["remaining"].where(rows["label_at"] <= cut, 1e5))
    again = adapted(model, follower(model, start, gamma=0.01, window=100), hidden)
    before = rows["known_at"] <= cut
    pd.testing.assert_frame_equal(again[before], moving[before])
    assert not np.allclose(again["correction"], moving["correction"])
    assert moving["correction"].iloc[-1] > moving["correction"].iloc[200] + 10


# Trees ---------------------------------------------------------------------------------


def test_labels_are_needed_and_the_same_seed_gives_the_same_model():
    rows = cases(200, 4)
    with pytest.raises(ValueError, match="1 without a label: train on ripe rows"):
        fit(rows.assign(remaining=rows["remaining"].where(np.arange(200) > 0)), ["x"])
    with pytest.raises(ValueError, match="0 rows"):
        fit(rows.iloc[:0], ["x"])
    twice = [fit(rows, ["x"], n_estimators=5).raw(rows) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


def test_trees_follow_a_plan_beyond_their_training_and_alone_they_do_not(model):
    far = cases(50, 5).assign(x=500.0)
    alone = fit(cases(1500, 0), ["x", "code"], n_estimators=20)
    assert model.predict(far)["p50"].min() > 500 and alone.predict(far)["p50"].max() < 150


def test_the_correction_by_hand_is_that_of_mapie(model, caplog, capsys):
    calibration, rows = cases(400, 6), cases(100, 7)
    low, _, high = model.raw(calibration).T
    correction = quantile(cqr_scores(calibration["remaining"], low, high), COVER)
    low, _, high = model.raw(rows).T
    library = mapie_interval(model, calibration, rows)
    np.testing.assert_allclose(library, [low - correction, high + correction])
    assert not caplog.records and not capsys.readouterr().err  # its remarks are for no page


# Over worlds ---------------------------------------------------------------------------


def test_a_share_of_the_gap_and_a_ratio_are_paired_by_world():
    table = pd.DataFrame({"seed": np.repeat([1, 2, 3], 3), "model": ["none", "ours", "oracle"] * 3})
    table["loss"] = [9.0, 5.0, 1.0, 90.0, 30.0, 10.0, 8.0, 4.0, 0.0]
    share = gap.closed(table, "ours", "none", "oracle", "loss")
    assert share.mean == pytest.approx((0.5 + 0.75 + 0.5) / 3) and share.low < 0.5 < share.high
    shuffled = table.sample(frac=1, random_state=0)
    assert gap.closed(shuffled, "ours", "none", "oracle", "loss") == pytest.approx(share)
    assert gap.ratio(table, "ours", "none", "loss").mean == pytest.approx((5 / 9 + 1 / 3 + 0.5) / 3)
    with pytest.raises(ValueError, match="lacks"):
        gap.closed(table, "ours", "nobody", "oracle", "loss")
