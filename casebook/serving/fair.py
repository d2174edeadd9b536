"""Fair queueing: a noisy client waits behind itself, not before the others.

A resource answers so many requests at a time (*slots*). Who comes when all are taken waits. First
come, first served lets one tenant with a thousand requests hold up all others; here each request
gets a *start tag*, at which its tenant's last one would have ended if the tenant had its share, and
the smallest tag goes next (start-time fair queueing).

Examples
--------
>>> async def order():
...     fair, served = Fair(slots=1), []
...     async def one(tenant):
...         async with fair.turn(tenant):
...             served.append(tenant)
...             await asyncio.sleep(0)
...     await asyncio.gather(*map(one, "aaaab"))
...     return "".join(served)
>>> asyncio.run(order())
'abaaa'
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

#: Requests of one client that may wait.
MOST_WAITING = 100


class Full(Exception):
    """Too many requests of one client wait already."""


class Fair:
    """Slots of one resource, shared by weight.

    Parameters
    ----------
    slots : int
    most : int
        Requests of one tenant that wait; one more is refused.
    fair : bool
        Without it, first come is first served: for comparison.
    """

    def __init__(self, slots: int, most: int = MOST_WAITING, fair: bool = True) -> None:
        self.free, self.most, self.fair = slots, most, fair
        self._now = 0.0
        self._ends: dict[str, float] = {}
        self._numbers = count()
        self._queue: list[tuple[float, int, asyncio.Future]] = []
        self.waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(
        self, tenant: str, weight: float = 1.0, cost: float = 1.0
    ) -> AsyncIterator[None]:
        """Wait for a slot, and hold it.

        Raises
        ------
        Full
            When too many of this tenant wait already.
        """
        if self.waiting[tenant] >= self.most:
            raise Full(f"{self.most} requests wait already")
        tag = max(self._now, self._ends.get(tenant, 0.0)) if self.fair else 0.0
        self._ends[tenant] = tag + cost / weight
        if self.free:
            self.free -= 1
            self._now = tag
        else:
            try:
                await self._wait(tenant, tag)
            except asyncio.CancelledError:
                self._ends[tenant] -= cost / weight  # who gave up has used nothing of its share
                raise
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, tenant: str, tag: float) -> None:
        """Wait until a slot is handed over."""
        place: asyncio.Future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (tag, next(self._numbers), place))
        self.waiting[tenant] += 1
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._pass_on()  # it came at the moment at which nobody wanted it any more
            raise
        finally:
            self.waiting[tenant] -= 1

    def _pass_on(self) -> None:
        """Give a slot to the next one, or back."""
        while self._queue:
            tag, _, place = heapq.heappop(self._queue)
            if not place.done():
                self._now = max(self._now, tag)
                place.set_result(None)
                return
        self.free += 1
