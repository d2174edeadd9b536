"""What stands between a client and a service costs: time that is added, cores, and memory.

Examples
--------
>>> rounds = pd.DataFrame({"path": ["bare", "full"] * 2, "cpu_ms": [2.0, 8.0] * 2})
>>> rounds = rounds.assign(load="short", n=10, failed=0)
>>> capacity(rounds, ["load"], "bare", [500])[["path", "times_base", "cores_500"]].to_numpy()
array([['bare', 1.0, 1.0],
       ['full', 4.0, 4.0]], dtype=object)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import mean_interval


def added(
    seen: pd.DataFrame,
    paths: Sequence[str],
    direct: str,
    base: str,
    draws: int = 400,
    seed: int = 0,
) -> pd.DataFrame:
    """Return percentiles of each path and what it adds to the direct one's.

    Parameters
    ----------
    seen : DataFrame
        Answers with ``path``, ``turn``, ``ms``, ``first_ms`` and ``good``.
    paths : sequence of str
    direct, base : str
        Of them: without anything between, and the peer of the ratio.
    draws, seed : int
        Of the turns, for the interval.

    Returns
    -------
    DataFrame
        ``path``, ``n``, ``failed``, ``p50``, ``p95``, ``p99`` (ms), ``first_p99``, ``added_…`` of
        the three (less the direct path's), ``ratio`` of ``added_p99`` to the base's, ``low`` and
        ``high`` (95 %, turns drawn anew).
    """
    by = {key: own["ms"].to_numpy() for key, own in seen.groupby(["path", "turn"])}
    turns, rng = seen["turn"].unique(), np.random.default_rng(seed)
    again = [rng.choice(turns, len(turns)) for _ in range(draws)]
    rows = []
    for path in paths:
        own, took = seen[seen["path"] == path], _percentiles(by, path, turns)
        told = {"path": path, "n": len(own), "failed": int((~own["good"].astype(bool)).sum())}
        told |= took | {"first_p99": own["first_ms"].quantile(0.99)}
        least, three = _percentiles(by, direct, turns), (path, direct, base)
        told |= {f"added_{name}": took[name] - least[name] for name in took}
        low, high = np.quantile([_ratio(by, *three, drawn) for drawn in again], [0.025, 0.975])
        rows.append(told | {"ratio": _ratio(by, *three, turns), "low": low, "high": high})
    return pd.DataFrame(rows)


def _percentiles(by: Mapping[tuple, np.ndarray], path: str, turns: np.ndarray) -> dict[str, float]:
    """Return percentiles of a path's times in some turns together."""
    together = np.concatenate([by[path, turn] for turn in turns])
    at = np.quantile(together, (0.5, 0.95, 0.99))
    return dict(zip(("p50", "p95", "p99"), at, strict=True))


def _ratio(
    by: Mapping[tuple, np.ndarray], path: str, direct: str, base: str, turns: np.ndarray
) -> float:
    """Return what a path adds to the direct one's 99th percentile, by what the base adds."""
    own, least, peer = (_percentiles(by, one, turns)["p99"] for one in (path, direct, base))
    return (own - least) / (peer - least)


def capacity(
    rounds: pd.DataFrame,
    by: Sequence[str],
    base: str,
    targets: Sequence[float],
    planned: float = 0.4,
) -> pd.DataFrame:
    """Return what requests cost and how many cores a rate needs.

    Parameters
    ----------
    rounds : DataFrame
        A row for each round: ``by``, ``path``, ``n``, ``failed`` and ``cpu_ms`` (of a request).
    by : sequence of str
        Columns within which paths are compared.
    base : str
        The path that others are compared with.
    targets : sequence of float
        Requests a second.
    planned : float
        Busy share of a core that each process is planned for.

    Returns
    -------
    DataFrame
        ``by``, ``path``, ``n``, ``failed``, ``cpu_ms`` with ``low`` and ``high`` (95 % over the
        rounds), ``times_base``, ``a_core`` (requests a second of a busy core); for each target
        ``cores_…`` that are busy and ``processes_…``.
    """
    rows = []
    for keys, own in rounds.groupby([*by, "path"], sort=False):
        cpu_ms, low, high = mean_interval(own["cpu_ms"])
        told = dict(zip([*by, "path"], keys, strict=True)) | {"n": int(own["n"].sum())}
        told |= {"failed": int(own["failed"].sum()), "cpu_ms": cpu_ms, "low": low, "high": high}
        same = (rounds[[*by]] == keys[:-1]).all(axis=1) & (rounds["path"] == base)
        told |= {"times_base": cpu_ms / rounds.loc[same, "cpu_ms"].mean(), "a_core": 1000 / cpu_ms}
        rows.append(told | _machines(cpu_ms, targets, planned))
    return pd.DataFrame(rows)


def _machines(cpu_ms: float, targets: Sequence[float], planned: float) -> dict[str, float]:
    """Return the cores that each rate keeps busy, and the processes that it is planned for."""
    told = {}
    for rps in targets:
        busy = rps * cpu_ms / 1000
        told |= {f"cores_{rps}": busy, f"processes_{rps}": int(np.ceil(busy / planned))}
    return told


def resident_mb(process: int) -> float:
    """Return the memory that a process holds (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
