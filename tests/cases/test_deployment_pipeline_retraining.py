"""Case 21: policies of retraining know nothing of the future, and a poisoned week is stopped."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import retraining, studies
from casebook.cases.deployment_pipeline.retraining import Recipe, Shop
from casebook.cases.deployment_pipeline.world import START, Constants, Fault, Shift, Year, simulate
from casebook.cases.deployment_pipeline.world import cost as world_cost

SMALL = Constants(n=500)


@cache
def shop(*events, days: int = 126) -> Shop:
    shifts = tuple(one for one in events if isinstance(one, Shift))
    faults = tuple(one for one in events if isinstance(one, Fault))
    return Shop(simulate(3, days, shifts, faults, SMALL, history=160))


def euros(here: Shop, policy: str, first: int = 0) -> float:
    made = retraining.run(here, policy)
    return made.loc[made["week"] >= first, "euros"].mean()


def test_a_candidate_is_made_of_what_is_known_that_morning():
    here, day = shop(), 56
    year = here.year
    later = year.labels["known_at"] >= START + pd.Timedelta(days=day)
    forgotten = year.labels.assign(fraud=year.labels["fraud"] & ~later)
    blind = Shop(Year(year.rows, forgotten, year.truth.assign(fraud=False), year.events))
    assert here.candidate(day).model_to_string() == blind.candidate(day).model_to_string()


def test_young_frauds_count_for_those_that_are_not_reported_yet():
    here = shop()
    weight, truth = here.reported(80), here.fraud
    for first, last in ((40, 50), (60, 70), (66, 73)):
        rows = here.span(first, last)
        assert weight[rows].sum() == pytest.approx(truth[rows].sum(), rel=0.55)
    young, old = here.span(66, 73), here.span(20, 50)
    assert weight[young].max() > 1.5
    assert weight[old][weight[old] > 0].mean() == pytest.approx(1, abs=0.05)


def test_after_a_new_way_of_fraud_training_pays_and_the_truth_is_the_floor():
    here = shop(Shift("concept", 20, 0.8))
    late = {name: euros(here, name, 11) for name in ("frozen", "monthly", "labels at once")}
    assert euros(here, "true chances", 11) < late["labels at once"] < late["frozen"]
    assert late["monthly"] < late["frozen"]
    alarm = retraining.run(here, "label alarm")
    assert alarm["trained"].any()
    assert alarm.loc[alarm["trained"], "week"].min() >= 3


def test_where_nothing_happens_no_label_alarm_trains():
    made = retraining.run(shop(), "label alarm")
    assert not made["trained"].any()
    pd.testing.assert_series_equal(made["euros"], retraining.run(shop(), "frozen")["euros"])


def test_the_trial_refuses_what_poisoned_weeks_teach():
    fault = Fault("poisoned", 8, 42)  # six: one week alone costs less than two samples differ
    here, sound = shop(fault), shop()
    day = 84
    poisoned, clean = here.candidate(day), sound.candidate(day)
    rows = here.span(day, day + 28)
    amount, chance = (here.year.truth[c].to_numpy()[rows] for c in ("amount", "chance"))
    costs = [
        world_cost(model.predict(here.X[rows]), amount, amount, chance).mean()
        for model in (poisoned, clean)
    ]
    assert costs[0] > costs[1]
    verdict = retraining.trial(here, poisoned, clean, day)
    assert not verdict["passed"]
    assert verdict["saved"] < 0 < retraining.trial(here, clean, poisoned, day)["saved"]


def test_broken_days_are_in_no_training_and_in_no_trial():
    here = shop(Fault("unit", 40, 6))
    assert {*here.broken} == {*range(40, 46)}
    seen = here.X[here.span(40, 46)]
    assert np.median(seen[:, 0]) > 1_000
    other = Shop(here.year)
    vars(other).update(broken=here.broken)  # of the same rows
    other.X[other.span(40, 46)] = 0.0
    assert here.candidate(84).model_to_string() == other.candidate(84).model_to_string()
    empty = retraining.trial(here, here.champion, here.champion, 126 + 30)
    assert not empty["passed"]


def test_broken_days_are_billed_as_they_were_served_whatever_the_policy():
    hit, calm = shop(Fault("unit", 40, 6)), shop()
    found, now = retraining.run(hit, "frozen")["euros"][6], hit.span(42, 49)
    amount, chance = (hit.year.truth[c].to_numpy()[now] for c in ("amount", "chance"))
    wanted, true = (
        1000 * world_cost(hit.scores[now], told, amount, chance).mean()
        for told in (hit.served[now], amount)
    )
    assert found == pytest.approx(wanted) and abs(wanted - true) > 10  # tiers by the true amount
    floor = [retraining.run(one, "true chances")["euros"] for one in (hit, calm)]
    pd.testing.assert_series_equal(*floor)


def test_a_dead_feed_of_labels_trains_nothing():
    year = shop().year
    lost = year.labels["known_at"] >= START + pd.Timedelta(days=20)
    labels = year.labels.assign(fraud=year.labels["fraud"] & ~lost)
    dead = Shop(Year(year.rows, labels, year.truth, year.events))
    assert not retraining.run(dead, "label alarm")["trained"].any()


def test_bad_input_says_what_to_do():
    with pytest.raises(ValueError, match="monthly"):
        retraining.run(shop(), "yearly")
    with pytest.raises(ValueError, match="a day of waiting"):
        Recipe(60, 0)
    with pytest.raises(ValueError, match="wait for ten"):
        retraining.train(np.zeros((50, 22)), np.zeros(50))
    with pytest.raises(ValueError, match="eventful"):
        studies.happens("boring", 1)
