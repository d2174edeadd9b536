"""Probabilities after resampling and a focal loss: Bayes' rule, derivatives, the least risk."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.imbalance import (
    focal_gradient,
    focal_newton,
    repair_focal,
    repair_probability,
)


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


Z = np.linspace(-6, 6, 61)


def focal_loss(y, z, gamma, alpha=0.5):
    """The loss as its paper has it: alpha_t (1 - p_t)^gamma (-log p_t)."""
    signed = np.where(np.asarray(y) == 1, z, -np.asarray(z, float))
    weight = np.where(np.asarray(y) == 1, alpha, 1 - alpha)
    return weight * (1 + np.exp(signed)) ** -float(gamma) * np.log1p(np.exp(-signed))


@pytest.mark.parametrize(("gamma", "alpha"), [(0, 0.5), (0.5, 0.25), (1, 0.5), (2, 0.75), (5, 0.9)])
@pytest.mark.parametrize("label", [0, 1])
def test_derivatives_against_finite_differences(gamma, alpha, label):
    y, h = np.full(Z.size, label), 1e-4
    up, here, down = (focal_loss(y, Z + d, gamma, alpha) for d in (h, 0, -h))
    gradient, hessian = focal_gradient(y, Z, gamma, alpha)
    np.testing.assert_allclose(gradient, (up - down) / (2 * h), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(hessian, (up - 2 * here + down) / h**2, rtol=1e-4, atol=1e-6)


def test_without_focus_it_is_half_the_log_loss():
    from sklearn.metrics import log_loss

    y = (Z > 1).astype(int)
    expected = log_loss(y, 1 / (1 + np.exp(-Z)), normalize=True)
    assert focal_loss(y, Z, gamma=0).mean() == pytest.approx(expected / 2)


def test_the_curvature_of_a_step_stays_positive():
    y = np.ones(Z.size)
    _, hessian = focal_gradient(y, Z, 2)
    assert hessian.min() < 0
    gradient, curvature = focal_newton(y, Z, 2)
    assert (curvature > 0).all()
    np.testing.assert_array_equal(curvature[hessian == curvature], hessian[hessian == curvature])
    np.testing.assert_array_equal(gradient, focal_gradient(y, Z, 2)[0])


@pytest.mark.parametrize(("gamma", "alpha"), [(0, 0.5), (0, 0.8), (1, 0.5), (2, 0.25), (3, 0.6)])
def test_repair_finds_the_share_whose_loss_is_least_there(gamma, alpha):
    from scipy.optimize import minimize_scalar

    for share in (0.002, 0.05, 0.3, 0.8):

        def risk(z, share=share):
            of_fraud, of_genuine = focal_loss([1, 0], [z, z], gamma, alpha)
            return share * of_fraud + (1 - share) * of_genuine

        z = minimize_scalar(risk, bounds=(-15, 15), method="bounded", options={"xatol": 1e-9}).x
        assert repair_focal(1 / (1 + np.exp(-z)), gamma, alpha) == pytest.approx(share, rel=1e-3)


def test_focal_refuses():
    for gamma, alpha in ((-1, 0.5), (2, 0), (2, 1)):
        for function in (focal_gradient,):
            with pytest.raises(ValueError, match="at least 0, and between 0 and 1"):
                function([1], [0.0], gamma, alpha)
        with pytest.raises(ValueError, match="at least 0, and between 0 and 1"):
            repair_focal(0.5, gamma, alpha)
