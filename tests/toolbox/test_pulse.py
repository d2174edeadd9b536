"""Alarms ring at their borders and not before; thumbs count once."""

from __future__ import annotations

import pytest

from casebook.serving.pulse import Lags, Pulse, Thumbs, lagging


def test_a_slow_tail_rings_with_enough_answers_and_is_forgotten():
    pulse = Pulse(window=30, fewest=20)
    for n in range(20):
        assert pulse.alarms(8.0) == []
        pulse.beat(0.1, 9.0 if n < 3 else 1.0)
    assert "9.0 s" in pulse.alarms(8.0)[0]["what"]
    for _ in range(28):
        pulse.beat(0.1, 1.0)
    assert pulse.alarms(8.0) == [] and pulse.told()["answers"] == 30
    assert pulse.told()["first"] == pytest.approx([0.1, 0.1])
    assert Pulse().told() == {"answers": 0, "failed": 0, "first": [], "whole": []}


def test_an_unknown_lag_rings():
    assert lagging({"a": 7_199.9}, 7_200) == []
    assert [one["error"] for one in lagging({"b": float("nan"), "a": 7_200}, 7_200)] == ["lag"] * 2
    whats = [one["what"] for one in lagging({"a": None, "b": float("inf"), "c": 61.0}, 60.0)]
    assert whats[:2] == [f"{name} was not read to its end yet." for name in "ab"]
    assert whats[2] == "c was last read to its end 61 s ago."


def test_failures_are_counted_apart_and_ring_from_the_third_one_on():
    pulse = Pulse(window=100)
    for n in range(4):
        assert bool(pulse.alarms(8.0)) is (n >= 3) and pulse.broken() == n
        pulse.fail()
    assert pulse.told() == {"answers": 0, "failed": 4, "first": [], "whole": []}
    for _ in range(90):
        pulse.beat(0.1, 1.0)
    assert pulse.alarms(8.0) == [] and pulse.broken() == 0


def test_a_lag_counts_from_the_beginning_of_the_reading_and_no_clock_makes_it_negative():
    now = [100.0]
    lags = Lags(lambda: now[0])
    lags.expects(["a", "b"])
    lags.ended("a", at=90.0)
    lags.expects(["a"])  # again, by the next round
    assert lags.seconds() == {"a": 10.0, "b": None}
    now[0] = 80.0
    assert lags.seconds()["a"] == 0.0


def test_thumbs_survive_a_restart(tmp_path):
    path = str(tmp_path / "thumbs.sqlite")
    Thumbs(path).put("user:1", "c", 0, True, 1.0)
    again = Thumbs(path)
    again.put("user:2", "c", 0, False, 2.0)
    again.put("user:1", "c", 0, True, 3.0)
    assert again.count() == (1, 2)
