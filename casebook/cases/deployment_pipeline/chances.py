"""The base of case 21's world and its rules: which payments there are, and which are frauds.

Each way of fraud is a logistic function of the standardised signed logarithms of the features,
fitted once on chapter 12's truth (:mod:`~casebook.cases.deployment_pipeline.world` says how) and
kept in ``rule.parquet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from casebook.data import snapshot

CHAPTER = "21_deployment_pipeline"
#: Continuous features: blurred, and a covariate shift may move them.
CONTINUOUS = (
    *("amount", "amount_ratio", "customer_sum_24h", "customer_mean_30d"),
    *("log_seconds_since_last", "tenure", "km_from_home", "speed", "device_age"),
)
COUNTS = (
    *("customer_count_1h", "customer_count_24h", "customer_small_24h", "terminal_count_7d"),
    *("terminal_risk_30d", "device_customers_7d", "ip_customers_24h"),
)
FLAGS = ("online", "terminal_new", "device_new", "night", "wallet", "magstripe")
FEATURES = (*CONTINUOUS, *COUNTS, *FLAGS)
#: Ways of fraud of the first day, and the one that a shift of the concept brings.
WAYS, NEW_WAY = ("stolen", "skimmed", "phished", "takeover", "testing"), "wallet"


@dataclass(frozen=True)
class Constants:
    """Sizes and the most arbitrary numbers of the world.

    Attributes
    ----------
    n : int
        Payments a day.
    rate : float
        Share of fraud.
    wobble : float
        ARBITRARY. How much the mix of a day moves a feature, in standard deviations.
    foreign : float
        ARBITRARY. Weight of the rule of the sixth way against the mean of the first five: 1 is
        chapter 12's wallet fraud, 0 looks like fraud always did.
    blur : float
        Log sd of the noise on continuous values.
    """

    n: int = 2_000
    rate: float = 0.0045
    wobble: float = 0.03
    foreign: float = 1.0
    blur: float = 0.05

    def __post_init__(self):
        if self.n < 50 or not 0 < self.rate < 0.2 or self.wobble < 0 or not 0 <= self.foreign <= 1:
            raise ValueError(
                f"{self}: at least 50 payments a day, a rate below .2, a wobble of 0 or more and "
                "foreign from 0 to 1 are due"
            )


def payments() -> pd.DataFrame:
    """Return the base: 25,000 payments of chapter 12 with their features and its labels.

    Returns
    -------
    DataFrame
        ``at``, :data:`FEATURES`, ``fraud`` and ``known_at`` (chapter 12's own, which no function
        of this case learns from).
    """
    return snapshot(CHAPTER, "payments.parquet")


@cache
def base() -> np.ndarray:
    """Return the features of the base, shape (rows, features); read-only."""
    base = payments()[list(FEATURES)].to_numpy(float)
    base.flags.writeable = False
    return base


@cache
def _rule() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and sd of the logarithms, and slopes and intercepts of the six rules."""
    table = snapshot(CHAPTER, "rule.parquet").set_index("of")
    numbers = table[list(FEATURES)].to_numpy(float)
    return numbers[0], numbers[1], numbers[2:], table["intercept"].to_numpy(float)[2:]


def logs(X: np.ndarray) -> np.ndarray:
    """Return signed logarithms, of the shape of ``X``."""
    return np.sign(X) * np.log1p(np.abs(X))


def standard(X: np.ndarray) -> np.ndarray:
    """Return standardised signed logarithms, of the shape of ``X``."""
    mean, sd, _, _ = _rule()
    return (logs(X) - mean) / sd


@cache
def _intercepts(rate: float, foreign: float) -> np.ndarray:
    """Return intercepts at which the base has the rate: its shares by way, and all in the new."""
    _, _, _, known = _rule()
    Z = standard(base())
    slopes = _slopes(foreign)
    mean = [float(_sigmoid(Z @ slopes[i] + known[i]).mean()) for i in range(len(WAYS))]
    targets = [rate * m / sum(mean) for m in mean] + [rate]
    found = []
    for slope, target in zip(slopes, targets, strict=True):
        low, high = -40.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            below = _sigmoid(Z @ slope + middle).mean() < target
            low, high = (middle, high) if below else (low, middle)
        found.append(low)
    return np.array(found)


def _slopes(foreign: float) -> np.ndarray:
    """Return the slopes of the six rules; the sixth is pulled to the mean of the others."""
    slopes = _rule()[2].copy()
    slopes[-1] = foreign * slopes[-1] + (1 - foreign) * slopes[:-1].mean(axis=0)
    return slopes


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def chance(X: np.ndarray, concept: float = 0.0, constants: Constants | None = None) -> np.ndarray:
    """Return the true chance of fraud of payments.

    Parameters
    ----------
    X : ndarray, shape (n, features)
        As they truly are, before a fault of the plumbing.
    concept : float
        Share of the fraud that happens in the new way.
    constants : Constants, optional

    Returns
    -------
    ndarray, shape (n,)
    """
    own = constants or Constants()
    way = _sigmoid(standard(X) @ _slopes(own.foreign).T + _intercepts(own.rate, own.foreign))
    weights = np.array([1 - concept] * len(WAYS) + [concept])
    return 1 - np.prod(1 - weights * way, axis=1)


@cache
def clipped() -> np.ndarray:
    """Return the base standardised and cut at three standard deviations."""
    return standard(base()).clip(-3, 3)


@cache
def spread() -> np.ndarray:
    """Return how much a tilt of all features moves each, so that the wobble is the same for all."""
    return (np.cov(clipped().T) ** 2).sum(axis=1)


@cache
def sigma() -> np.ndarray:
    """Return the sd of the logarithms of positive values, by feature."""
    return np.array([np.log1p(column[column > 0]).std() for column in base().T])
