"""Are the promises kept? False alarms, coverage, variance and power, counted on one A/A log.

The users of an A/A log are split at random again and again. Nothing differs between the halves, so
each alarm is false. All of it is sums over users times a matrix of labels: 5,000 experiments cost
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.ab_testing import events
from casebook.cases.ab_testing.plan import NEW_FEED, read_plan
from casebook.cases.ab_testing.world import AA, SEED, simulate
from casebook.evaluate import experiments, sequential, variance
from casebook.evaluate.intervals import wilson

RUNS = 5_000
#: Of the false alarms, whose band is narrow.
SPLITS = 20_000
#: The shares of the chapter's broken split, and the planned ones.
SEEN = {"control": 0.052, "treatment": 0.047, "rest": 0.901}
PLANNED = {"control": 0.05, "treatment": 0.05, "rest": 0.90}


class Log(NamedTuple):
    """An A/A log: one row a user, its sessions, and what the past explains.

    Attributes
    ----------
    people, sessions : DataFrame
    daily : ndarray, shape (users, days)
        Minutes.
    """

    people: pd.DataFrame
    sessions: pd.DataFrame
    daily: np.ndarray


@cache
def log(seed: int = SEED) -> Log:
    """Return the cleaned A/A log of a seed."""
    made, plan = simulate(seed, AA), read_plan(NEW_FEED)
    sessions = events.clean(made.log, plan).sessions
    people = events.per_user(sessions, made.users)
    return Log(people, sessions, events.by_day(sessions, people, plan.days))


def _rate(hits: np.ndarray) -> dict[str, float]:
    found = wilson(hits)
    return {"runs": len(hits), "rate": found.mean, "low": found.low, "high": found.high}


# False alarms -------------------------------------------------------------------------


def statistics() -> dict[tuple[str, str], tuple[np.ndarray, Callable]]:
    """Return columns to be summed by arm, and how they become a z value, by metric and method."""
    here = log()
    people, sessions = here.people, here.sessions
    place = pd.Index(people["user"]).get_indexer(sessions["user"])
    square = np.bincount(place, sessions["minutes"] ** 2, len(people))
    ones = np.ones(len(people))

    def mean(values) -> tuple[np.ndarray, Callable]:
        values = np.asarray(values, float)
        return np.column_stack([ones, values, values**2]), _z_of_means

    def ratio(top: str, bottom: str) -> tuple[np.ndarray, Callable]:
        a, b = people[[top, bottom]].to_numpy(float).T
        return np.column_stack([ones, a, b, a * a, b * b, a * b]), _z_of_ratios

    adjusted = variance.cuped(people["minutes"], people["pre_minutes"]).values
    model = variance.cupac(people, people["minutes"], read_plan(NEW_FEED).covariates).values
    binomial = people[["impressions", "clicks"]].to_numpy(float)
    slow = np.bincount(place, sessions["load_ms"] > sessions["load_ms"].quantile(0.95), len(people))
    by_unit = pd.DataFrame({"slow": slow, "n": people["sessions"].to_numpy(float)})
    a, b = by_unit.to_numpy(float).T
    return {
        ("minutes", "Welch by user"): mean(people["minutes"]),
        ("minutes", "CUPED"): mean(adjusted),
        ("minutes", "CUPAC"): mean(model),
        ("minutes", "t-test by session"): (
            np.column_stack([people["sessions"], people["minutes"], square]),
            _z_of_means,
        ),
        ("revenue", "Welch by user"): mean(people["revenue"]),
        ("click rate", "delta method"): ratio("clicks", "impressions"),
        ("click rate", "binomial by impression"): (
            np.column_stack([binomial, binomial[:, 1]]),
            _z_of_means,
        ),
        ("load p95", "by user"): (
            np.column_stack([ones, a, b, a * a, b * b, a * b]),
            _z_of_ratios,
        ),
        ("load p95", "by session"): (np.column_stack([b, a, a]), _z_of_means),
    }


def _z_of_means(control: np.ndarray, treatment: np.ndarray) -> np.ndarray:
    """Return z from sums of ones, values and squares, shape (runs, 3) each."""
    mean, error = [], []
    for n, total, square in (control.T, treatment.T):
        mean.append(total / n)
        error.append((square / n - (total / n) ** 2) / (n - 1))
    return (mean[1] - mean[0]) / np.sqrt(error[0] + error[1])


def _z_of_ratios(control: np.ndarray, treatment: np.ndarray) -> np.ndarray:
    """Return z from sums of ones, tops, bottoms and their squares and products, shape (runs, 6)."""
    value, error = [], []
    for n, a, b, aa, bb, ab in (control.T, treatment.T):
        r = a / b
        value.append(r)
        error.append((aa - 2 * r * ab + r**2 * bb) / n / (b / n) ** 2 / n)
    return (value[1] - value[0]) / np.sqrt(error[0] + error[1])


def splits(columns: np.ndarray, runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return sums over both halves of the users, split at random ``runs`` times."""
    rng, whole, parts = np.random.default_rng(seed), columns.sum(axis=0), []
    for start in range(0, runs, 250):
        labels = rng.integers(0, 2, (min(250, runs - start), len(columns)), dtype=np.int8)
        parts.append(labels.astype(float) @ columns)
    treated = np.concatenate(parts)
    return whole - treated, treated


def aa(runs: int = SPLITS, alpha: float = 0.05) -> pd.DataFrame:
    """Count false alarms of each method over A/A experiments.

    Returns
    -------
    DataFrame
        ``metric``, ``method``, ``runs``, ``rate`` (of alarms), ``low``, ``high`` (Wilson).
    """
    from scipy.stats import norm

    parts, rows = statistics(), []
    control, treatment = splits(np.column_stack([c for c, _ in parts.values()]), runs)
    start = 0
    for (metric, method), (columns, z_of) in parts.items():
        own = slice(start, start := start + columns.shape[1])
        z = z_of(control[:, own], treatment[:, own])
        rows.append({"metric": metric, "method": method, **_rate(abs(z) > norm.isf(alpha / 2))})
    return pd.DataFrame(rows)


def peeking(
    looks: Sequence[int] = (1, 2, 5, 10, 14, 20, 50, 100),
    runs: int = RUNS,
    lift: float = 0.05,
    per_arm: int = 10_000,
) -> pd.DataFrame:
    """Count alarms of each rule, without and with an effect, at equally spaced looks.

    Returns
    -------
    DataFrame
        ``looks``, ``rule``, ``runs``, ``false_alarms`` with ``low`` and ``high`` (Wilson),
        ``exact`` (what normal values would give; missing where no bound is computed), ``power``
        at a lift, and ``stop`` (mean share of the users at the end, with a lift).
    """
    values, finest, rows = log().people["minutes"].to_numpy(), max(looks), []
    none, some = (
        sequential.arrivals(values, runs, finest, per_arm, effect, seed)
        for seed, effect in ((1, 0.0), (2, lift))
    )
    for count in looks:
        seen = _evenly(count, finest)
        rules = ("naive", "bonferroni", "always_valid")
        rules += ("obrien_fleming", "pocock") if count <= 20 else ()
        for rule in rules:
            false = sequential.alarms(none, rule, tau=lift, looks=seen) >= 0
            stop = sequential.alarms(some, rule, tau=lift, looks=seen)
            exact = sequential.crossing([1.959964] * count)[-1] if rule == "naive" else np.nan
            rate = _rate(false)
            rate["false_alarms"] = rate.pop("rate")
            at = np.where(stop >= 0, (stop + 1) / finest, 1.0).mean()
            own = {"exact": exact, "power": (stop >= 0).mean(), "stop": at}
            rows.append({"looks": count, "rule": rule, **rate, **own})
    return pd.DataFrame(rows)


def _evenly(count: int, finest: int) -> list[int]:
    """Return positions of ``count`` looks among ``finest``, as evenly as they go."""
    return (np.round(np.arange(1, count + 1) * finest / count) - 1).astype(int).tolist()


# Coverage and variance ----------------------------------------------------------------


def coverage(runs: int = 4_000, quantiles: int = 2_000, n: int = 2_000) -> pd.DataFrame:
    """Count how often 95 % intervals hold the true effect of none, on ``n`` drawn users an arm.

    Returns
    -------
    DataFrame
        ``metric``, ``method``, ``runs``, ``rate`` (covered), ``low``, ``high`` (Wilson).
    """
    people, sessions = log().people, log().sessions
    place = pd.Index(people["user"]).get_indexer(sessions["user"])
    order = np.argsort(place, kind="stable")
    load = sessions["load_ms"].to_numpy()[order]
    begin = np.searchsorted(place[order], np.arange(len(people) + 1))
    columns = people[["minutes", "clicks", "impressions"]].to_numpy(float)
    hits: dict[tuple[str, str], list[bool]] = {}
    for run in range(runs):
        rng = np.random.default_rng([run, 77])
        drawn = [rng.integers(len(people), size=n) for _ in range(2)]
        found = _effects([columns[own] for own in drawn])
        if run < quantiles:
            found |= _quantiles([_loads(own, begin, load) for own in drawn])
        for name, effect in found.items():
            hits.setdefault(name, []).append(effect.low <= 0 <= effect.high)
    rows = [
        {"metric": metric, "method": method, **_rate(np.array(own))}
        for (metric, method), own in hits.items()
    ]
    return pd.DataFrame(rows)


def _effects(arms: Sequence[np.ndarray]) -> dict[tuple[str, str], experiments.Effect]:
    """Return intervals of a mean and of a ratio, right and naive, from users of both arms."""
    shares = []
    for _, clicks, impressions in (arm.T for arm in arms):
        p = clicks.sum() / impressions.sum()
        shares += [p, np.sqrt(p * (1 - p) / impressions.sum())]
    return {
        ("minutes", "Welch by user"): experiments.welch(*(arm[:, 0] for arm in arms)),
        ("click rate", "delta method"): experiments.ratio_effect(
            *((arm[:, 1], arm[:, 2]) for arm in arms)
        ),
        ("click rate", "binomial by impression"): experiments.effect_of(*shares),
    }


def _loads(drawn: np.ndarray, begin: np.ndarray, load: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return loading times and units of drawn users; one drawn twice is two units."""
    n = begin[drawn + 1] - begin[drawn]
    units = np.repeat(np.arange(len(drawn)), n)
    within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    return load[begin[drawn][units] + within], units


def _quantiles(arms: Sequence[tuple]) -> dict[tuple[str, str], experiments.Effect]:
    """Return intervals of a 95 % quantile, by user and by session."""
    by_session = [(values, np.arange(len(values))) for values, _ in arms]
    return {
        ("load p95", "by user"): experiments.quantile_effect(*arms, 0.95),
        ("load p95", "by session"): experiments.quantile_effect(*by_session, 0.95),
    }


def cuped(runs: int = 10_000) -> pd.DataFrame:
    """Compare the variance of adjusted effects, over many splits, with what the theory says.

    Returns
    -------
    DataFrame
        ``metric``, ``method``, ``explained`` (rho² of the covariates), ``ratio`` (measured variance
        of the adjusted effect over that of the plain one), ``theory`` (1 - explained) and ``off``
        (ratio over theory, less one).
    """
    people, plan = log().people, read_plan(NEW_FEED)
    known = variance.features(people, plan.covariates)
    made = {
        (metric, "CUPED"): variance.cuped(people[metric], people[f"pre_{metric}"])
        for metric in ("minutes", "sessions", "clicks", "revenue")
    }
    made["minutes", "all covariates"] = variance.cuped(people["minutes"], known)
    made["minutes", "CUPAC"] = variance.cupac(people, people["minutes"], plan.covariates)
    plain = people[["minutes", "sessions", "clicks", "revenue"]].to_numpy(float)
    names = ["minutes", "sessions", "clicks", "revenue"]
    columns = np.column_stack([np.ones(len(people)), plain, *(one.values for one in made.values())])
    control, treatment = splits(columns, runs)
    effect = treatment[:, 1:] / treatment[:, :1] - control[:, 1:] / control[:, :1]
    spread = effect.var(axis=0)
    rows = []
    for i, ((metric, method), one) in enumerate(made.items()):
        ratio = spread[len(names) + i] / spread[names.index(metric)]
        theory = 1 - one.explained
        own = {"explained": one.explained, "ratio": ratio, "theory": theory}
        rows.append({"metric": metric, "method": method, **own, "off": ratio / theory - 1})
    return pd.DataFrame(rows)


# Power --------------------------------------------------------------------------------


def srm_power(
    sizes: Sequence[int] = (10_000, 30_000, 50_000, 100_000, 400_000), runs: int = 20_000
) -> pd.DataFrame:
    """Return how often the split test notices 4.7/5.2/90.1: computed and drawn.

    Returns
    -------
    DataFrame
        ``n``, ``alpha``, ``power`` (computed), ``rate`` (drawn), ``low``, ``high``, ``runs``.
    """
    from scipy.stats import chi2

    rng, rows = np.random.default_rng(10), []
    for n in sizes:
        drawn = rng.multinomial(n, [*SEEN.values()], runs)
        expected = n * np.array([*PLANNED.values()])
        p = chi2.sf(((drawn - expected) ** 2 / expected).sum(axis=1), 2)
        for alpha in (0.05, 0.01, 0.001):
            power = experiments.srm_power(SEEN, PLANNED, n, alpha)
            rows.append({"n": n, "alpha": alpha, "power": power, **_rate(p < alpha)})
    return pd.DataFrame(rows)


def power() -> pd.DataFrame:
    """Compare power and size with statsmodels over a grid.

    Returns
    -------
    DataFrame
        ``effect`` (over the standard deviation), ``n`` (of control), ``ratio``, ``ours``,
        ``statsmodels`` and ``needed``, ``needed_statsmodels`` (users for 80 %).
    """
    from statsmodels.stats.power import NormalIndPower

    theirs, rows = NormalIndPower(), []
    for effect in (0.005, 0.01, 0.02, 0.05, 0.1):
        for ratio in (1.0, 0.5):
            needed = experiments.sample_size(1.0, effect, ratio=ratio)
            wanted = theirs.solve_power(effect, power=0.8, alpha=0.05, ratio=ratio)
            for n in (2_000, 20_000, 200_000):
                ours = experiments.power(1.0, effect, n, ratio=ratio)
                them = theirs.power(effect, n, 0.05, ratio=ratio)
                rows.append((effect, n, ratio, ours, them, needed, np.ceil(wanted)))
    names = ["effect", "n", "ratio", "ours", "statsmodels", "needed", "needed_statsmodels"]
    return pd.DataFrame(rows, columns=names)
