"""Case 09: the shop's features on the real feed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from recommendations_fakes import DAY, NOW, messages, store_of, world

from casebook.cases.recommendations.sizing import cores
from casebook.cases.recommendations.store import FEATURES, feed, filled, stock_messages, stock_now
from casebook.features.point_in_time import seen_later
from casebook.features.store import Offline, skew

STOCK = world().stock[DAY]


def rows_at(moment: pd.Timestamp, n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return users who were there in the last hours, with items of the shop."""
    rng, all_of = np.random.default_rng(seed), messages()
    lately = all_of[all_of["known_at"].between(moment - pd.Timedelta("6h"), moment)]
    who = lately.loc[lately["user"] >= 0, "user"].unique()
    rows = pd.DataFrame({"user": rng.choice(who, n), "item": rng.integers(0, 300, n)})
    category = world().items["category"].astype(str).to_numpy()
    return rows.assign(category=category[rng.integers(0, 300, n)], asked=moment)


@pytest.mark.parametrize("now", [NOW, pd.Timestamp("2026-03-18 00:00:40")])
def test_the_service_reads_what_the_training_table_has(now):
    """With late, doubled and mispriced messages and with programs, as the feed came in."""
    rows, online = rows_at(now), filled(messages(), now)
    served, table = online.read(rows, now), Offline(FEATURES, messages()).at(rows, "asked")
    assert {*served} == {f.name for f in FEATURES} == {*table}
    assert skew(served, table) == {} and table["spent_90d"].max() > 0
    assert now != NOW or max(map(len, served["recent_pages"])) > 1
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


def test_the_store_knows_the_stock_and_of_a_silent_item_that_it_knows_nothing(tmp_path):
    online = store_of(tmp_path / "store.db")
    told = stock_now(online, 301)
    assert (told[:300] == STOCK).all() and 0.8 < STOCK.mean() < 1 and np.isnan(told[300])
    online.close()
    changes = stock_messages(world().stock)
    assert len(changes) == 300 + (world().stock[1:] != world().stock[:-1]).sum()
    unknown = world().events.head().assign(item=300)
    with pytest.raises(ValueError, match="load its items"):
        feed(unknown, world().shown, world().items, world().stock)


def test_the_cores_of_black_friday_are_those_of_a_pencil():
    assert cores(46_296.3 * 0.8, 5.0, 0.4) == np.ceil(46_296.3 * 0.8 * 0.005 / 0.4)
    with pytest.raises(ValueError, match="cannot be"):
        cores(100, 0.0, 0.4)
