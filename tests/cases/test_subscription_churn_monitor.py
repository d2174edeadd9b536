"""Case 07: what a list was worth is read four weeks later, and a drift is told from another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import cycles, uplift
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.monitor import Listed, months_to_see, read, table, verdict
from casebook.cases.subscription_churn.month import TEST
from casebook.cases.subscription_churn.policy import Terms
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.studies import CHOSEN


def readings(months: int, risk: float = 1.0, effect: float = 1.0, seed: int = 0, n: int = 4_000):
    """Return the readings of months in which risk and effect are some times the predicted ones."""
    rng, found = np.random.default_rng(seed), []
    for month in range(months):
        expected = rng.uniform(0.05, 0.2, n)
        saves = 0.4 * expected
        held = rng.random(n) < 0.2
        chance = risk * expected - np.where(held, 0, effect * saves)
        cancelled = rng.random(n) < chance
        night = MONTH * month
        found.append(read(Listed(night, held, expected, saves), cancelled, night + MONTH))
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "nothing"),
        ({"risk": 1.6, "effect": 1.6}, "risk"),
        ({"effect": -0.5}, "effect"),
        ({"risk": 1.8, "effect": -1.0}, "risk and effect"),
    ],
)
def test_a_drift_of_the_risk_is_told_from_a_drift_of_the_effect(change, says):
    said = [verdict(readings(3, seed=seed, **change)) for seed in range(20)]
    expected = {says, "risk and effect"} if says == "risk" else {says}
    assert sum(s in expected for s in said) >= 17, said


def test_false_alarms_are_rare():
    said = [verdict(readings(3, seed=100 + seed)) for seed in range(300)]
    assert np.mean([s != "nothing" for s in said]) < 0.03


def test_precision_is_known_four_weeks_later_and_not_before():
    listed = Listed(0, np.array([True, True, False, False]), np.full(4, 0.5), np.full(4, 0.1))
    found = read(listed, [True, False, False, False], MONTH)
    assert found.precision.mean == 0.5 and found.called.mean == 0 and found.effect == 0.5
    with pytest.raises(ValueError, match="day 28, not on day 27"):
        read(listed, [True, False, False, False], MONTH - 1)
    nobody = Listed(0, np.zeros(4, bool), np.full(4, 0.5), np.full(4, 0.1))
    with pytest.raises(ValueError, match="nothing to compare"):
        read(nobody, [True, False, False, False], MONTH)
    shown = table([found])
    assert shown.loc[0, "prevented"] == 50 and shown.loc[0, "low"] < 50 < shown.loc[0, "high"]
    assert verdict([]) == "nothing"


def test_a_larger_hold_out_sees_sooner():
    months = [months_to_see(0.12, 0.04, 0.5, 4_000, share) for share in (0.05, 0.1, 0.2)]
    assert months == sorted(months, reverse=True) and months[0] > 2 * months[-1]


# Cycles ------------------------------------------------------------------------------


def test_some_calls_by_chance():
    gains = np.linspace(1, 0, 1_000)
    called, chance = cycles.drawn_by_chance(gains, 0.25, 200, np.random.default_rng(0))
    assert (chance[:150] == 1).all() and called[:150].all()
    assert np.allclose(chance[150:350], 0.25) and (chance[350:] == 0).all()
    assert abs(called.sum() - 200) < 25
    sure, none = cycles.drawn_by_chance(gains, 0.0, 200, np.random.default_rng(0))
    assert sure[:200].all() and sure.sum() == 200 and set(none) == {0.0, 1.0}


def test_who_forgets_whom_it_called_learns_that_the_called_are_safe():
    """Called are the worst; calls save all of them: only the uncalled show the risk."""
    rng = np.random.default_rng(1)
    x = pd.DataFrame({"a": rng.random(6_000)})
    called = x["a"].to_numpy() > 0.7
    y = (rng.random(6_000) < 0.5 * x["a"]) & ~called
    sample = uplift.Sample(x, y, called, called.astype(float), np.arange(6_000))
    settings = {"n_estimators": 30, "num_leaves": 4, "min_child_samples": 50}
    risks = {
        way: uplift.risk(cycles.WAYS[way][1](sample), settings)(x)
        for way in ("risk, all outcomes", "risk, the uncalled")
    }
    assert risks["risk, all outcomes"][called].mean() < 0.05
    assert risks["risk, the uncalled"][called].mean() > 0.25


def test_only_rows_for_which_both_was_possible_teach_an_effect():
    n = np.arange(6)
    chance = np.array([0, 1, 0.25, 0.25, 0, 1])
    sample = uplift.Sample(pd.DataFrame({"a": n}), n > 3, chance > 0.5, chance, n)
    kept = cycles.WAYS["effect, some by chance"][1](sample)
    assert kept.features["a"].tolist() == [2, 3]
    both = cycles.joined([sample, kept])
    assert len(both.drawn) == len(both.features) == 8


def test_cycles_begin_alike_and_then_part(monkeypatch):
    few = Constants(subscribers=8_000, joiners=320, accounts=960)
    world = worlds.simulate(3, few)
    monkeypatch.setattr(cycles, "TERMS", Terms(people=2))
    made = {
        way: cycles.run(world, way, CHOSEN, cycles=1)
        for way in ("risk, all outcomes", "risk, the uncalled")
    }
    first, second = (table.drop(columns="cycle") for table in made.values())
    assert np.allclose(first.iloc[0], second.iloc[0])
    assert not np.allclose(first.iloc[1], second.iloc[1])
    assert world.next == TEST and (first["before"] > 0).all()
