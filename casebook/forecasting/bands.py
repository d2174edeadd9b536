"""Bands around coherent forecasts: sample paths of all routes that add up at every level.

A path is the forecast of every route times how far one earlier day came out from its forecast, the
same day for all routes. So the routes of a depot err together in a sample as they did on that day,
and the band of a sum is as wide as the errors of a sum. Drawing a day of its own for each route
(``joint=False``) loses the dependence: the bands are too narrow above the routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.forecasting.hierarchy import Hierarchy

KEYS = ["unique_id", "ds"]
#: Sample paths of an origin; ends of the 80 % band.
PATHS, ENDS = 400, (0.1, 0.9)


@dataclass(frozen=True)
class Paths:
    """Samples of the days from an origin on.

    Attributes
    ----------
    values : ndarray, shape (n, days, routes)
        Parcels a day; 0 where a route has no row on a day.
    days : DatetimeIndex, shape (days,)
    routes : ndarray of str, shape (routes,)
        Sorted.
    """

    values: np.ndarray
    days: pd.DatetimeIndex
    routes: np.ndarray

    def summed(self, tree: Hierarchy) -> np.ndarray:
        """Return the sums of all nodes, shape (n, days, nodes) in the order of ``tree.nodes``."""
        columns = np.searchsorted(tree.bottom, self.routes)
        return self.values @ tree.S[:, columns].T


def error_ratios(routes: pd.DataFrame, column: str, origin: pd.Timestamp) -> pd.DataFrame:
    """Return how far earlier forecasts were out: actual over forecast, day by day.

    Parameters
    ----------
    routes : DataFrame
        ``unique_id``, ``ds``, ``origin``, ``y`` and forecasts of the routes.
    column : str
        Forecasts.
    origin : Timestamp
        Only forecasts from earlier origins, of days before it, are used.

    Returns
    -------
    DataFrame, shape (days, routes)
        A route that was not forecast on a day takes the ratio of its depot, or of the network.

    Raises
    ------
    ValueError
        If there is no earlier origin.
    """
    past = routes[(routes["origin"] < origin) & (routes["ds"] < origin)]
    if past.empty:
        raise ValueError(f"no forecast from before {origin:%Y-%m-%d}: its errors make the band.")
    y, made = (past.pivot(index="ds", columns="unique_id", values=v) for v in ("y", column))
    made, depot = made.where(made > 0), y.columns.str.rpartition("/").get_level_values(0)
    y = y.where(made.notna())
    of_depot = (y.T.groupby(depot).sum() / made.T.groupby(depot).sum()).T
    of_depot = of_depot.apply(lambda c: c.fillna(y.sum(axis=1) / made.sum(axis=1)))
    return (y / made).fillna(of_depot[depot].set_axis(y.columns, axis=1))


def sample_paths(
    routes: pd.DataFrame,
    column: str,
    origin: pd.Timestamp,
    n: int = PATHS,
    seed: int = 0,
    joint: bool = True,
) -> Paths:
    """Draw what the days from an origin on may bring, by the errors of earlier origins.

    Parameters
    ----------
    routes : DataFrame
        As for :func:`error_ratios`, with the rows of ``origin``.
    column, origin
        As for :func:`error_ratios`.
    n, seed : int
        Paths, and seed of the draws.
    joint : bool
        One earlier day for all routes, or a day of its own for each of them.

    Returns
    -------
    Paths
        Days are drawn one by one: the paths do not carry the dependence from day to day.
    """
    ahead = routes[routes["origin"] == origin]
    forecast = ahead.pivot(index="ds", columns="unique_id", values=column)
    ratio = error_ratios(routes, column, origin)
    depot = forecast.columns.str.rpartition("/").get_level_values(0)
    known = dict(zip(ratio.columns.str.rpartition("/").get_level_values(0), ratio, strict=True))
    stand_in = [
        name if name in ratio else known.get(at, ratio.columns[0])
        for name, at in zip(forecast.columns, depot, strict=True)
    ]
    errors = ratio[stand_in].to_numpy()
    rng, shape = np.random.default_rng(seed), (n, *forecast.shape)
    day = rng.integers(len(errors), size=(*shape[:2], 1) if joint else shape)
    values = forecast.fillna(0).to_numpy() * errors[day, np.arange(shape[2])]
    return Paths(values, forecast.index, forecast.columns.to_numpy(str))


def _ends_of(paths: Paths, tree: Hierarchy, ends: tuple[float, float]) -> pd.DataFrame:
    """Return ``unique_id``, ``ds``, ``low``, ``high`` of all nodes."""
    low, high = np.quantile(paths.summed(tree), ends, axis=0)
    index = pd.MultiIndex.from_product([paths.days, tree.nodes], names=["ds", "unique_id"])
    return pd.DataFrame({"low": low.ravel(), "high": high.ravel()}, index=index).reset_index()


def bands(
    result: pd.DataFrame,
    column: str,
    origins: Sequence[pd.Timestamp],
    tree: Hierarchy,
    ends: tuple[float, float] = ENDS,
    n: int = PATHS,
    seed: int = 0,
    joint: bool = True,
) -> pd.DataFrame:
    """Put a band around the forecasts of all levels, from each origin.

    Parameters
    ----------
    result : DataFrame
        ``level``, ``unique_id``, ``ds``, ``origin``, ``y`` and forecasts; with origins before
        ``origins``.
    column : str
        Coherent forecasts, such as bottom-up.
    origins : sequence of Timestamp
    tree : Hierarchy
    ends : tuple of float
        Quantiles.
    n, seed, joint
        As for :func:`sample_paths`.

    Returns
    -------
    DataFrame
        The rows of ``origins`` with ``low`` and ``high`` (parcels).
    """
    routes, parts = result[result["unique_id"].isin(tree.bottom)], []
    for origin in origins:
        paths = sample_paths(routes, column, origin, n, seed, joint)
        rows = result[result["origin"] == origin]
        parts.append(rows.merge(_ends_of(paths, tree, ends), on=KEYS, validate="1:1"))
    return pd.concat(parts, ignore_index=True)


def pinball(actual: np.ndarray, quantile: np.ndarray, share: float) -> np.ndarray:
    """Return the pinball loss of a quantile forecast, in the unit of the actuals.

    Parameters
    ----------
    actual, quantile : ndarray
    share : float
        Of the quantile, between 0 and 1.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> pinball(np.array([10.0, 4.0]), np.array([8.0, 8.0]), 0.9).round(2).tolist()
    [1.8, 0.4]
    """
    miss = np.asarray(actual, float) - np.asarray(quantile, float)
    return np.maximum(share * miss, (share - 1) * miss)


def coverage(
    banded: pd.DataFrame, by: Sequence[str] = ("level",), ends: tuple[float, float] = ENDS
) -> pd.DataFrame:
    """Return how often the actual lay within the band, and what the band costs.

    Parameters
    ----------
    banded : DataFrame
        See :func:`bands`.
    by : sequence of str
        What to count apart: level, origin, unique_id.
    ends : tuple of float
        Quantiles of the band.

    Returns
    -------
    DataFrame
        ``by``, ``days`` (rows), ``coverage`` (share of rows within, ends included), ``width`` (sum
        of the widths over the sum of the actuals) and ``pinball`` (mean over both ends, over the
        mean actual).
    """
    y, low, high = (banded[c] for c in ("y", "low", "high"))
    loss = (pinball(y, low, ends[0]) + pinball(y, high, ends[1])) / 2
    rows = banded[list(by)].assign(y=y, within=y.between(low, high), width=high - low, loss=loss)
    groups = rows.groupby(list(by), sort=False)
    sums = groups[["y", "width", "loss"]].sum()
    table = groups["within"].agg(days="size", coverage="mean")
    table["width"], table["pinball"] = sums["width"] / sums["y"], sums["loss"] / sums["y"]
    return table.reset_index()
