"""The oracle of all levels beside the forecasts; walk-forward and scores are the toolbox's."""

from __future__ import annotations

import pandas as pd

from casebook.cases.demand_forecasting.contract import KEYS
from casebook.cases.demand_forecasting.features import HORIZON
from casebook.cases.demand_forecasting.world import World, oracle
from casebook.forecasting.hierarchy import Hierarchy, aggregate
from casebook.forecasting.scores import heatmap, score
from casebook.forecasting.walk import add_reconciled, planning_origins, walk_forward

#: The chapter asks for the toolbox's functions here.
__all__ = ["add_reconciled", "heatmap", "planning_origins", "score", "walk_forward"]


def complete_oracle(world: World, origin: pd.Timestamp, horizon: int = HORIZON) -> pd.DataFrame:
    """Return the world's oracle, with the routes that open within the horizon.

    Shock and break are those of a depot, so a route that opens takes them from the routes that
    were open.

    Parameters
    ----------
    world : World
    origin : Timestamp
        First day to forecast.
    horizon : int
        Days.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``oracle``.
    """
    last = origin + pd.Timedelta(days=horizon - 1)
    rows = world.truth.loc[world.truth["ds"].between(origin, last), [*KEYS, "base"]]
    rows = rows.merge(oracle(world, origin, horizon), on=KEYS, how="left")
    depot = rows["unique_id"].str.rpartition("/")[0]
    state = (rows["oracle"] / rows["base"]).groupby([depot, rows["ds"]]).transform("mean")
    return rows[KEYS].assign(oracle=rows["oracle"].fillna(rows["base"] * state))


def add_oracle(result: pd.DataFrame, world: World, hierarchy: Hierarchy) -> pd.DataFrame:
    """Add the oracle of all levels: the sums of the routes' conditional means.

    Parameters
    ----------
    result : DataFrame
        See :func:`walk_forward`.
    world : World
    hierarchy : Hierarchy

    Returns
    -------
    DataFrame
        ``result`` with the column ``oracle``.
    """
    parts = [
        aggregate(complete_oracle(world, origin), hierarchy, ["oracle"]).assign(origin=origin)
        for origin in result["origin"].unique()
    ]
    return result.merge(pd.concat(parts), on=["level", *KEYS, "origin"], how="left")
