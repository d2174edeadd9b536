"""The survival curve is that of lifelines, and its area by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from scipy import stats

from casebook.evaluate.survival import (
    Ranges,
    aft,
    bias_of_dropping,
    censored,
    cox,
    kaplan_meier,
    lasting,
    quantiles,
    restricted_mean,
)


@pytest.mark.parametrize("seed", range(4))
def test_kaplan_meier_agrees_with_lifelines(seed):
    rng = np.random.default_rng(seed)
    durations, ended = rng.gamma(2, 10, 400).round(seed), rng.random(400) < 0.7
    ours = kaplan_meier(durations, ended)
    theirs = KaplanMeierFitter().fit(durations, ended)
    at = np.linspace(1, ours.index.max() - 1, 40)
    step = ours.reindex(ours.index.union(at)).ffill().fillna(1.0)[at]
    np.testing.assert_allclose(step, theirs.survival_function_at_times(at), atol=1e-9)
    dropped = kaplan_meier(durations[ended], ended[ended])  # the planted fault
    assert restricted_mean(dropped, 60) < restricted_mean(ours, 60) - 1


def test_the_restricted_mean_by_hand():
    curve = kaplan_meier([1.0, 2.0, 3.0, 9.0], [True] * 4)
    assert restricted_mean(curve, 5.0) == pytest.approx((1 + 2 + 3 + 5) / 4)
    assert restricted_mean(curve, 100.0) == pytest.approx(15 / 4)


def test_times_that_are_none_are_refused():
    with pytest.raises(ValueError, match="negative or missing"):
        kaplan_meier([1.0, np.nan], [True, False])
    with pytest.raises(ValueError, match="one of each a case"):
        kaplan_meier([1.0], [True, False])


# Regressions ---------------------------------------------------------------------------


def running(n: int = 600) -> tuple[pd.DataFrame, pd.Timestamp]:
    """Return cases that began over six days; a load doubles their hours."""
    rng, now = np.random.default_rng(0), pd.Timestamp("2025-06-11")
    began = now - pd.to_timedelta(rng.uniform(0.1, 144, n), unit="h")
    load = rng.uniform(0, 1, n)
    hours = 60 * 2**load * rng.lognormal(0, 0.4, n)
    ends = began + pd.to_timedelta(hours, unit="h")
    rows = pd.DataFrame({"known_at": began, "load": load, "remaining": hours, "label_at": ends})
    return rows, now


def test_what_is_under_way_is_known_to_take_longer():
    rows, now = running()
    known = censored(rows, now)
    assert 0.3 < (~known["arrived"]).mean() < 0.8
    under_way = known[~known["arrived"]]
    assert (under_way["duration"] <= under_way["remaining"] + 1e-6).all()
    assert censored(rows, now - pd.Timedelta(days=5))["known_at"].max() < now


def test_dropping_what_is_under_way_is_biased_low_and_the_curve_is_not():
    rows, now = running(4000)
    found = bias_of_dropping(rows.assign(truth=rows["remaining"]), now, most=120.0)
    assert found["cases"] == 4000 and 0.3 < found["running"] < 0.8
    assert found["bias"] < -15 and abs(found["km_bias"]) < 0.2 * abs(found["bias"])
    true = rows["remaining"].clip(upper=120).mean()
    assert found["true"] == pytest.approx(true)
    assert found["ended"] == pytest.approx(found["true"] + found["bias"])
    later = bias_of_dropping(rows.assign(truth=rows["remaining"]), now + pd.Timedelta("60D"), 120.0)
    assert later["running"] == 0 and later["bias"] == pytest.approx(0)


def test_a_regression_forecasts_ranges():
    rows, now = running()
    known = censored(rows, now)[["load", "duration", "arrived"]]
    made = Ranges(aft(known), lambda asked: asked[["load"]]).predict(rows.head(5))
    assert made.index.equals(rows.index[:5]) and list(made) == ["p10", "p50", "p90"]
    assert (np.diff(made, axis=1) > 0).all()


@pytest.mark.parametrize("fitted", [aft, cox])
def test_a_regression_hears_the_cases_under_way(fitted):
    rows, now = running()
    frame = censored(rows, now)[["load", "duration", "arrived"]]
    asked = pd.DataFrame({"load": [0.0, 1.0]})
    made = quantiles(fitted(frame), asked, (0.1, 0.5, 0.9))
    assert (np.diff(made, axis=1) > 0).all() and made[1, 1] > 1.4 * made[0, 1]
    assert made[:, 1] == pytest.approx([60, 120], rel=0.2)
    deaf = quantiles(fitted(frame[frame["arrived"]]), asked, (0.5,))  # the planted fault
    assert deaf[1, 0] < 0.85 * made[1, 1]
    few = fitted(frame, most=100)
    assert len(few.durations) == 100 and np.isfinite(quantiles(few, asked, (0.999,))).all()


def test_a_duration_that_has_begun_has_the_conditional_distribution():
    rng = np.random.default_rng(0)
    median, sd, beyond = np.full(20_000, 4.0), 0.35, 5.5
    drawn = lasting(rng, median, sd, beyond)
    assert drawn.min() > beyond
    whole = stats.lognorm(sd, scale=4.0)
    cdf = (whole.cdf(drawn) - whole.cdf(beyond)) / whole.sf(beyond)
    assert stats.kstest(cdf, "uniform").pvalue > 0.01
    assert stats.kstest(whole.cdf(drawn), "uniform").pvalue < 1e-6  # the test can fail
    assert np.isfinite(lasting(rng, median, sd, 1e4)).all()
