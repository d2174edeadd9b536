"""An effect that fades: fit what lasts and what decays to all days, instead of dropping a week.

The relative effect k days after a user's first exposure is ``lasting + start * 2 ** (-k / half)``.
The days of one user depend on each other, so the fit weighs them by their whole covariance matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate.intervals import Interval


def since_exposure(daily: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Shift days of the calendar to days since the first exposure; what is not seen yet is NaN.

    Parameters
    ----------
    daily : ndarray, shape (users, days)
        The metric on each day of the calendar.
    day : ndarray, shape (users,)
        Of the first exposure.
    """
    days = daily.shape[1]
    places = np.asarray(day)[:, None] + np.arange(days)
    values = np.take_along_axis(daily, np.minimum(places, days - 1), axis=1)
    return np.where(places < days, values, np.nan)


class Daily(NamedTuple):
    """Relative effects by days since the first exposure.

    Attributes
    ----------
    effect : ndarray, shape (days,)
    covariance : ndarray, shape (days, days)
    weight : ndarray, shape (days,)
        Minutes of control on that day, of all: a mean over the test weighs by them.
    """

    effect: np.ndarray
    covariance: np.ndarray
    weight: np.ndarray

    @property
    def frame(self) -> pd.DataFrame:
        """``k``, ``effect``, ``low``, ``high`` (95 %)."""
        half = 1.96 * np.sqrt(np.diag(self.covariance))
        return pd.DataFrame(
            {
                "k": np.arange(len(self.effect)),
                "effect": self.effect,
                "low": self.effect - half,
                "high": self.effect + half,
            }
        )


def daily_effects(since: np.ndarray, treated: ArrayLike, covariates: ArrayLike) -> Daily:
    """Return the effect of each day since the first exposure, adjusted by what was known before.

    Parameters
    ----------
    since : ndarray, shape (users, days)
        The metric k days after the first exposure; NaN where that day is after the test
        (:func:`since_exposure`).
    treated : array_like of bool, shape (users,)
    covariates : array_like, shape (users, c)
        From before the test.
    """
    treated, known = np.asarray(treated, bool), np.isfinite(since)
    x = np.column_stack([np.ones(len(since)), np.asarray(covariates, float)])
    effect, weight = np.empty(since.shape[1]), np.empty(since.shape[1])
    influence = np.zeros(since.shape)
    for k in range(since.shape[1]):
        rows = known[:, k]
        y, own, t = since[rows, k], x[rows], treated[rows]
        slope, *_ = np.linalg.lstsq(own, y, rcond=None)
        rest = y - own @ slope
        means = rest[~t].mean(), rest[t].mean()
        usual = y[~t].mean()
        effect[k], weight[k] = (means[1] - means[0]) / usual, y[~t].sum()
        each = np.where(t, (rest - means[1]) / t.sum(), -(rest - means[0]) / (~t).sum())
        influence[rows, k] = each / usual
    return Daily(effect, influence.T @ influence, weight / weight.sum())


class Decay(NamedTuple):
    """A fitted effect that fades.

    Attributes
    ----------
    lasting, start : Interval
        What remains, and what is added on the first day (95 % intervals).
    half : float
        Days in which the added part halves.
    """

    lasting: Interval
    start: Interval
    half: float

    def at(self, k: ArrayLike) -> np.ndarray:
        """Return the effect after ``k`` days."""
        return self.lasting.mean + self.start.mean * 2.0 ** (-np.asarray(k, float) / self.half)


class Prior(NamedTuple):
    """What earlier launches say about the part that fades: mean and standard deviation."""

    mean: float
    sd: float


#: Half-life in days and size on the first day, of the company's earlier launches.
NEW, OLD = (3.0, Prior(0.064, 0.048)), (4.0, Prior(-0.032, 0.024))


def fit_decay(daily: Daily, half: float | None = 3.0, prior: Prior | None = None) -> Decay:
    """Fit a lasting effect and one that decays, by generalised least squares.

    Parameters
    ----------
    daily : Daily
    half : float, optional
        Days, known from earlier launches; None fits it between half a day and a week too. The
        intervals take it as given.
    prior : Prior, optional
        Of the effect that is added on the first day.
    """
    days, found, covariance = min(
        ((h, *_fit(daily, h, prior)) for h in ([half] if half else np.geomspace(0.5, 7, 28))),
        key=lambda fit: _loss(daily, *fit[:2]),
    )
    ends = zip(found, 1.96 * np.sqrt(np.diag(covariance)), strict=True)
    lasting, start = (Interval(float(m), float(m - s), float(m + s)) for m, s in ends)
    return Decay(lasting, start, float(days))


def less_expected(daily: Daily, half: float, prior: Prior, first: int = 7) -> Interval:
    """Return the mean effect from a day on, less what earlier launches say is still fading then."""
    found, days = mean_over(daily, first), np.arange(len(daily.effect))
    weight = np.where(days >= first, daily.weight, 0.0)
    rest = weight @ 2.0 ** (-days / half) / weight.sum()
    mean = found.mean - prior.mean * rest
    wide = np.hypot(found.high - found.mean, 1.96 * prior.sd * rest)
    return Interval(float(mean), float(mean - wide), float(mean + wide))


def _design(days: int, half: float) -> np.ndarray:
    return np.column_stack([np.ones(days), 2.0 ** (-np.arange(days) / half)])


def _fit(daily: Daily, half: float, prior: Prior | None) -> tuple[np.ndarray, np.ndarray]:
    """Return lasting and starting effect with their covariance, for a given half-life."""
    design, inverse = _design(len(daily.effect), half), np.linalg.inv(daily.covariance)
    information, score = design.T @ inverse @ design, design.T @ inverse @ daily.effect
    if prior is not None:
        information[1, 1] += prior.sd**-2
        score[1] += prior.mean * prior.sd**-2
    covariance = np.linalg.inv(information)
    return covariance @ score, covariance


def _loss(daily: Daily, half: float, found: np.ndarray) -> float:
    rest = daily.effect - _design(len(daily.effect), half) @ found
    return float(rest @ np.linalg.solve(daily.covariance, rest))


def together(parts: Sequence[tuple[Interval, float]]) -> Interval:
    """Return the weighted mean of independent effects: segments, by their minutes in control."""
    weight = np.array([share for _, share in parts]) / sum(share for _, share in parts)
    mean = float(weight @ [one.mean for one, _ in parts])
    half = np.sqrt(np.square(weight) @ [((one.high - one.low) / 2) ** 2 for one, _ in parts])
    return Interval(mean, float(mean - half), float(mean + half))


def mean_over(daily: Daily, first: int = 0) -> Interval:
    """Return the mean effect from a day on: 0 is the whole test, 7 the second week alone."""
    weight = np.where(np.arange(len(daily.effect)) >= first, daily.weight, 0.0)
    weight = weight / weight.sum()
    mean, se = weight @ daily.effect, np.sqrt(weight @ daily.covariance @ weight)
    return Interval(float(mean), float(mean - 1.96 * se), float(mean + 1.96 * se))
