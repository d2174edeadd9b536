"""Shocks that fade: autoregressive paths of a world, and how they may go on from a day.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> path = paths(rng, (2000, 3), rho=0.9, sd=0.2)
>>> path.shape, bool(abs(path.std() - 0.2) < 0.02)
((2000, 3), True)
>>> ahead = onward(rng, np.array([0.4]), rho=0.9, sd=0.2, days=2, draws=40_000)
>>> ahead.mean(axis=0).round(1).ravel().tolist()
[0.4, 0.3]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def paths(rng: np.random.Generator, shape: tuple[int, int], rho: float, sd: float) -> np.ndarray:
    """Draw stationary autoregressive paths, one a column.

    Parameters
    ----------
    rng : Generator
    shape : tuple of int
        Days, paths.
    rho, sd : float
        What is left a day later; stationary standard deviation.
    """
    steps = rng.standard_normal(shape)
    path = np.empty(shape)
    path[0] = steps[0]
    for day in range(1, shape[0]):
        path[day] = rho * path[day - 1] + np.sqrt(1 - rho**2) * steps[day]
    return sd * path


def onward(
    rng: np.random.Generator, now: np.ndarray, rho: float, sd: float, days: int, draws: int
) -> np.ndarray:
    """Draw how shocks go on.

    Parameters
    ----------
    now : ndarray, shape (n,) or (draws, n)
        Today's.
    days, draws : int

    Returns
    -------
    ndarray, shape (draws, days, n)
        From tomorrow on.
    """
    path = np.empty((draws, days, now.shape[-1]))
    x, step = np.broadcast_to(now, (draws, now.shape[-1])), sd * np.sqrt(1 - rho**2)
    for day in range(days):
        x = rho * x + step * rng.standard_normal(x.shape)
        path[:, day] = x
    return path


class Filter:
    """What counts tell of shocks that nobody sees: a Kalman filter, linearised at its mean.

    The log rate of a cell is that of a known base plus one shock of each part (of its store, of its
    product, its own). Counts scatter as a Poisson around it with a gamma factor.

    Parameters
    ----------
    of : sequence of ndarray of int, shape (cells,) each
        By part: which shock each cell has.
    rho, sd : sequence of float
        By part: what is left a day later; stationary standard deviation.
    dispersion : float
        Shape of the gamma factor.

    Attributes
    ----------
    mean : ndarray, shape (shocks,)
        Of all shocks, part by part, on the last evening.
    cov : ndarray, shape (shocks, shocks)

    Examples
    --------
    Two cells of one store want half more than usual, day after day; some of it may be luck:

    >>> known = Filter([np.zeros(2, int), np.arange(2)], [0.9, 0.9], [0.3, 0.01], 50.0)
    >>> for _ in range(9):
    ...     known.learn(np.array([20.0, 20.0]), np.array([30.0, 30.0]))
    >>> np.exp(known.mean[0]).round(1).item()
    1.4
    """

    def __init__(
        self,
        of: Sequence[np.ndarray],
        rho: Sequence[float],
        sd: Sequence[float],
        dispersion: float,
    ) -> None:
        self.sizes = [int(places.max()) + 1 for places in of]
        first = np.cumsum([0, *self.sizes[:-1]])
        self._at = np.array([places + k for places, k in zip(of, first, strict=True)])
        self._fade, spread = np.repeat(rho, self.sizes), np.repeat(sd, self.sizes)
        self._step = np.square(spread) * (1 - np.square(self._fade))
        self.dispersion = dispersion
        self.mean, self.cov = np.zeros(len(spread)), np.diag(np.square(spread))

    def learn(self, base: np.ndarray, counts: np.ndarray) -> None:
        """Let a day pass and take in its counts, both of shape (cells,); a base of 0 tells nothing.

        The line is drawn twice: at what was expected, and at what the counts made of it.
        """
        from scipy.linalg import cho_factor, cho_solve

        self.mean = self.mean * self._fade
        self.cov = self.cov * np.outer(self._fade, self._fade)
        self.cov[np.diag_indices_from(self.cov)] += self._step
        seen = base > 0
        if not seen.any():
            return
        at, base, counts = self._at[:, seen], base[seen], counts[seen]
        before = self.cov[at].sum(axis=0)  # of the cells' sums with each shock
        own, now = before[:, at].sum(axis=1), self.mean
        for _ in range(2):
            rate = base * np.exp(now[at].sum(axis=0))
            noise = 1 / rate + 1 / self.dispersion
            gap = counts / rate - 1 - (self.mean - now)[at].sum(axis=0)
            root = cho_factor(own + np.diag(noise))
            now = self.mean + before.T @ cho_solve(root, gap)
        self.mean, self.cov = now, self.cov - before.T @ cho_solve(root, before)

    def draw(self, rng: np.random.Generator, draws: int) -> list[np.ndarray]:
        """Return what the shocks may be this evening, an array of shape (draws, size) a part."""
        root = np.linalg.cholesky(self.cov + 1e-10 * np.eye(len(self.mean)))
        made = self.mean + rng.standard_normal((draws, len(self.mean))) @ root.T
        return np.split(made, np.cumsum(self.sizes)[:-1], axis=1)
