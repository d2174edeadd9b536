"""Labels on their way: the share that came, from truncated data, and weights that count right."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.delays import Arrivals, label_weights, still_to_come


def drawn(n=40_000, horizon=84.0, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.uniform(0, horizon, n)
    delay = np.exp(rng.normal(np.log(18), 0.8, n))
    return age, delay


def test_the_share_is_that_of_all_delays_and_not_of_those_that_were_seen():
    age, delay = drawn()
    came = delay <= age
    arrived = Arrivals.fit(delay[came], age[came])
    true = np.array([(delay <= a).mean() for a in (7, 21, 42)]) / (delay <= 84).mean()
    assert arrived([7, 21, 42]) == pytest.approx(true, abs=0.02)
    naive = np.array([(delay[came] <= a).mean() for a in (7, 21, 42)])
    assert (naive - true > 0.03).all()  # quick ones are too many among those that came


def test_weights_bring_back_the_number_of_frauds_of_every_age():
    age, delay = drawn(seed=3)
    y = (delay <= age).astype(int)
    arrived = Arrivals.fit(delay[y == 1], age[y == 1])
    weight = label_weights(y, age, arrived)
    came_in_time = (delay <= 84).mean()
    for low, high in ((10, 20), (20, 40), (40, 84)):
        rows = (age >= low) & (age < high)
        truth = rows.sum() * came_in_time
        assert (weight * y)[rows].sum() == pytest.approx(truth, rel=0.05)
        assert y[rows].sum() < 0.97 * truth  # what a plain count says
    assert (weight[y == 0] == 1).all()


def test_a_weight_has_a_limit_and_the_share_never_falls():
    arrived = Arrivals.fit([1, 2, 3, 40], [1.5, 60, 60, 60])
    assert (np.diff(arrived(np.arange(0, 60))) >= 0).all()
    assert label_weights([1], [0.5], arrived, most=4).tolist() == [4]
    assert arrived(1000) == 1


def test_without_truncation_it_is_the_plain_share():
    _, delay = drawn(500)
    arrived = Arrivals.fit(delay, np.full(500, delay.max()))
    assert arrived(18) == pytest.approx((delay <= 18).mean())


@pytest.mark.parametrize(
    ("delay", "age", "words"),
    [
        ([], [], "one each"),
        ([5], [4], "later than now"),
        ([-1], [4], "negative"),
        ([1, 2], [4], "2 de"),
    ],
)
def test_delays_that_cannot_be_are_refused(delay, age, words):
    with pytest.raises(ValueError, match=words):
        Arrivals.fit(delay, age)


def test_labels_and_ages_have_one_length():
    with pytest.raises(ValueError, match="one each"):
        label_weights([1, 0], [1], Arrivals.fit([1], [2]))


def test_what_is_still_to_come_adds_up_to_what_comes_where_frauds_are_dense():
    """At p = .5 the weighted count of frauds is right and the genuine are too many."""
    age, delay = drawn(seed=5)
    rng = np.random.default_rng(5)
    p = np.where(rng.random(len(age)) < 0.5, 0.5, 0.02)
    fraud = rng.random(len(age)) < p
    y = (fraud & (delay <= age)).astype(int)
    arrived = Arrivals.fit(delay[y == 1], age[y == 1])
    part = still_to_come(p, age, arrived)
    comes = fraud & (delay <= 84)
    for spot in (0.5, 0.02):
        rows = (p == spot) & (age > 5)
        waits = rows & (y == 0)
        assert part[waits].sum() == pytest.approx((comes & waits).sum(), rel=0.15)
        weighted = label_weights(y, age, arrived)[rows]
        learned = weighted[y[rows] == 1].sum() / weighted.sum()
        if spot == 0.5:
            assert learned < 0.93 * comes[rows].mean()
    assert (still_to_come(np.ones(3), [1, 50, 2000], arrived)[:2] > 0).all()


@pytest.mark.parametrize(
    ("p", "age", "words"), [([1.2], [3], "not within"), ([0.1, 0.2], [3], "one each")]
)
def test_probabilities_that_cannot_be_are_refused(p, age, words):
    with pytest.raises(ValueError, match=words):
        still_to_come(p, age, Arrivals.fit([1], [2]))


def test_a_missing_age_is_not_one_at_which_everything_has_come():
    arrived = Arrivals.fit([1.0, 2.0], [5.0, 5.0])
    with pytest.raises(ValueError, match="1 ages are missing"):
        label_weights([1, 0], [np.nan, 2.0], arrived)
