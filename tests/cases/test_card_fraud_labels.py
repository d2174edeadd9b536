"""Late and selective labels: what trains is what was known, and the weights do what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import bank, labels
from casebook.cases.card_fraud.world import simulate


@pytest.fixture(scope="module")
def here():
    return bank.drawn(1, 700, 120, 84)


def test_the_labels_of_the_morning_are_those_that_had_come(here):
    known, weight = bank.of_morning(here)
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
    from dataclasses import replace

    again = replace(here, world=replace(here.world, labels=altered))
    for one, other in zip(bank.of_morning(again), bank.of_morning(here), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_weights_bring_back_most_of_the_chargebacks_that_are_on_their_way(here):
    known, weight = bank.of_morning(here)
    final = here.world.labels.set_index("transaction")["chargeback"].loc[known.index]
    assert known.sum() < 0.8 * final.sum()
    assert 0.85 < (weight * known).sum() / final.sum() < 1.2


def test_the_weighted_model_promises_more_of_what_comes(here):
    counts = {}
    for name, model in {"waits": here.train(), "weighted": bank.train(here)}.items():
        p = model.score(here.X.loc[here.test.index])
        counts[name] = p.sum() / here.test["y"].sum()
    assert counts["waits"] < counts["weighted"] < 1.2


def test_the_study_of_late_labels_has_every_kind_and_its_costs_are_paid():
    table = labels.delayed([2], customers=300)
    assert len(table) == 12 and table.notna().all(axis=None)
    assert tuple(table["labels"].unique()) == labels.KINDS
    frauds = table.groupby("labels")["frauds"].first()
    assert frauds["all labels"] > frauds["of the morning"] >= frauds["after three weeks"]
    test = pd.DataFrame({"y": [1, 0], "amount": [100.0, 10.0]})
    assert labels.decided(np.array([0.0, 0.0]), test) == pytest.approx(500 * 115)
    assert labels.decided(np.array([1.0, 0.0]), test) == 0


def test_selection_hides_frauds_and_weights_bring_them_back():
    table = labels.selective([1], customers=700).set_index(["holdback", "training"])
    assert set(table.index) == {
        (h, t) for h in labels.HOLDBACKS for t in ("truth", "let through", "weighted")
    }
    for share in labels.HOLDBACKS:
        part = table.loc[share]
        assert part.loc["let through", "frauds"] < part.loc["weighted", "frauds"]
        assert part.loc["weighted", "frauds"] < part.loc["truth", "frauds"]
        assert part.loc["let through", "AP"] < part.loc["truth", "AP"]
        row = part.iloc[0]
        assert row["naive"] < row["recall"] / 2 and row["low"] <= row["weighted"] <= row["high"]


def test_the_acting_days_are_not_those_of_training_or_test():
    parts = labels._parts(simulate(seed=1, n_customers=200, days=labels.SPANS[-1]))
    (X, y), (Z, truth) = parts["acts"], parts["test"]
    assert not set(X.index) & set(Z.index) and len(X) == len(y) and len(Z) == len(truth)
