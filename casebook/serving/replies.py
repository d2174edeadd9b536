"""Ask a service by GET in an open loop, and keep each reply: what a swap or a fault must not spoil.

:func:`casebook.serving.load.load` times posts and stops at the first that fails. Here requests are
due at fixed times as well, and every reply is kept with its status, so that one can count the
failed ones, see which version answered while another took over, and add up the stages that a reply
tells of.

Examples
--------
>>> from casebook.serving.load import Server
>>> with Server("casebook.serving.load:echo") as server:
...     got = ask(server.url + "/anything", [{"n": n} for n in range(150)], rps=500)
>>> got.failed, len(got.ms), got.latency().n
(0, 150, 100)
>>> stages = pd.DataFrame({"search": [1.0] * 99 + [9.0], "rank": [9.0] + [1.0] * 99})
>>> summed(stages)[["p50", "p99"]].round(2).to_numpy().tolist()
[[1.0, 1.08], [1.0, 1.08], [2.0, 2.16], [2.0, 10.0]]
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from casebook.serving.latency import Latency


@dataclass(frozen=True)
class Replies:
    """What came of requests, in the order in which they were due.

    Attributes
    ----------
    ms : ndarray, shape (n,)
        Milliseconds from when a request was due to its whole reply.
    status : ndarray of int
        0 where there was no reply.
    bodies : list of str
        Of a request without a reply, the reason.
    seconds : float
        From the first to the last.
    """

    ms: np.ndarray
    status: np.ndarray
    bodies: list[str]
    seconds: float

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return int((self.status != 200).sum())

    def answers(self, warm_up: int = 0) -> list[dict[str, Any]]:
        """Return the objects of those that were answered with 200, after a warm-up."""
        pairs = zip(self.status[warm_up:], self.bodies[warm_up:], strict=True)
        return [json.loads(body) for status, body in pairs if status == 200]

    def latency(self, warm_up: int = 50) -> Latency:
        """Return the percentiles after a warm-up."""
        counted = self.ms[warm_up:]
        if len(counted) < 100:
            raise ValueError(f"{len(counted)} counted requests: a p99 needs at least 100.")
        p50, p95, p99 = np.percentile(counted, [50, 95, 99])
        return Latency(float(p50), float(p95), float(p99), len(counted), warm_up)


def ask(
    url: str,
    queries: Sequence[Mapping[str, Any]],
    rps: float,
    concurrency: int = 16,
    passed: Callable[[int], None] = lambda i: None,
) -> Replies:
    """Ask at a fixed rate.

    Parameters
    ----------
    url : str
    queries : sequence of mapping
        Parameters of each request.
    rps : float
        Requests a second, due at even distances; each is timed from when it was due.
    concurrency : int
        Most requests on their way together.
    passed : callable
        Told the number of each request before it is sent: where a drill swaps, or kills.

    Returns
    -------
    Replies

    Raises
    ------
    ValueError
        If there is no request, or the rate or concurrency cannot be; and what ``passed`` raises.
    """
    if not queries or not 0 < rps < np.inf or concurrency < 1:
        raise ValueError(f"{len(queries)} requests at {rps} a second by {concurrency}: give some.")
    import httpx

    n, turns = len(queries), iter(range(len(queries)))
    ms, status, bodies = np.zeros(n), np.zeros(n, int), [""] * n

    raised: list[Exception] = []

    def client() -> None:
        try:
            work()
        except Exception as error:  # requests that were never sent are no fast ones
            raised.append(error)

    def work() -> None:
        for i in turns:  # next() of a range iterator is atomic
            if raised:
                return
            due = begin + i / rps
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            passed(i)
            try:
                reply = http.get(url, params=queries[i])
                status[i], bodies[i] = reply.status_code, reply.text
            except httpx.HTTPError as error:
                bodies[i] = repr(error)
            ms[i] = 1000 * (time.perf_counter() - due)

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    with httpx.Client(trust_env=False, timeout=10, limits=limits) as http:
        begin = time.perf_counter()
        clients = [threading.Thread(target=client) for _ in range(concurrency)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    if raised:
        raise raised[0]
    return Replies(ms, status, bodies, time.perf_counter() - begin)


def summed(stages: pd.DataFrame) -> pd.DataFrame:
    """Return percentiles of stages, their sums, and the percentiles of the whole.

    Parameters
    ----------
    stages : DataFrame
        Milliseconds, a row for each request and a column for each stage.

    Returns
    -------
    DataFrame
        Index the stages, ``sum of stages`` (percentiles added up, as a budget table does) and
        ``whole`` (percentiles of each request's own total); ``p50``, ``p95``, ``p99``, ``mean``.
        Means add up, percentiles do not.
    """
    parts = stages.quantile([0.5, 0.95, 0.99]).T.set_axis(["p50", "p95", "p99"], axis=1)
    parts["mean"] = stages.mean()
    whole = stages.sum(axis=1)
    total = [*whole.quantile([0.5, 0.95, 0.99]), whole.mean()]
    parts.loc["sum of stages"], parts.loc["whole"] = parts.sum(), total
    return parts.rename_axis("stage")


def told_stages(got: Replies, warm_up: int = 50) -> pd.DataFrame:
    """Return :func:`summed` of the ``ms`` that replies tell, and ``client``: as it sees them.

    A failed request tells of no stages, and counts for the client as long as it took.

    Raises
    ------
    ValueError
        If none was answered after the warm-up.
    """
    bodies = got.answers(warm_up)
    if not bodies:
        raise ValueError(f"none of {len(got.ms)} requests was answered: {got.bodies[-1:]}")
    table = summed(pd.DataFrame([body["ms"] for body in bodies]).fillna(0.0))
    client = np.percentile(got.ms[warm_up:], [50, 95, 99])
    table.loc["client"] = [*client, got.ms[warm_up:].mean()]
    return table


def phases(
    got: Replies,
    rps: float,
    spans: Sequence[tuple[float, float]],
    told: Mapping[str, str] | None = None,
    model: str = "model",
) -> pd.DataFrame:
    """Compare replies before, while and after something was done to a service.

    Parameters
    ----------
    got : Replies
    rps : float
        As of :func:`ask`.
    spans : sequence of tuple
        Seconds from the first request at which it began and ended, each time.
    told : mapping of str to str, optional
        Column → field of the replies, of which the different values are listed.
    model : str
        The ``source`` of a reply that is no fall-back.

    Returns
    -------
    DataFrame
        ``during`` (before, build, after), ``requests``, ``failed``, ``fallbacks``, ``p50``, ``p99``
        (ms) and the columns of ``told``. What is due a tenth of a second before a span is of it.

    Examples
    --------
    >>> body = '{"source": "model", "version": 1}'
    >>> got = Replies(np.array([1.0, 9.0, 2.0]), np.full(3, 200), [body] * 3, 3.0)
    >>> phases(got, 1.0, [(1.0, 1.5)], {"versions": "version"}).set_index("during")["p50"].to_dict()
    {'before': 1.0, 'build': 9.0, 'after': 2.0}
    """
    due = np.arange(len(got.ms)) / rps
    inside = np.zeros(len(due), bool)
    for begin, end in spans:
        inside |= (due >= begin - 0.1) & (due <= end)
    before, rows = ~inside & (due < min((begin for begin, _ in spans), default=np.inf)), []
    for phase, where in (("before", before), ("build", inside), ("after", ~inside & ~before)):
        some = np.flatnonzero(where)
        bodies = [json.loads(got.bodies[i]) for i in some if got.status[i] == 200]
        ms = np.percentile(got.ms[some], [50, 99]) if len(some) else (np.nan, np.nan)
        fell = sum(body["source"] != model for body in bodies)
        values = [
            ", ".join(str(v) for v in sorted({body[field] for body in bodies}))
            for field in (told or {}).values()
        ]
        rows.append((phase, len(some), int((got.status[some] != 200).sum()), fell, *ms, *values))
    columns = ["during", "requests", "failed", "fallbacks", "p50", "p99", *(told or {})]
    return pd.DataFrame(rows, columns=columns)
