"""The ladder of forecasters: from last week's value to one global model.

Every forecaster is a function ``(train, future) -> ndarray``: parcels a day, one for each row of
``future`` in its order. ``train`` holds ``unique_id``, ``ds``, ``y`` before the origin, ``future``
the days to forecast; both carry the known features of
:mod:`casebook.cases.demand_forecasting.features` for the forecasters that use them. Node names
are paths (``country/depot/route``), so that a route's depot can be read from its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.contract import KEYS
from casebook.cases.demand_forecasting.direct import lightgbm_direct, regressor
from casebook.cases.demand_forecasting.features import KNOWN
from casebook.features.calendar import time_features
from casebook.forecasting.classical import (
    WEEK,
    need_daily,
    parent,
    recent_days,
    seasonal_naive_week,
    seasonal_naive_year,
)
from casebook.forecasting.walk import Forecaster

#: The chapter asks for these here.
__all__ = ["lightgbm_direct", "seasonal_naive_week", "seasonal_naive_year"]


# A global model on lags --------------------------------------------------------------


def _grid_ahead(future: pd.DataFrame, ids: pd.Index) -> pd.DataFrame:
    """Return a row for each series and day ahead, with the known features.

    A series that closes has no rows then: what it is given there is not looked at.
    """
    days = pd.date_range(future["ds"].min(), future["ds"].max(), freq="D")
    grid = pd.MultiIndex.from_product([ids, days], names=KEYS).to_frame(index=False)
    return grid.merge(future[[*KEYS, *KNOWN]], on=KEYS, how="left").fillna(dict.fromkeys(KNOWN, 0))


def lightgbm_recursive(
    train: pd.DataFrame,
    future: pd.DataFrame,
    *,
    parameters: Mapping[str, object] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Forecast all series by one LightGBM model on lags, through mlforecast.

    Each series is divided by the mean of its last 56 days (zeros stay zeros, growth is gone). The
    loss is Poisson's: absolute errors gave a lower WAPE, but they aim at the median, which for a
    sparse route is near zero, and medians do not add up. Lags beyond the first forecast day are
    the model's own forecasts.

    Parameters
    ----------
    train, future : DataFrame
        See the module, with the known features.
    parameters : mapping, optional
        Of LightGBM, in place of those in :data:`PARAMETERS`.
    seed : int
        Of LightGBM.

    Returns
    -------
    ndarray, shape (len(future),)
        NaN for a series with fewer than 56 days, or none on the day before the origin.
    """
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean, SeasonalRollingMean

    need_daily(train)
    history = train[[*KEYS, "y", *KNOWN]].sort_values(KEYS)
    by_id = history.groupby("unique_id")["ds"]
    ready = (by_id.transform("size") >= 56) & (by_id.transform("max") == history["ds"].max())
    history = history[ready & history["unique_id"].isin(future["unique_id"])]
    recent = history[history["ds"] > history["ds"].max() - pd.Timedelta(days=56)]
    scale = recent.groupby("unique_id")["y"].mean().clip(lower=1e-3)

    def with_time(rows: pd.DataFrame) -> pd.DataFrame:
        country = rows["unique_id"].str.split("/").str[0].astype("category").cat.codes
        known = rows.assign(in_country=country, size=np.log(rows["unique_id"].map(scale)))
        return pd.concat([known, time_features(rows["ds"])], axis=1)

    scaled = history.assign(y=history["y"] / history["unique_id"].map(scale))
    forecaster = MLForecast(
        models={"y_hat": regressor({"objective": "poisson", **(parameters or {})}, seed)},
        freq="D",
        lags=[1, 7, 14, 28],
        lag_transforms={
            1: [RollingMean(7), RollingMean(28), RollingMean(56)],
            7: [SeasonalRollingMean(season_length=7, window_size=6)],
        },
        num_threads=1,
    )
    forecaster.fit(with_time(scaled), static_features=[], dropna=True)
    grid = _grid_ahead(future, scale.index)
    made = forecaster.predict(grid["ds"].nunique(), X_df=with_time(grid))
    made["y_hat"] = made["y_hat"].clip(lower=0) * made["unique_id"].map(scale)
    return future[KEYS].merge(made, on=KEYS, how="left")["y_hat"].to_numpy(float)


# Cold start --------------------------------------------------------------------------

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
