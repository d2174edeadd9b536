"""Case 09: features are the same in training and in the service, and know nothing too early."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.recommendations.catalogue import CATEGORIES, Shop
from casebook.cases.recommendations.features import (
    NAMES,
    WEIGHTS,
    Definition,
    History,
    Online,
    batch,
    click_model,
    define,
    milliseconds,
    training_rows,
)
from casebook.cases.recommendations.log import START
from casebook.cases.recommendations.messages import repair
from casebook.cases.recommendations.world import World, simulate
from casebook.features.point_in_time import seen_later

#: One message in eight comes late, so that every window has some.
LATE = Shop(users=500, items=200, late=0.12)


@cache
def world() -> World:
    return simulate(3, shop=LATE)


@cache
def parts() -> tuple[Definition, pd.DataFrame, pd.DataFrame]:
    """Return the definition, the repaired feed, and 150 lists to be asked about."""
    made = world()
    rows = training_rows(made, range(7, 42))
    lists = np.random.default_rng(0).choice(rows["list"].unique(), 150, replace=False)
    return define(made, 28), repair(made.events, made.items), rows[rows["list"].isin(lists)]


@cache
def made() -> pd.DataFrame:
    definition, events, rows = parts()
    return batch(definition, events, world().shown, rows)


def online(events: pd.DataFrame, definition: Definition) -> pd.DataFrame:
    """Go through all messages in the order in which they are known, and ask on the way."""
    rows, shown = parts()[2], world().shown
    service, slots = Online(definition), 10
    heads = shown.iloc[::slots]
    items = shown["item"].to_numpy().reshape(-1, slots)
    asked = {*rows["list"].unique()}
    queue = [
        (at, 1, event)
        for at, *event in zip(
            milliseconds(events["known_at"]), events["user"], events["item"], events["kind"],
            strict=True,
        )
    ]  # fmt: skip
    queue += [(at, 2, head) for at, head in zip(milliseconds(heads["at"]), heads["list"],
                                                strict=True)]  # fmt: skip
    queue += [(at, 0, head) for at, _, head in queue if _ == 2 and head in asked]
    found = []
    for at, what, message in sorted(queue, key=lambda m: m[:2]):
        if what == 1:
            service.take(at, *message)
        elif what == 2:
            service.show(at, items[message])
        else:
            head = heads.iloc[message]
            page = int(head["seed_item"])
            frame = service.features(int(head["user"]), items[message], at, page)
            found.append(frame.set_index(message * slots + np.arange(slots)))
    return pd.concat(found).loc[rows.index]


# One definition -----------------------------------------------------------------------


def test_training_and_service_agree_with_late_messages():
    definition, events, rows = parts()
    late = events["known_at"] - events["at"] > pd.Timedelta(hours=1)
    assert late.mean() > 0.1
    served = online(events, definition)
    assert np.allclose(made(), served, rtol=0, atol=1e-9)
    assert made().std().drop("in_stock").min() > 0, "a feature that never changes shows nothing"
    assert len(made()) == len(rows) == 1_500


def test_a_service_that_counts_by_the_event_differs_and_is_found():
    """Planted: messages are taken as if each had come when it happened."""
    definition, events, _ = parts()
    wrong = events.assign(known_at=events["at"]).sort_values("known_at", kind="stable")
    served = online(wrong, definition)
    off = {name for name in NAMES if not np.allclose(made()[name], served[name])}
    assert {"user_events", "category_affinity", "price_gap"} <= off
    assert not off & {"age_days", "campaign", "margin", "shown_7d", "page_category", "quiz"}


# Known by then ------------------------------------------------------------------------


def leaks(by: str) -> dict[str, int]:
    definition, events, rows = parts()
    asked = rows.assign(known_at=rows["at"])

    def make(feed: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
        return batch(definition, feed, world().shown, some, by=by)

    return seen_later(make, events, asked, cuts=30, received="known_at", hours=24)


def test_no_feature_knows_what_came_later():
    assert leaks("known_at") == {}


def test_a_feature_by_the_time_of_the_event_is_found_out():
    found = leaks("at")
    assert {"user_events", "price_gap"} <= {*found}
    assert not {*found} & {"margin", "shown_7d", "age_days"}


def test_impressions_of_later_and_of_this_moment_do_not_count():
    definition, events, rows = parts()
    now = rows["at"].iloc[700]
    some = rows[rows["at"] == now]
    shown = world().shown
    cut = batch(definition, events, shown[shown["at"] < now], some)
    assert np.allclose(cut, made().loc[some.index])


# What each is -------------------------------------------------------------------------


def by_hand(row: pd.Series) -> dict[str, float]:
    """Compute some features of one row by plain loops over the tables."""
    definition, events, _ = parts()
    at, world_ = row["at"], world()
    known = events[events["known_at"] < at]
    week = known[known["known_at"] >= at - pd.Timedelta(days=7)]
    hour = known[known["known_at"] >= at - pd.Timedelta(hours=1)]
    mine = known[known["user"] == row["user"]]
    item = world_.items.loc[row["item"]]
    category = world_.items["category"].to_numpy()[mine["item"]] == item["category"]
    days = (at - mine["known_at"]) / pd.Timedelta(days=1)
    weight = mine["kind"].map(WEIGHTS).astype(float) * 0.5 ** (days / 7)
    active = ["view", "click"]
    shown = world_.shown[world_.shown["at"] < at]
    seen = shown[(shown["item"] == row["item"])]
    looks = definition.look[seen["slot"]].sum()
    clicks = known[(known["item"] == row["item"]) & (known["kind"] == "click")]
    lately = days < 1 / 48
    here = hour[hour["item"] == row["item"]]
    own = week[(week["user"] == row["user"]) & (week["item"] == row["item"])]
    return {
        "trend_1h": np.log1p(here["kind"].isin(active).sum()),
        "clicks_7d": np.log1p((clicks["known_at"] >= at - pd.Timedelta(days=7)).sum()),
        "ctr": np.log((len(clicks) + 20 * definition.rate) / (looks + 20)),
        "user_events": np.log1p(len(mine)),
        "session_events": np.log1p(lately.sum()),
        "session_category": np.log1p((lately & category).sum()),
        "category_affinity": (weight[category].sum() + 0.2) / (weight.sum() + 4),
        "seen_7d": np.log1p(own["kind"].isin(active).sum()),
        "owned": float((mine[mine["item"] == row["item"]]["kind"] == "buy").any()),
        "age_days": min(row["day"] - item["added"], 30) if item["added"] else 30,
        "quiz": float(world_.users["quiz"][row["user"]] == item["category"]),
    }


def test_features_are_what_their_names_say():
    rows = parts()[2]
    busy = made()["session_events"].nlargest(8).index
    trending = made()["trend_1h"].nlargest(4).index
    owned = made()["owned"].nlargest(2).index
    for index in [*busy, *trending, *owned, *rows.index[::250]]:
        for name, value in by_hand(rows.loc[index]).items():
            assert made().loc[index, name] == pytest.approx(value, abs=1e-9), (index, name)


def test_a_new_user_and_a_new_item_have_features_too():
    definition, events, _ = parts()
    at = pd.Timestamp("2026-03-02 00:00:01")
    row = pd.DataFrame({"user": [0], "item": [0], "at": [at]})
    found = batch(definition, events, world().shown, row).iloc[0]
    assert np.isfinite(found).all()
    assert found[["user_events", "seen_7d", "trend_1h", "page_category"]].eq(0).all()
    assert found["ctr"] == pytest.approx(np.log(definition.rate))
    assert found["category_affinity"] == pytest.approx(1 / len(CATEGORIES))


# A click model ------------------------------------------------------------------------


def test_a_model_on_the_features_ranks_what_chance_showed():
    """By the truth on random lists of later days: clicked more where more is expected."""
    expects = click_model(world(), 28)
    rows = world().shown.query("random and day >= 28").reset_index(drop=True)
    appeal = np.concatenate([
        world().truth.appeal(part["user"].to_numpy(), part["item"].to_numpy(), int(day))
        for day, part in rows.groupby("day")
    ])  # fmt: skip
    found = pd.Series(expects(rows)).corr(pd.Series(appeal), method="spearman")
    assert 0.3 < found < 0.95


# Bad input ----------------------------------------------------------------------------


def test_rows_without_a_moment_are_refused():
    definition, events, rows = parts()
    with pytest.raises(ValueError, match=r"\['at'\]"):
        History(definition, events, world().shown).features(rows.drop(columns="at"))


def test_messages_out_of_order_are_refused():
    service = Online(parts()[0])
    service.take(1_000, 1, 2, "view")
    with pytest.raises(ValueError, match="order in which"):
        service.take(999, 1, 2, "view")
    with pytest.raises(ValueError, match="order in which"):
        service.features(1, np.array([2]), 999)


def test_training_rows_keep_lists_together():
    rows = training_rows(world(), range(7, 14), share=0.3, seed=1)
    assert rows.groupby("list").size().eq(10).all()
    assert rows["day"].between(7, 13).all()
    whole = training_rows(world(), range(7, 14))
    assert 0.2 < len(rows) / len(whole) < 0.4
    assert pd.Timestamp("2026-03-02") == START
