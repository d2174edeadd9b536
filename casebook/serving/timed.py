"""A cache whose entries are forgotten after some time, and when what they were made of is replaced.

Examples
--------
>>> now = [0.0]
>>> cache = Timed(seconds=300, most=2, clock=lambda: now[0])
>>> cache.put("page 7", version=1, value=[4, 2]), cache.get("page 7", version=1)
(None, [4, 2])
>>> cache.get("page 7", version=2) is None, cache.get("page 8", version=1) is None
(True, True)
>>> now[0] = 300.0
>>> cache.get("page 7", version=1) is None, cache.hits, cache.asked
(True, 1, 4)
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Timed:
    """Keep values for a time.

    Parameters
    ----------
    seconds : float
        For which an entry is good.
    most : int
        Entries; the one that was put first goes first.
    clock : callable
        Seconds.

    Attributes
    ----------
    asked, hits : int
    """

    def __init__(
        self, seconds: float, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not seconds > 0 or most < 1:
            raise ValueError(f"{seconds} seconds for {most} entries: give more of both than 0.")
        self.seconds, self.most, self._clock = seconds, most, clock
        self._kept: OrderedDict[Hashable, tuple[float, Hashable, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self.asked = self.hits = 0

    def get(self, key: Hashable, version: Hashable = None) -> Any:
        """Return the value of a key, or None if there is none that is good."""
        with self._lock:
            self.asked += 1
            until, made_of, value = self._kept.get(key, (0.0, None, None))
            if value is None or self._clock() >= until or made_of != version:
                return None
            self.hits += 1
            return value

    def put(self, key: Hashable, version: Hashable, value: Any) -> None:
        """Keep a value, with the version of what it was made of."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (self._clock() + self.seconds, version, value)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
