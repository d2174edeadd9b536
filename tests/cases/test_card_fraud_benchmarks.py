"""Case 12: what is recorded holds every row, agrees with itself and with a reduced live run."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import bank, benchmarks, models, protocol, studies
from casebook.cases.card_fraud.policy import between, business, decide_by
from casebook.cases.card_fraud.world import constants as worlds
from casebook.cases.card_fraud.world import simulate
from casebook.recorded import bench

CASE = "12_card_fraud"
POLICIES = (
    "allow all",
    "rules",
    "block, one threshold",
    "confirm, one threshold",
    "confirm, within the guardrail",
    "0.01 / 0.5 / 0.9",
    "tiers from costs",
    "tiers, within the guardrail",
    "knows every fraud",
)
GRIDS = {
    "trials": {"family": benchmarks.LADDER, "trial": range(models.TRIALS)},
    "ladder": {
        "seed": benchmarks.SEEDS,
        "span": tuple(benchmarks.SPANS),
        "model": ("rules", *benchmarks.LADDER, "bank's model", "oracle"),
    },
    "waits": {"seed": benchmarks.SEEDS[:3], "wait": (0, 7, 14, 21, 28, 42)},
    "policies": {"seed": benchmarks.SEEDS, "policy": POLICIES},
    "segments": {
        "seed": benchmarks.SEEDS[:3],
        "policy": ("rules", "tiers, within the guardrail", "tiers from costs"),
        "segment": ("standard", "elderly", "newcomer"),
    },
    "selective": {
        "seed": benchmarks.SEEDS[:3],
        "training": benchmarks.TRAININGS[:1],
        "holdback": benchmarks.HOLDBACKS,
    },
    "sensitivity": {
        "seed": benchmarks.SEEDS[:2],
        "constant": benchmarks.CONSTANTS,
        "factor": benchmarks.FACTORS,
        "policy": (
            "allow all",
            "rules",
            "block, one threshold",
            "tiers, within the guardrail",
            "knows every fraud",
        ),
    },
    "graph": {"step": tuple(benchmarks.STEPS.values()), "metric": ("AP", "recall")},
    "rings": {"victims": (1, 2, 3)},
    "handbook_trials": {"family": benchmarks.PEERS, "trial": range(models.TRIALS)},
    "handbook": {
        "week": [week.name for week in studies.handbook_weeks()[1]],
        "family": (*benchmarks.PEERS, "XGBoost as published", "truth"),
    },
    "imbalance": {
        "week": [week.name for week in studies.handbook_weeks()[1]],
        "way": tuple(studies.WAYS),
    },
    "real_handbook_week": {
        "family": ("logistic regression", "LightGBM", "XGBoost as published", "truth")
    },
    "real_thinned": {"keep": (1.0, 0.3, 0.1, 0.03, 0.01)},
    "real_ulb": {"family": ("logistic regression", "LightGBM")},
}


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CASE, name).frame


def test_every_benchmark_is_recorded_and_has_a_grid():
    assert bench.tables(CASE) == sorted(benchmarks.BENCHMARKS) == sorted(GRIDS)


@pytest.mark.parametrize("name", GRIDS)
def test_every_row_is_recorded(name):
    table, grid = recorded(name), GRIDS[name]
    have = set(table[list(grid)].itertuples(index=False, name=None))
    assert have >= set(itertools.product(*grid.values()))


def test_tuning_saw_no_world_that_is_scored():
    assert not set(benchmarks.SEEDS) & {worlds.SEED, *bank.TUNING}


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


def test_a_reduced_live_run_agrees_with_the_ladder():
    seed, span = benchmarks.SEEDS[0], "before the wave"
    choice = benchmarks._recorded_choice()
    live = benchmarks.ladder(
        [seed], {span: benchmarks.SPANS[span]}, ("logistic regression", "XGBoost"), chosen=choice
    )
    table = recorded("ladder")
    both = live.merge(table, on=["seed", "span", "model"], suffixes=("", "_recorded"))
    assert len(both) == len(live) == 5
    for name in ("AP", "recall", "card precision", "log skill"):
        np.testing.assert_allclose(both[f"{name}_recorded"], both[name], rtol=0.02, atol=2e-3)


def test_a_reduced_live_run_agrees_with_the_policies():
    seed, name = benchmarks.SEEDS[0], "tiers, within the guardrail"
    here = bank.drawn(seed, benchmarks.CUSTOMERS, benchmarks.DAYS, benchmarks.START)
    score = here.train().score
    decide = decide_by(score, benchmarks.choices(here, score)[name])
    live = business(
        between(benchmarks.run(here, decide, seed), here.start), between(here.world, here.start)
    )
    table = recorded("policies").set_index(["seed", "policy"])
    row = table.loc[(seed, name)]
    for column in ("cost", "friction", "fraud stopped"):
        assert row[column] == pytest.approx(live[column], rel=0.03), column


def test_changed_constants_stay_shares():
    usual = worlds.Constants()
    passes = benchmarks.CONSTANTS["attackers who pass"](usual, 2).passes
    assert max(passes) <= 0.95 and passes[0] == 2 * usual.passes[0]
    quits = benchmarks.CONSTANTS["attackers who give up"]
    assert quits(usual, 0.5).quits == pytest.approx(usual.quits / 2)
    assert quits(usual, 9).quits == 0.95


def test_the_oracle_is_the_ceiling_and_rules_the_floor():
    table = recorded("ladder").pivot_table(index="model", columns="span", values="AP")
    assert (table.drop("oracle") < table.loc["oracle"]).all(axis=None)
    assert (table.loc["bank's model"] > table.loc["rules"]).all()


def test_the_prevalence_of_the_world_is_what_the_skill_is_measured_against():
    """Planted: a skill against the test's own share would flatter whoever is miscalibrated."""
    here = bank.setting(simulate(seed=3, n_customers=400, days=60), 45)
    y = here.test["y"].to_numpy()
    constant = np.full(len(y), here.labels.mean())
    assert protocol.skill(y, constant, prevalence=here.labels.mean()) == pytest.approx(0)
