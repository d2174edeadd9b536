"""Case 07: the decision keeps its limits, rules learn from the randomised month."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import months, rules, studies
from casebook.cases.subscription_churn.features import FEATURES
from casebook.cases.subscription_churn.month import TEST, night_of
from casebook.cases.subscription_churn.policy import TERMS, Terms, choose, gain
from casebook.cases.subscription_churn.population import Constants
from casebook.cases.subscription_churn.records import date
from casebook.evaluate import effects
from casebook.features.mood import Mood

# The decision ------------------------------------------------------------------------


def test_terms_of_the_team():
    assert (TERMS.daily, TERMS.capacity, TERMS.cost) == (200, 4_000, 32.0)
    assert Terms(days=30).capacity == 6_000
    assert TERMS.break_even(3_200, saved=0.2) == pytest.approx(0.05)
    assert gain([0.02, -0.01], [2_000, 5_000]).tolist() == [8.0, -82.0]


@pytest.mark.parametrize(
    ("gains", "options", "chosen"),
    [
        ([3, 9, 5], {"capacity": 2}, [1, 2]),
        ([3, -9, 5], {"capacity": 3}, [2, 0]),
        ([3, -9, 5], {"capacity": 3, "least": -np.inf}, [2, 0, 1]),
        ([3, 9, 5], {"capacity": 2, "blocked": [False, True, False]}, [2, 0]),
        ([np.nan, 1, np.inf], {"capacity": 3}, [1]),
        ([5, 5, 5], {"capacity": 2}, [0, 1]),
        ([1, 2], {"capacity": 0}, []),
        ([], {"capacity": 5}, []),
    ],
)
def test_who_is_chosen(gains, options, chosen):
    assert choose(np.array(gains, float), **options).tolist() == chosen


def test_a_decision_with_broken_input_is_refused():
    with pytest.raises(ValueError, match="one each"):
        choose(np.ones(3), blocked=[True])
    with pytest.raises(ValueError, match="negative"):
        choose(np.ones(3), capacity=-1)


# Rules -------------------------------------------------------------------------------


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


def test_points_of_who_thinks_closing_companies_lost():
    x = pd.DataFrame(np.zeros((3, len(FEATURES))), columns=[*FEATURES])
    x["tenure"], x["ratio"], x["logins_half_year"], x["score"] = 900, 1.0, 5.0, 8.0
    x.loc[1, "failed"], x.loc[2, "mood"] = 1, 0.9
    assert rules.points(x).tolist() == [0, 4, 2]
    assert rules.points(x, closing=-1.0).tolist() == [0, -4, 2]


# One decision ------------------------------------------------------------------------


def test_the_page_the_studies_and_the_months_decide_by_one_function(monkeypatch):
    """Each of them asks ``choose``: without it none makes a list."""

    class Asked(Exception):
        pass

    def refuse(*given, **named):
        raise Asked

    few = Constants(subscribers=4_000, joiners=160, accounts=480)
    here = studies.simulate(3, few)
    score = np.arange(len(here.value), dtype=float)
    for module in (studies, months):
        monkeypatch.setattr(module, "choose", refuse)
    with pytest.raises(Asked):
        studies.outcome(here, score)
    mood = Mood(here.world.tables.tickets, date(night_of(TEST)))
    policy = months.rested(lambda features, value: value, mood, 0, 10)
    with pytest.raises(Asked):
        policy(here.start.tables, night_of(TEST))
