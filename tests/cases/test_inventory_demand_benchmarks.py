"""Case 03: its studies in a reduced setting say what they must; what is recorded is not stale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.inventory_demand import benchmarks, fresh, public, stress, studies
from casebook.cases.inventory_demand.benchmarks import BENCHMARKS
from casebook.cases.inventory_demand.demand import CHAPTER, STACKS
from casebook.cases.inventory_demand.policies import LEVELS, RATIO
from casebook.cases.inventory_demand.studies import MODEL, ORACLE, Setting
from casebook.data import RealDataUnavailable
from casebook.recorded import bench

SEED = 5


@pytest.fixture(autouse=True)
def small_worlds(monkeypatch):
    """Let every study ask for a world of three stores."""
    made = studies.setting

    def small(seed, constants=None, stores=3):
        return made(seed, constants, stores)

    for module in (studies, stress, fresh, benchmarks):
        monkeypatch.setattr(module, "setting", small)


def mean(table: pd.DataFrame, value: str, *by: str) -> pd.Series:
    return table.groupby([*by])[value].mean()


def test_the_cheapest_level_is_the_ratio_and_rises_with_the_life():
    table = studies.surface([SEED], (studies.MEAN, 0.5, RATIO, 0.95))
    cost = mean(table, "cost", "policy", "life", "level")
    for policy in (MODEL, ORACLE):
        for life in (1, 7):
            assert cost[policy, life].idxmin() == RATIO
        assert cost[policy, 28].idxmin() == 0.95
    assert cost[MODEL, 1, RATIO] < cost[MODEL, 1, studies.MEAN] < cost[MODEL, 1, 0.95]


def test_lost_trust_raises_the_level_that_pays():
    table = studies.trust([SEED], (RATIO, 0.9), (0.0, 0.3))
    cost = mean(table[table["life"] == 1], "cost", "trust", "level")
    assert cost[0.0].idxmin() == RATIO and cost[0.3].idxmin() == 0.9


def test_ways_to_read_days_that_sold_out_differ_as_they_must():
    table = studies.censoring([SEED]).set_index(["rhythm", "way"])
    assert (table["hidden"] > 0.05).all()
    for rhythm in ("fresh", "weekly"):
        bias = table.loc[rhythm, "bias"]
        assert bias[["as sold", "dropped"]].max() < -0.2
        assert bias[["kaplan_meier", "tobit"]].abs().max() < 0.15


def test_pooled_priors_save_what_new_cells_lose():
    cost = mean(studies.cold_start([SEED, 6]), "cost", "policy")
    for prior in ("pooled prior", "category mean"):  # three stores do not tell which is better
        assert 1.1 * cost[ORACLE] < cost[prior] < 0.9 * cost["own days"]


def test_forecasts_behind_the_orders_are_scored_by_category():
    table = studies.forecasts([SEED])
    wide = table.pivot(index="category", columns="policy", values="pinball")
    assert len(wide) == 7 and (wide[ORACLE] < wide["safety stock, as sold"]).all()
    bias = mean(table, "bias", "policy")
    assert bias["lightgbm, as sold"] < -0.05 < bias[MODEL] < 0.1


def test_the_sum_of_targets_covers_more_than_the_level():
    covered = studies.sums([SEED]).set_index("unit")["covered"]
    assert abs(covered["cell"] - RATIO) < 0.06
    assert covered["cell"] < covered["product region"] < covered["category region"]


def test_leaving_features_out_and_constants_changed_are_billed():
    table = studies.ablation([SEED]).set_index("without")["cost"]
    assert len(table) == 10 and (table / table["nothing"] - 1).abs().max() < 0.1
    table = benchmarks.sensitivity([SEED], (1.0, 2.0))
    cost = mean(table, "cost", "constant", "factor", "policy")
    for name in ("product shocks", "dispersion"):
        assert cost[name, 2.0, ORACLE] > cost[name, 1.0, ORACLE]


def test_what_breaks_orders_costs():
    cost = mean(stress.horizon([SEED]), "cost", "horizon")
    assert cost["seven days"] > cost["ten days"]
    cost = mean(stress.missing([SEED]), "cost", "what")
    assert cost["no promotions"] > 1.03 * cost["all there"]
    assert abs(cost["no weather"] / cost["all there"] - 1) < 0.05


def test_stacked_promotions_are_ordered_too_high_and_a_cap_lowers_them():
    table = stress.promotions([SEED])
    target = mean(table, "target", "promotion", "policy")
    assert target["stacked", MODEL] > 1.05 * target["stacked", ORACLE]
    assert target["stacked", "capped"] < target["stacked", MODEL]
    assert target["none", "capped"] == pytest.approx(target["none", MODEL], rel=0.01)


def test_promotions_are_billed_at_the_prices_of_each_life(monkeypatch):
    here = studies.setting(SEED)
    life = here.world.plan.life

    def flat(*_):  # ten units too many in each window
        values = {"day": STACKS + 3, "length": 7, "wanted": 10.0, "target": 20.0, "point": 20.0}
        return pd.DataFrame({"cell": np.arange(len(life)), **values})

    monkeypatch.setattr(stress, "windows", flat)
    monkeypatch.setattr(Setting, "play", lambda *_: None)
    table = stress.promotions([SEED])
    own = table[table["policy"] == MODEL]
    over = sum(2.0 if days <= 7 else 5 * (1 - LEVELS[days]) / LEVELS[days] for days in life)
    assert (own["cost"] * own["windows"]).sum() == pytest.approx(over)
    assert own["spoils"].to_numpy() == pytest.approx(2.0)


def test_a_habit_costs_and_knowledge_pays_and_the_audit_tells_them_apart():
    table = stress.overrides([SEED]).set_index("planner")
    habit, knows = table.loc["a third more after a stock-out"], table.loc["knows of the swan"]
    assert habit["lines"] > 50 and habit[["by_sales", "by_demand", "in_world"]].max() < 0
    assert knows[["by_sales", "by_demand", "in_world"]].min() > 0
    assert knows["as_waste"] < knows["by_sales"]


def test_the_swan_alarms_where_its_demand_is_seen_and_quiet_weeks_do_not():
    table = stress.drift([SEED, 6])
    delay = table.set_index(["seed", "category"])["delay"]
    assert delay[[(SEED, "pantry"), (6, "pantry")]].max() <= 3
    assert table["quiet"].sum() <= 1 and (table["days"] > 60).all()


def test_later_vans_save_and_a_smaller_budget_is_worth_more():
    cost = mean(fresh.six_hours([SEED]), "cost", "schedule")
    vans = mean(fresh.six_hours([SEED]), "vans", "schedule")
    assert vans["once"] == 0 and vans["every six hours"] == 2 * vans["and at noon"]
    assert 2.0 * 130 < vans["and at noon"] <= 3 * 140  # two stores and one that opens late
    assert cost["every six hours"] < cost["and at noon"] < 0.95 * cost["once"]
    table = benchmarks.budgets(SEED, (np.inf, 900.0, 450.0))
    assert table["worth"].is_monotonic_increasing and table["worth"].iloc[0] == 0
    assert table["units"].is_monotonic_decreasing


@pytest.mark.parametrize("name", ["real_yaz", "real_retail"])
def test_on_public_data_every_rung_beats_last_week(name):
    try:
        table = getattr(public, name)()
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    rows = table[table["series"] == "all"].set_index("model")
    assert (rows["cost"].drop("last week") < rows.loc["last week", "cost"]).all()
    assert rows.loc["lightgbm", "service"] == pytest.approx(RATIO, abs=0.04)
    # A textbook wins here, as the page says; by how much is told with an interval.
    assert rows["cost"].idxmin() == "days added"
    assert rows.loc["safety stock", ["ratio", "low", "high"]].tolist() == [1, 1, 1]
    assert (rows["low"] <= rows["ratio"]).all() and (rows["ratio"] <= rows["high"]).all()
    ahead = rows["cost"] / rows.loc["safety stock", "cost"]
    np.testing.assert_allclose(rows["ratio"], ahead)


def test_what_is_recorded_is_one_of_the_benchmarks_and_of_todays_code():
    recorded = bench.tables(CHAPTER)
    assert {*recorded} <= {*BENCHMARKS}
    assert not [name for name in recorded if bench.stale(CHAPTER, name)]
