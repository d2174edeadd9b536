"""What a good score does not show: a break, new routes, other constants, features left out.

The functions take worlds, and what else spans their table, so that a part of a recorded table can
be computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting import world as worlds
from casebook.cases.demand_forecasting.oracle import add_oracle, complete_oracle
from casebook.cases.demand_forecasting.studies import (
    KEYS,
    LEVELS,
    NAIVE,
    ORACLE,
    SEEDS,
    TEST,
    VALIDATION,
    Setting,
    setting,
    simulate,
)
from casebook.evaluate.gap import gap_closed
from casebook.forecasting.classical import seasonal_naive_week
from casebook.forecasting.cold_start import NEW, analogue, with_cold_start
from casebook.forecasting.direct import half_life, leave_out, lightgbm_direct
from casebook.forecasting.recursive import lightgbm_recursive
from casebook.forecasting.walk import (
    HORIZON,
    Forecaster,
    bottom_up,
    cut,
    route_forecasts,
    walk_forward,
)
from casebook.recorded.studies import Change
from casebook.recorded.studies import sensitivity as varied

#: Worlds of the costlier tables, and those on which models were chosen.
FIVE_SEEDS, VALIDATION_SEEDS = SEEDS[:5], (101, 102)

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
