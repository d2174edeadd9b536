"""The rollout: shadow, canary, rolling, and the way back, by what the router has counted.

Each look asks four things of the new version since the stage began: is a larger share of its
answers bad than of the stable one's, is a larger share slow, has its score moved, does it get
requests at all? The first that says so ends the rollout: one call to the router, and the stable
version answers everything. A stage that has seen enough goes on to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import canary
from casebook.cases.deployment_pipeline.service import wait_ready
from casebook.evaluate.psi import noise, psi

COLUMNS = ["second", "stage", "share", "requests", "errors", "slow", "p99", "psi", "event"]


class Stage(NamedTuple):
    """A stage: what the new version gets, and when it has been seen for long enough."""

    name: str
    share: float
    seconds: float
    requests: int
    shadow: bool = False


#: The course's stages: half an hour at 5 % sees a doubling of the bad answers at 200 a second.
STAGES = (
    Stage("shadow", 0.0, 600, 5_000, shadow=True),
    Stage("canary 5 %", 0.05, 1_800, 16_500),
    Stage("rolling 25 %", 0.25, 300, 5_000),
    Stage("rolling 50 %", 0.5, 300, 5_000),
    Stage("rolling 100 %", 1.0, 300, 5_000),
)


def brief(seconds: float, requests: int) -> tuple[Stage, ...]:
    """Return the same stages, each of so many seconds and requests: for a page and a test."""
    return tuple(stage._replace(seconds=seconds, requests=requests) for stage in STAGES)


@dataclass(frozen=True)
class Limits:
    """When a rollout ends.

    Attributes
    ----------
    level : float
        Chance that a version like the stable one is rolled back for its errors, and for its slow
        answers, over all stages.
    usual : float
        Share of bad or of slow answers that is taken for usual where the stable version answers
        nothing that one could compare with, as at 100 %.
    shift : float
        Stability index of the score, beyond what sampling explains.
    patience : float
        Seconds to be ready, and seconds after which a stage without enough requests ends.
    every : float
        Seconds between two looks.
    warm : int
        Copies that a pod gets before anything is counted: its first answers are slow.
    """

    level: float = 0.05
    usual: float = 0.001
    shift: float = 0.25
    patience: float = 120.0
    every: float = 0.25
    warm: int = 50


@dataclass(frozen=True)
class Timeline:
    """What happened.

    Attributes
    ----------
    rows : DataFrame
        A row for each look: ``second``, ``stage``, ``share``, ``requests``, ``errors``, ``slow``
        (of the new version, in the stage), ``p99`` (ms), ``psi`` and ``event``.
    outcome : str
        ``"live"`` or ``"rolled back"``.
    why : str
    seconds : float
        From the first bad answer of the last stage (from its begin, if there was none) until the
        new version got no request; NaN if it is live.
    ended : float
        When the router took the last plan, in seconds since 1970.
    """

    rows: pd.DataFrame
    outcome: str
    why: str
    seconds: float
    ended: float


def verdict(seen: Mapping[str, Any], stages: int, limits: Limits) -> tuple[str, float]:
    """Return why the new version must go, or "", and the index of its score.

    Parameters
    ----------
    seen : mapping
        What the router's ``/watch`` says.
    stages : int
        That share the level.
    limits : Limits
    """
    new, old = seen["new"], seen["stable"]
    watch = canary.Watch(planned=1, level=limits.level / (2 * stages))
    for what in ("bad", "slow"):
        counts = canary.Counts(new["n"], new[what], old["n"], old[what])
        if old["n"] < new["n"] / 25:  # nothing to compare with: against what is usual
            base = 20 * new["n"]
            counts = canary.Counts(new["n"], new[what], base, round(limits.usual * base))
        found = canary.decide(counts, watch)
        if found.action == "rollback":
            whose = dict(sorted(new["why"].items())) if what == "bad" else "above 250 ms"
            return f"{what} answers ({found.reason}) {whose}", np.nan
    a, b = (_log_odds(arm["scores"]) for arm in (old, new))
    if min(len(a), len(b)) < 100:
        return "", np.nan
    index = psi(a, b)
    far = index > limits.shift + noise(len(a), len(b), level=1 - 1e-5)
    return (f"its score has moved: index {index:.2f}" if far else ""), index


def _log_odds(scores: Sequence[float]) -> np.ndarray:
    p = np.clip(np.asarray(scores, float), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def run(
    router: str,
    pods: Sequence[str],
    stages: Sequence[Stage] = STAGES,
    limits: Limits | None = None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Timeline:
    """Roll a version out, or back.

    Parameters
    ----------
    router : str
        Address of :func:`casebook.serving.router.app`; it needs traffic.
    pods : sequence of str
        Addresses of the new version's pods.
    stages : sequence of Stage
    limits : Limits, optional
    on_stage : callable
        Called when a stage begins.

    Returns
    -------
    Timeline
        A version that is never ready gets no request.
    """
    import httpx

    lim, begin, rows, why = limits or Limits(), time.time(), [], ""
    since = begin
    with httpx.Client(base_url=router, trust_env=False, timeout=10) as http:

        def route(**plan: Any) -> float:
            return float(http.post("/route", json=plan).raise_for_status().json()["at"])

        try:
            for pod in pods:
                wait_ready(pod, lim.patience)
            route(new=[*pods], share=0.0, shadow=True, stage="warm-up")
            _warm(http, lim)
            for stage in stages:
                plan = {"share": stage.share, "shadow": stage.shadow, "stage": stage.name}
                since = route(new=[*pods], **plan)
                on_stage(stage)
                why, bad = _stage(http, stage, len(stages), lim, begin, rows)
                since = bad or since
                if why:
                    break
        except Exception as error:  # not ready, or a watch that cannot see
            why = f"{type(error).__name__}: {error}"
        finally:  # also if this process is told to end
            if not why and rows and rows[-1][-1] == "passed" and rows[-1][1] == stages[-1].name:
                ended = route(stable=[*pods], new=[], stage="live")
            else:
                ended = route(new=[], stage="rolled back")
    outcome = "rolled back" if why else "live"
    last = [
        round(ended - begin, 2),
        outcome,
        float(not why),
        0,
        0,
        0,
        np.nan,
        np.nan,
        why or "live",
    ]
    table = pd.DataFrame([*rows, last], columns=COLUMNS)
    return Timeline(table, outcome, why, ended - since if why else np.nan, ended)


def _warm(http: Any, lim: Limits) -> None:
    """Wait until the new pods have had their copies, or the time for it is over."""
    until = time.monotonic() + lim.patience
    while time.monotonic() < until:
        if http.get("/watch").raise_for_status().json()["new"]["n"] >= lim.warm:
            return
        time.sleep(lim.every)
    raise TimeoutError(f"fewer than {lim.warm} copies in {lim.patience:g} s: is there traffic?")


def _stage(
    http: Any, stage: Stage, stages: int, lim: Limits, begin: float, rows: list[list[Any]]
) -> tuple[str, float | None]:
    """Watch a stage to its end; return why to roll back, or "", and the first bad answer."""
    start = time.monotonic()
    while True:
        time.sleep(lim.every)
        seen = http.get("/watch").raise_for_status().json()
        new, took = seen["new"], time.monotonic() - start
        why, index = verdict(seen, stages, lim)
        enough = took >= stage.seconds and new["n"] >= stage.requests
        if not why and not enough and took > stage.seconds + lim.patience:
            why = f"{new['n']} requests in {took:.0f} s are too few to judge it"
        p99 = float(np.percentile(new["ms"], 99)) if new["ms"] else np.nan
        counts = [new["n"], new["bad"], new["slow"], round(p99, 1), round(index, 3)]
        event = why or ("passed" if enough else "")
        rows.append([round(time.time() - begin, 2), stage.name, stage.share, *counts, event])
        if why or enough:
            return why, new["first_bad"]
