"""What a store carries when several gateways write to it: commits alone, without HTTP.

A request has two transactions, its reservation and its bill, and both change the month's sum of its
tenant. A busy tenant's requests therefore wait for one row. Each writer here is a process that
reserves and settles for tenants in turn, or all for one, so many at a time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.meter import Ask, Bill, Meter, audit
from casebook.cases.llm_gateway.store import Store, StoreDown


def commits(
    processes: Sequence[int] = (1, 2, 4),
    seconds: float = 4.0,
    together: int = 16,
    tenants: Sequence[int] = (1, 100),
    modes: Sequence[bool] = (False, True),
) -> pd.DataFrame:
    """Let processes reserve and settle on one file as fast as they can.

    Parameters
    ----------
    processes : sequence of int
    seconds : float
    together : int
        Requests that each process has under way.
    tenants : sequence of int
        Whose sums are changed.
    modes : sequence of bool
        Whether a commit waits for the disk.

    Returns
    -------
    DataFrame
        ``durable``, ``tenants``, ``processes``, ``rps`` (requests a second, each with both
        transactions), ``p50`` and ``p99`` (ms of a request), ``failed`` (the store did not answer),
        ``off`` (sums that differ from their requests).
    """
    rows = []
    for durable in modes:
        for n in tenants:
            for many in processes:
                told = {"durable": durable, "tenants": n, "processes": many}
                rows.append(told | _crowd(many, seconds, together, n, durable))
    return pd.DataFrame(rows)


def _crowd(many: int, seconds: float, together: int, tenants: int, durable: bool) -> dict:
    """Run the writers on a new file; return what they did."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "db")
        Store(path, durable).close()
        given = json.dumps([path, seconds, together, tenants, durable, time.time() + 3.0])
        command = [sys.executable, "-m", __name__, given]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(many)]
        told = [json.loads(one.communicate()[0]) for one in writers]
        store = Store(path, durable)
        off = len(store.submit(audit).result())
        store.close()
    took = np.concatenate([one["ms"] for one in told])
    p50, p99 = np.quantile(took, [0.5, 0.99])
    failed = sum(one["failed"] for one in told)
    span = max(one["ended"] for one in told) - min(one["begun"] for one in told)
    return {"rps": len(took) / span, "p50": p50, "p99": p99, "failed": failed, "off": off}


async def _writer(
    path: str, seconds: float, together: int, tenants: int, durable: bool, start: float
) -> dict:
    """Reserve and settle until the time is over."""
    store, took, failed = Store(path, durable), [], 0
    meter = Meter(store)
    await asyncio.sleep(max(0.0, start - time.time()))
    until, begun = time.perf_counter() + seconds, time.time()

    async def one(place: int) -> None:
        nonlocal failed
        done = 0
        while (began := time.perf_counter()) < until:
            name, done = f"{meter.owner}-{place}-{done}", done + 1
            ask = Ask(name, f"t{(place + done) % tenants}", "m", 1_000, time.time())
            try:
                await meter.reserve(ask)
                await meter.settle(name, Bill("m", 10, 40, 500))
                took.append(1000 * (time.perf_counter() - began))
            except StoreDown:
                failed += 1

    await asyncio.gather(*(one(place) for place in range(together)))
    ended = time.time()
    store.close()
    return {"ms": took, "failed": failed, "begun": begun, "ended": ended}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_writer(*json.loads(sys.argv[1])))))
