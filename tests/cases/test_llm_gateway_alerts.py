"""Case 20: alerts about keys and spending, advice, and how often they are wrong."""

from __future__ import annotations

import asyncio
import json
import logging

import numpy as np
import pytest
from llm_gateway_kit import KINDS, document, place

from casebook.cases.llm_gateway.alerts import (
    HOUR,
    LEARNS,
    ORIGIN,
    SPENDING,
    Advice,
    advice,
    alerts,
    spending,
    unusual,
    used_from,
)
from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.meter import Ask, Bill, Line, reserve, settle
from casebook.cases.llm_gateway.store import Store, put_config
from casebook.serving.api_keys import Key, add_key

KEY = Key("acme", "caller", "shop", 0.0, None)


@pytest.fixture(params=KINDS)
def do(request):
    store = Store(place(request.param))
    yield lambda operation, *given: store.submit(operation, *given).result()
    store.close()


def test_a_key_learns_its_places_for_a_day_and_each_new_one_after_that_is_told_once(do):
    uses = [("a", 0), ("b", LEARNS - 1), ("a", LEARNS), ("c", LEARNS + 1), ("c", LEARNS + 2)]
    found = [do(used_from, "hash-of-a-key", KEY, place, at) for place, at in uses]
    assert [one is not None for one in found] == [False, False, False, True, False]
    assert found[3].kind == ORIGIN and "hash-of-a-k" in found[3].what and "c." in found[3].what
    assert do(alerts, "acme") == [found[3]] and do(alerts, "globex") == []


def test_a_gateway_notes_who_asks_from_where_and_its_log_has_no_address_of_a_person(caplog):
    now, store = [1e9], Store(":memory:")
    store.submit(put_config, read(document())).result()
    key = store.submit(add_key, "acme", "caller", "shop", 0.0).result()
    gateway = Gateway(store, environ={}, clock=lambda: now[0])

    async def use(address):
        await gateway.refresh()
        gateway.who(f"Bearer {key}", address)
        return await gateway.watch()

    with caplog.at_level(logging.WARNING, "llm_gateway"):
        assert asyncio.run(use("203.0.113.7")) == []
        now[0] += 2 * LEARNS
        assert asyncio.run(use("203.0.113.9")) == [], "the same network"
        (alert,) = asyncio.run(use("198.51.100.23"))
        assert asyncio.run(use("198.51.100.99")) == [], "told once"
    assert "198.51.100.0/24" in alert.what and "198.51.100.23" not in caplog.text + str(alert)
    assert 'tenant="acme",kind="new origin"' in gateway.metrics.text("acme").replace(", ", ",")
    assert "new origin" not in gateway.metrics.text("globex")
    store.close()


def spent(do, tenant, hour, cost):
    request = f"{tenant}/{hour}/{cost}"
    do(reserve, Ask(request, tenant, "small", cost, hour * HOUR + 60), "g")
    do(settle, request, "g", Bill("small", 1, 1, cost))


def test_spending_is_held_against_the_own_past_and_told_once_a_day(do):
    for hour in range(100):
        spent(do, "large", 1000 + hour, 10_000 + hour)
        spent(do, "small", 1000 + hour, 10)
    spent(do, "new", 1099, 10**9)
    spent(do, "large", 1100, 15_000)
    spent(do, "small", 1100, 900)
    found = do(spending, 1100 * HOUR + 120)
    assert [(one.tenant, one.kind) for one in found] == [("small", SPENDING)]
    assert do(spending, 1100 * HOUR + 180) == [], "once a day"
    spent(do, "small", 1125, 5_000)
    assert [one.tenant for one in do(spending, 1125 * HOUR + 70)] == ["small"]


def hourly(seed, hours=24 * 45, spread=0.6):
    """Return what a tenant with working hours and log-normal traffic spends by hour."""
    rng, at = np.random.default_rng(seed), np.arange(hours)
    day = np.where((at % 24 >= 8) & (at % 24 < 18) & (at // 24 % 7 < 5), 1.0, 0.15)
    return (1e6 * day * rng.lognormal(0, spread, hours)).astype(int)


def test_a_quiet_month_has_few_false_alerts_and_a_leaked_key_is_seen_within_an_hour():
    """Thirty days of forty tenants; then somebody spends many times a working hour at night."""
    false, leaks = 0, {10: 0, 20: 0}
    for seed in range(40):
        series = hourly(seed)
        past = lambda at, s=series: s[max(0, at - 336) : at]  # noqa: E731
        false += sum(unusual(336, past(at).max(), series[at]) for at in range(360, 1080))
        for times in leaks:
            leaks[times] += unusual(336, past(1060).max(), series[1060] + times * 1_000_000)
    assert false <= 6, f"{false} false alerts in 40 tenant-months"
    assert leaks[10] >= 28 and leaks[20] == 40, f"of 40 leaks, in their first hour: {leaks}"


def test_advice_names_what_a_cheaper_model_would_have_saved():
    config = read(document())
    lines = [Line("large", 9, 1000, 100, 1000 * 150 + 100 * 9000), Line("small", 5, 10, 10, 7500)]
    assert advice(config, "acme", lines) == [Advice("large", "small", 100 * (9000 - 600))]
    assert advice(config, "globex", [Line("small", 1, 1, 1, 750)]) == [], "it may ask no other"
    assert json.dumps(advice(config, "acme", []))
