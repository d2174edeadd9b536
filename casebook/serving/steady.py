"""A clock that is watched by a second one: a wall clock that jumps moves nothing.

A service stamps what it stores. If the wall clock is a day ahead for a second, its stamps are of
tomorrow, and all that comes later is late. What has passed since the last look is known from
another clock, which nobody sets; where the two differ too much, that one goes on.

Examples
--------
>>> wall, passed = [pd.Timestamp("2025-03-01 12:00")], [0.0]
>>> clock = Steady(lambda: wall[0], passed=lambda: passed[0])
>>> wall[0], passed[0] = pd.Timestamp("2025-03-02 12:00:01"), 1.0
>>> clock(), clock.trouble
(Timestamp('2025-03-01 12:00:01'), 'clock: 86,400 s ahead of what has passed: set it, or restart')
>>> wall[0], passed[0] = pd.Timestamp("2025-03-01 12:00:02"), 2.0
>>> clock(), clock.trouble
(Timestamp('2025-03-01 12:00:02'), '')
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pandas as pd


def _passed() -> float:
    """Return seconds that nobody sets; they run on while the machine sleeps, where it can tell."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def utc() -> pd.Timestamp:
    """Return now, in UTC without a zone."""
    return pd.Timestamp.now("UTC").tz_localize(None)


class Steady:
    """Now, which never goes back and never jumps.

    Parameters
    ----------
    wall : callable
        Now, as a Timestamp.
    most : float
        Seconds by which it may be set at once.
    passed : callable
        Seconds.

    Attributes
    ----------
    trouble : str
        What is wrong with the wall clock, or "".
    """

    def __init__(
        self,
        wall: Callable[[], pd.Timestamp] = utc,
        most: float = 60.0,
        passed: Callable[[], float] = _passed,
    ) -> None:
        self._wall, self._most, self._passed, self._lock = wall, most, passed, threading.Lock()
        self._at, self._tick, self.trouble = wall(), passed(), ""

    def __call__(self) -> pd.Timestamp:
        with self._lock:
            wall, tick = self._wall(), self._passed()
            now = self._at + pd.Timedelta(seconds=max(tick - self._tick, 0.0))
            ahead, self.trouble = (wall - now).total_seconds(), ""
            if abs(ahead) > self._most:
                way = "ahead of" if ahead > 0 else "behind"
                self.trouble = (
                    f"clock: {abs(ahead):,.0f} s {way} what has passed: set it, or restart"
                )
            else:
                now = max(wall, self._at)
            self._at, self._tick = now, tick
            return now
