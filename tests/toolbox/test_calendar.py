"""Holidays and the days around them."""

from __future__ import annotations

import pandas as pd

from casebook.features.calendar import AROUND_HOLIDAYS, holiday_features


def test_the_days_around_a_holiday_by_hand():
    """Labour Day 2023 was a Monday, Ascension Day a Thursday."""
    calendar = pd.DataFrame({"country": "DE", "ds": pd.to_datetime(["2023-05-01", "2023-05-18"])})
    days = pd.date_range("2023-04-24", "2023-05-28")
    table = holiday_features(calendar, days).set_index("ds")
    on = {c: table.index[table[c] == 1].strftime("%m-%d").tolist() for c in AROUND_HOLIDAYS}
    assert on == {
        "holiday": ["05-01", "05-18"],
        "eve": ["04-29", "05-17"],  # Saturday is a working day
        "backlog_1": ["05-02", "05-19"],
        "backlog_2": ["05-03", "05-20"],
    }


def test_a_holiday_on_a_weekend_moves_nothing():
    calendar = pd.DataFrame({"country": "DE", "ds": pd.to_datetime(["2023-04-09"])})
    table = holiday_features(calendar, pd.date_range("2023-04-03", "2023-04-16"))
    assert table["holiday"].sum() == 1
    assert table[["eve", "backlog_1", "backlog_2"]].sum().sum() == 0
