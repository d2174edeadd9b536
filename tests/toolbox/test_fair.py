"""Fair queues: quiet clients, weights, full queues and clients that leave."""

from __future__ import annotations

import asyncio

import pytest

from casebook.serving.fair import Fair, Full


def waits(fair, noisy=60):
    """Return how many were served before the quiet tenant's last request."""

    async def run():
        queue, order = Fair(slots=2, fair=fair), []

        async def one(tenant):
            async with queue.turn(tenant):
                await asyncio.sleep(0.001)
                order.append(tenant)

        await asyncio.gather(*map(one, "n" * noisy + "qqq"))
        assert queue.free == 2 and not queue.waiting.total()
        return "".join(order).rindex("q")

    return asyncio.run(run())


def test_a_quiet_tenant_does_not_wait_behind_a_noisy_one():
    assert waits(fair=False) >= 60 and waits(fair=True) <= 10


def test_weights_share_a_provider_and_a_full_queue_and_one_that_leaves_are_no_harm():
    async def run():
        queue, order = Fair(slots=1, most=40), []

        async def one(tenant, weight):
            async with queue.turn(tenant, weight):
                await asyncio.sleep(0)
                order.append(tenant)

        many = [asyncio.create_task(one(*who)) for who in [("a", 3.0), ("b", 1.0)] * 40]
        await asyncio.sleep(0)
        with pytest.raises(Full, match="wait already"):
            await asyncio.gather(one("a", 3.0), one("a", 3.0), one("a", 3.0))
        for task in many[50:60]:
            task.cancel()
        await asyncio.gather(*many, return_exceptions=True)
        assert queue.free == 1
        return order[:24].count("a")

    assert 16 <= asyncio.run(run()) <= 19


def test_who_gave_up_waiting_has_used_nothing_of_its_share():
    async def run():
        queue, order = Fair(slots=1), []

        async def one(tenant):
            async with queue.turn(tenant):
                order.append(tenant)

        async with queue.turn("c"):
            gone = [asyncio.create_task(one("a")) for _ in range(50)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            waiting = [asyncio.create_task(one(who)) for who in "b" * 20 + "a"]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        return order.index("a")

    assert asyncio.run(run()) <= 1
