"""Requests that wait for a resource, by :class:`~casebook.serving.fair.Fair` on a clock that jumps.

The queue is the one that a service uses. The event loop does not wait for its timers: its time
jumps to the next one. So an hour of traffic takes seconds, and the same traffic gives the same
waits on every machine.

Examples
--------
>>> order("aaaab", fair=False), order("aaaab", fair=True)
('aaaab', 'abaaa')
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from casebook.serving.fair import Fair, Full


class _Jump(selectors.DefaultSelector):
    """Waits for nothing and lets the time of its loop jump instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("Nothing is due any more, and somebody still waits.")
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def on_jumping_clock(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end; its sleeps take no time.

    It runs in a thread of its own, since notebooks have an event loop in theirs.
    """

    def run() -> Any:
        loop = _Loop()
        try:
            return loop.run_until_complete(work)
        finally:
            loop.close()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result()


def queued(
    requests: pd.DataFrame,
    slots: int,
    fair: bool,
    most: int = 100,
    weights: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Let requests wait for a resource.

    Parameters
    ----------
    requests : DataFrame
        ``at`` (in order) and ``seconds`` (how long the resource takes), ``tenant``.
    slots : int
        Requests that are answered at a time.
    fair : bool
        By share of the tenants, or first come, first served.
    most : int
        Requests of one tenant that wait; more are refused.
    weights : mapping of str to float
        Of the tenants in the fair queue; by default all have the same.

    Returns
    -------
    DataFrame
        The same with ``wait`` (seconds; missing if refused) and ``turn`` (place in the order).
    """
    wait, turn = on_jumping_clock(_waited(requests, Fair(slots, most, fair), weights))
    place = pd.Series(range(len(turn)), index=turn).reindex(range(len(requests)))
    return requests.reset_index(drop=True).assign(wait=wait, turn=place)


async def _waited(
    requests: pd.DataFrame, queue: Fair, weights: Mapping[str, float] | None
) -> tuple[np.ndarray, list[int]]:
    """Let each request come when it is due; return the waits, and who had its turn after whom."""
    loop, wait, turn = asyncio.get_running_loop(), np.full(len(requests), np.nan), []

    async def one(row: int, tenant: str, seconds: float) -> None:
        came = loop.time()
        with suppress(Full):
            async with queue.turn(tenant, weights[tenant] if weights else 1.0):
                wait[row] = loop.time() - came
                turn.append(row)
                await asyncio.sleep(seconds)

    rows = requests[["at", "tenant", "seconds"]].itertuples(index=False)
    async with asyncio.TaskGroup() as group:
        for row, (at, tenant, seconds) in enumerate(rows):
            if at > loop.time():
                await asyncio.sleep(at - loop.time())
            group.create_task(one(row, tenant, seconds))
    return wait, turn


def order(tenants: str, fair: bool) -> str:
    """Return in which order requests that come together are served by one slot, a second each."""
    rows = {"tenant": list(tenants), "at": 0.0, "seconds": 1.0}
    made = queued(pd.DataFrame(rows), slots=1, fair=fair)
    return "".join(made.sort_values("turn")["tenant"])
