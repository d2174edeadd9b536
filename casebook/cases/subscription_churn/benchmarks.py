"""What case 07 records by ``make bench N=07``: lists over worlds, estimates, and public data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from casebook.cases.subscription_churn import cycles as retraining
from casebook.cases.subscription_churn import studies
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.cycles import WAYS
from casebook.cases.subscription_churn.public import real_hillstrom, real_telco
from casebook.cases.subscription_churn.studies import (
    CHOSEN,
    CHOSEN_ON,
    MODEL,
    ORACLE,
    POINTS,
    RISK,
    SEEDS,
    SEGMENTS,
    TOLD,
    one_world,
    with_dial,
    with_lottery,
)
from casebook.cases.subscription_churn.world import SEED

DIALS = (-0.6, -0.3, 0.0, 0.3, 0.6, 0.9)
CALLS = (4_000, 12_000, 36_000)
#: Lists of the studies that vary the world.
SOME = (POINTS, SEGMENTS, RISK, MODEL, ORACLE)


def lists(seeds: Sequence[int] = (*SEEDS, SEED)) -> pd.DataFrame:
    """Run all lists over fresh worlds, and in the world of the page.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``euro`` (of the month's 4,000 calls, their cost deducted),
        ``prevented`` (cancellations), ``risk`` (mean), ``harmed``, ``dormant``, ``complaints``
        (shares of the list) and ``qini`` (1: the oracle's order).
    """
    parts = [one_world(seed).assign(seed=seed) for seed in seeds]
    return pd.concat(parts, ignore_index=True)


def offline(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Estimate the model's list from data, world by world: see :func:`.studies.offline`."""
    parts = [studies.offline(seed).assign(seed=seed) for seed in seeds]
    return pd.concat(parts, ignore_index=True)


def dial(seeds: Sequence[int] = SEEDS[:3], dials: Sequence[float] = DIALS) -> pd.DataFrame:
    """Turn the dial of risk and saving: ``dial``, ``seed`` and as of :func:`lists`."""
    parts = [
        one_world(seed, SOME, with_dial(turned)).assign(seed=seed, dial=turned)
        for seed in seeds
        for turned in dials
    ]
    return pd.concat(parts, ignore_index=True)


def lottery(seeds: Sequence[int] = SEEDS[:3], calls: Sequence[int] = CALLS) -> pd.DataFrame:
    """Randomise fewer and more calls: ``calls``, ``seed`` and as of :func:`lists`."""
    parts = [
        one_world(seed, (*SOME, "T", TOLD), with_lottery(n)).assign(seed=seed, calls=n)
        for seed in seeds
        for n in calls
    ]
    return pd.concat(parts, ignore_index=True)


def trials(seeds: Sequence[int] = CHOSEN_ON) -> pd.DataFrame:
    """Try six settings for each learner on the choice worlds: see :func:`.studies.trials`."""
    return studies.trials(seeds)


def cycles(seeds: Sequence[int] = SEEDS[:5], ways: Sequence[str] = tuple(WAYS)) -> pd.DataFrame:
    """Train again on one's own calls: ``way``, ``seed`` and as of :func:`.cycles.run`."""
    parts = [
        retraining.run(worlds.simulate(seed), way, CHOSEN).assign(seed=seed, way=way)
        for seed in seeds
        for way in ways
    ]
    return pd.concat(parts, ignore_index=True)


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "lists": lists,
    "offline": offline,
    "dial": dial,
    "lottery": lottery,
    "cycles": cycles,
    "trials": trials,
    "real_telco": real_telco,
    "real_hillstrom": real_hillstrom,
}
