"""Case 04: tracks, the feed's contract, and features that see nothing that came in later."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.delivery_eta import world as worlds
from casebook.cases.delivery_eta.features import (
    FEATURES,
    GROUPS,
    Tables,
    build,
    outcomes,
    prepare,
    scans_so_far_leaky,
    timetable,
)
from casebook.cases.delivery_eta.feed import CLOCK_HOURS, CLOCK_SCANS, COLUMNS, audit, check
from casebook.cases.delivery_eta.stages import VANS, hours
from casebook.cases.delivery_eta.tracking import (
    DONE,
    MOMENT,
    Track,
    labelled,
    moments,
    step_of,
)
from casebook.data.clocks import behind
from casebook.features.point_in_time import latest, seen_later


@cache
def world() -> worlds.World:
    return worlds.simulate(2, parcels=3000)


@cache
def rows() -> pd.DataFrame:
    here = world()
    return prepare(here.scans, here.parcels, here.load)


# Tracks ------------------------------------------------------------------------------


def some_scans(parcels: int = 60) -> list[dict]:
    scans = world().scans
    return scans[scans["parcel"] <= parcels].to_dict("records")


def merged(scans: list[dict]) -> dict[int, Track]:
    tracks: dict[int, Track] = {}
    for scan in scans:
        tracks.setdefault(scan["parcel"], Track(scan["parcel"])).merge(scan)
    return tracks


@pytest.mark.parametrize("seed", range(20))
def test_any_order_with_any_repeats_leads_to_the_same_track(seed):
    scans, rng = some_scans(), random.Random(seed)
    again = scans + rng.choices(scans, k=len(scans) // 2)
    rng.shuffle(again)
    assert merged(again) == merged(scans)


def test_of_a_step_the_scan_that_came_in_first_counts():
    """The planted fault, the last arrival, is the same in any order: it takes another rule."""
    scans = pd.DataFrame(some_scans(600)).sort_values(["received_at", "scan_id"])
    kinds = zip(scans["stage"], scans["attempt"], strict=True)
    scans["step"] = [step_of(*kind) for kind in kinds]

    def kept(which: str) -> dict:
        rows = scans.drop_duplicates(["parcel", "step"], keep=which)
        keys = zip(rows["parcel"], rows["step"], strict=True)
        return dict(zip(keys, zip(rows["received_at"], rows["scan_id"], strict=True), strict=True))

    tracks = merged(some_scans(600)).items()
    found = {(p, step): at[:2] for p, track in tracks for step, at in track.steps.items()}
    assert found == kept("first") != kept("last")


def test_moments_are_those_of_the_tracks_scan_by_scan():
    here = world()
    scans = here.scans[here.scans["parcel"] <= 400]
    tracks, found = {}, []
    for scan in scans.to_dict("records"):
        moment = tracks.setdefault(scan["parcel"], Track(scan["parcel"])).merge(scan)
        if moment and moment["step"] < DONE:
            found.append(moment)
    table = moments(scans, here.parcels)[MOMENT]
    pd.testing.assert_frame_equal(pd.DataFrame(found), table, check_dtype=False)
    assert table["known_at"].is_monotonic_increasing
    furthest = table.groupby("parcel")["step"]
    assert (furthest.diff().dropna() > 0).all()
    with pytest.raises(ValueError, match="not in the order of received_at"):
        moments(scans[::-1], here.parcels)
    with pytest.raises(ValueError, match="a scan of parcel 1 for the track of 2"):
        Track(2).merge(some_scans(1)[0])


def test_a_clock_that_cannot_be_right_is_not_believed():
    here, hour = world(), pd.Timedelta(hours=1)
    found = labelled(moments(here.scans, here.parcels), here.scans).dropna(subset=["remaining"])
    delivered = found["known_at"] + pd.to_timedelta(found["remaining"], unit="h")
    true = found["parcel"].map(here.truth.set_index("parcel")["delivered"])
    off = ((delivered - true) / hour).abs()
    assert (off < 0.1).mean() > 0.97 and off.max() < 72


# The feed ----------------------------------------------------------------------------


def test_the_audit_finds_what_was_planted():
    here = worlds.simulate(2026)
    table = audit(here.scans, here.parcels, worlds.CUT).set_index("fault")["scans"]
    planted = here.faults["fault"].value_counts()
    assert table["sent twice"] == len(here.scans) - here.scans["scan_id"].nunique()
    assert table["sent twice"] == pytest.approx(planted["duplicated"], rel=0.02)
    assert table["never came"] == pytest.approx(planted["missing"], rel=0.1)
    assert table["late"] == pytest.approx(planted["late"], rel=0.15)
    clocks = table["clock ahead"] + table["clock behind"]
    assert clocks == pytest.approx(planted["wrong clock"], rel=0.25)
    wrong = here.scans["scan_id"].isin(here.faults.query("fault == 'wrong clock'")["scan_id"])
    slow = behind(here.scans, "device", "scanned_at", "received_at", CLOCK_HOURS, CLOCK_SCANS)
    assert set(slow["device"]) <= {*here.scans.loc[wrong, "device"]}
    clean = here.scans.drop_duplicates("scan_id")
    clean = clean[~clean["scan_id"].isin(here.faults["scan_id"])]
    none = audit(clean, here.parcels, worlds.CUT).set_index("fault")["scans"]
    assert (none[["sent twice", "late", "clock ahead", "clock behind"]] == 0).all()


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("stage", "lost", "stage: no such stage"),
        ("attempt", 9, "attempt: not between 0 and 2"),
        ("scan_id", 2**60, "id: not between 1 and"),
        ("scanned_at", pd.Timestamp("1970-01-01"), "time: not between"),
        ("received_at", pd.NaT, "empty: received_at is empty"),
        ("device", "x" * 41, "device: no device's name"),
    ],
)
def test_a_bad_row_is_put_aside_with_the_reason_and_the_others_go_on(column, value, says):
    scans = world().scans.head(5).copy()
    scans.loc[2, column] = value
    found = check(scans)
    assert found.quarantined.index.tolist() == [2] and len(found.accepted) == 4
    assert len(found.lines) == 1 and says in found.lines[0] and "1 row" in found.lines[0]


def test_whole_and_empty_tables_keep_the_contract_and_a_missing_column_is_refused():
    scans = world().scans
    assert len(check(scans).accepted) == len(scans) and not check(scans).lines
    empty = check(scans.iloc[:0])
    assert empty.accepted.empty and empty.quarantined.empty and list(empty.accepted) == COLUMNS
    with pytest.raises(ValueError, match="no column"):
        check(scans.drop(columns="stage"))


# Features ----------------------------------------------------------------------------


def made_from(scans: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Build the features from a feed that may be cut, and from the reports of its time."""
    here = world()
    known = labelled(moments(scans, here.parcels), scans)
    return build(asked, Tables(load_until(scans), outcomes(known)))


def load_until(scans: pd.DataFrame) -> pd.DataFrame:
    load = world().load
    return load[load["published_at"] <= scans["received_at"].max()]


def test_no_feature_sees_a_later_scan():
    here = world()
    asked = moments(here.scans, here.parcels)
    assert seen_later(made_from, here.scans, asked) == {}


def test_a_feature_that_sees_a_later_scan_fails():
    here = world()
    asked = moments(here.scans, here.parcels)
    found = seen_later(scans_so_far_leaky, here.scans, asked, cuts=40)
    assert set(found) == {"scans"} and found["scans"] > 0

    def unaware(scans: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
        """The planted fault: a route's mean over all deliveries, also later ones."""
        known = outcomes(labelled(moments(scans, here.parcels), scans))
        mean = known.groupby("destination_hub")["took"].mean()
        return pd.DataFrame({"mean": some["destination_hub"].map(mean)})

    def hasty(scans: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
        """The planted fault: the next report of a hub's load, too."""
        soon = some.assign(known_at=some["known_at"] + pd.Timedelta(days=1))
        load = load_until(scans).rename(columns={"hub": "origin_hub"})
        return latest(soon, load, "origin_hub", "backlog_hours")[["backlog_hours"]]

    assert set(seen_later(unaware, here.scans, asked, cuts=3)) == {"mean"}
    assert set(seen_later(hasty, here.scans, asked, cuts=6)) == {"backlog_hours"}


def test_the_timetable_by_hand():
    """Monday 2025-10-06, 10:00, in the origin's hub: 3.5 h and 2 h of queue, 120 km, 3.5 h."""
    row = pd.DataFrame(
        {
            "known_at": pd.to_datetime(["2025-10-06 10:00"]),
            "step": [1],
            "stage": ["origin_hub"],
            "service": ["standard"],
            "km": [120.0],
        }
    )
    plan = timetable(row, np.array([2.0]), np.array([0.0]))
    # Ready at 15:30, line haul at 16:00, there at 19:30, ready at 23:00, van on Tuesday at 7:30.
    assert plan["plan_ready"] == pytest.approx(13.0)
    assert plan["plan_van"] == pytest.approx(21.5) and plan["plan_slack"] == pytest.approx(8.5)
    express = timetable(row.assign(service="express"), np.array([20.0]), np.array([0.0]))
    assert (
        express["plan_ready"][0]
        < timetable(row, np.array([20.0]), np.array([0.0]))["plan_ready"][0]
    )
    out = timetable(row.assign(step=4, stage="out"), np.array([0.0]), np.array([0.0]))
    assert out["plan_van"] == 0 and out["plan_ready"] == 0
    again = timetable(row.assign(step=5, stage="attempted"), np.array([0.0]), np.array([0.0]))
    assert again["plan_van"] == pytest.approx(21.5)


def test_features_are_complete_and_named_once():
    assert len(FEATURES) == len(set(FEATURES)) == sum(map(len, GROUPS.values()))
    later = rows()[rows()["known_at"] > worlds.START + pd.Timedelta(days=30)]
    gaps = later[[*FEATURES]].isna().mean()
    assert set(gaps[gaps > 0].index) <= {"pair_hours", "hub_week", "destination_week"}
    vans = hours(later["known_at"]) + later["to_van"]
    np.testing.assert_allclose(vans, VANS[np.searchsorted(VANS, vans - 1e-6)])
    assert (later["to_van"] <= later["to_van_2"]).all()
