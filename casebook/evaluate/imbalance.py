r"""What resampling and a focal loss do to a probability, and how to take it back.

If each genuine row counts ``keep`` times as much beside a fraud as it did, Bayes' rule multiplies
the odds by ``1 / keep``; so :math:`p = \mathrm{keep}\, s / (\mathrm{keep}\, s + 1 - s)` brings a
score ``s`` back (Dal Pozzolo et al. 2015). The focal loss distorts in another way, which its
stationary point undoes.

Examples
--------
30 frauds among 970 genuine rows, of which a tenth is kept:

>>> round(float(repair_probability(np.array(30 / (30 + 97)), 0.1)), 6)
0.03
>>> round(float(repair_focal(np.array(0.5), gamma=2)), 6)
0.5

References
----------
Dal Pozzolo, Caelen, Johnson & Bontempi (2015), *Calibrating Probability with Undersampling for
Unbalanced Classification*, IEEE Symposium Series on Computational Intelligence.
Lin, Goyal, Girshick, He & Dollár (2017), *Focal Loss for Dense Object Detection*, ICCV.
Charoenphakdee, Vongkulbhisal, Chairatanakul & Sugiyama (2021), *On Focal Loss for Class-Posterior
Probability Estimation: A Theoretical Perspective*, CVPR.
Chawla, Bowyer, Hall & Kegelmeyer (2002), *SMOTE: Synthetic Minority Over-sampling Technique*,
Journal of Artificial Intelligence Research 16.
"""

from __future__ import annotations

import numpy as np

# Probabilities after resampling -------------------------------------------------------


def repair_probability(p: np.ndarray, keep: float) -> np.ndarray:
    r"""Bring probabilities back that were learned with genuine rows thinned out.

    With each genuine row kept with probability ``keep`` a model learns
    :math:`s = p / (p + \mathrm{keep} (1 - p))`. Solved for p, that is
    :math:`p = \mathrm{keep}\, s / (\mathrm{keep}\, s + 1 - s)`. A weight ``w`` on frauds is
    ``keep = 1 / w``.

    Parameters
    ----------
    p : ndarray of float, shape (n,)
        Probabilities after the change.
    keep : float
        Ratio of genuine rows to frauds after the change, over that before it.

    Returns
    -------
    ndarray, shape (n,)
        In the same order of rank.

    Raises
    ------
    ValueError
        When ``keep`` is not positive or a probability leaves 0 to 1.

    Examples
    --------
    >>> float(repair_probability(0.5, keep=0.01).round(4))
    0.0099
    """
    p = np.asarray(p, float)
    if not keep > 0:
        raise ValueError(f"keep is {keep}: a positive ratio is due")
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError("probabilities must lie between 0 and 1")
    return keep * p / (keep * p + 1 - p)


def repair_focal(q: np.ndarray, gamma: float, alpha: float = 0.5) -> np.ndarray:
    r"""Bring probabilities back that were learned with the focal loss.

    Where a share :math:`\eta` of like rows is fraud, the loss is least at the q with
    :math:`\eta A = (1 - \eta) B`, where A and B are the slopes of the two losses there:
    :math:`A = \alpha ((1-q)^\gamma / q - \gamma (1-q)^{\gamma-1} \log q)` and
    :math:`B = (1-\alpha) (q^\gamma / (1-q) - \gamma q^{\gamma-1} \log(1-q))`. So
    :math:`\eta = B / (A + B)`: with gamma 0 and alpha one half, q itself.

    Parameters
    ----------
    q : ndarray of float, shape (n,)
    gamma, alpha : float
        Of the loss, see :func:`focal_loss`.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        When a parameter is out of range.
    """
    _focal_range(gamma, alpha)
    q = np.clip(np.asarray(q, float), 1e-12, 1 - 1e-12)
    a = (1 - q) ** gamma / q - gamma * (1 - q) ** (gamma - 1) * np.log(q)
    b = q**gamma / (1 - q) - gamma * q ** (gamma - 1) * np.log1p(-q)
    a, b = alpha * a, (1 - alpha) * b
    return b / (a + b)


# The focal loss -----------------------------------------------------------------------


def _focal_range(gamma: float, alpha: float) -> None:
    if not (gamma >= 0 and 0 < alpha < 1):
        raise ValueError(f"gamma {gamma} and alpha {alpha}: at least 0, and between 0 and 1")


def _focal_terms(y, z, alpha):
    y, z = np.asarray(y, float), np.asarray(z, float)
    sign = 2 * y - 1
    log_u = -np.logaddexp(0, -sign * z)
    return np.where(y == 1, alpha, 1 - alpha), sign, np.exp(log_u), log_u


def focal_gradient(
    y: np.ndarray, z: np.ndarray, gamma: float, alpha: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the first and second derivative of the focal loss by the margin.

    With :math:`u = \sigma(\pm z)` and :math:`du/dz = \pm u (1 - u)` the first is
    :math:`\pm \alpha_y (1-u)^\gamma (\gamma u \log u - (1 - u))`, the second
    :math:`\alpha_y u (1-u)^\gamma [(1-u)(\gamma \log u + \gamma + 1) + \gamma (1-u)
    - \gamma^2 u \log u]`. The second is negative for rows that are badly wrong: the loss is not
    convex, and a Newton step needs it bounded from below.

    Parameters
    ----------
    y, z, gamma, alpha
        As in :func:`focal_loss`.

    Returns
    -------
    gradient, hessian : ndarray, shape (n,)
    """
    _focal_range(gamma, alpha)
    weight, sign, u, log_u = _focal_terms(y, z, alpha)
    rest = 1 - u
    easy = rest**gamma
    gradient = sign * weight * easy * (gamma * u * log_u - rest)
    bend = rest * (gamma * log_u + gamma + 1) + gamma * rest - gamma**2 * u * log_u
    return gradient, weight * u * easy * bend


def focal_newton(
    y: np.ndarray, z: np.ndarray, gamma: float, alpha: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return gradient and curvature for a Newton step: the second derivative, kept positive.

    It is kept above :math:`\alpha_y u (1-u)^{\gamma+1}`, the curvature of the log loss times the
    focal factor. A small constant instead lets one leaf of rows that are badly wrong step to
    infinity.

    Parameters
    ----------
    y, z, gamma, alpha
        As in :func:`focal_loss`.

    Returns
    -------
    gradient, curvature : ndarray, shape (n,)
    """
    gradient, hessian = focal_gradient(y, z, gamma, alpha)
    weight, _, u, _ = _focal_terms(y, z, alpha)
    return gradient, np.maximum(hessian, weight * u * (1 - u) ** (gamma + 1))
