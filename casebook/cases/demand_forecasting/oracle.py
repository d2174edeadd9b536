"""The oracle at all levels: its mean, and samples of the world's own future with their quantiles.

:func:`~casebook.cases.demand_forecasting.world.oracle` is a conditional *mean*. WAPE asks for the
median, which lies below the mean of a skewed distribution, and at each level it is the median of
the sum, not the sum of medians. Samples give it at every level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.world import SHOCK_PHI, SHOCK_SHARED, World, oracle
from casebook.forecasting.bands import Paths
from casebook.forecasting.hierarchy import Hierarchy, aggregate
from casebook.forecasting.walk import HORIZON

KEYS = ["unique_id", "ds"]
#: Samples: enough that the median of a depot is within half a per cent.
SAMPLES = 1000


def _future_shocks(
    rng: np.random.Generator, now: pd.Series, sd: float, n: int, horizon: int
) -> np.ndarray:
    """Carry the depots' shocks on, shape (n, horizon, depots); a country shares a part."""
    country = pd.factorize(now.index.str.split("/").str[0])[0]
    innovation = np.sqrt(1 - SHOCK_PHI**2) * sd
    state, path = np.broadcast_to(now.to_numpy(), (n, len(now))), []
    for _ in range(horizon):
        shared, own = rng.normal(size=(n, country.max() + 1)), rng.normal(size=(n, len(now)))
        step = np.sqrt(SHOCK_SHARED) * shared[:, country] + np.sqrt(1 - SHOCK_SHARED) * own
        state = SHOCK_PHI * state + innovation * step
        path.append(state)
    return np.stack(path, axis=1)


def oracle_paths(
    world: World,
    origin: pd.Timestamp,
    n: int = SAMPLES,
    seed: int = 0,
    horizon: int = HORIZON,
) -> Paths:
    """Draw the days from an origin on, knowing all mechanisms and the shocks of the day before.

    Parameters
    ----------
    world : World
    origin : Timestamp
        First day to forecast; a break that has not begun the day before is not known.
    n, seed : int
        Samples, and seed of the draws.
    horizon : int
        Days.

    Returns
    -------
    Paths
        Whole parcels.
    """
    origin, rng = pd.Timestamp(origin), np.random.default_rng(seed)
    before = world.truth[world.truth["ds"] == origin - pd.Timedelta(days=1)]
    last = origin + pd.Timedelta(days=horizon - 1)
    future = world.truth[world.truth["ds"].between(origin, last)]
    broken = before.groupby(before["unique_id"].str.split("/").str[0])["jump"].first() != 0
    known = future["unique_id"].str.split("/").str[0].map(broken)
    future = future.assign(base=future["base"] * np.exp(future["jump"].where(known, 0.0)))
    base = future.pivot(index="ds", columns="unique_id", values="base").fillna(0.0)
    now = before.groupby(before["unique_id"].str.rpartition("/")[0])["shock"].first()
    shocks = _future_shocks(rng, now, world.constants.shock_sd, n, len(base))
    depot = base.columns.str.rpartition("/").get_level_values(0)
    mean = base.to_numpy() * np.exp(shocks[:, :, now.index.get_indexer(depot)])
    size = world.constants.dispersion
    parcels = rng.negative_binomial(size, size / (size + mean)).astype(np.float32)
    return Paths(parcels, base.index, base.columns.to_numpy(str))


def oracle_quantiles(
    world: World,
    origin: pd.Timestamp,
    tree: Hierarchy,
    shares: Sequence[float] = (0.5,),
    n: int = SAMPLES,
) -> pd.DataFrame:
    """Return quantiles of the true predictive distribution of every node.

    Parameters
    ----------
    world : World
    origin : Timestamp
    tree : Hierarchy
    shares : sequence of float
        Of the quantiles; the median by default.
    n : int
        Samples.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds`` and a column of parcels for each share, named by it.
    """
    paths = oracle_paths(world, origin, n)
    values = np.quantile(paths.summed(tree), shares, axis=0).reshape(len(shares), -1)
    index = pd.MultiIndex.from_product([paths.days, tree.nodes], names=["ds", "unique_id"])
    return pd.DataFrame(dict(zip(shares, values, strict=True)), index=index).reset_index()


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
