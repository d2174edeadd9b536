"""Randomised experiments: effects with intervals, the split, power, several tests at once.

Everything here counts by the unit that was randomised: one number, or one numerator and one
denominator, for each user (or cluster) of an arm.

Examples
--------
>>> found = welch([3, 3, 7, 7], [5, 5, 9, 9])
>>> found.effect, round(found.se, 3)
(2.0, 1.633)
>>> round(srm({"a": 4_700, "b": 5_200, "rest": 90_100}, {"a": 5, "b": 5, "rest": 90}).statistic, 2)
26.11
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas as pd


class Effect(NamedTuple):
    """What a treatment changes, from control to treatment.

    Attributes
    ----------
    control, treatment : float
        The metric in each arm.
    effect, se, low, high : float
        Difference, its standard error and interval, in the metric's unit.
    p : float
        Two-sided, of no difference.
    relative, relative_low, relative_high : float
        Share of the control's value, with its interval by the delta method; missing where the
        control is zero.
    """

    control: float
    treatment: float
    effect: float
    se: float
    low: float
    high: float
    p: float
    relative: float
    relative_low: float
    relative_high: float

    @property
    def relative_se(self) -> float:
        """Standard error of the relative effect, as a normal interval of 95 % would have it."""
        return (self.relative_high - self.relative_low) / (2 * 1.959964)


def effect_of(
    control: float,
    control_se: float,
    treatment: float,
    treatment_se: float,
    level: float = 0.95,
    df: float = np.inf,
) -> Effect:
    """Return the effect between two independent estimates.

    Parameters
    ----------
    control, control_se, treatment, treatment_se : float
        Value of the metric in each arm with its standard error.
    level : float
        Confidence level.
    df : float
        Degrees of freedom of Student's t; infinite for the normal distribution.
    """
    from scipy.stats import t

    q = t.ppf((1 + level) / 2, df)
    effect, se = treatment - control, float(np.hypot(control_se, treatment_se))
    p = 2 * t.sf(abs(effect) / se, df) if se > 0 else float(effect == 0)
    p = p if np.isfinite(se) else np.nan  # no error, no test
    if control == 0:
        relative = spread = np.nan
    else:
        relative = treatment / control - 1
        spread = np.hypot(treatment_se / control, treatment * control_se / control**2)
    values = (control, treatment, effect, se, effect - q * se, effect + q * se, p)
    return Effect(*map(float, (*values, relative, relative - q * spread, relative + q * spread)))


def arm_values(values: ArrayLike, name: str, least: int = 2) -> np.ndarray:
    """Return the values of an arm as floats, or raise if they are too few or not all there."""
    values = np.asarray(values, float).ravel()
    if len(values) < least:
        raise ValueError(f"{name} has {len(values)} units: a variance needs at least {least}.")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(
            f"{name} holds {bad} missing or infinite values of {len(values)}: say what they mean "
            "(no visit is 0) before they are tested."
        )
    return values


def welch(control: ArrayLike, treatment: ArrayLike, level: float = 0.95) -> Effect:
    """Return the difference of two means by Welch's t test.

    Parameters
    ----------
    control, treatment : array_like, shape (n,), (m,)
        One value for each unit that was randomised.
    level : float
        Confidence level.

    Raises
    ------
    ValueError
        With fewer than two units in an arm, or missing values.

    References
    ----------
    Welch (1947), *The generalization of "Student's" problem*, Biometrika 34.
    """
    c, t = arm_values(control, "control"), arm_values(treatment, "treatment")
    a, b = c.var(ddof=1) / len(c), t.var(ddof=1) / len(t)
    df = (a + b) ** 2 / (a**2 / (len(c) - 1) + b**2 / (len(t) - 1)) if a + b > 0 else np.inf
    return effect_of(c.mean(), np.sqrt(a), t.mean(), np.sqrt(b), level, df)


def ratio_with_se(numerator: ArrayLike, denominator: ArrayLike) -> tuple[float, float]:
    """Return a ratio of two sums over units with its standard error by the delta method.

    Parameters
    ----------
    numerator, denominator : array_like, shape (n,)
        Of each unit, such as the clicks and the impressions of a user.

    Raises
    ------
    ValueError
        With fewer than two units, missing values, or denominators that sum to zero.

    References
    ----------
    Deng, Knoblich & Lu (2018), *Applying the delta method in metric analytics*, KDD.

    Examples
    --------
    >>> ratio, se = ratio_with_se([1, 3, 0], [2, 4, 6])
    >>> round(ratio, 3), round(se, 3)
    (0.333, 0.268)
    """
    top, bottom = arm_values(numerator, "the numerator"), arm_values(denominator, "the denominator")
    if top.shape != bottom.shape:
        raise ValueError(f"{len(top)} numerators and {len(bottom)} denominators: one each a unit.")
    if bottom.sum() <= 0:
        raise ValueError("The denominators sum to zero: the ratio is not defined.")
    ratio = top.sum() / bottom.sum()
    linear = (top - ratio * bottom) / bottom.mean()
    return float(ratio), float(linear.std(ddof=1) / np.sqrt(len(top)))


def ratio_effect(
    control: tuple[ArrayLike, ArrayLike],
    treatment: tuple[ArrayLike, ArrayLike],
    level: float = 0.95,
) -> Effect:
    """Return the difference of two ratios of sums by the delta method.

    Parameters
    ----------
    control, treatment : pair of array_like, shape (n,)
        Numerators and denominators of the units of an arm, as for :func:`ratio_with_se`.
    level : float
        Confidence level.
    """
    return effect_of(*ratio_with_se(*control), *ratio_with_se(*treatment), level)


def bootstrap_effect(
    control: tuple[ArrayLike, ArrayLike],
    treatment: tuple[ArrayLike, ArrayLike],
    draws: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> Effect:
    """Return the difference of two ratios of sums by the Poisson bootstrap over units.

    Each unit counts as often as a Poisson number with mean one says. Denominators of one make it
    the difference of two means. The interval and ``p`` are those of a normal distribution with the
    bootstrap's standard errors.

    Parameters
    ----------
    control, treatment : pair of array_like, shape (n,)
        As for :func:`ratio_effect`.
    draws : int
    level : float
    seed : int

    References
    ----------
    Chamandy et al. (2012), *Estimating uncertainty for massive data streams*, Google.
    """
    rng, ends = np.random.default_rng(seed), []
    for name, (top, bottom) in (("control", control), ("treatment", treatment)):
        top, bottom = (
            arm_values(top, name),
            np.broadcast_to(np.asarray(bottom, float), np.shape(top)),
        )
        sums = np.empty((draws, 2))
        for i in range(draws):
            weight = rng.poisson(1.0, len(top)).astype(float)
            sums[i] = weight @ top, weight @ bottom
        ends += [top.sum() / bottom.sum(), (sums[:, 0] / sums[:, 1]).std(ddof=1)]
    return effect_of(*ends, level)


def posterior_effect(
    control: ArrayLike, treatment: ArrayLike, seed: int = 0, draws: int = 20_000
) -> Effect:
    """Return the posterior of the difference of two shares, with uniform priors.

    The interval is the central 95 % of the posterior, and ``p`` twice its smaller tail beyond zero.
    """
    rng = np.random.default_rng(seed)
    draws = [
        rng.beta(1 + arm.sum(), 1 + len(arm) - arm.sum(), draws)
        for arm in (np.asarray(control), np.asarray(treatment))
    ]
    gain, ratio = draws[1] - draws[0], draws[1] / draws[0] - 1
    low, high = np.quantile(gain, [0.025, 0.975])
    tail = 2 * min((gain > 0).mean(), (gain < 0).mean())
    means = draws[0].mean(), draws[1].mean()
    relative = (ratio.mean(), *np.quantile(ratio, [0.025, 0.975]))
    return Effect(*map(float, (*means, gain.mean(), gain.std(), low, high, tail, *relative)))


# The split ----------------------------------------------------------------------------


class Srm(NamedTuple):
    """A test of the split: sample ratio mismatch.

    Attributes
    ----------
    statistic, p : float
        Chi-squared test of the planned shares.
    table : DataFrame
        Index arm; ``planned`` and ``seen`` (shares), ``users``, ``expected`` (users) and ``part``
        (of the statistic).
    """

    statistic: float
    p: float
    table: pd.DataFrame


def srm(counts: Mapping[str, float], shares: Mapping[str, float]) -> Srm:
    """Test whether the users of the arms are split as planned.

    Parameters
    ----------
    counts : mapping of str to int
        Arm → users.
    shares : mapping of str to float
        Arm → planned share; they are scaled to sum to one.

    Raises
    ------
    ValueError
        If the arms differ, a share is not positive, or there is no user.

    References
    ----------
    Fabijan et al. (2019), *Diagnosing sample ratio mismatch in online controlled experiments*, KDD.
    """
    import pandas as pd
    from scipy.stats import chi2

    if {*counts} != {*shares}:
        raise ValueError(
            f"Users were counted for {sorted(counts)}, shares planned for {sorted(shares)}: name "
            "the same arms (one without users has 0)."
        )
    planned = pd.Series(dict(shares), dtype=float)
    seen = pd.Series(dict(counts), dtype=float)[planned.index]
    there = np.isfinite(seen).all() and np.isfinite(planned).all()
    if not there or (planned <= 0).any() or seen.sum() <= 0 or (seen < 0).any():
        raise ValueError(
            f"Shares must be positive and users counted: {dict(shares)}, {dict(counts)}."
        )
    planned = planned / planned.sum()
    expected = planned * seen.sum()
    part = (seen - expected) ** 2 / expected
    share = seen / seen.sum()
    columns = {"planned": planned, "seen": share, "users": seen, "expected": expected, "part": part}
    p = float(chi2.sf(part.sum(), len(planned) - 1))
    return Srm(float(part.sum()), p, pd.DataFrame(columns).rename_axis("arm"))


def srm_power(
    true: Mapping[str, float], planned: Mapping[str, float], n: float, alpha: float
) -> float:
    """Return how often :func:`srm` notices true shares that are not the planned ones.

    Parameters
    ----------
    true, planned : mapping of str to float
        Arm → share; scaled to sum to one.
    n : int
        Users in all arms together.
    alpha : float
        The test's level.

    Examples
    --------
    >>> seen, five = {"t": 4.7, "c": 5.2, "rest": 90.1}, {"t": 5, "c": 5, "rest": 90}
    >>> [round(srm_power(seen, five, n, 0.01), 3) for n in (10_000, 100_000)]
    [0.117, 0.986]
    """
    from scipy.stats import chi2, ncx2

    statistic = srm({arm: true[arm] for arm in planned}, planned).statistic / sum(true.values())
    df = len(planned) - 1
    return float(ncx2.sf(chi2.isf(alpha, df), df, n * statistic))


# Power and several tests --------------------------------------------------------------


def power(
    sd: float, difference: float, n: ArrayLike, alpha: float = 0.05, ratio: float = 1.0
) -> np.ndarray | float:
    """Return how often a two-sided z test finds a difference of two means.

    Parameters
    ----------
    sd : float
        Standard deviation between units.
    difference : float
        True difference, in the same unit.
    n : array_like
        Units in control.
    alpha : float
        Level of the test.
    ratio : float
        Units in treatment for each one in control.

    Returns
    -------
    float or ndarray
        As ``statsmodels.stats.power.NormalIndPower`` gives it.
    """
    from scipy.stats import norm

    z = norm.isf(alpha / 2)
    away = abs(difference) / (sd * np.sqrt((1 + 1 / ratio) / np.asarray(n, float)))
    found = norm.sf(z - away) + norm.cdf(-z - away)
    return float(found) if np.ndim(n) == 0 else found


def sample_size(
    sd: float, difference: float, power: float = 0.8, alpha: float = 0.05, ratio: float = 1.0
) -> int:
    """Return how many units control needs for a two-sided z test of two means.

    Parameters
    ----------
    sd, difference, alpha, ratio
        As for :func:`power`.
    power : float
        Wanted.

    Raises
    ------
    ValueError
        If the difference is zero or the power not between ``alpha`` and one.

    Examples
    --------
    >>> sample_size(sd=1, difference=0.1)
    1570
    """
    from scipy.stats import norm

    if difference == 0 or sd <= 0 or not alpha < power < 1:
        raise ValueError(
            f"sd {sd}, difference {difference}, power {power}: the sd is positive, the difference "
            "not zero, and the power between alpha and 1."
        )
    z = norm.isf(alpha / 2) + norm.ppf(power)
    return int(np.ceil((1 + 1 / ratio) * (z * sd / difference) ** 2))


def smallest_difference(
    sd: float, n: float, power: float = 0.8, alpha: float = 0.05, ratio: float = 1.0
) -> float:
    """Return the smallest difference that a test of ``n`` units in control finds (MDE)."""
    from scipy.stats import norm

    z = norm.isf(alpha / 2) + norm.ppf(power)
    return float(z * sd * np.sqrt((1 + 1 / ratio) / n))


def adjusted(p: ArrayLike, method: str = "holm") -> np.ndarray:
    """Return p-values adjusted for the number of tests, by statsmodels.

    Parameters
    ----------
    p : array_like, shape (n,)
        Missing values stay missing and do not count as tests.
    method : str
        ``"holm"`` and ``"bonferroni"`` keep the chance of any false alarm, ``"bh"``
        (Benjamini–Hochberg) the share of false ones among the alarms.

    Examples
    --------
    >>> adjusted([0.004, 0.015, 0.03, 0.2]).round(3).tolist()
    [0.016, 0.045, 0.06, 0.2]
    """
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p, float)
    result, known = np.full(p.shape, np.nan), np.isfinite(p)
    if known.any():
        name = {"bh": "fdr_bh"}.get(method, method)
        result[known] = multipletests(p[known], method=name)[1]
    return result
