"""Looking before the end: what it costs, and three ways to do it within the promised error.

* :func:`bounds` spends the error over planned looks (O'Brien–Fleming, Pocock);
* :func:`always_valid_p` holds at any look, planned or not (mixture sequential probability ratio);
* :func:`crossing` computes how often a statistic without effect crosses given bounds, exactly.

The statistic of look k is a z value; between looks it moves like a Brownian motion whose time is
the information so far: the share of the planned users.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from casebook.evaluate.intervals import wilson


def crossing(
    bounds: ArrayLike, fractions: ArrayLike | None = None, drift: float = 0.0
) -> np.ndarray:
    """Return the probability that ``|z|`` has crossed its bound by each look.

    Parameters
    ----------
    bounds : array_like, shape (looks,)
        Of ``|z|`` at each look.
    fractions : array_like, shape (looks,), optional
        Information at each look, rising to 1; by default equal steps.
    drift : float
        Expected z value at the end: 0 without effect.

    Returns
    -------
    ndarray, shape (looks,)

    References
    ----------
    Armitage, McPherson & Rowe (1969), *Repeated significance tests on accumulating data*, JRSS A
    132.

    Examples
    --------
    >>> crossing([1.96, 1.96]).round(3).tolist()
    [0.05, 0.083]
    """
    from scipy.stats import norm

    bounds = np.asarray(bounds, float)
    looks = len(bounds)
    times = np.arange(1, looks + 1) / looks if fractions is None else np.asarray(fractions, float)
    if len(times) != looks or (np.diff(times, prepend=0) <= 0).any():
        raise ValueError("fractions rise from above 0 to 1, one for each bound.")
    nodes, weights = np.polynomial.legendre.leggauss(100)
    edge = bounds * np.sqrt(times)  # of the Brownian motion, which is z times the root of time
    result, points, density = np.empty(looks), np.zeros(1), np.ones(1)
    for k, step in enumerate(np.diff(times, prepend=0)):
        sd, mean = np.sqrt(step), points + drift * step
        left = norm.cdf((-edge[k] - mean) / sd) + norm.sf((edge[k] - mean) / sd)
        result[k] = density @ left
        grid = nodes * edge[k]
        density = density @ norm.pdf((grid - mean[:, None]) / sd) / sd * weights * edge[k]
        points = grid
    return np.cumsum(result)


@cache
def bounds(
    looks: int | tuple[float, ...], alpha: float = 0.05, shape: float = 0.5
) -> tuple[float, ...]:
    """Return bounds of ``|z|`` at planned looks that are crossed with probability alpha.

    Parameters
    ----------
    looks : int or tuple of float
        Equally spaced looks, or the share of the information at each of them, rising to 1.
    alpha : float
        Two-sided.
    shape : float
        The bound is proportional to time to the power of ``-shape``: 0.5 is O'Brien–Fleming's,
        strict at first; 0 is Pocock's, the same at all looks.

    References
    ----------
    O'Brien & Fleming (1979), *A multiple testing procedure for clinical trials*, Biometrics 35.

    Examples
    --------
    >>> [round(bound, 2) for bound in bounds(5)]
    [4.56, 3.23, 2.63, 2.28, 2.04]
    >>> [round(bound, 2) for bound in bounds((0.5, 0.9, 1.0))]
    [2.88, 2.15, 2.04]
    """
    from scipy.optimize import brentq

    times = np.arange(1, looks + 1) / looks if isinstance(looks, int) else np.array(looks, float)
    if not len(times) or abs(times[-1] - 1) > 1e-9:
        raise ValueError(f"looks is {looks}: plan one at least, the last with all information.")
    form = times**-shape
    scale = brentq(lambda c: crossing(c * form, times)[-1] - alpha, 1.0, 6.0, xtol=1e-8)
    return tuple((scale * form).tolist())


def reach(
    rule: str, looks: int | tuple[float, ...], look: int, alpha: float, se: float, tau: float
) -> float:
    """Return how many standard errors the interval of a stopping rule reaches at a look.

    Parameters
    ----------
    rule, looks, alpha
        As for :func:`inflation`.
    look : int
        From 1.
    se, tau : float
        Standard error at the look, and the size of effects that are expected: the always-valid
        interval depends on them.

    Examples
    --------
    >>> [round(reach("obrien_fleming", 2, look, 0.05, 0.01, 0.02), 2) for look in (1, 2)]
    [2.8, 1.98]
    """
    if rule == "always_valid":
        return always_valid_interval(0.0, se, tau, alpha)[1] / se if se > 0 else 0.0
    return bounds(looks, alpha, 0.0 if rule == "pocock" else 0.5)[look - 1]


def inflation(
    rule: str, looks: int | tuple[float, ...] = 1, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return by which factor a stopping rule needs more users than one look at the end.

    Parameters
    ----------
    rule : str
        ``fixed``, ``obrien_fleming`` (or ``pocock``) or ``always_valid``.
    looks : int or tuple of float
        As for :func:`bounds`. The always-valid rule is counted at the last look alone, with the
        effect of the plan as its ``tau``: earlier looks add a little power.
    alpha, power : float

    References
    ----------
    Jennison & Turnbull (2000), *Group sequential methods with applications to clinical trials*,
    table 2.4: 1.028 for five looks of O'Brien and Fleming at power .80.

    Examples
    --------
    >>> round(inflation("obrien_fleming", 5), 3), round(inflation("always_valid"), 2)
    (1.028, 1.94)
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    fixed = norm.isf(alpha / 2) + norm.ppf(power)
    if rule == "fixed":
        return 1.0
    if rule == "always_valid":

        def lacks(z: float) -> float:
            half = always_valid_interval(z, 1.0, z, alpha)[1] - z
            return norm.cdf(z - half) - power
    else:
        limits = bounds(looks, alpha, {"obrien_fleming": 0.5, "pocock": 0.0}[rule])
        times = None if isinstance(looks, int) else looks

        def lacks(z: float) -> float:
            return crossing(limits, times, z)[-1] - power

    return float((brentq(lacks, fixed / 2, 4 * fixed) / fixed) ** 2)


# Always valid -------------------------------------------------------------------------


def log_ratio(effect: ArrayLike, se: ArrayLike, tau: float) -> np.ndarray:
    """Return the logarithm of the mixture likelihood ratio of an effect against none.

    Parameters
    ----------
    effect, se : array_like
        Estimate and standard error so far.
    tau : float
        Standard deviation of the effects that are expected, in the same unit. Any value keeps the
        error; a good guess gives power.
    """
    effect, variance = np.asarray(effect, float), np.square(np.asarray(se, float))
    together = variance + tau**2
    return 0.5 * np.log(variance / together) + effect**2 * tau**2 / (2 * variance * together)


def always_valid_p(effect: ArrayLike, se: ArrayLike, tau: float) -> np.ndarray:
    """Return p-values that hold at every look; along the last axis they never rise.

    A look without a number (no users yet) is passed over.

    Parameters
    ----------
    effect, se : array_like, shape (…, looks)
    tau : float
        As for :func:`log_ratio`.

    References
    ----------
    Johari, Koomen, Pekelis & Walsh (2022), *Always valid inference: continuous monitoring of A/B
    tests*, Operations Research 70.
    """
    p = np.minimum(1.0, np.exp(-log_ratio(effect, se, tau)))
    return np.fmin.accumulate(p, axis=-1)


def always_valid_interval(
    effect: float, se: float, tau: float, alpha: float = 0.05
) -> tuple[float, float]:
    """Return an interval that holds the effect at all looks together with probability 1 - alpha."""
    if se == 0:
        return float(effect), float(effect)
    variance, together = se**2, se**2 + tau**2
    half = np.sqrt(
        2 * variance * together / tau**2 * (0.5 * np.log(together / variance) - np.log(alpha))
    )
    return float(effect - half), float(effect + half)


# Paths of real users ------------------------------------------------------------------


class Paths(NamedTuple):
    """Estimates of repeated experiments on the same users, look by look.

    Attributes
    ----------
    effect, se : ndarray, shape (runs, looks)
        Difference of the arms' means, relative to the mean over all, and its standard error.
    """

    effect: np.ndarray
    se: np.ndarray

    @property
    def z(self) -> np.ndarray:
        return self.effect / self.se

    @property
    def p(self) -> np.ndarray:
        """Two-sided p-value of each look alone."""
        from scipy.stats import norm

        return 2 * norm.sf(np.abs(self.z))

    @property
    def information(self) -> tuple[float, ...]:
        """Share of the last look's information that each look has: the squared correlation of z.

        For new users at each look this is their share of all users. Where users come early and
        stay, it is not: later looks add days of the same users.
        """
        z = self.z - self.z.mean(axis=0)
        together = (z * z[:, -1:]).sum(axis=0)
        share = together**2 / (np.square(z).sum(axis=0) * np.square(z[:, -1]).sum())
        return (*np.maximum.accumulate(share[:-1]).tolist(), 1.0)


def arrivals(
    values: ArrayLike, runs: int, looks: int, per_arm: int, lift: float = 0.0, seed: int = 0
) -> Paths:
    """Draw experiments to which equally many users come before each look.

    Parameters
    ----------
    values : array_like, shape (n,)
        The metric of real users; drawn with replacement for both arms.
    runs, looks, per_arm : int
        Experiments, looks, and users of an arm at the end.
    lift : float
        Relative effect on every treated user.
    seed : int
    """
    rng, values = np.random.default_rng(seed), np.asarray(values, float)
    block = per_arm // looks
    sums = np.empty((2, 2, runs, looks))  # of values and squares, by arm
    for arm, factor in enumerate((1.0, 1.0 + lift)):
        for run in range(runs):
            drawn = factor * values[rng.integers(len(values), size=(looks, block))]
            sums[:, arm, run] = drawn.sum(axis=1), np.square(drawn).sum(axis=1)
    n = block * np.arange(1, looks + 1)
    mean, square = np.cumsum(sums, axis=-1) / n
    variance = (square - mean**2) * n / (n - 1)
    scale = values.mean()
    se = np.sqrt(variance.sum(axis=0) / n) / scale
    return Paths((mean[1] - mean[0]) / scale, se)


def daily_paths(
    daily: np.ndarray, day: ArrayLike, runs: int, seed: int = 0, lift: float = 0.0
) -> Paths:
    """Split the same users at random, again and again, and test their sums so far on each day.

    These are the looks of a dashboard: most users are there after some days, and later looks add
    minutes of the same users rather than new users.

    Parameters
    ----------
    daily : ndarray, shape (users, days)
        The metric on each day of the calendar.
    day : array_like, shape (users,)
        Of the first exposure: before it a user is not counted.
    runs, seed : int
    lift : float
        Relative effect on every treated user.
    """
    total = np.cumsum(daily, axis=1)
    there = np.asarray(day)[:, None] <= np.arange(daily.shape[1])
    columns = np.concatenate([there, total, total**2], axis=1).astype(np.float64)
    rng, parts = np.random.default_rng(seed), []
    whole = columns.sum(axis=0)
    for start in range(0, runs, 250):
        labels = rng.integers(0, 2, (min(250, runs - start), len(daily)), dtype=np.int8)
        treated = labels.astype(np.float64) @ columns
        parts.append(np.stack([whole - treated, treated]))
    n, mean, square = np.split(np.concatenate(parts, axis=1), 3, axis=-1)
    mean = mean / n
    variance = (square / n - mean**2) / (n - 1)
    mean[1], variance[1] = mean[1] * (1 + lift), variance[1] * (1 + lift) ** 2
    scale = whole[daily.shape[1] : 2 * daily.shape[1]] / whole[: daily.shape[1]]
    return Paths((mean[1] - mean[0]) / scale, np.sqrt(variance.sum(axis=0)) / scale)


def alarms(
    paths: Paths,
    rule: str,
    alpha: float = 0.05,
    tau: float = 0.02,
    looks: Sequence[int] = (),
    information: tuple[float, ...] = (),
) -> np.ndarray:
    """Return the look at which a rule stops each experiment, or -1 where it does not.

    Parameters
    ----------
    paths : Paths
    rule : str
        ``naive`` (p of each look), ``bonferroni``, ``obrien_fleming``, ``pocock``,
        ``always_valid``, or ``end`` (the last look alone).
    alpha, tau : float
        ``tau`` of the always valid one.
    looks : sequence of int, optional
        Positions that are looked at; by default all.
    information : tuple of float, optional
        At these looks, for the bounds; by default equal steps.
    """
    from scipy.stats import norm

    seen = list(looks) or list(range(paths.effect.shape[1]))
    own = Paths(paths.effect[:, seen], paths.se[:, seen])
    k = len(seen)
    if rule == "always_valid":
        crossed = always_valid_p(own.effect, own.se, tau) <= alpha
    else:
        limits = {
            "naive": lambda: np.full(k, norm.isf(alpha / 2)),
            "bonferroni": lambda: np.full(k, norm.isf(alpha / 2 / k)),
            "obrien_fleming": lambda: np.array(bounds(information or k, alpha)),
            "pocock": lambda: np.array(bounds(information or k, alpha, 0.0)),
            "end": lambda: np.r_[np.full(k - 1, np.inf), norm.isf(alpha / 2)],
        }
        if rule not in limits:
            raise ValueError(f"rule {rule!r}: one of {', '.join([*limits, 'always_valid'])}.")
        crossed = np.abs(own.z) >= limits[rule]()
    return np.where(crossed.any(axis=1), np.array(seen)[crossed.argmax(axis=1)], -1)


def stopped(none: Paths, some: Paths, rule: str, **more) -> dict:
    """Return how often a rule stops tests of nothing and of something, and how early."""
    rule, last = rule.split(",")[0], none.effect.shape[1]
    false = alarms(none, rule, **more) >= 0
    stop = alarms(some, rule, **more)
    found = wilson(false)
    rate = {"runs": len(false), "low": found.low, "high": found.high, "false_alarms": found.mean}
    at = np.where(stop >= 0, (stop + 1) / last, 1.0).mean()
    return {**rate, "power": (stop >= 0).mean(), "stop": at}


def evenly(count: int, finest: int) -> list[int]:
    """Return positions of ``count`` looks among ``finest``, as evenly as they go."""
    return (np.round(np.arange(1, count + 1) * finest / count) - 1).astype(int).tolist()
