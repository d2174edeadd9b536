"""One world after the other: the ladder's forecasts, their scores, and what holds over all worlds.

The models are those of the chapter, with their defaults; nothing is chosen here. Worlds 11 to 25
were looked at only after world, models and this module were fixed. Every panel is clean: the feed's
faults are the pipeline's matter. What would be new next time is another world, so every interval is
a paired t interval over worlds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pandas as pd

from casebook.cases.demand_forecasting import world as worlds
from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.oracle import add_oracle, oracle_quantiles
from casebook.evaluate.gap import gaps
from casebook.evaluate.intervals import mean_interval
from casebook.forecasting.classical import seasonal_naive_week, seasonal_naive_year
from casebook.forecasting.cold_start import with_cold_start
from casebook.forecasting.direct import lightgbm_direct
from casebook.forecasting.ensemble import combine, learn_weights
from casebook.forecasting.hierarchy import Hierarchy, aggregate, from_ids
from casebook.forecasting.recursive import lightgbm_recursive
from casebook.forecasting.rules import rules
from casebook.forecasting.scores import score
from casebook.forecasting.staffing import Rates
from casebook.forecasting.walk import (
    add_reconciled,
    bottom_up,
    planning_origins,
    route_forecasts,
    walk_forward,
)

KEYS = ["unique_id", "ds"]
LEVELS = ("total", "country", "depot", "route")
METRICS = ("WAPE", "MASE", "RMSSE")
#: Worlds of the headline.
SEEDS = tuple(range(11, 26))
TEST = tuple(planning_origins(worlds.DAYS[-1]))
#: The four origins before the test: MinT's errors, the ensemble's weights, the order's quantile.
VALIDATION = tuple(planning_origins(worlds.DAYS[-1], 4, skip=len(TEST)))
ORIGINS = (*VALIDATION, *TEST)
NAIVE, RULES, MODEL, ORACLE = "naive_week", "rules", "direct_bottom_up", "oracle"
RECONCILED = ("bottom_up", "top_down", "wls", "mint")
#: ``direct`` is the base forecast of every node; at the routes it is the bottom-up one too.
METHODS = (
    NAIVE,
    "naive_year",
    RULES,
    "direct",
    *(f"direct_{method}" for method in RECONCILED),
    "recursive_bottom_up",
    "ensemble_bottom_up",
    ORACLE,
    "oracle_median",
)
#: Quantiles of the world's own distribution by column: the ends of its band, its median, its order.
TRUE = {0.1: "low", 0.5: "oracle_median", Rates().quantile: "oracle_order", 0.9: "high"}


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


@cache
def base_forecasts(seed: int, origins: tuple[pd.Timestamp, ...]) -> pd.DataFrame:
    """Forecast all nodes by the naive methods and the direct model, and the routes by the rules."""
    here = setting(seed)
    forecasters = {
        NAIVE: seasonal_naive_week,
        "naive_year": seasonal_naive_year,
        "direct": with_cold_start(lightgbm_direct),
    }
    result = walk_forward(here.panel, here.tree, forecasters, origins)
    routes = route_forecasts(here.panel, {RULES: with_cold_start(rules)}, origins)
    sums = bottom_up(routes, here.tree, [RULES]).drop(columns=["level", "y"])
    return result.merge(sums, on=[*KEYS, "origin"], validate="1:1")


def recursive_and_ensemble(seed: int, origins: tuple[pd.Timestamp, ...]) -> pd.DataFrame:
    """Forecast by the recursive model and by the ensemble that the validation origins weigh."""
    keys, here = [*KEYS, "origin"], setting(seed)
    recursive = {"recursive": with_cold_start(lightgbm_recursive)}
    routes = route_forecasts(here.panel, recursive, origins)
    direct = base_forecasts(seed, origins)[[*keys, "direct"]]
    routes = routes.merge(direct, on=keys, how="left", validate="1:1")
    validation = routes[routes["origin"].isin(VALIDATION)]
    routes["ensemble"] = combine(routes, learn_weights(validation, ["direct", "recursive"]))
    sums = bottom_up(routes, here.tree, ["recursive", "ensemble"]).drop(columns=["level", "y"])
    return sums.rename(columns={name: f"{name}_bottom_up" for name in ("recursive", "ensemble")})


def forecasts(
    seed: int, test: tuple[pd.Timestamp, ...] = TEST, ensemble: bool = True
) -> pd.DataFrame:
    """Return all forecasts of one world, at the validation origins and at those of the test.

    Parameters
    ----------
    seed : int
    test : tuple of Timestamp
    ensemble : bool
        With the recursive model and the ensemble, which cost as much as all others.

    Returns
    -------
    DataFrame
        ``level``, ``unique_id``, ``ds``, ``origin``, ``y``, a column for each of :data:`METHODS`,
        and the world's own quantiles (``low``, ``oracle_order``, ``high``). Weights by errors need
        an earlier origin: at the first one they are those of bottom-up.
    """
    return _forecasts(seed, test, ensemble)


@cache  # one key, however the arguments were given
def _forecasts(seed: int, test: tuple[pd.Timestamp, ...], ensemble: bool) -> pd.DataFrame:
    here, origins = setting(seed), (*VALIDATION, *test)
    keys, base = [*KEYS, "origin"], base_forecasts(seed, origins)
    first, _ = add_reconciled(base, here.tree, "direct", origins[:1], ["bottom_up", "top_down"])
    first = first.assign(**{f"direct_{way}": first[MODEL] for way in ("wls", "mint")})
    later, _ = add_reconciled(base, here.tree, "direct", origins[1:], RECONCILED)
    result = add_oracle(pd.concat([first, later], ignore_index=True), here.world, here.tree)
    true = pd.concat(
        oracle_quantiles(here.world, day, here.tree, tuple(TRUE)).assign(origin=day) for day in test
    ).rename(columns=TRUE)
    result = result.merge(true, on=keys, how="left", validate="1:1")
    if ensemble:
        result = result.merge(recursive_and_ensemble(seed, origins), on=keys, validate="1:1")
    return result


def one_world(
    seed: int, test: tuple[pd.Timestamp, ...] = TEST, ensemble: bool = True, by_origin: bool = True
) -> pd.DataFrame:
    """Score the ladder in one world.

    Parameters
    ----------
    seed, test, ensemble
        As for :func:`forecasts`.
    by_origin : bool
        One row for each origin, or one over all of them.

    Returns
    -------
    DataFrame
        ``seed``, ``origin`` (a day, or "all"), ``level``, ``model`` and three metrics.
    """
    made = forecasts(seed, test, ensemble)
    result = made[made["origin"].isin(test)]
    models = [name for name in METHODS if name in result]
    by = ["level", "origin"] if by_origin else ["level"]
    scores = score(result, setting(seed).history, models, by)
    day = scores["origin"].dt.strftime("%Y-%m-%d") if by_origin else "all"
    return scores.assign(seed=seed, origin=day)[["seed", "origin", "level", "model", *METRICS]]


def _over_origins(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["origin"] == "all"]


def shares(
    table: pd.DataFrame, model: str = MODEL, floor: str = NAIVE, metric: str = "WAPE"
) -> pd.DataFrame:
    """Return the share of the gap to the oracle that a model closes, by level.

    Parameters
    ----------
    table : DataFrame
        ``seed``, ``origin``, ``level``, ``model`` and ``metric``: the recorded table ``worlds``.
    model, floor : str
        What closes the gap, and what it is counted from: last week's value, or the rules.
    metric : str

    Returns
    -------
    DataFrame
        Index ``level``; ``share``, ``low``, ``high`` (95 % t interval over worlds) and ``worlds``.
    """
    rows = _over_origins(table)
    rows = rows.assign(share=gaps(rows, floor, ORACLE, metric, within=["seed", "level"]))
    own = rows[rows["model"] == model].groupby("level", sort=False)["share"]
    found = {level: (*mean_interval(values), len(values)) for level, values in own}
    columns = ["share", "low", "high", "worlds"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis("level")


def differences(
    table: pd.DataFrame, model: str, baseline: str, metric: str = "WAPE"
) -> pd.DataFrame:
    """Compare two models on the same worlds, by level.

    Parameters
    ----------
    table : DataFrame
        As for :func:`shares`.
    model, baseline, metric : str

    Returns
    -------
    DataFrame
        Index ``level``; ``change`` (model over baseline, less one: negative is better), ``low``,
        ``high`` (95 % paired t interval over worlds), ``wins`` (worlds in which the model is
        better) and ``worlds``.
    """
    wide = _over_origins(table).pivot(index=["level", "seed"], columns="model", values=metric)
    ratio = (wide[model] / wide[baseline] - 1).groupby("level", sort=False)
    found = {
        level: (*mean_interval(values), int((values < 0).sum()), len(values))
        for level, values in ratio
    }
    columns = ["change", "low", "high", "wins", "worlds"]
    frame = pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis("level")
    return frame.reindex([level for level in LEVELS if level in frame.index])
