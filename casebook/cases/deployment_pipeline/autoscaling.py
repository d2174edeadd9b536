"""Pods that need 100 seconds to start, and five ways to have them there when the load comes.

The fleet and its controller are :mod:`casebook.serving.pods`: 30 requests a second and 60 % CPU a
pod, four to ten pods. A CPU cannot be busier than 100 %: with the target of 60 % an overloaded
fleet grows by two thirds at a time, whatever the load is. Requests a second have no such ceiling.
But both see a rise when it is there, and the pods come 100 seconds later.

Examples
--------
>>> quiet = simulate(np.full(1440, 90.0), "fixed 6", hours=(0, 0.1))
>>> quiet.summary["dropped"], quiet.summary["pod_hours"]
(0.0, 0.6)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from casebook.serving import pods
from casebook.serving.pods import Fleet, Run, Strategy

SEEDS = tuple(range(15))
_SHOWN = ("over_1s", "dropped", "p99")
STRATEGIES = {
    "fixed 6": Strategy("none", floor=(0, 24, 6)),
    "fixed 10": Strategy("none", floor=(0, 24, 10)),
    "cpu": Strategy("cpu"),
    "cpu 40 %": Strategy("cpu", 0.4),
    "requests": Strategy("requests"),
    "scheduled": Strategy("cpu", floor=(11.5, 13.5, 6)),
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
    hours: tuple[float, float] = (0.0, 24.0),
    afternoon: tuple[float, float] = (14.0, 18.0),
) -> pd.DataFrame:
    """Run every strategy on the same days, and on their afternoons with a flash crowd.

    Returns
    -------
    DataFrame
        ``seed``, ``day`` (``lunch``, all of it, or ``flash crowd``, its afternoon) and the summary
        of :class:`Run`.
    """
    rows = []
    for seed in seeds:
        for day in ("lunch", "flash crowd"):
            load = lunch_day(seed, day == "flash crowd")
            span = hours if day == "lunch" else afternoon
            for name in strategies:
                found = simulate(load, name, None, seed, span).summary
                rows.append({"seed": seed, "day": day, "strategy": name, **found})
    return pd.DataFrame(rows)


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
