"""Latency of a call as a service owner reads it: percentiles after a warm-up.

Examples
--------
>>> measured = measure(lambda: sum(range(100)), n=200)
>>> measured.n, measured.p50 <= measured.p95 <= measured.p99
(200, True)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Percentiles of a measured call.

    Attributes
    ----------
    p50, p95, p99 : float
        Milliseconds.
    n, warm_up : int
        Counted calls, and calls made before them.
    """

    p50: float
    p95: float
    p99: float
    n: int
    warm_up: int

    def percentiles(self) -> dict[str, float]:
        """Return the percentiles by name, for a row of a table."""
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99}

    def __str__(self) -> str:
        return (
            f"p50 {self.p50:.2f} ms, p95 {self.p95:.2f} ms, p99 {self.p99:.2f} ms "
            f"({self.n:,} calls after {self.warm_up:,} to warm up)"
        )


def measure(call: Callable[[], object], n: int = 1000, warm_up: int = 50) -> Latency:
    """Time a call without arguments, one after the other.

    Parameters
    ----------
    call : callable
        What is timed.
    n : int
        Counted calls, at least 100: with fewer there is no p99.
    warm_up : int
        Calls before the counted ones.

    Returns
    -------
    Latency

    Raises
    ------
    ValueError
        If ``n`` is below 100 or ``warm_up`` negative.

    Notes
    -----
    The calls are made one at a time from one thread: the result is the service
    time, not the response time under load.
    """
    if n < 100:
        raise ValueError(f"n is {n}: a p99 needs at least 100 calls.")
    if warm_up < 0:
        raise ValueError(f"warm_up is {warm_up}: it cannot be negative.")
    for _ in range(warm_up):
        call()
    seconds = np.empty(n)
    for i in range(n):
        start = time.perf_counter()
        call()
        seconds[i] = time.perf_counter() - start
    p50, p95, p99 = np.percentile(seconds * 1000, [50, 95, 99])
    return Latency(float(p50), float(p95), float(p99), n, warm_up)


def throughput(run: Callable[[], int]) -> dict[str, float]:
    """Run once and return what is done of it in a second.

    Parameters
    ----------
    run : callable
        Returns how many it did.

    Returns
    -------
    dict
        ``a_second`` of CPU, ``a_second_wall`` by the clock, ``n`` done.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    done = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"a_second": done / cpu, "a_second_wall": done / wall, "n": done}
