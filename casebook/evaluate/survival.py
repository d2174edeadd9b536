"""Times of which some have not ended yet: Kaplan and Meier's curve, and a mean up to a limit.

A case that is still under way when the table is cut is *censored*: it takes longer than it has
taken so far. Dropping such cases drops the slow ones.

Examples
--------
Four cases; the third was still under way after 2.5 hours:

>>> curve = kaplan_meier([1.0, 2.0, 2.5, 3.0], [True, True, False, True])
>>> curve.tolist()
[0.75, 0.5, 0.0]
>>> restricted_mean(curve, most=10.0)
2.25
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def kaplan_meier(durations: ArrayLike, ended: ArrayLike) -> pd.Series:
    """Return the share of cases that take longer than each time.

    Parameters
    ----------
    durations : array_like, shape (n,)
        Time to the end, or that had passed when the table was cut.
    ended : array_like of bool, shape (n,)

    Returns
    -------
    Series
        Index ``time``, rising: the times of the ends.

    Raises
    ------
    ValueError
        On other shapes, or a time that is negative or missing.

    References
    ----------
    Kaplan & Meier (1958), *Nonparametric estimation from incomplete observations*, JASA.
    """
    durations, ended = np.asarray(durations, float), np.asarray(ended, bool)
    if durations.shape != ended.shape or durations.ndim != 1:
        raise ValueError(f"{durations.shape} times, {ended.shape} ends: give one of each a case.")
    if not (durations >= 0).all():
        raise ValueError("a time is negative or missing: give those under way their age.")
    order = np.argsort(durations, kind="stable")
    times, ends = durations[order], ended[order]
    at = np.unique(times[ends])
    at_risk = len(times) - np.searchsorted(times, at, side="left")
    gone = np.diff(np.searchsorted(times[ends], at, side="right"), prepend=0)
    return pd.Series(np.cumprod(1 - gone / at_risk), pd.Index(at, name="time"))


def restricted_mean(survival: pd.Series, most: float) -> float:
    """Return the mean of min(time, most): the area under a survival curve."""
    times = np.concatenate([[0.0], survival.index.to_numpy(float)])
    left = np.concatenate([[1.0], survival.to_numpy()])
    inside = times < most
    ends = np.append(times[inside][1:], most)
    return float(np.sum(left[inside] * (ends - times[inside])))
