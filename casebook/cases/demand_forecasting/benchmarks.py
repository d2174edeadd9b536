"""What case 01 records: eight tables over many worlds, one on public data: ``make bench N=01``.

The models are those of the chapter, with their defaults; nothing is chosen here. Worlds 11 to 18
were looked at only after world, models and this module were fixed. Every panel is clean: the feed's
faults are the pipeline's matter. A table's rows stand alone, so that a part of it can be computed
again: each function takes seeds, and what else spans the table.

The tables of one run share worlds and forecasts; the seconds of the first one include them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting import world as worlds
from casebook.cases.demand_forecasting.evaluation import (
    add_oracle,
    add_reconciled,
    complete_oracle,
    heatmap,
    order_quantile,
    paired_interval,
    planning_origins,
    score,
    staffing_cost,
    staffing_quantile,
    walk_forward,
)
from casebook.cases.demand_forecasting.features import HORIZON, add_known
from casebook.cases.demand_forecasting.forecasters import (
    NEW,
    Forecaster,
    analogue,
    combine,
    ets_with_errors,
    half_life,
    learn_weights,
    leave_out,
    lightgbm_direct,
    lightgbm_recursive,
    seasonal_naive_week,
    seasonal_naive_year,
    with_cold_start,
)
from casebook.data import real
from casebook.data.tables import tourism
from casebook.evaluate.gap import gap_closed, gaps
from casebook.forecasting.hierarchy import (
    Hierarchy,
    aggregate,
    from_columns,
    from_ids,
    reconcile,
)
from casebook.recorded.real import from_real
from casebook.recorded.studies import Change
from casebook.recorded.studies import sensitivity as varied

if TYPE_CHECKING:
    from distributed import Client

KEYS = ["unique_id", "ds"]
LEVELS = ("total", "country", "depot", "route")
METRICS = ("WAPE", "MASE", "RMSSE")
#: Worlds of the headline, those of the dearer tables, and those on which models were chosen.
SEEDS, FIVE_SEEDS, VALIDATION_SEEDS = tuple(range(11, 19)), tuple(range(11, 16)), (101, 102)
TEST = tuple(planning_origins(worlds.DAYS[-1]))
#: The four origins before the test: MinT's errors, the ensemble's weights, the order's quantile.
VALIDATION = tuple(planning_origins(worlds.DAYS[-1], 4, skip=len(TEST)))

NAIVE, ORACLE = "naive_week", "oracle"
RECONCILED = ("bottom_up", "top_down", "wls", "mint")
#: ``direct`` is the base forecast of every node; at the routes it is the bottom-up one too.
METHODS = (
    NAIVE,
    "naive_year",
    "direct",
    *(f"direct_{method}" for method in RECONCILED),
    "recursive_bottom_up",
    "ensemble_bottom_up",
    ORACLE,
)


# Worlds and forecasts that tables share ----------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A world as the forecasters see it.

    Attributes
    ----------
    world : World
        For its oracle.
    panel : DataFrame
        Routes: ``unique_id``, ``ds``, ``y`` (what was really sent) and the known features.
    tree : Hierarchy
    history : DataFrame
        ``level``, ``unique_id``, ``ds``, ``y`` of all nodes.
    """

    world: worlds.World
    panel: pd.DataFrame
    tree: Hierarchy
    history: pd.DataFrame


def simulate(seed: int, constants: worlds.Constants | None = None) -> Setting:
    """Simulate a world and lay out its panel."""
    world = worlds.simulate(seed, constants)
    rows = world.truth[[*KEYS, "y"]].astype({"y": float})
    panel = add_known(rows, world.routes, world.calendar, world.promotions)
    tree = from_ids(world.routes["unique_id"], LEVELS[1:])
    return Setting(world, panel, tree, aggregate(panel, tree))


setting = cache(simulate)


def cut(panel: pd.DataFrame, origin: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the routes' rows before an origin, and those of the 28 days from it on."""
    last = origin + pd.Timedelta(days=HORIZON - 1)
    ahead = panel[panel["ds"].between(origin, last)].reset_index(drop=True)
    return panel[panel["ds"] < origin], ahead


def route_forecasts(
    panel: pd.DataFrame, forecasters: Mapping[str, Forecaster], origins: Sequence[pd.Timestamp]
) -> pd.DataFrame:
    """Forecast the routes alone: all that bottom-up needs, at half the cost of all levels.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``origin``, ``y`` and one column for each forecaster.
    """
    parts = []
    for origin in origins:
        train, ahead = cut(panel, origin)
        asked = ahead.drop(columns="y")
        made = {name: forecast(train, asked) for name, forecast in forecasters.items()}
        parts.append(ahead[[*KEYS, "y"]].assign(origin=origin, **made))
    return pd.concat(parts, ignore_index=True)


def bottom_up(routes: pd.DataFrame, tree: Hierarchy, columns: Sequence[str]) -> pd.DataFrame:
    """Sum actuals and forecasts of routes to all levels, origin by origin."""
    sums = [
        aggregate(rows, tree, ["y", *columns]).assign(origin=origin)
        for origin, rows in routes.groupby("origin")
    ]
    return pd.concat(sums, ignore_index=True)


@cache
def direct_forecasts(seed: int, origins: tuple[pd.Timestamp, ...]) -> pd.DataFrame:
    """Forecast all nodes by the two naive methods and the direct model."""
    forecasters = {
        NAIVE: seasonal_naive_week,
        "naive_year": seasonal_naive_year,
        "direct": with_cold_start(lightgbm_direct),
    }
    return walk_forward(setting(seed).panel, setting(seed).tree, forecasters, origins)


def reconciled(seed: int, test: tuple[pd.Timestamp, ...] = TEST) -> pd.DataFrame:
    """Reconcile the direct forecasts of the test origins, and add the oracle."""
    here, base = setting(seed), direct_forecasts(seed, (*VALIDATION, *test))
    result, _ = add_reconciled(base, here.tree, "direct", test, RECONCILED)
    return add_oracle(result, here.world, here.tree)


def recursive_and_ensemble(seed: int, test: tuple[pd.Timestamp, ...] = TEST) -> pd.DataFrame:
    """Forecast by the recursive model and by the ensemble that the validation origins weigh."""
    keys, origins = [*KEYS, "origin"], (*VALIDATION, *test)
    recursive = {"recursive": with_cold_start(lightgbm_recursive)}
    routes = route_forecasts(setting(seed).panel, recursive, origins)
    direct = direct_forecasts(seed, origins)[[*keys, "direct"]]
    routes = routes.merge(direct, on=keys, how="left", validate="one_to_one")
    validation = routes[routes["origin"].isin(VALIDATION)]
    routes["ensemble"] = combine(routes, learn_weights(validation, ["direct", "recursive"]))
    names = ["recursive", "ensemble"]
    sums = bottom_up(routes[routes["origin"].isin(test)], setting(seed).tree, names)
    return sums.rename(columns={name: f"{name}_bottom_up" for name in names})


@cache
def all_forecasts(seed: int) -> pd.DataFrame:
    """Return the forecasts of all methods at the test origins."""
    more = recursive_and_ensemble(seed).drop(columns=["level", "y"])
    return reconciled(seed).merge(more, on=[*KEYS, "origin"], how="left", validate="one_to_one")


# The headline ------------------------------------------------------------------------


def with_gap(scores: pd.DataFrame) -> pd.DataFrame:
    """Add the share of the gap from last week's value to the oracle, by level and metric."""
    for metric in METRICS:
        scores[f"gap_{metric}"] = gaps(scores, NAIVE, ORACLE, metric, within="level")
    return scores


def seeds(numbers: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Score all methods over fresh worlds, six origins each.

    Returns
    -------
    DataFrame
        ``seed``, ``level``, ``model``, three metrics and the share of the gap in each of them.
    """
    parts = []
    for seed in numbers:
        scores = score(all_forecasts(seed), setting(seed).history, METHODS, ["level"])
        parts.append(with_gap(scores[["level", "model", *METRICS]].copy()).assign(seed=seed))
    columns = ["seed", "level", "model", *METRICS, *(f"gap_{metric}" for metric in METRICS)]
    return pd.concat(parts, ignore_index=True)[columns]


def by_origin(seed: int = SEEDS[0]) -> pd.DataFrame:
    """Score all methods origin by origin in one world: what a reduced run is compared with."""
    scores = score(all_forecasts(seed), setting(seed).history, METHODS)
    scores["origin"] = scores["origin"].dt.strftime("%Y-%m-%d")
    return scores.assign(seed=seed)[["seed", "origin", "level", "model", *METRICS]]


#: Model and what it is compared with.
PAIRS = (
    ("direct_mint", "direct_bottom_up"),
    ("direct_bottom_up", "direct"),
    ("direct_bottom_up", NAIVE),
)


def paired(numbers: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Compare methods pairwise, with a 95 % interval over origins and series.

    Returns
    -------
    DataFrame
        ``seed``, ``level``, ``model``, ``baseline`` and the difference in MASE with its ends;
        negative is better. The bottom-up forecast of a route is its base forecast.
    """
    rows = []
    for seed in numbers:
        for level, result in all_forecasts(seed).groupby("level", sort=False):
            for model, baseline in PAIRS:
                ends = paired_interval(result, setting(seed).history, model, baseline)
                rows.append((seed, level, model, baseline, *ends))
    columns = ["seed", "level", "model", "baseline", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


# The break ---------------------------------------------------------------------------

BREAK_FIRST, BREAK_LAST = (
    pd.Timestamp(day) for day in (worlds.BREAK_FIRST_DAY, worlds.BREAK_LAST_DAY)
)
#: The window of the handlings: from the first possible break to two months after the last.
SHOCK_END = BREAK_LAST + pd.Timedelta(days=60)
#: Weeks from the day after the last possible break to the origin; about two years are long after.
WEEKS = (-4, 0, 4, 8, 12, 16, 24, 108)


def handlings(origin: pd.Timestamp) -> dict[str, Forecaster]:
    """Return the ways to handle the break, as they could be set up at an origin.

    While the window lasts nobody knows its end: the dummy stays on over the horizon.
    """
    first = f"{BREAK_FIRST:%Y-%m-%d}"
    ahead = origin + pd.Timedelta(days=HORIZON)
    ongoing = origin <= SHOCK_END
    dummy = (first, f"{ahead if ongoing else SHOCK_END:%Y-%m-%d}")
    settings = {
        "plain": {},
        "dummy": {"dummy": dummy},
        "half_life_365": {"day_weight": half_life(origin, 365)},
        "half_life_120": {"day_weight": half_life(origin, 120)},
        "window_out": {"day_weight": leave_out(first, f"{SHOCK_END:%Y-%m-%d}")},
        "absolute_loss": {"parameters": {"objective": "regression_l1"}},
    }
    direct = {name: partial(lightgbm_direct, **given) for name, given in settings.items()}
    ladder = {NAIVE: seasonal_naive_week, **direct, "recursive": lightgbm_recursive}
    return {name: with_cold_start(forecaster) for name, forecaster in ladder.items()}


def wapes(result: pd.DataFrame, columns: Sequence[str], levels: Sequence[str]) -> pd.DataFrame:
    """Return the pooled WAPE of each column: ``level``, ``model``, ``WAPE``."""
    rows = result[result["level"].isin(levels)]
    errors = rows[list(columns)].rsub(rows["y"], axis=0).abs().groupby(rows["level"]).sum()
    table = errors.div(rows.groupby("level")["y"].sum(), axis=0).loc[list(levels)]
    return table.rename_axis(columns="model").stack().rename("WAPE").reset_index()


def shock(numbers: Sequence[int] = FIVE_SEEDS, weeks: Sequence[int] = WEEKS) -> pd.DataFrame:
    """Forecast from origins soon after the break, by each handling of it.

    Returns
    -------
    DataFrame
        ``seed``, ``weeks`` since the last possible break, ``broken`` (countries whose break has
        come), ``level``, ``model``, ``WAPE`` of the 28 days.
    """
    parts = []
    for seed in numbers:
        here = setting(seed)
        truth = here.world.truth
        starts = truth[truth["jump"] != 0].groupby(truth["unique_id"].str[:2])["ds"].min()
        for week in weeks:
            origin = BREAK_LAST + pd.Timedelta(days=1 + 7 * week)
            ways = handlings(origin)
            routes = route_forecasts(here.panel, ways, [origin])
            result = add_oracle(bottom_up(routes, here.tree, list(ways)), here.world, here.tree)
            table = wapes(result, [*ways, ORACLE], ["total", "route"])
            parts.append(table.assign(seed=seed, weeks=week, broken=(starts < origin).sum()))
    columns = ["seed", "weeks", "broken", "level", "model", "WAPE"]
    return pd.concat(parts, ignore_index=True)[columns]


# The world's constants ---------------------------------------------------------------

#: Size of the depots' shocks in logs, and dispersion of the counts: the two parts of demand that
#: nobody can foresee. Calendars, plans and profiles have examples in the world; no source says how
#: large these two are. The noise variance beyond Poisson is one over the dispersion.
CONSTANTS: dict[str, Change] = {
    "shock size": lambda usual, factor: replace(usual, shock_sd=usual.shock_sd * factor),
    "route noise": lambda usual, factor: replace(usual, dispersion=usual.dispersion * factor**-2),
}
FACTORS = (0.5, 1.0, 2.0)


def headline(here: Setting) -> pd.DataFrame:
    """Return level, share of the gap, WAPE of naive, model and oracle of one world, bottom-up."""
    naive = walk_forward(here.panel, here.tree, {NAIVE: seasonal_naive_week}, TEST)
    routes = route_forecasts(here.panel, {"direct": with_cold_start(lightgbm_direct)}, TEST)
    sums = bottom_up(routes, here.tree, ["direct"]).drop(columns=["level", "y"])
    result = naive.merge(sums, on=[*KEYS, "origin"], validate="one_to_one")
    result = add_oracle(result, here.world, here.tree)
    table = wapes(result, [NAIVE, "direct", ORACLE], ["total", "route"])
    wide = table.pivot(index="level", columns="model", values="WAPE").loc[["total", "route"]]
    ends = zip(wide[NAIVE], wide["direct"], wide[ORACLE], strict=True)
    return wide.assign(gap=[gap_closed(*row) for row in ends]).reset_index()[
        ["level", NAIVE, "direct", ORACLE, "gap"]
    ]


def sensitivity(
    numbers: Sequence[int] = SEEDS[:3],
    names: Sequence[str] = tuple(CONSTANTS),
    factors: Sequence[float] = FACTORS,
) -> pd.DataFrame:
    """Change the two most arbitrary constants of the world, one at a time.

    The factor is one on the standard deviation: of the shocks, and of the noise beyond Poisson.
    Structure, parcels and faults have streams of their own, so the rest of the world stays.

    Returns
    -------
    DataFrame
        ``seed``, ``constant``, ``factor``, ``level``, the WAPE of last week's value, of direct
        bottom-up and of the oracle, and the ``gap`` closed in WAPE.
    """
    table = varied(
        lambda seed, constants: headline(simulate(seed, constants)),
        worlds.Constants(),
        {name: CONSTANTS[name] for name in names},
        factors,
        numbers,
    )
    return table[["seed", "constant", "factor", "level", NAIVE, "direct", ORACLE, "gap"]]


# New routes --------------------------------------------------------------------------

#: Days since the opening, at the origin.
AGES = (0, 3, 7, 14, 28)


def opening(here: Setting, name: str, origin: pd.Timestamp) -> pd.DataFrame:
    """Forecast one new route: ``y``, last week's value, analogue, direct model and oracle.

    The other routes are forecast by the direct model, with analogues where they are new too.
    """
    train, ahead = cut(here.panel, origin)
    asked, own = ahead.drop(columns="y"), (ahead["unique_id"] == name).to_numpy()
    direct = lightgbm_direct(train, asked)
    days = asked["unique_id"].map(train["unique_id"].value_counts()).fillna(0).to_numpy()
    others = np.where(own | (days < NEW), np.nan, direct)
    oracle = ahead.merge(complete_oracle(here.world, origin), on=KEYS, how="left")[ORACLE]
    made = {
        NAIVE: seasonal_naive_week(train, asked),
        "analogue": analogue(train, asked, others),
        "direct": direct,
        ORACLE: oracle.to_numpy(),
    }
    return ahead[[*KEYS, "y"]].assign(**made)[own]


def pooled(rows: pd.DataFrame, models: Sequence[str], where: str) -> pd.DataFrame:
    """Return ``routes``, ``where``, ``model``, ``WAPE`` of one or more new routes."""
    wape = rows[list(models)].rsub(rows["y"], axis=0).abs().sum() / rows["y"].sum()
    table = wape.rename_axis("model").rename("WAPE").reset_index()
    return table.assign(routes=rows["unique_id"].nunique(), where=where)


def cold_start(numbers: Sequence[int] = FIVE_SEEDS, ages: Sequence[int] = AGES) -> pd.DataFrame:
    """Forecast each route that opens, from its opening day and from days after it.

    The direct model has no answer for a route seen on fewer than five weekdays, so the rows where
    it has one are scored apart.

    Returns
    -------
    DataFrame
        ``seed``, ``age`` (days), ``where`` ("all", or "answered" by the direct model), ``routes``,
        ``model``, pooled ``WAPE`` of the 28 days.
    """
    parts, models = [], [NAIVE, "analogue", "direct", ORACLE]
    last = worlds.DAYS[-1] - pd.Timedelta(days=HORIZON - 1)
    for seed in numbers:
        routes = setting(seed).world.routes
        opens = routes[routes["opens"] > worlds.DAYS[0]].set_index("unique_id")["opens"]
        for age in ages:
            starts = (opens + pd.Timedelta(days=age)).loc[lambda day: day <= last]
            rows = pd.concat(opening(setting(seed), name, day) for name, day in starts.items())
            without = [model for model in models if model != "direct"]
            tables = [pooled(rows, without, "all")]
            if len(answered := rows.dropna(subset="direct")):
                tables.append(pooled(answered, models, "answered"))
            parts += [table.assign(seed=seed, age=age) for table in tables]
    columns = ["seed", "age", "where", "routes", "model", "WAPE"]
    return pd.concat(parts, ignore_index=True)[columns]


# Staff -------------------------------------------------------------------------------


def staffing(numbers: Sequence[int] = FIVE_SEEDS) -> pd.DataFrame:
    """Cost the depots' staff over the test origins, beyond the hours that were needed.

    Returns
    -------
    DataFrame
        ``seed``, ``model`` ("actual": the parcels that came, in shifts of whole workers),
        ``order`` (the point forecast, or raised to the critical ratio by earlier errors),
        ``euros`` a day for all depots.
    """
    rows, days = [], HORIZON * len(TEST)
    every = (*VALIDATION, *TEST)
    for seed in numbers:
        here = setting(seed)
        result, _ = add_reconciled(
            direct_forecasts(seed, every), here.tree, "direct", every, ["bottom_up"]
        )
        result = add_oracle(result[result["level"] == "depot"], here.world, here.tree)
        test = result[result["origin"].isin(TEST)]
        rows.append((seed, "actual", "point", staffing_cost(test["y"], test["y"]).sum() / days))
        for model in (NAIVE, "direct_bottom_up", ORACLE):
            orders = order_quantile(result, model, TEST, staffing_quantile())
            for order, parcels in (("point", test[model]), ("quantile", orders.loc[test.index])):
                rows.append((seed, model, order, staffing_cost(test["y"], parcels).sum() / days))
    return pd.DataFrame(rows, columns=["seed", "model", "order", "euros"])


# What the features are worth ---------------------------------------------------------

#: Features of the direct model that are left out together. Its target is relative to a level and
#: a weekday profile of plain days in every variant: these still know holidays and promotions.
VARIANTS = {
    "everything": (),
    "no holidays": ("holiday", "eve", "backlog_1", "backlog_2"),
    "no promotions": ("promotion", "lift"),
    "no day of year": ("day_of_year",),
    "no recent level": ("last_7", "last_14", "last_28"),
}


def ablation(
    numbers: Sequence[int] = VALIDATION_SEEDS, variants: Sequence[str] = tuple(VARIANTS)
) -> pd.DataFrame:
    """Leave features out, on the validation origins of the worlds that models were chosen on.

    Returns
    -------
    DataFrame
        ``seed``, ``variant``, ``level``, ``WAPE`` of direct bottom-up.
    """
    forecasters = {
        variant: with_cold_start(partial(lightgbm_direct, without=VARIANTS[variant]))
        for variant in variants
    }
    parts = []
    for seed in numbers:
        here = setting(seed)
        routes = route_forecasts(here.panel, forecasters, VALIDATION)
        table = wapes(bottom_up(routes, here.tree, variants), variants, LEVELS)
        parts.append(table.rename(columns={"model": "variant"}).assign(seed=seed))
    return pd.concat(parts, ignore_index=True)[["seed", "variant", "level", "WAPE"]]


# More than one machine ---------------------------------------------------------------


def copies(panel: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return a panel n times as large: the same routes under new ids."""
    rows = panel[[*KEYS, "y"]]
    frames = [rows.assign(unique_id=rows["unique_id"] + f"-{k}") for k in range(n)]
    return pd.concat(frames, ignore_index=True)


def digest(frame: pd.DataFrame) -> str:
    """Return a hash of a frame's values, whatever the order of its rows."""
    values = pd.util.hash_pandas_object(frame.sort_values(KEYS), index=False)
    return hashlib.sha256(values.to_numpy().tobytes()).hexdigest()


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """Return the result of a call and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def on_one_machine(panel: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Return hash of the result and seconds of features, and of features and training."""
    from casebook.cases.demand_forecasting.pipeline import lag_features, train_lightgbm

    features, seconds = timed(lambda: lag_features(panel))
    model, more = timed(lambda: train_lightgbm(features))
    text = model.booster_.model_to_string()
    return {"features": (digest(features), seconds), "training": (text, seconds + more)}


def on_cluster(panel: pd.DataFrame, client: Client) -> dict[str, tuple[str, float]]:
    """Return the same of a cluster; the features stay with the workers while they are timed."""
    from distributed import wait

    from casebook.cases.demand_forecasting.pipeline import features_dask, train_dask

    def built():
        features = features_dask(panel, client)
        wait(features)
        return features

    features, seconds = timed(built)
    gathered = digest(features.compute())
    del features
    model, more = timed(lambda: train_dask(panel, client))
    return {"features": (gathered, seconds), "training": (model.booster_.model_to_string(), more)}


def dask(sizes: Sequence[int] = (1, 4, 16), workers: Sequence[int] = (1, 2)) -> pd.DataFrame:
    """Time features and training on one machine and on its cluster of worker processes.

    Each is timed once, after a warm-up on one route. Training includes its features. The panel
    starts in the caller's memory and has to be sent to the workers.

    Returns
    -------
    DataFrame
        ``size`` (times the panel), ``rows``, ``workers`` (0: without Dask), ``step``, ``seconds``,
        ``equal`` (features and model are those of one machine, to the last bit).
    """
    from casebook.cases.demand_forecasting.pipeline import local_cluster

    panel = setting(SEEDS[0]).panel
    panels = {size: copies(panel, size) for size in sizes}
    one_route = panel[panel["unique_id"] == panel["unique_id"].iloc[0]][[*KEYS, "y"]]
    on_one_machine(one_route)
    runs = {(size, 0): on_one_machine(rows) for size, rows in panels.items()}
    for n in workers:
        with local_cluster(n, processes=True) as client:
            on_cluster(one_route, client)
            runs |= {(size, n): on_cluster(rows, client) for size, rows in panels.items()}
    table = [
        (size, len(panels[size]), n, step, seconds, result == runs[size, 0][step][0])
        for (size, n), steps in runs.items()
        for step, (result, seconds) in steps.items()
    ]
    return pd.DataFrame(table, columns=["size", "rows", "workers", "step", "seconds", "equal"])


# Public data -------------------------------------------------------------------------

#: Levels of Australian tourism by the columns that a node stands for.
CROSSED = {
    "total": [],
    "state": ["state"],
    "purpose": ["purpose"],
    "region": ["state", "region"],
    "state × purpose": ["state", "purpose"],
    "bottom": ["unique_id"],
}
REAL_WAYS = ("naive", "base", "bottom_up", "wls", "mint")


def _last_seasons(past: pd.DataFrame, asked: pd.DataFrame, season: int, freq: str) -> np.ndarray:
    """Return the seasonal naive forecasts of complete series, in the order of ``asked``."""
    from statsforecast import StatsForecast
    from statsforecast.models import SeasonalNaive

    engine = StatsForecast(models=[SeasonalNaive(season, alias="y_hat")], freq=freq, n_jobs=1)
    made = engine.forecast(df=past[[*KEYS, "y"]], h=asked["ds"].nunique())
    return asked[KEYS].merge(made, on=KEYS, how="left", validate="1:1")["y_hat"].to_numpy()


def tourism_forecasts(trips: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecast the last eight quarters of Australian tourism at all levels, and reconcile.

    Parameters
    ----------
    trips : DataFrame
        ``casebook.data.tables.tourism``.

    Returns
    -------
    forecasts : DataFrame
        ``unique_id``, ``level``, ``ds``, ``origin``, ``y`` and a column for each of ``REAL_WAYS``;
        the base forecasts are one AutoETS for each node.
    nodes : DataFrame
        All nodes with their history.
    """
    australia = from_columns(trips, CROSSED)
    nodes = aggregate(trips, australia)
    cut = np.sort(nodes["ds"].unique())[-8]
    past, result = nodes[nodes["ds"] < cut], nodes[nodes["ds"] >= cut].assign(origin=cut)
    asked = result.drop(columns="y")
    result["naive"] = _last_seasons(past, asked, 4, "QS")
    result["base"], errors = ets_with_errors(past, asked, 4, "QS")
    for method in ("bottom_up", "wls", "mint"):
        result[method], _ = reconcile(result, australia, method, "base", errors)
    return result, nodes


def real_tourism() -> pd.DataFrame:
    """Score forecasts of Australian tourism by level and method.

    Returns
    -------
    DataFrame
        ``level`` (``pooled`` is all nodes), ``way``, ``RMSE`` (thousand trips), ``MASE`` (none
        where pooled); for MinT at the bottom ``change`` in MASE to the base forecasts with
        ``low`` and ``high`` (95 % paired bootstrap).
    """
    forecasts, nodes = tourism_forecasts(tourism(real("tourism")))
    ways = list(REAL_WAYS)
    squares = forecasts[ways].rsub(forecasts["y"], axis=0) ** 2
    rmse = np.sqrt(squares.groupby(forecasts["level"], sort=False).mean())
    rmse.loc["pooled"] = np.sqrt(squares.mean())
    scores = score(forecasts, nodes, ways, ["level"], season=4)
    frame = pd.DataFrame(
        {"RMSE": rmse.stack(), "MASE": heatmap(scores, "MASE", list(CROSSED)).stack()}
    )
    bottom = forecasts[forecasts["level"] == "bottom"]
    interval = paired_interval(bottom, nodes, "mint", "base", "MASE", season=4)
    frame.loc[("bottom", "mint"), ["change", "low", "high"]] = list(interval)
    places = pd.MultiIndex.from_product([[*CROSSED, "pooled"], ways], names=["level", "way"])
    return from_real(frame.reindex(places).reset_index(), "tourism")


#: The timing comes first, while nothing else of the run loads the machine.
BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "dask": dask,
    "seeds": seeds,
    "origins": by_origin,
    "paired": paired,
    "shock": shock,
    "sensitivity": sensitivity,
    "cold_start": cold_start,
    "staffing": staffing,
    "ablation": ablation,
    "real_tourism": real_tourism,
}
