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
    # Without the rounding 0.55 * 100 would be more than 55.
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


class Adaptive:
    """A correction that follows what has become known (adaptive conformal inference).

    After each known outcome ``alpha += gamma * (1 - level - missed)``. The correction is the
    conformal quantile of the last scores at ``1 - alpha``, and the largest of them where alpha
    falls below what so few scores can give.

    Parameters
    ----------
    scores : array_like, shape (m,)
        Of the calibration set, in order of time.
    level : float
        Share that is to be covered.
    gamma : float
        How far a miss moves the aim.
    window : int
        So many of the last scores are kept.

    Attributes
    ----------
    alpha : float
        The share of misses that is aimed at.

    References
    ----------
    Gibbs & Candès (2021), *Adaptive conformal inference under distribution shift*, NeurIPS.
    """

    def __init__(
        self, scores: ArrayLike, level: float = 0.8, gamma: float = 0.0005, window: int = 1000
    ) -> None:
        self.level, self.gamma, self.window = level, gamma, window
        self.recent = deque(np.asarray(scores, float)[-window:].tolist(), maxlen=window)
        if not self.recent or not 0 < level < 1 or gamma < 0:
            raise ValueError(
                f"{len(self.recent)} scores, level {level}, gamma {gamma}: give scores, a level "
                "between 0 and 1, a gamma of 0 or more."
            )
        self._ordered = sorted(self.recent)
        self.alpha = 1 - level

    def ask(self) -> float:
        """Return the correction for a case that is predicted now."""
        k = int(np.ceil(round((len(self._ordered) + 1) * (1 - self.alpha), 9)))
        return self._ordered[min(max(k, 1), len(self._ordered)) - 1]

    def learn(self, score: float, correction: float) -> None:
        """Take in an outcome that has become known.

        Parameters
        ----------
        score : float
            Of the case, without a correction.
        correction : float
            That it was given when it was asked.
        """
        self.alpha += self.gamma * (1 - self.level - (score > correction))
        if len(self.recent) == self.window:
            del self._ordered[bisect_left(self._ordered, self.recent[0])]
        self.recent.append(float(score))
        insort(self._ordered, float(score))


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
    asked_at: ArrayLike, known_at: ArrayLike, scores: ArrayLike, follower: Adaptive
) -> Adapted:
    """Let a correction follow a stream, from outcomes that are known by then and no others.

    Parameters
    ----------
    asked_at, known_at : array_like, shape (n,)
        When each case is predicted and when its outcome becomes known, on one scale; NaN or NaT
        where it never does.
    scores : array_like, shape (n,)
        Of each case, without a correction; those that never become known are not used.
    follower : Adaptive
        It has learned all of the stream afterwards.

    Returns
    -------
    Adapted

    Notes
    -----
    Outcomes that take long are known late: in a shift towards longer times the first ones to be
    known are the short ones.
    """
    asked_at, known_at = np.asarray(asked_at), np.asarray(known_at)
    scores, n = np.asarray(scores, float), len(asked_at)
    known = np.flatnonzero(known_at == known_at)  # NaN and NaT do not equal themselves
    times = np.concatenate([known_at[known], asked_at])
    case = np.concatenate([known, np.arange(n)])
    # An outcome that becomes known at the very moment of a question counts for it.
    outcome = np.arange(len(times)) < len(known)
    correction, alpha = np.zeros((2, n))
    for event in np.argsort(times, kind="stable"):
        i = case[event]
        if outcome[event]:
            follower.learn(scores[i], correction[i])
        else:
            correction[i], alpha[i] = follower.ask(), follower.alpha
    return Adapted(correction, alpha)
