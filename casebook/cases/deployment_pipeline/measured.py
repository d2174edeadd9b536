"""What is measured of the serving, on real processes: latency, the way back, the swap.

Every service and the traffic run in processes of their own, on loopback. The tables say how many
requests a second there were; the machine's other work is in them, so they are recorded when it has
none. ``python -m casebook.cases.deployment_pipeline.measured latency`` is the pipeline's load test.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import gates, pipeline, rollout, service, steps
from casebook.cases.deployment_pipeline.world import START, Constants, Fault, simulate
from casebook.serving.load import Server
from casebook.serving.router import app as router_app
from casebook.serving.traffic import Traffic

POD = f"{service.__name__}:{service.app.__name__}"
ROUTER = f"{router_app.__module__}:{router_app.__name__}"
#: Milliseconds that the 99th percentile may take, and seconds to roll back.
P99, BACK = 1_000.0, 60.0
#: Seconds that a process may take to start on a busy machine.
START_UP = 300.0


class Fleet(NamedTuple):
    """A stable pod, a new one, the router before them, and requests."""

    stable: Server
    new: Server
    router: str
    bodies: list[dict[str, Any]]


def history(payments: int = 300, seed: int = 1) -> pd.DataFrame:
    """Return the quiet months before the first day, with what was reported of them."""
    year = simulate(seed, days=1, constants=Constants(n=payments))
    return steps.joined(year.rows, year.labels)


def models(folder: Path | str, **settings: Any) -> tuple[Path, Path]:
    """Return the folders of two models that differ in their seed."""
    rows = history()
    runs = (pipeline.run(folder, rows, START, {"seed": seed, **settings}) for seed in (0, 1))
    first, second = (run.path("train") for run in runs)
    return first, second


@contextmanager
def fleet(first: Path, second: Path, n: int, **faults: Any) -> Iterator[Fleet]:
    """Start two pods and a router; they end with the block."""
    rows = history(seed=2).tail(5_000).to_dict("records")
    bodies = [service.body_of(rows[i % len(rows)], f"p{i}", f"card {i % 4_999}") for i in range(n)]
    with ExitStack() as stack:
        stable = stack.enter_context(Server(POD, {"folder": str(first)}, patience=START_UP))
        more = {"folder": str(second), **faults}
        new = stack.enter_context(Server(POD, more, patience=START_UP))
        router = stack.enter_context(Server(ROUTER, {"stable": [stable.url]}, patience=START_UP))
        for pod in (stable, new)[: 1 if faults.get("fault") == "never ready" else 2]:
            service.wait_ready(pod.url, START_UP)
        yield Fleet(stable, new, router.url, bodies)


def _percentiles(rows: pd.DataFrame) -> dict[str, Any]:
    """Return percentiles of all answers, and how many requests got none."""
    p50, p95, p99 = np.percentile(rows["ms"], [50, 95, 99])
    return {"p50": p50, "p95": p95, "p99": p99, "failed": int((rows["status"] != 200).sum())}


def latency(
    rates: Sequence[float] = (30, 100, 200), seconds: float = 20, model: Path | None = None
) -> pd.DataFrame:
    """Return the latency of a pod, and through the router, at stated loads.

    Returns
    -------
    DataFrame
        ``path``, ``rps`` (requests a second, in an open loop from another process), ``n``,
        ``p50``, ``p95``, ``p99`` (ms, from when a request was due) and ``failed``.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first, second = (model, model) if model else models(folder)
        with fleet(first, second, int(max(rates) * seconds)) as one:
            for path, url in (("service", one.stable.url), ("router", one.router)):
                for rps in rates:
                    some = one.bodies[: int(rps * seconds)]
                    with Traffic(f"{url}/score", some, rps) as traffic:
                        seen = traffic.wait().iloc[min(50, len(some) // 10) :]
                    rows.append({"path": path, "rps": rps, "n": len(seen), **_percentiles(seen)})
    return pd.DataFrame(rows)


#: What is wrong with the new version, and after how many of its requests.
DRILLS = {
    "none": {},
    "errors": {"fault": "errors", "after": 90},
    "slow": {"fault": "slow", "after": 90},
    "not a number": {"fault": "nan", "after": 90},
    "scores times 20": {"fault": "shifted"},
    "never ready": {"fault": "never ready"},
    "killed at 25 %": {},
}


def drill(
    name: str,
    first: Path,
    second: Path,
    stages: Sequence[rollout.Stage],
    rps: float = 60,
    limits: rollout.Limits | None = None,
) -> tuple[rollout.Timeline, pd.DataFrame]:
    """Roll out a version with a fault, under load.

    Parameters
    ----------
    name : str
        One of :data:`DRILLS`.
    first, second : Path
        Models of the stable and of the new version.
    stages : sequence of Stage
    rps : float
    limits : Limits, optional

    Returns
    -------
    Timeline
    DataFrame
        What the clients saw.
    """
    lim = limits or rollout.Limits()
    least = sum(max(s.seconds, s.requests / rps / (s.share or 1)) for s in stages)
    n = int(rps * (least + (len(stages) + 2) * lim.patience))  # it is stopped when all is over
    with fleet(first, second, n, **DRILLS[name]) as one:

        def on_stage(stage: rollout.Stage) -> None:
            if name.startswith("killed") and stage.share == 0.25:
                one.new.kill()

        with Traffic(f"{one.router}/score", one.bodies, rps) as traffic:
            time.sleep(1)
            done = rollout.run(one.router, [one.new.url], stages, lim, on_stage)
            traffic.stop()
    return done, traffic.wait()


def rollbacks(
    names: Sequence[str] = tuple(DRILLS), seconds: float = 4.0, requests: int = 150
) -> pd.DataFrame:
    """Return what a rollout does with each fault.

    Returns
    -------
    DataFrame
        ``fault``, ``outcome``, ``stage`` (the last one), ``seconds`` (from the first bad answer to
        the last plan), ``by_new`` (answers of the new version that customers got), ``n``,
        ``failed``, ``p50``, ``p99`` (ms, as clients saw them) and ``why``.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first, second = models(folder)
        for name in names:
            limits = rollout.Limits(patience=15)
            stages = rollout.brief(seconds, requests)
            stages = [one._replace(requests=int(requests * (one.share or 1))) for one in stages]
            done, seen = drill(name, first, second, stages, limits=limits)
            stage = done.rows["stage"].iloc[-2] if len(done.rows) > 1 else "before"
            told = {"fault": name, "outcome": done.outcome, "stage": stage}
            told |= {"seconds": done.seconds, "by_new": int((seen["version"] == second.name).sum())}
            told |= {"n": len(seen), **_percentiles(seen), "why": done.why[:160]}
            rows.append(told)
    return pd.DataFrame(rows).drop(columns="p95")


def swaps(times: int = 10, rps: float = 100, every: float = 1.0) -> pd.DataFrame:
    """Return what clients see while a pod changes its model under load.

    Returns
    -------
    DataFrame
        ``during`` (no swap, swaps), ``swaps``, ``seconds`` (the longest, from the call to the new
        model), ``n``, ``failed``, ``p50``, ``p95``, ``p99`` (ms) and ``versions`` that answered.
    """
    import httpx

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first, second = models(folder)
        with fleet(first, second, int(rps * (times + 2) * every)) as one:
            for during, n in (("no swap", 0), ("swaps", times)):
                took = [0.0]
                with Traffic(f"{one.stable.url}/score", one.bodies, rps) as traffic:
                    time.sleep(1)
                    for i in range(n):
                        body = {"version": (second, first)[i % 2].name}
                        reply = httpx.post(f"{one.stable.url}/swap", json=body, timeout=30)
                        took.append(reply.raise_for_status().json()["seconds"])
                        time.sleep(max(every - took[-1], 0))
                    seen = traffic.wait()
                told = {"during": during, "swaps": n, "seconds": max(took), "n": len(seen)}
                versions = int(seen.loc[seen["status"] == 200, "version"].nunique())
                rows.append({**told, **_percentiles(seen), "versions": versions})
    return pd.DataFrame(rows)


def gate_stops(
    seeds: Sequence[int] = tuple(range(201, 216)), payments: int = 1_000
) -> pd.DataFrame:
    """Return which candidates the gates stop: trained with a poisoned week, and without it.

    The champion has learned from 120 earlier days; both candidates from the same 124 days, which
    for one of them hold a week of wrong labels; they are judged by the three weeks after.

    Returns
    -------
    DataFrame
        ``seed``, ``candidate`` (sound, poisoned), ``money`` with ``low`` and ``high`` (euro per
        thousand payments against the champion), ``ranking``, ``stopped`` and ``by`` (gates).
    """
    rows = []
    card = dict.fromkeys(gates.CARD, "given")
    limits = gates.Limits(p99_ms=np.inf)  # a time says nothing of the labels
    for seed in seeds:
        champion = None
        for name, faults in (("sound", ()), ("poisoned", (Fault("poisoned", 100, 7),))):
            made = simulate(seed, 185, (), faults, Constants(n=payments), history=84)
            frame, day = steps.joined(made.rows, made.labels), made.rows["day"]
            champion = champion or steps.train(frame[day < 36])
            candidate = steps.train(frame[(day >= 36) & (day < 160)])
            test, now = frame[(day >= 164) & (day < 185)], START + 215 * steps.DAY
            table = gates.check(candidate, champion, test, card, now, limits)
            money = table.loc["money"]
            told = {"seed": seed, "candidate": name, "money": money["value"]}
            told |= {"low": money["low"], "high": money["high"]}
            stops = table.index[~table["passed"]]
            told |= {"ranking": table.loc["ranking", "value"], "stopped": len(stops) > 0}
            rows.append({**told, "by": ", ".join(stops)})
    return pd.DataFrame(rows)


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "latency": latency,
    "rollback": rollbacks,
    "swap": swaps,
    "gate_stops": gate_stops,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the serving.")
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--model", type=Path, help="latency: the folder of a model")
    parser.add_argument("--rps", type=float, nargs="+", help="latency: requests a second")
    given = parser.parse_args(arguments)
    if given.table == "latency":
        found = latency(given.rps or (30, 100, 200), model=given.model)
        missed = (found["p99"] > P99) | (found["failed"] > 0)
    else:
        found = TABLES[given.table]()
        missed = found["failed"] > 0 if "failed" in found else pd.Series(False, found.index)
        if given.table == "rollback":
            missed |= found["seconds"] > BACK
    print(found.round(2).to_string())
    return int(missed.any())


if __name__ == "__main__":
    sys.exit(main())
