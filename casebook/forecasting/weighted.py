"""Linear reconciliation in closed form, by any covariance of the base forecasts' errors.

All linear methods share one form. Of base forecasts ``b`` with error covariance ``W``, and
constraints ``C`` that a coherent forecast meets (``C b = 0``), the reconciled forecast is
``b - W C' (C W C')^-1 C b``: each node moves in proportion to the variance that it shares with the
gap. OLS takes the identity for ``W``, structural WLS the number of bottom series of each node, WLS
the variances of the errors, MinT their whole (shrunk) covariance.

Examples
--------
>>> S = np.array([[1.0, 1], [1, 0], [0, 1]])  # total, A, B
>>> weighted(S, np.array([100.0, 60, 50]), np.array([15.0, 16, 9])).tolist()
[103.75, 56.0, 47.75]
"""

from __future__ import annotations

import numpy as np


def weighted(S: np.ndarray, base: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Reconcile by generalised least squares with a known covariance of the errors.

    Parameters
    ----------
    S : ndarray, shape (nodes, bottom series)
        Its last rows are the identity.
    base : ndarray, shape (nodes,) or (nodes, periods)
    covariance : ndarray, shape (nodes, nodes) or (nodes,)
        Of the base forecasts' errors; a vector is its diagonal.

    Returns
    -------
    ndarray, shape of ``base``
        Coherent; not clipped at zero.
    """
    above = len(S) - S.shape[1]
    constraints = np.hstack([np.eye(above), -S[:above]])
    covariance = np.asarray(covariance, float)
    spread = np.diag(covariance) if covariance.ndim == 1 else covariance
    shared = spread @ constraints.T
    return base - shared @ np.linalg.solve(constraints @ shared, constraints @ base)
