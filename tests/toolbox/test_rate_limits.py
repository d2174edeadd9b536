"""Rate limits by client and resource, in one process and in Redis."""

from __future__ import annotations

import asyncio

from casebook.serving.rate_limits import Limit, Limits, RedisLimits


def test_buckets_are_of_one_tenant_and_one_model_and_follow_the_configuration():
    now = [0.0]
    limits, slow = Limits(lambda: now[0]), Limit(per_minute=60, burst=2)

    def take(tenant, model, limit=slow):
        return asyncio.run(limits.take(tenant, model, limit))

    assert [take("a", "m") for _ in range(3)] == [0, 0, 1]
    assert take("b", "m") == take("a", "n") == 0
    assert take("a", "m", Limit(per_minute=60, burst=50)) == 1, "a new limit is no gift"


def test_two_gateways_share_one_bucket_in_redis():
    import fakeredis

    server = fakeredis.FakeServer()
    both = [RedisLimits(fakeredis.aioredis.FakeRedis(server=server)) for _ in range(2)]
    limit = Limit(per_minute=60, burst=10)

    async def crowd():
        asked = [both[at % 2].take("acme", "small", limit) for at in range(40)]
        return await asyncio.gather(*asked), await both[0].take("globex", "small", limit)

    waits, other = asyncio.run(crowd())
    assert 10 <= waits.count(0.0) <= 11 and other == 0, "the burst, and what flowed in meanwhile"
    assert all(0 < wait <= 1 for wait in waits if wait)
    server.connected = False
    own = asyncio.run(both[0].take("acme", "small", limit))
    assert own == 0, "without Redis each gateway limits for itself"
