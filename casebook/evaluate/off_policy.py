"""What a policy would have earned, from what another one did and the chances it did it with.

A row is a decision of the log: its reward, the chance that the log gave to the action that was
taken, and the chance that the *target* policy gives to the same action (0 or 1 if it decides for
sure). Rows of one cluster (an account, a request with its slots) depend on each other; what would
be new next time are other clusters.

Examples
--------
Two of four mails were sent by a coin. Three were answered, among them both that were sent:

>>> rewards, logged, sent = [1, 1, 1, 0], [0.5] * 4, [1.0, 1.0, 0.0, 0.0]
>>> ips(rewards, logged, sent).value, snips(rewards, logged, sent).value
(1.0, 1.0)
>>> ips(rewards, logged, sent).effective
2.0

References
----------
Horvitz & Thompson (1952), *A generalization of sampling without replacement from a finite
universe*, JASA 47; Dudík, Langford & Li (2011), *Doubly robust policy evaluation and learning*,
ICML; Swaminathan & Joachims (2015), *The self-normalized estimator for counterfactual learning*,
NeurIPS.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

#: Standard errors to each side of a 95 % interval.
Z = 1.959964


class Estimate(NamedTuple):
    """A value with its standard error, 95 % interval, and the rows that it rests on.

    Attributes
    ----------
    value, se, low, high : float
    effective : float
        Rows of equal weight that would tell as much.
    """

    value: float
    se: float
    low: float
    high: float
    effective: float = np.nan

    def covers(self, truth: float) -> bool:
        """Return whether the interval holds a value."""
        return bool(self.low <= truth <= self.high)


def _estimate(value: float, se: float, effective: float = np.nan) -> Estimate:
    value, se = float(value), float(se)
    return Estimate(value, se, value - Z * se, value + Z * se, float(effective))


def clustered(values: ArrayLike, clusters: ArrayLike) -> Estimate:
    """Return the sum of the rows' values with an interval over their clusters.

    Parameters
    ----------
    values : array_like, shape (n,)
    clusters : array_like, shape (n,)
        What would be new next time, such as accounts.

    Raises
    ------
    ValueError
        With fewer than two clusters.

    Examples
    --------
    >>> clustered([1, 2, 3], ["a", "a", "b"]).value
    6.0
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(codes, np.asarray(values, float))
    if len(sums) < 2:
        raise ValueError(f"{len(sums)} clusters: an interval needs two at least.")
    return _estimate(sums.sum(), sums.std(ddof=1) * np.sqrt(len(sums)))


def weights(logged: ArrayLike, target: ArrayLike, most: float = np.inf) -> np.ndarray:
    """Return how many decisions of the target each row of the log stands for.

    Parameters
    ----------
    logged, target : array_like, shape (n,)
        Chance of the action that was taken, under the log and under the target.
    most : float
        Larger weights are cut to it: less variance for some bias.

    Raises
    ------
    ValueError
        If shapes differ, a chance is outside of its range, or no row is left with a weight.
    """
    logged, target = np.asarray(logged, float), np.asarray(target, float)
    if logged.shape != target.shape or logged.ndim != 1:
        raise ValueError(f"chances of shapes {logged.shape} and {target.shape}: one for each row.")
    if not ((logged > 0) & (logged <= 1)).all():
        raise ValueError(
            "a logged chance is not above 0 and at most 1: an action that was taken had a chance; "
            "log it when the action is drawn."
        )
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError("a chance of the target is not within 0 and 1.")
    made = np.minimum(target / logged, most)
    if not (made > 0).any():
        raise ValueError("the target never does what the log did: the log says nothing about it.")
    return made


def effective_size(weight: ArrayLike) -> float:
    """Return Kish's effective size: rows of equal weight that would tell as much.

    Examples
    --------
    >>> effective_size([1, 1, 0, 0]), effective_size([9, 1, 1, 1])
    (2.0, 1.7142857142857142)
    """
    weight = np.asarray(weight, float)
    return float(weight.sum() ** 2 / np.square(weight).sum())


def _mean(
    rows: np.ndarray, spread: np.ndarray, weight: np.ndarray, clusters: ArrayLike | None
) -> Estimate:
    """Return the mean of rows; ``spread`` is what each contributes beyond it."""
    n = len(rows)
    groups = np.arange(n) if clusters is None else clusters
    return _estimate(
        rows.mean(), clustered(spread - spread.mean(), groups).se / n, effective_size(weight)
    )


def ips(
    rewards: ArrayLike,
    logged: ArrayLike,
    target: ArrayLike,
    clusters: ArrayLike | None = None,
    most: float = np.inf,
) -> Estimate:
    """Return the target's mean reward by inverse propensity weights.

    Parameters
    ----------
    rewards : array_like, shape (n,)
    logged, target, most
        As for :func:`weights`.
    clusters : array_like, shape (n,), optional
        Rows that depend on each other; by default none does.

    Returns
    -------
    Estimate
        Of the mean reward of a row.
    """
    w = weights(logged, target, most)
    rows = w * np.asarray(rewards, float)
    return _mean(rows, rows, w, clusters)


def snips(
    rewards: ArrayLike,
    logged: ArrayLike,
    target: ArrayLike,
    clusters: ArrayLike | None = None,
    most: float = np.inf,
) -> Estimate:
    """Return the same by weights that are made to sum to the rows: little bias, less variance.

    Its standard error is that of the ratio to first order.
    """
    w = weights(logged, target, most)
    w = w / w.mean()
    rows = w * np.asarray(rewards, float)
    return _mean(rows, w * (np.asarray(rewards, float) - rows.mean()), w, clusters)


def dr(
    rewards: ArrayLike,
    logged: ArrayLike,
    target: ArrayLike,
    expected: ArrayLike,
    under_target: ArrayLike,
    clusters: ArrayLike | None = None,
    most: float = np.inf,
) -> Estimate:
    """Return the target's mean reward by a model whose errors are corrected by weights.

    Parameters
    ----------
    rewards, logged, target, clusters, most
        As for :func:`ips`.
    expected : array_like, shape (n,)
        What a model, fitted on other clusters, expects of the action that was taken.
    under_target : array_like, shape (n,)
        What it expects of the target's action; the mean over its actions if it draws one.

    Examples
    --------
    >>> model = [0.9, 0.9, 0.6, 0.1]
    >>> found = dr([1, 1, 1, 0], [0.5] * 4, [1, 1, 0, 0], model, [0.9, 0.9, 0.8, 0.8])
    >>> round(found.value, 3)
    0.95
    """
    w = weights(logged, target, most)
    rewards, expected, under = (
        np.asarray(values, float) for values in (rewards, expected, under_target)
    )
    rows = under + w * (rewards - expected)
    return _mean(rows, rows, w, clusters)


def last_places_by_chance(
    gains: ArrayLike, share: float, capacity: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the best, but draw the last places among the next ones, and keep each one's chance.

    The draw is among four times as many as there are places. Where the chance is 0 or 1 nothing is
    learned about the other action.

    Parameters
    ----------
    gains : array_like, shape (n,)
        The highest are the best; ties go to the earlier position.
    share : float
        Of the capacity, 0 to 1: places that chance fills.
    capacity : int
    rng : Generator

    Returns
    -------
    chosen : ndarray of bool
        About ``capacity`` of them.
    chance : ndarray

    Examples
    --------
    >>> gains = [9, 8, 7, 6, 5, 4, 3, 2, 1]
    >>> last_places_by_chance(gains, 0.5, 2, np.random.default_rng(0))[1].tolist()
    [1.0, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]
    """
    order = np.argsort(-np.asarray(gains, float), kind="stable")
    places = round(share * capacity)
    sure, lot = order[: capacity - places], order[capacity - places : capacity + 3 * places]
    chance = np.zeros(len(order))
    chance[sure] = 1.0
    if len(lot):
        chance[lot] = min(1.0, places / len(lot))
    return rng.random(len(order)) < chance, chance
