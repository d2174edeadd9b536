"""What is known of a parcel: one rule that merges scans, for the stream and for whole tables.

A scan has a *step*, its place in the parcel's journey. Of each step the scan that came in first
counts, so that merging is commutative and idempotent: duplicates and late scans do no harm, and any
order of arrival leads to the same track. A scan that takes the parcel further than any before it is
a *moment*: the delivery date is predicted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.stages import ATTEMPTED, DELIVERED, OUT, STAGES
from casebook.data.clocks import believed

STAGE_NUMBER = {name: number for number, name in enumerate(STAGES)}
#: Steps: the stages up to the first van, then two for each attempt; delivery comes last.
DONE = 99
#: A scanner's clock may be ahead of the receiver's by so much; a scan may be so old.
AHEAD, OLDEST = pd.Timedelta(minutes=10), pd.Timedelta(days=3)
MOMENT = ["parcel", "stage", "attempt", "step", "known_at", "event_at"]


def step_of(stage: str, attempt: int) -> int:
    """Return the place of a scan in its parcel's journey.

    Examples
    --------
    >>> step_of("departed", 0), step_of("attempted", 0), step_of("out", 1), step_of("delivered", 1)
    (2, 5, 6, 99)
    """
    number = STAGE_NUMBER[stage]
    if number == DELIVERED:
        return DONE
    return number + 2 * attempt if number in (OUT, ATTEMPTED) else number


@dataclass
class Track:
    """What is known of a parcel; by step ``(received_at, scan_id, event_at)`` of the first scan."""

    parcel: int
    steps: dict[int, tuple[pd.Timestamp, int, pd.Timestamp]] = field(default_factory=dict)

    @property
    def furthest(self) -> int:
        """The step that the parcel has reached; −1 before its first scan."""
        return max(self.steps, default=-1)

    def merge(self, scan: Mapping[str, Any]) -> dict[str, Any] | None:
        """Merge a scan; return the moment (:data:`MOMENT`) if it takes the parcel further.

        Raises
        ------
        ValueError
            If the scan is of another parcel.
        """
        if scan["parcel"] != self.parcel:
            raise ValueError(f"a scan of parcel {scan['parcel']} for the track of {self.parcel}")
        step = step_of(scan["stage"], scan["attempt"])
        before, received = self.furthest, scan["received_at"]
        event = believed(scan["scanned_at"], received, AHEAD, OLDEST)
        entry = (received, scan["scan_id"], event)
        self.steps[step] = min(self.steps.get(step, entry), entry)
        if step <= before:
            return None
        values = (self.parcel, scan["stage"], scan["attempt"], step, received, event)
        return dict(zip(MOMENT, values, strict=True))


def _steps(scans: pd.DataFrame) -> np.ndarray:
    kinds = scans[["stage", "attempt"]]
    number = {
        kind: step_of(*kind) for kind in kinds.drop_duplicates().itertuples(index=False, name=None)
    }
    return np.array([number[kind] for kind in kinds.itertuples(index=False, name=None)], int)


def moments(scans: pd.DataFrame, parcels: pd.DataFrame) -> pd.DataFrame:
    """Return the moments of a whole feed: what :meth:`Track.merge` returns, scan by scan.

    Each has :data:`MOMENT` and the columns of ``parcels``, in the order of ``known_at``. A delivery
    is no moment: there is nothing left to predict.

    Raises
    ------
    ValueError
        If the scans are not in the order of ``received_at``.
    """
    if not scans["received_at"].is_monotonic_increasing:
        raise ValueError("scans are not in the order of received_at: sort them by it first.")
    step = pd.Series(_steps(scans), scans.index)
    furthest = step.groupby(scans["parcel"]).cummax()
    before = furthest.groupby(scans["parcel"]).shift(fill_value=-1)
    moved = ((step > before) & (step < DONE)).to_numpy()
    happened = believed(scans["scanned_at"], scans["received_at"], AHEAD, OLDEST)
    rows = scans.loc[moved, ["parcel", "stage", "attempt"]].assign(
        step=step[moved], known_at=scans["received_at"], event_at=happened
    )
    return rows.merge(parcels, on="parcel", how="inner", validate="m:1")


def labelled(rows: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """Add what the feed says about the delivery; moments that became known after it are left out.

    ``remaining`` are the hours from ``known_at`` to the delivery (NaN while it is not known),
    ``label_at`` is when it became known.
    """
    done = scans[scans["stage"] == "delivered"].drop_duplicates("parcel").set_index("parcel")
    happened = believed(done["scanned_at"], done["received_at"], AHEAD, OLDEST)
    known = pd.DataFrame({"at": happened, "label_at": done["received_at"]})
    rows = rows.join(known, on="parcel")
    remaining = (rows.pop("at") - rows["known_at"]) / pd.Timedelta(hours=1)
    return rows.assign(remaining=remaining)[~(remaining <= 0)]
