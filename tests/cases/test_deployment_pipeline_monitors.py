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
def watched(*events, seed: int = 4, days: int = 70):
    shifts = tuple(one for one in events if isinstance(one, Shift))
    faults = tuple(one for one in events if isinstance(one, Fault))
    year = world(seed, days, shifts, faults, SMALL)
    rows = studies.scored(year.rows)
    ref = monitors.reference(rows, (*FEATURES, "score"))
    seen = monitors.alarms(monitors.daily(rows[rows["day"] >= 0], ref), ref)
    return year, 1 / (1 + np.exp(-rows["score"].to_numpy())), seen


def test_a_quiet_world_alarms_on_few_days_and_asks_for_nothing():
    alarmed, asked = [], []
    for seed in (4, 5, 6):
        _, _, seen = watched(seed=seed)
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
    _, _, seen = watched(fault)
    own = seen[seen["what"] == what]
    assert {*own["day"]} == {*range(20, 20 + fault.days)}
    assert {*own["column"]} <= {*fault.features}
    assert monitors.advice(seen) == "repair the feed"


def test_a_moved_feature_says_wait_and_nothing_is_broken():
    _, _, seen = watched(Shift("covariate", 20, 0.5, ("amount",)))
    assert {*seen.loc[seen["column"] == "amount", "day"]} >= {20, 21}
    assert monitors.advice(seen) == "wait"


def test_a_new_way_of_fraud_shows_in_the_reports_and_in_no_distribution():
    year, p, seen = watched(Shift("concept", 10, 0.8))
    assert seen.equals(watched()[2])
    weeks = reports.weekly(year, p, reports.promise(year, p, -60, 0))
    found = monitors.alarms(_none(seen), _reference(), weeks, year)
    assert monitors.advice(found) == "retrain"
    assert found.loc[found["what"] == "capture", "day"].min() <= 42
    calm, p, _ = watched()
    weeks = reports.weekly(calm, p, reports.promise(calm, p, -60, 0))
    assert (weeks[["p_capture", "p_rate"]] > monitors.WEEKLY).all(axis=None)


@cache
def _reference():
    year = world(4, 1, constants=SMALL)
    return monitors.reference(year.rows)


def _none(seen):
    rows = world(4, 1, constants=SMALL, history=0).rows
    return monitors.daily(rows, _reference()).iloc[:0]


def test_an_audit_refutes_poisoned_reports_and_no_others():
    year, p, _ = watched(Fault("poisoned", 10, 7))
    shares = [reports.refuted(year, day) for day in (7, 28)]
    assert shares[0] == 0
    assert shares[1] > monitors.REFUTED
    assert reports.refuted(year, -120) == 0  # no report yet
    weeks = reports.weekly(year, p, reports.promise(year, p, -60, 0))
    found = monitors.alarms(_none(None), _reference(), weeks, year)
    assert "refuted" in {*found["what"]}


def test_reports_that_come_later_change_no_week_before():
    year, p, _ = watched()
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


def test_business_prices_the_decisions_day_by_day():
    year, p, _ = watched()
    table = reports.business(year, p).set_index("day")
    chance = year.truth["chance"].to_numpy()
    best = reports.business(year, chance).set_index("day")
    allowed = reports.business(year, np.zeros(len(p))).set_index("day")
    assert (best["euros"] <= table["euros"]).all()
    assert table["euros"].mean() < 0.5 * allowed["euros"].mean()
    assert allowed["asked"].max() == 0 < table["asked"].mean() < 0.1


def test_the_gravest_advice_of_an_incident_counts():
    assert monitors.advice("capture") == "retrain"
    assert monitors.advice("asked") == "roll back"
    frame = pd.DataFrame({"what": ["distribution", "capture", "missing"]})
    assert monitors.advice(frame) == "repair the feed"
    assert monitors.advice(frame.iloc[:0]) == "nothing"
    with pytest.raises(KeyError, match="smell"):
        monitors.advice("smell")
    with pytest.raises(ValueError, match="wait for some"):
        year, p, _ = watched()
        reports.promise(year, p, 60, 60)
