"""Pods that need 100 seconds to start, and five ways to have them there when the load comes.

A day is simulated request by request in ticks of five seconds: requests come at random (Poisson)
and go to a ready pod at random, each pod has a queue of its own, and the proxy refuses a request
that would wait longer than two seconds. Every 15 seconds a controller with the rules of
Kubernetes' HPA reads a metric of the last 30 seconds and asks for pods:

* desired = ready pods × metric / target, rounded up; nothing within the tolerance of 10 %;
* up at once, by at most four pods or a doubling; down only to the highest wish of five minutes;
* a pod that starts counts as one without load, and gets no requests before it is ready.

A CPU cannot be busier than 100 %: with the target of 60 % an overloaded fleet grows by two thirds
at a time, whatever the load is. Requests a second have no such ceiling.

Examples
--------
>>> quiet = simulate(np.full(1440, 90.0), "fixed 4", hours=(0, 0.1))
>>> quiet.summary["dropped"], quiet.summary["pod_hours"]
(0.0, 0.4)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit

from casebook.serving.queues import BIN, BINS, Queues, mean_time, mean_wait, quantile, shared_wait

#: Seconds of a tick.
TICK = 5
SEEDS = tuple(range(15))
_SHOWN = ("over_1s", "dropped", "p99")


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


STRATEGIES = {
    "fixed 4": Strategy("none", floor=(0, 24, 4)),
    "fixed 10": Strategy("none", floor=(0, 24, 10)),
    "cpu": Strategy("cpu"),
    "cpu 40 %": Strategy("cpu", 0.4),
    "requests": Strategy("requests"),
    "scheduled": Strategy("cpu", floor=(11.5, 13.5, 9)),
    "predictive": Strategy("predicted"),
}


# The load -------------------------------------------------------------------------------


def usual_day(lunch: float = 12.0, ramp: float = 3.0) -> np.ndarray:
    """Return expected requests a second of each minute; lunch rises within ``ramp`` minutes."""
    hour = np.arange(1440) / 60
    steps = ((7.5, 0.5, 75), (lunch, ramp / 264, 150), (13.1, 0.12, -145), (18.0, 0.4, 35))
    steps += ((20.5, 0.5, -65), (22.5, 0.3, -45))
    return 30 + sum(height * expit((hour - at) / width) for at, width, height in steps)


def lunch_day(seed: int, crowd: bool = False, ramp: float = 3.0) -> np.ndarray:
    """Return requests a second of each minute of one day.

    The day's level varies by 6 %, the minute's by 4 % (with memory), and lunch begins some minutes
    early or late. It brings 2.4 times the load.

    Parameters
    ----------
    seed : int
    crowd : bool
        Whether a flash crowd comes in the afternoon: 150 requests a second more within a minute,
        for twelve minutes.
    ramp : float
        Minutes in which lunch rises from 10 to 90 %: an assumption on which all depends (see
        :func:`cold_starts`).

    Returns
    -------
    ndarray, shape (1440,)
    """
    rng = np.random.default_rng([seed, 21])
    load = usual_day(12 + rng.normal(0, 0.06), ramp) * np.exp(rng.normal(0, 0.06))
    noise = np.zeros(1440)
    for minute, shock in enumerate(rng.normal(0, 0.04 * np.sqrt(1 - 0.8**2), 1439), 1):
        noise[minute] = 0.8 * noise[minute - 1] + shock
    load = load * np.exp(noise)
    start = int(rng.integers(15 * 60, 17 * 60))
    if crowd:
        load[start : start + 12] += 150
    return load


# The pods -------------------------------------------------------------------------------


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
        ``strategy``, ``requests``, ``mean``, ``p50``, ``p99`` (seconds), ``over_1s`` (share of
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
    usual: np.ndarray
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
    strategy: str | Strategy,
    fleet: Fleet | None = None,
    seed: int = 0,
    hours: tuple[float, float] = (0.0, 24.0),
) -> Run:
    """Simulate the pods under a load.

    Parameters
    ----------
    load : ndarray, shape (1440,)
        Requests a second of each minute.
    strategy : str or Strategy
        A name of ``STRATEGIES``, or one of your own.
    fleet : Fleet, optional
    seed : int
        Of the requests; the same for strategies that are compared.
    hours : tuple of float
        Part of the day that is simulated, with the least number of pods at its start.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If the load is not within its bounds, or a name is unknown.
    """
    fleet, load = fleet or Fleet(), np.asarray(load, float)
    if load.shape != (1440,) or not ((load >= 0) & (load <= 5_000)).all():
        raise ValueError("load: 1,440 numbers from 0 to 5,000, requests a second by minute.")
    name = strategy if isinstance(strategy, str) else "own"
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r}: one of {', '.join(STRATEGIES)}.")
    own = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    first = own.floor[2] if own.metric == "none" else fleet.least
    queues = Queues(np.zeros(first), fleet.service, fleet.spread, fleet.patience, [seed, 22])
    controller, starts, rows = _Controller(fleet, own, usual_day()), [], []
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
    return _run(name, rows, histogram, fleet)


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


def _run(name: str, rows: list[tuple], histogram: np.ndarray, fleet: Fleet) -> Run:
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
        "strategy": name,
        "requests": n,
        "mean": mean_time(total),
        "p50": quantile(total, 0.5),
    }
    summary["p99"] = quantile(total, 0.99)
    summary["over_1s"] = float(total[round(1 / BIN) + 1 :].sum() / max(n, 1))
    summary["bad_minutes"] = int((timeline["p99"] > 1).sum())
    summary |= {"dropped": float(total[-1] / max(n, 1)), "pod_hours": round(hours, 6)}
    return Run(timeline, {**summary, "euros": hours * fleet.price})


# Studies --------------------------------------------------------------------------------


def days(
    seeds: Sequence[int] = SEEDS,
    strategies: Sequence[str] = tuple(STRATEGIES),
    hours: tuple[float, float] = (10.0, 18.0),
) -> pd.DataFrame:
    """Run every strategy on the same days, with and without a flash crowd.

    Returns
    -------
    DataFrame
        ``seed``, ``day`` (``lunch`` or ``flash crowd``) and the summary of :class:`Run`.
    """
    rows = []
    for seed in seeds:
        for day in ("lunch", "flash crowd"):
            load = lunch_day(seed, day == "flash crowd")
            for name in strategies:
                found = simulate(load, name, None, seed, hours).summary
                rows.append({"seed": seed, "day": day, **found})
    return pd.DataFrame(rows)


def frontier(
    seeds: Sequence[int] = SEEDS, hours: tuple[float, float] = (11.0, 14.0)
) -> pd.DataFrame:
    """Turn each strategy's own knob: what does a pod hour buy around lunch?

    Returns
    -------
    DataFrame
        ``seed``, ``strategy``, ``knob``, ``pod_hours`` (of these hours), ``over_1s``, ``p99``.
    """
    grid = {
        "fixed": {pods: Strategy("none", floor=(0, 24, pods)) for pods in (6, 7, 8)},
        "cpu": {at: Strategy("cpu", at) for at in (0.3, 0.4, 0.5, 0.6)},
        "requests": {at: Strategy("requests", at) for at in (15.0, 20.0, 30.0)},
        "scheduled": {n: Strategy("cpu", floor=(11.5, 13.5, n)) for n in (6, 7, 8, 9)},
        "predictive": {at: Strategy("predicted", at) for at in (20.0, 25.0, 30.0)},
    }
    rows = []
    for seed in seeds:
        load = lunch_day(seed)
        for name, knobs in grid.items():
            for knob, strategy in knobs.items():
                found = simulate(load, strategy, None, seed, hours).summary
                own = {key: found[key] for key in ("pod_hours", "over_1s", "p99")}
                rows.append({"seed": seed, "strategy": name, "knob": knob, **own})
    return pd.DataFrame(rows)


def queueing(
    loads: Sequence[float] = (60, 120, 160, 180), hours: float = 2.0, seed: int = 3
) -> pd.DataFrame:
    """Hold the simulated queues of four pods against the formulas for one.

    Returns
    -------
    DataFrame
        ``load`` (requests a second), ``utilisation``, ``spread``, ``simulated`` and ``theory``
        (mean wait in seconds, Pollaczek and Khinchine), ``p99`` and ``p99_theory`` (of wait and
        service; M/M/1 only) and ``shared`` (mean wait of one queue for all; M/M/c only).
    """
    rows = []
    for load in loads:
        for spread in (0.0, 0.5, 1.0):
            fleet = Fleet(spread=spread)
            found = simulate(np.full(1440, load), "fixed 4", fleet, seed, (0, hours)).summary
            rate, s = load / 4, fleet.service
            busy = rate * s
            theory = mean_wait(rate, s, spread)
            p99 = np.log(100) / (1 / s - rate) if spread == 1 else np.nan
            shared = shared_wait(load, s, 4) if spread == 1 else np.nan
            waited = found["mean"] - s
            rows.append((load, busy, spread, waited, theory, found["p99"], p99, shared))
    names = ["load", "utilisation", "spread", "simulated", "theory", "p99", "p99_theory", "shared"]
    return pd.DataFrame(rows, columns=names)


def cold_starts(
    seeds: Sequence[int] = SEEDS,
    ramps: Sequence[float] = (1, 3, 9, 20),
    seconds: Sequence[float] = (20, 100, 200),
) -> pd.DataFrame:
    """Vary what the result depends on: how fast lunch comes and how long a pod takes to start.

    Returns
    -------
    DataFrame
        ``seed``, ``ramp`` (minutes), ``seconds`` (cold start), ``probe`` (False once: requests go
        to pods that are not ready), ``over_1s``, ``dropped``, ``p99`` of the strategy ``cpu``
        from 11:30 to 12:45.
    """
    rows = []
    for seed in seeds:
        for ramp in ramps:
            load = lunch_day(seed, ramp=ramp)
            for cold, probe in [*((one, True) for one in seconds), (100, False)]:
                fleet = Fleet(cold=cold, probe=probe)
                found = simulate(load, "cpu", fleet, seed, (11.5, 12.75)).summary
                rows.append((seed, ramp, cold, probe, *(found[key] for key in _SHOWN)))
    return pd.DataFrame(rows, columns=["seed", "ramp", "seconds", "probe", *_SHOWN])
