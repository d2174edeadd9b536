"""Write to a log behind the answers: a request does not wait for the disk.

What is written a moment later may be lost by a kill in that moment. That is right for a log of what
was shown, whose reader counts thousands; a log that must prove a decision is written before the
answer (:mod:`casebook.serving.log`).

Examples
--------
>>> import tempfile, pathlib
>>> from casebook.serving.eventlog import EventLog
>>> folder = tempfile.TemporaryDirectory()
>>> log = EventLog(pathlib.Path(folder.name) / "log.db")
>>> behind = Behind(log)
>>> [behind.put("a", str(n)) for n in range(3)], behind.flush()
([True, True, True], True)
>>> [event.body for event in log.read()], behind.lost
(['0', '1', '2'], 0)
>>> behind.close(), log.close(), folder.cleanup()
(None, None, None)
"""

from __future__ import annotations

import threading
import time
from collections import deque

from casebook.serving.eventlog import Log


class Behind:
    """A queue before a log, and a thread that empties it.

    Parameters
    ----------
    log : Log
    most : int
        Events that may wait; more are counted in ``lost`` and forgotten, since the answers go on.
    every : float
        Seconds that the thread gathers events: what a kill may lose.

    Attributes
    ----------
    lost : int
    trouble : str
        What the log said when it last failed; what waits is tried again.
    """

    def __init__(self, log: Log, most: int = 10_000, every: float = 0.05) -> None:
        self._log, self._most, self._every = log, most, every
        self._waiting: deque[tuple[str, str]] = deque()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.lost, self.trouble = 0, ""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, key: str, body: str) -> bool:
        """Leave an event to be written; return whether there was room for it."""
        with self._lock:
            room = len(self._waiting) < self._most
            if room:
                self._waiting.append((key, body))
            self.lost += not room
            return room

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until all is written; return whether it is."""
        end = time.monotonic() + seconds
        while self._waiting and time.monotonic() < end:
            time.sleep(0.005)
        return not self._waiting

    def close(self) -> None:
        """Write what waits, and end the thread; the log stays open."""
        self._stop.set()
        self._thread.join(5)

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            some = [*self._waiting]
        if not some:
            return
        try:
            self._log.append(some)
            self.trouble = ""
        except Exception as error:  # a full disk may have room again
            self.trouble = f"{type(error).__name__}: {error}"[:200]
            return
        with self._lock:
            for _ in some:
                self._waiting.popleft()
