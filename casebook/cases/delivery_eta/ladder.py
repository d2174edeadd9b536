"""The rungs below the model: the carrier's window, the routes' history, an analyst's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.stages import VANS, hours
from casebook.evaluate.ranges import NAMES, as_forecast
from casebook.forecasting.back_off import History, backed_off, group_quantiles, history

#: From the narrowest group to the widest.
BACK_OFF: dict[str, list[str]] = {
    "pair": ["origin", "destination", "service", "stage"],
    "hubs": ["origin_hub", "destination_hub", "service", "stage"],
    "service": ["service", "stage"],
    "all": ["stage"],
}
#: Parcels that a group must have.
LEAST = 30


def window(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the carrier's stated window as a forecast: its ends, and the middle as P50."""
    hour = pd.Timedelta(hours=1)
    low = (rows["window_low"] - rows["known_at"]) / hour
    high = (rows["window_high"] - rows["known_at"]) / hour
    values = np.column_stack([low, (low + high) / 2, high])
    return as_forecast(values, rows.index)


def routes(rows: pd.DataFrame, least: int = LEAST) -> History:
    """Collect the history of all routes from ripe moments; small groups are left to wider ones."""
    return history(rows, BACK_OFF, "remaining", least)


def route_quantiles(
    train: pd.DataFrame, rows: pd.DataFrame, levels: Sequence[float]
) -> pd.DataFrame:
    """Return quantiles of the hours, each level a column, from the history of the routes."""
    tables = [
        group_quantiles(train, keys, "remaining", LEAST, levels, levels)
        for keys in BACK_OFF.values()
    ]
    return backed_off(rows, tables)


# Rules -------------------------------------------------------------------------------

#: Groups of the slack before the planned van, in hours: a tight plan misses it more often.
SLACK = (2.0, 4.0, 8.0, 14.0, 24.0)


@dataclass(frozen=True)
class Rules:
    """The timetable, and by how many vans it is usually missed: an analyst's afternoon.

    ``vans`` has quantiles of the vans between the planned one and the one that delivered, by stage,
    service and slack; ``vans_all`` by stage alone; ``ring`` those of the hours on the van, by zone.
    """

    vans: pd.DataFrame
    vans_all: pd.DataFrame
    ring: pd.DataFrame

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of prepared moments."""
        keys = _keys(rows)
        off = keys.join(self.vans, on=list(keys))[NAMES]
        off = off.fillna(keys[["stage"]].join(self.vans_all, on="stage")[NAMES]).fillna(0)
        ring = rows[["destination"]].join(self.ring, on="destination")[NAMES]
        ring = ring.fillna(self.ring.median()).to_numpy()
        planned, now = _planned(rows), hours(rows["known_at"])
        van = VANS[planned[:, None] + off.to_numpy(int)]
        return as_forecast(van + ring - now[:, None], rows.index)


def _planned(rows: pd.DataFrame) -> np.ndarray:
    """Return the number of the planned van: the one that carries the parcel, if one does."""
    at = hours(rows["known_at"]) + rows["plan_van"].to_numpy()
    return np.maximum(np.searchsorted(VANS, at + 1e-6, side="right") - 1, 0)


def _keys(rows: pd.DataFrame) -> pd.DataFrame:
    slack = np.digitize(rows["plan_slack"], SLACK)
    return pd.DataFrame({"stage": rows["stage"], "service": rows["service"], "slack": slack})


def _carried(rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return by how many vans ripe moments missed the planned one, and the hours on the van."""
    at = hours(rows["known_at"]) + rows["remaining"].to_numpy()
    carried = np.searchsorted(VANS, at, side="right") - 1
    return _keys(rows).assign(vans=carried - _planned(rows)), at - VANS[carried]


def rules(rows: pd.DataFrame) -> Rules:
    """Learn the rules' few numbers from prepared and ripe moments."""
    keys, ring = _carried(rows)
    out = rows[["destination"]].assign(ring=ring)[rows["stage"] == "out"]
    return Rules(
        group_quantiles(keys, ["stage", "service", "slack"], "vans", LEAST).round(),
        group_quantiles(keys, ["stage"], "vans", LEAST).round(),
        group_quantiles(out, ["destination"], "ring", LEAST),
    )


def van_quantiles(train: pd.DataFrame, rows: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """Return the hours until the van that delivers with some chance, each level a column.

    The day of that van is the rules' natural promise: a parcel arrives on the day of its van.
    """
    keys, _ = _carried(train)
    groups = (["stage", "service", "slack"], ["stage", "service"], ["stage"])
    tables = [group_quantiles(keys, group, "vans", LEAST, levels, levels) for group in groups]
    late = np.ceil(backed_off(_keys(rows), tables).fillna(0)).astype(int)
    planned, now = _planned(rows)[:, None], hours(rows["known_at"])[:, None]
    return pd.DataFrame(VANS[planned + late.to_numpy()] - now, rows.index, [*levels])
