"""Labels that a policy decides about: what a hold-back tells of all that was decided.

What is blocked never gets a label. A hold-back lets a random share of it through; each of those
payments then stands for ``1 / share`` of the blocked ones (*inverse propensity*). Without the
weights the frauds that were stopped count a hundredth, and the policy looks blind.

Examples
--------
Ten frauds were blocked, of which one was held back and shows its label; ten were let through:

>>> stopped, known = np.repeat([True, False], 10), np.r_[True, [False] * 9, [True] * 10]
>>> weight = propensity_weights(stopped, known, share=0.1)
>>> weight[[0, 1, 10]].tolist()
[10.0, 0.0, 1.0]
>>> fraud = np.ones(20)
>>> naive, weighted = recall(stopped, fraud, known.astype(float)), recall(stopped, fraud, weight)
>>> round(naive.value, 2), weighted.value
(0.09, 0.5)

References
----------
Horvitz & Thompson (1952), *A generalization of sampling without replacement from a finite
universe*, JASA 47.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from casebook.evaluate.off_policy import Estimate, Z


def propensity_weights(stopped: ArrayLike, known: ArrayLike, share: ArrayLike) -> np.ndarray:
    """Return how many decisions each labelled one stands for.

    Parameters
    ----------
    stopped : array_like of bool, shape (n,)
        What the policy advised to stop.
    known : array_like of bool, shape (n,)
        Whether the label is known: what was let through, held back or not.
    share : float or array_like, shape (n,)
        Chance of each request to be held back, drawn before anything is decided. Where it is 0
        (large amounts, say) nothing is known of what was stopped: leave such rows out of what the
        estimate is said of.

    Returns
    -------
    ndarray, shape (n,)
        0 without a label, 1 for what would have been let through anyway, ``1 / share`` for what
        was held back.

    Raises
    ------
    ValueError
        When a share is not within 0 and 1 or none is above 0, something was held back that could
        not be, or something that was to be let through has no label: that is another selection,
        which these weights do not mend.
    """
    stopped, known = np.asarray(stopped, bool), np.asarray(known, bool)
    share = np.broadcast_to(np.asarray(share, float), stopped.shape)
    if not ((share >= 0) & (share <= 1)).all() or not (share > 0).any():
        raise ValueError("a share of the hold-back is not within 0 and 1, or all are 0")
    if stopped.shape != known.shape:
        raise ValueError(f"{stopped.size} decisions and {known.size} labels: one each is due")
    if lost := int((~stopped & ~known).sum()):
        raise ValueError(
            f"{lost} decisions were to be let through and have no label: wait until theirs have "
            "come, or leave them out of both"
        )
    if (stopped & known & (share == 0)).any():
        raise ValueError("something was held back whose share is 0: give the shares of the draw")
    stands = np.divide(1.0, share, out=np.zeros(share.shape), where=share > 0)
    return np.where(known, np.where(stopped, stands, 1.0), 0.0)


def recall(
    stopped: ArrayLike, fraud: ArrayLike, weight: ArrayLike, group: ArrayLike | None = None
) -> Estimate:
    """Return the share of the frauds that a policy stops.

    Parameters
    ----------
    stopped : array_like of bool, shape (n,)
    fraud : array_like of 0 and 1, shape (n,)
        Anything where the weight is 0.
    weight : array_like, shape (n,)
        As of :func:`propensity_weights`.
    group : array_like, shape (n,), optional
        The attack or card: frauds of one come together and tell less than as many alone.

    Returns
    -------
    Estimate
        With the 95 % interval for freshly drawn frauds or groups; ``effective`` is how many frauds
        of equal weight would tell as much. Where all labelled frauds were stopped, or none, they
        tell nothing of the others: the interval goes from 0 to 1.

    Raises
    ------
    ValueError
        When no fraud has a weight.
    """
    stopped, weight = np.asarray(stopped, float), np.asarray(weight, float)
    rows = (weight > 0) & (np.nan_to_num(np.asarray(fraud, float)) == 1)
    a, w = stopped[rows], weight[rows]
    if not w.size:
        raise ValueError("no labelled fraud: hold back more, or for longer")
    value = float((w * a).sum() / w.sum())
    error = w * (a - value)
    if group is not None:
        error = np.bincount(np.unique(np.asarray(group)[rows], return_inverse=True)[1], error)
    se = float(np.sqrt((error**2).sum()) / w.sum())
    low, high = max(0.0, value - Z * se), min(1.0, value + Z * se)
    if a.min() == a.max():
        low, high = 0.0, 1.0
    return Estimate(value, se, low, high, float(w.sum() ** 2 / (w**2).sum()))


def coverage(
    stopped: ArrayLike, fraud: ArrayLike, group: ArrayLike, share: float, draws: int = 200
) -> dict[str, float]:
    """Draw a hold-back many times, and see how often the interval of the recall holds the truth.

    Parameters
    ----------
    stopped, fraud : ndarray of bool, shape (n,)
    group : ndarray, shape (n,)
        The attack or card, as of :func:`recall`.
    share : float
    draws : int

    Returns
    -------
    dict
        ``truth``, ``mean`` of the estimates, ``low`` and ``high`` (of their middle 95 %),
        ``covered`` (share of the intervals that hold the truth). A draw in which no fraud has a
        label is no estimate and does not hold it.

    Raises
    ------
    ValueError
        When there is no fraud, or no draw gives an estimate.
    """
    stopped, fraud = np.asarray(stopped, bool), np.asarray(fraud, bool)
    if not fraud.any():
        raise ValueError("no fraud: there is no recall to estimate")
    truth, found, rng = float(stopped[fraud].mean()), [], np.random.default_rng(0)
    for _ in range(draws):
        known = ~stopped | (rng.random(len(stopped)) < share)
        if not (known & fraud).any():
            continue
        one = recall(stopped, fraud, propensity_weights(stopped, known, share), group)
        found.append((one.value, one.low <= truth <= one.high))
    if not found:
        raise ValueError("no draw let a fraud through: hold back more, or for longer")
    values, covered = np.array(found, float).T
    low, high = np.quantile(values, [0.025, 0.975])
    told = {"truth": truth, "mean": values.mean(), "low": low, "high": high}
    return told | {"covered": float(covered.sum() / draws)}
