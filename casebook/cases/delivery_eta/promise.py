"""The date that is promised: which quantile, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.stages import START, WORKING

PROMISE_LEVELS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975)


@dataclass(frozen=True)
class Costs:
    """What a promise costs, in euro; assumptions of the problem, not estimates.

    ``late`` and ``early`` are by day. A customer who asks where the parcel is costs ``contact``, a
    part of ``late``: with the chance ``asks``, ``asks_late`` more for each day late, at most
    ``asks_most``.
    """

    late: float = 4.0
    early: float = 1.0
    contact: float = 5.0
    asks: float = 0.02
    asks_late: float = 0.25
    asks_most: float = 0.8

    @property
    def quantile(self) -> float:
        """The quantile that costs least to promise, where a day is short."""
        return self.late / (self.late + self.early)


def day_after(rows: pd.DataFrame, hours: pd.Series | np.ndarray) -> np.ndarray:
    """Return the day so many hours after each moment, or the next one with vans."""
    return next_working_day(rows["known_at"] + pd.to_timedelta(hours, unit="h"))


def next_working_day(times: pd.Series) -> np.ndarray:
    """Return the day of each time, or the next one on which vans leave."""
    day = ((times - START) // pd.Timedelta(days=1)).to_numpy(int)
    working = np.flatnonzero(WORKING)
    return working[np.minimum(np.searchsorted(working, day), len(working) - 1)]


def outcome(
    rows: pd.DataFrame, day: np.ndarray, costs: Costs | None = None, truth: str = "truth"
) -> pd.Series:
    """Return what promised days came to, by the hours in ``truth``.

    ``late`` (share), ``days_late``, ``days_early`` (means over all), ``promise_days`` (from
    collection to the promised day), ``cost`` (euro a parcel), ``contacts`` (per thousand parcels),
    ``contact_cost`` (euro a parcel).
    """
    costs = costs or Costs()
    delivered = rows["known_at"] + pd.to_timedelta(rows[truth], unit="h")
    came = ((delivered - START) // pd.Timedelta(days=1)).to_numpy(int)
    accepted = ((rows["accepted_at"] - START) // pd.Timedelta(days=1)).to_numpy(int)
    late, early = np.maximum(came - day, 0), np.maximum(day - came, 0)
    asks = np.minimum(costs.asks + costs.asks_late * late, costs.asks_most)
    return pd.Series(
        {
            "late": (late > 0).mean(),
            "days_late": late.mean(),
            "days_early": early.mean(),
            "promise_days": (day - accepted).mean(),
            "cost": (costs.late * late + costs.early * early).mean(),
            "contacts": 1000 * asks.mean(),
            "contact_cost": costs.contact * asks.mean(),
        }
    )


def by_level(
    rows: pd.DataFrame,
    days: Mapping[float, np.ndarray],
    costs: Costs | None = None,
    truth: str = "truth",
) -> pd.DataFrame:
    """Return the :func:`outcome` of the days that each level promises, by ``level``."""
    table = {level: outcome(rows, day, costs, truth) for level, day in days.items()}
    return pd.DataFrame(table).T.rename_axis("level")
