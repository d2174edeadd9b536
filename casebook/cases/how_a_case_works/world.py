"""World of case 00: overnight trips by region and purpose, four values a year.

Mechanisms
----------
The expected trips of a series (a region and a purpose) are the product of

* a level, lognormal over regions and different by purpose;
* growth, a yearly rate of its state that changes once, at a quarter of its own;
* a season: a profile of its purpose, with an amplitude of its region;
* a campaign: a state's tourism board books one or two quarters a year, at other
  times each year, and trips rise by a fixed share. The plan is known a year ahead.

What is observed is the expectation times lognormal noise with mean one, larger
for small series. Then the reporting faults are planted: quarters that were
never reported, quarters reported twice, and a stretch of one series in single
trips instead of thousands.

Nothing here is estimated from data: the constants were chosen so that growth,
season, campaign and noise matter about as much as each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

CHAPTER = "00_how_a_case_works"
SEED = 2026
STATES = ("North", "East", "South", "West", "Islands")
REGIONS_PER_STATE = 5
QUARTERS = pd.period_range("2010Q1", "2024Q4", freq="Q")
#: Level (thousand trips), seasonal profile over the four quarters (mean one).
PURPOSES = {
    "holiday": (180.0, (1.30, 0.90, 0.75, 1.05)),
    "visiting": (120.0, (1.15, 1.00, 0.85, 1.00)),
    "business": (90.0, (0.85, 1.05, 1.10, 1.00)),
}
CAMPAIGN_LIFT = 0.30
MISSING, DUPLICATED, UNIT_QUARTERS = 12, 8, 4


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes
    ----------
    observed : DataFrame
        What the board's reports say, faults included: ``unique_id``, ``state``, ``region``,
        ``purpose``, ``ds`` (first day of the quarter), ``y`` (thousand trips).
    campaigns : DataFrame
        The plan, known a year ahead: ``state``, ``ds``, ``campaign`` (0 or 1).
    truth : DataFrame
        What no model may see: ``unique_id``, ``ds``, ``expected`` (thousand trips, the mean of
        ``y`` without faults).
    faults : DataFrame
        Where the reporting faults were planted: ``unique_id``, ``ds``, ``fault``.
    """

    observed: pd.DataFrame
    campaigns: pd.DataFrame
    truth: pd.DataFrame
    faults: pd.DataFrame


def _campaigns(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for state in STATES:
        for year in sorted(set(QUARTERS.year)):
            booked = rng.choice(4, size=rng.integers(1, 3), replace=False)
            rows += [(state, f"{year}Q{q + 1}", int(q in booked)) for q in range(4)]
    frame = pd.DataFrame(rows, columns=["state", "quarter", "campaign"])
    frame["ds"] = pd.PeriodIndex(frame.pop("quarter"), freq="Q").to_timestamp()
    return frame[["state", "ds", "campaign"]]


def _expected(rng: np.random.Generator, campaigns: pd.DataFrame) -> pd.DataFrame:
    steps = np.arange(len(QUARTERS))
    years = steps / 4
    planned = campaigns.pivot(index="ds", columns="state", values="campaign")
    frames = []
    for state in STATES:
        before, after = rng.normal(0.02, 0.02), rng.normal(0.05, 0.05)
        turn = rng.integers(20, 45) / 4
        growth = np.exp(before * years + after * np.clip(years - turn, 0, None))
        lift = 1 + CAMPAIGN_LIFT * planned[state].to_numpy()
        for number in range(1, REGIONS_PER_STATE + 1):
            size, swing = rng.lognormal(0, 0.8), rng.uniform(0.5, 1.5)
            for purpose, (level, profile) in PURPOSES.items():
                season = 1 + swing * (np.tile(profile, len(QUARTERS) // 4) - 1)
                expected = level * size * growth * season * lift
                frames.append(
                    pd.DataFrame(
                        {
                            "unique_id": f"{state} {number}/{purpose}",
                            "state": state,
                            "region": f"{state} {number}",
                            "purpose": purpose,
                            "ds": QUARTERS.to_timestamp(),
                            "expected": expected,
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)


def _plant_faults(
    rng: np.random.Generator, clean: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    # No fault stands in the last three years: they are for the test.
    old = clean.index[clean["ds"] < QUARTERS[-12].to_timestamp()]
    series = rng.choice(clean["unique_id"].unique())
    start = rng.integers(8, 36)
    wrong_unit = clean.index[clean["unique_id"] == series][start : start + UNIT_QUARTERS]
    rest = rng.permutation(old.difference(wrong_unit))
    missing, twice = rest[:MISSING], rest[MISSING : MISSING + DUPLICATED]
    observed = clean.copy()
    observed.loc[wrong_unit, "y"] *= 1000
    observed = pd.concat([observed.drop(index=missing), observed.loc[twice]])
    faults = pd.concat(
        clean.loc[index, ["unique_id", "ds"]].assign(fault=fault)
        for index, fault in (
            (missing, "missing"),
            (twice, "duplicated"),
            (wrong_unit, "wrong unit"),
        )
    )
    return observed.sort_values(["unique_id", "ds"], ignore_index=True), faults.reset_index(
        drop=True
    )


def simulate(seed: int = SEED) -> World:
    """Simulate the world.

    Parameters
    ----------
    seed : int
        The same seed gives the same world, bit by bit.

    Returns
    -------
    World
        75 series of 60 quarters.
    """
    rng = np.random.default_rng(seed)
    campaigns = _campaigns(rng)
    truth = _expected(rng, campaigns)
    sigma = np.clip(0.9 / np.sqrt(truth["expected"]), 0.04, 0.25)
    noise = np.exp(rng.normal(-(sigma**2) / 2, sigma))
    clean = truth.assign(y=(truth["expected"] * noise).round(3)).drop(columns="expected")
    observed, faults = _plant_faults(rng, clean)
    return World(observed, campaigns, truth[["unique_id", "ds", "expected"]], faults)


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what stands in ``data/00_how_a_case_works/``, by file name."""
    world = simulate()
    return {
        "observed.parquet": world.observed,
        "campaigns.parquet": world.campaigns,
        "truth.parquet": world.truth,
        "faults.parquet": world.faults,
    }
