"""What a model may see at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.stages import HAULS, VANS, hours
from casebook.cases.delivery_eta.tracking import labelled, moments
from casebook.features.point_in_time import daily_means, latest, summed_by_day
from casebook.worlds.schedules import next_of

#: Columns by group; an ablation leaves out one group at a time.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "scan": ("step", "lag", "since_accepted"),
    "calendar": ("hour", "weekday", "to_haul", "to_van", "to_van_2", "to_van_3"),
    "route": ("km", "express", "from_zone", "to_zone", "from_hub", "to_hub", "same_hub"),
    "load": ("origin_load", "destination_load"),
    "timetable": ("plan_ready", "plan_slack", "plan_van"),
    "history": ("pair_hours", "pair_count", "hub_week", "destination_week"),
}
#: Zones and hubs as numbers: the model takes them as categories.
CODES = {
    "from_zone": "origin",
    "to_zone": "destination",
    "from_hub": "origin_hub",
    "to_hub": "destination_hub",
}
FEATURES = tuple(name for group in GROUPS.values() for name in group)
#: What operations say of a usual journey, in hours: collection, handling in a hub, loading a line
#: haul; kilometres an hour; the part of a queue that an express parcel waits.
USUAL_FIRST, USUAL_HANDLING, USUAL_LOADING, USUAL_SPEED, USUAL_EXPRESS = 5.0, 3.5, 1.5, 60.0, 0.35
#: A report of a hub's load comes every morning. An older one is late, and the answer says so; a
#: much older one is none. The second limit was measured: with a report that was days old the model
#: was still better than the routes' history.
LATE_REPORT, OLDEST_REPORT = pd.Timedelta(hours=36), pd.Timedelta(days=7)
WEEK = 7.0
#: What a delivery is counted by.
KEYS = ["origin", "destination", "origin_hub", "destination_hub"]


@dataclass(frozen=True)
class Tables:
    """What stands beside the scans when features are built.

    ``load`` has the hubs' reports; ``outcomes`` the deliveries: :data:`KEYS`, ``label_at`` (when it
    became known), ``took`` (hours) and ``n`` (more than 1 in a sum of :func:`condensed`).
    """

    load: pd.DataFrame
    outcomes: pd.DataFrame


def outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the deliveries that labelled moments know of, one row a parcel."""
    done = rows.dropna(subset=["label_at"]).drop_duplicates("parcel")
    delivered = done["known_at"] + pd.to_timedelta(done["remaining"], unit="h")
    took = (delivered - done["accepted_at"]) / pd.Timedelta(hours=1)
    kept = done[[*KEYS, "label_at"]].assign(took=took, n=1)
    return kept.sort_values("label_at", ignore_index=True)


def condensed(done: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Add up the deliveries that no moment from ``now`` on can tell apart, by pair and day.

    The history counts whole days, and of before the last week all together: the table does not grow
    with the number of parcels. Rows that are sums already may be among them.
    """
    return summed_by_day(done, KEYS, "took", now, WEEK)


def _calendar(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return hour and weekday, and the hours until the next line haul and the next three vans."""
    now = hours(rows["known_at"])
    first = np.searchsorted(VANS, now)
    vans = {f"to_van{suffix}": VANS[first + k] - now for k, suffix in enumerate(("", "_2", "_3"))}
    return {
        "hour": now % 24,
        "weekday": (now // 24) % 7,
        "to_haul": next_of(HAULS, now) - now,
    } | vans


def _codes(values: pd.Series) -> np.ndarray:
    """Return zones and hubs as numbers: "Z07" is 7, "C" is 3; NaN for a name of another form."""

    def code(name: str) -> float:
        if len(name) == 1:
            return float(ord(name) - ord("@"))
        return float(name[1:]) if name[1:].isdecimal() else np.nan

    known = {name: code(name) for name in values.astype(str).unique()}
    return values.astype(str).map(known).to_numpy(float)


def timetable(
    rows: pd.DataFrame, origin_load: np.ndarray, destination_load: np.ndarray
) -> dict[str, np.ndarray]:
    """Play the usual journey on from each moment, with the hubs' reported queues.

    Returns ``plan_ready`` (hours until the parcel is ready for a van), ``plan_slack`` (from then to
    the van's departure), ``plan_van`` (until that departure); all 0 from the van on.
    """
    now, step = hours(rows["known_at"]), rows["step"].to_numpy()
    queued = np.where(rows["service"] == "express", USUAL_EXPRESS, 1.0)
    wait, later = (queued * np.nan_to_num(load) for load in (origin_load, destination_load))
    at = np.where(step < 1, now + USUAL_FIRST, now)
    at = np.where(step < 2, next_of(HAULS, at + USUAL_HANDLING + wait), at)
    at = np.where(step < 3, at + USUAL_LOADING + rows["km"].to_numpy() / USUAL_SPEED, at)
    ready = np.where(step < 4, at + USUAL_HANDLING + later, now)
    on_van = (step >= 4) & (rows["stage"] == "out").to_numpy()
    van = np.where(on_van, now, next_of(VANS, ready))
    return {"plan_ready": ready - now, "plan_slack": van - ready, "plan_van": van - now}


def _route(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        "km": rows["km"].to_numpy(float),
        "express": (rows["service"] == "express").to_numpy(float),
        **{name: _codes(rows[column]) for name, column in CODES.items()},
        "same_hub": (rows["origin_hub"] == rows["destination_hub"]).to_numpy(float),
    }


def _history(rows: pd.DataFrame, done: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return means over deliveries that were known on the midnight before."""
    pair = daily_means(rows, done, ["origin", "destination"], "took")
    hubs = daily_means(rows, done, ["origin_hub", "destination_hub"], "took", WEEK)
    end = daily_means(rows, done, ["destination_hub"], "took", WEEK)
    means = {"pair_hours": pair.mean, "hub_week": hubs.mean, "destination_week": end.mean}
    return means | {"pair_count": pair.count}


def build(rows: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Return the features of moments, from what was known at each of them.

    Parameters
    ----------
    rows : DataFrame
        Moments.
    tables : Tables
        May hold later reports and deliveries: each moment uses those known by then.

    Returns
    -------
    DataFrame
        Index of ``rows``; :data:`FEATURES` and ``load_age`` (hours since the older of the two
        reports was published; NaN if one is missing).
    """
    start, end = (
        latest(rows, tables.load.rename(columns={"hub": hub}), hub, "backlog_hours")
        for hub in ("origin_hub", "destination_hub")
    )
    queues = start["backlog_hours"].to_numpy(), end["backlog_hours"].to_numpy()
    hour = pd.Timedelta(hours=1)
    columns = {
        "step": rows["step"].to_numpy(float),
        "lag": ((rows["known_at"] - rows["event_at"]) / hour).to_numpy(),
        "since_accepted": ((rows["known_at"] - rows["accepted_at"]) / hour).to_numpy(),
        **_calendar(rows),
        **_route(rows),
        "origin_load": queues[0],
        "destination_load": queues[1],
        **timetable(rows, *queues),
        **_history(rows, tables.outcomes),
    }
    age = np.maximum(start["age"].to_numpy(), end["age"].to_numpy())
    return pd.DataFrame(columns, rows.index)[[*FEATURES]].assign(load_age=age)


def prepare(scans: pd.DataFrame, parcels: pd.DataFrame, load: pd.DataFrame) -> pd.DataFrame:
    """Return all moments of a feed with their labels, as far as known, and their features."""
    rows = labelled(moments(scans, parcels), scans)
    made = build(rows, Tables(load, outcomes(rows)))
    return rows.join(made.drop(columns=[name for name in made if name in rows]))


def scans_so_far_leaky(scans: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Count the scans that carry an earlier time: also those that only came in later (a leak)."""
    both = rows[["parcel", "known_at"]].reset_index(names="row")
    both = both.merge(scans[["parcel", "scanned_at"]], on="parcel")
    count = (both["scanned_at"] <= both["known_at"]).groupby(both["row"]).sum()
    return pd.DataFrame({"scans": count.reindex(rows.index, fill_value=0)})
