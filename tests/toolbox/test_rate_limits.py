"""Rate limits by client and resource, in one process and in Redis."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest
from redis import exceptions

from casebook.serving.rate_limits import Limit, Limits, RedisLimits

URL = os.environ.get("CASEBOOK_REDIS_URL")
NO_REDIS = pytest.mark.skipif(not URL, reason="CASEBOOK_REDIS_URL is not set: .ci/run starts Redis")


def test_buckets_are_of_one_tenant_and_one_model_and_follow_the_configuration():
    now = [0.0]
    limits, slow = Limits(lambda: now[0]), Limit(per_minute=60, burst=2)

    def take(tenant, model, limit=slow):
        return asyncio.run(limits.take(tenant, model, limit))

    assert [take("a", "m") for _ in range(3)] == [0, 0, 1]
    assert take("b", "m") == take("a", "n") == 0
    assert take("a", "m", Limit(per_minute=60, burst=50)) == 1, "a new limit is no gift"


LIMIT = Limit(per_minute=60, burst=10)


def fake():
    """Return what makes clients of one Redis in this process, and that Redis."""
    import fakeredis

    server = fakeredis.FakeServer()
    return lambda: fakeredis.aioredis.FakeRedis(server=server), server


def real():
    """Return what makes clients of the Redis that the environment names."""
    from redis.asyncio import Redis

    return lambda: Redis.from_url(URL), None


@pytest.mark.parametrize("made", [fake, pytest.param(real, marks=NO_REDIS)])
def test_two_gateways_share_one_bucket_in_redis(made):
    prefix = uuid.uuid4().hex

    async def crowd():
        both = [RedisLimits(client(), prefix) for _ in range(2)]
        asked = [both[at % 2].take("acme", "small", LIMIT) for at in range(40)]
        return await asyncio.gather(*asked), await both[0].take("globex", "small", LIMIT)

    client, _ = made()
    waits, other = asyncio.run(crowd())
    assert 10 <= waits.count(0.0) <= 12 and other == 0, "the burst, and what flowed in meanwhile"
    assert all(0 < wait <= 1 for wait in waits if wait)


def test_without_redis_each_gateway_limits_for_itself():
    client, server = fake()
    server.connected = False
    assert asyncio.run(RedisLimits(client()).take("acme", "small", LIMIT)) == 0


class Broken:
    """A Redis that answers each question with an error, or with what is no number."""

    def __init__(self, error=None):
        self.error, self.asked = error, 0

    def pipeline(self):
        return self

    async def __aenter__(self):
        self.asked += 1
        return self

    async def __aexit__(self, *_):
        pass

    async def watch(self, key):
        pass

    async def time(self):
        return 1, 0

    async def get(self, key):
        if self.error is None:
            return b"no number"
        raise self.error


@pytest.mark.parametrize("error", ["ReadOnlyError", "OutOfMemoryError", "AuthenticationError",
                                   "WatchError", None])  # fmt: skip
def test_a_redis_that_fails_leaves_each_gateway_its_own_limit(error):
    redis = Broken(getattr(exceptions, error)("no") if error else None)
    limits = RedisLimits(redis)
    waits = [asyncio.run(limits.take("acme", "small", Limit(per_minute=1, burst=2)))
             for _ in range(3)]  # fmt: skip
    assert waits[:2] == [0, 0] and 0 < waits[2] <= 60


def test_who_was_told_to_wait_does_not_reach_redis_until_then():
    client, server = fake()

    async def flood():
        limits = RedisLimits(client())
        first = [await limits.take("acme", "small", Limit(per_minute=60, burst=1)) for _ in "ab"]
        server.connected = False  # so that only what is not asked can know
        return [*first, await limits.take("acme", "small", Limit(per_minute=60, burst=1))]

    passed, wait, again = asyncio.run(flood())
    assert passed == 0 and 0 < again <= wait <= 1
