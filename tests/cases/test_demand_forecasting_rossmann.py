"""Case 01 on real data: Rossmann and tourism, live where the data are, as recorded where not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from demand_forecasting_shared import CASE, assert_agrees, recorded

from casebook.cases.demand_forecasting import rossmann, stores, tourism
from casebook.data.files import find_real
from casebook.forecasting.origins import KNOWN
from casebook.recorded.real import other_data

WEEK = ("2014-09-01", "2014-09-07")
KEYS = {
    "real_rossmann": ["stores", "what", "origin", "level", "model"],
    "real_rossmann_informed": ["stores", "origin", "level", "model"],
    "real_tourism": ["tree", "options", "origin", "level", "way"],
}


# What is recorded --------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS)
def test_the_recorded_table_is_whole_and_of_the_registered_file(name):
    table = recorded(name)
    assert not other_data(CASE, name) and not table[KEYS[name]].duplicated().any()
    assert table[KEYS[name]].notna().all(axis=None)


def test_rossmann_as_recorded_beats_rules_and_rules_beat_last_week():
    """And told what opens, the model on a sum nearly reaches bottom-up.

    Most of bottom-up's lead was that stores know their closed days.
    """
    table = recorded("real_rossmann").query("origin == 'all'")
    scores = table[table["what"] == "score"]
    for part in ("all", "sample"):
        wide = scores[scores["stores"] == part].pivot(index="level", columns="model", values="WAPE")
        assert set(wide.index) == set(rossmann.LEVELS)
        assert (wide["direct_bottom_up"] < wide["rules"]).all()
        assert (wide["rules"] < wide["naive_week"]).all()
    bands = table[table["level"] == "total"].set_index("what")["value"]
    assert bands["band"] > bands["band, independent"] + 0.1
    both = pd.concat([table, recorded("real_rossmann_informed")])
    told = both.query("stores == 'all' and origin == 'all'")
    wide = told.dropna(subset="WAPE").pivot(index="level", columns="model", values="WAPE")
    upper = wide.loc[[*rossmann.LEVELS[:-1]]]
    assert (upper["direct_bottom_up"] < upper[rossmann.OPEN]).all()
    assert (upper[rossmann.OPEN] < upper["direct"]).all()
    assert (wide["direct_bottom_up"] < wide[rossmann.SEASONAL]).all()


def test_tourism_as_recorded_says_that_the_base_model_decides():
    """Pooled RMSE over the last eight quarters, as in the audit of the first edition."""
    table = recorded("real_tourism").query("tree == 'regions' and level == 'pooled'")
    wide = table.pivot(index=["options", "origin"], columns="way", values="RMSE")
    last = wide.loc["ZZZ", tourism.ORIGINS[-1]]
    known = {"base": 125.1, "ols": 124.4, "mint": 136.0, "naive": 136.8, "bottom_up": 193.1}
    forced = wide.loc["ZZA", tourism.ORIGINS[-1]]
    assert last[list(known)].to_dict() == pytest.approx(known, abs=0.1)
    assert forced[["base", "mint"]].tolist() == pytest.approx([127.4, 141.6], abs=0.1)
    assert set(wide.columns) == set(tourism.WAYS)
    assert len(wide) == len(tourism.OPTIONS) * (len(tourism.ORIGINS) + 1)


def test_a_live_part_of_rossmann_agrees_or_the_record_holds_its_rows():
    keys, table = KEYS["real_rossmann"], recorded("real_rossmann")
    day = f"{rossmann.TEST[-1]:%Y-%m-%d}"
    if find_real("rossmann") is None:
        part = table.query(f"stores == 'sample' and origin == '{day}' and what == 'score'")
        assert set(part["model"]) >= {"naive_week", "rules", "direct", "direct_bottom_up"}
        return
    live = rossmann.live()
    assert set(live["origin"]) == {day}
    assert_agrees(live, table, keys)
    table.loc[table["model"] == "rules", "WAPE"] += 0.01  # a wrong number in the record
    with pytest.raises(AssertionError, match="Not equal"):
        assert_agrees(live, table, keys)


def test_a_live_part_of_the_informed_table_agrees():
    if find_real("rossmann") is not None:
        keys = KEYS["real_rossmann_informed"]
        assert_agrees(rossmann.live_informed(), recorded("real_rossmann_informed"), keys)


def test_a_store_s_closed_day_is_no_share_of_what_opens(sales):
    rows = rossmann.panel(sales)
    tree = rossmann.from_ids(rows["unique_id"], rossmann.LEVELS[1:])
    origin = pd.Timestamp("2014-09-01")
    shares = rossmann.open_shares(rows, tree, origin).set_index(["unique_id", "ds"])["open"]
    volume = rows[rows["ds"].between("2013-09-02", "2014-08-31")].groupby("unique_id")["y"].mean()
    away = (volume["a/aa/0001"] + volume["c/ca/0002"]) / volume.sum()
    assert shares["total", pd.Timestamp("2014-03-03")] == pytest.approx(away)  # one is shut
    assert shares["total", pd.Timestamp("2014-09-02")] == pytest.approx(1)  # ahead: all open
    later = rows.assign(y=rows["y"].where(rows["ds"] < origin, 1e6))
    again = rossmann.open_shares(later, tree, origin).set_index(["unique_id", "ds"])["open"]
    assert again.equals(shares)


def test_a_live_part_of_tourism_agrees_or_the_record_holds_its_rows():
    keys, table = KEYS["real_tourism"], recorded("real_tourism")
    part = table.query(
        f"tree == 'states' and options == 'ZZA' and origin == '{tourism.ORIGINS[0]}'"
    )
    assert set(part["way"]) == set(tourism.WAYS)
    if find_real("tourism") is not None:
        live = tourism.real_tourism(tourism.ORIGINS[:1], ["ZZA"], ["states"])
        assert_agrees(live[live["origin"] != "all"], table, keys)


# Stores as routes --------------------------------------------------------------------


@pytest.fixture(scope="module")
def sales() -> pd.DataFrame:
    """Return three stores: two close on All Saints' Day, one keeps half a year closed."""
    days = pd.date_range(stores.FIRST, periods=700)
    frames = []
    for store, (kind, closed) in enumerate(
        {"a": ["2013-11-01"], "c": ["2013-11-01"], "d": []}.items()
    ):
        frame = pd.DataFrame({"store": store + 1, "ds": days, "type": kind, "assortment": "a"})
        frame["y"] = 100.0 * (store + 1) + 10 * frame["ds"].dt.dayofweek
        frame["promotion"] = (frame["ds"].dt.isocalendar().week % 2).astype(int)
        frame["distance"] = [500.0, np.nan, 2500.0][store]
        shut = frame["ds"].isin(pd.to_datetime([*closed, "2013-12-25", "2014-01-01"]))
        frames.append(frame[(frame["ds"].dt.dayofweek < 6) & ~shut])
    long = frames[2]["ds"].between("2014-02-01", "2014-07-31")
    return pd.concat([*frames[:2], frames[2][~long]], ignore_index=True)


def test_a_store_keeps_the_holidays_on_which_it_was_closed(sales):
    rows = sales.assign(unique_id=stores._ids(sales))
    region, calendar = stores.calendars(rows)
    assert region["a/aa/0001"] == region["c/ca/0002"] != region["d/da/0003"]
    kept = {k: set(days) for k, days in calendar.groupby("country")["ds"]}
    saints = pd.Timestamp("2013-11-01")
    assert saints in kept[region["a/aa/0001"]] and saints not in kept[region["d/da/0003"]]
    assert all(pd.Timestamp("2013-12-25") in days for days in kept.values())


def test_the_panel_has_what_is_known_ahead_and_nothing_of_the_sales(sales):
    panel = rossmann.panel(sales)
    assert list(panel) == ["unique_id", "ds", "y", *KNOWN] and panel.notna().all(axis=None)
    assert len(panel) == len(sales)  # a closed day has no row
    eve = panel[panel["unique_id"].eq("a/aa/0001") & panel["ds"].eq(pd.Timestamp("2013-10-31"))]
    assert eve["eve"].item() == 1 and eve["holiday"].item() == 0
    assert set(panel.groupby("unique_id")["distance"].first()) == {0.5, 1.5, 2.5}
    other = rossmann.panel(sales.assign(y=np.random.default_rng(0).uniform(1, 9, len(sales))))
    pd.testing.assert_frame_equal(panel.drop(columns="y"), other.drop(columns="y"))


def test_a_first_sunday_without_any_analogue_takes_the_store_s_mean(sales):
    panel = rossmann.panel(sales)
    train, future = panel[panel["ds"] < "2014-09-01"], panel[panel["ds"].between(*WEEK)]
    sunday = future[future["unique_id"].eq("d/da/0003")].tail(1).assign(ds=pd.Timestamp(WEEK[1]))
    asked = pd.concat([future, sunday]).drop(columns="y").reset_index(drop=True)
    assert np.isnan(rossmann.with_cold_start(rossmann.rules)(train, asked)[-1])
    values = rossmann.answering(rossmann.rules)(train, asked)
    own = train[train["unique_id"].eq("d/da/0003") & (train["ds"] >= "2014-07-07")]
    assert np.isfinite(values).all() and values[-1] == pytest.approx(own["y"].mean())


def test_sums_for_ets_count_a_day_without_open_stores_as_zero(monkeypatch):
    days = pd.date_range("2024-01-01", periods=14)
    train = pd.DataFrame({"unique_id": "total", "ds": days, "y": 5.0}).drop(index=6)
    seen = {}
    monkeypatch.setattr(rossmann, "auto_ets", lambda rows, asked: seen.update(rows=rows))
    rossmann.ets_of_sums(train, train.drop(columns="y"))
    assert len(seen["rows"]) == 14 and seen["rows"].set_index("ds")["y"][days[6]] == 0
