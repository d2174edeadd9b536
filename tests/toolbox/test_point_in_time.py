"""A feature that sees what came in later is named; one that does not is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.features.point_in_time import (
    daily_means,
    latest,
    ripe,
    seen_later,
    summed_by_day,
)

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


def outcomes(n: int = 400) -> pd.DataFrame:
    """Return outcomes of two zones over forty days."""
    rng, start = np.random.default_rng(1), pd.Timestamp("2025-01-01")
    known = start + pd.to_timedelta(np.sort(rng.uniform(0, 40 * 24, n)), unit="h")
    done = pd.DataFrame({"label_at": known, "zone": rng.choice(["A", "B"], n), "n": 1})
    return done.assign(took=rng.gamma(3, 10, n))


def test_sums_by_day_give_the_means_of_the_outcomes_also_added_up_in_two_goes():
    done, now = outcomes(), pd.Timestamp("2025-02-09 15:00")
    done = done[done["label_at"] < now]
    rows = pd.DataFrame({"zone": ["A", "B"] * 5})
    rows["known_at"] = now + pd.to_timedelta(range(0, 60, 6), unit="h")
    kept = {"keys": ["zone"], "value": "took", "days": 7.0}
    half = len(done) // 2
    early = summed_by_day(done[:half], now=done["label_at"].iloc[half], **kept)
    for sums in (
        summed_by_day(done, now=now, **kept),
        summed_by_day(pd.concat([early, done[half:]]), now=now, **kept),
    ):
        assert sums["n"].sum() == len(done) and len(sums) <= 2 * 9
        for days in (np.inf, 7.0):
            for ours, all_ in zip(
                daily_means(rows, sums, ["zone"], "took", days),
                daily_means(rows, done, ["zone"], "took", days),
                strict=True,
            ):
                np.testing.assert_allclose(ours, all_)
    assert summed_by_day(done[:0], now=now, **kept).empty
    # The planted fault: the last question of a batch decides what the first one looks back to.
    hasty = summed_by_day(done, now=now + pd.Timedelta(days=5), **kept)
    made = daily_means(rows, hasty, ["zone"], "took", 7.0).mean
    assert not np.allclose(made, daily_means(rows, done, ["zone"], "took", 7.0).mean)


def test_ripe_rows_hold_quick_and_slow_outcomes_alike():
    rng, now = np.random.default_rng(2), pd.Timestamp("2025-03-01")
    known = now - pd.to_timedelta(rng.uniform(0, 40, 4000), unit="D")
    days = rng.gamma(2, 1, 4000)
    rows = pd.DataFrame({"known_at": known, "days": days})
    rows["label_at"] = known + pd.to_timedelta(days, unit="D")
    found = ripe(rows, now, days=10)
    assert found["days"].mean() == pytest.approx(rows["days"].mean(), rel=0.05)
    assert found["known_at"].max() < now - pd.Timedelta(days=10) and len(found) > 2500
    young = ripe(rows, now, days=0)
    young = young[young["known_at"] > now - pd.Timedelta(days=3)]
    assert young["days"].mean() < 0.7 * rows["days"].mean(), "the bias is there to avoid"
    waiting = rows.assign(label_at=rows["label_at"].where(rows.index % 2 == 0))
    assert len(ripe(waiting, now, days=10)) == pytest.approx(len(found) / 2, rel=0.1)
