"""What a forecast is judged by: the truth, the weeks, and the groups in which it may fail."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.world import CALIBRATION_END, CUT, QUIET_END, TRAIN_END
from casebook.features.point_in_time import ripe

#: Days after which nearly every parcel has arrived.
RIPE = 10.0


def with_truth(rows: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Add the hours to the true delivery (``truth``); moments known after it are left out."""
    delivered = rows["parcel"].map(truth.set_index("parcel")["delivered"])
    hours = (delivered - rows["known_at"]) / pd.Timedelta(hours=1)
    return rows.assign(truth=hours)[hours > 0]


def split(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cut prepared moments by time.

    ``train`` and ``calibration`` are what was ripe at their ends; ``quiet`` five weeks to test,
    ``rough`` the storm and the peak after them.
    """
    known = rows["known_at"]
    return {
        "train": ripe(rows[known < TRAIN_END], TRAIN_END, RIPE),
        "calibration": ripe(rows[known >= TRAIN_END], CALIBRATION_END, RIPE),
        "quiet": rows[(known >= CALIBRATION_END) & (known < QUIET_END)],
        "rough": rows[(known >= QUIET_END) & (known < CUT)],
    }


def deciles(rows: pd.DataFrame, train: pd.DataFrame, n: int = 10) -> pd.Series:
    """Sort zone pairs into ``n`` groups by what they took in training: 1 is quick, 0 is unknown.

    A pair has its median at collection, or that of its hubs if it had fewer than five parcels; each
    group has about the same number of ``rows``.
    """
    first = train[train["stage"] == "collected"]
    pair, hubs = ["origin", "destination"], ["origin_hub", "destination_hub"]
    known = first.groupby(pair)["remaining"].agg(["median", "size"])
    own = rows[pair].join(known.loc[known["size"] >= 5, "median"], on=pair)["median"]
    usual = rows[hubs].join(first.groupby(hubs)["remaining"].median(), on=hubs)["remaining"]
    typical = own.fillna(usual)
    order = typical.rank(method="first", pct=True)
    return np.ceil(order * n).fillna(0).astype(int).rename("decile")
