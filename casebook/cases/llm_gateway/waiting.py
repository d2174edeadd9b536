"""What tenants wait for a busy provider, by the gateway's own queue on a clock that jumps.

The queue is :class:`casebook.serving.fair.Fair`, as the gateway uses it. The event loop does not
wait for its timers: its time jumps to the next one. So an hour of traffic takes seconds, and the
same traffic gives the same waits on every machine.

Examples
--------
>>> order("aaaab", fair=False), order("aaaab", fair=True)
('aaaab', 'abaaa')
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.world.tenants import arrivals, replayed, share_of
from casebook.data import real
from casebook.recorded.real import from_real
from casebook.serving.fair import Fair, Full

#: A provider of the simulation: requests at a time, seconds of a request in the mean, and the
#: spread of their logarithm.
SLOTS, MEAN_S, SPREAD = 64, 2.0, 0.8
TENANTS, RPS = 100, 20.0
#: Public traces by the name that the page uses; seconds that are replayed of each.
TRACES = {"conversations": "azure_llm_conversation", "code": "azure_llm_code"}
REPLAYED = 240


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


def queued(requests: pd.DataFrame, slots: int, fair: bool, most: int = 100) -> pd.DataFrame:
    """Let requests wait for a provider.

    Parameters
    ----------
    requests : DataFrame
        ``at`` (in order) and ``seconds`` (how long the provider takes), ``tenant``.
    slots : int
        Requests that are answered at a time.
    fair : bool
        By share of the tenants, or first come, first served.
    most : int
        Requests of one tenant that wait; more are refused.

    Returns
    -------
    DataFrame
        The same with ``wait`` (seconds; missing if refused) and ``turn`` (place in the order).
    """
    queue, wait, turn = Fair(slots, most, fair), np.full(len(requests), np.nan), []

    async def one(row: int, tenant: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        came = loop.time()
        try:
            async with queue.turn(tenant):
                wait[row] = loop.time() - came
                turn.append(row)
                await asyncio.sleep(seconds)
        except Full:
            return

    async def everyone() -> None:
        loop, rows = asyncio.get_running_loop(), requests[["at", "tenant", "seconds"]]
        async with asyncio.TaskGroup() as group:
            for row, (at, tenant, seconds) in enumerate(rows.itertuples(index=False)):
                if at > loop.time():
                    await asyncio.sleep(at - loop.time())
                group.create_task(one(row, tenant, seconds))

    on_jumping_clock(everyone())
    place = pd.Series(range(len(turn)), index=turn).reindex(range(len(requests)))
    return requests.reset_index(drop=True).assign(wait=wait, turn=place)


def order(tenants: str, fair: bool) -> str:
    """Return in which order requests that come together are served by one slot, a second each."""
    rows = {"tenant": list(tenants), "at": 0.0, "seconds": 1.0}
    made = queued(pd.DataFrame(rows), slots=1, fair=fair)
    return "".join(made.sort_values("turn")["tenant"])


def noisy(more: float, seconds: int = 60, seed: int = 20) -> pd.DataFrame:
    """Return a minute of a hundred tenants, of whom the last one asks ``more`` times a second."""
    shares = share_of(TENANTS, seed)
    times = 1 + more / (shares.iloc[-1] * RPS)
    made = arrivals(shares, RPS, seconds, seed, noisy=times)
    rng = np.random.default_rng((seed, 7))
    drawn = rng.lognormal(np.log(MEAN_S) - SPREAD**2 / 2, SPREAD, len(made))
    return made.assign(seconds=drawn, noisy=made["tenant"] == shares.index[-1])


def neighbours(levels: tuple[float, ...], seconds: int = 60, seed: int = 20) -> pd.DataFrame:
    """Return how long the others wait while one tenant is noisy.

    Parameters
    ----------
    levels : tuple of float
        Requests a second that the noisy tenant asks in the middle third.

    Returns
    -------
    DataFrame
        ``more``, ``fair``, ``p50`` and ``p99`` of the others' waits in and after that third
        (seconds), ``own`` (p50 of the noisy tenant), ``refused`` (of its requests, a share).
    """
    rows = []
    for more in levels:
        traffic = noisy(more, seconds, seed)
        for fair in (False, True):
            rows.append((more, fair, *_others(queued(traffic, SLOTS, fair), seconds / 3)))
    return pd.DataFrame(rows, columns=["more", "fair", "p50", "p99", "own", "refused"])


def _others(made: pd.DataFrame, start: float) -> tuple[float, float, float, float]:
    """Return p50 and p99 of the others' waits, the noisy tenant's p50 and its refused share."""
    late = made[made["at"] >= start]
    others, own = late[~late["noisy"]]["wait"], late[late["noisy"]]["wait"]
    p50, p99 = np.nanquantile(others, [0.5, 0.99])
    return p50, p99, own.median(), own.isna().mean()


def real_bursts(more: float = 20.0, seed: int = 20) -> pd.DataFrame:
    """Replay Azure's traces at the same mean rate, with and without a noisy tenant.

    Times and lengths are the traces' own. Who asks is drawn, and a request takes the provider as
    long as its answer has tokens, two seconds in the mean.

    Parameters
    ----------
    more : float
        Requests a second of the noisy tenant in the middle third.
    seed : int

    Returns
    -------
    DataFrame
        ``trace``, ``requests``, ``cv`` (of the times between arrivals, whole trace), ``more``,
        ``fair``, ``p50`` and ``p99`` of the others' waits from the middle third on (seconds).
    """
    shares, rows = share_of(TENANTS, seed), []
    for trace, name in TRACES.items():
        table = pd.read_csv(real(name), parse_dates=["TIMESTAMP"])
        gaps = table["TIMESTAMP"].sort_values().diff().dt.total_seconds()
        traffic = replayed(table, shares, RPS, REPLAYED, seed).assign(noisy=False)
        rng, third = np.random.default_rng((seed, 8)), REPLAYED / 3
        at = np.sort(rng.uniform(third, 2 * third, rng.poisson(more * third)))
        long = rng.choice(traffic["tokens_out"], len(at))
        rush = {"at": at, "tenant": shares.index[-1], "tokens_out": long, "noisy": True}
        both = pd.concat([traffic, pd.DataFrame(rush)]).sort_values("at", ignore_index=True)
        for noise, made in ((0.0, traffic), (more, both)):
            seconds = MEAN_S * made["tokens_out"] / traffic["tokens_out"].mean()
            for fair in (False, True):
                p50, p99, *_ = _others(queued(made.assign(seconds=seconds), SLOTS, fair), third)
                rows.append((trace, len(table), gaps.std() / gaps.mean(), noise, fair, p50, p99))
    names = ["trace", "requests", "cv", "more", "fair", "p50", "p99"]
    return from_real(pd.DataFrame(rows, columns=names), *TRACES.values())
