"""Studies over many worlds: what alarms, what is advised, and what a policy of retraining costs.

Nothing was tuned on these worlds: detectors and the recipe of training (one for all policies) were
fixed before; years of the seeds 1 to 9 and 501 were looked at while the code was written. What
would be new next time is another year, so that intervals are over worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import monitors, retraining
from casebook.cases.deployment_pipeline.reports import promise, weekly
from casebook.cases.deployment_pipeline.world import (
    ADVICE,
    FEATURES,
    Constants,
    Fault,
    Shift,
    plan,
    simulate,
)
from casebook.evaluate.intervals import mean_interval, wilson
from casebook.serving import drift

SEEDS = tuple(range(1_101, 1_116))
#: Continuous features that are positive on most payments, one moved in each world.
MOVED = ("amount", "amount_ratio", "customer_mean_30d", "log_seconds_since_last", "tenure")
SIZES = (0.25, 0.5, 1.0)
QUIET_DAYS, SHIFTED_DAYS = 42, 7


# Detectors ----------------------------------------------------------------------------


@cache
def champion():
    """Return the one model whose scores all worlds of the detectors are given."""
    year = simulate(SEEDS[0] - 1, 1, history=100)
    rows = (year.rows["day"] < -30).to_numpy()
    X = year.rows.loc[rows, list(FEATURES)].to_numpy(np.float32)
    return retraining.train(X, year.truth.loc[rows, "fraud"].to_numpy(float))


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the champion's score as a column."""
    X = rows[list(FEATURES)].to_numpy(np.float32)
    return monitors.with_score(rows, champion().predict(X))


def _days(seed: int, n: int, size: float, wobble: float, history: int = 0) -> pd.DataFrame:
    """Return quiet days, or the first days of a covariate shift."""
    own = Constants(n=n, wobble=wobble)
    if size == 0:
        return scored(simulate(seed, QUIET_DAYS, constants=own, history=history).rows)
    shift = Shift("covariate", 0, size, (MOVED[seed % len(MOVED)],))
    rows = simulate(seed + 1000 * int(100 * size), SHIFTED_DAYS, (shift,), (), own, history=1).rows
    return scored(rows[rows["day"] >= 0])


def _separable(rows: pd.DataFrame, seed: int, n: int) -> pd.Series:
    """Return the AUC of a domain classifier for each day after the reference."""
    usual = rows[rows["day"] < monitors.FIT[1]].sample(n, random_state=seed)
    days = rows[rows["day"] >= monitors.FIT[1]].groupby("day")
    return pd.Series({day: drift.separability(usual, part, FEATURES, seed) for day, part in days})


#: What a statistic of a day is called in the tables.
CALLED = {"raw": "PSI", "p": "PSI, chance", "psi": "PSI, quiet day", "ks": "KS, quiet day"}
CALLED |= {"p_ks": "KS, chance", "auc": "domain classifier"}
RATES = (0.01, 0.025, 0.05, 0.1)


@cache
def in_world(seed: int, n: int, wobble: float = 0.03, classifier: bool = True) -> pd.DataFrame:
    """Let all detectors watch quiet days and three shifts of one world.

    Returns
    -------
    DataFrame
        ``seed``, ``n``, ``size`` (0 for quiet days), ``day``, a column for each detector (whether
        it alarms) and one for each statistic (:data:`CALLED`).
    """
    history = _days(seed, n, 0.0, wobble, 126)
    ref = monitors.reference(history, (*FEATURES, "score"))
    past, parts = history[history["day"] < 0], []
    for size in (0.0, *SIZES):
        now = history[history["day"] >= 0] if size == 0 else _days(seed, n, size, wobble)
        days = monitors.daily(now, ref, ks=True)
        found = pd.DataFrame({name: of(days, ref) for name, of in drift.DETECTORS.items()})
        for name, of in drift.STATISTICS.items():
            found[CALLED[name]] = of(days, ref)
        if classifier:
            auc = _separable(pd.concat([past, now]), seed, n)
            found["domain classifier, quiet days"] = auc > auc[auc.index < 0].max()
            found[CALLED["auc"]] = auc
        parts.append(found.rename_axis("day").reset_index().assign(seed=seed, n=n, size=size))
    return pd.concat(parts, ignore_index=True)


def summed(table: pd.DataFrame) -> pd.DataFrame:
    """Return false alarms and delays of detectors over worlds, from :func:`in_world`.

    Returns
    -------
    DataFrame
        ``detector``, ``n``, ``size``, ``limit`` ("own": the detector's; "equal": set afterwards, so
        that a share of all quiet days alarms), ``false_alarms`` (share of quiet days), ``low``,
        ``high`` (t interval over worlds; of own limits), ``delay`` (median days, a shift that is
        not seen counts as infinite: missing), ``within_2`` (share of worlds that alarm on the first
        two days, ``within_low``, ``within_high`` by Wilson) and ``worlds``.
    """
    rows, rules = [], (*drift.DETECTORS, "domain classifier, quiet days")
    limits = [(name, "own", 0.5) for name in rules if name in table]
    limits += [(name, "equal", rate) for name in CALLED.values() if name in table for rate in RATES]
    for n, of_n in table.groupby("n", sort=False):
        calm = of_n[of_n["size"] == 0]
        for name, kind, rate in limits:
            cut = rate if kind == "own" else calm[name].quantile(1 - rate, interpolation="higher")
            hit = of_n[name].astype(float) > cut
            false = mean_interval(hit[calm.index].groupby(calm["seed"]).mean())
            for size in SIZES:
                seen = of_n[of_n["size"] == size].assign(hit=hit)
                first = seen[seen["hit"]].groupby("seed")["day"].min()
                delay = first.reindex(seen["seed"].unique()) + 1
                two = (delay <= 2).to_numpy()
                middle = float(np.median(delay.fillna(np.inf)))
                middle = middle if np.isfinite(middle) else np.nan
                rows.append((name, n, size, kind, *false, middle, *wilson(two), len(two)))
    columns = ["detector", "n", "size", "limit", "false_alarms", "low", "high", "delay"]
    columns += ["within_2", "within_low", "within_high", "worlds"]
    return pd.DataFrame(rows, columns=columns)


def detectors(
    seeds: Sequence[int] = SEEDS, sizes: Sequence[int] = (200, 500, 2_000)
) -> pd.DataFrame:
    """Measure false alarms against delay of each detector; columns of :func:`summed`."""
    parts = [in_world(seed, n) for n in sizes for seed in seeds]
    return summed(pd.concat(parts, ignore_index=True))


# Advice -------------------------------------------------------------------------------

AT = 28
EVENTS: dict[str, tuple] = {
    "nothing": (),
    "covariate": (Shift("covariate", AT, 0.5, ("amount", "tenure")),),
    "season": (Shift("season", AT, 0.5, days=30),),
    "label": (Shift("label", AT, 2.0),),
    "concept": (Shift("concept", AT, 0.7),),
    "schema": (Fault("schema", AT, 2, ("device_age",)),),
    "unit": (Fault("unit", AT, 3),),
    "stale": (Fault("stale", AT, 7, ("customer_sum_24h", "customer_count_24h")),),
    "poisoned": (Fault("poisoned", AT, 7),),
}


def advised(seed: int, kind: str, n: int = 1_000, days: int = 91) -> dict[str, object]:
    """Return what the monitors advise in one world in which one thing happens on day 28."""
    events = EVENTS[kind]
    shifts = tuple(one for one in events if isinstance(one, Shift))
    faults = tuple(one for one in events if isinstance(one, Fault))
    year = simulate(seed, days, shifts, faults, Constants(n=n))
    rows = scored(year.rows)
    ref = monitors.reference(rows, (*FEATURES, "score"))
    found = monitors.daily(rows[rows["day"] >= 0], ref)
    first = monitors.alarms(found, ref)
    broken = first.loc[first["what"].map(monitors.ADVICE) == "repair the feed", "day"].unique()
    probability = 1 / (1 + np.exp(-rows["score"].to_numpy()))
    kept = promise(year, probability, -60, 0)
    weeks = weekly(year, probability, kept, broken=broken)
    seen = monitors.alarms(found, ref, weeks, year)
    since = seen[seen["day"] >= (0 if kind == "nothing" else AT)]
    text = monitors.advice(since)
    days_to = since.loc[since["what"].map(monitors.ADVICE) == text, "day"].min() - AT
    right = {"nothing", "wait"} if kind == "nothing" else {ADVICE[kind]}
    late = (year.rows["day"] >= AT).to_numpy()
    lost = retraining.regret(probability, year)
    return {
        **{"kind": kind, "seed": seed, "advised": text, "wanted": ADVICE.get(kind, "nothing")},
        **{"right": text in right, "days": days_to + 1 if text != "nothing" else np.nan},
        **{"regret_before": lost[~late].mean() * 1000, "regret_after": lost[late].mean() * 1000},
    }


def advice(seeds: Sequence[int] = SEEDS, kinds: Sequence[str] = tuple(EVENTS)) -> pd.DataFrame:
    """Return what is advised in worlds in which one thing happens, or nothing.

    Returns
    -------
    DataFrame
        ``kind``, ``seed``, ``advised`` (the gravest advice in the nine weeks after the event; of
        "nothing" in thirteen weeks), ``wanted``, ``right`` (where nothing happens: no advice to do
        anything), ``days`` (until that advice),
        ``regret_before`` and ``regret_after`` (euro per thousand payments above the true chances).
    """
    return pd.DataFrame([advised(seed, kind) for kind in kinds for seed in seeds])


# Retraining ---------------------------------------------------------------------------

#: Days of the years in which one thing happens.
HALF = 140
WORLDS = ("eventful", "covariate", "poisoned", "nothing")


def happens(world: str, seed: int) -> tuple[tuple[Shift, ...], tuple[Fault, ...], int]:
    """Return shifts, faults and days of one of :data:`WORLDS`, or of "concept"."""
    rng = np.random.default_rng([seed, 7])
    start, size = int(rng.integers(40, 60)), float(rng.uniform(0.5, 0.9))
    if world == "eventful":
        return *plan(seed), 364
    if world == "covariate":
        moved = tuple(rng.choice(MOVED, 2, replace=False).tolist())
        return (Shift("covariate", start, 0.5, moved),), (), HALF
    if world == "concept":
        return (Shift("concept", start, size),), (), HALF
    if world == "poisoned":
        return (), (Fault("poisoned", start, 7),), HALF
    if world == "nothing":
        return (), (), HALF
    raise ValueError(f"no world is called {world!r}; there: {', '.join(WORLDS)}")


def _weeks(world: str, seed: int, constants: Constants, recipe: retraining.Recipe) -> pd.DataFrame:
    shifts, faults, days = happens(world, seed)
    year = simulate(seed, days, shifts, faults, constants, history=160)
    made = retraining.compare(year, recipe=recipe, seed=seed)
    return made.assign(world=world, seed=seed)


#: Payments a day in the studies of retraining: a third of the world's, for time.
RETRAINED = Constants(n=700)


def policies(
    seeds: Sequence[int] = SEEDS,
    worlds: Sequence[str] = WORLDS,
    constants: Constants = RETRAINED,
    recipe: retraining.Recipe | None = None,
) -> pd.DataFrame:
    """Return what each policy costs in each world.

    Returns
    -------
    DataFrame
        ``world``, ``seed``, ``policy``, ``euros`` (per thousand payments), ``worst`` (most costly
        week), ``asked``, ``trained`` and ``released`` (times).
    """
    own, rows = recipe or retraining.Recipe(), []
    for world in worlds:
        for seed in seeds:
            for policy, part in _weeks(world, seed, constants, own).groupby("policy", sort=False):
                times = part[["trained", "released"]].sum().tolist()
                money = part["euros"].mean(), part["euros"].max(), part["asked"].mean()
                rows.append((world, seed, policy, *money, *times))
    names = ["world", "seed", "policy", "euros", "worst", "asked", "trained", "released"]
    return pd.DataFrame(rows, columns=names)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return saving and share of the gap of each policy, from :func:`policies`.

    Returns
    -------
    DataFrame
        ``world``, ``policy``, ``euros``, ``saved`` (euro per thousand payments against the frozen
        champion, paired by world) with ``low`` and ``high``, ``share`` (of the gap from frozen to
        labels at once, ratio of the means) and ``retrained`` (releases a year or half-year).
    """
    rows = []
    for world, own in table.groupby("world", sort=False):
        wide = own.pivot(index="seed", columns="policy", values="euros")
        gap = (wide["frozen"] - wide["labels at once"]).mean()
        for policy in dict.fromkeys(own["policy"]):
            saved = wide["frozen"] - wide[policy]
            released = own.loc[own["policy"] == policy, "released"].mean()
            share = saved.mean() / gap if world in ("eventful", "concept") else np.nan
            rows.append(
                (world, policy, wide[policy].mean(), *mean_interval(saved), share, released)
            )
    names = ["world", "policy", "euros", "saved", "low", "high", "share", "released"]
    return pd.DataFrame(rows, columns=names)


def sensitivity(seeds: Sequence[int] = SEEDS[:6]) -> pd.DataFrame:
    """Vary the wobble of the days and how foreign the new fraud is.

    Returns
    -------
    DataFrame
        ``constant``, ``value``, ``name`` (detector or policy), ``result`` ("false alarms", share of
        quiet days; "saved", euro per thousand payments against frozen in concept worlds), ``mean``,
        ``low``, ``high``.
    """
    rows = []
    for wobble in (0.0, 0.03, 0.1):
        made = pd.concat([in_world(seed, 500, wobble, classifier=False) for seed in seeds])
        quiet = made[made["size"] == 0].groupby("seed")[[*drift.DETECTORS]].mean()
        for name, rate in quiet.items():
            rows.append(("wobble", wobble, name, "false alarms", *mean_interval(rate)))
    for foreign in (0.3, 0.6, 1.0):
        own = replace(RETRAINED, foreign=foreign)
        table = shares(policies(seeds, ("concept",), own))
        for line in table.itertuples():
            found = (line.saved, line.low, line.high)
            rows.append(("foreign", foreign, line.policy, "saved", *found))
    names = ["constant", "value", "name", "result", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=names)
