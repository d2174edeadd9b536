"""World of case 21: daily orders of a few shops.

To write: your own mechanisms in place of these; commit them before models are compared.

Mechanisms
----------
The expected orders of a shop are the product of

* a level, lognormal over shops;
* a weekday profile with mean one, the same for every shop;
* growth at a yearly rate of its own.

What is observed is a Poisson draw of the expectation. Then some rows are sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

CHAPTER = "21_deployment_pipeline"
SEED = 2026
SHOPS = ("A", "B", "C", "D", "E", "F", "G", "H")
DAYS = pd.date_range("2025-01-06", periods=140, freq="D")
#: Expected share of an average day, Monday to Sunday.
WEEKDAYS = (0.8, 0.8, 0.9, 1.0, 1.2, 1.4, 0.9)
DUPLICATED = 10


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes
    ----------
    observed : DataFrame
        What the feed says, faults included: ``shop``, ``ds`` (day), ``y`` (orders).
    truth : DataFrame
        What no model may see: ``shop``, ``ds``, ``expected`` (mean of ``y``).
    faults : DataFrame
        Where rows were sent twice: ``shop``, ``ds``.
    """

    observed: pd.DataFrame
    truth: pd.DataFrame
    faults: pd.DataFrame


def _expected(rng: np.random.Generator) -> pd.DataFrame:
    weekly = np.array(WEEKDAYS)[DAYS.weekday]
    frames = []
    for shop in SHOPS:
        level, growth = rng.lognormal(4.5, 0.6), rng.normal(0.1, 0.1)
        grown = np.exp(growth * np.arange(len(DAYS)) / 365)
        frames.append(pd.DataFrame({"shop": shop, "ds": DAYS, "expected": level * weekly * grown}))
    return pd.concat(frames, ignore_index=True)


def simulate(seed: int = SEED) -> World:
    """Simulate the world.

    Parameters
    ----------
    seed : int
        The same seed gives the same world, bit by bit.

    Returns
    -------
    World
        Eight shops, 140 days.
    """
    rng = np.random.default_rng(seed)
    truth = _expected(rng)
    clean = truth[["shop", "ds"]].assign(y=rng.poisson(truth["expected"]))
    twice = rng.choice(len(clean), DUPLICATED, replace=False)
    observed = pd.concat([clean, clean.loc[twice]]).sort_values(["shop", "ds"], ignore_index=True)
    return World(observed, truth, clean.loc[np.sort(twice), ["shop", "ds"]].reset_index(drop=True))


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``data/21_deployment_pipeline/`` holds, by file name."""
    world = simulate()
    return {
        "observed.parquet": world.observed,
        "truth.parquet": world.truth,
        "faults.parquet": world.faults,
    }
