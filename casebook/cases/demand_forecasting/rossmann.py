"""The shipped model meets real data: daily sales of 1,115 drug stores with promotions and holidays.

Nothing of the model is changed for it: the same features, ``lightgbm_direct`` with its parameters,
sums, order quantile, bands and alarm. A store is what a route was; its type and assortment take the
places of country and depot, the distance to the next competitor that of the route's length.

A store's opening days are planned, so they are known ahead: a closed day has no row, is forecast as
zero and is not scored (:mod:`~casebook.cases.demand_forecasting.stores`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.stores import LAST, panel
from casebook.data import real
from casebook.data.tables import rossmann
from casebook.forecasting.bands import bands, coverage
from casebook.forecasting.classical import auto_ets, seasonal_naive_week
from casebook.forecasting.cold_start import with_cold_start
from casebook.forecasting.direct import lightgbm_direct
from casebook.forecasting.hierarchy import Hierarchy, aggregate, from_ids
from casebook.forecasting.rules import rules, seasonal_rules
from casebook.forecasting.scores import score
from casebook.forecasting.staffing import Rates, order_coverage, order_quantile
from casebook.forecasting.walk import (
    HORIZON,
    Forecaster,
    add_reconciled,
    bottom_up,
    planning_origins,
    walk_forward,
)
from casebook.recorded.real import from_real
from casebook.serving.monitor import DriftAlarm, daily_errors

KEYS = ["unique_id", "ds"]
LEVELS = ("total", "type", "assortment", "store")
TEST = tuple(planning_origins(LAST))
#: Two origins before the test, for errors of earlier forecasts.
VALIDATION = tuple(planning_origins(LAST, 2, skip=len(TEST)))
#: The fixed sample: each fifth store. Reconciliation by errors is run on it alone.
EVERY = 5
NAIVE, RULES, MODEL = "naive_week", "rules", "direct_bottom_up"
PATHS = 200
METRICS = ["WAPE", "MASE", "MAPE", "RMSPE"]


def answering(forecaster: Forecaster) -> Forecaster:
    """Let analogues answer for new stores, and a store's own mean where no analogue is open.

    A store that opens on its first Sunday for years has no such day to learn from, and may be the
    only one of its kind that is open: 108 rows of some 180,000 take the mean of its last 56 days.
    """

    def forecast(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        values = with_cold_start(forecaster)(train, future)
        recent = train[train["ds"] >= future["ds"].min() - pd.Timedelta(days=56)]
        usual = future["unique_id"].map(recent.groupby("unique_id")["y"].mean())
        return np.where(np.isnan(values), usual, values)

    return forecast


def ets_of_sums(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast sums of stores by AutoETS; a day without any open store counts as zero."""
    days = pd.date_range(train["ds"].min(), train["ds"].max())
    wide = train.pivot(index="ds", columns="unique_id", values="y").reindex(days).fillna(0.0)
    complete = wide.rename_axis("ds").reset_index().melt("ds", value_name="y")
    return auto_ets(complete, future)


def forecasts(
    rows: pd.DataFrame, origins: Sequence[pd.Timestamp], ets: bool = False
) -> pd.DataFrame:
    """Walk forward over all levels: last week's value and rules summed up, the model both ways.

    Parameters
    ----------
    rows : DataFrame
        See :func:`panel`.
    origins : sequence of Timestamp
    ets : bool
        With AutoETS of the levels above the stores.

    Returns
    -------
    DataFrame
        ``level``, ``unique_id``, ``ds``, ``origin``, ``y``, ``direct`` (the model at each node),
        ``naive_week``, ``rules``, ``direct_bottom_up`` and ``ets`` (NaN at the stores).
    """
    tree = from_ids(rows["unique_id"], LEVELS[1:])
    models = {"direct": answering(lightgbm_direct)}
    if ets:
        models["ets"] = ets_of_sums
    result = walk_forward(rows, tree, models, origins, only_above=["ets"])
    simple = {NAIVE: seasonal_naive_week, RULES: answering(rules)}
    bottom = walk_forward(rows, tree, simple, origins, levels=["store"])
    direct = result.loc[result["level"] == "store", [*KEYS, "origin", "direct"]]
    keys = [*KEYS, "origin"]
    bottom = bottom.merge(direct.rename(columns={"direct": MODEL}), on=keys, validate="1:1")
    sums = bottom_up(bottom, tree, [NAIVE, RULES, MODEL]).drop(columns=["level", "y"])
    return result.merge(sums, on=keys, how="left", validate="1:1")


def scores(result: pd.DataFrame, rows: pd.DataFrame, by_origin: bool = False) -> pd.DataFrame:
    """Score all models by level, with the competition's RMSPE beside WAPE and MASE.

    Returns
    -------
    DataFrame
        ``origin`` ("all" or a day), ``level``, ``model``, ``WAPE``, ``MASE``, ``MAPE`` and
        ``RMSPE`` (root mean square of the relative errors).
    """
    tree = from_ids(rows["unique_id"], LEVELS[1:])
    history = aggregate(rows, tree)
    columns = ["direct", NAIVE, RULES, MODEL, "direct_wls", "direct_mint", "ets"]
    models, by = [c for c in columns if c in result], ["level"]
    if by_origin:
        by.append("origin")
    table = score(result, history, models, by).set_index([*by, "model"])
    relative = result[models].rsub(result["y"], axis=0).div(result["y"], axis=0) ** 2
    square = relative.groupby([result[c] for c in by]).mean().rename_axis(columns="model").stack()
    table["RMSPE"] = np.sqrt(square)
    table = table[METRICS].dropna().reset_index()
    origin = table["origin"].dt.strftime("%Y-%m-%d") if by_origin else "all"
    return table.assign(origin=origin)[["origin", "level", "model", *METRICS]]


# What is recorded --------------------------------------------------------------------


def orders(result: pd.DataFrame) -> pd.DataFrame:
    """Return how often the 71.4 % order of a store suffices: over all, and over the stores."""
    stores = result[result["level"] == "store"]
    ordered = order_quantile(stores, MODEL, TEST, Rates().quantile)
    covered = order_coverage(stores, ordered)
    pooled = np.average(covered["covered"], weights=covered["days"])
    low, high = covered["covered"].quantile([0.1, 0.9])
    found = {"order": pooled, "order, worst tenth": low, "order, best tenth": high}
    rows = [(name, "store", MODEL, value) for name, value in found.items()]
    return pd.DataFrame(rows, columns=["what", "level", "model", "value"])


def band_coverage(result: pd.DataFrame, tree: Hierarchy) -> pd.DataFrame:
    """Return the coverage of the model's 80 % band by level, errors drawn jointly or apart."""
    parts = []
    for what, joint in (("band", True), ("band, independent", False)):
        table = coverage(bands(result, MODEL, TEST, tree, n=PATHS, joint=joint))
        parts.append(table.assign(what=what, model=MODEL, value=table["coverage"]))
    return pd.concat(parts, ignore_index=True)[["what", "level", "model", "value"]]


def alarms(result: pd.DataFrame) -> pd.DataFrame:
    """Return the days that the drift alarm watched and on which it fired, by type of store.

    An origin comes every 28 days, so forecasts of 1 to 28 days ahead are scored, not of a week.
    """
    stores = result[result["level"] == "store"]
    made = stores[["origin", *KEYS, MODEL]].rename(columns={MODEL: "y_hat"})
    types = stores[["unique_id"]].drop_duplicates()
    types["country"] = types["unique_id"].str.split("/").str[0]
    none = pd.DataFrame({"country": pd.Series(dtype=str), "ds": pd.Series(dtype="datetime64[ns]")})
    errors = daily_errors(made, stores[[*KEYS, "y"]], types, none, leads=HORIZON)
    rows = []
    for kind in errors:
        path = DriftAlarm().path(errors[kind])
        watched, fired = path["usual"].notna().sum(), path["fires"].sum()
        rows += [("days watched", kind, MODEL, watched), ("alarms", kind, MODEL, fired)]
    return pd.DataFrame(rows, columns=["what", "level", "model", "value"])


def _on_all(sales: pd.DataFrame) -> pd.DataFrame:
    rows = panel(sales)
    result = forecasts(rows, (*VALIDATION, *TEST), ets=True)
    test = result[result["origin"].isin(TEST)]
    tree = from_ids(rows["unique_id"], LEVELS[1:])
    scored = scores(test, rows).assign(what="score")
    more = [orders(result), band_coverage(result, tree), alarms(result)]
    return pd.concat([scored, *more], ignore_index=True).assign(stores="all")


def _on_sample(sales: pd.DataFrame) -> pd.DataFrame:
    rows = panel(sales, EVERY)
    origins, tree = (*VALIDATION, *TEST), from_ids(rows["unique_id"], LEVELS[1:])
    result = forecasts(rows, origins)
    result, _ = add_reconciled(result, tree, "direct", TEST, ["wls", "mint"])
    both = [scores(result, rows), scores(result, rows, by_origin=True)]
    return pd.concat(both, ignore_index=True).assign(what="score", stores="sample")


COLUMNS = ["stores", "what", "origin", "level", "model", *METRICS, "value"]


def real_rossmann() -> pd.DataFrame:
    """Walk forward over the last 24 weeks of Rossmann's stores, six origins.

    Returns
    -------
    DataFrame
        ``stores`` (all, or the sample of each fifth, the only one that is reconciled by errors),
        ``what`` (score; order: share of store-days that the 71.4 % order served; band: coverage of
        the 80 % band; days watched and alarms of the drift alarm, by type), ``origin`` (or "all"),
        ``level``, ``model``, four metrics of scores, ``value`` of the others.
    """
    sales = rossmann(real("rossmann"))
    table = pd.concat([_on_all(sales), _on_sample(sales)], ignore_index=True)
    return from_real(table.fillna({"origin": "all"})[COLUMNS], "rossmann")


# At equal information ----------------------------------------------------------------

#: The model on the sums, told how much opens; rules with last year's index.
OPEN, SEASONAL = "direct_open", "rules_season"


def open_shares(rows: pd.DataFrame, tree: Hierarchy, origin: pd.Timestamp) -> pd.DataFrame:
    """Return which share of a node's volume opens on each day: what its stores know of closures.

    Parameters
    ----------
    rows : DataFrame
        See :func:`panel`; of the days from the origin on, only which stores have a row is read.
    tree : Hierarchy
    origin : Timestamp
        A store's volume is the mean of its open days in the year before it.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``open``.
    """
    year = [origin - pd.Timedelta(days=n) for n in (364, 1)]
    volume = rows[rows["ds"].between(*year)].groupby("unique_id")["y"].mean().rename("every")
    opened = rows[KEYS].assign(open=rows["unique_id"].map(volume).fillna(0.0))
    every = aggregate(volume.reset_index().assign(ds=origin), tree, ["every"])
    both = aggregate(opened, tree, ["open"]).merge(every[["unique_id", "every"]], on="unique_id")
    return both[KEYS].assign(open=both["open"] / both["every"])


def told_what_opens(rows: pd.DataFrame, tree: Hierarchy) -> Forecaster:
    """Let the model forecast sums as if every store opened, and multiply by the share that does.

    On the two origins before the test this was better for the chain than the share as one more
    feature (WAPE .140 against .175 on the sample; without either .198).
    """

    def forecast(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        shares = open_shares(rows, tree, future["ds"].min())
        past, ahead = (part[KEYS].merge(shares, how="left", on=KEYS) for part in (train, future))
        full = train.assign(y=train["y"].to_numpy() / past["open"].to_numpy())
        return lightgbm_direct(full, future) * ahead["open"].to_numpy()

    return forecast


def _informed(rows: pd.DataFrame, origins: Sequence[pd.Timestamp], by_origin: bool) -> pd.DataFrame:
    """Score the sums that know what opens, and the rules with a season, summed up."""
    tree = from_ids(rows["unique_id"], LEVELS[1:])
    told = {OPEN: told_what_opens(rows, tree)}
    upper = walk_forward(rows, tree, told, origins, levels=LEVELS[:-1])
    season = {SEASONAL: answering(seasonal_rules)}
    stores = walk_forward(rows, tree, season, origins, levels=LEVELS[-1:])
    sums = bottom_up(stores, tree, [SEASONAL])
    parts, by = [], ["level", "origin"] if by_origin else ["level"]
    for made, model in ((upper, OPEN), (sums, SEASONAL)):
        parts.append(score(made, aggregate(rows, tree), [model], by))
    table = pd.concat(parts, ignore_index=True)
    origin = table["origin"].dt.strftime("%Y-%m-%d") if by_origin else "all"
    return table.assign(origin=origin)[["origin", "level", "model", "WAPE", "MASE"]]


def real_rossmann_informed() -> pd.DataFrame:
    """Walk forward as :func:`real_rossmann` does, at equal information and by better rules.

    Returns
    -------
    DataFrame
        ``stores`` (all; of the sample only the last origin, which a reduced run is compared
        with), ``origin``, ``level``, ``model`` (the model on sums that is told what opens; rules
        with last year's index), ``WAPE``, ``MASE``.
    """
    sales = rossmann(real("rossmann"))
    every = _informed(panel(sales), TEST, by_origin=False).assign(stores="all")
    return from_real(pd.concat([every, live_informed()], ignore_index=True), "rossmann")


def live_informed() -> pd.DataFrame:
    """Run the sample of :func:`real_rossmann_informed` at the last origin."""
    rows = panel(rossmann(real("rossmann")), EVERY)
    return _informed(rows, TEST[-1:], by_origin=True).assign(stores="sample")


def live(origins: Sequence[pd.Timestamp] = TEST[-1:]) -> pd.DataFrame:
    """Run a part of the recorded table: the sample, one origin, nothing that needs earlier ones.

    Returns
    -------
    DataFrame
        The columns of :func:`real_rossmann` up to ``RMSPE``.
    """
    rows = panel(rossmann(real("rossmann")), EVERY)
    table = scores(forecasts(rows, origins), rows, by_origin=True)
    return table.assign(what="score", stores="sample")[COLUMNS[:-1]]
