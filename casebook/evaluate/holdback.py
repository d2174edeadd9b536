"""What a hold-back sees: the same users for longer are not more users.

A user's weekly metric is a level of the user, which every week shares, and noise of the week.
Longer watching averages the noise away and not the levels, so the error of a mean over users falls
more slowly than with the root of the days.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from casebook.evaluate.experiments import smallest_difference


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


def months_to_see(
    risk: float, effect: float, lost: float, list_: int, share: float, alarm: float = 3.0
) -> int:
    """Return the months until a hold-out has seen with an even chance that calls work less.

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

    Examples
    --------
    >>> months_to_see(0.12, 0.04, 0.5, 4_000, 0.05), months_to_see(0.12, 0.04, 0.5, 4_000, 0.20)
    (13, 4)
    """
    held = share * list_
    now = risk - effect * (1 - lost)
    variance = risk * (1 - risk) / held + now * (1 - now) / (list_ - held)
    return int(np.ceil(variance * (alarm / (effect * lost)) ** 2))
