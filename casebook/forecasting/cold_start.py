"""Forecasts for series without a past: as their siblings move, times a share and a ramp.

Ids are paths (``country/depot/route``), so that a series' siblings can be read from its name.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=60)
>>> old = pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 10.0})
>>> old = old.assign(distance=5.0, age=365.0)
>>> ahead = old.tail(2).drop(columns="y")
>>> both = pd.concat([ahead, ahead.assign(unique_id="BE/1/new", age=0.0)])
>>> forecaster = with_cold_start(lambda train, future: np.full(len(future), 10.0))
>>> forecaster(old[:-2], both).round().tolist()
[10.0, 10.0, 10.0, 10.0]
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from casebook.forecasting.classical import WEEK, parent, recent_days
from casebook.forecasting.walk import Forecaster

#: Days of the prior share that stand beside a new route's own days.
PRIOR_DAYS = 5.0
#: A route is new until it has been seen on so many days. On openings before the validation the
#: direct model was better than the analogue as soon as it had a level.
NEW = 7
RAMP_WEEKS = 12


def ramp(train: pd.DataFrame) -> np.ndarray:
    """Return how earlier openings filled up, week by week.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y``.

    Returns
    -------
    ndarray, shape (RAMP_WEEKS + 1,)
        Share of its later level that a new route carries in its k-th week, pooled over the routes
        that opened after the first day and ran 20 weeks, each relative to the old routes of its
        depot; 1 from the last week on, and everywhere if nothing has opened yet.
    """
    wide = train.pivot(index="ds", columns="unique_id", values="y").sort_index()
    first = wide.notna().to_numpy().argmax(axis=0)
    depot = parent(wide.columns.to_series()).to_numpy()
    early, later = np.zeros(RAMP_WEEKS), 0.0
    for k in np.flatnonzero((first > 0) & (wide.notna().sum() >= 140)):
        own = wide.iloc[first[k] : first[k] + 140, k].to_numpy()
        old = (depot == depot[k]) & (first == 0)
        siblings = wide.loc[:, old].iloc[first[k] : first[k] + 140].mean(axis=1).to_numpy()
        if len(own) < 140 or not siblings.sum() > 0 or not own[84:].sum() > 0:
            continue
        weeks = np.stack([own, siblings]).reshape(2, 20, 7).sum(axis=2)
        settled = weeks[0, RAMP_WEEKS:].sum() / weeks[1, RAMP_WEEKS:].sum()
        expected = settled * weeks[1, :RAMP_WEEKS]
        # Each opening counts by the square root of its volume.
        weight = np.sqrt(expected.sum()) / expected.sum()
        early, later = early + weight * weeks[0, :RAMP_WEEKS], later + weight * expected
    share = np.divide(early, later, np.ones(RAMP_WEEKS), where=later > 0)
    return np.append(share, 1.0)


def _prior_share(
    train: pd.DataFrame, future: pd.DataFrame, levels: pd.Series
) -> Callable[[str], float]:
    """Return what the distance says of a new route: parcels a day once it has settled."""
    everywhere = pd.concat([train, future]).drop_duplicates("unique_id")
    distance = everywhere.set_index("unique_id")["distance"]
    log, far = np.log(levels), np.log(distance.reindex(levels.index))
    depot = parent(levels.index.to_series())
    far_within = far - far.groupby(depot).transform("mean")
    spread = (far_within**2).sum()  # none: the old routes do not tell what distance does
    slope = (log * far_within).sum() / spread if spread > 0 else 0.0
    without = (log - slope * far).groupby(depot).mean()

    def level(name: str) -> float:
        at_depot = without.get(name.rpartition("/")[0], without.mean())
        return float(np.exp(at_depot + slope * np.log(distance[name])))

    return level


def _in_week(age: pd.Series, curve: np.ndarray) -> np.ndarray:
    return curve[(age // WEEK).clip(upper=RAMP_WEEKS).astype(int)]


def analogue(train: pd.DataFrame, future: pd.DataFrame, known: np.ndarray) -> np.ndarray:
    """Forecast new routes by the old routes of their depot.

    A new route moves as its depot's old routes are forecast to move, times a share, times the ramp
    of earlier openings. Before its first day the share comes from the distance (nearer routes
    carry more, with the slope of all old routes); each day that is seen then counts against
    :data:`PRIOR_DAYS` days of that prior.

    Parameters
    ----------
    train, future : DataFrame
        Routes, with the known features (``distance``, ``age``).
    known : ndarray, shape (len(future),)
        Forecasts of the old routes, NaN for the new ones.

    Returns
    -------
    ndarray, shape (len(future),)
        ``known`` where it is a number, the analogue's forecast elsewhere.
    """
    future = future.reset_index(drop=True)
    values = pd.Series(np.array(known, float))
    new = future.loc[values.isna(), "unique_id"].unique()
    if not len(new):
        return values.to_numpy()
    curve, recent = ramp(train), recent_days(train, 56)
    levels = recent[~recent["unique_id"].isin(new)].groupby("unique_id")["y"].mean()
    levels = levels[levels >= 1]  # an intermittent route says nothing of what distance does
    prior = _prior_share(train, future, levels)
    for name in new:
        rows, own = (frame[frame["unique_id"] == name] for frame in (future, train))
        old = levels.index[parent(levels.index.to_series()) == name.rpartition("/")[0]]
        if not future["unique_id"].isin(old).any():  # a new depot: all old routes stand in
            old = levels.index
        scope, usual = future["unique_id"].isin(old), levels[old].mean()
        expected = values[scope].groupby(future.loc[scope, "ds"]).mean().reindex(rows["ds"])
        past = train[train["unique_id"].isin(old)].groupby("ds")["y"].mean().reindex(own["ds"])
        seen = (past.to_numpy() * _in_week(own["age"], curve)).sum()
        share = (own["y"].sum() + PRIOR_DAYS * prior(name)) / (seen + PRIOR_DAYS * usual)
        values[rows.index] = share * expected.to_numpy() * _in_week(rows["age"], curve)
    return values.to_numpy()


def with_cold_start(forecaster: Forecaster, new_until: int = NEW) -> Forecaster:
    """Let analogues answer for routes that a forecaster has seen too little of.

    Parameters
    ----------
    forecaster : callable
        Answers for the other routes.
    new_until : int
        A route with fewer days in ``train`` is new.

    Returns
    -------
    callable
        A forecaster without missing values.
    """

    def forecast(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        values = np.array(forecaster(train, future), float)
        days = future["unique_id"].map(train["unique_id"].value_counts()).fillna(0).to_numpy()
        return analogue(train, future, np.where(days < new_until, np.nan, values))

    forecast.__name__ = getattr(forecaster, "__name__", "forecaster")
    return forecast
