"""Pods that need 100 seconds to start, and five ways to have them there when the load comes.

The fleet and its controller are :mod:`casebook.serving.pods`: 30 requests a second and 60 % CPU a
pod, four to ten pods. A CPU cannot be busier than 100 %: with the target of 60 % an overloaded
fleet grows by two thirds at a time, whatever the load is. Requests a second have no such ceiling.
But both see a rise when it is there, and the pods come 100 seconds later.

Examples
--------
>>> quiet = simulate(np.full(1440, 90.0), "fixed 4", hours=(0, 0.1))
>>> quiet.summary["dropped"], quiet.summary["pod_hours"]
(0.0, 0.4)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from casebook.serving import pods
from casebook.serving.pods import Fleet, Run, Strategy
from casebook.serving.queues import mean_wait, shared_wait

SEEDS = tuple(range(15))
_SHOWN = ("over_1s", "dropped", "p99")
STRATEGIES = {
    "fixed 4": Strategy("none", floor=(0, 24, 4)),
    "fixed 10": Strategy("none", floor=(0, 24, 10)),
    "cpu": Strategy("cpu"),
    "cpu 40 %": Strategy("cpu", 0.4),
    "requests": Strategy("requests"),
    "scheduled": Strategy("cpu", floor=(11.5, 13.5, 9)),
    "predictive": Strategy("predicted"),
}


# The load -------------------------------------------------------------------------------


def usual_day(lunch: float = 12.0, ramp: float = 3.0) -> np.ndarray:
    """Return expected requests a second of each minute; lunch rises within ``ramp`` minutes."""
    hour = np.arange(1440) / 60
    steps = ((7.5, 0.5, 75), (lunch, ramp / 264, 150), (13.1, 0.12, -145), (18.0, 0.4, 35))
    steps += ((20.5, 0.5, -65), (22.5, 0.3, -45))
    return 30 + sum(height * expit((hour - at) / width) for at, width, height in steps)


def lunch_day(seed: int, crowd: bool = False, ramp: float = 3.0) -> np.ndarray:
    """Return requests a second of each minute of one day.

    The day's level varies by 6 %, the minute's by 4 % (with memory), and lunch begins some minutes
    early or late. It brings 2.4 times the load.

    Parameters
    ----------
    seed : int
    crowd : bool
        Whether a flash crowd comes in the afternoon: 150 requests a second more within a minute,
        for twelve minutes.
    ramp : float
        Minutes in which lunch rises from 10 to 90 %: an assumption on which all depends (see
        :func:`cold_starts`).

    Returns
    -------
    ndarray, shape (1440,)
    """
    rng = np.random.default_rng([seed, 21])
    load = usual_day(12 + rng.normal(0, 0.06), ramp) * np.exp(rng.normal(0, 0.06))
    noise = np.zeros(1440)
    for minute, shock in enumerate(rng.normal(0, 0.04 * np.sqrt(1 - 0.8**2), 1439), 1):
        noise[minute] = 0.8 * noise[minute - 1] + shock
    load = load * np.exp(noise)
    start = int(rng.integers(15 * 60, 17 * 60))
    if crowd:
        load[start : start + 12] += 150
    return load


def simulate(
    load: np.ndarray,
    strategy: str | Strategy,
    fleet: Fleet | None = None,
    seed: int = 0,
    hours: tuple[float, float] = (0.0, 24.0),
) -> Run:
    """Simulate a strategy by its name; the others as of :func:`casebook.serving.pods.simulate`.

    The usual load of the predictive one is :func:`usual_day`, without the day's own noise.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy {strategy!r}: one of {', '.join(STRATEGIES)}.")
        strategy = STRATEGIES[strategy]
    return pods.simulate(load, strategy, fleet, seed, hours, usual_day())


# Studies --------------------------------------------------------------------------------


def days(
    seeds: Sequence[int] = SEEDS,
    strategies: Sequence[str] = tuple(STRATEGIES),
    hours: tuple[float, float] = (10.0, 18.0),
) -> pd.DataFrame:
    """Run every strategy on the same days, with and without a flash crowd.

    Returns
    -------
    DataFrame
        ``seed``, ``day`` (``lunch`` or ``flash crowd``) and the summary of :class:`Run`.
    """
    rows = []
    for seed in seeds:
        for day in ("lunch", "flash crowd"):
            load = lunch_day(seed, day == "flash crowd")
            for name in strategies:
                found = simulate(load, name, None, seed, hours).summary
                rows.append({"seed": seed, "day": day, "strategy": name, **found})
    return pd.DataFrame(rows)


def frontier(
    seeds: Sequence[int] = SEEDS, hours: tuple[float, float] = (11.0, 14.0)
) -> pd.DataFrame:
    """Turn each strategy's own knob: what does a pod hour buy around lunch?

    Returns
    -------
    DataFrame
        ``seed``, ``strategy``, ``knob``, ``pod_hours`` (of these hours), ``over_1s``, ``p99``.
    """
    grid = {
        "fixed": {pods: Strategy("none", floor=(0, 24, pods)) for pods in (6, 7, 8)},
        "cpu": {at: Strategy("cpu", at) for at in (0.3, 0.4, 0.5, 0.6)},
        "requests": {at: Strategy("requests", at) for at in (15.0, 20.0, 30.0)},
        "scheduled": {n: Strategy("cpu", floor=(11.5, 13.5, n)) for n in (6, 7, 8, 9)},
        "predictive": {at: Strategy("predicted", at) for at in (20.0, 25.0, 30.0)},
    }
    rows = []
    for seed in seeds:
        load = lunch_day(seed)
        for name, knobs in grid.items():
            for knob, strategy in knobs.items():
                found = simulate(load, strategy, None, seed, hours).summary
                own = {key: found[key] for key in ("pod_hours", "over_1s", "p99")}
                rows.append({"seed": seed, "strategy": name, "knob": knob, **own})
    return pd.DataFrame(rows)


def queueing(
    loads: Sequence[float] = (60, 120, 160, 180), hours: float = 1.0, seed: int = 3
) -> pd.DataFrame:
    """Hold the simulated queues of four pods against the formulas for one.

    Returns
    -------
    DataFrame
        ``load`` (requests a second), ``utilisation``, ``spread``, ``simulated`` and ``theory``
        (mean wait in seconds, Pollaczek and Khinchine), ``p99`` and ``p99_theory`` (of wait and
        service; M/M/1 only) and ``shared`` (mean wait of one queue for all; M/M/c only).
    """
    rows = []
    for load in loads:
        for spread in (0.0, 0.5, 1.0):
            fleet = Fleet(spread=spread)
            found = simulate(np.full(1440, load), "fixed 4", fleet, seed, (0, hours)).summary
            rate, s = load / 4, fleet.service
            busy = rate * s
            theory = mean_wait(rate, s, spread)
            p99 = np.log(100) / (1 / s - rate) if spread == 1 else np.nan
            shared = shared_wait(load, s, 4) if spread == 1 else np.nan
            waited = found["mean"] - s
            rows.append((load, busy, spread, waited, theory, found["p99"], p99, shared))
    names = ["load", "utilisation", "spread", "simulated", "theory", "p99", "p99_theory", "shared"]
    return pd.DataFrame(rows, columns=names)


def cold_starts(
    seeds: Sequence[int] = SEEDS,
    ramps: Sequence[float] = (1, 3, 9, 20),
    seconds: Sequence[float] = (20, 100, 200),
) -> pd.DataFrame:
    """Vary what the result depends on: how fast lunch comes and how long a pod takes to start.

    Returns
    -------
    DataFrame
        ``seed``, ``ramp`` (minutes), ``seconds`` (cold start), ``probe`` (False once: requests go
        to pods that are not ready), ``over_1s``, ``dropped``, ``p99`` of the strategy ``cpu``
        from 11:30 to 12:45.
    """
    rows = []
    for seed in seeds:
        for ramp in ramps:
            load = lunch_day(seed, ramp=ramp)
            for cold, probe in [*((one, True) for one in seconds), (100, False)]:
                fleet = Fleet(cold=cold, probe=probe)
                found = simulate(load, "cpu", fleet, seed, (11.5, 12.75)).summary
                rows.append((seed, ramp, cold, probe, *(found[key] for key in _SHOWN)))
    return pd.DataFrame(rows, columns=["seed", "ramp", "seconds", "probe", *_SHOWN])
