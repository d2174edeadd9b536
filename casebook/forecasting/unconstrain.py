"""Demand behind sales: what may have been wanted when the shelf was empty.

A day that sold out is *censored*: demand was what was sold, or more. Two ways to use such days: a
normal regression whose likelihood knows them (Tobit), and the curve of Kaplan and Meier
(:func:`casebook.evaluate.survival.kaplan_meier`), which assumes no form. Each gives a *tail*: what
demand is on average, and what it may be, beyond what was sold.

Examples
--------
Five days of a shelf with six units; the true mean was 6, three days sold out:

>>> sold, sold_out = np.array([4.0, 6, 6, 5, 6]), np.array([False, True, True, False, True])
>>> fit = tobit(np.ones((5, 1)), sold, sold_out)
>>> [round(float(mean), 2) for mean in (sold.mean(), sold[~sold_out].mean(), fit.beta[0])]
[5.4, 4.5, 6.28]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from casebook.evaluate.survival import kaplan_meier


@dataclass(frozen=True)
class Tobit:
    """A normal regression: ``y = X beta + sigma Z``."""

    beta: np.ndarray
    sigma: float


def tobit(X: ArrayLike, y: ArrayLike, censored: ArrayLike) -> Tobit:
    """Fit a normal regression to values of which some are lower bounds.

    Parameters
    ----------
    X : array_like, shape (n, k)
    y : array_like, shape (n,)
        What was seen.
    censored : array_like of bool, shape (n,)
        Where the true value may be more.

    Returns
    -------
    Tobit

    Raises
    ------
    ValueError
        If fewer than two values are known: they say nothing of the spread.

    References
    ----------
    Tobin (1958), *Estimation of relationships for limited dependent variables*, Econometrica.
    """
    from scipy.optimize import minimize
    from scipy.special import log_ndtr

    X, y, c = np.asarray(X, float), np.asarray(y, float), np.asarray(censored, bool)
    if (~c).sum() < 2:
        raise ValueError(f"{(~c).sum()} values are known: two at least tell a spread.")

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = (y - X @ theta[:-1]) * np.exp(-theta[-1])
        log_tail = log_ndtr(-z[c])
        # Of a known value the slope is z; of a bound the hazard of the normal distribution.
        slope = z.copy()
        slope[c] = np.exp(-0.5 * z[c] ** 2 - 0.5 * np.log(2 * np.pi) - log_tail)
        value = 0.5 * (z[~c] ** 2).sum() + (~c).sum() * theta[-1] - log_tail.sum()
        to_beta = -np.exp(-theta[-1]) * (X.T @ slope)
        return value, np.append(to_beta, (~c).sum() - (slope * z).sum())

    first = np.linalg.lstsq(X, y, rcond=None)[0]
    start = np.append(first, np.log(max((y - X @ first).std(), 1e-3)))
    found = minimize(loss, start, jac=True, method="L-BFGS-B")
    return Tobit(found.x[:-1], float(np.exp(found.x[-1])))


class Tail(Protocol):
    """What a value is, given that it is no less than a bound."""

    def mean_above(self, bound: np.ndarray) -> np.ndarray:
        """Return the mean of the values that are no less than each bound."""

    def draw_above(self, bound: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return a value that is no less than each bound, by luck between 0 and 1."""


@dataclass(frozen=True)
class SquaredNormal:
    """The tail of a squared normal: counts have an even spread on the scale of their roots.

    On the scale of logs a day with one unit lies far from a day with two; a Tobit of logs takes
    that for a wide distribution, and fills days that sold out with far too much.

    Examples
    --------
    >>> tail = SquaredNormal(mu=1.0, sigma=0.3)
    >>> tail.mean_above(np.array([0.0, 1.0, 3.0])).round(2).tolist()
    [1.09, 1.57, 3.36]
    """

    mu: float
    sigma: float

    def mean_above(self, bound: np.ndarray) -> np.ndarray:
        """Return the mean of the values that are no less than each bound."""
        from scipy.special import log_ndtr

        root = np.sqrt(bound)
        z = (root - self.mu) / self.sigma
        hazard = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-z))
        mean = self.mu**2 + self.sigma**2 + self.sigma * (self.mu + root) * hazard
        return np.maximum(mean, bound)

    def draw_above(self, bound: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return a value that is no less than each bound, by luck between 0 and 1."""
        from scipy.special import ndtr, ndtri

        left = ndtr((self.mu - np.sqrt(bound)) / self.sigma) * (1 - np.asarray(uniform))
        root = self.mu - self.sigma * ndtri(np.maximum(left, 1e-12))
        return np.maximum(root, 0) ** 2


class Curve:
    """The tail of a curve of Kaplan and Meier; its rest lies at the largest value that was seen.

    Parameters
    ----------
    values, censored : array_like, shape (n,)
        As of :func:`tobit`; some value must be known.

    Examples
    --------
    >>> tail = Curve([1.0, 2.0, 2.5, 3.0], [False, False, True, False])
    >>> tail.mean_above(np.array([0.0, 2.5, 9.0])).tolist()
    [2.25, 3.0, 9.0]
    """

    def __init__(self, values: ArrayLike, censored: ArrayLike) -> None:
        values, known = np.asarray(values, float), ~np.asarray(censored, bool)
        curve = kaplan_meier(values, known)
        if curve.empty:
            raise ValueError("no value is known: a curve needs one at least.")
        mass = -np.diff(curve.to_numpy(), prepend=1.0)
        self.at, self.mass = np.append(curve.index, values.max()), np.append(mass, curve.iloc[-1])
        self._left = np.append(self.mass[::-1].cumsum()[::-1], 0.0)
        self._sum = np.append((self.mass * self.at)[::-1].cumsum()[::-1], 0.0)

    def mean_above(self, bound: np.ndarray) -> np.ndarray:
        """Return the mean of the values that are no less than each bound."""
        k = np.searchsorted(self.at, bound)
        left = self._left[k]
        mean = np.divide(self._sum[k], left, out=np.array(bound, float), where=left > 1e-9)
        return np.maximum(mean, bound)

    def draw_above(self, bound: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return a value that is no less than each bound, by luck between 0 and 1."""
        left = self._left[np.searchsorted(self.at, bound)] * (1 - np.asarray(uniform))
        k = np.searchsorted(-self._left[1:], -left, side="left")
        return np.maximum(self.at[np.minimum(k, len(self.at) - 1)], bound)
