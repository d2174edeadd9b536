"""Alarms ring at their borders and not before; thumbs count once."""

from __future__ import annotations

import pytest

from casebook.serving.pulse import Pulse, Thumbs, lagging


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
    assert Pulse().told() == {"answers": 0, "first": [], "whole": []}


def test_an_unknown_lag_rings():
    assert lagging({"a": 7_199.9}, 7_200) == []
    assert [one["error"] for one in lagging({"b": float("nan"), "a": 7_200}, 7_200)] == ["lag"] * 2


def test_thumbs_survive_a_restart(tmp_path):
    path = str(tmp_path / "thumbs.sqlite")
    Thumbs(path).put("user:1", "c", 0, True, 1.0)
    again = Thumbs(path)
    again.put("user:2", "c", 0, False, 2.0)
    again.put("user:1", "c", 0, True, 3.0)
    assert again.count() == (1, 2)
