"""What is counted rather than timed: limits, and what guards cost.

Limits are held against exact arithmetic (:func:`exact`).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.config import Guard
from casebook.cases.llm_gateway.measured import (
    CHAT,
    TARGETS,
    filled,
    gateway,
    name_of,
    text_of,
    trace,
)
from casebook.llm import mock_providers
from casebook.llm.messages import Message
from casebook.serving.conversation_guard import checked
from casebook.serving.load import Server
from casebook.serving.rate_limits import Limit, Limits, RedisLimits
from casebook.serving.scheduled import Request, Scheduled
from casebook.serving.streamed import StreamMask

# Limits -----------------------------------------------------------------------------------


def exact(at: Iterable[float], limit: Limit) -> int:
    """Return how many of the requests a bucket passes, by fractions: no rounding anywhere."""
    each, passed = Fraction(60) / Fraction(limit.per_minute), 0
    now = full = Fraction(-(10**9))  # full: the moment at which the bucket is full again
    for moment in map(Fraction, at):
        now = moment = max(now, moment)  # nothing flows while a clock goes back
        full = max(full, moment)
        if full + each - moment <= limit.burst * each:
            full, passed = full + each, passed + 1
    return passed


def patterns(seconds: float, rate: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Return moments of requests by pattern: four times as many as pass, and others."""
    rng, n = np.random.default_rng(seed), int(4 * rate * seconds)
    found = {
        "four times the limit": np.sort(rng.uniform(0, seconds, n)),
        "all at once, each ten seconds": np.repeat(np.arange(0, seconds, 10.0), int(20 * rate)),
        "just the limit": np.arange(int(rate * seconds)) / rate,
    }
    if (whole := trace()) is not None:
        at = (whole["TIMESTAMP"] - whole["TIMESTAMP"].iloc[0]).dt.total_seconds().to_numpy()[:n]
        found["Azure's arrivals"] = at * seconds / at[-1]
    return found


def limiter(seconds: float = 120.0, live_s: float = 40.0, rate: float = 10.0) -> pd.DataFrame:
    """Hold the limiters against exact arithmetic.

    Gateways that share a limit ask the Redis that ``CASEBOOK_REDIS_URL`` names, or without one
    fakeredis, in this process; the rows say which. Of a rush, what is allowed is what a bucket
    passes by the moments of the answers.

    Returns
    -------
    DataFrame
        ``limiter``, ``pattern``, ``asked``, ``allowed`` (exactly), ``passed``, ``error`` (share).
    """
    limit, rows = Limit(per_minute=int(60 * rate), burst=20), []
    for pattern, at in patterns(seconds, rate).items():
        passed = _aside(_alone(limit, at))
        rows.append(("one process", pattern, len(at), exact(at, limit), passed))
    kind, client = _redis()
    at, passed = _aside(_shared(limit, live_s / 4, client))
    rows.append((f"2 clients, {kind}", "as fast as they can", len(at), exact(at, limit), passed))
    rushed = Limit(per_minute=1, burst=124)
    at, passed = _aside(_rush(rushed, 23, 10, client))
    rows.append((f"23 clients, {kind}", "all at once", len(at), exact(at, rushed), passed))
    rows.append(("over HTTP", "four times the limit", *_over_http(limit, live_s)))
    made = pd.DataFrame(rows, columns=["limiter", "pattern", "asked", "allowed", "passed"])
    return made.assign(error=made["passed"] / made["allowed"] - 1)


def _aside(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread: a notebook has a loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _alone(limit: Limit, at: Iterable[float]) -> int:
    """Return how many requests a gateway passes by a clock that shows their moments."""
    now, passed = [0.0], 0
    limits = Limits(clock=lambda: now[0])
    for now[0] in at:
        passed += await limits.take("a", "m", limit) == 0
    return passed


def _redis() -> tuple[str, Callable[[], Any]]:
    """Return which Redis is asked, and what makes clients of it."""
    if url := os.environ.get("CASEBOOK_REDIS_URL"):
        from redis.asyncio import Redis

        return "real Redis", lambda: Redis.from_url(url)
    from fakeredis import FakeAsyncRedis, FakeServer

    server = FakeServer()
    return "fake Redis", lambda: FakeAsyncRedis(server=server)


async def _shared(
    limit: Limit, seconds: float, client: Callable[[], Any]
) -> tuple[list[float], int]:
    """Let two gateways ask one Redis; return the moments and how many passed."""
    at, passed, prefix = [], [], uuid.uuid4().hex
    both = [RedisLimits(client(), prefix) for _ in range(2)]
    until = time.time() + seconds

    async def ask(limits: RedisLimits) -> None:
        while (now := time.time()) < until:
            passed.append(await limits.take("a", "m", limit) == 0)
            at.append(now)
            await asyncio.sleep(0.01)

    await asyncio.gather(*map(ask, both))
    await asyncio.gather(*(one.close() for one in both))
    return sorted(at), sum(passed)


async def _rush(
    limit: Limit, clients: int, each: int, client: Callable[[], Any]
) -> tuple[list[float], int]:
    """Let many gateways ask one Redis at once; return moments of answers and how many passed."""
    prefix = uuid.uuid4().hex
    crowd = [RedisLimits(client(), prefix) for _ in range(clients)]

    async def ask(limits: RedisLimits) -> tuple[bool, float]:
        return await limits.take("a", "m", limit) == 0, time.time()

    found = await asyncio.gather(*(ask(one) for one in crowd for _ in range(each)))
    await asyncio.gather(*(one.close() for one in crowd))
    return sorted(at for _, at in found), sum(passed for passed, _ in found)


def _over_http(limit: Limit, seconds: float) -> tuple[int, int, int]:
    """Ask a gateway four times as often as one may; return asked, allowed and passed."""
    tenant = {"name": "a", "models": ["m"], "limits": {"m": limit.model_dump()}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        keys = _before(stack, Path(folder), [tenant], {})
        one = stack.enter_context(Server(name_of(gateway), {"path": str(Path(folder) / "db")}))
        n = int(4 * limit.per_minute / 60 * seconds)
        body = {"messages": [{"role": "user", "content": "hi"}]}
        head = {"Authorization": f"Bearer {keys['a']}"}
        sent = [Request(one.url + CHAT, body, i * seconds / n, head) for i in range(n)]
        with Scheduled(sent) as crowd:
            seen = crowd.wait()
    at = seen["sent"] - seen["sent"].iloc[0]
    return n, exact(at, limit), int((seen["status"] == 200).sum())


def _before(
    stack: ExitStack, folder: Path, tenants: Sequence[Mapping[str, Any]], faults: Mapping[str, Any]
) -> dict[str, str]:
    """Start two providers and fill a database for a gateway; return the tenants' keys."""
    factory = name_of(mock_providers.app)
    own = [
        stack.enter_context(Server(factory, {"form": form, "seed": 7, **faults}))
        for form in ("chat", "messages")
    ]
    price = {"price_in": 150, "price_out": 600}
    raw = {
        "providers": [
            {"name": f"p{i}", "url": one.url, "format": form}
            for i, (one, form) in enumerate(zip(own, ("chat", "messages"), strict=True))
        ],
        "models": [
            {"name": name, "provider": f"p{i}", "upstream": name, **price}
            for i, name in enumerate(("m", "other"))
        ],
        "tenants": tenants,
    }
    return filled(folder / "db", raw)


# Guards -----------------------------------------------------------------------------------

LENGTHS = (400, 1_600, 4_600)
#: What a message ends with if it holds personal data.
PERSONAL = " Please write to jane.doe@example.com or call +49 30 123456."
GUARDS = {
    "none": (Guard(), ""),
    "personal data, none there": (Guard(pii_in="redact"), ""),
    "personal data, some there": (Guard(pii_in="redact"), PERSONAL),
    "attacks by rules": (Guard(injection="flag"), ""),
    "all": (Guard(pii_in="redact", injection="flag"), PERSONAL),
}


def guard_cost(
    times: int = 60, clock: Callable[[], float] = time.thread_time, words: int = 44
) -> pd.DataFrame:
    """Measure the CPU time of each guard on messages of ordinary requests.

    Returns
    -------
    DataFrame
        ``guard``, ``characters`` (in; of an answer 4 for a token), ``ms`` (median), and for each of
        ``TARGETS`` the ``cores_…`` that it keeps busy.
    """
    rows = []
    for name, (guard, more) in GUARDS.items():
        for n in LENGTHS:
            said = [Message("user", text_of(n) + more)]
            rows.append((name, n, _median(lambda g=guard, s=said: checked(g, s), times, clock)))
    pieces = [f"{word} " for word in text_of(8 * words).split()[:words]]

    def masked() -> None:
        mask = StreamMask()
        for piece in pieces:
            mask.feed(piece)
        mask.end()

    rows.append(("personal data, streamed out", 4 * words, _median(masked, times, clock)))
    made = pd.DataFrame(rows, columns=["guard", "characters", "ms"])
    return made.assign(**{f"cores_{rps}": made["ms"] * rps / 1000 for rps in TARGETS})


def guard_tail(
    n: int = 300, clock: Callable[[], float] = time.thread_time, bound: float = 50.0
) -> pd.DataFrame:
    """Measure the CPU time of all guards on messages as long as real ones.

    One text is searched by one core from its start to its end, so more processes do not shorten
    this.

    Parameters
    ----------
    n : int
        Messages, with lengths drawn from Azure's conversations; without those, from ``LENGTHS``.
    clock : callable
        Seconds.
    bound : float
        Milliseconds.

    Returns
    -------
    DataFrame
        ``guard`` and of its ms on a message ``p50``, ``p90``, ``p99``, ``most``; ``over`` (share
        above ``bound``); ``characters`` (p99 of the lengths).
    """
    whole, rng = trace(), np.random.default_rng(1)
    lengths = np.array(LENGTHS) if whole is None else 4 * whole["ContextTokens"].to_numpy()
    drawn, rows = rng.choice(lengths, n), []
    for name in ("personal data, some there", "attacks by rules", "all"):
        guard, more = GUARDS[name]
        ms = np.empty(n)
        for i, size in enumerate(drawn):
            said = [Message("user", text_of(int(size)) + more)]
            ms[i] = _median(lambda g=guard, s=said: checked(g, s), 1, clock)
        at = np.quantile(ms, [0.5, 0.9, 0.99, 1])
        told = dict(zip(("p50", "p90", "p99", "most"), at, strict=True))
        told |= {"over": (ms > bound).mean(), "characters": np.quantile(drawn, 0.99)}
        rows.append({"guard": name} | told)
    return pd.DataFrame(rows)


def _median(call: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    spent = np.empty(times)
    for i in range(times):
        start = clock()
        call()
        spent[i] = 1000 * (clock() - start)
    return float(np.median(spent))
