"""How good is a ranking by what an action changes: gains curve, Qini, value of a list, deciles.

The *gains curve* of a score says how many cancellations are prevented per subscriber when the best
share ``k`` of them is called: ``G(k) = sum of the effects of the top k / number of all``. Its area
is AUUC here; the *Qini coefficient* is the area between it and the straight line to ``G(1)`` (a
random order), over the same area of the best order. ``effects`` are the true ones where a
simulation knows them, or *scores* of a trial whose mean over any group estimates the group's
effect: weighted by the chance of being drawn (:func:`ips_scores`), or doubly robust.

With equal chances in a 50:50 trial, ``G`` is the curve of Gutierrez & Gérardy; Radcliffe's own
curve, in customers drawn, is :func:`radcliffe`.

Examples
--------
A call has another effect on each of four subscribers. The best first, and in a bad order:

>>> effects = [0.4, 0.2, 0.0, -0.2]
>>> round(auuc([4, 3, 2, 1], effects, points=4), 4), round(qini([4, 3, 2, 1], effects, points=4), 2)
(0.1125, 1.0)
>>> round(qini([1, 2, 3, 4], effects, points=4), 2)
-1.0

References
----------
Radcliffe (2007), *Using control groups to target on predicted lift*, Direct Marketing Analytics
Journal; Gutierrez & Gérardy (2017), *Causal inference and uplift modelling: a review of the
literature*, PMLR 67.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate.off_policy import Estimate, clustered


def order_of(score: ArrayLike) -> np.ndarray:
    """Return the positions from the highest score down; ties keep their order."""
    return np.argsort(-np.asarray(score, float), kind="stable")


def gains(score: ArrayLike, effects: ArrayLike, points: int = 200) -> pd.DataFrame:
    """Return the gains curve of a score.

    Parameters
    ----------
    score : array_like, shape (n,)
        Called are the highest.
    effects : array_like, shape (n,)
        True effects, or scores that estimate them.
    points : int
        Points of the curve, beside the origin.

    Returns
    -------
    DataFrame
        ``share`` (of subscribers called) and ``gain`` (prevented cancellations per subscriber).
    """
    effects = np.asarray(effects, float)[order_of(score)]
    ends = np.unique(np.linspace(0, len(effects), points + 1).round().astype(int))
    total = np.concatenate([[0.0], np.cumsum(effects)])
    return pd.DataFrame({"share": ends / len(effects), "gain": total[ends] / len(effects)})


def auuc(score: ArrayLike, effects: ArrayLike, points: int = 200) -> float:
    """Return the area under the gains curve."""
    curve = gains(score, effects, points)
    return float(np.trapezoid(curve["gain"], curve["share"]))


def qini(
    score: ArrayLike, effects: ArrayLike, best: ArrayLike | None = None, points: int = 200
) -> float:
    """Return the Qini coefficient: 0 for a random order, 1 for the best one.

    Parameters
    ----------
    score, effects, points
        As for :func:`gains`.
    best : array_like, optional
        What the best order sorts by: by default the effects themselves, if they are the true ones.

    Raises
    ------
    ValueError
        If no order beats a random one.
    """
    random = float(np.mean(effects)) / 2
    top = auuc(effects if best is None else best, effects, points) - random
    if top <= 0:
        raise ValueError("The best order is no better than a random one: all effects are equal.")
    return (auuc(score, effects, points) - random) / top


def radcliffe(score: ArrayLike, cancelled: ArrayLike, drawn: ArrayLike) -> pd.DataFrame:
    """Return Radcliffe's Qini curve of a trial with one chance for all.

    Of the first k rows it compares the cancellations among those not drawn, brought to the number
    of those drawn, with the cancellations among those drawn.

    Returns
    -------
    DataFrame
        ``called`` (rows), ``prevented`` (cancellations among those drawn so far); rows before the
        first of each arm are zero.
    """
    order = order_of(score)
    y, t = np.asarray(cancelled, float)[order], np.asarray(drawn, bool)[order]
    n_t, n_c = np.cumsum(t), np.cumsum(~t)
    with np.errstate(invalid="ignore", divide="ignore"):
        prevented = np.cumsum(y * ~t) * n_t / n_c - np.cumsum(y * t)
    prevented = np.where((n_t > 0) & (n_c > 0), prevented, 0.0)
    return pd.DataFrame({"called": np.arange(1, len(y) + 1), "prevented": prevented})


def ips_scores(cancelled: ArrayLike, drawn: ArrayLike, chance: ArrayLike) -> np.ndarray:
    """Return each row's effect weighted by the chance of what happened.

    Examples
    --------
    Of four subscribers two were drawn, with a chance of one half; one of the others cancelled:

    >>> float(ips_scores([0, 0, 1, 0], [True, True, False, False], [0.5] * 4).mean())
    0.5
    """
    y, t, e = np.asarray(cancelled, float), np.asarray(drawn, bool), np.asarray(chance, float)
    if not ((e > 0) & (e < 1)).all():
        raise ValueError("a chance of 0 or 1 decides nothing: weights need both to be possible.")
    return np.where(t, -y / e, y / (1 - e))


def list_value(
    chosen: ArrayLike, scores: ArrayLike, value: ArrayLike, cost: float, clusters: ArrayLike
) -> Estimate:
    """Return what a list would have brought in the trial, compared with calling nobody.

    Parameters
    ----------
    chosen : array_like of int
        Positions of the list.
    scores : array_like, shape (n,)
        Of a trial: by inverse chances or doubly robust.
    value : array_like, shape (n,)
        Euro of a prevented cancellation.
    cost : float
        Of a call.
    clusters : array_like, shape (n,)
    """
    each = np.zeros(len(np.asarray(scores)))
    chosen = np.asarray(chosen, int)
    each[chosen] = np.asarray(scores)[chosen] * np.asarray(value)[chosen] - cost
    return clustered(each, clusters)


def over_random(score: ArrayLike, effects: ArrayLike, clusters: ArrayLike) -> Estimate:
    """Return the area between the gains curve and a random order's, with its interval.

    The area is a mean of the effects, weighted by the place in the order, from 1/2 for the first
    to -1/2 for the last: so it has a standard error.

    Parameters
    ----------
    score, effects : array_like, shape (n,)
        As for :func:`gains`; ``effects`` are scores of a randomised trial.
    clusters : array_like, shape (n,)
    """
    order = order_of(score)
    n = len(order)
    weight = np.empty(n)
    weight[order] = 0.5 - (np.arange(n) + 0.5) / n
    return clustered(weight * np.asarray(effects, float) / n, clusters)


def by_capacity(
    score: ArrayLike, worth: ArrayLike, cost: float, capacities: ArrayLike
) -> pd.DataFrame:
    """Return what lists of several lengths bring.

    Parameters
    ----------
    score : array_like, shape (n,)
        Called are the highest.
    worth : array_like, shape (n,)
        Euro of a call before its cost: effect times value.
    cost : float
    capacities : array_like of int

    Returns
    -------
    DataFrame
        ``calls``, ``euro``.
    """
    total = np.concatenate([[0.0], np.cumsum(np.asarray(worth, float)[order_of(score)])])
    calls = np.minimum(np.asarray(capacities, int), len(total) - 1)
    return pd.DataFrame({"calls": calls, "euro": total[calls] - cost * calls})


def choose(
    gains: ArrayLike,
    capacity: int,
    blocked: ArrayLike | None = None,
    least: float = 0.0,
) -> np.ndarray:
    """Return the positions of those to be chosen, the most promising first.

    Parameters
    ----------
    gains : array_like, shape (n,)
        What choosing each one is expected to bring, or any score. A missing one is never chosen.
    capacity : int
        Chosen at most.
    blocked : array_like of bool, optional
        Who must not be chosen.
    least : float
        Nobody at or below is chosen; minus infinity fills the capacity.

    Returns
    -------
    ndarray of int
        Ties go to the earlier position, so that a list can be made again.

    Raises
    ------
    ValueError
        If the capacity is negative or the shapes differ.

    Examples
    --------
    >>> choose([5.0, -1.0, 9.0], 2), choose([5.0, -1.0, 9.0], 3, [False, False, True])
    (array([2, 0]), array([0]))
    """
    gains = np.asarray(gains, float)
    open_ = np.isfinite(gains) & (gains > least)
    if blocked is not None:
        blocked = np.asarray(blocked, bool)
        if blocked.shape != gains.shape:
            raise ValueError(f"{blocked.shape[0]} marks for {gains.shape[0]} gains: one each.")
        open_ &= ~blocked
    if capacity < 0:
        raise ValueError(f"capacity is {capacity}: it cannot be negative.")
    order = np.argsort(-gains, kind="stable")
    return order[open_[order]][:capacity]


def by_decile(
    predicted: ArrayLike, effects: ArrayLike, clusters: ArrayLike, groups: int = 10
) -> pd.DataFrame:
    """Compare the predicted effect with what a trial or the truth shows, in groups of equal size.

    Parameters
    ----------
    predicted : array_like, shape (n,)
        Out of fold.
    effects : array_like, shape (n,)
        Scores of a trial, or true effects.
    clusters : array_like, shape (n,)
    groups : int
        Ten are deciles; 1 has the highest predictions.

    Returns
    -------
    DataFrame
        ``group``, ``predicted`` (mean), ``effect`` (mean), ``low``, ``high``.
    """
    predicted, effects = np.asarray(predicted, float), np.asarray(effects, float)
    clusters, rows = np.asarray(clusters), []
    for k, own in enumerate(np.array_split(order_of(predicted), groups)):
        mean = effects[own].mean()
        off = clustered((effects[own] - mean) / len(own), clusters[own])
        rows.append((k + 1, predicted[own].mean(), mean, mean + off.low, mean + off.high))
    return pd.DataFrame(rows, columns=["group", "predicted", "effect", "low", "high"])
