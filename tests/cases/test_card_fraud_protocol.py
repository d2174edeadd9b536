"""Case 12's split of a world: labels as known when the test begins, the test with its truth."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.card_fraud.bank import world_split
from casebook.cases.card_fraud.world import simulate
from casebook.evaluate.prequential import weeks

DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def world():
    return simulate(seed=3, n_customers=300, days=100)


# The world's split --------------------------------------------------------------------


def test_labels_are_those_known_when_the_test_begins(world):
    week = weeks(world.start, world.end, train=28, wait=14)[-1]
    labels, test = world_split(world, week)
    full = world.labels.set_index("transaction").loc[labels.index]
    expected = full["chargeback"] & (full["known"] <= week.known_at)
    assert (labels == expected).all()
    late = full["chargeback"] & (full["known"] > week.known_at)
    assert late.any() and (labels[late] == 0).all()
    at = world.transactions.set_index("transaction")["received"]
    assert at[labels.index].between(week.train_from, week.train_to, inclusive="left").all()
    assert at[test.index].between(week.test_from, week.test_to, inclusive="left").all()


def test_the_test_is_judged_by_the_truth_and_counts_a_retry_once(world):
    week = weeks(world.start, world.end, train=28, wait=14)[-1]
    _, test = world_split(world, week)
    truth = world.truth.set_index("transaction")
    assert (test["y"] == truth.loc[test.index, "is_fraud"]).all()
    table = world.transactions
    spans = (table["received"] >= week.test_from) & (table["received"] < week.test_to)
    requests = table.set_index("transaction").loc[test.index, "request"]
    assert not requests.duplicated().any()
    assert len(test) < spans.sum()
    assert set(requests) == set(table.loc[spans, "request"])


def test_a_longer_wait_for_labels_leaves_young_rows_out(world):
    week = weeks(world.start, world.end, train=28, wait=0)[-1]
    ripe, _ = world_split(world, week, wait=20)
    all_rows, _ = world_split(world, week)
    at = world.transactions.set_index("transaction")["received"]
    genuine = ripe.index[ripe == 0]
    assert (at[genuine] <= week.known_at - 20 * DAY).all()
    assert len(ripe) < 0.5 * len(all_rows)


def test_the_worlds_split_refuses_a_week_without_rows(world):
    week = weeks("2024-01-01", "2024-03-01")[-1]
    with pytest.raises(ValueError, match="no row of the world is in the train span of 2024-02-23"):
        world_split(world, week)
