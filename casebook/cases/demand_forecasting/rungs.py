"""What the ladder of :mod:`~.studies` left open, on the same worlds: three more rungs, and weeks.

* Rules with a season, the simple rung that a model has to beat.
* One fit of all 151 nodes: with it the levels above the routes rest on the same information as
  their sums, so that bottom-up is compared at equal information.
* The error of each of the four weeks ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pandas as pd

from casebook.cases.demand_forecasting.oracle import add_oracle
from casebook.cases.demand_forecasting.studies import (
    KEYS,
    METRICS,
    MODEL,
    NAIVE,
    ORACLE,
    ORIGINS,
    SEEDS,
    TEST,
    Setting,
    setting,
)
from casebook.cases.demand_forecasting.world import SEED
from casebook.forecasting.classical import seasonal_naive_week
from casebook.forecasting.cold_start import with_cold_start
from casebook.forecasting.direct import lightgbm_direct
from casebook.forecasting.rules import seasonal_rules
from casebook.forecasting.scores import score
from casebook.forecasting.staffing import Rates, decision_table
from casebook.forecasting.walk import at_origin, bottom_up, route_forecasts

SEASONAL, ONE, ONE_UP = "rules_season", "one_fit", "one_fit_bottom_up"


@cache
def simple(seed: int, origins: tuple[pd.Timestamp, ...] = ORIGINS) -> pd.DataFrame:
    """Forecast all nodes by last week's value and by the rules with a season, summed up."""
    here = setting(seed)
    ways = {NAIVE: seasonal_naive_week, SEASONAL: with_cold_start(seasonal_rules)}
    return bottom_up(route_forecasts(here.panel, ways, origins), here.tree, list(ways))


def one_fit_at(here: Setting, origin: pd.Timestamp) -> pd.DataFrame:
    """Fit one model to all nodes at an origin; analogues answer for new routes, as in the ladder.

    Returns
    -------
    DataFrame
        ``level``, ``unique_id``, ``ds``, ``origin``, ``y``, ``one_fit`` (of each node) and
        ``one_fit_bottom_up`` (sums of its routes).
    """
    train, future, actual = at_origin(here.panel, here.tree, origin)
    values = lightgbm_direct(train.drop(columns="level"), future.drop(columns="level"))
    bottom = future["level"].eq("route").to_numpy()
    cold = with_cold_start(lambda _, __: values[bottom])
    values[bottom] = cold(train[train["level"] == "route"], future[bottom])
    made = future[["level", *KEYS]].assign(origin=origin, **{ONE: values})
    sums = bottom_up(made[bottom].rename(columns={ONE: ONE_UP}).assign(y=0.0), here.tree, [ONE_UP])
    made = made.merge(sums.drop(columns=["level", "y"]), on=[*KEYS, "origin"], validate="1:1")
    return made.merge(actual, on=["level", *KEYS], validate="1:1")


def scored(
    seed: int, origins: Sequence[pd.Timestamp] = TEST, by_origin: bool = False
) -> pd.DataFrame:
    """Score the three rungs in one world: the columns of :func:`rungs`."""
    here = setting(seed)
    made = pd.concat([one_fit_at(here, day) for day in origins], ignore_index=True)
    keys = [*KEYS, "origin"]
    made = made.merge(simple(seed)[[*keys, SEASONAL]], on=keys, validate="1:1")
    by = ["level", "origin"] if by_origin else ["level"]
    scores = score(made, here.history, [SEASONAL, ONE, ONE_UP], by)
    day = scores["origin"].dt.strftime("%Y-%m-%d") if by_origin else "all"
    return scores.assign(seed=seed, origin=day)[["seed", "origin", "level", "model", *METRICS]]


def rungs(numbers: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Score rules with a season and one fit of all nodes over the ladder's worlds.

    Returns
    -------
    DataFrame
        ``seed``, ``origin`` ("all"; of the first world also its first origin alone, which a
        reduced run is compared with), ``level``, ``model`` and three metrics.
    """
    parts = [scored(seed) for seed in numbers]
    return pd.concat([*parts, scored(numbers[0], TEST[:1], by_origin=True)], ignore_index=True)


def rules_staffing(numbers: Sequence[int] = (*SEEDS, SEED)) -> pd.DataFrame:
    """Cost the depots' staff by the rules with a season: the columns of the table ``staffing``."""
    parts = []
    for seed in numbers:
        depots = simple(seed).query("level == 'depot'")
        table = decision_table(depots, [NAIVE, SEASONAL], TEST, Rates())
        parts.append(table[table["model"] == SEASONAL].assign(seed=seed))
    return pd.concat(parts, ignore_index=True)[["seed", "model", "order", "euros", "avoidable"]]


def by_week(made: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Return ``week`` (1 is the first ahead), ``level``, ``model`` and the pooled ``WAPE``."""
    week = ((made["ds"] - made["origin"]).dt.days // 7 + 1).rename("week")
    errors = made[list(models)].rsub(made["y"], axis=0).abs().assign(y=made["y"])
    sums = errors.groupby([week, made["level"]]).sum()
    table = sums[list(models)].div(sums["y"], axis=0).rename_axis(columns="model")
    return table.stack().rename("WAPE").reset_index()


def weeks(numbers: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Score last week's value, rules, the model and the oracle by the week ahead.

    Returns
    -------
    DataFrame
        ``seed``, ``week`` (1 to 4), ``level``, ``model``, ``WAPE`` over the test origins.
    """
    parts, keys = [], [*KEYS, "origin"]
    for seed in numbers:
        here, model = setting(seed), {MODEL: with_cold_start(lightgbm_direct)}
        made = bottom_up(route_forecasts(here.panel, model, TEST), here.tree, [MODEL])
        made = made.merge(simple(seed)[[*keys, NAIVE, SEASONAL]], on=keys, validate="1:1")
        made = add_oracle(made, here.world, here.tree)
        parts.append(by_week(made, [NAIVE, SEASONAL, MODEL, ORACLE]).assign(seed=seed))
    return pd.concat(parts, ignore_index=True)[["seed", "week", "level", "model", "WAPE"]]
