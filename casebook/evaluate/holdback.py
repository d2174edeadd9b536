"""What a hold-back sees: the same users for longer are not more users.

A user's weekly metric is a level of the user, which every week shares, and noise of the week.
Longer watching averages the noise away and not the levels, so the error of a mean over users falls
more slowly than with the root of the days.

A list of those to be treated has a hold-out of its own: those who would have been on it and were
left in peace. Of them, the share that is lost is the *risk* as it is; less the share among the
treated, it is the *effect* as it is. :func:`read` compares both with what had been predicted, so
that a drift of the risk (a competitor, a price) is told from one of the effect (a worn-out script).
Where more are at risk there are more to save: the predicted effect grows with the observed risk.
A prediction may be off itself, in the same direction each month; :func:`verdict` allows for that.

Examples
--------
Of ten held out three are lost, of ten called one; a quarter and a tenth had been predicted:

>>> held = np.arange(20) < 10
>>> listed = Listed(0, held, risk=np.full(20, 0.25), effect=np.full(20, 0.15))
>>> lost = np.isin(np.arange(20), [0, 1, 2, 15])
>>> found = read(listed, lost, today=28)
>>> round(found.effect, 2), round(found.risk_z, 2), round(found.effect_z, 2), verdict([found])
(0.2, 0.37, 0.18, 'not enough')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate.assign import BUCKETS, buckets
from casebook.evaluate.experiments import smallest_difference
from casebook.evaluate.intervals import Interval, wilson
from casebook.evaluate.uplift import choose

#: Standard errors from which a number counts as a drift.
ALARM = 3.0
#: Losses that must be expected among the held-out before three standard errors mean anything: with
#: a handful the numbers are too lopsided, and the alarm is false in more than one month of ten.
LEAST = 30


class Persistence(NamedTuple):
    """Variance of a user's weekly metric over the squared mean: the part that stays, and the rest.

    Attributes
    ----------
    between : float
        Of the users' levels (after adjustment, if the weeks were adjusted).
    within : float
        Of one week around the level.
    """

    between: float
    within: float

    def sd(self, days: float) -> float:
        """Return the spread of a user's mean over so many days, as a share of the mean of all."""
        return float(np.sqrt(self.between + self.within * 7 / days))


def persistence(first: ArrayLike, second: ArrayLike, mean: float) -> Persistence:
    """Return what stays of a user from one week to the next.

    Parameters
    ----------
    first, second : array_like, shape (n,)
        The metric of the same users in two weeks; adjusted or not.
    mean : float
        Of a week, as it was measured.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> level = rng.normal(10, 3, 100_000)
    >>> found = persistence(*(level + rng.normal(0, 4, 100_000) for _ in range(2)), mean=10)
    >>> round(found.between, 2), round(found.within, 2), round(found.sd(28), 2)
    (0.09, 0.16, 0.36)
    """
    covariance = np.cov(np.asarray(first, float), np.asarray(second, float)) / mean**2
    between = max(0.0, covariance[0, 1])
    return Persistence(float(between), float(max(0.0, np.diag(covariance).mean() - between)))


def holdback_sees(known: Persistence, users: float, share: float, days: float = 30) -> float:
    """Return the smallest relative difference that a hold-back finds with power .80.

    Parameters
    ----------
    known : Persistence
    users : float
        Exposed users of both groups.
    share : float
        Held back.
    days : float
        Watched.
    """
    return smallest_difference(known.sd(days), users * share, ratio=(1 - share) / share)


def held_out(rows: np.ndarray, month: int, share: float) -> np.ndarray:
    """Return who is left in peace in a month, by a hash: the same on every night and machine.

    Raises
    ------
    ValueError
        If the share is not within 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share} cannot be held out: give one from 0 to 1.")
    return buckets(map(str, rows.tolist()), f"hold-out {month}") < share * BUCKETS


def chosen_and_held(
    gains: ArrayLike, off: np.ndarray, held: np.ndarray, capacity: int, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of those to be treated, and of the held-out who rank among them.

    Parameters
    ----------
    gains : array_like, shape (n,)
    off, held : ndarray of bool, shape (n,)
        Who may not be treated; who is held out.
    capacity : int
    least : float
        Gain below which nobody is treated.

    Examples
    --------
    >>> held = np.array([False, True, False, True])
    >>> chosen_and_held([4, 3, 2, 1], np.zeros(4, bool), held, capacity=2)
    (array([0, 2]), array([1]))
    """
    gains = np.asarray(gains, float)
    chosen = choose(gains, capacity, off | held, least)
    last = gains[chosen].min() if len(chosen) else np.inf
    peers = choose(gains, len(gains), off | ~held, least)
    return chosen, peers[gains[peers] >= last]


@dataclass(frozen=True)
class Listed:
    """A list of those to be treated, with those who would have been on it and were held out.

    Attributes
    ----------
    night : int
        Day on which it was made.
    held : ndarray of bool, shape (n,)
    risk, effect : ndarray, shape (n,)
        As predicted on the night.
    error : float
        Relative standard error that all predicted effects share, such as that of a factor which one
        trial has given.
    """

    night: int
    held: np.ndarray
    risk: np.ndarray
    effect: np.ndarray
    error: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What a list says once its outcome is known.

    Attributes
    ----------
    night : int
    precision : Interval
        Share of the held-out that cancelled: what the list would have lost.
    called : Interval
        Share of the called that cancelled.
    risk_z, effect_z : float
        Standard errors between what came and what was predicted.
    losses : float
        Expected among the held-out.
    shift : float
        By how much ``effect_z`` moves if the prediction is off by its own standard error.
    """

    night: int
    precision: Interval
    called: Interval
    risk_z: float
    effect_z: float
    losses: float
    shift: float = 0.0

    @property
    def effect(self) -> float:
        """Cancellations prevented, per called subscriber."""
        return self.precision.mean - self.called.mean


def read(listed: Listed, cancelled: ArrayLike, today: int, lag: int = 28) -> Reading:
    """Read a list whose outcome is known.

    Parameters
    ----------
    listed : Listed
    cancelled : array_like of bool, shape (n,)
    today : int
    lag : int
        Days until the outcome is known.

    Raises
    ------
    ValueError
        Before that, without a hold-out, with a prediction that is no number, or if nobody at all
        is lost though some should be: the losses have not been loaded.
    """
    if today < listed.night + lag:
        raise ValueError(
            f"the list of day {listed.night} is known on day {listed.night + lag}, not on day "
            f"{today}: who will cancel yet would count as saved."
        )
    y, held = np.asarray(cancelled, bool), listed.held
    if held.sum() < 2 or (~held).sum() < 2:
        raise ValueError(f"{held.sum()} held out of {len(held)}: nothing to compare with.")
    if not (np.isfinite([listed.risk, listed.effect]).all() and 0 <= listed.error < np.inf):
        raise ValueError(
            f"a prediction of the list of day {listed.night}, or its error, is no number."
        )
    if not y.any() and listed.risk.sum() >= 10:
        raise ValueError(
            f"none of {len(y):,} is lost, {listed.risk.sum():.0f} were expected without calls: the "
            "losses have not been loaded."
        )
    stay, called = y[held].mean(), y[~held].mean()
    own = listed.risk[held].mean()
    se_risk = np.sqrt(max(own * (1 - own), 1e-9) / held.sum())
    lost = 1 - listed.effect[~held].mean() / max(listed.risk[~held].mean(), 1e-9)
    of_stay = lost**2 * (stay * (1 - stay) + 1e-9) / held.sum()
    se = np.sqrt(of_stay + (called * (1 - called) + 1e-9) / (~held).sum())
    return Reading(
        listed.night,
        wilson(y[held]),
        wilson(y[~held]),
        float((stay - own) / se_risk),
        float((lost * stay - called) / se),
        float(listed.risk[held].sum()),
        float(abs(1 - lost) * stay * listed.error / se),
    )


def verdict(readings: Sequence[Reading]) -> str:
    """Return what has drifted, of all months together: ``risk``, ``effect``, both, or nothing.

    Give the readings since the last change: a new script, another price, an alarm that was
    answered. Each month's distances are added up and divided by the root of their number, so that
    a small hold-out and a slow loss are seen after some months. The prediction's own error does not
    average out: it is the same each month. It is ``not enough`` while fewer than :data:`LEAST`
    losses are expected among the held-out.
    """
    if sum(reading.losses for reading in readings) < LEAST:
        return "not enough"
    total = {
        name: sum(getattr(reading, name) for reading in readings) / np.sqrt(len(readings))
        for name in ("risk_z", "effect_z")
    }
    shift = sum(reading.shift for reading in readings) / np.sqrt(len(readings))
    total["effect_z"] /= np.hypot(1, shift)
    found = [
        name for name, z in zip(("risk", "effect"), total.values(), strict=True) if abs(z) > ALARM
    ]
    return " and ".join(found) or "nothing"


def table(readings: list[Reading]) -> pd.DataFrame:
    """Return the readings as the team's page shows them, in per cent."""
    rows = [
        {
            "night": reading.night,
            "would cancel": 100 * reading.precision.mean,
            "low": 100 * reading.precision.low,
            "high": 100 * reading.precision.high,
            "called cancel": 100 * reading.called.mean,
            "prevented": 100 * reading.effect,
            "risk z": reading.risk_z,
            "effect z": reading.effect_z,
        }
        for reading in readings
    ]
    return pd.DataFrame(rows)


def months_to_see(
    risk: float,
    effect: float,
    lost: float,
    list_: int,
    share: float,
    alarm: float = ALARM,
    error: float = 0.0,
) -> float:
    """Return the months until :func:`verdict` has seen with an even chance that calls work less.

    Parameters
    ----------
    risk, effect : float
        Of the list: share that cancels without calls, and what calls prevent.
    lost : float
        Part of the effect that is gone.
    list_ : int
        Subscribers on the list a month, the held-out among them.
    share : float
        Held out.
    alarm : float
        Standard errors.
    error : float
        Relative standard error of the prediction; too large a one is never overcome.

    Returns
    -------
    float
        A whole number, or infinity.

    Examples
    --------
    >>> months_to_see(0.12, 0.04, 0.5, 4_000, 0.05), months_to_see(0.12, 0.04, 0.5, 4_000, 0.20)
    (6, 2)
    >>> [months_to_see(0.12, 0.04, 0.5, 4_000, 0.20, error=e) for e in (0.1, 0.2)]
    [4, inf]
    """
    held = share * list_
    now = risk - effect * (1 - lost)
    variance = (1 - effect / risk) ** 2 * risk * (1 - risk) / held
    variance += now * (1 - now) / (list_ - held)
    seen = (effect * lost / alarm) ** 2 - (effect * error) ** 2
    return int(np.ceil(variance / seen)) if seen > 0 else np.inf
