"""Two calls told apart by their time: known differences are found, equal calls pass."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from casebook.serving import tell_apart as module
from casebook.serving.tell_apart import Told, detectable, tell_apart


class Clock:
    """Nanoseconds that the calls themselves advance."""

    def __init__(self) -> None:
        self.now, self.rng = 0, np.random.default_rng(1)

    def perf_counter_ns(self) -> int:
        return self.now

    def call(self, more: int):
        def called(pair: int) -> None:
            self.now += int(self.rng.exponential(1_000)) + more

        return called


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_equal_calls_are_shown_to_be_the_same(clock):
    told = tell_apart(clock.call(0), clock.call(0), pairs=2_000)
    assert told.same(0.1) and not told.apart(0.1)
    assert told.low < 0.5 < told.high
    constant = tell_apart(lambda pair: None, lambda pair: None, pairs=50)
    assert constant.share == 0.5  # a tie counts half


def test_a_slower_call_is_found_on_either_side(clock):
    slow = tell_apart(clock.call(700), clock.call(0), pairs=500)
    assert slow.apart(0.1) and slow.share > 0.6
    fast = tell_apart(clock.call(0), clock.call(700), pairs=500)
    assert fast.apart(0.1) and fast.share < 0.4


def test_the_power_is_as_stated(clock):
    pairs, found = 400, 0
    edge = detectable(pairs)
    # Exponential times, one of them later by c: the first is longer in 1 - exp(-c / 1,000) / 2.
    more = round(-1_000 * np.log(1 - 2 * edge))
    for _ in range(200):
        found += tell_apart(clock.call(more), clock.call(0), pairs).low > 0.5
    assert 0.84 < found / 200 < 0.96
    false = sum(tell_apart(clock.call(0), clock.call(0), 100).low > 0.5 for _ in range(200))
    assert false <= 4


def test_between_the_two_verdicts_more_pairs_are_needed():
    few = Told(0.55, 0.38, 0.72, 50)
    assert not few.same(0.1) and not few.apart(0.1)
    assert detectable(100) == pytest.approx(2 * detectable(400))


def test_the_collector_of_garbage_is_on_again_after_an_error():
    def fails(pair: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        tell_apart(fails, fails, pairs=1)
    assert gc.isenabled()
