"""Case 21: what the monitors say where nothing happens, and where something does."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import monitors, reports, studies
from casebook.cases.deployment_pipeline.world import FEATURES, START, Constants, Fault, Shift
from casebook.cases.deployment_pipeline.world import simulate as world

SMALL = Constants(n=500)


@cache
def lived(*events, seed: int = 4, days: int = 70):
    """Return a year and the champion's probability of each payment."""
    shifts = tuple(one for one in events if isinstance(one, Shift))
    faults = tuple(one for one in events if isinstance(one, Fault))
    year = world(seed, days, shifts, faults, SMALL)
    return year, 1 / (1 + np.exp(-studies.scored(year.rows)["score"].to_numpy()))


@cache
def reference(seed: int = 4):
    """Return the reference of all years of a seed: nothing happens before day 0."""
    year, p = lived(seed=seed)
    return monitors.reference(monitors.with_score(year.rows, p), (*FEATURES, "score"))


@cache
def features():
    """Return a reference without the score."""
    return monitors.reference(lived()[0].rows)


@cache
def watched(*events, seed: int = 4, days: int = 70):
    """Return the alarms of a year's distributions."""
    (year, p), ref = lived(*events, seed=seed, days=days), reference(seed)
    rows = monitors.with_score(year.rows, p)
    return monitors.alarms(monitors.daily(rows[rows["day"] >= 0], ref), ref)


def reported(year, p):
    """Return the alarms of a year's reports alone."""
    weeks = reports.weekly(year, p, reports.promise(year, p, -60, 0))
    none = monitors.daily(year.rows[year.rows["day"] == 0], features()).iloc[:0]
    return weeks, monitors.alarms(none, features(), weeks, year)


def test_a_quiet_world_alarms_on_few_days_and_asks_for_nothing():
    alarmed, asked = [], []
    for seed in (4, 5):
        seen = watched(seed=seed)
        alarmed.append(seen["day"].nunique() / 70)
        asked.append(monitors.advice(seen))
    assert np.mean(alarmed) < 0.06
    assert {*asked} <= {"nothing", "wait"}


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (Fault("schema", 20, 2, ("device_age",)), "missing"),
        (Fault("unit", 20, 3), "level"),
        (Fault("stale", 20, 4, ("customer_sum_24h", "customer_count_24h")), "repeats"),
    ],
)
def test_a_broken_feed_is_to_be_repaired_from_its_first_day(fault, what):
    seen = watched(fault, days=28)
    own = seen[seen["what"] == what]
    assert {*own["day"]} == {*range(20, 20 + fault.days)}
    assert {*own["column"]} <= {*fault.features}
    assert monitors.advice(seen) == "repair the feed"


def test_a_moved_feature_says_wait_and_nothing_is_broken():
    seen = watched(Shift("covariate", 20, 0.5, ("amount",)), days=28)
    assert {*seen.loc[seen["column"] == "amount", "day"]} >= {20, 21}
    assert monitors.advice(seen) == "wait"


def test_a_new_way_of_fraud_shows_in_the_reports_and_in_no_distribution():
    moved = Shift("concept", 10, 0.8)
    assert watched(moved).equals(watched())
    _, found = reported(*lived(moved))
    assert monitors.advice(found) == "retrain"
    assert found.loc[found["what"] == "capture", "day"].min() <= 42
    weeks, _ = reported(*lived())
    assert (weeks[["p_capture", "p_rate"]] > monitors.WEEKLY).all(axis=None)


def test_an_audit_refutes_poisoned_reports_and_no_others():
    year, p = lived(Fault("poisoned", 10, 7))
    shares = [reports.refuted(year, day) for day in (7, 28)]
    assert shares[0] == 0
    assert shares[1] > monitors.REFUTED
    assert reports.refuted(year, -120) == 0  # no report yet
    _, found = reported(year, p)
    assert "refuted" in {*found["what"]}


def test_reports_that_come_later_change_no_week_before():
    year, p = lived()
    kept = reports.promise(year, p, -60, 0)
    weeks = reports.weekly(year, p, kept, last=35)
    late = year.labels.assign(
        fraud=year.labels["fraud"] & (year.labels["known_at"] < START + pd.Timedelta(days=35))
    )
    other = type(year)(year.rows, late, year.truth, year.events)
    pd.testing.assert_frame_equal(weeks, reports.weekly(other, p, kept, last=35))
    fewer = reports.weekly(year, p, kept, last=35, broken=range(-10, 0))
    assert (fewer["reports"] <= weeks["reports"]).all()
    assert fewer["reports"].sum() < weeks["reports"].sum()


def _silenced(year, day):
    """Return the year as it is if no report comes from a day on."""
    lost = year.labels["known_at"] >= START + pd.Timedelta(days=day)
    labels = year.labels.assign(fraud=year.labels["fraud"] & ~lost)
    return type(year)(year.rows, labels, year.truth, year.events)


@pytest.mark.parametrize("n", [500, 200])
def test_a_dead_feed_of_labels_is_repaired_and_does_not_ask_for_training(n):
    quiet = lived()[0] if n == 500 else world(4, 70, constants=Constants(n=n))
    year = _silenced(quiet, 20)
    p = 1 / (1 + np.exp(-studies.scored(year.rows)["score"].to_numpy()))
    weeks, found = reported(year, p)
    assert {*found["what"]} == {"silent"}
    assert found["day"].min() <= 42
    assert monitors.advice(found) == "repair the feed"
    if n == 500:  # what asked for a training, before
        assert (weeks.loc[weeks["day"] > 56, "p_rate"] < monitors.WEEKLY).any()


def test_a_dead_column_and_a_day_without_payments_are_to_be_repaired():
    year, _ = lived()
    rows = year.rows[year.rows["day"].between(19, 24)].copy()
    rows.loc[rows["day"] == 21, ["amount", "online"]] = 0.0
    rows = rows[rows["day"] != 23]
    seen = monitors.alarms(monitors.daily(rows, features(), until=26), features())
    dead, missing = (seen[seen["what"] == what] for what in ("dead", "missing"))
    assert {*dead["day"]} == {21} and {*dead["column"]} == {"amount", "online"}
    assert {*missing["day"]} == {23, 25, 26} and missing["column"].nunique() == len(FEATURES)
    assert monitors.advice(dead) == monitors.advice(missing) == "repair the feed"


def test_a_rare_count_that_is_zero_all_day_is_not_dead():
    year, _ = lived()
    rows = year.rows[year.rows["day"].between(19, 24)].copy()
    rare = [name for name in FEATURES if (year.rows[name] != 0).mean() < monitors.VARIED]
    assert rare
    rows.loc[rows["day"] == 21, rare] = 0.0
    seen = monitors.alarms(monitors.daily(rows, features()), features())
    assert "dead" not in {*seen["what"]}


def test_a_promise_needs_old_payments_and_a_probability_of_each():
    year, p = lived()
    with pytest.raises(ValueError, match="need a probability each"):
        reports.promise(year, p, -20, 5)  # its rate was no number, and never alarmed
    with pytest.raises(ValueError, match="need a probability each"):
        reports.promise(year, np.where(year.rows["day"] < -50, np.nan, p), -60, 0)


def test_the_gravest_advice_of_an_incident_counts():
    assert monitors.advice("capture") == "retrain"
    assert monitors.advice("asked") == "roll back"
    frame = pd.DataFrame({"what": ["distribution", "capture", "missing"]})
    assert monitors.advice(frame) == "repair the feed"
    assert monitors.advice(frame.iloc[:0]) == "nothing"
    with pytest.raises(KeyError, match="smell"):
        monitors.advice("smell")
    with pytest.raises(ValueError, match="wait for some"):
        year, p = lived()
        reports.promise(year, p, 60, 60)
