"""Case 07: the decision keeps its limits and its rest, rules learn from the randomised month."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import months, nightly, policy, rules, studies
from casebook.cases.subscription_churn.features import FEATURES
from casebook.cases.subscription_churn.month import LOTTERY, TEST, night_of
from casebook.cases.subscription_churn.policy import TERMS, choose, gain
from casebook.cases.subscription_churn.population import Constants
from casebook.evaluate import effects, uplift


def test_terms_of_the_team():
    assert (TERMS.daily, TERMS.capacity, TERMS.cost) == (200, 4_000, 32.0)
    assert gain([0.02, -0.01], [2_000, 5_000]).tolist() == [8.0, -82.0]
    assert choose(np.ones(5_000)).tolist() == [*range(TERMS.capacity)]


def test_rules_learn_from_the_month_in_which_a_call_helps_one_segment():
    rng = np.random.default_rng(0)
    n = 60_000
    names = [*FEATURES]
    x = pd.DataFrame(np.zeros((n, len(names))), columns=names)
    x["logins_half_year"], x["tenure"], x["ratio"], x["score"] = 5.0, 900, 1.0, 8.0
    failing = rng.random(n) < 0.3
    asleep = ~failing & (rng.random(n) < 0.3)
    x["failed"] = failing.astype(float)
    x.loc[asleep, "logins_half_year"] = 0.0
    chance = np.full(n, 0.4)
    drawn = rng.random(n) < chance
    effect = np.select([failing, asleep], [0.10, -0.05], 0.0)
    y = rng.random(n) < 0.2 - effect * drawn
    sample = effects.Sample(x, y, drawn, chance, np.arange(n))
    flat = rules.by_segments(sample, {"split": "", "ties": False})(x)
    share = rules.by_shares(sample, {"split": "", "risk": "risk"})(x)
    for found in (flat, share):
        assert found[failing].mean() == pytest.approx(0.10, abs=0.02)
        assert found[asleep].mean() == pytest.approx(-0.05, abs=0.02)
    ties = rules.by_segments(sample, {"split": "admin", "ties": True})(x)
    assert np.abs(ties - flat).max() < 1e-5


def test_points_and_common_sense():
    x = pd.DataFrame(np.zeros((5, len(FEATURES))), columns=[*FEATURES])
    x["tenure"], x["ratio"], x["logins_half_year"], x["score"] = 900, 1.0, 5.0, 8.0
    x.loc[1, "failed"], x.loc[2, "mood"], x.loc[3, "colleagues_left"] = 1, 0.9, 0.5
    x.loc[4, "logins_half_year"] = 0.2
    assert rules.points(x).tolist() == [0, 0, 2, 0, 0]
    assert rules.hopeless(x).tolist() == [False, True, False, True, True]


# One decision, one rest --------------------------------------------------------------


@pytest.fixture(scope="module")
def few() -> studies.Setting:
    return studies.simulate(3, Constants(subscribers=4_000, joiners=160, accounts=480))


def test_whom_no_list_calls_is_who_was_called_within_three_months(few):
    here, month = few.features.index.to_numpy(), few.world.months[TEST]
    assert np.array_equal(few.blocked, month.state.called[here].any(axis=1))
    assert np.array_equal(few.blocked, few.features["calls"].to_numpy() > 0)
    assert np.array_equal(few.blocked, nightly.blocked(few.world.tables, here, night_of(TEST)))
    assert 0.05 < few.blocked.mean() < 0.5
    calls = few.world.tables.calls.assign(called=False)
    angry = replace(few.world.tables, calls=calls)
    assert set(here[policy.blocked(angry, here, night_of(TEST))]) <= set(here[few.blocked])
    assert policy.blocked(angry, here, night_of(TEST)).any()


def test_every_list_of_every_study_spares_whom_the_night_spares(few, monkeypatch):
    """All of them ask one function, and give it the rows that the night would leave out."""
    asked, chosen = [], uplift.choose

    def choose(gains, capacity, blocked=None, least=0.0):
        asked.append(None if blocked is None else np.array(blocked))
        return chosen(gains, capacity, blocked, least)

    monkeypatch.setattr(uplift, "choose", choose)
    monkeypatch.setattr(studies, "setting", lambda seed: few)
    for make in studies.policies().values():
        asked.clear()
        studies.outcome(few, make(few), 200)
        with_rest, without, sensible = asked
        assert without is None and np.array_equal(with_rest, few.blocked)
        assert np.array_equal(sensible, few.blocked | few.hopeless)
    asked.clear()
    months.guardrails(3, ("points", "team"))
    assert len(asked) == 2 and all(np.array_equal(off, few.blocked) for off in asked)
    asked.clear()
    months.drift(3, 0.2, capacity=200)
    months.several(3, (studies.MODEL,), rests=(True,))
    assert len(asked) == 16 and all(off.any() for off in asked)
    assert sum(np.array_equal(off, few.blocked) for off in asked) == 4  # the first of each run
    asked.clear()
    cost = studies.price(3)
    assert len(asked) == 3 and all(off.any() for off in asked)
    first = few.world.months[LOTTERY]
    own = (first.effect * first.value - TERMS.cost)[first.assigned].sum()
    assert cost["drawn"] == pytest.approx(own)


@pytest.mark.parametrize("number", [LOTTERY - 1, LOTTERY])
def test_a_list_is_valued_among_those_whom_it_may_call(few, number):
    sample = few.sample if number == LOTTERY else studies.logged(few)
    rows, open_, value = studies._open(few, sample, number)
    month = few.world.months[number]
    assert np.array_equal(open_, ~month.state.called[rows].any(axis=1))
    assert open_.all() == (number != LOTTERY) and np.array_equal(value, month.value[rows])


def test_the_randomised_month_is_compared_as_drawn_and_not_as_called(few):
    month, rows = few.world.months[LOTTERY], few.sample.features.index.to_numpy()
    assert np.array_equal(few.sample.drawn, month.assigned[rows])
    assert (few.sample.drawn != month.called[rows]).any()


def test_a_score_out_of_fold_has_not_seen_its_account(few):
    """With the outcomes of one fold turned round, the fold's own scores stay."""
    fold = few.sample.folds() == 0
    y = few.sample.cancelled
    turned = replace(few.sample, cancelled=np.where(fold, ~y, y))
    value = np.full(len(fold), 2_000.0)
    for name in (studies.MODEL, studies.RISK):
        before, after = (studies.out_of_fold(s, value, name) for s in (few.sample, turned))
        assert np.array_equal(before[fold], after[fold])
        assert not np.allclose(before[~fold], after[~fold])
