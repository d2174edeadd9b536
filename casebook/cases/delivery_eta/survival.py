"""The delivery as a survival time: what parcels in transit say, which a quantile model drops.

A parcel that has not arrived by the day of the training has no label, but it is known to take
longer than it has taken so far: it is *censored*. Kaplan and Meier's curve and an accelerated
failure time model use that; a mean over delivered parcels does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate import survival
from casebook.evaluate.ranges import LEVELS, as_forecast


def covariates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the two regressions use: the plan, the queues, and the stage as indicators."""
    stage = rows["stage"]
    frame = rows[["plan_van", "plan_slack", "origin_load", "destination_load", "express", "km"]]
    return frame.fillna(0.0).assign(
        km=frame["km"] / 100,
        at_hub=(stage == "origin_hub").astype(float),
        departed=(stage == "departed").astype(float),
        at_destination=(stage == "destination_hub").astype(float),
        on_van=(stage == "out").astype(float),
    )


@dataclass(frozen=True)
class Survival:
    """A fitted regression of survival times."""

    model: survival.Regression

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of prepared moments."""
        return as_forecast(survival.quantiles(self.model, covariates(rows), LEVELS), rows.index)


def aft(rows: pd.DataFrame, now: pd.Timestamp, most: int = 6000, seed: int = 0) -> Survival:
    """Fit an accelerated failure time model at a time, parcels in transit included."""
    known = survival.censored(rows, now)
    frame = covariates(known).assign(duration=known["duration"], arrived=known["arrived"])
    return Survival(survival.aft(frame, most, seed))


# The bias of dropping them -----------------------------------------------------------


def censoring_bias(
    rows: pd.DataFrame, now: pd.Timestamp, days: float = 14.0, most: float = 144.0
) -> pd.Series:
    """Compare means of what the parcels of the last days take, at a time.

    Longer times count as ``most`` hours: Kaplan and Meier's curve needs an end that the oldest of
    the parcels could have reached. Returns in days ``true``, ``delivered`` (mean of those that had
    arrived), ``kaplan_meier``, ``bias`` and ``km_bias``; ``in_transit`` (share) and ``parcels``.
    """
    first = rows[(rows["stage"] == "collected") & (rows["known_at"] < now)]
    first = first[first["known_at"] >= now - pd.Timedelta(days=days)]
    known = survival.censored(first, now)
    duration, arrived = known["duration"].to_numpy(), known["arrived"].to_numpy()
    true = first["truth"].clip(upper=most).mean() / 24
    delivered = np.minimum(duration[arrived], most).mean() / 24
    km = survival.restricted_mean(survival.kaplan_meier(duration, arrived), most) / 24
    return pd.Series(
        {
            "true": true,
            "delivered": delivered,
            "kaplan_meier": km,
            "bias": delivered - true,
            "km_bias": km - true,
            "in_transit": 1 - arrived.mean(),
            "parcels": len(first),
        }
    )
