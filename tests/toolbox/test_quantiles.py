"""Losses of quantiles and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.quantiles import (
    crossings,
    interval_score,
    pinball,
    pinball_losses,
    uncrossed,
)


def test_by_hand():
    assert pinball_losses([10, 12], [11, 11], 0.9) == pytest.approx([0.1, 0.9])
    assert interval_score([8, 10, 14], [9] * 3, [12] * 3, 0.8) == pytest.approx([13, 3, 23])
    assert crossings([[1, 2, 3], [2, 1, 3]]) == 0.5
    assert uncrossed([[2, 1, 3]]).tolist() == [[1, 2, 3]]


def test_pinball_agrees_with_scikit_learn():
    from sklearn.metrics import mean_pinball_loss

    y, q = np.random.default_rng(0).normal(size=(2, 500))
    assert pinball(y, q, 0.7) == pytest.approx(mean_pinball_loss(y, q, alpha=0.7))


def test_the_interval_score_is_twice_the_pinball_losses_over_the_miss_rate():
    y, low = np.random.default_rng(1).normal(size=(2, 500))
    high = low + 2
    both = pinball_losses(y, low, 0.1) + pinball_losses(y, high, 0.9)
    np.testing.assert_allclose(interval_score(y, low, high, 0.8), both / 0.1)


def test_the_true_quantiles_have_the_least_score():
    y = np.random.default_rng(2).exponential(size=20_000)
    ends = [(p, q) for p in (0.05, 0.1, 0.2) for q in (0.8, 0.9, 0.97)]
    scores = {
        pair: interval_score(y, *(np.full(len(y), -np.log(1 - p)) for p in pair)).mean()
        for pair in ends
    }
    assert min(scores, key=scores.get) == (0.1, 0.9)


def test_sorting_crossed_quantiles_never_costs():
    rng = np.random.default_rng(3)
    y, raw = rng.normal(size=400), rng.normal(size=(400, 3))
    before, after = (
        sum(pinball(y, q[:, k], level) for k, level in enumerate((0.1, 0.5, 0.9)))
        for q in (raw, uncrossed(raw))
    )
    assert crossings(raw) > 0.5 and crossings(uncrossed(raw)) == 0 and after < before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([1.0], [2.0], 1.0), "lies between 0 and 1"),
        (([1.0], [2.0, 3.0], 0.5), "shapes differ"),
        (([np.nan], [2.0], 0.5), "1 values are missing"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        pinball(*arguments)
    with pytest.raises(ValueError, match="end before they begin"):
        interval_score([1.0], [3.0], [2.0])
