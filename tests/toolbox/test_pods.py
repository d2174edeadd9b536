"""Pods and their controller: its rules one by one."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.serving.pods import Fleet, Strategy, simulate

CPU, REQUESTS = Strategy("cpu"), Strategy("requests")
FLOOR = Strategy("cpu", floor=(11.5, 13.5, 9))


def step(low, high, at=12.0):
    """Return a load that jumps at an hour."""
    return np.where(np.arange(1440) / 60 >= at, high, low).astype(float)


def test_pods_come_a_cold_start_after_they_are_asked_for():
    for cold in (100, 400):
        fleet = Fleet(cold=cold)
        table = simulate(step(100, 180), REQUESTS, fleet, hours=(11.9, 12.4)).timeline
        grown = table.loc[table["ready"] > 4, "minute"].iloc[0] - 720
        assert -0.7 <= grown - cold / 60 <= 1.5


def test_within_the_tolerance_nothing_happens():
    for load, pods in ((127, 4), (140, 5)):
        table = simulate(np.full(1440, float(load)), REQUESTS, hours=(0, 0.5)).timeline
        assert table["ready"].iloc[-1] == pods


def test_a_cpu_is_never_busier_than_its_ceiling_and_requests_are():
    flood = step(100, 400)
    asked = {}
    for name in (CPU, REQUESTS):
        table = simulate(flood, name, hours=(11.9, 12.1)).timeline
        asked[name.metric] = (
            (table["ready"] + table["starting"]).loc[table["minute"] == 720].iloc[0]
        )
    assert asked["cpu"] <= 7 < asked["requests"]


def test_it_goes_down_only_after_five_quiet_minutes():
    load = np.where(np.abs(np.arange(1440) - 720) < 20, 240.0, 100.0)
    table = simulate(load, REQUESTS, hours=(11.3, 12.8)).timeline.set_index("minute")
    assert table.loc[742, "ready"] >= 8 and table.loc[750, "ready"] == 4


def test_never_fewer_or_more_pods_than_the_fleet_has():
    for load in (0.0, 1_200.0):
        run = simulate(np.full(1440, load), CPU, hours=(0, 0.15))
        assert run.timeline["ready"].between(4, 10).all()
        assert (run.timeline["ready"].iloc[-1] == 10) == (load > 0)
    assert run.summary["dropped"] > 0.5 and run.summary["over_1s"] > run.summary["dropped"]


def test_the_floor_is_there_by_the_clock_and_gone_afterwards():
    quiet = np.full(1440, 60.0)
    table = simulate(quiet, FLOOR, hours=(11.3, 13.8)).timeline.set_index("minute")
    assert table.loc[689, "ready"] == 4 and table.loc[693, "ready"] == 9
    assert table.loc[822, "ready"] == 4


def test_a_forecast_has_the_pods_ready_when_the_load_comes():
    load = step(100, 240)
    table = simulate(load, Strategy("predicted"), hours=(11.8, 12.2), usual=load).timeline
    assert table.set_index("minute").loc[719, "ready"] >= 7


def test_a_known_load_that_stays_low_asks_for_nothing():
    quiet = np.full(1440, 80.0)
    run = simulate(quiet, Strategy("predicted"), hours=(11.8, 12.2), usual=2 * quiet)
    assert (run.timeline["ready"] == 4).all()  # the level of the day counts, not the usual one


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: simulate(np.ones(3), CPU), "1,440 numbers"),
        (lambda: simulate(np.full(1440, np.nan), CPU), "1,440 numbers"),
        (lambda: simulate(np.full(1440, 1e6), CPU), "1,440 numbers"),
        (lambda: simulate(np.ones(1440), Strategy("predicted")), "to predict"),
        (lambda: Fleet(least=5, most=4), "sizes and times"),
        (lambda: Fleet(sync=7), "sizes and times"),
        (lambda: Strategy("none"), "fixed pods from 1"),
        (lambda: Strategy("memory"), "metric one of"),
    ],
)
def test_what_makes_no_sense_is_said(call, told):
    with pytest.raises(ValueError, match=told):
        call()
