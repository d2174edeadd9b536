"""Case 12: what is recorded holds every row, agrees with itself and with a reduced live run."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import bank, benchmarks, labels, models, studies
from casebook.cases.card_fraud.world import constants as worlds
from casebook.cases.card_fraud.world import simulate
from casebook.evaluate.frontier import at_budget
from casebook.evaluate.rare import skill
from casebook.recorded import bench

CASE = "12_card_fraud"
POLICIES = (
    *("allow all", "rules", "0.01 / 0.5 / 0.9", "knows every fraud"),
    *(benchmarks.named(f, limit) for f in benchmarks.FAMILIES for limit in benchmarks.LIMITS),
    *map(benchmarks.named, (*benchmarks.VARIANTS, *benchmarks.MODELS)),
)
WEEKS = [week.name for week in studies.handbook_weeks()[1]]
GRIDS = {
    "trials": {"family": benchmarks.LADDER, "trial": range(models.TRIALS)},
    "ladder": {
        "seed": benchmarks.SEEDS,
        "span": tuple(benchmarks.SPANS),
        "model": (
            *("rules", "truth", *benchmarks.LADDER, *benchmarks.BLENDS),
            benchmarks.SHIPPED,
        ),
    },
    "policies": {"seed": benchmarks.SEEDS, "policy": POLICIES},
    "segments": {
        "seed": benchmarks.SEEDS,
        "policy": benchmarks.TOLD,
        "segment": ("standard", "elderly", "newcomer"),
    },
    "delayed": {
        "seed": benchmarks.SEEDS,
        "labels": labels.KINDS,
        "model": ("line", "trees", "both"),
    },
    "selective": {
        "seed": benchmarks.SEEDS,
        "policy": labels.ACTING,
        "training": ("truth", "labelled", "stopped as fraud", "weighted"),
    },
    "sensitivity": {
        "seed": benchmarks.SEEDS,
        "change": benchmarks.CHANGES,
        "policy": benchmarks.COMPARED,
    },
    "handbook_trials": {"family": benchmarks.LADDER, "trial": range(models.TRIALS)},
    "handbook": {"week": WEEKS, "family": (*benchmarks.LADDER, *studies.PUBLISHED, "truth")},
    "imbalance": {"week": WEEKS, "way": tuple(studies.WAYS)},
    "real_thinned": {"keep": (1.0, 0.3, 0.1, 0.03, 0.01)},
}


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CASE, name).frame


def test_every_benchmark_is_recorded_and_has_a_grid():
    assert bench.tables(CASE) == sorted(benchmarks.BENCHMARKS) == sorted(GRIDS)


@pytest.mark.parametrize("name", GRIDS)
def test_no_table_is_stale(name):
    assert not bench.stale(CASE, name)


@pytest.mark.parametrize("name", GRIDS)
def test_every_row_is_recorded(name):
    table, grid = recorded(name), GRIDS[name]
    have = set(table[list(grid)].itertuples(index=False, name=None))
    assert have >= set(itertools.product(*grid.values()))


def test_tuning_saw_no_world_that_is_scored():
    assert not set(benchmarks.SEEDS) & {worlds.SEED, *bank.TUNING}
    assert len(benchmarks.SEEDS) >= 15


def test_the_gap_is_what_the_costs_say():
    table = recorded("policies")
    again = benchmarks.with_gap(table.drop(columns="gap"))
    np.testing.assert_allclose(again["gap"], table["gap"], atol=1e-3)
    ends = again.pivot(index="seed", columns="policy", values="gap")
    np.testing.assert_allclose(ends[[benchmarks.BASELINE, benchmarks.FLOOR]], [[0, 1]] * len(ends))


def test_the_chosen_setting_is_the_best_of_the_trials():
    for name in ("trials", "handbook_trials"):
        table = recorded(name)
        best = table.loc[table.groupby("family")["AP"].idxmax()]
        assert best["chosen"].astype(bool).all() and table["chosen"].astype(bool).sum() == len(best)
    table = recorded("trials")
    chosen = table[table["chosen"].astype(bool)]
    assert dict(zip(chosen["family"], chosen["trial"], strict=True)) == bank.CHOSEN


def test_a_reduced_live_run_agrees_with_the_ladder():
    seed, span = benchmarks.SEEDS[0], "before the wave"
    live = benchmarks.ladder(
        [seed], {span: benchmarks.SPANS[span]}, ("logistic regression", "XGBoost")
    )
    table = recorded("ladder")
    both = live.merge(table, on=["seed", "span", "model"], suffixes=("", "_recorded"))
    assert len(both) == len(live) == 7
    for name in ("AP", "recall", "card precision", "log skill"):
        np.testing.assert_allclose(both[f"{name}_recorded"], both[name], rtol=0.02, atol=2e-3)


def test_a_reduced_live_run_agrees_with_the_policies():
    seed, name = benchmarks.SEEDS[0], benchmarks.WITHIN
    size = (benchmarks.CUSTOMERS, benchmarks.DAYS, benchmarks.START)
    live = benchmarks.in_world.__wrapped__(seed, *size, only=("rules", name))[0]
    table = recorded("policies")
    row = table.loc[(table["seed"] == seed) & (table["policy"] == name)].iloc[0]
    again = live.set_index("policy").loc[name]
    for column in ("cost", "merchants", "friction", "fraud stopped", "gap"):
        assert row[column] == pytest.approx(again[column], rel=0.03), column


def test_policies_disturb_about_as_many_as_they_may_and_more_the_more_they_may():
    table = recorded("policies")
    answers = table[table["family"] == "three answers"]
    wide = answers.pivot(index="seed", columns="limit", values="friction")
    assert (wide[0.002] < wide[0.01]).mean() > 0.9
    for limit in (0.002, 0.005, 0.01):
        assert 0.6 * limit < wide[limit].mean() < 1.5 * limit
    for family in benchmarks.FAMILIES:
        part = table[(table["family"] == family) & (table["limit"] == 0.002)]
        assert part["friction"].mean() < 0.003, family


def test_every_family_has_a_point_within_the_guardrail_in_every_world():
    table = recorded("policies")
    found = at_budget(table[table["family"].isin(list(benchmarks.FAMILIES))], 0.01)
    assert len(found) == len(benchmarks.FAMILIES) * len(benchmarks.SEEDS)


def test_the_policy_that_knows_who_bears_a_fraud_pays_less_where_merchants_do():
    table = recorded("policies").pivot(index="seed", columns="policy")
    pays = table["cost"] - table["merchants"]
    knows = benchmarks.named("merchants bear online")
    assert (pays[knows] - pays[benchmarks.WITHIN]).mean() < 0


def test_changes_move_what_they_say():
    usual = worlds.Constants()
    passes = benchmarks.CHANGES["attackers who pass × 2"][0].passes
    assert max(passes) <= 0.95 and passes[0] == 2 * usual.passes[0]
    assert benchmarks.CHANGES["attackers who give up × 0.5"][0].quits == usual.quits / 2
    table = benchmarks.sensitivity(
        [2], ("as it is", "price of a lost customer × 2", "margin at the European cap"), 150
    ).pivot(index="policy", columns="change", values="cost")
    assert (table["price of a lost customer × 2"] >= table["as it is"]).all()
    assert (table["margin at the European cap"] <= table["as it is"]).all()


def test_perfect_knowledge_is_the_ceiling_and_rules_the_floor():
    table = recorded("ladder").pivot_table(index="model", columns="span", values="AP")
    assert (table.drop("truth") < table.loc["truth"]).all(axis=None)
    assert (table.loc[benchmarks.SHIPPED] > table.loc["rules"]).all()


def test_the_prevalence_of_the_world_is_what_the_skill_is_measured_against():
    """Planted: a skill against the test's own share would flatter whoever is miscalibrated."""
    here = bank.setting(simulate(seed=3, n_customers=400, days=60), 45)
    y = here.test["y"].to_numpy()
    constant = np.full(len(y), here.labels.mean())
    assert skill(y, constant, prevalence=here.labels.mean()) == pytest.approx(0)
