"""One provider for many tenants: its slots and its rate limit, shared fairly.

A provider answers so many requests at a time, and takes so many a minute from all tenants together.
Whoever goes beyond the second gets a 429 that closes the model for everybody. So the limit is kept
here, before the provider is asked: tenants wait in a fair queue for a token of one bucket, and then
for a slot. Both are of one process: N gateways that ask the same provider get a share of each,
slots and requests a minute divided by N.

Examples
--------
>>> async def order():
...     pool, served = Pooled(slots=9, per_minute=60_000, burst=1), []
...     async def one(tenant):
...         async with pool.turn(tenant):
...             served.append(tenant)
...     await asyncio.gather(*map(one, "aaaab"))
...     return "".join(served)
>>> asyncio.run(order())
'aabaa'
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from casebook.serving.buckets import Bucket
from casebook.serving.fair import Fair


class Pooled:
    """Slots and tokens of one provider.

    Parameters
    ----------
    slots : int
    per_minute : int, optional
        Requests that the provider takes from all tenants together; no limit without it.
    burst : int
        How many of them may come at once.
    fair : bool
        Without it, first come is first served: for comparison.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        slots: int,
        per_minute: int | None = None,
        burst: int = 10,
        fair: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots, self._gate, self._clock = Fair(slots, fair=fair), Fair(1, fair=fair), clock
        self._bucket = Bucket(per_minute, burst, clock()) if per_minute else None

    @asynccontextmanager
    async def turn(self, tenant: str, weight: float = 1.0) -> AsyncIterator[None]:
        """Wait for a token and a slot, and hold the slot.

        Raises
        ------
        Full
            When too many of this tenant wait already.
        """
        if self._bucket is not None:
            async with self._gate.turn(tenant, weight):
                while wait := self._bucket.take(self._clock()):
                    await asyncio.sleep(wait)
        async with self._slots.turn(tenant, weight):
            yield
