"""What a hold-back tells: weights remove the bias, and the interval covers as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.selective import coverage, propensity_weights, recall


def quarter(rng, n=200_000, share=0.05):
    fraud = rng.random(n) < 0.004
    stopped = np.where(fraud, rng.random(n) < 0.7, rng.random(n) < 0.01)
    known = ~stopped | (rng.random(n) < share)
    return stopped, known, fraud


def test_the_weighted_recall_is_right_on_average_and_the_naive_one_far_too_low():
    rng, naive, weighted, inside = np.random.default_rng(0), [], [], 0
    for _ in range(60):
        stopped, known, fraud = quarter(rng)
        estimate = recall(stopped, fraud, propensity_weights(stopped, known, 0.05))
        naive.append(recall(stopped, fraud, known.astype(float)).value)
        weighted.append(estimate.value)
        inside += estimate.covers(0.7)
        assert 0 <= estimate.low < estimate.high <= 1
    assert np.mean(weighted) == pytest.approx(0.7, abs=0.02)
    assert np.mean(naive) < 0.15
    assert 50 <= inside <= 60


def test_few_held_back_frauds_are_worth_few():
    stopped, known, fraud = quarter(np.random.default_rng(1))
    estimate = recall(stopped, fraud, propensity_weights(stopped, known, 0.05))
    assert estimate.effective < (fraud & known).sum() / 2


@pytest.mark.parametrize("share", [0, -0.1, 1.5, np.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        propensity_weights([True], [True], share)


def test_a_missing_label_of_what_passed_is_another_selection():
    with pytest.raises(ValueError, match="1 decisions were to be let through and have no label"):
        propensity_weights([True, False], [True, False], 0.1)
    with pytest.raises(ValueError, match="one each"):
        propensity_weights([True, False], [True], 0.1)


def test_no_fraud_no_recall():
    with pytest.raises(ValueError, match="no labelled fraud"):
        recall([True, False], [1, 0], [0.0, 1.0])


def test_clusters_widen_the_interval():
    stopped, fraud = np.tile([True, False], 50), np.ones(100)
    alone = recall(stopped, fraud, np.ones(100))
    together = recall(stopped, fraud, np.ones(100), np.arange(100) % 2)
    assert together.high - together.low > 4 * (alone.high - alone.low)


def test_shares_may_differ_and_what_was_never_held_back_counts_nothing():
    stopped, known = [True, True, True, False], [True, True, False, True]
    weight = propensity_weights(stopped, known, [0.5, 0.1, 0.0, 0.0])
    assert weight.tolist() == [2.0, 10.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="whose share is 0"):
        propensity_weights(stopped, known, [0.5, 0.0, 0.0, 0.1])


def test_the_interval_of_a_recall_covers_as_often_as_its_clusters_let_it():
    rng = np.random.default_rng(0)
    attack = np.repeat(np.arange(60), 5)  # five frauds an attack, stopped together
    stopped = np.r_[np.repeat(rng.random(60) < 0.6, 5), rng.random(20_000) < 0.01]
    fraud = np.r_[np.ones(300, bool), np.zeros(20_000, bool)]
    group = np.r_[attack, np.full(20_000, -1)]
    told = coverage(stopped, fraud, group, 0.1)
    assert told["mean"] == pytest.approx(told["truth"], abs=0.05)
    assert told["covered"] > 0.85 and told["low"] < told["truth"] < told["high"]


@pytest.mark.parametrize("stopped", [True, False])
def test_frauds_of_one_side_tell_nothing_of_the_other(stopped):
    told = recall([stopped] * 5, np.ones(5), np.ones(5))
    assert (told.value, told.low, told.high) == (float(stopped), 0.0, 1.0)


def test_a_draw_without_a_labelled_fraud_is_no_estimate_and_covers_nothing():
    everything = np.ones(30, bool)
    told = coverage(everything, everything, np.arange(30), 0.01)
    assert told["mean"] == 1 and told["covered"] < 0.5
    with pytest.raises(ValueError, match="no draw let a fraud through"):
        coverage(everything, everything, np.arange(30), 1e-9)
    with pytest.raises(ValueError, match="no fraud"):
        coverage(everything, ~everything, np.arange(30), 0.1)
