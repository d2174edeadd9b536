"""What a service carries: percentiles at stated loads, two paths in turns, and where it is full.

The machine's other work is in every latency. Two paths to one service are therefore asked in turns,
and what is compared is the difference within a turn. How much a process can do follows from the
CPU time of its requests, which other work does not change.

Examples
--------
>>> from casebook.serving.load import Server
>>> with Server("casebook.serving.load:echo") as server:
...     table = in_turns({"a": server.url, "b": server.url}, [{}] * 20, (50,), 0.4, 2)
>>> table[["path", "n", "failed"]].to_numpy().tolist()
[['a', 40, 0], ['b', 40, 0], ['difference', 0, 0]]
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from casebook.evaluate.intervals import mean_interval
from casebook.serving.traffic import Traffic


def percentiles(rows: pd.DataFrame) -> dict[str, Any]:
    """Return p50, p95 and p99 (ms) of all answers, and how many requests got no 200.

    Examples
    --------
    >>> percentiles(pd.DataFrame({"ms": [1.0, 3.0], "status": [200, 0]}))["failed"]
    1
    """
    p50, p95, p99 = rows["ms"].quantile([0.5, 0.95, 0.99])
    return {"p50": p50, "p95": p95, "p99": p99, "failed": int((rows["status"] != 200).sum())}


def by_turns(rows: pd.DataFrame, first: str = "service", second: str = "router") -> pd.DataFrame:
    """Return means of two paths that took turns, and of their difference turn by turn.

    What the machine did meanwhile has met both, so that it is not in the difference.

    Parameters
    ----------
    rows : DataFrame
        ``path``, ``rps``, ``turn``, ``n`` and :func:`percentiles`.
    first, second : str
        Paths.

    Returns
    -------
    DataFrame
        ``path`` (these, and ``difference``: second less first), ``rps``, ``n``, ``p50``, ``p95``,
        ``p99`` with ``low`` and ``high`` (95 % over the turns), and ``failed``.
    """
    wide = rows.set_index(["path", "rps", "turn"])
    parts = {first: wide.loc[first], second: wide.loc[second]}
    parts["difference"] = parts[second] - parts[first]
    made = []
    for path, part in parts.items():
        for rps, own in part.groupby("rps"):
            low, high = mean_interval(own["p99"])[1:]
            told = {"path": path, "rps": rps, "n": int(own["n"].sum())}
            told |= own[["p50", "p95", "p99"]].mean().to_dict()
            made.append(told | {"low": low, "high": high, "failed": int(own["failed"].sum())})
    return pd.DataFrame(made)


def cpu_seconds(process: int) -> float:
    """Return the seconds of a core that a process has used so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(url: str, bodies: Sequence[Mapping[str, Any]], rps: float, seconds: float) -> pd.DataFrame:
    with Traffic(url, bodies[: int(rps * seconds)], rps) as traffic:
        return traffic.wait()


def in_turns(
    urls: Mapping[str, str],
    bodies: Sequence[Mapping[str, Any]],
    rates: Sequence[float],
    seconds: float,
    rounds: int,
) -> pd.DataFrame:
    """Ask two paths to a service in turns, first the one and then the other; see :func:`by_turns`.

    Parameters
    ----------
    urls : mapping
        Of two paths, by name.
    bodies : sequence of mapping
    rates : sequence of float
        Requests a second, in an open loop from another process.
    seconds : float
        Of each turn.
    rounds : int
        After one that warms up.
    """
    rows, paths = [], list(urls.items())
    for turn in range(-1, rounds):
        for rps, (path, url) in product(rates, paths if turn % 2 else paths[::-1]):
            seen = _ask(url, bodies, rps, seconds)
            rows.append(
                {"path": path, "rps": rps, "turn": turn, "n": len(seen)} | percentiles(seen)
            )
    return by_turns(pd.DataFrame(rows).query("turn >= 0"), *urls)


def saturation(
    url: str,
    process: int,
    bodies: Sequence[Mapping[str, Any]],
    rates: Sequence[float],
    seconds: float,
) -> pd.DataFrame:
    """Return what a service carries, from light load to more than it can.

    Parameters
    ----------
    url : str
    process : int
        Of the service.
    bodies, rates, seconds
        As of :func:`in_turns`.

    Returns
    -------
    DataFrame
        ``rps`` (asked for), ``answered`` (a second, until the last answer), ``cpu`` (busy share of
        one core of the process), and :func:`percentiles`. ``answered / cpu`` is what a core can do.
    """
    rows = []
    for rps in (rates[0], *rates):  # the first one warms up
        busy = cpu_seconds(process)
        seen = _ask(url, bodies, rps, seconds)
        busy = cpu_seconds(process) - busy
        took = (seen["sent"] + seen["ms"] / 1000).max() - seen["sent"].min()
        told = {"rps": rps, "answered": len(seen) / took, "cpu": busy / took}
        rows.append(told | percentiles(seen))
    return pd.DataFrame(rows[1:])
