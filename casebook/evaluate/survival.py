"""Times of which some have not ended yet: survival curves, means up to a limit, regressions.

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

At noon one of two cases that began at ten has ended:

>>> rows = pd.DataFrame({"known_at": pd.to_datetime(["2025-10-06 10:00"] * 2)})
>>> rows = rows.assign(remaining=[1.5, 9.0], label_at=pd.to_datetime(["2025-10-06 12:00", pd.NaT]))
>>> censored(rows, pd.Timestamp("2025-10-06 12:30"))["duration"].tolist()
[1.5, 2.5]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate.ranges import LEVELS, as_forecast

if TYPE_CHECKING:
    from lifelines.fitters import ParametricAFTRegressionFitter, SemiParametricRegressionFitter

    Regression = ParametricAFTRegressionFitter | SemiParametricRegressionFitter

#: Hours: a case that ends at once would have a logarithm of minus infinity.
SHORTEST = 0.05


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


def censored(rows: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Return what was known at a time of when each case ends.

    Parameters
    ----------
    rows : DataFrame
        ``known_at`` (since when it runs), and ``remaining`` (hours to its end) and ``label_at``
        (when that became known), where they are known later.
    now : Timestamp
        Later rows are left out.

    Returns
    -------
    DataFrame
        With ``duration`` (hours to the end, or those that had passed) and ``arrived``.
    """
    rows = rows[rows["known_at"] < now]
    arrived = rows["label_at"] < now
    passed = (now - rows["known_at"]) / pd.Timedelta(hours=1)
    duration = rows["remaining"].where(arrived, passed).clip(lower=SHORTEST)
    return rows.assign(duration=duration, arrived=arrived)


def bias_of_dropping(rows: pd.DataFrame, now: pd.Timestamp, most: float) -> pd.Series:
    """Compare means of the time that cases take, as far as they were known at a time.

    Parameters
    ----------
    rows : DataFrame
        As of :func:`censored`, with ``truth`` (hours to the end).
    now : Timestamp
    most : float
        Hours; longer times count as these. The curve needs an end that the oldest case could have
        reached.

    Returns
    -------
    Series
        Hours: ``true``, ``ended`` (mean of those that had ended), ``kaplan_meier``, ``bias`` and
        ``km_bias`` (of the two); ``running`` (share that had not ended) and ``cases``.
    """
    known = censored(rows, now)
    duration, arrived = known["duration"].to_numpy(), known["arrived"].to_numpy()
    true = known["truth"].clip(upper=most).mean()
    ended = np.minimum(duration[arrived], most).mean()
    km = restricted_mean(kaplan_meier(duration, arrived), most)
    means = {"true": true, "ended": ended, "kaplan_meier": km}
    biases = {"bias": ended - true, "km_bias": km - true}
    return pd.Series(means | biases | {"running": 1 - arrived.mean(), "cases": len(known)})


# Regressions ---------------------------------------------------------------------------


def aft(frame: pd.DataFrame, most: int = 6000, seed: int = 0) -> Regression:
    """Fit a lognormal accelerated failure time model, cases under way included.

    ``log T = b x + s Z``: a covariate stretches the time by a factor, which needs no time axis of
    its own and gives every quantile.

    Parameters
    ----------
    frame : DataFrame
        ``duration``, ``arrived`` and the covariates, all numbers.
    most : int
        Rows that are used, drawn by ``seed``.
    """
    from lifelines import LogNormalAFTFitter

    return _fit(LogNormalAFTFitter(penalizer=0.001), frame, most, seed)


def cox(frame: pd.DataFrame, most: int = 6000, seed: int = 0) -> Regression:
    """Fit Cox's proportional hazards, cases under way included; parameters as of :func:`aft`.

    ``h(t | x) = h0(t) exp(b x)``: a covariate multiplies the chance to end in the next hour; the
    baseline is whatever the data say.
    """
    from lifelines import CoxPHFitter

    return _fit(CoxPHFitter(penalizer=0.01), frame, most, seed)


def _fit(model: Regression, frame: pd.DataFrame, most: int, seed: int) -> Regression:
    if len(frame) > most:
        frame = frame.sample(most, random_state=seed)
    return model.fit(frame, duration_col="duration", event_col="arrived")


def quantiles(model: Regression, inputs: pd.DataFrame, levels: Sequence[float]) -> np.ndarray:
    """Return quantiles of the times, shape (n, levels): where the curve falls to 1 - level.

    Cox's curve ends with the longest time of the training: a quantile beyond it is that time.
    """
    curves = [model.predict_percentile(inputs, p=1 - level) for level in levels]
    values = np.column_stack([np.asarray(curve, float).ravel() for curve in curves])
    return np.where(np.isfinite(values), values, float(model.durations.max()))


@dataclass(frozen=True)
class Ranges:
    """A fitted regression as a forecaster of ranges (:mod:`casebook.evaluate.ranges`).

    Attributes
    ----------
    model : Regression
    inputs : callable
        From rows to the covariates that it was fitted to.
    """

    model: Regression
    inputs: Callable[[pd.DataFrame], pd.DataFrame]

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of rows."""
        return as_forecast(quantiles(self.model, self.inputs(rows), LEVELS), rows.index)


# Draws ---------------------------------------------------------------------------------


def lasting(
    rng: np.random.Generator, median: np.ndarray, sd: float, beyond: np.ndarray | float = 0.0
) -> np.ndarray:
    """Draw lognormal durations that exceed what has passed already.

    Parameters
    ----------
    rng : Generator
    median : ndarray
        Hours.
    sd : float
        Of the logarithm.
    beyond : ndarray or float
        Hours that have passed.

    Returns
    -------
    ndarray
        The exact conditional distribution, by inversion.
    """
    from scipy.special import ndtr, ndtri

    with np.errstate(divide="ignore"):
        reached = np.log(np.maximum(beyond, 0.0) / median) / sd
    left = ndtr(-reached)
    return median * np.exp(sd * -ndtri(rng.random(left.shape) * np.maximum(left, 1e-300)))
