"""A feature that sees what came in later is named; one that does not is not."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.features.point_in_time import seen_later

HOURS = pd.to_datetime("2025-01-01") + pd.to_timedelta(range(48), unit="h")
FEED = pd.DataFrame({"at": HOURS, "came": HOURS + pd.Timedelta(hours=1), "value": range(48)})
ROWS = pd.DataFrame({"now": HOURS}, index=range(100, 148))
NAMES = {"received": "came", "asked": "now"}


def last(by: str, lag: int = 0):
    """Return what makes the last value by a time."""

    def make(feed: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        ends = rows["now"] - pd.Timedelta(hours=lag)
        values = [feed.loc[feed[by] <= now, "value"].max() for now in ends]
        return pd.DataFrame({f"last by {by}": values}, rows.index)

    return make


def test_the_time_of_arrival_is_right_and_the_time_of_the_event_is_not():
    assert seen_later(last("came"), FEED, ROWS, **NAMES) == {}
    assert seen_later(last("at"), FEED, ROWS, **NAMES) == {"last by at": 12}
    assert seen_later(last("at", lag=1), FEED, ROWS, **NAMES) == {}


def test_an_empty_answer_is_refused():
    with pytest.raises(ValueError, match="0 rows of features for 48 asked"):
        seen_later(lambda feed, rows: pd.DataFrame(), FEED, ROWS, **NAMES)
