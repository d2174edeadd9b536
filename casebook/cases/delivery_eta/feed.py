"""The scan feed: its contract, and an audit that finds what is wrong with it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from casebook.cases.delivery_eta.stages import ALL_DAYS, STAGES, START
from casebook.cases.delivery_eta.tracking import AHEAD, moments
from casebook.data.clocks import behind
from casebook.data.contracts import Checked, between, checked, need_columns

if TYPE_CHECKING:
    import pandera.pandas as pa

COLUMNS = ["scan_id", "parcel", "stage", "attempt", "scanned_at", "received_at", "device"]
#: A message that is older, or beyond the calendar of the vans, is no scan of ours.
FIRST, LAST = START - pd.Timedelta(days=30), START + pd.Timedelta(days=ALL_DAYS - 40)
MOST_ID, MOST_ATTEMPT, LONGEST_DEVICE = 2**53, 2, 40
#: A scan is late, and a device's clock behind, from so many hours on.
LATE_HOURS, CLOCK_HOURS, CLOCK_SCANS = 1.0, 1.0, 20
REMEDIES = {
    "type": "send whole numbers, names and UTC times without a zone",
    "empty": "send every field",
    "stage": f"send one of {', '.join(STAGES)}",
    "attempt": f"count failed deliveries from 0 to {MOST_ATTEMPT}",
    "id": "send positive whole numbers",
    "time": "set the clock of the scanner or of the gateway",
    "device": f"send a device's name of at most {LONGEST_DEVICE} characters",
}


def contract() -> pa.DataFrameSchema:
    """Return the rules that each scan of a table must keep (pandera)."""
    import pandera.pandas as pa

    number, time = partial(between, "int64"), between(None, FIRST, LAST, "time")
    stage = pa.Check.isin(STAGES, name="stage", error="no such stage")
    device = pa.Check.str_length(1, LONGEST_DEVICE, name="device", error="no device's name")
    return pa.DataFrameSchema(
        {
            "scan_id": number(1, MOST_ID, "id"),
            "parcel": number(1, MOST_ID, "id"),
            "stage": pa.Column(None, stage),
            "attempt": number(0, MOST_ATTEMPT, "attempt"),
            "scanned_at": time,
            "received_at": time,
            "device": pa.Column(None, device),
        }
    )


def check(scans: pd.DataFrame) -> Checked:
    """Sort out the scans that break the contract; nothing is raised for a bad row.

    Raises
    ------
    ValueError
        If a column is missing: that is no table of scans.
    """
    need_columns(scans, COLUMNS, "scans")
    return checked(contract(), scans, ["scan_id", "device"], REMEDIES)


def audit(scans: pd.DataFrame, parcels: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Count the faults of a feed at a time, as far as the feed itself shows them.

    Returns ``fault``, ``scans``, ``share`` (of the scans that came), ``found by``, ``remedy``.
    """
    once = scans.drop_duplicates("scan_id")
    lag = (once["received_at"] - once["scanned_at"]) / pd.Timedelta(hours=1)
    ahead = once["scanned_at"] > once["received_at"] + AHEAD
    slow = behind(scans, "device", "scanned_at", "received_at", CLOCK_HOURS, CLOCK_SCANS)
    late = (lag > LATE_HOURS) & ~once["device"].isin(slow["device"])
    on_time = moments(once, parcels)
    done = once["stage"].eq("delivered").sum()
    backwards = len(once) - done - len(on_time)
    parcels_done = once.loc[once["stage"] == "delivered", "parcel"]
    expected = 5 + 2 * once[once["stage"] == "delivered"].set_index("parcel")["attempt"]
    before = once[once["stage"] != "delivered"].groupby("parcel").size()
    missing = int((expected - before.reindex(parcels_done, fill_value=0)).clip(lower=0).sum())
    transit = (~parcels["parcel"].isin(parcels_done) & (parcels["accepted_at"] < now)).sum()
    rows = [
        ("sent twice", len(scans) - len(once), "the same scan_id", "merge by scan_id"),
        ("late", int(late.sum()), "received an hour or more after the scan", "use received_at"),
        ("out of order", backwards, "an earlier stage after a later one", "merge by stage"),
        ("never came", missing, "stages that a delivered parcel skipped", "expect gaps"),
        ("clock ahead", int(ahead.sum()), "scanned after it was received", "use received_at"),
        (
            "clock behind",
            int(slow["messages"].sum()),
            "a device whose scans all lag",
            "set the clock",
        ),
        ("in transit", int(transit), "parcels without a delivery", "they are censored"),
    ]
    frame = pd.DataFrame(rows, columns=["fault", "scans", "found by", "remedy"])
    frame.insert(2, "share", frame["scans"] / len(once))
    return frame
