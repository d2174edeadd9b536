"""Faults of a feed have their rates, and clocks that are wrong are not believed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.data.clocks import behind, believed
from casebook.worlds.feeds import Faults, arrivals, planted, sent, wrong_clocks
from casebook.worlds.schedules import last_of, next_of, nth_after

FAULTS = Faults(missing=0.03, late=0.04, twice=0.02, lag=0.05, delay=10.0, again=6.0)
START, HOUR = pd.Timestamp("2025-01-06"), pd.Timedelta(hours=1)
N = 40_000


def feed(seed: int, faults: Faults = FAULTS):
    """Return events, their arrivals, and the messages as they come in."""
    rng, at = np.random.default_rng(seed), np.sort(np.random.default_rng(0).uniform(0, 2000, N))
    came = arrivals(rng, at, np.arange(N) % 2 == 0, faults)
    times = {"at": START + pd.to_timedelta(at, unit="h").round("s")}
    times["received"] = START + pd.to_timedelta(came.received, unit="h").round("s")
    messages = pd.DataFrame({"id": np.arange(N), **times})
    return messages, came, sent(messages, came, "id", "received")


@pytest.mark.parametrize("seed", range(3))
def test_faults_have_their_rates_and_lost_messages_never_come(seed):
    messages, came, log = feed(seed)
    assert (
        came.missing[::2].mean() == pytest.approx(0.03, abs=0.004) and not came.missing[1::2].any()
    )
    assert came.late.mean() == pytest.approx(0.04 * 0.985, abs=0.004)
    assert len(came.twice) / N == pytest.approx(0.02, abs=0.003)
    assert not set(log["id"]) & set(np.flatnonzero(came.missing))
    assert len(log) == N - came.missing.sum() + len(came.twice)
    assert log["received"].is_monotonic_increasing and not log["id"].is_monotonic_increasing
    lag = (messages["received"] - messages["at"]) / HOUR
    assert lag[came.late].min() > 1 and lag[~came.late].mean() == pytest.approx(0.05, rel=0.05)
    second = log[log["id"].duplicated()].set_index("id")["received"]
    assert (second > messages.loc[second.index, "received"]).all()


def test_what_was_planted_is_told_and_another_rate_shows():
    messages, came, _ = feed(1)
    found = planted(messages, came, "id", {"broken": messages["id"].to_numpy() < 3})
    counts = found["fault"].value_counts()
    assert counts["broken"] == 3 and counts["duplicated"] == len(came.twice)
    assert counts["late"] == came.late.sum() and found["id"].is_monotonic_increasing
    more = feed(1, Faults(0.06, 0.04, 0.02, 0.05, 10.0, 6.0))[1]
    assert more.missing.sum() > 1.5 * came.missing.sum()


def test_a_wrong_clock_is_one_devices_for_its_days():
    rng, n = np.random.default_rng(3), 6000
    place, device, at = rng.integers(4, size=n), rng.integers(3, size=n), rng.uniform(0, 1000, n)
    wrong = wrong_clocks(rng, place, device, at, [5.0], lasts=100.0, end=1000.0)
    here = wrong != 0
    assert set(wrong) == {0.0, 5.0} and len({*zip(place[here], device[here], strict=True)}) == 1
    assert np.ptp(at[here]) < 100 and here.sum() > 20


def test_a_clock_is_believed_within_reason_in_tables_as_one_by_one():
    noon = pd.Timestamp("2025-10-07 12:00")
    limits = {"ahead": HOUR / 6, "oldest": 72 * HOUR}
    happened = pd.Series([noon - HOUR, noon + HOUR / 6, noon + HOUR / 5, noon - 73 * HOUR])
    received = pd.Series(noon, happened.index)
    table = believed(happened, received, **limits).tolist()
    assert table == [noon - HOUR, noon + HOUR / 6, noon, noon]
    assert [believed(one, noon, **limits) for one in happened] == table


def test_a_clock_that_is_behind_shows_in_a_week_of_enough_messages():
    hours = pd.Series(np.arange(40.0))
    log = pd.DataFrame(
        {"device": np.where(hours < 20, "slow", "good"), "received": START + hours * HOUR}
    )
    log["at"] = log["received"] - np.where(log["device"] == "slow", 3, 0.1) * HOUR
    found = behind(log, "device", "at", "received", hours=1.0, least=20)
    assert found[["device", "messages", "hours"]].to_numpy().tolist() == [["slow", 20, 3.0]]
    assert found["week"].tolist() == [START]
    assert behind(log, "device", "at", "received", hours=1.0, least=21).empty
    log.loc[:11, "at"] = log.loc[:11, "received"]  # most of them are on time
    assert behind(log, "device", "at", "received", hours=1.0, least=20).empty


def test_a_departure_at_the_minute_is_caught():
    vans = np.array([7.5, 31.5, 79.5])
    assert next_of(vans, np.array([0.0, 7.5, 7.6, 79.5])).tolist() == [7.5, 7.5, 31.5, 79.5]
    assert last_of(vans, np.array([0.0, 7.5, 31.4, 99.0])).tolist() == [7.5, 7.5, 7.5, 79.5]
    assert nth_after(vans, np.array([7.5, 7.4]), np.array([1, 1])).tolist() == [31.5, 7.5]
