"""The breaker of a provider: open for one that is down, closed for one that is only imperfect."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.llm.adapters import ProviderError
from casebook.serving.provider_health import COOL_OFF, VOLUME, Probe, ProviderHealth, RetryBudget


def opened(share, rate, calls, seed=0):
    """Return how often calls at ``rate`` a second, of which ``share`` fail, open a breaker."""
    rng, clock, count = np.random.default_rng(seed), [0.0], 0
    health = ProviderHealth(clock=lambda: clock[0])
    for failed, gap in zip(
        rng.random(calls) < share, rng.exponential(1 / rate, calls), strict=True
    ):
        clock[0] += gap
        health.record(health.admit(), "failed" if failed else "")
        if health.state == "open":
            count += 1
            health = ProviderHealth(clock=lambda: clock[0])
    return count


@pytest.mark.parametrize(("share", "rate"), [(0.03, 120), (0.1, 2), (0.1, 120), (0.3, 120)])
def test_a_provider_that_fails_some_of_its_calls_stays_open_to_all(share, rate):
    assert opened(share, rate, 20_000) == 0


def test_false_alarms_are_as_rare_as_the_docstring_says():
    """At 20 % and 2 a second: once in 4,700 calls; so 21 of 100,000, give or take."""
    assert 10 <= opened(0.2, 2, 100_000) <= 36


def test_a_provider_that_is_down_is_left_alone_within_seconds_and_one_that_recovers_is_asked():
    now = 0.0
    health = ProviderHealth(clock=lambda: now)
    for call in range(120 * 20):  # well for ten seconds, then down
        now = call / 120
        health.record(health.admit(), "failed" if now >= 10 else "")
        if health.state == "open":
            break
    assert 14 < now < 16, "once half of the window's calls failed"
    with pytest.raises(ProviderError, match="open"):
        health.admit()
    now += COOL_OFF
    for _ in range(2):
        health.record(health.admit(), "")
    assert health.state == "closed"
    health.record(health.admit(), "failed")
    assert health.state == "closed", "what was before does not count"


def test_few_calls_open_nothing_and_old_ones_are_forgotten():
    now = 0.0
    health = ProviderHealth(clock=lambda: now)
    for _ in range(VOLUME - 1):
        health.record(health.admit(), "failed")
    now = 10.0
    health.record(health.admit(), "failed")
    assert health.state == "closed"
    for _ in range(VOLUME - 1):
        health.record(health.admit(), "failed")
    assert health.state == "open"


def test_a_probe_tells_once_and_a_client_that_left_says_nothing():
    health = ProviderHealth(volume=1, clock=lambda: 0.0)
    for kind in ("rate_limited", "unauthorized"):
        Probe(health).failed(kind)
    left = Probe(health)
    left.forget()
    assert health.state == "closed"
    long = Probe(health)
    long.lives()
    long.failed("cut")
    assert long.begun and health.state == "closed", "one of four"
    for _ in range(2):
        Probe(health).failed("timeout")
    assert health.state == "open"


def test_a_budget_holds_a_share_of_the_calls_and_never_more_than_a_hundred_calls_worth():
    budget = RetryBudget(share=0.1, least=0)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.take() for _ in range(100)) == 10
