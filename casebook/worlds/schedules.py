"""Departures by a timetable: what leaves next, what left last, the n-th after.

A schedule is a rising array of times, or of the numbers of days on which somebody works.

Examples
--------
>>> vans = np.array([7.5, 31.5, 79.5])
>>> next_of(vans, np.array([7.5, 8.0])).tolist(), last_of(vans, np.array([8.0, 1.0])).tolist()
([7.5, 31.5], [7.5, 7.5])
>>> nth_after(np.array([0, 1, 4, 5]), after=np.array([1, 2]), n=np.array([2, 1])).tolist()
[5, 4]
"""

from __future__ import annotations

import numpy as np


def next_of(schedule: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the first departure at or after some times."""
    return schedule[np.searchsorted(schedule, at, side="left")]


def last_of(schedule: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the last departure at or before some times; the first, where there is none."""
    return schedule[np.maximum(np.searchsorted(schedule, at, side="right") - 1, 0)]


def nth_after(schedule: np.ndarray, after: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the n-th departure after some times, from 1."""
    return schedule[np.searchsorted(schedule, after, side="right") + n - 1]
