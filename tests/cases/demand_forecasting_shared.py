"""What the tests of case 01 share: its worlds, its recorded tables, and how a live run is held."""

from __future__ import annotations

from functools import cache
from unittest.mock import patch

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting import world as module
from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import KEYS, SEED, World, simulate
from casebook.recorded import bench

CASE = "01_demand_forecasting"
DAY = pd.Timedelta(days=1)
#: Parameters of a model that learns enough for a test.
FEW = {"n_estimators": 20}
#: Five digits are recorded; other machines may add up in another order.
CLOSE = {"rtol": 2e-3, "atol": 1e-4}


@cache
def world(seed: int = SEED) -> World:
    """Return a world; all tests of a process share it."""
    return simulate(seed)


@cache
def without_feed(seed: int, **constants) -> World:
    """Return a world without reports and faults, perhaps with other constants of the module."""
    with patch.multiple(module, _feed=lambda *_: (None, None), **constants):
        return simulate(seed)


@cache
def known_of_two(first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Return the panel of two countries of the chapter's world with its known features."""
    here = without_feed(SEED)
    rows = here.truth[here.truth["unique_id"].str[:2].isin(["BR", "PL"])]
    rows = rows.loc[rows["ds"].between(first, last), [*KEYS, "y"]].astype({"y": float})
    return add_known(rows, here.routes, here.calendar, here.promotions)


def recorded(name: str) -> pd.DataFrame:
    """Return a recorded table of the case."""
    return bench.recorded(CASE, name).frame


def assert_agrees(live: pd.DataFrame, table: pd.DataFrame, keys: list[str]) -> None:
    """Compare a live run with the recorded rows of the same keys; each must be there once."""
    both = live.merge(table, on=keys, how="left", suffixes=("", "_recorded"), validate="1:1")
    for column in [column for column in live if column not in (*keys, "data")]:
        # A live NaN meets a recorded one; a row that is not recorded is NaN there alone.
        np.testing.assert_allclose(both[f"{column}_recorded"], both[column], **CLOSE)
