"""Can two calls be told apart by the time they take? An interval, and the power to find it out.

A service that answers "not found" faster for what does not exist than for what is hidden says which
of the two it was. The calls are made in pairs, in random order, so that both meet the same machine.
What is counted is in how many pairs the first took longer: an observer of one pair who bets on the
slower call is right that often. The count does not depend on how the times are distributed.

Examples
--------
>>> detectable(2_500)
0.038...
>>> told = Told(0.52, 0.49, 0.55, 2_500)
>>> told.same(margin=0.1), told.apart(margin=0.1)
(True, False)
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Confidence of an interval; the chance that a difference is found.
LEVEL, POWER = 0.99, 0.9


@dataclass(frozen=True)
class Told:
    """How well two calls are told apart.

    Attributes
    ----------
    share : float
        Of pairs in which the first call took longer; .5 tells nothing, 0 and 1 all.
    low, high : float
        Its Wilson interval.
    pairs : int
    """

    share: float
    low: float
    high: float
    pairs: int

    def same(self, margin: float) -> bool:
        """Say whether the interval lies within .5 plus and minus a margin: shown to be the same."""
        return 0.5 - margin < self.low and self.high < 0.5 + margin

    def apart(self, margin: float) -> bool:
        """Say whether it lies outside: shown to be apart. In between, take more pairs."""
        return self.high < 0.5 - margin or 0.5 + margin < self.low


def tell_apart(
    first: Callable[[int], object],
    second: Callable[[int], object],
    pairs: int = 1_000,
    level: float = LEVEL,
    seed: int = 0,
) -> Told:
    """Time two calls in pairs.

    Parameters
    ----------
    first, second : callable
        Take the number of the pair, so that each call can ask for something else.
    pairs : int
    level : float
    seed : int
        Of the order within the pairs.
    """
    order = np.random.default_rng(seed).integers(2, size=pairs)
    longer, calls = np.zeros(pairs), (first, second)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for pair, before in enumerate(order.tolist()):
            took = [0, 0]
            for which in (before, 1 - before):
                start = time.perf_counter_ns()
                calls[which](pair)
                took[which] = time.perf_counter_ns() - start
            longer[pair] = 0.5 * (1 + np.sign(took[0] - took[1]))
    finally:
        if collecting:
            gc.enable()
    share = float(longer.mean())
    z = _z(level)
    middle = (share + z * z / (2 * pairs)) / (1 + z * z / pairs)
    half = z / (1 + z * z / pairs) * (share * (1 - share) / pairs + (z / (2 * pairs)) ** 2) ** 0.5
    return Told(share, middle - half, middle + half, pairs)


def detectable(pairs: int, level: float = LEVEL, power: float = POWER) -> float:
    """Return how far from .5 a share must lie to be found with this power."""
    return (_z(level) + _z(2 * power - 1)) * 0.5 / pairs**0.5


def _z(level: float) -> float:
    """Return the two-sided quantile of the normal distribution."""
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))
