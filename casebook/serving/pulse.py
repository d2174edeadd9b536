"""How a service that answers people does: times, alarms for lag and a slow tail, thumbs.

Examples
--------
>>> pulse = Pulse(fewest=2)
>>> for seconds in (1.0, 9.0):
...     pulse.beat(0.5, seconds)
>>> pulse.told()["answers"], pulse.alarms(p95=8.0)[0]["error"], pulse.alarms(p95=9.0)
(2, 'slow', [])
>>> lagging({"wiki": 7_200.0, "chat": 60.0}, most=7_200.0)[0]["what"]
'wiki was last read to its end 2.0 h ago.'
>>> thumbs = Thumbs()
>>> thumbs.put("user:1", "c1", 0, True, now=5.0), thumbs.put("user:1", "c1", 0, False, now=6.0)
(None, None)
>>> thumbs.count()
(0, 1)
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np


class Pulse:
    """Seconds of the last answers: to the first piece, and to the last.

    Parameters
    ----------
    window, fewest : int
        Answers that are looked at, and from how many on an alarm may ring.
    """

    def __init__(self, window: int = 500, fewest: int = 20) -> None:
        self.fewest, self._lock = fewest, threading.Lock()
        self._took = deque[tuple[float, float]](maxlen=window)

    def beat(self, first: float, whole: float) -> None:
        """Keep the seconds of an answer."""
        with self._lock:
            self._took.append((first, whole))

    def _seconds(self) -> np.ndarray:
        with self._lock:
            return np.array([*self._took]).reshape(-1, 2)

    def told(self) -> dict[str, Any]:
        """Return ``answers``, and median and 95th percentile of ``first`` and ``whole``."""
        took = self._seconds()
        first, whole = (np.quantile(c, [0.5, 0.95]).tolist() if len(c) else [] for c in took.T)
        return {"answers": len(took), "first": first, "whole": whole}

    def alarms(self, p95: float) -> list[dict[str, str]]:
        """Return what rings: a 95th percentile over so many seconds."""
        whole = self._seconds()[:, 1]
        if len(whole) < self.fewest or np.quantile(whole, 0.95) <= p95:
            return []
        seconds = np.quantile(whole, 0.95)
        what = f"The 95th percentile of the last {len(whole)} answers is {seconds:.1f} s."
        return [{"error": "slow", "what": what, "do": "See the stages; add a worker."}]


def lagging(lags: Mapping[str, float], most: float) -> list[dict[str, str]]:
    """Return what rings: sources whose lag in seconds is not below the most, or not known."""
    found = []
    for source, seconds in sorted(lags.items()):
        if not seconds < most:
            what = f"{source} was last read to its end {seconds / 3600:.1f} h ago."
            found.append({"error": "lag", "what": what, "do": "See the connector's log."})
    return found


class Thumbs:
    """What users think of answers: the last thumb of a user on a turn counts.

    Parameters
    ----------
    path : str
        Of a file of SQLite.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        columns = "at REAL, user TEXT, conversation TEXT, turn INTEGER, up INTEGER"
        unique = "PRIMARY KEY (user, conversation, turn)"
        self._db.execute(f"CREATE TABLE IF NOT EXISTS thumbs ({columns}, {unique})")

    def put(self, user: str, conversation: str, turn: int, up: bool, now: float) -> None:
        """Keep a thumb."""
        row = now, user, conversation, turn, up
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO thumbs VALUES (?, ?, ?, ?, ?)", row)

    def count(self) -> tuple[int, int]:
        """Return how many thumbs point up, and how many there are."""
        query = "SELECT coalesce(sum(up), 0), count(*) FROM thumbs"
        with self._lock:
            return self._db.execute(query).fetchone()
