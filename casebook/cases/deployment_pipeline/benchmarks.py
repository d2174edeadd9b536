"""What case 21 records: the share of the gap over many worlds (``make bench N=21``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from casebook.cases.deployment_pipeline.system import forecasts, repair
from casebook.cases.deployment_pipeline.world import simulate
from casebook.evaluate.gap import gap_closed
from casebook.evaluate.metrics import wape

#: To write: seeds of your own, drawn after the models have been fixed.
SEEDS = tuple(range(101, 116))


def gap_in_world(seed: int) -> float:
    """Return the share of the gap from the baseline (0) to the oracle (1) in one world."""
    world = simulate(seed)
    result = forecasts(repair(world.observed), days=28).merge(world.truth)
    names = ("last_week", "four_weeks", "expected")
    return gap_closed(*(wape(result["y"], result[name]) for name in names))


def seeds(drawn: Iterable[int] = SEEDS) -> pd.DataFrame:
    """Return the share of the gap that the model closes, a row for each world."""
    return pd.DataFrame([{"seed": seed, "gap_closed": gap_in_world(seed)} for seed in drawn])


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {"seeds": seeds}
