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
from casebook.cases.ab_testing.constants import AA
from casebook.cases.ab_testing.plan import NEW_FEED, read_plan
from casebook.cases.ab_testing.world import SEED, simulate
from casebook.evaluate import event_quantiles, experiments, sequential, variance
from casebook.evaluate.intervals import wilson
from casebook.evaluate.repeated import splits, z_of_means, z_of_ratios

RUNS = 5_000
#: Of the false alarms, whose band is narrow.
SPLITS = 20_000


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
    """Return columns to be summed by arm, and how they become a z value, by metric and method.

    Slow sessions are those beyond the 95 % quantile of all; the quantile itself, which is no sum
    over users, is tested by :func:`coverage`.
    """
    here = log()
    people, sessions = here.people, here.sessions
    place = pd.Index(people["user"]).get_indexer(sessions["user"])
    square = np.bincount(place, sessions["minutes"] ** 2, len(people))
    ones = np.ones(len(people))

    def mean(values) -> tuple[np.ndarray, Callable]:
        values = np.asarray(values, float)
        return np.column_stack([ones, values, values**2]), z_of_means

    def ratio(top: str, bottom: str) -> tuple[np.ndarray, Callable]:
        a, b = people[[top, bottom]].to_numpy(float).T
        return np.column_stack([ones, a, b, a * a, b * b, a * b]), z_of_ratios

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
            z_of_means,
        ),
        ("revenue", "Welch by user"): mean(people["revenue"]),
        ("click rate", "delta method"): ratio("clicks", "impressions"),
        ("click rate", "binomial by impression"): (
            np.column_stack([binomial, binomial[:, 1]]),
            z_of_means,
        ),
        ("slow sessions", "delta method"): (
            np.column_stack([ones, a, b, a * a, b * b, a * b]),
            z_of_ratios,
        ),
        ("slow sessions", "binomial by session"): (np.column_stack([b, a, a]), z_of_means),
    }


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
        ``power`` at a lift, ``stop`` (mean share of the users at the end, with a lift) and
        ``exact`` (what normal values would give; missing where no bound is computed). The
        always-valid rule is told the lift, half of it, and double.
    """
    values, finest, rows = log().people["minutes"].to_numpy(), max(looks), []
    none, some = (
        sequential.arrivals(values, runs, finest, per_arm, effect, seed)
        for seed, effect in ((1, 0.0), (2, lift))
    )
    for count in looks:
        seen = sequential.evenly(count, finest)
        rules = {"naive": {}, "bonferroni": {}, **{name: {"tau": f * lift} for name, f in TAUS}}
        rules |= {"obrien_fleming": {}, "pocock": {}} if count <= 20 else {}
        for rule, more in rules.items():
            exact = sequential.crossing([1.959964] * count)[-1] if rule == "naive" else np.nan
            own = sequential.stopped(none, some, rule, looks=seen, **more)
            rows.append({"looks": count, "rule": rule, **own, "exact": exact})
    return pd.DataFrame(rows)


#: Names of the always-valid rule by its guess of the effect, over the true one.
TAUS = (("always_valid", 1.0), ("always_valid, half", 0.5), ("always_valid, double", 2.0))


def days(runs: int = RUNS, lift: float = 0.03) -> pd.DataFrame:
    """Count alarms of each rule when the same log is read at the end of each of its days.

    Later days add minutes of users who are there already, so looks are neither equally spaced nor
    as alike as those of :func:`peeking`.

    Returns
    -------
    DataFrame
        As of :func:`peeking`, without ``looks`` and ``exact``; ``obrien_fleming`` and ``pocock``
        take equal steps, and with ``, information`` the share of it that the days had.
    """
    here = log()
    none, some = (
        sequential.daily_paths(here.daily, here.people["day"], runs, seed, effect)
        for seed, effect in ((1, 0.0), (2, lift))
    )
    earlier = sequential.daily_paths(here.daily, here.people["day"], runs, seed=3)
    known = {"information": earlier.information}
    rules = {"naive": {}, "bonferroni": {}, **{name: {"tau": f * lift} for name, f in TAUS}}
    for rule in ("obrien_fleming", "pocock"):
        rules |= {rule: {}, f"{rule}, information": known}
    rules["end"] = {}
    rows = [
        {"rule": rule, **sequential.stopped(none, some, rule, **m)} for rule, m in rules.items()
    ]
    return pd.DataFrame(rows)


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
        ("load p95", "by user"): event_quantiles.quantile_effect(*arms, 0.95),
        ("load p95", "by session"): event_quantiles.quantile_effect(*by_session, 0.95),
    }


METRICS = ("minutes", "sessions", "clicks", "revenue")


def cuped(runs: int = 20_000, refits: int = 150, n: int = 2_000) -> pd.DataFrame:
    """Compare the variance that each adjustment leaves with what it claims, on drawn users.

    Each run draws ``n`` users an arm and fits slopes and models on them alone.

    Returns
    -------
    DataFrame
        ``metric``, ``method``, ``runs``, ``claimed`` (share of the variance that the method says it
        explains: rho² of all users, or what the fitted model states), ``ratio`` (variance of the
        adjusted effect over that of the plain one) with ``low`` and ``high`` (bootstrap over runs),
        ``theory`` (1 - claimed), ``off`` (ratio over theory, less one) and ``alarms`` (at 5 %; each
        is false).
    """
    people, rows = log().people, []
    for metric in METRICS:
        y, x = people[[metric, f"pre_{metric}"]].to_numpy(float).T
        drawn = variance.drawn_effects(y, x, runs, n)
        claimed = np.corrcoef(y, x)[0, 1] ** 2
        rows.append({"metric": metric, "method": "CUPED", **variance.saved(drawn, claimed)})
    for method, in_sample in (("CUPAC", False), ("model that has seen the user", True)):
        plain, own, z, claimed = np.array([_model(run, n, in_sample) for run in range(refits)]).T
        rows.append(
            {
                "metric": "minutes",
                "method": method,
                **variance.saved((plain, own, z), claimed.mean()),
            }
        )
    return pd.DataFrame(rows)


def _model(run: int, n: int, in_sample: bool) -> tuple[float, float, float, float]:
    """Return plain effect, that after a model fitted on these users, its z, and the claim."""
    people, covariates = log().people, read_plan(NEW_FEED).covariates
    own = people.iloc[np.random.default_rng([run, 6]).permutation(len(people))[: 2 * n]]
    y, arm = own["minutes"].to_numpy(), np.arange(2 * n) < n
    if in_sample:
        score = variance.predicted(variance.features(own, covariates), y, folds=0)
        made = variance.cuped(y, score, arm)
    else:
        made = variance.cupac(own, y, covariates, arm=arm)
    found = experiments.welch(made.values[arm], made.values[~arm])
    return y[~arm].mean() - y[arm].mean(), found.effect, found.effect / found.se, made.explained
