"""Probabilities after resampling: Bayes' rule, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.imbalance import repair_probability


def test_repair_is_bayes_rule():
    """Thin out genuine rows, count: the repaired share is the share before."""
    frauds, genuine, keep = 30, 970, 0.1
    after = frauds / (frauds + keep * genuine)
    assert repair_probability(after, keep) == pytest.approx(frauds / (frauds + genuine))
    p = np.array([0, 0.2, 0.9, 1])
    np.testing.assert_allclose(repair_probability(repair_probability(p, 0.1), 10), p)
    np.testing.assert_allclose(repair_probability(p, 1), p)
    assert (np.diff(repair_probability(np.linspace(0, 1, 50), 0.03)) > 0).all()


def test_repair_refuses():
    with pytest.raises(ValueError, match="keep is 0"):
        repair_probability(0.5, 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        repair_probability(np.array([0.5, 1.5]), 0.1)
