"""The delivery as a survival time: what parcels in transit say, which a quantile model drops.

A parcel that has not arrived by the day of the training has no label, but it is known to take
longer than it has taken so far: it is *censored*. Kaplan and Meier's curve and an accelerated
failure time model use that; a mean over delivered parcels does not.
"""

from __future__ import annotations

import pandas as pd

from casebook.evaluate import survival
from casebook.evaluate.survival import Ranges


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


def aft(rows: pd.DataFrame, now: pd.Timestamp, most: int = 6000, seed: int = 0) -> Ranges:
    """Fit an accelerated failure time model at a time, parcels in transit included."""
    known = survival.censored(rows, now)
    frame = covariates(known).assign(duration=known["duration"], arrived=known["arrived"])
    return Ranges(survival.aft(frame, most, seed), covariates)


def censoring_bias(rows: pd.DataFrame, now: pd.Timestamp, days: float = 14.0) -> pd.Series:
    """Compare what the parcels collected in the last days take, in days; six are counted at most.

    Returns ``true``, ``delivered`` (of those that had arrived), ``kaplan_meier``, ``bias``,
    ``km_bias``; ``in_transit`` (share) and ``parcels``.
    """
    recent = rows["known_at"] >= now - pd.Timedelta(days=days)
    first = rows[recent & (rows["stage"] == "collected")]
    found = survival.bias_of_dropping(first, now, most=144.0)
    names = {"ended": "delivered", "running": "in_transit", "cases": "parcels"}
    found[["true", "ended", "kaplan_meier", "bias", "km_bias"]] /= 24
    return found.rename(names)
