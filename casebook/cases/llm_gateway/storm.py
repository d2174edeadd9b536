"""What repeats do to a provider in trouble: the gateway's own breaker and retry budget, simulated.

A provider answers so many attempts a second and fails the rest at once. One that *degrades* loses a
part of an answer's work for each attempt that it fails. Requests come evenly. What
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
from casebook.serving.failover import BACK_OFF
from casebook.serving.provider_health import ProviderHealth, RetryBudget

#: Requests a second; what the provider answers of them when it is well; when it is in trouble.
RATE, WELL, TROUBLE = 100, 200.0, (10.0, 25.0)
#: What a failed attempt takes of a provider that degrades, in answers.
SPOILS = 0.3


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
    "no repeats": Arm(0),
    "no repeats, breaker": Arm(0, breaker=True),
    "one repeat, breaker": Arm(1, breaker=True),
    "three repeats": Arm(3),
    "three repeats, breaker": Arm(3, breaker=True),
    "budget": Arm(1, budget=True),
    "budget, breaker": Arm(1, budget=True, breaker=True),
}


class _Provider:
    """Answers so many attempts a second; each that it fails takes some of its work."""

    def __init__(self, spoils: float) -> None:
        self._spoils, self._level, self._at = spoils, WELL / 10, 0.0

    def answers(self, at: float, answers: float) -> bool:
        """Say whether it answers an attempt; in trouble it answers fewer a second."""
        rate = answers if TROUBLE[0] <= at < TROUBLE[1] else WELL
        self._level = min(WELL / 10, self._level + (at - self._at) * rate)
        self._at = at
        good = self._level >= 1 - 1e-9
        self._level -= 1 if good else self._spoils
        self._level = max(self._level, -WELL / 10)  # it gives up what is older
        return good


def attempts(
    arm: Arm,
    answers: float,
    seconds: int = 60,
    seed: int = 1,
    spoils: float = 0.0,
    flaky: float = 0.0,
) -> pd.DataFrame:
    """Let a provider be in trouble for 15 of 60 seconds.

    Parameters
    ----------
    arm : Arm
    answers : float
        Attempts a second that the provider answers in ``TROUBLE``; 0 if it is down.
    seconds : int
    seed : int
        Of the pauses before repeats.
    spoils : float
        Of an answer's work, what each failed attempt takes from the provider: ``SPOILS`` for one
        that degrades.
    flaky : float
        Share of the attempts that fail by chance, whatever the load.

    Returns
    -------
    DataFrame
        A row for each second: ``asked`` (attempts that reach the provider) and ``answered``.
    """
    now, rng, chance = [0.0], random.Random(seed), random.Random(seed + 1)
    health, budget = ProviderHealth(clock=lambda: now[0]), RetryBudget()
    provider, told = _Provider(spoils), [[0, 0] for _ in range(seconds)]
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
        good = provider.answers(at, answers) and chance.random() >= flaky
        told[int(at)][0] += 1
        told[int(at)][1] += good
        if arm.breaker:
            health.record(call, "" if good else "failed")
        if not good and repeat < arm.repeats and (not arm.budget or budget.take()):
            heapq.heappush(due, (at + rng.uniform(0.5, 1) * BACK_OFF, request, repeat + 1))
    return pd.DataFrame(told, columns=["asked", "answered"])


def in_trouble(made: pd.DataFrame) -> pd.Series:
    """Return what :func:`attempts` counts for each request in the last ten seconds of trouble."""
    start, end = int(TROUBLE[1]) - 10, int(TROUBLE[1])
    return made.iloc[start:end].sum() / (10 * RATE)
