"""Measured in turns: a disturbed machine meets both paths, and the difference is theirs alone."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from casebook.serving.saturation import by_turns, cpu_seconds, percentiles


def test_what_the_machine_does_meanwhile_is_not_in_the_difference():
    draw, rows = np.random.default_rng(0), []
    for turn in range(15):
        noise = draw.exponential(20)
        for path, own in (("service", 5.0), ("router", 6.0)):
            ms = {"p50": 1.0, "p95": 2.0, "p99": own + noise + draw.normal(0, 0.2)}
            rows.append({"path": path, "rps": 50, "turn": turn, "n": 10, **ms, "failed": 0})
    found = by_turns(pd.DataFrame(rows)).set_index("path")
    apart = found.loc["difference"]
    assert 0.7 < apart["low"] < apart["p99"] < apart["high"] < 1.3
    assert found.loc["service", "high"] - found.loc["service", "low"] > 5
    assert found.loc["router", "n"] == 150


def test_percentiles_are_of_all_answers_and_failures_are_counted():
    rows = pd.DataFrame({"ms": np.arange(101.0), "status": [200] * 99 + [0, 503]})
    assert percentiles(rows) == {"p50": 50, "p95": 95, "p99": 99, "failed": 2}


def test_the_time_of_a_process_is_that_of_the_system():
    times = os.times()
    assert cpu_seconds(os.getpid()) == pytest.approx(times.user + times.system, abs=0.5)
