"""Late and selective labels: what trains is what was known, and the weights do what they say."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import bank, benchmarks, labels
from casebook.cases.card_fraud.world import simulate
from casebook.recorded import bench

CASE = "12_card_fraud"


@pytest.fixture(scope="module")
def here():
    return bank.drawn(1, 700, 120, 84)


@cache
def live(name: str) -> pd.DataFrame:
    """Return a study of one of the worlds of its recorded table."""
    return benchmarks.BENCHMARKS[name](benchmarks.SEEDS[:1])


@pytest.mark.parametrize(
    ("name", "keys"),
    [("delayed", ["labels", "model"]), ("selective", ["policy", "holdback", "training"])],
)
def test_a_reduced_live_run_agrees_with_what_is_recorded(name, keys):
    recorded = bench.recorded(CASE, name).frame
    both = live(name).merge(recorded, on=["seed", *keys], suffixes=("", "_recorded"))
    assert len(both) == len(live(name))
    np.testing.assert_allclose(both["AP_recorded"], both["AP"], rtol=0.02, atol=3e-3)
    np.testing.assert_allclose(both["ratio_recorded"], both["ratio"], rtol=0.02)


def test_the_labels_of_the_morning_are_those_that_had_come(here):
    morning = bank.of_morning(here)
    known, weight = morning.labels, morning.weight
    world = here.world
    came = world.labels.set_index("transaction").loc[known.index]
    on_time = came["chargeback"] & (came["known"] <= here.start)
    assert (known == on_time.astype(int)).all() and known.sum() > 50
    received = world.transactions.set_index("transaction")["received"].loc[known.index]
    assert received.max() < here.start - 2.9 * bank.DAY
    assert (weight[known == 0] == 1).all() and (weight[known == 1] >= 1).all()


def test_what_comes_after_the_morning_changes_nothing(here):
    late = here.world.labels["known"] > here.start
    altered = here.world.labels.assign(
        chargeback=here.world.labels["chargeback"] & ~late,
        known=here.world.labels["known"].where(~late, here.world.end + 99 * bank.DAY),
    )
    again = bank.of_morning(replace(here, world=replace(here.world, labels=altered)))
    once = bank.of_morning(here)
    pd.testing.assert_series_equal(again.labels, once.labels)
    np.testing.assert_array_equal(again.weight, once.weight)


def test_the_weights_bring_back_most_of_the_chargebacks_that_are_on_their_way(here):
    known, weight = bank.of_morning(here).labels, bank.of_morning(here).weight
    final = here.world.labels.set_index("transaction")["chargeback"].loc[known.index]
    assert known.sum() < 0.8 * final.sum()
    assert 0.85 < (weight * known).sum() / final.sum() < 1.2


def test_a_payment_without_a_label_is_part_fraud_where_a_first_model_says_so(here):
    seen = []

    def fitter(X, y, weight):
        seen.append((X, y, weight))
        return bank.fit_line(X, y, weight=weight)

    model = bank.train(here, fitter)
    (X, y, _), (X2, y2, weight) = seen
    more = len(X2) - len(X)
    assert 20 < more < 0.2 * len(X) and y2[: len(y)].tolist() == y.tolist()
    assert (y2[len(y) :] == 1).all() and (weight[len(y) :] > bank.LEAST_PART).all()
    # Each payment still counts once, and a known fraud wholly.
    total = pd.Series(weight).groupby(X2.index.to_numpy()).sum()
    np.testing.assert_allclose(total, 1)
    assert (weight[: len(y)][y == 1] == 1).all()
    final = here.world.labels.set_index("transaction")["chargeback"].loc[X.index]
    assert 0.8 < (weight * y2).sum() / final.sum() < 1.25
    assert model.probability


def test_knowing_what_is_still_to_come_beats_taking_it_for_genuine(here):
    """Planted: the naive model of the same rows takes what has not come for genuine."""
    morning = bank.of_morning(here)
    naive = bank.fit_line(here.X.loc[morning.labels.index], morning.labels.to_numpy())
    promised = [
        model.score(here.X.loc[here.test.index]).sum() / here.test["y"].sum()
        for model in (naive, bank.train(here, bank.fit_line))
    ]
    assert promised[0] < promised[1]


def test_the_study_of_late_labels_has_every_kind_and_its_costs_are_paid():
    table = live("delayed")
    assert len(table) == 18 and table.notna().all(axis=None)
    assert tuple(table["labels"].unique()) == labels.KINDS
    frauds = table.groupby("labels")["frauds"].first()
    assert frauds["all labels"] > frauds["of the morning"] >= frauds["after three weeks"]
    assert frauds["weighted"] == frauds["part fraud"]
    level = bench.recorded(CASE, "delayed").frame.pivot_table("ratio", ["seed", "model"], "labels")
    raised = level["three weeks, odds corrected"] / level["after three weeks"]
    assert raised.min() > 1 and raised.mean() > 1.05
    small = labels.delayed([2], customers=300).set_index(["labels", "model"])["ratio"]
    assert (small["three weeks, odds corrected"] > 1.1 * small["after three weeks"]).all()
    ranks = table.set_index(["labels", "model"])["AP"]
    for name in ("line", "trees"):  # one factor for all odds changes no rank
        assert ranks["three weeks, odds corrected", name] == pytest.approx(
            ranks["after three weeks", name], abs=1e-6
        )
    test = pd.DataFrame({"y": [1, 0], "amount": [100.0, 10.0]})
    assert labels.paid(np.array(["allow", "allow"]), test) == pytest.approx(500 * 115)
    assert labels.paid(np.array(["block", "allow"]), test) == 0


def test_what_a_policy_leaves_of_the_labels():
    """Five payments: passed, blocked, denied, confirmed by an attacker, not answered."""
    p = np.array([0.0, 0.9, 0.05, 0.05, 0.05])
    rows = pd.DataFrame({"amount": 200.0, "y": [0, 1, 1, 1, 0]})
    rows["push"] = ["confirmed", "confirmed", "denied", "confirmed", "abandoned"]
    free = labels.Answers()(p, rows["amount"])
    assert free.tolist() == ["allow", "block", "confirm", "confirm", "confirm"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "GUARDRAIL", 1.0)
        made = labels.acted("asks", p, rows)
    assert made.stopped.tolist() == [False, True, False, False, True]
    assert made.label.tolist() == [0, 1, 1, 1, 0]
    made = labels.acted("blocks", np.linspace(0, 1, 500), pd.concat([rows] * 100))
    assert made.stopped.sum() == 5


def test_selection_hides_frauds_and_a_policy_that_asks_hides_fewer():
    table = live("selective").set_index(["policy", "training", "holdback"])
    ways = {("truth", 0.0), ("labelled", 0.0), ("stopped as fraud", 0.0)}
    ways |= {("weighted", share) for share in labels.HOLDBACKS}
    assert set(table.index) == {(policy, *way) for policy in labels.ACTING for way in ways}
    for policy in labels.ACTING:
        part = table.loc[policy]
        assert part.loc[("labelled", 0.0), "frauds"] < part.loc[("truth", 0.0), "frauds"]
        held = part.loc["weighted", "held"]
        assert held.min() >= 0 and held.max() < 0.3 * part.loc[("truth", 0.0), "frauds"]
        assert held[0.1] > 0 or policy == "asks"  # of few that were stopped a tenth may be none
    blocks, asks = (table.loc[policy].loc[("labelled", 0.0), "frauds"] for policy in labels.ACTING)
    assert blocks < asks


def test_the_acting_days_are_not_those_of_training_or_test():
    world = simulate(seed=1, n_customers=200, days=labels.SPANS[-1])
    _, (X, known), (Z, later) = labels._parts(world)
    assert not set(X.index) & set(Z.index) and len(X) == len(known) and len(Z) == len(later)
