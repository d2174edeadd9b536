"""Token buckets: how often a tenant may ask a model, and how long it waits when it may not.

A bucket holds at most ``burst`` tokens and fills evenly. A request takes one; an empty bucket says
when the next token is there, which becomes ``Retry-After``. Over any span, what passes is at most
the burst and what has flowed in.

Examples
--------
>>> bucket = Bucket(Limit(per_minute=60, burst=2), now=0.0)
>>> [bucket.take(0.0), bucket.take(0.0), bucket.take(0.25), bucket.take(1.0)]
[0.0, 0.0, 0.75, 0.0]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from casebook.cases.llm_gateway.config import Limit


class Bucket:
    """A bucket that is full at the start.

    Parameters
    ----------
    limit : Limit
    now : float
        Seconds of a clock that never goes back.
    """

    __slots__ = ("at", "level", "limit")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit, self.level, self.at = limit, float(limit.burst), now

    def take(self, now: float) -> float:
        """Take a token; return 0, or the seconds after which there is one."""
        rate = self.limit.per_minute / 60
        self.level = min(self.limit.burst, self.level + max(0.0, now - self.at) * rate)
        self.at = max(self.at, now)
        if self.level >= 1 - 1e-9:
            self.level -= 1
            return 0.0
        return (1 - self.level) / rate

    def change(self, limit: Limit) -> None:
        """Let another limit hold: what was used stays used."""
        self.level = min(self.level, limit.burst)
        self.limit = limit


class Limits:
    """Buckets by tenant and model, in the memory of one process.

    Parameters
    ----------
    clock : callable
        Seconds.
    share : float
        Of each limit that this process may give away: one divided by the number of gateways,
        where they share no store.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, share: float = 1.0) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}: give a part of the whole, above 0 and at most 1.")
        self._clock, self._share = clock, share
        self._buckets: dict[tuple[str, str], Bucket] = {}

    async def take(self, tenant: str, model: str, limit: Limit) -> float:
        """Take a token of a tenant for a model; return 0, or the seconds to wait."""
        own = limit if self._share == 1 else _part(limit, self._share)
        bucket = self._buckets.get((tenant, model))
        if bucket is None:
            bucket = self._buckets[tenant, model] = Bucket(own, self._clock())
        elif bucket.limit != own:
            bucket.change(own)
        return bucket.take(self._clock())


def _part(limit: Limit, share: float) -> Limit:
    return Limit(
        per_minute=max(1, round(limit.per_minute * share)), burst=max(1, round(limit.burst * share))
    )


def retry_after(seconds: float) -> str:
    """Return a wait as the header has it: whole seconds, at least one.

    >>> retry_after(0.2), retry_after(1.01)
    ('1', '2')
    """
    return str(max(1, math.ceil(seconds - 1e-6)))
