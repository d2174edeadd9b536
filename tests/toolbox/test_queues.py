"""Queues: they agree with the formulas, refuse what would wait too long, and lose no work."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.serving.queues import BIN, Queues, mean_time, mean_wait, quantile, shared_wait


def served(queues, rate, ticks, seconds=5.0):
    """Return the busy seconds and the counts of some ticks."""
    parts = [queues.tick(rate, seconds) for _ in range(ticks)]
    return sum(busy for busy, _ in parts), sum(counts for _, counts in parts)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rate", [15.0, 40.0])
def test_the_mean_wait_is_pollaczeks_and_khinchines(spread, rate):
    _, counts = served(Queues(np.zeros(8), 0.02, spread, seed=4), rate, 400)
    assert mean_time(counts) - 0.02 == pytest.approx(
        mean_wait(rate, 0.02, spread), rel=0.08, abs=6e-4
    )


def test_the_percentile_of_exponential_times_is_that_of_the_formula():
    _, counts = served(Queues(np.zeros(8), 0.02, 1.0, seed=5), 35.0, 400)
    assert quantile(counts, 0.99) == pytest.approx(np.log(100) / (50 - 35), rel=0.05)


def test_busy_seconds_are_the_work_that_came():
    busy, counts = served(Queues(np.zeros(4), 0.02, 0.0, seed=1), 30.0, 200)
    assert busy == pytest.approx(0.02 * counts.sum(), rel=0.01) and counts[-1] == 0


def test_one_request_after_the_other_gives_the_same_waits():
    """The vectorised recursion against a loop over requests, with a backlog at the start."""
    queues = Queues(np.array([0.7]), 0.1, 1.0, patience=2.9, seed=9)
    rng = np.random.default_rng(9)
    shape = 1, int(20 + 7 * np.sqrt(20) + 10)
    at = np.cumsum(rng.standard_exponential(shape), axis=1)[0] / 4
    work = 0.1 * rng.standard_exponential(shape)[0]
    free, times = 0.7, []
    for t, own in zip(at[at < 5], work, strict=False):
        free = max(free, t) + own
        times.append(free - t)
    counts = queues.tick(4.0, 5.0)[1]
    assert np.array_equal(
        np.repeat(np.arange(len(counts)), counts), np.sort(np.rint(np.array(times) / BIN))
    )
    assert queues.backlog[0] == pytest.approx(max(free - 5, 0))


def test_an_overloaded_server_refuses_the_rest_and_nobody_waits_longer():
    queues = Queues(np.zeros(2), 0.02, 0.0, patience=1.0, seed=2)
    busy, counts = served(queues, 100.0, 40)
    assert counts[-1] / counts.sum() == pytest.approx(0.5, abs=0.03)  # twice what it can do
    assert busy == pytest.approx(2 * 200, rel=0.01)
    assert quantile(counts, 1.0) <= 1.0 + 0.02 + BIN and (queues.backlog <= 1.02).all()


def test_new_servers_are_empty_and_the_last_go_first():
    queues = Queues(np.array([0.3, 0.2]), 0.02)
    queues.resize(3)
    assert queues.backlog.tolist() == [0.3, 0.2, 0.0]
    queues.resize(1)
    assert queues.backlog.tolist() == [0.3]


def test_nobody_comes():
    busy, counts = Queues(np.array([2.0]), 0.02).tick(0.0, 5.0)
    assert busy == 2.0 and counts.sum() == 0
    assert np.isnan(quantile(counts, 0.5)) and np.isnan(mean_time(counts))


def test_one_queue_for_one_server_is_that_servers():
    assert shared_wait(30.0, 0.02, 1) == pytest.approx(mean_wait(30.0, 0.02))
    assert shared_wait(120.0, 0.02, 4) < mean_wait(30.0, 0.02) / 5


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_wait(50.0, 0.02),
        lambda: shared_wait(200.0, 0.02, 4),
        lambda: Queues(np.zeros(1), 0.02, spread=2.0),
        lambda: Queues(np.zeros(1), 0.02, patience=9.0),
    ],
)
def test_what_has_no_answer_is_said(call):
    with pytest.raises(ValueError, match=r"no end|patience"):
        call()
