"""How many requests a canary needs, what half an hour can see, and the function that decides.

A bad request is one that fails or takes longer than a second. The canary gets a share of the
requests; the question is whether a larger share of *its* requests is bad.

* :func:`sample` and :func:`power` are the arithmetic of one look at the end, :func:`samples` and
  :func:`half_hour` its tables, checked by simulation;
* :func:`decide` looks as often as it likes. Of the bad requests so far, those of the canary are a
  binomial draw with the canary's share of the requests if both versions are alike. The evidence is
  a mixture of likelihood ratios against that, and 1 / level is its limit at all looks together
  (Ville's inequality). An outage of both pools moves it nowhere;
* :func:`characteristic` compares it with one look, with a test at every look and with a rule of
  thumb: how often each rolls back at which error rate, and after how many requests.

References
----------
Wald (1945), *Sequential tests of statistical hypotheses*, Annals of Mathematical Statistics 16;
Johari, Koomen, Pekelis & Walsh (2022), *Always valid inference*, Operations Research 70.

Examples
--------
>>> sample(0.001, 0.002), sample(0.001, 0.002, share=0.05)
(Sizes(canary=18519, stable=18519), Sizes(canary=8603, stable=163442))
>>> decide(Counts(canary=1_000, canary_bad=9, stable=19_000, stable_bad=19)).action
'rollback'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

#: Shares of bad requests: usual, and twice it. Level and power of a plan. Share of the canary.
BASE, BAD, LEVEL, POWER, SHARE = 0.001, 0.002, 0.05, 0.8, 0.05
RULES = ("naive", "fixed", "peeking", "sequential")
_DESIGNS = (("half and half", 0.5, 0.5), ("5 % against 95 %", 0.05, 0.05))
_DESIGNS += (("5 % against a fresh 5 %", 0.5, 0.05),)


class Sizes(NamedTuple):
    """Requests that each pool must have answered."""

    canary: int
    stable: int


def _check(base: float, bad: float, share: float, level: float, sides: int) -> None:
    if not (0 < base < 1 and 0 < bad < 1 and 0 < share < 1 and 0 < level < 0.5):
        raise ValueError(
            f"rates {base} and {bad}, share {share}, level {level}: all lie between 0 and 1, "
            "the level below one half."
        )
    if bad <= base or sides not in (1, 2):
        raise ValueError(f"rates {base}, {bad}, {sides} sides: the canary's is higher; 1 or 2.")


def _spreads(base: float, bad: float, share: float, variance: str) -> tuple[float, float]:
    """Return standard deviations of the difference for one canary request: alike, and not."""
    odds = share / (1 - share)  # canary requests for one of the stable pool
    middle = share * bad + (1 - share) * base
    apart = np.sqrt(bad * (1 - bad) + odds * base * (1 - base))
    alike = np.sqrt(middle * (1 - middle) * (1 + odds))
    if variance not in ("pooled", "unpooled"):
        raise ValueError(f"variance {variance!r}: pooled or unpooled.")
    return (alike if variance == "pooled" else apart), apart


def sample(
    base: float = BASE,
    bad: float = BAD,
    share: float = 0.5,
    power: float = POWER,
    level: float = LEVEL,
    sides: int = 1,
    variance: str = "pooled",
) -> Sizes:
    """Return the requests with which one test of two shares finds a worse canary.

    Parameters
    ----------
    base, bad : float
        Share of bad requests of the stable pool, and of a canary that is to be found.
    share : float
        Of the requests that are compared, those of the canary: .5, or .05 against all others.
    power, level : float
        Chance of a rollback with ``bad``; with ``base`` (both versions alike).
    sides : int
        1: only a worse canary counts, which is the question here. 2 as in an A/B test.
    variance : str
        ``pooled`` (under "both are alike", the usual one) or ``unpooled`` (each pool's own). At
        50/50 they agree; at 5/95 they differ by half, because the canary alone decides.

    Returns
    -------
    Sizes

    Raises
    ------
    ValueError
        If a share is not between 0 and 1, or the canary is not worse.
    """
    _check(base, bad, share, level, sides)
    alike, apart = _spreads(base, bad, share, variance)
    spread = stats.norm.isf(level / sides) * alike + stats.norm.ppf(power) * apart
    canary = (spread / (bad - base)) ** 2
    return Sizes(int(np.ceil(canary)), int(np.ceil(canary * (1 - share) / share)))


def power(
    canary: float,
    base: float = BASE,
    bad: float = BAD,
    share: float = 0.5,
    level: float = LEVEL,
    sides: int = 1,
    variance: str = "pooled",
) -> float:
    """Return the chance of a rollback; parameters as of :func:`sample`, ``canary`` requests."""
    _check(base, bad, share, level, sides)
    alike, apart = _spreads(base, bad, share, variance)
    z = ((bad - base) * np.sqrt(canary) - stats.norm.isf(level / sides) * alike) / apart
    return float(stats.norm.cdf(z))


# The tests of one look ------------------------------------------------------------------


def p_value(
    canary: ArrayLike,
    canary_bad: ArrayLike,
    stable: ArrayLike,
    stable_bad: ArrayLike,
    test: str = "exact",
) -> np.ndarray:
    """Return one-sided p-values of "the canary is not worse".

    ``exact`` is the binomial test of the canary's part of the bad requests; ``pooled`` and
    ``unpooled`` are z tests.
    """
    n, m = np.asarray(canary, float), np.asarray(stable, float)
    x, y = np.asarray(canary_bad, float), np.asarray(stable_bad, float)
    if test == "exact":
        return stats.binom.sf(x - 1, x + y, n / np.maximum(n + m, 1))
    a, b = x / n, y / m
    both = (x + y) / (n + m)
    if test == "pooled":
        variance = both * (1 - both) * (1 / n + 1 / m)
    else:
        variance = a * (1 - a) / n + b * (1 - b) / m
    return stats.norm.sf((a - b) / np.sqrt(np.maximum(variance, 1e-300)))


def exact_power(canary: int, share: float, rate: float, base: float = BASE) -> float:
    """Return how often the exact test at 5 % rolls back, by its distribution (small rates)."""
    odds = share / (1 - share)
    mean = canary * (rate + base / odds)
    total = np.arange(int(stats.poisson.ppf(1e-9, mean)), int(stats.poisson.isf(1e-9, mean)) + 1)
    worst = stats.binom.isf(LEVEL, total, share)  # more than this many are too many
    part = odds * rate / (odds * rate + base)
    return float(stats.poisson.pmf(total, mean) @ stats.binom.sf(worst, total, part))


@cache
def _exact_sample(share: float) -> int:
    """Return the canary requests from which on the exact test has the power of the plan."""
    sizes = np.arange(8_000, 24_000, 100)
    enough = np.array([exact_power(n, share, BAD) >= POWER for n in sizes])
    return int(sizes[len(enough) - enough[::-1].argmin()])


def samples(runs: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Return the sample of a doubling from .1 to .2 %, by design and test, and simulate it.

    Parameters
    ----------
    runs, seed : int
        Canaries that are drawn for each row.

    Returns
    -------
    DataFrame
        ``design``, ``test``, ``canary``, ``stable`` and ``total`` (requests that pass through the
        service meanwhile), ``power`` (computed), ``simulated`` with ``low`` and ``high``, and
        ``false_alarms`` (simulated, both versions alike).
    """
    rng, rows = np.random.default_rng(seed), []
    for design, share, of_all in _DESIGNS:
        for test in ("pooled", "unpooled", "exact"):
            if test == "exact":
                canary = _exact_sample(share)
                stable, computed = round(canary * (1 - share) / share), None
            else:
                canary, stable = sample(share=share, variance=test)
                computed = power(canary, share=share, variance=test)
            found = []
            for rate in (BAD, BASE):
                x, y = rng.binomial(canary, rate, runs), rng.binomial(stable, BASE, runs)
                found.append((p_value(canary, x, stable, y, test) <= LEVEL).mean())
            computed = exact_power(canary, share, BAD) if computed is None else computed
            reach = 1.96 * np.sqrt(found[0] * (1 - found[0]) / runs)
            own = (design, test, canary, stable, round(canary / of_all), computed)
            rows.append((*own, found[0], found[0] - reach, found[0] + reach, found[1]))
    names = ["design", "test", "canary", "stable", "total", "power", "simulated", "low", "high"]
    return pd.DataFrame(rows, columns=[*names, "false_alarms"])


def half_hour(
    rates: Sequence[float] = (10, 30, 100, 140, 200, 500), minutes: float = 30, share: float = SHARE
) -> pd.DataFrame:
    """Return what a canary of 5 % sees in 30 minutes, at so many requests a second.

    Parameters
    ----------
    rates : sequence of float
        Requests a second of the whole service.
    minutes, share : float

    Returns
    -------
    DataFrame
        ``rate``, ``canary`` (its requests), ``power`` to find a doubling of .1 % (exact one-sided
        test at 5 %), ``smallest`` (the bad rate that is found with power .8), ``ratio`` (to .1 %)
        and ``minutes`` until a doubling is found with power .8.
    """
    needed, rows = _exact_sample(share), []
    for rate in rates:
        canary = round(rate * 60 * minutes * share)
        grid = BASE * np.geomspace(1.1, 60, 400)
        enough = [exact_power(canary, share, bad) >= POWER for bad in grid]
        smallest = grid[int(np.argmax(enough))] if any(enough) else np.nan
        seen = exact_power(canary, share, BAD)
        wait = needed / (rate * 60 * share)
        rows.append((rate, canary, seen, smallest, smallest / BASE, wait))
    names = ["rate", "canary", "power", "smallest", "ratio", "minutes"]
    return pd.DataFrame(rows, columns=names)


# The function that decides --------------------------------------------------------------


class Counts(NamedTuple):
    """Requests and bad ones of both pools since the stage began."""

    canary: int
    canary_bad: int
    stable: int
    stable_bad: int


@dataclass(frozen=True)
class Watch:
    """How a stage of a rollout is watched.

    Attributes
    ----------
    planned : int
        Canary requests after which a stage without alarm is over. The default finds a doubling
        of .1 % with power .8 at 5 % of the requests.
    level : float
        Chance of a rollback of this stage if both versions are alike, at all looks together. A
        rollout of k stages takes its own level over k.
    ratios : tuple of float
        How many times worse a bad canary may be: a slow leak and a crash. Any values keep the
        level; these give power at both ends.
    ceiling : float
        Share of bad requests of both pools together above which nothing is promoted.
    """

    planned: int = 16_500
    level: float = LEVEL
    ratios: tuple[float, ...] = (1.5, 2.0, 4.0, 16.0)
    ceiling: float = 0.01

    def __post_init__(self) -> None:
        sound = self.planned >= 1 and 0 < self.level < 1 and 0 < self.ceiling <= 1
        if not (sound and self.ratios and min(self.ratios) > 1):
            raise ValueError(
                f"{self}: planned from 1, level and ceiling in (0, 1), ratios above 1."
            )


class Verdict(NamedTuple):
    """What to do (``rollback``, ``wait`` or ``promote``), with its evidence, limit and reason."""

    action: str
    evidence: float
    limit: float
    reason: str


def log_evidence(
    canary: ArrayLike,
    canary_bad: ArrayLike,
    stable: ArrayLike,
    stable_bad: ArrayLike,
    ratios: Sequence[float] = Watch.ratios,
) -> np.ndarray:
    """Return the logarithm of the mean likelihood ratio of "ratio times worse" to "alike".

    Of the bad requests, the canary's are a share w if both are alike (w is its share of the
    requests) and r w / (r w + 1 - w) if it is r times worse. So one bad request of the canary
    multiplies the ratio by r / (1 + (r - 1) w), one of the stable pool by 1 / (1 + (r - 1) w).
    """
    n, m, x, y = (np.asarray(v, float) for v in (canary, stable, canary_bad, stable_bad))
    share = n / np.maximum(n + m, 1)
    r = np.asarray(ratios, float).reshape(-1, *([1] * share.ndim))
    logs = x * np.log(r) - (x + y) * np.log1p((r - 1) * share)
    return np.logaddexp.reduce(logs, axis=0) - np.log(len(r))


def decide(counts: Counts, watch: Watch | None = None) -> Verdict:
    """Say whether to roll the canary back, to wait, or to end the stage.

    Parameters
    ----------
    counts : Counts
        Since the stage began. Call as often as you like; a rollback is final.
    watch : Watch, optional

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        If a number is negative, or more requests are bad than there are.
    """
    counts, watch = Counts(*counts), watch or Watch()
    pairs = ((counts.canary, counts.canary_bad), (counts.stable, counts.stable_bad))
    if not all(0 <= bad <= n < np.inf for n, bad in pairs):
        raise ValueError(f"{counts}: count requests and, among them, bad ones; none below 0.")
    evidence = float(np.exp(min(log_evidence(*_ordered(counts), watch.ratios), 700.0)))
    limit = 1 / watch.level
    rates = [bad / n if n else 0.0 for n, bad in pairs]
    said = f"bad: {rates[0]:.2%} of {counts.canary:,} against {rates[1]:.2%} of {counts.stable:,}"
    if evidence >= limit:
        return Verdict("rollback", evidence, limit, f"{said}; evidence {evidence:.3g}")
    if counts.canary < watch.planned:
        return Verdict("wait", evidence, limit, f"{said}; {watch.planned:,} are planned")
    if sum(bad for _, bad in pairs) > watch.ceiling * sum(n for n, _ in pairs):
        return Verdict("wait", evidence, limit, f"{said}: both are ill, nothing is promoted")
    return Verdict("promote", evidence, limit, f"{said}; evidence {evidence:.3g}")


def _ordered(counts: Counts) -> tuple[int, int, int, int]:
    return counts.canary, counts.canary_bad, counts.stable, counts.stable_bad


# Operating characteristic ---------------------------------------------------------------


def paths(
    rate: float, runs: int, looks: int, per_look: float, share: float, seed: int, repeats: int = 1
) -> Counts:
    """Draw counts so far at each look, shape (runs, looks), of canaries with a bad rate.

    Each bad answer is counted ``repeats`` times: a client that tries again.
    """
    rng = np.random.default_rng(seed)
    found = []
    for part, bad in ((share, rate), (1 - share, BASE)):
        n = rng.poisson(part * per_look, (runs, looks))
        ill = repeats * rng.binomial(n, bad)
        found += [np.cumsum(n + ill - ill // repeats, axis=1), np.cumsum(ill, axis=1)]
    return Counts(*found)


def stops(counts: Counts, rule: str, level: float = LEVEL) -> np.ndarray:
    """Return the look at which a rule rolls each canary back, or -1.

    Parameters
    ----------
    counts : Counts
        Arrays of shape (runs, looks).
    rule : str
        ``naive`` (its bad rate is more than twice the stable one, from the sixth look on),
        ``fixed`` (exact test at the last look), ``peeking`` (the same at every look) or
        ``sequential`` (as :func:`decide`).
    level : float
    """
    if rule == "naive":
        crossed = counts.canary_bad * counts.stable > 2 * counts.stable_bad * counts.canary
        crossed[:, :5] = False
    elif rule in ("fixed", "peeking"):
        crossed = p_value(*_ordered(counts)) <= level
        if rule == "fixed":
            crossed[:, :-1] = False
    elif rule == "sequential":
        crossed = log_evidence(*_ordered(counts)) >= np.log(1 / level)
    else:
        raise ValueError(f"rule {rule!r}: one of {', '.join(RULES)}.")
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1), -1)


def characteristic(
    rates: Sequence[float] = (0.001, 0.00125, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.02, 0.1),
    runs: int = 2_000,
    per_second: float = 200.0,
    share: float = SHARE,
    seed: int = 21,
    repeats: int = 1,
) -> pd.DataFrame:
    """Return how often and how soon each rule rolls back: 30 minutes, a look every ten seconds.

    Parameters
    ----------
    rates : sequence of float
        Share of bad requests of the canary; the first, .1 %, is an A/A test.
    runs, seed, repeats : int
        Canaries of each rate; ``repeats`` as of :func:`paths`.
    per_second, share : float
        Requests of the service; share of the canary.

    Returns
    -------
    DataFrame
        ``rule``, ``error_rate``, ``ratio`` (to .1 %), ``rollback`` (share) with ``low`` and
        ``high``, ``requests`` (mean canary requests until the rollback or the end) and ``bad``
        (mean bad ones among them).
    """
    rows, looks = [], 180
    for k, rate in enumerate(rates):
        counts = paths(rate, runs, looks, 10 * per_second, share, seed + k, repeats)
        for rule in RULES:
            at = stops(counts, rule)
            seen = counts.canary[np.arange(runs), at]  # the last look where nothing stops
            ill = counts.canary_bad[np.arange(runs), at]
            part = stats.binomtest(int((at >= 0).sum()), runs)
            low, high = part.proportion_ci(method="wilson")
            own = (rule, rate, rate / BASE, (at >= 0).mean(), low, high)
            rows.append((*own, seen.mean(), ill.mean()))
    names = ["rule", "error_rate", "ratio", "rollback", "low", "high", "requests", "bad"]
    return pd.DataFrame(rows, columns=names)
