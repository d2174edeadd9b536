"""The delivery as a survival time: what parcels in transit say, which a quantile model drops.

A parcel that has not arrived by the day of the training has no label, but it is known to take
longer than it has taken so far: it is *censored*. Kaplan and Meier's curve, an accelerated failure
time model and Cox's model use that; a mean over delivered parcels does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.evaluate.ranges import LEVELS, as_forecast
from casebook.evaluate.survival import kaplan_meier, restricted_mean

if TYPE_CHECKING:
    from lifelines.fitters import ParametricAFTRegressionFitter, SemiParametricRegressionFitter

#: A parcel that arrives at once would have a logarithm of minus infinity.
SHORTEST = 0.05
COVARIATES = (
    "plan_van",
    "plan_slack",
    "origin_load",
    "destination_load",
    "express",
    "km",
    "at_hub",
    "departed",
    "at_destination",
    "on_van",
)


def censored(rows: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Return what was known of each moment's parcel at a time.

    Parameters
    ----------
    rows : DataFrame
        Prepared moments, with ``remaining`` and ``label_at`` where these are known later.
    now : Timestamp
        Of the training; later moments are left out.

    Returns
    -------
    DataFrame
        With ``duration`` (hours to the delivery, or those that had passed) and ``arrived``.
    """
    rows = rows[rows["known_at"] < now]
    arrived = rows["label_at"] < now
    passed = (now - rows["known_at"]) / pd.Timedelta(hours=1)
    duration = rows["remaining"].where(arrived, passed).clip(lower=SHORTEST)
    return rows.assign(duration=duration, arrived=arrived)


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
    )[[*COVARIATES]]


@dataclass(frozen=True)
class Survival:
    """A fitted regression of survival times.

    Attributes
    ----------
    model : fitter of lifelines
    """

    model: ParametricAFTRegressionFitter | SemiParametricRegressionFitter

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of prepared moments.

        The quantile q of the hours is where the survival curve falls to 1 - q. Cox's curve ends
        with the longest time of the training: a quantile beyond it is that time.
        """
        inputs = covariates(rows)
        curves = [self.model.predict_percentile(inputs, p=1 - level) for level in LEVELS]
        values = np.column_stack([np.asarray(curve, float).ravel() for curve in curves])
        longest = float(self.model.durations.max())
        return as_forecast(np.where(np.isfinite(values), values, longest), rows.index)


def _fit(model, rows: pd.DataFrame, now: pd.Timestamp, most: int, seed: int) -> Survival:
    known = censored(rows, now)
    if len(known) > most:
        known = known.sample(most, random_state=seed)
    frame = covariates(known).assign(duration=known["duration"], arrived=known["arrived"])
    return Survival(model.fit(frame, duration_col="duration", event_col="arrived"))


def aft(rows: pd.DataFrame, now: pd.Timestamp, most: int = 6000, seed: int = 0) -> Survival:
    """Fit a lognormal accelerated failure time model, parcels in transit included.

    ``log T = b x + s Z``: a covariate stretches the time by a factor, which needs no time axis of
    its own and gives every quantile.

    Parameters
    ----------
    rows : DataFrame
        Prepared moments.
    now : Timestamp
        Of the training.
    most : int
        Moments that are used, drawn by ``seed``.
    """
    from lifelines import LogNormalAFTFitter

    return _fit(LogNormalAFTFitter(penalizer=0.001), rows, now, most, seed)


def cox(rows: pd.DataFrame, now: pd.Timestamp, most: int = 6000, seed: int = 0) -> Survival:
    """Fit Cox's proportional hazards, parcels in transit included.

    ``h(t | x) = h0(t) exp(b x)``: a covariate multiplies the chance to arrive in the next hour; the
    baseline is whatever the data say.

    Parameters
    ----------
    rows, now, most, seed
        As for :func:`aft`.
    """
    from lifelines import CoxPHFitter

    return _fit(CoxPHFitter(penalizer=0.01), rows, now, most, seed)


# The bias of dropping them -----------------------------------------------------------


def censoring_bias(
    rows: pd.DataFrame, now: pd.Timestamp, days: float = 14.0, most: float = 144.0
) -> pd.Series:
    """Compare means of what the parcels of the last days take, at a time.

    Parameters
    ----------
    rows : DataFrame
        Prepared moments with ``truth``.
    now : Timestamp
        At which the mean is taken.
    days : float
        Parcels that were collected in so many days before.
    most : float
        Longer times count as this, in hours: Kaplan and Meier's curve needs an end that the oldest
        of the parcels could have reached.

    Returns
    -------
    Series
        In days: ``true`` (of all of these parcels), ``delivered`` (mean of those that had
        arrived), ``kaplan_meier``, ``bias`` (delivered less true), ``km_bias``; and ``in_transit``
        (share), ``parcels``.
    """
    first = rows[(rows["stage"] == "collected") & (rows["known_at"] < now)]
    first = first[first["known_at"] >= now - pd.Timedelta(days=days)]
    known = censored(first, now)
    duration, arrived = known["duration"].to_numpy(), known["arrived"].to_numpy()
    true = first["truth"].clip(upper=most).mean() / 24
    delivered = np.minimum(duration[arrived], most).mean() / 24
    km = restricted_mean(kaplan_meier(duration, arrived), most) / 24
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
