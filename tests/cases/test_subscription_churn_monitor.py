"""Case 07: what a list was worth is read four weeks later, and a drift is told from another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import cycles
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.monitor import LATE, of_month
from casebook.cases.subscription_churn.month import TEST, night_of
from casebook.cases.subscription_churn.nightly import List
from casebook.cases.subscription_churn.policy import Terms
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.studies import CHOSEN
from casebook.evaluate import effects
from casebook.evaluate.holdback import verdict


@pytest.fixture(scope="module")
def played() -> worlds.World:
    """A world whose test month was played with a list of every fifth subscriber."""
    few = Constants(subscribers=8_000, joiners=320, accounts=960)
    return worlds.play(worlds.simulate(3, few), lambda tables, night: np.arange(0, 8_000, 5))


def listed_on(night: int, rows: np.ndarray, held: np.ndarray, risk: float, effect: float) -> List:
    both = len(rows) + len(held)
    return List(
        night, "model", tuple(rows.tolist()), (1.0,) * len(rows), (("A reason.",),) * len(rows), "",
        night, 8_000, tuple(held.tolist()), (risk,) * both, (effect,) * both,
    )  # fmt: skip


def test_the_lists_of_a_month_are_read_together_and_nobody_counts_twice(played):
    here = played.months[TEST].here
    rows, held = here[here % 5 == 0], here[here % 5 == 1]
    month, night = played.months[TEST], night_of(TEST)
    first = listed_on(night, rows[:500], held[:500], 0.04, 0.01)
    second = listed_on(night + 1, rows[400:900], held[400:900], 0.04, 0.01)
    known = night + 1 + MONTH + LATE
    found = of_month([second, first], worlds.play(played).tables, known)
    # The second list's month ends a day later, so its rows are read a day later than the first's.
    stay = month.cancelled[held[:900]].mean()
    assert found.precision.mean == pytest.approx(stay, abs=0.006)
    assert found.called.mean == pytest.approx(month.cancelled[rows[:900]].mean(), abs=0.006)
    stand_in = replace(second, source="last list", held=(), risks=(), effects=())
    one = of_month([first, stand_in], played.tables, night + MONTH + LATE)
    assert one.precision.mean == month.cancelled[held[:500]].mean()
    with pytest.raises(ValueError, match="not known yet"):
        of_month([second, first], played.tables, known - 1)
    people = played.tables.subscribers.assign(left=pd.NaT)
    with pytest.raises(ValueError, match="nobody has left"):
        of_month([first], replace(played.tables, subscribers=people), known)
    later = listed_on(night + MONTH, rows, held, 0.0, 0.0)
    for wrong in ([stand_in], [first, later], []):
        with pytest.raises(ValueError, match="one month"):
            of_month(wrong, played.tables, known)


def test_predictions_that_lag_behind_are_seen_in_the_world(played):
    """The same list, expected to be half as risky and as much moved as it was: both are alarms."""
    here = played.months[TEST].here
    rows, held = here[here % 5 == 0], here[here % 5 == 1]
    truth = played.months[TEST]
    risk, effect = truth.chances.risk[here].mean(), truth.effect[rows].mean()
    told = ((risk, effect), (risk / 2, effect + 0.03))
    lists = [listed_on(night_of(TEST), rows, held, *one) for one in told]
    known = night_of(TEST) + MONTH + LATE
    right, wrong = (of_month([one], played.tables, known) for one in lists)
    assert abs(right.risk_z) < 3 > abs(right.effect_z)
    assert wrong.risk_z > 3 and wrong.effect_z < -3
    assert verdict([right]) == "nothing" and verdict([wrong]) == "risk and effect"


# Cycles ------------------------------------------------------------------------------


def test_who_forgets_whom_it_called_learns_that_the_called_are_safe():
    """Called are the worst; calls save all of them: only the uncalled show the risk."""
    rng = np.random.default_rng(1)
    x = pd.DataFrame({"a": rng.random(6_000)})
    called = x["a"].to_numpy() > 0.7
    y = (rng.random(6_000) < 0.5 * x["a"]) & ~called
    sample = effects.Sample(x, y, called, called.astype(float), np.arange(6_000))
    settings = {"n_estimators": 30, "num_leaves": 4, "min_child_samples": 50}
    risks = {
        way: effects.risk(cycles.WAYS[way].keep(sample), settings)(x)
        for way in ("risk, all outcomes", "risk, the uncalled")
    }
    assert {cycles.WAYS[way].learner for way in risks} == {"risk"}
    assert risks["risk, all outcomes"][called].mean() < 0.05
    assert risks["risk, the uncalled"][called].mean() > 0.25


def test_only_rows_for_which_both_was_possible_teach_an_effect():
    n = np.arange(6)
    chance = np.array([0, 1, 0.25, 0.25, 0, 1])
    sample = effects.Sample(pd.DataFrame({"a": n}), n > 3, chance > 0.5, chance, n)
    kept = cycles.WAYS["what ships, calls by chance"].keep(sample)
    assert kept.features["a"].tolist() == [2, 3]
    both = effects.joined([sample, kept])
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
    assert world.next == TEST and (pd.concat([first, second])["before"] == 0).all()
