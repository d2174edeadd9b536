"""A feature that sees what came in later is named; one that does not is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.features.point_in_time import daily_means, latest, seen_later

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


def test_a_report_counts_from_its_publication_on_and_none_is_made_up():
    times = ["2025-10-07 05:59", "2025-10-07 06:00", "2025-10-07 06:00"]
    asked = pd.DataFrame({"known_at": pd.to_datetime(times), "hub": ["A", "A", "X"]}, [7, 3, 5])
    reports = pd.DataFrame({"hub": "A", "load": [9.0, 2.0]})
    reports["published_at"] = pd.to_datetime(["2025-10-07 06:00", "2025-10-06 06:00"])
    found = latest(asked, reports, "hub", "load")
    assert found.index.tolist() == [7, 3, 5]
    np.testing.assert_allclose(found["load"], [2.0, 9.0, np.nan])
    np.testing.assert_allclose(found["age"], [23 + 59 / 60, 0.0, np.nan])


@pytest.mark.parametrize("days", [np.inf, 3.0])
def test_daily_means_count_what_was_known_on_the_midnight_before(days):
    rng, start = np.random.default_rng(0), pd.Timestamp("2025-01-01")
    known = start + pd.to_timedelta(np.sort(rng.uniform(0, 240, 300)), unit="h")
    done = pd.DataFrame({"label_at": known, "zone": rng.choice(["A", "B"], 300), "n": 1})
    done["took"] = rng.gamma(3, 10, 300)
    rows = done[["zone"]].assign(known_at=known)
    found = daily_means(rows, done, ["zone"], "took", days)
    hasty = daily_means(rows, done.assign(label_at=known - pd.Timedelta(days=1)), ["zone"], "took")
    assert not np.allclose(found.mean, hasty.mean, equal_nan=True), "a planted leak shows"
    for k in range(0, 300, 17):
        midnight = known[k].normalize()
        past = done[(known < midnight) & (done["zone"] == rows["zone"][k])]
        if np.isfinite(days):
            past = past[past["label_at"] >= midnight - pd.Timedelta(days=days)]
        assert found.count[k] == len(past)
        assert np.isclose(found.mean[k], past["took"].mean(), equal_nan=True)
