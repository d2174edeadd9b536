"""What case 09 records by ``make bench N=09``: the ladder over worlds, judges, indices, films."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from casebook.cases.recommendations import cold, studies
from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.drills import kills, latency, mail, swap
from casebook.cases.recommendations.fairness import fairness_of
from casebook.cases.recommendations.judges import judge_table
from casebook.cases.recommendations.movielens import real_movielens
from casebook.cases.recommendations.studies import RUNGS, SEEDS, at
from casebook.evaluate.slates import verdicts
from casebook.retrieval.ann import Settings, clustered, measure

#: Worlds of the studies that vary a constant.
FIVE = SEEDS[:5]
#: Other worlds: quality needs a taste for the category, so that the truth does not add up in
#: log-odds; tastes tell more; nobody needs a category of the day.
CHANGED: Mapping[str, tuple[float, ...]] = {"mixed": (0.8,), "taste": (2.4,), "need": (0.0,)}
SOME = ("analyst", "EASE", "logistic", "oracle")
#: Candidates of the judges, in a shop that shows every fifth list by chance: with every twentieth
#: the slice alone is too small to tell two lists apart.
JUDGED = ("popular", "analyst", "item-item", "EASE", "logistic")
JUDGED_SHOP = Shop(users=3_000, items=600, random_share=0.2)
#: Indices of 50,000 vectors of 128 numbers.
INDICES = (
    Settings("flat"),
    Settings("hnsw", links=16, search=64),
    Settings("hnsw", links=32, search=128),
    Settings("ivfpq", cells=256, code=16, probes=16),
    Settings("ivfpq", cells=256, code=32, probes=32),
    Settings("ivfpq", cells=256, code=32, probes=32, rescored=4),
    Settings("ivfpq", cells=256, code=32, probes=96, rescored=4),
    Settings("ivfpq", cells=256, code=32, probes=128, rescored=4),
)


def _each(seeds: Sequence[int], run: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """Run one study in each world."""
    return pd.concat([run(seed).assign(seed=seed) for seed in seeds], ignore_index=True)


def ladder(seeds: Sequence[int] = SEEDS, names: Sequence[str] = RUNGS) -> pd.DataFrame:
    """Run the ladder over fresh worlds: ``seed`` and as of :func:`.studies.ladder_of`."""
    return _each(seeds, lambda seed: studies.ladder_of(seed, names))


def rules(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Price the rules: ``seed`` and as of :func:`.studies.rules_of`."""
    return _each(seeds, studies.rules_of)


def sources(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Measure the sources: ``seed`` and as of :func:`.studies.sources_of`."""
    return _each(seeds, studies.sources_of)


def split(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Split by time and at random: ``seed`` and as of :func:`.studies.split_of`."""
    return _each(seeds, studies.split_of)


def judged_in(seed: int, names: Sequence[str] = JUDGED, shop: Shop = JUDGED_SHOP) -> pd.DataFrame:
    """Let all judges value the rungs in one world: as of :func:`.judges.judge_table`."""
    here = studies.simulate(seed, shop, requests=10**9)
    return judge_table(here.world, studies.lists_by(here, names))


def judged(seeds: Sequence[int] = SEEDS, names: Sequence[str] = JUDGED) -> pd.DataFrame:
    """Value the rungs by every judge: ``seed``, ``candidate``, ``judge``, ``value``, ``se``, …"""
    return _each(seeds, lambda seed: judged_in(seed, names))


def named(table: pd.DataFrame, always: Sequence[str] = ("popular", "logistic")) -> pd.DataFrame:
    """Return whom each judge names in each world of :func:`judged`: ``seed``, ``judge``, ``named``.

    ``right``, ``truth`` and ``loss`` as of :func:`casebook.evaluate.slates.verdicts`; the
    controls name one without looking.
    """
    parts = [
        verdicts(own, always).reset_index().assign(seed=seed) for seed, own in table.groupby("seed")
    ]
    return pd.concat(parts, ignore_index=True)


def cold_users(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Greet newcomers: ``seed`` and as of :func:`.cold.cold_users`."""
    return _each(seeds, cold.cold_users)


def cold_items(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Treat new items: ``seed`` and as of :func:`.cold.cold_items`."""
    return _each(seeds, cold.cold_items)


def fairness(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Show brands by merit: ``seed`` and as of :func:`.fairness.fairness_of`."""
    return _each(seeds, fairness_of)


def ann(n: int = 50_000, indices: Sequence[Settings] = INDICES, queries: int = 300) -> pd.DataFrame:
    """Measure indices of vectors in groups: as of :func:`casebook.retrieval.ann.measure`."""
    vectors = clustered(n + queries, 128, groups=max(n // 50, 20), seed=0)
    return pd.DataFrame([measure(vectors[:n], vectors[n:], one) for one in indices])


def sensitivity(
    seeds: Sequence[int] = FIVE,
    changed: Mapping[str, Sequence[float]] = CHANGED,
    names: Sequence[str] = SOME,
) -> pd.DataFrame:
    """Change constants of the world: ``constant``, ``at``, ``seed``, ``rung``, ``clicks``, …

    The ladder has the same worlds at their default. Trees with log-loss run where the truth does
    not add up.
    """
    parts = []
    for constant, value in ((name, value) for name in changed for value in changed[name]):
        more = ("pointwise",) if constant == "mixed" else ()
        for seed in seeds:
            found = studies.ladder_of(seed, (*names, *more), at(**{constant: value}))
            parts.append(found.assign(constant=constant, at=value, seed=seed))
    return pd.concat(parts, ignore_index=True)


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "trials": studies.trials,
    "ladder": ladder,
    "rules": rules,
    "sources": sources,
    "split": split,
    "judged": judged,
    "cold_users": cold_users,
    "cold_items": cold_items,
    "fairness": fairness,
    "ann": ann,
    "sensitivity": sensitivity,
    "real_movielens": real_movielens,
    "latency": latency,
    "swap": swap,
    "mail": mail,
    "kills": kills,
}
