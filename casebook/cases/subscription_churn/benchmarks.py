"""What case 07 records by ``make bench N=07``: lists over worlds, estimates, public data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pandas as pd

from casebook.cases.subscription_churn import cycles as retraining
from casebook.cases.subscription_churn import months as followed
from casebook.cases.subscription_churn import studies
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.cycles import WAYS
from casebook.cases.subscription_churn.public import real_hillstrom, real_telco
from casebook.cases.subscription_churn.studies import (
    CHOSEN,
    MODEL,
    ORACLE,
    POINTS,
    RISK,
    SEEDS,
    SILENCE,
    TEAM,
    at,
    one_world,
)
from casebook.cases.subscription_churn.world import SEED

#: Worlds of all tables but the headline's: the first five.
FIVE = SEEDS[:5]
#: Beside the usual values, 0 and 12,000, whose rows are those of the lists.
DIALS = (-0.6, 0.6)
CALLS = (4_000, 36_000)
LEAKS = (0.03, 0.0)
#: Lists of the studies that vary the world.
SOME = (TEAM, POINTS, RISK, MODEL, ORACLE)
#: Lists that are followed for a quarter, and for months.
GUARDED = (SILENCE, TEAM, RISK, MODEL)
REPEATED = (MODEL,)
#: The two constants that are least known, at other values (0.05 and 0.8 in all other tables).
CHANGED = {"wakes": (0.1,), "most_saved": (0.4,)}
HOLDOUTS = (0.05, 0.2)


def lists(seeds: Sequence[int] = (*SEEDS, SEED)) -> pd.DataFrame:
    """Run all lists over fresh worlds, and in the world of the page.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``euro`` (of the month's 4,000 calls, their cost deducted; the lately
        called are spared), ``unrested`` (they are not), ``sensible`` (the hopeless are left out
        too); of the list ``prevented`` (cancellations), ``risk`` (mean), ``harmed``, ``dormant``,
        ``hopeless``, ``complaints``, ``unsubscribes`` (shares); ``before`` (share of the unrested
        list that was called within three months), ``qini`` (1: as the oracle).
    """
    return _each(seeds, one_world)


def price(seeds: Sequence[int] = FIVE) -> pd.DataFrame:
    """Price the randomised month: ``seed`` and as of :func:`.studies.price`."""
    return pd.DataFrame([{"seed": seed, **studies.price(seed)} for seed in seeds])


def offline(seeds: Sequence[int] = SEEDS, leaks: Sequence[float] = LEAKS) -> pd.DataFrame:
    """Estimate the model's list from data: ``seed``, ``leak`` and as :func:`.studies.offline`.

    In five worlds the log is asked too, and the month is repeated without calls off the list.
    """
    parts = []
    for seed, leak in itertools.product(seeds, leaks):
        if leak == 0 and seed not in FIVE:
            continue
        found = studies.offline(seed, at(leak=leak), log=leak > 0 and seed in FIVE)
        parts.append(found.assign(seed=seed, leak=leak))
    return pd.concat(parts, ignore_index=True)


def _varied(name: str, values: Sequence[float], seeds: Sequence[int]) -> pd.DataFrame:
    """Run some lists in worlds with another constant."""
    parts = [
        one_world(seed, SOME, at(**{name: value})).assign(seed=seed, at=value)
        for seed, value in itertools.product(seeds, values)
    ]
    return pd.concat(parts, ignore_index=True)


def dial(seeds: Sequence[int] = FIVE) -> pd.DataFrame:
    """Turn the dial of risk and saving: ``seed``, ``at`` and as of :func:`lists`."""
    return _varied("dial", DIALS, seeds)


def lottery(seeds: Sequence[int] = FIVE) -> pd.DataFrame:
    """Randomise fewer and more calls: ``seed``, ``at`` and as of :func:`lists`."""
    return _varied("lottery", CALLS, seeds)


def sensitivity(seeds: Sequence[int] = FIVE) -> pd.DataFrame:
    """Change what a call wakes and saves: ``constant``, ``seed``, ``at`` and as of lists."""
    parts = [_varied(name, values, seeds).assign(constant=name) for name, values in CHANGED.items()]
    return pd.concat(parts, ignore_index=True)


def _each(seeds: Sequence[int], run: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """Run one study in each world."""
    return pd.concat([run(seed).assign(seed=seed) for seed in seeds], ignore_index=True)


def guardrails(seeds: Sequence[int] = FIVE, names: Sequence[str] = GUARDED) -> pd.DataFrame:
    """Follow lists for a quarter: ``seed`` and as of :func:`.months.guardrails`."""
    return _each(seeds, lambda seed: followed.guardrails(seed, names))


def months(seeds: Sequence[int] = FIVE, names: Sequence[str] = REPEATED) -> pd.DataFrame:
    """Call four months by one model, with and without a rest: as of :func:`.months.several`."""
    return _each(seeds, lambda seed: followed.several(seed, names))


def drift(seeds: Sequence[int] = FIVE, shares: Sequence[float] = HOLDOUTS) -> pd.DataFrame:
    """Change the world under the monitor: ``share``, ``seed`` and as :func:`.months.drift`."""
    parts = [
        followed.drift(seed, share).assign(seed=seed, share=share)
        for seed, share in itertools.product(seeds, shares)
    ]
    return pd.concat(parts, ignore_index=True)


def cycles(seeds: Sequence[int] = FIVE, ways: Sequence[str] = tuple(WAYS)) -> pd.DataFrame:
    """Train again on one's own calls: ``way``, ``seed`` and as of :func:`.cycles.run`."""
    parts = [
        retraining.run(world, way, CHOSEN).assign(seed=seed, way=way)
        for seed in seeds
        for world in (worlds.simulate(seed),)
        for way in ways
    ]
    return pd.concat(parts, ignore_index=True)


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "trials": studies.trials,
    "lists": lists,
    "price": price,
    "offline": offline,
    "cycles": cycles,
    "dial": dial,
    "lottery": lottery,
    "sensitivity": sensitivity,
    "guardrails": guardrails,
    "months": months,
    "drift": drift,
    "real_telco": real_telco,
    "real_hillstrom": real_hillstrom,
}
