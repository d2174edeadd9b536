"""Labels that are still on their way: the share that has come by an age, and weights for it.

A fraud whose chargeback has not come looks genuine. Of the chargebacks that one has seen the quick
ones are too many, because a slow one of a young payment could not have come yet (*right
truncation*). The product-limit estimator for truncated data takes that into account: going back in
time, a delay u is compared with those delays up to u that could have been as long as u.

A fraud that came at age a then stands for ``1 / share(a)`` frauds of its age
(:func:`label_weights`). That brings back their number, and is still too modest where frauds are
dense: those that have not come stand there as genuine. With a first model's probability a row
without a label is part fraud (:func:`still_to_come`), and a second model learns from both parts.

Examples
--------
Half of the labels come after 1 day, half after 10. Payments 5 days old show the quick half only:

>>> arrived = Arrivals.fit([1, 1, 1, 1, 10, 10], age=[5, 5, 20, 20, 20, 20])
>>> arrived([0.5, 5, 10]).tolist()
[0.0, 0.5, 1.0]
>>> label_weights([1, 1, 0], age=[5, 20, 5], arrived=arrived).tolist()
[2.0, 1.0, 1.0]
>>> still_to_come([0.5, 0.5, 0.01], age=[5, 20, 5], arrived=arrived).round(3).tolist()
[0.333, 0.0, 0.005]

References
----------
Lynden-Bell (1971), *A method of allowing for known observational selection in small samples applied
to 3CR quasars*, Monthly Notices of the Royal Astronomical Society 155.
Chapelle (2014), *Modeling Delayed Feedback in Display Advertising*, KDD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Arrivals:
    """The share of the labels that have come by an age.

    Attributes
    ----------
    delays : ndarray, shape (k,)
        Delays that were seen, rising.
    shares : ndarray, shape (k,)
        Share of the labels that come within each, of those that come within the longest age.
    """

    delays: np.ndarray
    shares: np.ndarray

    @classmethod
    def fit(cls, delay: ArrayLike, age: ArrayLike) -> Arrivals:
        """Estimate the share from labels that have come.

        Parameters
        ----------
        delay : array_like, shape (n,)
            Days from an event to its label.
        age : array_like, shape (n,)
            Days from the event to now: a delay is at most the age.

        Raises
        ------
        ValueError
            When nothing has come, a value is not finite or negative, or a delay exceeds its age.
        """
        delay, age = np.asarray(delay, float), np.asarray(age, float)
        if not delay.size or delay.shape != age.shape:
            raise ValueError(f"{delay.size} delays and {age.size} ages: one each is due, of labels")
        if not (np.isfinite(delay).all() and np.isfinite(age).all() and delay.min() >= 0):
            raise ValueError("a delay or an age is negative, missing or endless")
        if late := int((delay > age).sum()):
            raise ValueError(f"{late} labels came later than now: leave out what is not known yet")
        seen, many = np.unique(delay, return_counts=True)
        # Those that came within u, of the events old enough to have shown a delay of u.
        quick, young = np.sort(delay), np.sort(age)
        at_risk = np.searchsorted(quick, seen, "right") - np.searchsorted(young, seen, "left")
        stays = 1 - many / np.maximum(at_risk, many)
        shares = np.append(np.cumprod(stays[:0:-1])[::-1], 1.0)
        return cls(seen, shares)

    def __call__(self, age: ArrayLike) -> np.ndarray:
        """Return the share of the labels that have come by each age.

        Raises
        ------
        ValueError
            When an age is missing.
        """
        age = np.asarray(age, float)
        if np.isnan(age).any():
            raise ValueError(f"{int(np.isnan(age).sum())} ages are missing")
        place = np.searchsorted(self.delays, age, side="right")
        return np.append(0.0, self.shares)[place]


def label_weights(y: ArrayLike, age: ArrayLike, arrived: Arrivals, most: float = 20) -> np.ndarray:
    """Return how many rows each row stands for.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
        1 where the label has come.
    age : array_like, shape (n,)
        Days from the event to now.
    arrived : Arrivals
    most : float
        Largest weight: a label that came at once speaks for few others with any certainty.

    Returns
    -------
    ndarray, shape (n,)
        1 for rows without a label.

    Raises
    ------
    ValueError
        When labels and ages are of different length.
    """
    y, age = np.asarray(y, float), np.asarray(age, float)
    if y.shape != age.shape:
        raise ValueError(f"{y.size} labels and {age.size} ages: one each is due")
    return np.where(y == 1, 1 / np.maximum(arrived(age), 1 / most), 1.0)


def still_to_come(p: ArrayLike, age: ArrayLike, arrived: Arrivals) -> np.ndarray:
    r"""Return the probability that a row without a label is fraud whose label is on its way.

    Of like rows a share p is fraud, of which a share F has come by this age. Of those without a
    label :math:`p (1 - F) / (1 - p F)` are fraud.

    Parameters
    ----------
    p : array_like of float, shape (n,)
        Probability of fraud by a first model, before the label is looked at.
    age : array_like, shape (n,)
        Days from the event to now.
    arrived : Arrivals

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        When a probability is not within 0 and 1, or the lengths differ.
    """
    p, age = np.asarray(p, float), np.asarray(age, float)
    if p.shape != age.shape:
        raise ValueError(f"{p.size} probabilities and {age.size} ages: one each is due")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability is not within 0 and 1")
    share = arrived(age)
    left = 1 - p * share
    return np.divide(p * (1 - share), left, out=np.ones_like(p), where=left > 0)
