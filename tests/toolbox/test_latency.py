"""Latency: which calls count, and which percentiles come out."""

from __future__ import annotations

import time

import numpy as np
import pytest

import casebook.serving.latency
from casebook.serving.latency import Latency, measure, throughput


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that only planted calls move: exact percentiles."""

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

        def call(self, milliseconds):
            """Return a call that takes the given times, one after the other."""
            times = iter(milliseconds)

            def step():
                self.now += next(times) / 1000

            return step

    clock = Clock()
    monkeypatch.setattr(casebook.serving.latency, "time", clock)
    return clock


def test_the_percentiles_are_those_of_the_calls(clock):
    times = np.random.default_rng(0).lognormal(1, 1, 400)
    result = measure(clock.call(times), n=400, warm_up=0)
    assert (result.p50, result.p95, result.p99) == pytest.approx(np.percentile(times, [50, 95, 99]))


def test_slow_calls_of_the_warm_up_do_not_count(clock):
    result = measure(clock.call([500] * 20 + [2] * 100), n=100, warm_up=20)
    assert (result.p50, result.p99) == pytest.approx((2, 2))
    assert (result.n, result.warm_up) == (100, 20)


def test_the_rare_slow_call_shows_in_p99_only(clock):
    result = measure(clock.call([1] * 980 + [50] * 20), n=1000, warm_up=0)
    assert (result.p50, result.p95, result.p99) == pytest.approx((1, 1, 50))


def test_a_real_call_is_timed_by_the_real_clock():
    result = measure(lambda: time.sleep(0.001), n=100, warm_up=1)
    assert 1 <= result.p50 <= result.p95 <= result.p99


def test_every_call_is_made_once():
    calls = []
    measure(lambda: calls.append(1), n=150, warm_up=7)
    assert len(calls) == 157


@pytest.mark.parametrize(
    ("n", "warm_up", "reason"),
    [(99, 0, "n is 99: a p99 needs at least 100"), (100, -1, "warm_up is -1")],
)
def test_too_few_calls_are_refused_before_the_first(n, warm_up, reason):
    calls = []
    with pytest.raises(ValueError, match=reason):
        measure(lambda: calls.append(1), n=n, warm_up=warm_up)
    assert calls == []


def test_a_failing_call_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0)


def test_a_latency_reads_as_a_sentence():
    text = str(Latency(1.234, 2.5, 10.0, 1000, 50))
    assert text == "p50 1.23 ms, p95 2.50 ms, p99 10.00 ms (1,000 calls after 50 to warm up)"
    assert Latency(1.0, 2.0, 3.0, 100, 0).percentiles() == {"p50": 1.0, "p95": 2.0, "p99": 3.0}


def test_a_rate_is_by_the_processor_and_by_the_clock(monkeypatch):
    monkeypatch.setattr(time, "process_time", iter([10.0, 12.0]).__next__)
    monkeypatch.setattr(time, "perf_counter", iter([50.0, 58.0]).__next__)
    assert throughput(lambda: 800) == {"a_second": 400.0, "a_second_wall": 100.0, "n": 800}
