"""A provider's slots and rate limit, shared by tenants."""

from __future__ import annotations

import asyncio
import time

import pytest

from casebook.serving.fair import MOST_WAITING, Full
from casebook.serving.pooled import Pooled


async def waits(pool, noisy=60, quiet=5):
    """Let a noisy tenant come first, and a quiet one after it; return seconds and order."""
    began, seen = time.monotonic(), []

    async def one(tenant):
        async with pool.turn(tenant):
            seen.append((tenant, time.monotonic() - began))

    await asyncio.gather(*(one("noisy") for _ in range(noisy)), *(one("q") for _ in range(quiet)))
    return seen


@pytest.mark.parametrize(("fair", "last"), [(True, 12), (False, 65)])
def test_a_quiet_tenant_is_not_behind_a_noisy_one(fair, last):
    seen = asyncio.run(waits(Pooled(64, per_minute=18_000, burst=1, fair=fair)))
    places = [place for place, (tenant, _) in enumerate(seen, 1) if tenant == "q"]
    assert places[-1] <= last and (fair or places[0] > 60)


def test_all_together_keep_within_the_limit_of_the_provider():
    seen = asyncio.run(waits(Pooled(64, per_minute=12_000, burst=10)))
    assert seen[-1][1] >= 0.95 * 55 / 200, "65 requests, 10 at once, then 200 a second"
    quick = asyncio.run(waits(Pooled(64)))
    assert quick[-1][1] < 0.2, "without a limit nobody waits"


def test_who_leaves_while_it_waits_takes_no_token_and_too_many_are_refused():
    async def run():
        pool = Pooled(4, per_minute=600, burst=1)
        async with pool.turn("a"):
            pass
        leaves = asyncio.create_task(pool.turn("a").__aenter__())
        await asyncio.sleep(0.01)
        leaves.cancel()
        began = time.monotonic()
        async with pool.turn("b"):
            took = time.monotonic() - began
        crowd = [asyncio.create_task(pool.turn("c").__aenter__()) for _ in range(MOST_WAITING + 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Full):
            await pool.turn("c").__aenter__()
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        return took

    assert asyncio.run(run()) < 0.15
