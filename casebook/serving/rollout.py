"""Roll a version out in stages, or back: what moves the router, whatever judges the version.

A stage is over when it has lasted and has seen its requests. How long that may take follows from
the traffic: its *deadline* is twice what the first minutes promise, so that a quiet service waits
for hours and a stage that cannot end is given up at once. Each look renews the lease of the plan
(:mod:`casebook.serving.plans`); the way back is tried again until it is taken, and if this process
is killed, or cannot reach the router, the lease ends and the stable pods have everything.

Examples
--------
A twentieth of 87 requests a second, of which 16,500 are needed:

>>> canary = Stage("5 %", 0.05, 1_800, 16_500)
>>> deadline(canary, requests=522, took=120, pace=Pace())  # of 3,793 that it should take
7706.2...
"""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import httpx

COLUMNS = ["second", "stage", "share", "requests", "errors", "slow", "p99", "index", "event"]


class Stage(NamedTuple):
    """A stage: what the new version gets, when it has been seen for long enough, and its level.

    ``level`` is the part of the rollout's false alarms that its errors may take.
    """

    name: str
    share: float
    seconds: float
    requests: int
    shadow: bool = False
    level: float = 0.001


class Usual(NamedTuple):
    """What is usual from the stages before.

    Requests, bad and slow ones of the stable pods; the new version's last scores in shadow.
    """

    n: int = 0
    bad: int = 0
    slow: int = 0
    scores: tuple[float, ...] = ()


class Found(NamedTuple):
    """Why the version must go, why it may not go on yet, or neither; and an index for the log."""

    why: str = ""
    hold: str = ""
    index: float = np.nan


#: From the router's ``watch``, the stage and what was usual before.
Judge = Callable[[Mapping[str, Any], Stage, Usual], Found]


@dataclass(frozen=True)
class Pace:
    """How long a rollout waits.

    Attributes
    ----------
    every : float
        Seconds between two looks.
    warm : int
        Copies that a pod gets before anything is counted: its first answers are slow.
    patience : float
        Seconds to be ready, to have the warm copies and to take the last plan, and seconds of a
        stage from which its deadline follows.
    slack : float
        Times what a stage should take by its first traffic: traffic falls in the evening.
    longest : float
        Seconds that no stage may take.
    lease : float
        Seconds after which the stable pods have everything if nobody looks.
    """

    every: float = 0.25
    warm: int = 50
    patience: float = 120.0
    slack: float = 2.0
    longest: float = 12 * 3_600.0
    lease: float = 10.0


@dataclass(frozen=True)
class Timeline:
    """What happened.

    Attributes
    ----------
    rows : DataFrame
        A row for each look: ``second``, ``stage``, ``share``, ``requests``, ``errors``, ``slow``
        (of the new version, in the stage), ``p99`` (ms), ``index`` and ``event``.
    outcome : str
        ``"live"`` or ``"rolled back"``.
    why : str
    seconds : float
        From the first bad answer of the last stage (from its begin, if there was none) until the
        new version got no request; NaN if it is live.
    ended : float
        When the router took the last plan, or its lease ended, in seconds since 1970.
    """

    rows: pd.DataFrame
    outcome: str
    why: str
    seconds: float
    ended: float


def deadline(stage: Stage, requests: int, took: float, pace: Pace) -> float:
    """Return the seconds after which a stage is given up, from its first traffic.

    Parameters
    ----------
    stage : Stage
    requests : int
        Of the new version, so far.
    took : float
        Seconds, so far.
    pace : Pace

    Returns
    -------
    float
        ``took`` if it cannot end: without any request, or not within the longest time.
    """
    should = max(stage.seconds, stage.requests * took / requests if requests else np.inf)
    if stage.requests and should > pace.longest:
        return took
    return pace.slack * should + pace.patience


def wait_ready(url: str, patience: float = 60.0, every: float = 0.05) -> dict[str, Any]:
    """Wait until a pod's ``/ready`` says so and return what it says, such as its version.

    Raises
    ------
    TimeoutError
        With what the pod last said.
    """
    import httpx

    begin, said = time.monotonic(), ""
    with httpx.Client(trust_env=False, timeout=2) as http:
        while time.monotonic() - begin < patience:
            try:
                reply = http.get(f"{url}/ready")
                if reply.status_code == 200:
                    return reply.json()
                said = reply.text[:300]
            except httpx.HTTPError as error:
                said = repr(error)
            time.sleep(every)
    raise TimeoutError(f"{url} was not ready within {patience:g} s: {said}")


def run(
    router: str | httpx.Client,
    pods: Sequence[str],
    stages: Sequence[Stage],
    judge: Judge,
    pace: Pace | None = None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
    ready: Callable[[str, float], object] = wait_ready,
    clock: Any = time,
) -> Timeline:
    """Roll a version out, or back.

    Parameters
    ----------
    router : str or httpx.Client
        Address of :func:`casebook.serving.router.app`, or of its port for plans, or a client of
        it; the router needs traffic.
    pods : sequence of str
        Addresses of the new version's pods.
    stages : sequence of Stage
        The last one with a share of 1: only what has had all requests goes live.
    judge : callable
    pace : Pace, optional
    on_stage : callable
        Called when a stage begins.
    ready : callable
        Waits for a pod, for so many seconds; an exception ends the rollout before any request.
    clock : object
        With ``time``, ``monotonic`` and ``sleep`` as those of :mod:`time`.

    Returns
    -------
    Timeline
        A version that is never ready gets no request.

    Raises
    ------
    ValueError
        If the stages do not end with all requests.
    """
    import httpx

    if not stages or stages[-1].share != 1 or stages[-1].shadow:
        raise ValueError(f"{[*stages]}: the last stage must have a share of 1 and no shadow.")
    made = nullcontext(router)
    if isinstance(router, str):
        made = httpx.Client(base_url=router, trust_env=False, timeout=10)
    with made as http, _told_to_end():
        rollout = _Rollout(http, tuple(pods), judge, pace or Pace(), clock)
        return rollout.run(stages, on_stage, ready)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Let SIGTERM end the block as an exception, so that it routes back first."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit("told to end")

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Rollout:
    """One rollout: it holds the router's plan under a name of its own."""

    def __init__(
        self, http: httpx.Client, pods: tuple[str, ...], judge: Judge, pace: Pace, clock: Any
    ) -> None:
        self.http, self.pods, self.judge, self.pace, self.clock = http, pods, judge, pace, clock
        self.hold = {"by": uuid.uuid4().hex, "lease": pace.lease}
        self.begin, self.rows, self.usual = clock.time(), list[list[Any]](), Usual()
        self.stable: dict[str, Any] = {}  # the pods to go back to, as the first plan was answered

    def run(
        self,
        stages: Sequence[Stage],
        on_stage: Callable[[Stage], None],
        ready: Callable[[str, float], object],
    ) -> Timeline:
        """Return what happened, with the router on its last plan."""
        since, why = self.begin, "told to end"
        try:
            for pod in self.pods:
                ready(pod, self.pace.patience)
            self._route(new=self.pods, shadow=True, stage="warm-up")
            self._warm()
            for stage in stages:
                plan = {"share": stage.share, "shadow": stage.shadow, "stage": stage.name}
                since = self._route(new=self.pods, **plan)
                on_stage(stage)
                ill, bad = self._stage(stage)
                since = bad or since
                if ill:
                    break
            why = ill  # and not before: what is told to end in any stage goes back
        except Exception as error:  # not ready, no traffic, or a watch that cannot see
            why = f"{type(error).__name__}: {error}"
        finally:  # also if this process is told to end
            why, ended = self._end(why)
        outcome = "rolled back" if why else "live"
        last = [round(ended - self.begin, 2), outcome, float(not why), 0, 0, 0, np.nan, np.nan]
        table = pd.DataFrame([*self.rows, [*last, why or "live"]], columns=COLUMNS)
        return Timeline(table, outcome, why, ended - since if why else np.nan, ended)

    def _end(self, why: str) -> tuple[str, float]:
        """Give the new version everything, or nothing; return why nothing, and when."""
        if not why:
            try:
                return "", self._insist(stable=self.pods, stage="live")
            except Exception as error:
                why = f"the router did not take the last plan: {error!r}"
        try:
            return why, self._insist(stage="rolled back", **self.stable)
        except Exception as error:
            more = f"; the router did not answer ({error!r}), its lease ends of itself"
            return why + more, self.clock.time() + self.pace.lease

    def _route(self, **plan: Any) -> float:
        sent = {"new": [], **self.hold, **plan}
        told = self.http.post("/route", json=sent).raise_for_status().json()
        self.stable = self.stable or {"stable": told["stable"]}
        return float(told["at"])

    def _insist(self, **plan: Any) -> float:
        """Send the last plan until it is taken; 409: another one has taken over meanwhile."""
        until, error = self.clock.monotonic() + self.pace.patience, None
        while error is None or self.clock.monotonic() < until:
            try:
                return self._route(**plan)
            except Exception as failed:
                if getattr(getattr(failed, "response", None), "status_code", 0) == 409:
                    raise
                error = failed
                self.clock.sleep(self.pace.every)
        raise error

    def _look(self) -> dict[str, Any]:
        """Return what the router has seen; the plan holds for another lease."""
        return self.http.post("/renew", json=self.hold).raise_for_status().json()

    def _warm(self) -> None:
        """Wait until the new pods have had their copies, or the time for it is over."""
        until = self.clock.monotonic() + self.pace.patience
        while self.clock.monotonic() < until:
            if self._look()["new"]["n"] >= self.pace.warm:
                return
            self.clock.sleep(self.pace.every)
        few = f"fewer than {self.pace.warm} copies in {self.pace.patience:g} s"
        raise TimeoutError(f"{few}: is there traffic?")

    def _stage(self, stage: Stage) -> tuple[str, float | None]:
        """Watch a stage to its end; return why to roll back, or "", and the first bad answer."""
        start, until = self.clock.monotonic(), None
        while True:
            self.clock.sleep(self.pace.every)
            seen = self._look()
            new, took = seen["new"], self.clock.monotonic() - start
            found = self.judge(seen, stage, self.usual)
            enough = took >= stage.seconds and new["n"] >= stage.requests
            if until is None and took >= self.pace.patience:
                until = deadline(stage, new["n"], took, self.pace)
            why = found.why
            if not why and until is not None and took >= until and (not enough or found.hold):
                few = f"{new['n']:,} of {stage.requests:,} requests in {took:,.0f} s: too few"
                why = found.hold or few
            passed = enough and not found.hold and not why
            self._note(stage, new, found.index, why or ("passed" if passed else found.hold))
            if passed and stage.share < 1:
                old = seen["stable"]
                own = tuple(new["scores"]) if stage.shadow else ()
                more = old["n"], old["bad"], old["slow"], own
                self.usual = Usual(*(a + b for a, b in zip(self.usual, more, strict=True)))
            if why or passed:
                return why, new["first_bad"]

    def _note(self, stage: Stage, new: Mapping[str, Any], index: float, event: str) -> None:
        p99 = float(np.percentile(new["ms"], 99)) if new["ms"] else np.nan
        counts = [new["n"], new["bad"], new["slow"], round(p99, 1), round(index, 3)]
        second = round(self.clock.time() - self.begin, 2)
        self.rows.append([second, stage.name, stage.share, *counts, event])
