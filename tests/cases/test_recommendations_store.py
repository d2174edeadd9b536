"""Case 09: the shop's features on the real feed, the morning's checks, and the sizing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from recommendations_fakes import DAY, NOW, fake, messages, store_of, world

from casebook.cases.recommendations import monitor
from casebook.cases.recommendations.sizing import Asked, Measured, cores, plan
from casebook.cases.recommendations.store import FEATURES, feed, stock_messages, stock_now
from casebook.features.point_in_time import seen_later
from casebook.features.store import Offline, Online, skew

STOCK = world().stock[DAY]


def rows_at(moment: pd.Timestamp, n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return users who were there in the last minutes, with items of the shop."""
    rng, all_of = np.random.default_rng(seed), messages()
    lately = all_of[all_of["known_at"].between(moment - pd.Timedelta("6h"), moment)]
    who = lately.loc[lately["user"] >= 0, "user"].unique()
    rows = pd.DataFrame({"user": rng.choice(who, n), "item": rng.integers(0, 300, n)})
    category = world().items["category"].astype(str).to_numpy()
    return rows.assign(category=category[rng.integers(0, 300, n)], asked=moment)


@pytest.mark.parametrize("now", [NOW, pd.Timestamp("2026-03-18 00:00:40")])
def test_the_service_reads_what_the_training_table_has(now):
    """With late, doubled and mispriced messages and with programs, as the feed came in."""
    from casebook.cases.recommendations.store import filled

    rows, online = rows_at(now), filled(messages(), now)
    served, table = online.read(rows, now), Offline(FEATURES, messages()).at(rows, "asked")
    assert {*served} == {f.name for f in FEATURES} == {*table}
    assert skew(served, table) == {}
    assert table["spent_90d"].max() > 0 and (
        now != NOW or max(map(len, served["recent_pages"])) > 1
    )
    online.close()


def test_training_on_the_time_of_the_event_would_leak_and_the_check_finds_it():
    rows = pd.concat([rows_at(NOW - pd.Timedelta(hours=h), 40, h) for h in range(0, 30, 3)])
    rows = rows.rename(columns={"asked": "known"}).reset_index(drop=True)
    some_of = [f for f in FEATURES if f.name in ("trend_1h", "mean_price")]
    lately = messages()[messages()["at"] >= NOW - pd.Timedelta(days=9)]
    found = {"received": "known_at", "asked": "known", "hours": 2.0, "cuts": 4}
    leaks = {
        by: seen_later(
            lambda feed, some, by=by: Offline(some_of, feed, by).at(some, "known"),
            lately,
            rows,
            **found,
        )
        for by in ("known_at", "at")
    }
    assert leaks["known_at"] == {} and {*leaks["at"]} == {"trend_1h", "mean_price"}


def test_the_store_knows_the_stock_and_a_silent_item_is_not_in_it(tmp_path):
    online = store_of(tmp_path / "store.db")
    assert (stock_now(online, 300) == STOCK).all() and 0.8 < STOCK.mean() < 1
    assert not stock_now(online, 301)[300]
    online.close()
    changes = stock_messages(world().stock)
    assert len(changes) == 300 + (world().stock[1:] != world().stock[:-1]).sum()
    unknown = world().events.head().assign(item=300)
    with pytest.raises(ValueError, match="load its items"):
        feed(unknown, world().shown, world().items, world().stock)
    empty = Online(FEATURES)
    assert not stock_now(empty, 10).any()
    empty.close()


# The monitor ----------------------------------------------------------------------------------


def lists_of(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    pages = np.flatnonzero(STOCK)[np.arange(n) % STOCK.sum()]
    return fake().recommend(np.full(n, -1), pages, "similar", STOCK)[0], pages


def broken(change) -> dict[str, bool]:
    lists, pages = lists_of()
    brand = np.arange(300)
    lists, brand = change(lists.copy(), brand.copy())
    return {c.name: c.alarm for c in monitor.rules(lists, pages, STOCK, brand)}


def put(row, slot, item):
    def change(lists, brand):
        lists[row, slot] = item(lists)
        return lists, brand

    return change


def same_brand(n):
    def change(lists, brand):
        brand[lists[4, :n]] = 999
        return lists, brand

    return change


@pytest.mark.parametrize(
    ("change", "alarms"),
    [
        (lambda lists, brand: (lists, brand), set()),
        (put(4, 9, lambda lists: -1), set()),
        (put(4, 9, lambda lists: int(np.flatnonzero(~STOCK)[0])), {"sold out"}),
        (put(4, 9, lambda lists: int(lists_of()[1][4])), {"its own page"}),
        (put(4, 9, lambda lists: lists[4, 0]), {"an item twice"}),
        (same_brand(3), set()),
        (same_brand(4), {"more than 3 of a brand"}),
    ],
)
def test_each_rule_that_a_list_breaks_is_named(change, alarms):
    assert {name for name, alarm in broken(change).items() if alarm} == alarms


def test_each_check_is_quiet_on_a_usual_day_and_alarms_on_its_fault():
    lists, _ = lists_of()
    few = np.broadcast_to(lists[:1], lists.shape)
    scores = np.random.default_rng(0).normal(size=(2, 3_000))
    for check, alarm in (
        (monitor.coverage(lists, STOCK), False),
        (monitor.coverage(few, STOCK), True),
        (monitor.found(0.97), False),
        (monitor.found(0.9), True),
        (monitor.drift(*scores), False),
        (monitor.drift(scores[0], scores[1] + 0.6), True),
        (monitor.drift(scores[0, :60], scores[1, :60]), False),  # a small day is noisy, not drift
    ):
        assert check.alarm == alarm and bool(check.what) == alarm, check


# The sizing -----------------------------------------------------------------------------------


def test_the_arithmetic_of_black_friday_is_that_of_a_pencil():
    measured = Measured(core_ms=5.0, mails=500.0, user_bytes=400, item_bytes=600, index_bytes=800)
    table = plan(measured, Asked(cached=0.2))["value"]
    assert table["requests, mean"] == pytest.approx(50e6 * 2 / 86_400)
    assert table["requests, Black Friday"] == pytest.approx(46_296, rel=1e-4)
    assert table["cores, Black Friday"] == np.ceil(46_296.3 * 0.8 * 0.005 / 0.4)
    assert table["night"] == pytest.approx(10e6 / 500 / 3600) and table["cores, night"] == 2
    assert table["online store"] == pytest.approx((50e6 * 400 + 10e6 * 600) / 1e9)
    assert table["index while it is swapped"] == 2 * table["index"] == pytest.approx(16.0)
    assert table["items by items, dense"] == pytest.approx(800.0)
    with pytest.raises(ValueError, match="cannot be"):
        cores(100, 0.0, 0.4)
