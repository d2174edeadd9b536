"""The size of a test of two shares is what simulation says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from casebook.evaluate.power import needed_in_each_arm


def found(base: float, change: float, n: int, level: float = 0.05, draws: int = 4000) -> float:
    """Return by simulation how often a test with so many units in each arm finds a change."""
    shares = np.random.default_rng(0).binomial(n, [base, base + change], (draws, 2)) / n
    pooled = shares.mean(axis=1)
    error = np.sqrt(2 * pooled * (1 - pooled) / n)
    z = np.diff(shares, axis=1)[:, 0] / np.maximum(error, 1e-12)
    return float((np.abs(z) > stats.norm.isf(level / 2)).mean())


def test_the_size_gives_the_power():
    n = needed_in_each_arm(0.05, -0.01)
    assert n == pytest.approx(6745, abs=10)
    assert found(0.05, -0.01, n) == pytest.approx(0.8, abs=0.025)
    assert found(0.05, -0.01, n // 2) < 0.6, "half of them are too few"
    assert found(0.05, 0.0, n) == pytest.approx(0.05, abs=0.012)
    assert needed_in_each_arm(0.05, -0.01, design=1.5) == pytest.approx(1.5 * n, rel=1e-3)


@pytest.mark.parametrize(("base", "change"), [(0.05, 0.0), (0.0, 0.01), (0.05, -0.05)])
def test_shares_that_are_none_are_refused(base, change):
    with pytest.raises(ValueError, match="both lie between 0 and 1"):
        needed_in_each_arm(base, change)
