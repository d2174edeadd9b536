"""What is counted rather than timed: limits, bills, and what guards cost.

Limits are held against exact arithmetic (:func:`exact`), bills against what clients have seen while
providers fail, clients leave and the gateway is killed.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
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
from casebook.cases.llm_gateway.meter import audit, recover
from casebook.cases.llm_gateway.store import Database, Store
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

    Returns
    -------
    DataFrame
        ``limiter``, ``pattern``, ``asked``, ``allowed`` (exactly), ``passed``, ``error`` (share).
    """
    limit, rows = Limit(per_minute=int(60 * rate), burst=20), []
    for pattern, at in patterns(seconds, rate).items():
        passed = _aside(_alone(limit, at))
        rows.append(("one process", pattern, len(at), exact(at, limit), passed))
    at, passed = _aside(_shared(limit, live_s / 4))
    rows.append(("two clients, Redis", "as fast as they can", len(at), exact(at, limit), passed))
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


async def _shared(limit: Limit, seconds: float) -> tuple[list[float], int]:
    """Let two gateways ask one (fake) Redis; return the moments and how many passed."""
    from fakeredis import FakeAsyncRedis, FakeServer

    server, at, passed = FakeServer(), [], []
    until = time.time() + seconds

    async def ask(limits: RedisLimits) -> None:
        while (now := time.time()) < until:
            passed.append(await limits.take("a", "m", limit) == 0)
            at.append(now)
            await asyncio.sleep(0.01)

    clients = [FakeAsyncRedis(server=server) for _ in range(2)]
    await asyncio.gather(*(ask(RedisLimits(client)) for client in clients))
    for client in clients:
        await client.aclose()
    return sorted(at), sum(passed)


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


# Bills ------------------------------------------------------------------------------------

FAULTS = {"failed": 0.01, "cut": 0.01, "stream_error": 0.01, "slow": 0.03, "malformed": 0.005}
#: Share of the streams whose client leaves, and tenants.
LEAVES, ASKING = 0.15, ("t0", "t1", "t2")


def metering(
    requests: int = 2_000, kills: int = 3, rps: float = 25.0, seed: int = 1
) -> pd.DataFrame:
    """Compare bills with what clients have seen, after faults, departures and kills.

    Each request has an idempotency key; one of the tenants has personal data masked. The gateway
    is killed (``kill -9``) ``kills`` times; after each, what got no answer is sent again with its
    key, and with it some that had one.

    Returns
    -------
    DataFrame
        ``what`` and ``n``: ``requests``, ``sent`` (with repeats), ``kills``, ``released after
        kills``, ``answered`` (whole), ``left`` (clients), ``billed``; what must be 0: ``billed
        twice``, ``answered, not billed``, ``tokens differ``, ``invoice differs`` (nano-dollars),
        ``open at the end``, ``sums that differ``; and ``billed, not answered``: those whose answer
        was on its way when the gateway was killed.
    """
    rng = np.random.default_rng(seed)
    asked = {f"r{i}": _question(i, rng) for i in range(requests)}
    faults = {"shares": FAULTS, "token_s": 0.0005, "pause_s": 0.05}
    may = {"models": ["m", "other"], "fallbacks": {"m": ["other"]}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        tenants = [{"name": one, **may} for one in ASKING]
        tenants[-1] |= {"guard": {"pii_out": "redact"}}
        keys = _before(stack, Path(folder), tenants, faults)
        path = Path(folder) / "db"
        seen, released = _lives(path, asked, keys, kills, rps, rng)
        store = Store(str(path))
        found = store.submit(_bills).result()
        store.close()
    made = {"requests": requests, "sent": len(seen), "kills": kills}
    made |= {"released after kills": released, **differences(seen, **found)}
    return pd.DataFrame({"what": [*made], "n": [*made.values()]})


def _lives(path: Path, asked, keys, kills: int, rps: float, rng) -> tuple[pd.DataFrame, int]:
    """Send all requests to one gateway after the other; return the answers, and what was open."""
    parts = [*np.array_split(rng.permutation([*asked]), kills + 1), [], []]
    seen, again, released = [], [], 0
    for turn, part in enumerate(parts):
        if not (todo := [*again, *part]):
            break
        rows = _a_life(path, todo, asked, keys, rps, turn < kills)
        seen.append(rows.assign(request=todo))
        repeated = rows["status"].isin((0, 502, 503)) | ~(rows["whole"] | rows["left"])
        if turn <= kills:
            repeated |= rng.random(len(rows)) < 0.05
        again = [one for one, yes in zip(todo, repeated, strict=True) if yes]
        store = Store(str(path))
        released += store.submit(recover).result()  # as if the lease were over
        store.close()
    return pd.concat(seen, ignore_index=True), released


def _question(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return tenant, body and the pieces after which the client leaves."""
    stream = bool(rng.integers(2))
    body = {"messages": [{"role": "user", "content": f"Question {number}"}], "stream": stream}
    body |= {"stream_options": {"include_usage": True}} if stream else {}
    leaves = 2 if stream and rng.random() < LEAVES else 0
    return {"tenant": ASKING[number % 3], "body": body, "leaves": leaves}


def _a_life(path: Path, todo, asked, keys, rps: float, killed: bool) -> pd.DataFrame:
    """Send requests to a gateway that is killed on the way; return the answers."""
    with Server(name_of(gateway), {"path": str(path)}) as one:
        sent = []
        for at, name in enumerate(todo):
            own = asked[name]
            head = {"Authorization": f"Bearer {keys[own['tenant']]}", "Idempotency-Key": name}
            sent.append(Request(one.url + CHAT, own["body"], at / rps, head, own["leaves"]))
        with Scheduled(sent) as crowd:
            if killed:
                time.sleep(0.9 * len(todo) / rps)
                one.kill()
            return crowd.wait()


def _bills(db: Database) -> dict[str, Any]:
    """Return what the meter holds: bills, sums by tenant, open requests, sums that differ."""
    names = ["id", "tenant", "how", "tokens_in", "tokens_out", "cost"]
    rows = db.execute(
        "select request, tenant, how, tokens_in, tokens_out, cost from meter"
        " where state = 'settled'"
    ).fetchall()
    sums = dict(db.execute("select tenant, sum(settled) from spend group by tenant").fetchall())
    still = db.execute("select count(*) from meter where state = 'open'").fetchone()[0]
    bills = pd.DataFrame([tuple(row) for row in rows], columns=names)
    return {"bills": bills, "sums": sums, "still": still, "off": len(audit(db))}


def differences(
    seen: pd.DataFrame, bills: pd.DataFrame, sums: Mapping[str, int], still: int, off: int
) -> dict[str, int]:
    """Compare what clients have seen with what is billed; see :func:`metering`.

    Parameters
    ----------
    seen : DataFrame
        ``request``, ``status``, ``whole``, ``left``, ``id``, ``end``.
    bills : DataFrame
        ``id``, ``tenant``, ``how``, ``tokens_in``, ``tokens_out``, ``cost``.
    sums : mapping of str to int
        By tenant.
    still, off : int
        Requests that are open; sums that differ from their requests.
    """
    good = seen[(seen["status"] == 200) & seen["whole"]]
    usage = {row.id: _usage(row.end) for row in good.itertuples()}
    own = bills.assign(id=bills["id"].str.partition(":")[0])
    told = own.set_index("id")[["tokens_in", "tokens_out"]].apply(tuple, axis=1).to_dict()
    complete = set(own.loc[own["how"] == "complete", "id"])
    invoice = own.groupby("tenant")["cost"].sum().to_dict()
    gone = set(seen.loc[seen["left"].astype(bool), "id"])
    return {
        "answered": len(usage),
        "left": int(seen["left"].sum()),
        "billed": len(own),
        "billed twice": int(own["id"].duplicated().sum()),
        "answered, not billed": len(usage.keys() - told.keys()),
        "tokens differ": sum(told.get(one, used) != used for one, used in usage.items()),
        "invoice differs": sum(abs(sums[t] - invoice.get(t, 0)) for t in sums),
        "open at the end": still,
        "sums that differ": off,
        "billed, not answered": len(complete - usage.keys() - gone),
    }


def _usage(end: str) -> tuple[int, int]:
    """Return tokens in and out as the end of an answer tells them."""
    used = re.findall(r'"usage": (\{[^}]*\})', end)[-1]
    told = json.loads(used)
    return told["prompt_tokens"], told["completion_tokens"]


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


def _median(call: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    spent = np.empty(times)
    for i in range(times):
        start = clock()
        call()
        spent[i] = 1000 * (clock() - start)
    return float(np.median(spent))
