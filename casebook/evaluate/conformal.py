"""Conformal prediction: a calibration set guarantees the coverage, or a stream corrects it.

A *score* says how far an outcome lay outside of its interval (negative: inside). The correction is
a quantile of scores that were kept apart from the training; it is added on both sides.

Examples
--------
>>> rank(9, 0.8), rank(4, 0.8), rank(3, 0.8)
(8, 4, 4)
>>> quantile([3.0, 1.0, 2.0, 4.0], 0.8), quantile([3.0, 1.0, 2.0], 0.8)
(4.0, inf)
>>> cqr_scores([10.0, 14.0], [9.0, 9.0], [12.0, 12.0]).tolist()
[-1.0, 2.0]
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


def rank(n: int, level: float) -> int:
    """Return which of ``n`` sorted scores is the correction: the ``ceil((n + 1) level)``-th.

    The new score is equally likely to fall into each of the n + 1 places between and beside the
    old ones. A rank of n + 1 means that there are too few scores for the level.

    Raises
    ------
    ValueError
        If there is no score or the level is none.
    """
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"{n} scores, level {level}: give one score at least, a level in (0, 1).")
    # Without the rounding 0.7 * 10 would be more than 7.
    return int(np.ceil(round((n + 1) * level, 9)))


def quantile(scores: ArrayLike, level: float) -> float:
    """Return the conformal correction: infinite where there are too few scores.

    Parameters
    ----------
    scores : array_like, shape (n,)
        Of the calibration set.
    level : float
        Share of new cases that are to be covered.

    Returns
    -------
    float

    References
    ----------
    Vovk, Gammerman & Shafer (2005), *Algorithmic learning in a random world*.
    """
    ordered = np.sort(np.asarray(scores, float).ravel())
    if missing := int(np.isnan(ordered).sum()):
        raise ValueError(f"{missing} scores are missing: an outcome that is not known has none.")
    k = rank(len(ordered), level)
    return float(ordered[k - 1]) if k <= len(ordered) else np.inf


def cqr_scores(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Return by how much each actual lies outside of its interval; negative inside.

    References
    ----------
    Romano, Patterson & Candès (2019), *Conformalized quantile regression*, NeurIPS.
    """
    actual, low, high = (np.asarray(value, float) for value in (actual, low, high))
    return np.maximum(low - actual, actual - high)


def by_group(
    scores: ArrayLike, groups: ArrayLike, asked: ArrayLike, level: float, least: int = 100
) -> np.ndarray:
    """Return a correction for each new case from the scores of its own group.

    Parameters
    ----------
    scores, groups : array_like, shape (n,)
        Of the calibration set.
    asked : array_like, shape (m,)
        Groups of the new cases.
    level : float
    least : int
        A group with fewer scores gets the correction of all.

    Returns
    -------
    ndarray, shape (m,)
        The coverage then holds within each group that is large enough, not only on average.
    """
    scores, groups, asked = np.asarray(scores, float), np.asarray(groups), np.asarray(asked)
    result = np.full(len(asked), quantile(scores, level))
    for group in np.unique(asked):
        own = scores[groups == group]
        if len(own) >= least:
            result[asked == group] = quantile(own, level)
    return result


@dataclass(frozen=True)
class Adapted:
    """What adaptive conformal inference did, case by case.

    Attributes
    ----------
    correction : ndarray, shape (n,)
        Added on both sides of each interval.
    alpha : ndarray, shape (n,)
        The share of misses that was aimed at when it was asked.
    """

    correction: np.ndarray
    alpha: np.ndarray


def adaptive(
    asked_at: ArrayLike,
    known_at: ArrayLike,
    scores: ArrayLike,
    start: ArrayLike,
    level: float = 0.8,
    gamma: float = 0.002,
    window: int = 1500,
) -> Adapted:
    """Let the correction follow a stream, from outcomes that are known by then and no others.

    Parameters
    ----------
    asked_at, known_at : array_like, shape (n,)
        When each case is predicted and when its outcome becomes known, on one scale; NaN or NaT
        where it never does.
    scores : array_like, shape (n,)
        Of each case, without a correction; those that never become known are not used.
    start : array_like, shape (m,)
        Scores of the calibration set, in order of time.
    level : float
        Share that is to be covered.
    gamma : float
        How far a miss moves the aim.
    window : int
        So many of the last scores are kept.

    Returns
    -------
    Adapted

    Notes
    -----
    After each known outcome ``alpha += gamma * (1 - level - missed)``. The correction is the
    conformal quantile of the kept scores at ``1 - alpha``, and the largest of them where alpha
    falls below what so few scores can give. Outcomes that take long are known late: in a shift
    towards longer times the first ones to be known are the short ones.

    References
    ----------
    Gibbs & Candès (2021), *Adaptive conformal inference under distribution shift*, NeurIPS.
    """
    asked_at, known_at = np.asarray(asked_at), np.asarray(known_at)
    scores, n = np.asarray(scores, float), len(asked_at)
    known = np.flatnonzero(
        ~(np.isnat(known_at) if known_at.dtype.kind == "M" else np.isnan(known_at))
    )
    times = np.concatenate([known_at[known], asked_at])
    case = np.concatenate([known, np.arange(n)])
    # An outcome that becomes known at the very moment of a question counts for it.
    outcome = np.arange(len(times)) < len(known)
    recent = deque(np.asarray(start, float)[-window:].tolist(), maxlen=window)
    ordered, alpha = sorted(recent), 1 - level
    correction, alphas = np.zeros((2, n))
    for event in np.argsort(times, kind="stable"):
        i = case[event]
        if not outcome[event]:
            k = int(np.ceil((len(ordered) + 1) * (1 - alpha)))
            correction[i] = ordered[min(max(k, 1), len(ordered)) - 1]
            alphas[i] = alpha
            continue
        alpha += gamma * (1 - level - (scores[i] > correction[i]))
        if len(recent) == window:
            del ordered[bisect_left(ordered, recent[0])]
        recent.append(scores[i])
        insort(ordered, scores[i])
    return Adapted(correction, alphas)
