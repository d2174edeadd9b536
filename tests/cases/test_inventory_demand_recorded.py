"""Case 03: recorded tables agree with a reduced live run, and with what the page says in words."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from casebook.cases.inventory_demand import benchmarks, public, studies
from casebook.cases.inventory_demand.demand import CHAPTER
from casebook.cases.inventory_demand.policies import RATIO
from casebook.cases.inventory_demand.studies import (
    CHOSEN_ON,
    FILLED,
    GRID,
    LIVES,
    MODEL,
    NAIVE,
    ORACLE,
    RULES,
    SEEDS,
    USED,
)
from casebook.data import RealDataUnavailable
from casebook.evaluate.intervals import mean_interval
from casebook.forecasting.censored_levels import WAYS
from casebook.recorded import bench

#: Five digits are recorded; other machines may add up in another order.
CLOSE = {"rtol": 2e-3, "atol": 1e-4}
FACTOR, ADDED, STALE = "factor, tobit", "days added, tobit", "oracle of last month"
LADDER = (
    *(NAIVE, USED, RULES, "factor, as sold", "lightgbm, as sold", ADDED, FILLED, FACTOR),
    *("raw, tobit", MODEL, STALE, ORACLE, "lightgbm, dropped", "lightgbm, kaplan_meier"),
)
SOLD = (RULES, "factor, as sold", "lightgbm, as sold")
GRIDS = {
    "service": {"what": ("Sunday run", "GET")},
    "worlds": {"seed": SEEDS, "policy": LADDER, "life": (0, *LIVES)},
    "forecasts": {"seed": SEEDS, "policy": (RULES, FILLED, MODEL)},
    "surface": {"seed": SEEDS[:5], "policy": (MODEL,), "life": LIVES},
    "trust": {"seed": CHOSEN_ON, "trust": (0.0, 0.3), "life": (1, 7)},
    "censoring": {"seed": SEEDS, "way": WAYS, "rhythm": ("fresh", "weekly")},
    "cold_start": {"seed": SEEDS, "policy": ("own days", "category mean", "pooled prior", ORACLE)},
    "horizon": {"seed": SEEDS, "horizon": ("seven days", "ten days")},
    "promotions": {
        "seed": SEEDS,
        "policy": (FILLED, MODEL, "capped", ORACLE),
        "promotion": ("none", "one", "stacked"),
    },
    "overrides": {"seed": SEEDS},
    "missing": {"seed": CHOSEN_ON, "what": ("all there", "no weather", "no promotions")},
    "drift": {"seed": SEEDS, "category": ("pantry", "drinks")},
    "six_hours": {"seed": SEEDS, "schedule": ("once", "and at noon", "every six hours")},
    "sensitivity": {"constant": tuple(benchmarks.CONSTANTS), "factor": (0.5, 1.0, 2.0)},
    "budgets": {"budget": benchmarks.BUDGETS},
    "real_yaz": {"model": ("last week", "safety stock", "factor", "lightgbm")},
    "real_retail": {"model": ("last week", "safety stock", "factor", "lightgbm")},
}


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CHAPTER, name).frame


def costs(life: int = 0, what: str = "cost") -> pd.DataFrame:
    table = recorded("worlds").query(f"life == {life}")
    return table.pivot(index="seed", columns="policy", values=what)


def ratio(one: str, other: str, life: int = 0):
    cost = costs(life)
    return mean_interval(cost[one] / cost[other])


def assert_agrees(live: pd.DataFrame, table: pd.DataFrame, keys: list[str]) -> None:
    """Compare a live run with the recorded rows of the same keys; each must be there once."""
    both = live.merge(table, on=keys, how="left", suffixes=("", "_recorded"), validate="1:1")
    assert len(both) == len(live) > 0
    for column in live.select_dtypes("number").columns.difference(keys):
        np.testing.assert_allclose(both[f"{column}_recorded"], both[column], **CLOSE)


def test_every_benchmark_is_recorded():
    assert bench.tables(CHAPTER) == sorted(benchmarks.BENCHMARKS)
    assert {*GRIDS} <= {*benchmarks.BENCHMARKS}


@pytest.mark.parametrize("name", GRIDS)
def test_every_row_is_recorded(name):
    table, grid = recorded(name), GRIDS[name]
    rows = set(table[list(grid)].itertuples(index=False, name=None))
    assert rows >= set(itertools.product(*grid.values()))


# A reduced live run ------------------------------------------------------------------


def test_recorded_worlds_agree_with_one_that_is_played_now():
    here = studies.setting(SEEDS[0])
    live = pd.concat(
        studies.bills(here.world, here.play(policy)).assign(policy=name, seed=SEEDS[0])
        for name, policy in studies.rungs(here, ("tobit",), {FILLED, MODEL})
    )
    keys, table = ["seed", "policy", "life"], recorded("worlds")
    assert len(live) == 2 * (1 + len(LIVES))
    assert_agrees(live, table, keys)
    wrong = table.copy()
    row = wrong.query(f"seed == {SEEDS[0]} and policy == '{MODEL}' and life == 7").index[0]
    wrong.loc[row, "cost"] *= 1.005
    with pytest.raises(AssertionError, match="Not equal"):
        assert_agrees(live, wrong, keys)


def test_recorded_budgets_agree_with_a_sunday_that_runs_now():
    caps = benchmarks.BUDGETS[::3]
    assert_agrees(benchmarks.budgets(caps=caps), recorded("budgets"), ["budget"])


@pytest.mark.parametrize("name", ["real_yaz", "real_retail"])
def test_recorded_public_data_agree_with_a_live_run(name):
    try:
        live = getattr(public, name)()
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    assert_agrees(live.drop(columns="data"), recorded(name), ["model", "series"])


# What the page says in words ---------------------------------------------------------


def test_the_worlds_were_fresh():
    assert len(SEEDS) >= 15 and not {*SEEDS} & {2026, *CHOSEN_ON}


def test_filling_saves_and_lightgbm_saves_on_its_strongest_peer():
    assert ratio(FILLED, RULES).high < 1
    assert ratio(MODEL, FILLED).high < 1 and ratio(MODEL, FACTOR).high < 1
    assert ratio(MODEL, "lightgbm, as sold").high < 1 < ratio("lightgbm, dropped", MODEL).low


def test_the_dots_of_the_ladder_lie_as_the_alt_text_says():
    cost = costs()
    mean = cost.div(cost[ORACLE], axis=0).mean()
    filled = [ADDED, FILLED, FACTOR, "raw, tobit", MODEL]
    assert mean[filled].max() < mean[[*SOLD, USED]].min()
    assert mean[list(SOLD)].idxmin() == "lightgbm, as sold"
    assert mean[filled].idxmin() in (MODEL, "raw, tobit")
    assert mean[filled].min() < mean[STALE] < mean[filled].max()


def test_no_oracle_of_last_month_bounds_a_model_that_sees_this_evenings_sales():
    assert ratio(MODEL, STALE).high < 1 < ratio(MODEL, ORACLE).low


def test_the_cheapest_levels_are_where_figure_and_headline_put_them():
    table = recorded("surface").query(f"policy == '{MODEL}' and level > 0").round({"level": 3})
    cost = table.groupby(["life", "level"])["cost"].mean()
    levels = np.round(sorted(level for level in GRID if level > 0), 3)
    for life in (1, 7):
        assert cost[life].idxmin() == round(RATIO, 3)
    assert min(cost[life].idxmin() for life in (14, 28)) >= 0.95
    parts = table.groupby(["life", "level"])[["short", "over", "hold"]].mean()
    for short, over in ((5, 2), (5, 1), (5, 5), (10, 2), (19, 1)):
        euro = parts["short"] * short / 5 + parts["over"] * over / 2 + parts["hold"]
        near = np.argsort(np.abs(levels - short / (short + over)))[:2]
        for life in (1, 7):
            assert euro[life].idxmin() in levels[near]
        assert min(euro[life].idxmin() for life in (14, 28)) >= 0.9


def test_fillings_find_hidden_demand_and_the_other_ways_do_not():
    bias = recorded("censoring").groupby(["rhythm", "way"])["bias"].agg(["min", "max"])
    for rhythm in ("fresh", "weekly"):
        assert bias.loc[[(rhythm, "as sold"), (rhythm, "dropped")], "max"].max() < -0.1
        own = bias.loc[[(rhythm, "kaplan_meier"), (rhythm, "tobit")]]
        assert own.abs().max(axis=None) < 0.1


def test_knowledge_saves_and_a_habit_costs():
    saved = recorded("overrides").pivot(index="seed", columns="planner", values="in_world")
    assert mean_interval(saved["knows of the swan"]).low > 0
    assert mean_interval(saved["a third more after a stock-out"]).high < 0


def test_lost_customers_raise_the_cheapest_level_as_the_closed_form_says():
    cost = recorded("trust").pivot_table(index=["life", "trust"], columns="level", values="cost")
    levels = cost.idxmin(axis=1)
    for life in (1, 7):
        assert levels[life, 0.3] > levels[life, 0.0] == pytest.approx(RATIO, abs=1e-3)
        assert abs(levels[life, 0.3] - 35 / 37) < 0.05


def test_two_promotions_are_forecast_too_high_and_a_cap_lowers_that():
    point = recorded("promotions").groupby(["policy", "promotion"])["point"].mean()
    assert point[MODEL, "stacked"] > 1.03 > point[MODEL, "one"]
    assert point["capped", "stacked"] < point[MODEL, "stacked"]


def test_last_week_serves_less_than_half_and_vans_save():
    fill = costs(what="fill")
    assert fill[NAIVE].mean() < 0.5 < fill[USED].mean()
    vans = recorded("six_hours").pivot(index="seed", columns="schedule", values="cost")
    assert mean_interval(vans["and at noon"] / vans["once"]).high < 1
    # One order by the gamma prior is the model's: the two bills of fresh goods may be compared.
    assert abs((vans["once"] / costs(1)[MODEL]).mean() - 1) < 0.02
