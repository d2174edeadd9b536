"""Answers that are given again to the same question of the same tenant.

Each tenant has a shelf of its own: no key can name another one's, a busy tenant throws out its own
answers only, and nobody learns from a quick answer what others have asked. Take
:mod:`casebook.serving.permitted_answers` instead where the readers of one tenant may not see the
same, or an answer must go with the documents that it was made from.

Examples
--------
>>> cache = Cache(clock=lambda: 0.0)
>>> cache.put("acme", "k", "an answer", seconds=60)
>>> cache.get("acme", "k"), cache.get("globex", "k")
('an answer', None)
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

#: Answers that are kept for one tenant, and characters of the longest.
MOST, LONGEST = 200, 20_000


class Cache:
    """Shelves by tenant, in memory; the least recently used answer goes first."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._shelves: dict[str, OrderedDict[str, tuple[float, Any]]] = {}

    def get(self, tenant: str, key: str) -> Any:
        """Return an answer, or None."""
        shelf = self._shelves.get(tenant, {})
        until, found = shelf.get(key, (0.0, None))
        if found is None or until <= self._clock():
            shelf.pop(key, None)
            return None
        shelf.move_to_end(key)
        return found

    def put(self, tenant: str, key: str, answer: Any, seconds: float) -> None:
        """Keep an answer for so long."""
        shelf = self._shelves.setdefault(tenant, OrderedDict())
        shelf[key] = (self._clock() + seconds, answer)
        shelf.move_to_end(key)
        while len(shelf) > self._most:
            shelf.popitem(last=False)


def key_of(*parts: Any) -> str:
    """Return a key of everything that an answer depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
