"""A fleet of pods under a load, with an autoscaler: ticks of five seconds, request by request.

Requests come at random (Poisson) and go to a ready pod at random; each pod has a queue of its own,
and the proxy refuses a request that would wait too long (:mod:`casebook.serving.queues`). Every
15 seconds a controller with the rules of Kubernetes' HPA reads a metric of the last 30 seconds and
asks for pods:

* desired = ready pods × metric / target, rounded up; nothing within the tolerance of 10 %;
* up at once, by at most four pods or a doubling; down only to the highest wish of five minutes;
* a pod that starts counts as one without load, and gets no requests before it is ready.

Examples
--------
>>> quiet = simulate(np.full(1440, 90.0), Strategy("none", floor=(0, 24, 4)), hours=(0, 0.1))
>>> quiet.summary["dropped"], quiet.summary["pod_hours"]
(0.0, 0.4)

References
----------
Kubernetes documentation, *Horizontal Pod Autoscaling*: algorithm details.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from casebook.serving.queues import BIN, BINS, Queues, mean_time, quantile

#: Seconds of a tick.
TICK = 5


@dataclass(frozen=True)
class Fleet:
    """The pods, and the controller's settings.

    Attributes
    ----------
    least, most : int
        Pods.
    per_pod, cpu : float
        Requests a second and busy share that a pod should have: at 30 a second it is 60 % busy,
        so that a request takes 20 ms of its CPU and a pod can do 50 a second.
    cold : float
        Seconds until a pod that was asked for is ready.
    spread : float
        Part of a request's service time that is exponential; the rest is fixed. 0: M/D/1; 1:
        M/M/1.
    sync, window, settle, tolerance : float
        Of the controller: seconds between looks, of the metric, and before it goes down; the
        relative distance to the target at which it rests.
    patience : float
        Seconds of waiting after which a request is refused.
    probe : bool
        Whether a readiness probe keeps requests from pods that are starting.
    price : float
        Euro for an hour of a pod, an assumption.
    """

    least: int = 4
    most: int = 10
    per_pod: float = 30.0
    cpu: float = 0.6
    cold: float = 100.0
    spread: float = 0.5
    sync: int = 15
    window: int = 30
    settle: int = 300
    tolerance: float = 0.1
    patience: float = 2.0
    probe: bool = True
    price: float = 0.1

    def __post_init__(self) -> None:
        sound = 1 <= self.least <= self.most and 0 < self.cpu <= 1 and self.per_pod > 0
        sound &= 0 <= self.spread <= 1 and self.cold >= 0 and self.patience > 0
        if not (sound and self.sync % TICK == 0 and self.window % TICK == 0 and self.sync > 0):
            raise ValueError(
                f"{self}: sizes and times from 0, sync and window in steps of {TICK} s."
            )

    @property
    def service(self) -> float:
        """Mean seconds of a request on a pod's CPU."""
        return self.cpu / self.per_pod


@dataclass(frozen=True)
class Strategy:
    """What the controller goes by.

    Attributes
    ----------
    metric : str
        ``cpu``, ``requests``, ``predicted`` (the requests when a pod asked for now is ready: the
        usual curve times today's level) or ``none``.
    target : float
        Busy share, or requests a second of a pod; 0 for the fleet's.
    floor : tuple of float, optional
        From hour, to hour, pods: a minimum by the clock.
    """

    metric: str
    target: float = 0.0
    floor: tuple[float, float, int] = (0.0, 0.0, 0)

    def __post_init__(self) -> None:
        known = ("cpu", "requests", "predicted", "none")
        if self.metric not in known or self.target < 0 or self.floor[2] < (self.metric == "none"):
            raise ValueError(f"{self}: metric one of {', '.join(known)}; fixed pods from 1.")


@dataclass(frozen=True)
class Run:
    """What happened.

    Attributes
    ----------
    timeline : DataFrame
        By minute: ``minute`` (of the day), ``load`` (requests a second), ``ready``, ``starting``
        (pods), ``cpu`` (busy share of the ready ones), ``p99`` (seconds, wait and service; of
        those that were served) and ``dropped`` (requests).
    summary : dict
        ``requests``, ``mean``, ``p50``, ``p99`` (seconds), ``over_1s`` (share of
        all requests, refused ones included), ``bad_minutes`` (in which p99 is above a second),
        ``dropped`` (share), ``pod_hours`` and ``euros``.
    """

    timeline: pd.DataFrame
    summary: dict[str, object]


@dataclass
class _Controller:
    """Asks for pods by the rules of the module's text."""

    fleet: Fleet
    strategy: Strategy
    usual: np.ndarray | None
    busy: list[float] = field(default_factory=list)  # by tick: busy pods
    rates: list[float] = field(default_factory=list)  # by tick: requests a second
    wishes: list[tuple[float, int]] = field(default_factory=list)

    def asks(self, second: float, ready: int, starting: int) -> int:
        """Return the pods that there should be."""
        fleet, now = self.fleet, ready + starting
        from_hour, to_hour, floor = self.strategy.floor
        due = from_hour <= second / 3600 < to_hour
        least = max(fleet.least, floor) if due else fleet.least
        if self.strategy.metric == "none":
            return floor
        wish = self._wish(second, ready, now)
        self.wishes = [one for one in self.wishes if one[0] > second - fleet.settle]
        self.wishes.append((second, wish))
        if wish < now:  # down only to the highest wish of five minutes
            wish = min(now, max(one for _, one in self.wishes))
        wish = min(wish, now + max(4, now))
        return int(np.clip(wish, least, fleet.most))

    def _wish(self, second: float, ready: int, now: int) -> int:
        fleet, last = self.fleet, self.fleet.window // TICK
        rate, target = np.mean(self.rates[-last:]), self.strategy.target or fleet.per_pod
        if self.strategy.metric == "cpu":
            target = self.strategy.target or fleet.cpu
            needed = np.mean(self.busy[-last:]) / target
        elif self.strategy.metric == "requests":
            needed = rate / target
        else:
            minutes = np.arange(len(self.usual))
            then = (second + fleet.cold + fleet.sync) / 60
            expected, here = np.interp([then, second / 60 - 0.25], minutes, self.usual)
            needed = max(rate, expected * rate / here) / target
        close = abs(needed / ready - 1) <= fleet.tolerance or (
            abs(needed / now - 1) <= fleet.tolerance
        )
        turned = (needed > ready) != (needed > now)  # those that start are enough
        return now if close or (turned and now > ready) else int(np.ceil(needed - 1e-9))


def simulate(
    load: np.ndarray,
    strategy: Strategy,
    fleet: Fleet | None = None,
    seed: int = 0,
    hours: tuple[float, float] = (0.0, 24.0),
    usual: np.ndarray | None = None,
) -> Run:
    """Simulate the pods under a load.

    Parameters
    ----------
    load : ndarray, shape (1440,)
        Requests a second of each minute of a day.
    strategy : Strategy
    fleet : Fleet, optional
    seed : int
        Of the requests; the same for strategies that are compared.
    hours : tuple of float
        Part of the day that is simulated, with the least number of pods at its start.
    usual : ndarray, shape (1440,), optional
        The usual load, for ``predicted``.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If the load is not within its bounds, or nothing is known of the usual one.
    """
    fleet, load = fleet or Fleet(), np.asarray(load, float)
    if load.shape != (1440,) or not ((load >= 0) & (load <= 5_000)).all():
        raise ValueError("load: 1,440 numbers from 0 to 5,000, requests a second by minute.")
    if strategy.metric == "predicted" and (usual is None or np.shape(usual) != (1440,)):
        raise ValueError("usual: to predict, give the usual requests a second of each minute.")
    first = strategy.floor[2] if strategy.metric == "none" else fleet.least
    queues = Queues(np.zeros(first), fleet.service, fleet.spread, fleet.patience, [seed, 22])
    controller, starts, rows = _Controller(fleet, strategy, usual), [], []
    histogram = np.zeros((1440, BINS + 1), int)
    for second in range(round(hours[0] * 60) * 60, round(hours[1] * 60) * 60, TICK):
        if second % fleet.sync == 0 and controller.rates:
            _scale(queues, starts, controller, second)
        starts.sort()
        while starts and starts[0] <= second:
            starts.pop(0)
            queues.resize(len(queues.backlog) + 1)
        row, counts = _tick(queues, starts, controller, load, second)
        rows.append(row)
        histogram[second // 60] += counts
    return _run(rows, histogram, fleet)


def _scale(queues: Queues, starts: list[float], controller: _Controller, second: int) -> None:
    """Start pods, or stop some: those that are not ready first."""
    ready = len(queues.backlog)
    wanted = controller.asks(second, ready, len(starts))
    more = wanted - ready - len(starts)
    starts += [second + controller.fleet.cold] * max(more, 0)
    for _ in range(max(-more, 0)):
        if starts:
            starts.pop()
        else:
            queues.resize(len(queues.backlog) - 1)


def _tick(
    queues: Queues, starts: list[float], controller: _Controller, load: np.ndarray, second: int
) -> tuple[tuple, np.ndarray]:
    """Serve a tick; return its row, and its requests by their time."""
    rate = float(np.interp(second / 60 - 0.5, np.arange(1440), load))
    ready = len(queues.backlog)
    shared = ready + (0 if controller.fleet.probe else len(starts))
    busy, counts = queues.tick(rate / shared, TICK)
    if shared > ready:  # sent to a pod without a model
        counts[-1] += queues.rng.poisson(rate * TICK * (shared - ready) / shared)
    controller.busy.append(busy / TICK)
    controller.rates.append(counts.sum() / TICK)
    return (second // 60, ready, len(starts), busy / TICK / ready), counts


def _run(rows: list[tuple], histogram: np.ndarray, fleet: Fleet) -> Run:
    """Make the tables of a run of its ticks and of the times of each minute."""
    table = pd.DataFrame(rows, columns=["minute", "ready", "starting", "cpu"])
    hours = float((table["ready"] + table["starting"]).sum() * TICK / 3600)
    how = {"ready": "last", "starting": "last", "cpu": "mean"}
    timeline = table.groupby("minute").agg(how).reset_index()
    counts = histogram[timeline["minute"]]
    timeline.insert(1, "load", counts.sum(axis=1) / 60)
    timeline["p99"] = [quantile(one, 0.99) for one in counts]
    timeline["dropped"] = counts[:, -1]
    total = counts.sum(axis=0)
    n = int(total.sum())
    summary = {
        "requests": n,
        "mean": mean_time(total),
        "p50": quantile(total, 0.5),
    }
    summary["p99"] = quantile(total, 0.99)
    summary["over_1s"] = float(total[round(1 / BIN) + 1 :].sum() / max(n, 1))
    summary["bad_minutes"] = int((timeline["p99"] > 1).sum())
    summary |= {"dropped": float(total[-1] / max(n, 1)), "pod_hours": round(hours, 6)}
    return Run(timeline, {**summary, "euros": hours * fleet.price})
