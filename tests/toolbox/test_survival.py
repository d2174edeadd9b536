"""The survival curve is that of lifelines, and its area by hand."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from casebook.evaluate.survival import kaplan_meier, restricted_mean


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
