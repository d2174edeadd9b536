"""Rate limits: how often each client may use each resource, in this process or in Redis.

Examples
--------
>>> import asyncio
>>> limits, limit = Limits(clock=lambda: 0.0), Limit(per_minute=60, burst=1)
>>> [asyncio.run(limits.take(tenant, "small", limit)) for tenant in ("acme", "acme", "globex")]
[0.0, 1.0, 0.0]
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from casebook.llm.providers import Count, Fixed
from casebook.serving.buckets import Bucket

LOG = logging.getLogger("rate_limits")
#: How often a bucket in Redis is tried while others take from it.
TRIES = 20


class Limit(Fixed):
    """Requests a minute, and how many of them may come at once."""

    per_minute: Count
    burst: Count


class Limits:
    """Buckets by tenant and model, in the memory of one process.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[Limit, Bucket]] = {}

    async def take(self, tenant: str, model: str, limit: Limit) -> float:
        """Take a token of a tenant for a model; return 0, or the seconds to wait."""
        now = self._clock()
        known, bucket = self._buckets.get((tenant, model), (None, None))
        if bucket is None:
            bucket = Bucket(limit.per_minute, limit.burst, now)
        elif known != limit:
            bucket.change(limit.per_minute, limit.burst)
        self._buckets[tenant, model] = limit, bucket
        return bucket.take(now)

    async def close(self) -> None:
        """Have nothing to close."""


class RedisLimits:
    """The same buckets for several gateways, in Redis and by its clock.

    Kept is one number a bucket: the moment at which it will be full. A request that fits moves it
    on by the time of one token (the generic cell rate algorithm, which passes what a bucket
    passes). Where two gateways ask at once, the slower one looks again, a few times. Who was told
    to wait is refused until then without asking Redis, so that a flood does not reach it. While
    Redis is away, or answers with an error, each gateway limits for itself: N of them then let
    through N times the limit.

    Parameters
    ----------
    client : redis.asyncio.Redis
    prefix : str
        Of the keys.
    """

    def __init__(self, client: Any, prefix: str = "limit") -> None:
        self._client, self._prefix, self._own = client, prefix, Limits()
        self._until: dict[tuple[str, str], tuple[Limit, float]] = {}

    async def take(self, tenant: str, model: str, limit: Limit) -> float:
        """Take a token of a tenant for a model; return 0, or the seconds to wait."""
        from redis.exceptions import RedisError

        known, until = self._until.get((tenant, model), (None, 0.0))
        if known == limit and (wait := until - time.monotonic()) > 0:
            return wait
        try:
            wait = await self._shared(f"{self._prefix}:{tenant}:{model}", limit)
        except (RedisError, ValueError) as error:  # ValueError: what is kept is no number
            LOG.warning("limits are this gateway's own: %s", type(error).__name__)
            return await self._own.take(tenant, model, limit)
        self._until[tenant, model] = limit, time.monotonic() + wait
        return wait

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _shared(self, key: str, limit: Limit) -> float:
        from redis.exceptions import WatchError

        each = 60 / limit.per_minute
        async with self._client.pipeline() as pipe:
            for _ in range(TRIES):
                with suppress(WatchError):
                    await pipe.watch(key)
                    seconds, micro = await pipe.time()
                    now, kept = seconds + micro / 1e6, await pipe.get(key)
                    full = max(now, float(kept or 0))
                    wait = full + each - limit.burst * each - now
                    if wait > 1e-6:
                        return wait
                    pipe.multi()
                    pipe.set(key, repr(full + each), ex=1 + int(limit.burst * each))
                    await pipe.execute()
                    return 0.0
        raise WatchError("others were quicker each time")
