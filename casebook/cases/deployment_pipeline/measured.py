"""What is measured of the serving, on real processes: latency, the way back, the swap.

Every service and the traffic run in processes of their own, on loopback. The tables say how many
requests a second there were; the machine's other work is in them, so they are recorded when it has
none. ``python -m casebook.cases.deployment_pipeline.measured load`` is the pipeline's load test.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import gates, pipeline, rollout, service, steps
from casebook.cases.deployment_pipeline.world import START, Constants, Fault, simulate
from casebook.serving.load import Server
from casebook.serving.rollout import Pace, wait_ready
from casebook.serving.router import app as router_app
from casebook.serving.saturation import in_turns, percentiles, saturation
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


@cache
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
    bodies = _bodies(n)
    with ExitStack() as stack:
        stable = stack.enter_context(Server(POD, {"folder": str(first)}, patience=START_UP))
        more = {"folder": str(second), **faults}
        new = stack.enter_context(Server(POD, more, patience=START_UP))
        router = stack.enter_context(Server(ROUTER, {"stable": [stable.url]}, patience=START_UP))
        for pod in (stable, new)[: 1 if faults.get("fault") == "never ready" else 2]:
            wait_ready(pod.url, START_UP)
        yield Fleet(stable, new, router.url, bodies)


@contextmanager
def _two(n: int) -> Iterator[Fleet]:
    """Start a fleet of fresh models."""
    with tempfile.TemporaryDirectory() as folder, fleet(*models(folder), n) as one:
        yield one


def _bodies(n: int) -> list[dict[str, Any]]:
    rows = history(seed=2).tail(5_000).to_dict("records")
    return [service.body_of(rows[i % len(rows)], f"p{i}", f"card {i % 4_999}") for i in range(n)]


def load(url: str, rates: Sequence[float] = (30, 100, 200), seconds: float = 20) -> pd.DataFrame:
    """Return what a pod that runs elsewhere answers at stated loads; columns of :func:`latency`."""
    wait_ready(url, START_UP)
    rows = []
    for rps in rates:
        with Traffic(f"{url}/score", _bodies(int(rps * seconds)), rps) as traffic:
            seen = traffic.wait()
        rows.append({"path": "service", "rps": rps, "n": len(seen), **percentiles(seen)})
    return pd.DataFrame(rows)


def latency(
    rates: Sequence[float] = (100, 200), seconds: float = 2, rounds: int = 15
) -> pd.DataFrame:
    """Return the latency of a pod directly and through the router, at stated loads.

    They take turns, first the one and then the other: what the machine does besides meets both.

    Returns
    -------
    DataFrame
        ``path`` (service, router, and ``difference``: router less service, by pairs of turns),
        ``rps`` (requests a second, in an open loop from another process), ``n``, ``p50``, ``p95``,
        ``p99`` (ms, from when a request was due; means of the rounds), ``low`` and ``high`` of the
        p99, and ``failed``.
    """
    with _two(int(max(rates) * seconds)) as one:
        paths = {"service": f"{one.stable.url}/score", "router": f"{one.router}/score"}
        return in_turns(paths, one.bodies, rates, seconds, rounds)


def capacity(
    rates: Sequence[float] = (50, 100, 200, 300, 400, 600), seconds: float = 6
) -> pd.DataFrame:
    """Return what one pod carries; columns of :func:`casebook.serving.saturation.saturation`."""
    with _two(int(max(rates) * seconds)) as one:
        one.new.kill()  # two processes share the machine: the pod and its clients
        url, process = f"{one.stable.url}/score", one.stable.process.pid
        return saturation(url, process, one.bodies, rates, seconds)


class Drill(NamedTuple):
    """What is wrong with a new version, and in which stage it begins; at once if in none."""

    fault: str = ""
    begins: str = ""


SHADOW, FIVE, HALF, ALL = (rollout.STAGES[i].name for i in (0, 1, 3, 4))
DRILLS = (
    Drill(),
    Drill("errors", SHADOW),
    Drill("errors", FIVE),
    Drill("errors", HALF),
    Drill("errors", ALL),
    Drill("slow", FIVE),
    Drill("slow", ALL),
    Drill("no number", FIVE),
    Drill("shifted", FIVE),
    Drill("killed", FIVE),
    Drill("killed", ALL),
    Drill("never ready"),
)


def drill(
    what: Drill,
    first: Path,
    second: Path,
    stages: Sequence[rollout.Stage],
    rps: float = 60,
    pace: Pace | None = None,
) -> tuple[rollout.Timeline, pd.DataFrame, float]:
    """Roll out a version with a fault, under load.

    Parameters
    ----------
    what : Drill
    first, second : Path
        Models of the stable and of the new version.
    stages : sequence of Stage
    rps : float
    pace : Pace, optional

    Returns
    -------
    Timeline
    DataFrame
        What the clients saw.
    float
        When the fault began, in seconds since 1970; NaN without one.
    """
    import httpx

    wait = pace or Pace()
    least = sum(max(s.seconds, s.requests / rps / (s.share or 1)) for s in stages)
    n = int(rps * (least + (len(stages) + 2) * wait.patience))  # it is stopped when all is over
    faulty = {"fault": what.fault} if what.fault not in ("", "killed") else {}
    began = [time.time() if what.fault == "never ready" else np.nan]
    with fleet(first, second, n, **faulty) as one:

        def on_stage(stage: rollout.Stage) -> None:
            if what.fault and stage.name == what.begins:
                began[0] = time.time()
                if what.fault == "killed":
                    one.new.kill()
                else:
                    httpx.post(f"{one.new.url}/break", json={}, trust_env=False)

        with Traffic(f"{one.router}/score", one.bodies, rps) as traffic:
            time.sleep(1)
            if what.fault == "never ready":
                began[0] = time.time()
            done = rollout.run(one.router, [one.new.url], stages, wait, on_stage)
            traffic.stop()
    return done, traffic.wait(), began[0]


def rollbacks(
    drills: Sequence[Drill] = DRILLS, seconds: float = 3.0, requests: int = 150
) -> pd.DataFrame:
    """Return what a rollout does with each fault.

    Returns
    -------
    DataFrame
        ``fault``, ``begins`` (stage), ``outcome``, ``stage`` (the last one), ``seconds`` (from the
        fault's begin to the last plan), ``by_bad`` (answers of the broken version that customers
        got), ``n``, ``failed``, ``p50``, ``p99`` (ms, as clients saw them) and ``why``.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first, second = models(folder)
        for what in drills:
            stages = rollout.brief(seconds, requests)
            done, seen, began = drill(what, first, second, stages, pace=Pace(patience=15))
            stage = done.rows["stage"].iloc[-2] if len(done.rows) > 1 else "before"
            told = {"fault": what.fault or "none", "begins": what.begins, "outcome": done.outcome}
            told |= {"stage": stage, "seconds": done.ended - began}
            bad = (seen["version"] == second.name) & (seen["sent"] > began)
            told |= {"by_bad": int(bad.sum()), "n": len(seen), **percentiles(seen)}
            rows.append({**told, "why": done.why[:160]})
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
                rows.append({**told, **percentiles(seen), "versions": versions})
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
    "capacity": capacity,
    "rollback": rollbacks,
    "swap": swaps,
    "gate_stops": gate_stops,
}


def missed(table: pd.DataFrame) -> pd.Series:
    """Say of each row of a table whether it misses a target."""
    found = pd.Series(False, table.index)
    if "failed" in table and "answered" not in table:
        found |= table["failed"] > 0
    if "path" in table:  # and not where more is asked for than one pod can do
        found |= table["p99"] > P99
    if "outcome" in table:
        good = table["fault"] == "none"
        found |= table["outcome"] != np.where(good, "live", "rolled back")
        found |= ~good & ~(table["seconds"] <= BACK)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the serving.")
    parser.add_argument("table", choices=["load", *TABLES])
    parser.add_argument("--url", help="load: of a pod that runs")
    parser.add_argument("--rps", type=float, nargs="+", default=[30, 100, 200], help="load")
    given = parser.parse_args(arguments)
    if given.table == "load" and not given.url:
        parser.error("load needs the --url of a pod that runs")
    found = load(given.url, given.rps) if given.table == "load" else TABLES[given.table]()
    print(found.round(2).to_string())
    return int(missed(found).any())


if __name__ == "__main__":
    sys.exit(main())
