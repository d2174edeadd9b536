"""How many requests a canary needs, what half an hour can see, and the function that decides.

A bad request is one that fails or takes longer than a second. The canary gets a share of the
requests; the question is whether a larger share of *its* requests is bad. The arithmetic and the
tests are :mod:`casebook.evaluate.two_shares`.

* :func:`samples` and :func:`half_hour` are the arithmetic for .1 -> .2 %, checked by simulation;
* :func:`decide` looks as often as it likes, for its evidence is valid at all looks together. An
  outage of both pools moves it nowhere;
* :func:`characteristic` compares it with one look, with a test at every look and with a rule of
  thumb: how often each rolls back at which error rate, and after how many requests.

Examples
--------
>>> decide(Counts(canary=1_000, canary_bad=9, stable=19_000, stable_bad=19)).action
'rollback'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from casebook.evaluate import two_shares
from casebook.evaluate.intervals import wilson
from casebook.evaluate.two_shares import (
    RATIOS,
    exact_power,
    exact_sample,
    log_evidence,
    log_evidence_against,
    p_value,
)

#: Shares of bad requests: usual, and twice it. Level and power of a plan. Share of the canary.
BASE, BAD, LEVEL, POWER, SHARE = 0.001, 0.002, 0.05, 0.8, 0.05
RULES = ("naive", "fixed", "peeking", "sequential")
#: For each design the canary's share of the requests that are compared, and of all.
DESIGNS = {
    "half and half": (0.5, 0.5),
    "5 % against 95 %": (0.05, 0.05),
    "5 % against a fresh 5 %": (0.5, 0.05),
}


def samples(runs: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Return the sample of a doubling from .1 to .2 %, by design and test, and simulate it.

    All tests are one-sided at 5 %, for a power of .8.

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
    for design, (share, of_all) in DESIGNS.items():
        for test in ("pooled", "unpooled", "exact"):
            if test == "exact":
                n, m = exact_sample(BASE, BAD, share, POWER, LEVEL)
                computed = exact_power(n, BASE, BAD, share, LEVEL)
            else:
                n, m = two_shares.sample(BASE, BAD, share, POWER, LEVEL, variance=test)
                computed = two_shares.power(n, BASE, BAD, share, LEVEL, variance=test)
            found = []
            for rate in (BAD, BASE):
                x, y = rng.binomial(n, rate, runs), rng.binomial(m, BASE, runs)
                found.append(wilson(p_value(n, x, m, y, test) <= LEVEL))
            rows.append((design, test, n, m, round(n / of_all), computed, *found[0], found[1].mean))
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
        test at 5 % against all others), ``smallest`` (the bad rate that is found with power .8),
        ``ratio`` (to .1 %) and ``minutes`` until a doubling is found with power .8.
    """
    needed, rows = exact_sample(BASE, BAD, share, POWER, LEVEL).first, []
    grid = BASE * np.geomspace(1.1, 60, 400)
    for rate in rates:
        canary = round(rate * 60 * minutes * share)
        enough = [exact_power(canary, BASE, bad, share, LEVEL) >= POWER for bad in grid]
        smallest = grid[int(np.argmax(enough))] if any(enough) else np.nan
        seen = exact_power(canary, BASE, BAD, share, LEVEL)
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
        Chance of a rollback of this stage if both versions are alike, at all looks together. The
        canary's errors take :data:`LEVEL`, which its sample is planned for; the rollout's other
        questions take little (:data:`casebook.cases.deployment_pipeline.rollout.STAGES`).
    ratios : tuple of float
        How many times worse a bad canary may be: a slow leak and a crash. Any values keep the
        level; these give power at both ends.
    ceiling : float
        Share of bad requests of both pools together above which nothing is promoted.
    """

    planned: int = 16_500
    level: float = LEVEL
    ratios: tuple[float, ...] = RATIOS
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


def decide(counts: Counts, watch: Watch | None = None, usual: float | None = None) -> Verdict:
    """Say whether to roll the canary back, to wait, or to end the stage.

    Parameters
    ----------
    counts : Counts
        Since the stage began. Call as often as you like; a rollback is final.
    watch : Watch, optional
    usual : float, optional
        Share of bad requests to hold the canary against where the stable pool gets none, at 100 %.

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
    log = log_evidence(*counts, watch.ratios)
    if usual is not None:
        log = log_evidence_against(*counts[:2], usual, watch.ratios)
    evidence = float(np.exp(min(log, 700.0)))
    limit = 1 / watch.level
    rates = [bad / n if n else 0.0 for n, bad in pairs]
    said = f"bad: {rates[0]:.2%} of {counts.canary:,} against {rates[1]:.2%} of {counts.stable:,}"
    said += "" if usual is None else f", usual {usual:.2%}"
    if evidence >= limit:
        return Verdict("rollback", evidence, limit, f"{said}; evidence {evidence:.3g}")
    if counts.canary < watch.planned:
        return Verdict("wait", evidence, limit, f"{said}; {watch.planned:,} are planned")
    if sum(bad for _, bad in pairs) > watch.ceiling * sum(n for n, _ in pairs):
        return Verdict("wait", evidence, limit, f"{said}: both are ill, nothing is promoted")
    return Verdict("promote", evidence, limit, f"{said}; evidence {evidence:.3g}")


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
        crossed = p_value(*counts) <= level
        if rule == "fixed":
            crossed[:, :-1] = False
    elif rule == "sequential":
        crossed = log_evidence(*counts) >= np.log(1 / level)
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
            often = wilson(at >= 0)
            rows.append((rule, rate, rate / BASE, *often, seen.mean(), ill.mean()))
    names = ["rule", "error_rate", "ratio", "rollback", "low", "high", "requests", "bad"]
    return pd.DataFrame(rows, columns=names)
