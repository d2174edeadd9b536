"""The rest of a day, from what was wanted so far: a gamma prior, updated by Poisson counts.

A day's rate has a gamma distribution with the mean of the forecast. After a share of the day with
``x`` units wanted it is still a gamma, and the demand of any later share is negative binomial.

Examples
--------
Ten units are expected; half of the day has passed and twelve have gone:

>>> day = Day(mean=np.array([10.0]), shape=8.0)
>>> day.ahead(0.5).round(2).tolist(), day.seen(0.5, np.array([12.0])).ahead(0.5).round(2).tolist()
([5.0], [7.69])
>>> day.seen(0.5, np.array([12.0])).order(0.5, 5 / 7).tolist()
[9.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Day:
    """What a day's demand may be.

    Attributes
    ----------
    mean : ndarray, shape (n,)
        Of the whole day, above 0.
    shape : float
        Of the gamma: more is less uncertain.
    passed, units : ndarray or float
        Share of the day that was seen, and units wanted in it.
    """

    mean: np.ndarray
    shape: float
    passed: np.ndarray | float = 0.0
    units: np.ndarray | float = 0.0

    def seen(self, share: np.ndarray | float, units: np.ndarray) -> Day:
        """Return the day after a share more was seen; 0 for cells of which nothing is known."""
        return Day(self.mean, self.shape, self.passed + share, self.units + units)

    def _rate(self) -> np.ndarray:
        return self.shape / self.mean + self.passed

    def ahead(self, share: float) -> np.ndarray:
        """Return the mean demand of a later share of the day."""
        return share * (self.shape + self.units) / self._rate()

    def order(self, share: float, level: float) -> np.ndarray:
        """Return the units that suffice for a later share of the day with a level."""
        from scipy.stats import nbinom

        rate = self._rate()
        return nbinom.ppf(level, self.shape + self.units, rate / (rate + share))
