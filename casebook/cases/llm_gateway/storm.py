"""What repeats do to a provider in trouble: the gateway's own breaker and retry budget, simulated.

A provider answers so many attempts a second and fails the rest at once. Requests come evenly. What
fails is asked again after a short pause, as :class:`casebook.serving.failover.Caller` does: while
there is a repeat left, and while the breaker lets it through.

Examples
--------
>>> calm = attempts(ARMS["three repeats"], answers=200.0, seconds=2)
>>> calm[["asked", "answered"]].to_numpy().tolist()
[[100, 100], [100, 100]]
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from casebook.llm.adapters import ProviderError
from casebook.serving.buckets import Bucket
from casebook.serving.failover import BACK_OFF
from casebook.serving.provider_health import ProviderHealth, RetryBudget

#: Requests a second; what the provider answers of them when it is well; when it is in trouble.
RATE, WELL, TROUBLE = 100, 200.0, (10.0, 25.0)


@dataclass(frozen=True)
class Arm:
    """How failures are repeated.

    Attributes
    ----------
    repeats : int
        Of a request, at most.
    budget : bool
        Whether they draw on a budget of a tenth of the requests.
    breaker : bool
    """

    repeats: int
    budget: bool = False
    breaker: bool = False


ARMS: Mapping[str, Arm] = {
    "three repeats": Arm(3),
    "three repeats, breaker": Arm(3, breaker=True),
    "budget": Arm(1, budget=True),
    "budget, breaker": Arm(1, budget=True, breaker=True),
}


def attempts(arm: Arm, answers: float, seconds: int = 60, seed: int = 1) -> pd.DataFrame:
    """Let a provider be in trouble for 15 of 60 seconds.

    Parameters
    ----------
    arm : Arm
    answers : float
        Attempts a second that the provider answers in ``TROUBLE``; 0 if it is down.
    seconds : int
    seed : int
        Of the pauses before repeats.

    Returns
    -------
    DataFrame
        A row for each second: ``asked`` (attempts that reach the provider) and ``answered``.
    """
    now, rng = [0.0], random.Random(seed)
    health, budget = ProviderHealth(clock=lambda: now[0]), RetryBudget()
    provider, told = Bucket(60 * WELL, WELL / 10, 0.0), [[0, 0] for _ in range(seconds)]
    due = [(n / RATE, n, 0) for n in range(RATE * seconds)]
    while due:
        at, request, repeat = heapq.heappop(due)
        if at >= seconds:
            break
        now[0] = at
        if not repeat:
            budget.earn()
        try:
            call = health.admit() if arm.breaker else 0
        except ProviderError:
            continue
        good = _answered(provider, at, answers)
        told[int(at)][0] += 1
        told[int(at)][1] += good
        if arm.breaker:
            health.record(call, "" if good else "failed")
        if not good and repeat < arm.repeats and (not arm.budget or budget.take()):
            heapq.heappush(due, (at + rng.uniform(0.5, 1) * BACK_OFF, request, repeat + 1))
    return pd.DataFrame(told, columns=["asked", "answered"])


def _answered(provider: Bucket, at: float, answers: float) -> bool:
    """Say whether a provider answers an attempt; in trouble it answers fewer a second."""
    ill = TROUBLE[0] <= at < TROUBLE[1]
    provider.change(60 * (max(answers, 1e-9) if ill else WELL), WELL / 10)
    return provider.take(at) == 0


def in_trouble(made: pd.DataFrame) -> pd.Series:
    """Return what :func:`attempts` counts for each request in the last ten seconds of trouble."""
    start, end = int(TROUBLE[1]) - 10, int(TROUBLE[1])
    return made.iloc[start:end].sum() / (10 * RATE)
