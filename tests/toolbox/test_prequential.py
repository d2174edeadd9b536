"""Weeks that train, wait and test: by hand, and against a naive version day by day."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.prequential import Week, known_cards_split, weeks

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2018-06-01")


# Weeks --------------------------------------------------------------------------------


def test_the_handbooks_published_week():
    last = weeks("2018-06-10", "2018-08-15")[-1]
    day = pd.Timestamp
    assert last == Week(
        "2018-08-08",
        day("2018-07-25"),
        day("2018-08-01"),
        day("2018-08-08"),
        day("2018-08-08"),
        day("2018-08-15"),
    )


def test_weeks_step_back_as_far_as_the_data_go():
    found = weeks("2018-06-10", "2018-08-15")
    assert [w.name for w in found] == [
        *("2018-06-27", "2018-07-04", "2018-07-11", "2018-07-18"),
        *("2018-07-25", "2018-08-01", "2018-08-08"),
    ]
    exact = weeks("2018-06-13", "2018-08-15")
    assert len(exact) == 7 and exact[0].train_from == pd.Timestamp("2018-06-13")
    assert len(weeks("2018-06-14", "2018-08-15")) == 6


def test_a_week_waits_and_tests_do_not_overlap():
    found = weeks("2025-07-01", "2025-12-28", train=28, wait=30, test=7)
    for week in found:
        assert week.test_from - week.train_to == 30 * DAY
        assert week.train_to - week.train_from == 28 * DAY
        assert week.known_at == week.test_from
    for before, after in pairwise(found):
        assert before.test_to == after.test_from


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": 0}, "train is 0 days"),
        ({"wait": -1}, "wait is -1 days"),
        ({"test": float("nan")}, "test is nan days"),
        ({"step": 0}, "step is 0 days"),
        ({"train": 70}, "do not fit between 2018-06-10 and 2018-08-15"),
    ],
)
def test_weeks_refuse(given, message):
    with pytest.raises(ValueError, match=message):
        weeks("2018-06-10", "2018-08-15", **given)


# The Handbook's split -----------------------------------------------------------------


def table(*rows):
    """Rows of (day, customer, is_fraud), at noon."""
    days, customers, frauds = zip(*rows, strict=True)
    time = [START + day * DAY + pd.Timedelta(hours=12) for day in days]
    return pd.DataFrame({"time": time, "customer": customers, "is_fraud": frauds})


def test_known_cards_leave_the_test_as_their_frauds_become_known():
    """Training on days 0-6, test on days 14-20: a fraud of day f is known on day f + 8."""
    frame = table(
        (0, 1, 0),
        (3, 2, 1),  # a fraud of the training
        (6, 3, 1),  # of its last day: known on day 14
        (7, 4, 1),  # of the first day of waiting: known on day 15
        (12, 5, 1),  # known on day 20
        (13, 6, 1),  # known on day 21: after the test
        (14, 7, 1),  # of the test itself
        *((day, customer, 0) for day in (14, 15, 19, 20) for customer in range(1, 8)),
    )
    train, test = known_cards_split(frame, weeks(START, START + 21 * DAY)[0])
    assert train.tolist() == [True] * 3 + [False] * (len(frame) - 3)
    in_test = frame[test]
    there = {
        day: set(part["customer"])
        for day, part in in_test.groupby((in_test["time"] - START) // DAY)
    }
    assert there == {14: {1, 4, 5, 6, 7}, 15: {1, 5, 6, 7}, 19: {1, 5, 6, 7}, 20: {1, 6, 7}}
    assert in_test["is_fraud"].sum() == 1


def naive_split(frame, week):
    """The same, day by day with sets."""
    day = (frame["time"].dt.normalize() - week.train_from) // DAY
    fraud = frame["is_fraud"] == 1
    length = (week.train_to - week.train_from) // DAY
    wait = (week.test_from - week.train_to) // DAY
    known = set(frame.loc[fraud & (day >= 0) & (day < length), "customer"])
    test = np.zeros(len(frame), bool)
    for today in range(length + wait, length + wait + (week.test_to - week.test_from) // DAY):
        known |= set(frame.loc[fraud & (day == today - wait - 1), "customer"])
        test |= ((day == today) & ~frame["customer"].isin(known)).to_numpy()
    return ((day >= 0) & (day < length)).to_numpy(), test


@pytest.mark.parametrize("wait", [0, 1, 7])
def test_the_split_equals_the_naive_one(wait):
    rng = np.random.default_rng(wait)
    frame = pd.DataFrame(
        {
            "time": np.sort(START + pd.to_timedelta(rng.random(5000) * 45, unit="D")),
            "customer": rng.integers(0, 150, 5000),
            "is_fraud": (rng.random(5000) < 0.02).astype(int),
        }
    )
    for week in weeks(START, START + 45 * DAY, wait=wait):
        for ours, naive in zip(
            known_cards_split(frame, week), naive_split(frame, week), strict=True
        ):
            np.testing.assert_array_equal(ours, naive)
        assert 0 < known_cards_split(frame, week)[1].sum() < 7 * 5000 / 45


def test_the_split_refuses():
    frame = table((0, 1, 0), (14, 1, 0))
    week = weeks(START, START + 21 * DAY)[0]
    with pytest.raises(ValueError, match=r"no column \['customer'\]"):
        known_cards_split(frame.drop(columns="customer"), week)
    with pytest.raises(ValueError, match="no row of the frame is in the test span of 2018-06-15"):
        known_cards_split(frame[:1], week)
    with pytest.raises(ValueError, match=r"waits 7\.5 days"):
        known_cards_split(frame, weeks(START, START + 22 * DAY, wait=7.5)[0])
