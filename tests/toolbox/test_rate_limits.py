"""Rate limits by client and resource, in one process and in Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis import Redis, exceptions
from redis import asyncio as redis_asyncio

from casebook.serving.rate_limits import Limit, Limits, RedisLimits

URL = os.environ.get("CASEBOOK_REDIS_URL")
PROGRAM = shutil.which("redis-server")


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


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Return the address of a real Redis: the one that is named, or one that is started."""
    if URL or not PROGRAM:
        yield URL or pytest.skip("neither CASEBOOK_REDIS_URL nor redis-server")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [PROGRAM, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir",
               str(tmp_path_factory.mktemp("redis"))]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            with Redis(port=int(port)) as client:
                answers(client)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()


def answers(client, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(exceptions.ConnectionError):
            return client.ping()
        time.sleep(0.05)
    raise TimeoutError("Redis does not answer")


@pytest.fixture(params=["fake", "real"])
def client(request):
    """Return what makes clients of one Redis."""
    if request.param == "fake":
        return fake()[0]
    address = request.getfixturevalue("url")
    return lambda: redis_asyncio.Redis.from_url(address)


def test_two_gateways_share_one_bucket_in_redis(client):
    prefix = uuid.uuid4().hex

    async def crowd():
        both = [RedisLimits(client(), prefix) for _ in range(2)]
        asked = [both[at % 2].take("acme", "small", LIMIT) for at in range(40)]
        found = await asyncio.gather(*asked), await both[0].take("globex", "small", LIMIT)
        for one in both:
            await one.close()
        return found

    waits, other = asyncio.run(crowd())
    assert 10 <= waits.count(0.0) <= 12 and other == 0, "the burst, and what flowed in meanwhile"
    assert all(0 < wait <= 1 for wait in waits if wait)


def rush(kind, client, limit, threads=23, gateways=23, each=10):
    """Let gateways, shared out to threads, ask at once; return how many passed, and seconds."""
    prefix, ready = uuid.uuid4().hex, threading.Barrier(threads)

    async def some():
        own = [kind(client(), prefix) for _ in range(gateways // threads)]
        ready.wait(30)
        waits = await asyncio.gather(*(one.take("a", "m", limit) for one in own * each))
        await asyncio.gather(*(one.close() for one in own))
        return waits.count(0.0)

    start = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        found = [pool.submit(asyncio.run, some()) for _ in range(threads)]
    return sum(one.result() for one in found), time.monotonic() - start


class Watched(RedisLimits):
    """The earlier form: look, then take unless another was quicker, 20 times."""

    async def _shared(self, key, limit):
        each = 60 / limit.per_minute
        async with self._client.pipeline() as pipe:
            for _ in range(20):
                with suppress(exceptions.WatchError):
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
        raise exceptions.WatchError("others were quicker each time")


class Apart(RedisLimits):
    """Look and take, but not in one transaction."""

    async def _shared(self, key, limit):
        each = 60 / limit.per_minute
        seconds, micro = await self._client.time()
        now = seconds + micro / 1e6
        full = max(now, float(await self._client.get(key) or 0))
        if (wait := full - now - (limit.burst - 1) * each) > 1e-6:
            return wait
        await self._client.set(key, repr(full + each))
        return 0.0


@pytest.mark.parametrize(("threads", "per_minute"), [(23, 1), (23, 600), (1, 1)])
def test_a_rush_of_many_gateways_passes_the_burst_and_what_flowed_in(client, threads, per_minute):
    limit = Limit(per_minute=per_minute, burst=124)
    passed, seconds = rush(RedisLimits, client, limit, threads)
    assert 124 <= passed <= 124 + seconds * per_minute / 60


@pytest.mark.parametrize(("kind", "threads"), [(Watched, 1), (Apart, 1), (Apart, 23)])
def test_a_rush_finds_a_limit_that_gives_tokens_twice(client, kind, threads):
    passed, seconds = rush(kind, client, Limit(per_minute=1, burst=124), threads)
    assert passed > 150 + seconds / 60


def test_a_wait_is_over_when_it_says_and_what_is_kept_goes_away(client):
    limit, prefix = Limit(per_minute=120, burst=3), uuid.uuid4().hex

    async def asked():
        limits, other = RedisLimits(client(), prefix), RedisLimits(client(), prefix)
        first = [await limits.take("a", "m", limit) for _ in range(4)]
        for _ in range(5):  # who is refused takes nothing
            await RedisLimits(limits._client, prefix).take("a", "m", limit)
        kept = {
            key: await limits._client.ttl(key) for key in await limits._client.keys(f"{prefix}*")
        }
        early = await other.take("a", "m", limit)
        await asyncio.sleep(early + 0.005)
        late = await other.take("a", "m", limit), await other.take("a", "m", limit)
        for one in (limits, other):
            await one.close()
        return first, early, late, kept

    first, early, (passed, again), kept = asyncio.run(asked())
    assert first[:3] == [0, 0, 0] and 0 < early < first[3] <= 0.5
    assert passed == 0 < again <= 0.5
    assert [*kept] == [f"{prefix}:1:a:m".encode()] and 1 <= kept[f"{prefix}:1:a:m".encode()] <= 2


def test_without_redis_each_gateway_limits_for_itself():
    client, server = fake()
    server.connected = False
    assert asyncio.run(RedisLimits(client()).take("acme", "small", LIMIT)) == 0


class Broken:
    """A Redis that answers each question with an error."""

    def __init__(self, error):
        self.error, self.asked = error, 0

    async def time(self):
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("error", ["ReadOnlyError", "OutOfMemoryError", "AuthenticationError",
                                   "ConnectionError", "TimeoutError"])  # fmt: skip
def test_a_redis_that_fails_leaves_each_gateway_its_own_limit(error):
    redis = Broken(getattr(exceptions, error)("no"))
    limits = RedisLimits(redis)
    waits = [asyncio.run(limits.take("acme", "small", Limit(per_minute=1, burst=2)))
             for _ in range(3)]  # fmt: skip
    assert waits[:2] == [0, 0] and 0 < waits[2] <= 60 and redis.asked == 3


def test_what_another_keeps_under_the_key_leaves_each_gateway_its_own_limit(client):
    async def asked():
        limits, prefix = RedisLimits(client(), "other"), "other:4:acme:small"
        await limits._client.set(prefix, "no number")
        waits = [await limits.take("acme", "small", Limit(per_minute=1, burst=2)) for _ in "abc"]
        await limits._client.delete(prefix)
        await limits.close()
        return waits

    waits = asyncio.run(asked())
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


def test_names_that_hold_the_separator_do_not_share_a_bucket():
    async def both():
        limits, one = RedisLimits(fake()[0]()), Limit(per_minute=1, burst=1)
        pairs = [("acme:eu", "swift"), ("acme", "eu:swift"), ("acme", "eu:swift")]
        return [await limits.take(*pair, one) for pair in pairs]

    first, second, third = asyncio.run(both())
    assert first == second == 0 and third > 0
