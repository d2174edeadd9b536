"""Reconciliation where every node has a model of its own: Australian tourism."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from casebook.data import real
from casebook.data.tables import tourism
from casebook.forecasting.classical import ets_with_errors
from casebook.forecasting.hierarchy import (
    Hierarchy,
    aggregate,
    from_columns,
    non_negative,
    reconcile,
)
from casebook.forecasting.scores import heatmap, score
from casebook.forecasting.weighted import weighted
from casebook.recorded.real import from_real

KEYS = ["unique_id", "ds"]
#: Levels of Australian tourism by the columns that a node stands for.
CROSSED = {
    "total": [],
    "state": ["state"],
    "purpose": ["purpose"],
    "region": ["state", "region"],
    "state × purpose": ["state", "purpose"],
    "bottom": ["unique_id"],
}
#: A smaller tree, for a run within a page: 32 bottom series of states and purposes.
STATES = {"total": [], "state": ["state"], "purpose": ["purpose"], "bottom": ["unique_id"]}
TREES = {"regions": CROSSED, "states": STATES}
WAYS = ("naive", "base", "bottom_up", "ols", "wls_struct", "wls", "mint")
#: First of eight quarters each; a year apart, so that neighbours share four.
ORIGINS = ("2013-01-01", "2014-01-01", "2015-01-01", "2016-01-01")
#: AutoETS by default (all chosen by AICc), and with an additive season.
OPTIONS = ("ZZZ", "ZZA")
QUARTERS = 8


def _last_seasons(past: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """Return the same quarter of the last year, in the order of ``asked``."""
    last = past.assign(quarter=past["ds"].dt.quarter).sort_values("ds")
    last = last.drop_duplicates(["unique_id", "quarter"], keep="last")
    wanted = asked[KEYS].assign(quarter=asked["ds"].dt.quarter)
    keys = ["unique_id", "quarter"]
    return wanted.merge(last[[*keys, "y"]], on=keys, how="left", validate="m:1")["y"].to_numpy()


def _by_structure(base: pd.DataFrame, australia: Hierarchy, method: str) -> np.ndarray:
    """Reconcile by OLS or structural WLS, in the order of ``base``; not negative."""
    wide = base.pivot(index="ds", columns="unique_id", values="base")[australia.nodes]
    S = australia.S
    weights = np.ones(len(S)) if method == "ols" else S.sum(axis=1)
    coherent = non_negative(S, weighted(S, wide.to_numpy().T, weights)).T
    table = pd.DataFrame(coherent, index=wide.index, columns=wide.columns).stack()
    return table.reindex(pd.MultiIndex.from_frame(base[["ds", "unique_id"]])).to_numpy()


def by_state(trips: pd.DataFrame) -> pd.DataFrame:
    """Sum the regions of a state: 32 series of trips by state and purpose."""
    sums = trips.groupby(["state", "purpose", "ds"], as_index=False)["y"].sum()
    return sums.assign(unique_id=sums["state"] + "/" + sums["purpose"])


def trips_from(
    trips: pd.DataFrame,
    origin: str = ORIGINS[-1],
    options: str = OPTIONS[0],
    levels: Mapping[str, Sequence[str]] = CROSSED,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecast eight quarters of Australian tourism at all levels, and reconcile.

    Parameters
    ----------
    trips : DataFrame
        ``casebook.data.tables.tourism``.
    origin : str
        First quarter to forecast.
    options : str
        Of AutoETS, one for each node: the base forecasts.
    levels : mapping
        One of :data:`TREES`; the smaller one for trips :func:`by_state`.

    Returns
    -------
    forecasts : DataFrame
        ``unique_id``, ``level``, ``ds``, ``origin``, ``y`` and a column for each of :data:`WAYS`.
    nodes : DataFrame
        All nodes with their history.
    """
    australia = from_columns(trips, levels)
    nodes, first = aggregate(trips, australia), pd.Timestamp(origin)
    past = nodes[nodes["ds"] < first]
    after = nodes["ds"].between(first, first + pd.DateOffset(months=3 * QUARTERS - 1))
    result = nodes[after].assign(origin=first)
    asked = result.drop(columns="y")
    result["naive"] = _last_seasons(past, asked)
    result["base"], errors = ets_with_errors(past, asked, 4, "QS", options)
    for method in ("ols", "wls_struct"):
        result[method] = _by_structure(result, australia, method)
    for method in ("bottom_up", "wls", "mint"):
        result[method], _ = reconcile(result, australia, method, "base", errors)
    return result, nodes


def _score(forecasts: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Return ``level`` (``pooled`` is all nodes), ``way``, ``RMSE`` and ``MASE``."""
    ways, levels = list(WAYS), list(forecasts["level"].unique())
    squares = forecasts[ways].rsub(forecasts["y"], axis=0) ** 2
    rmse = np.sqrt(squares.groupby(forecasts["level"], sort=False).mean())
    rmse.loc["pooled"] = np.sqrt(squares.mean())
    scores = score(forecasts, nodes, ways, ["level"], season=4)
    frame = pd.DataFrame({"RMSE": rmse.stack(), "MASE": heatmap(scores, "MASE", levels).stack()})
    places = pd.MultiIndex.from_product([[*levels, "pooled"], ways], names=["level", "way"])
    return frame.reindex(places).reset_index()


def real_tourism(
    origins: Sequence[str] = ORIGINS,
    options: Sequence[str] = OPTIONS,
    trees: Sequence[str] = tuple(TREES),
) -> pd.DataFrame:
    """Score forecasts of Australian tourism by origin, options of the base model, level and way.

    Parameters
    ----------
    origins, options, trees : sequence of str
        Parts of :data:`ORIGINS`, :data:`OPTIONS` and :data:`TREES`. One origin of the smaller tree
        takes three seconds, one of the whole 20.

    Returns
    -------
    DataFrame
        ``tree`` (regions, 304 bottom series; states, 32), ``options``, ``origin`` (first quarter,
        or "all"), ``level`` (``pooled`` is all nodes), ``way``, ``RMSE`` (thousand trips) and
        ``MASE`` (none where pooled).
    """
    trips, parts = tourism(real("tourism")), []
    for tree, option in product(trees, options):
        bottom = by_state(trips) if tree == "states" else trips
        made = [trips_from(bottom, origin, option, TREES[tree]) for origin in origins]
        every = pd.concat([forecasts for forecasts, _ in made], ignore_index=True)
        cuts = {day: every[every["origin"] == day] for day in origins} | {"all": every}
        for name, rows in cuts.items():
            table = _score(rows, made[0][1])
            parts.append(table.assign(tree=tree, options=option, origin=name))
    columns = ["tree", "options", "origin", "level", "way", "RMSE", "MASE"]
    return from_real(pd.concat(parts, ignore_index=True)[columns], "tourism")
