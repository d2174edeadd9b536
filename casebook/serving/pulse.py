"""How a service that answers people does: times, failures, lags and their alarms, thumbs.

Examples
--------
>>> pulse = Pulse(fewest=2)
>>> for seconds in (1.0, 9.0):
...     pulse.beat(0.5, seconds)
>>> pulse.told()["answers"], pulse.alarms(p95=8.0)[0]["error"], pulse.alarms(p95=9.0)
(2, 'slow', [])
>>> lagging({"wiki": 7_200.0, "chat": 60.0}, most=7_200.0)[0]["what"]
'wiki was last read to its end 2.0 h ago.'
>>> lags = Lags(clock=lambda: 100.0)
>>> lags.expects(["wiki", "chat"]), lags.ended("wiki", at=90.0)
(None, None)
>>> lags.seconds(), lagging(lags.seconds(), most=60.0)[0]["what"]
({'wiki': 10.0, 'chat': None}, 'chat was not read to its end yet.')
>>> thumbs = Thumbs()
>>> thumbs.put("user:1", "c1", 0, True, now=5.0), thumbs.put("user:1", "c1", 0, False, now=6.0)
(None, None)
>>> thumbs.count()
(0, 1)
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from casebook.data.private import private


class Pulse:
    """Seconds of the last answers, to the first piece and to the last, and those that failed.

    Parameters
    ----------
    window, fewest : int
        Answers that are looked at, and from how many on an alarm for a slow tail may ring.
    share : float
        Share of failures from which their alarm rings, from the third one on.
    """

    def __init__(self, window: int = 500, fewest: int = 20, share: float = 0.05) -> None:
        self.fewest, self.share, self._lock = fewest, share, threading.Lock()
        self._took = deque[tuple[float, float]](maxlen=window)
        self._broke = deque[bool](maxlen=window)
        self._in_a_row = 0

    def beat(self, first: float, whole: float) -> None:
        """Keep the seconds of an answer."""
        with self._lock:
            self._took.append((first, whole))
            self._broke.append(False)
            self._in_a_row = 0

    def fail(self) -> None:
        """Count an answer that failed; its seconds say nothing of the others."""
        with self._lock:
            self._broke.append(True)
            self._in_a_row += 1

    def broken(self) -> int:
        """Return how many of the last answers failed, one after the other."""
        with self._lock:
            return self._in_a_row

    def _seconds(self) -> np.ndarray:
        with self._lock:
            return np.array([*self._took]).reshape(-1, 2)

    def told(self) -> dict[str, Any]:
        """Return ``answers``, ``failed``, and median and 95th percentile of the seconds."""
        took = self._seconds()
        first, whole = (np.quantile(c, [0.5, 0.95]).tolist() if len(c) else [] for c in took.T)
        with self._lock:
            failed = sum(self._broke)
        return {"answers": len(took), "failed": failed, "first": first, "whole": whole}

    def alarms(self, p95: float) -> list[dict[str, str]]:
        """Return what rings: failures, and a 95th percentile over so many seconds."""
        found, whole = [], self._seconds()[:, 1]
        with self._lock:
            failed, of = sum(self._broke), len(self._broke)
        if failed >= 3 and failed >= self.share * of:
            what = f"{failed} of the last {of} answers failed."
            found.append({"error": "failing", "what": what, "do": "See the service's log."})
        if len(whole) >= self.fewest and (seconds := np.quantile(whole, 0.95)) > p95:
            what = f"The 95th percentile of the last {len(whole)} answers is {seconds:.1f} s."
            found.append({"error": "slow", "what": what, "do": "See the stages; add a worker."})
        return found


class Lags:
    """When each source was last read to its end.

    Parameters
    ----------
    clock : callable
        Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock, self._lock = clock, threading.Lock()
        self._ended = dict[str, float | None]()

    def expects(self, sources: Iterable[str]) -> None:
        """Watch sources: one that was never read to its end has no lag, and rings."""
        with self._lock:
            for source in sources:
                self._ended.setdefault(source, None)

    def ended(self, source: str, at: float | None = None) -> None:
        """Note that a source was read to its end.

        Parameters
        ----------
        source : str
        at : float, optional
            When that reading *began*, as what came since was not read; now by default.
        """
        with self._lock:
            self._ended[source] = self.clock() if at is None else at

    def seconds(self) -> dict[str, float | None]:
        """Return the lag of each source; None for one that was never read to its end."""
        now = self.clock()
        with self._lock:
            told = self._ended.items()
            return {name: None if at is None else max(0.0, now - at) for name, at in told}


def known(lags: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return lags as JSON can say them: None for what is no number.

    Examples
    --------
    >>> known({"wiki": 5.0, "chat": None, "drive": float("inf")})
    {'wiki': 5.0, 'chat': None, 'drive': None}
    """
    return {name: s if s is not None and math.isfinite(s) else None for name, s in lags.items()}


def lagging(lags: Mapping[str, float | None], most: float, of: str = "") -> list[dict[str, str]]:
    """Return what rings: sources whose lag in seconds is not below the most, or not known.

    Parameters
    ----------
    lags : mapping of str to float or None
        None and what is no number: nobody knows.
    most : float
        Seconds.
    of : str, optional
        What of the source is read, for the text.
    """
    found = []
    for source, seconds in sorted(lags.items()):
        if seconds is None or not math.isfinite(seconds):
            what = f"{source}{of} was not read to its end yet."
        elif seconds >= 3600:
            what = f"{source}{of} was last read to its end {seconds / 3600:.1f} h ago."
        else:
            what = f"{source}{of} was last read to its end {seconds:.0f} s ago."
        if seconds is None or not seconds < most:
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
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
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
