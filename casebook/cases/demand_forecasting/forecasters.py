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
from casebook.cases.demand_forecasting.direct import (
    Forecaster,
    half_life,
    leave_out,
    lightgbm_direct,
    regressor,
)
from casebook.cases.demand_forecasting.features import (
    AROUND_HOLIDAYS,
    KNOWN,
    need_daily,
    time_features,
)

__all__ = ["half_life", "leave_out", "lightgbm_direct"]  # the ladder's main model has its module

WEEK = 7
YEAR = 364


def _depot(ids: pd.Series) -> pd.Series:
    return ids.str.rpartition("/")[0]


def _last_of_weekday(train: pd.DataFrame) -> pd.DataFrame:
    """Return the last value of each series and weekday."""
    last = train.assign(weekday=train["ds"].dt.dayofweek).sort_values("ds")
    return last.drop_duplicates(["unique_id", "weekday"], keep="last")


# Naive -------------------------------------------------------------------------------


def seasonal_naive_week(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast a day by the last observed day with the same weekday.

    A route without that weekday so far takes the mean of the other routes of its depot on it.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y``.
    future : DataFrame
        ``unique_id``, ``ds``.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    last = _last_of_weekday(train)
    wanted = future[KEYS].assign(weekday=future["ds"].dt.dayofweek)
    own = wanted.merge(last[["unique_id", "weekday", "y"]], how="left", on=["unique_id", "weekday"])
    y = own["y"]
    if y.isna().any():
        recent = last[last["ds"] > train["ds"].max() - pd.Timedelta(days=WEEK)]
        depot = recent.groupby([_depot(recent["unique_id"]), "weekday"])["y"].mean().rename("depot")
        keys = pd.MultiIndex.from_arrays([_depot(own["unique_id"]), own["weekday"]])
        y = y.fillna(pd.Series(depot.reindex(keys).to_numpy(), index=y.index))
    return y.fillna(0.0).to_numpy(float)


def seasonal_naive_year(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast a day by the same weekday 52 weeks before, and by last week's where there is none.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y``.
    future : DataFrame
        ``unique_id``, ``ds``: at most 52 weeks ahead.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    shifted = train[[*KEYS, "y"]].assign(ds=train["ds"] + pd.Timedelta(days=YEAR))
    y = future[KEYS].merge(shifted, how="left", on=KEYS)["y"].to_numpy(float)
    return np.where(np.isnan(y), seasonal_naive_week(train, future), y)


# Classical models, on aggregates -----------------------------------------------------


def _last(train: pd.DataFrame, n_days: int) -> pd.DataFrame:
    return train[train["ds"] > train["ds"].max() - pd.Timedelta(days=n_days)]


def _statsforecast(model: object, train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    from statsforecast import StatsForecast

    need_daily(train)
    engine = StatsForecast(models=[model], freq="D", n_jobs=1)
    train = train.loc[train["unique_id"].isin(future["unique_id"]), [*KEYS, "y"]].sort_values(KEYS)
    horizon = (future["ds"].max() - train["ds"].max()).days
    made = engine.forecast(df=train, h=horizon).rename(columns={repr(model): "forecast"})
    values = future[KEYS].merge(made, how="left", on=KEYS)["forecast"].to_numpy(float)
    return values.clip(0)


def auto_ets(train: pd.DataFrame, future: pd.DataFrame, last_days: int = 364) -> np.ndarray:
    """Forecast each series by exponential smoothing with a weekly season, chosen by AICc.

    For aggregates: it knows neither holidays nor the year.

    Parameters
    ----------
    train, future : DataFrame
        See the module; complete series that end the day before the origin.
    last_days : int
        History that is used: three years take three times as long and forecast no better.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    from statsforecast.models import AutoETS

    return _statsforecast(AutoETS(season_length=WEEK), _last(train, last_days), future)


def ets_with_errors(
    train: pd.DataFrame,
    future: pd.DataFrame,
    season: int = WEEK,
    freq: str = "D",
    options: str = "ZZZ",
) -> tuple[np.ndarray, pd.DataFrame]:
    """Forecast each series by AutoETS, with the in-sample errors that MinT usually weighs by.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y``; complete series of one length.
    future : DataFrame
        ``unique_id``, ``ds``: the periods that follow.
    season : int
        Periods in a season.
    freq : str
        Of pandas, such as ``"QS"``.
    options : str
        Error, trend and season of AutoETS: Z is chosen by AICc, A additive.

    Returns
    -------
    forecasts : ndarray, shape (len(future),)
    errors : DataFrame, shape (periods, series)
        Actual minus one-step fitted value.
    """
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS

    model = AutoETS(season_length=season, model=options, alias="ets")
    engine = StatsForecast(models=[model], freq=freq, n_jobs=1)
    train = train[[*KEYS, "y"]].sort_values(KEYS)
    made = engine.forecast(df=train, h=future["ds"].nunique(), fitted=True)
    fitted = engine.forecast_fitted_values()
    errors = fitted.assign(error=fitted["y"] - fitted["ets"])
    values = future[KEYS].merge(made, how="left", on=KEYS)["ets"].to_numpy(float)
    return values, errors.pivot(index="ds", columns="unique_id", values="error")


def auto_arima(train: pd.DataFrame, future: pd.DataFrame, last_days: int = 364) -> np.ndarray:
    """Forecast each series by a seasonal ARIMA (period 7) that a stepwise search finds.

    Parameters
    ----------
    train, future : DataFrame
        See the module; complete series that end the day before the origin.
    last_days : int
        History that is used: the search costs seconds a series.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    from statsforecast.models import AutoARIMA

    model = AutoARIMA(season_length=WEEK, approximation=True, max_p=3, max_q=3)
    return _statsforecast(model, _last(train, last_days), future)


def prophet(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast each series by Prophet: trend, week, year, national holidays and promotions.

    Holidays, eves and backlogs enter as regressors, so that an aggregate over countries can take
    the share of its volume that has a holiday.

    Parameters
    ----------
    train, future : DataFrame
        See the module, with the known features.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    from cmdstanpy import disable_logging
    from prophet import Prophet

    regressors = ["promotion", *AROUND_HOLIDAYS]
    values = pd.Series(np.nan, index=range(len(future)))
    for name, rows in future.reset_index(drop=True).groupby("unique_id"):
        model = Prophet(
            seasonality_mode="multiplicative",
            yearly_seasonality=True,
            weekly_seasonality=True,
            daily_seasonality=False,
            uncertainty_samples=0,
        )
        for column in regressors:
            model.add_regressor(column, standardize=False)
        own = train.loc[train["unique_id"] == name, ["ds", "y", *regressors]].sort_values("ds")
        with disable_logging():
            model.fit(own)
        made = model.predict(rows[["ds", *regressors]])[["ds", "yhat"]]
        values[rows.index] = rows[["ds"]].merge(made, on="ds", how="left")["yhat"].to_numpy()
    return values.to_numpy().clip(0)


# A global model on lags --------------------------------------------------------------


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
    days = pd.date_range(future["ds"].min(), future["ds"].max(), freq="D")
    grid = pd.MultiIndex.from_product([scale.index, days], names=KEYS).to_frame(index=False)
    # A series that closes has no rows then: what it is given there is not looked at.
    grid = grid.merge(future[[*KEYS, *KNOWN]], on=KEYS, how="left").fillna(dict.fromkeys(KNOWN, 0))
    made = forecaster.predict(len(days), X_df=with_time(grid))
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
    depot = _depot(wide.columns.to_series()).to_numpy()
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
    depot = _depot(levels.index.to_series())
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
    curve, recent = ramp(train), _last(train, 56)
    levels = recent[~recent["unique_id"].isin(new)].groupby("unique_id")["y"].mean()
    levels = levels[levels >= 1]  # an intermittent route says nothing of what distance does
    prior = _prior_share(train, future, levels)
    for name in new:
        rows, own = (frame[frame["unique_id"] == name] for frame in (future, train))
        old = levels.index[_depot(levels.index.to_series()) == name.rpartition("/")[0]]
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


# Ensembles ---------------------------------------------------------------------------


def learn_weights(validation: pd.DataFrame, models: list[str]) -> pd.Series:
    """Learn ensemble weights on validation origins: non-negative, summing to one, least error.

    Parameters
    ----------
    validation : DataFrame
        ``y`` and one column for each model, of origins before the test origins.
    models : list of str

    Returns
    -------
    Series
        Weight of each model; minimises the sum of absolute errors over the actuals (a linear
        program).
    """
    from scipy.optimize import linprog

    # One row for each series and week keeps the program small.
    rows = validation.dropna(subset=models)
    week = (rows["ds"] - rows["ds"].min()).dt.days // 7
    sums = rows[["y", *models]].groupby([rows["unique_id"], week]).sum()
    x, y, n, k = sums[models].to_numpy(), sums["y"].to_numpy(), len(sums), len(models)
    solution = linprog(
        c=np.r_[np.zeros(k), np.ones(2 * n)],
        A_eq=np.block([[x, np.eye(n), -np.eye(n)], [np.ones((1, k)), np.zeros((1, 2 * n))]]),
        b_eq=np.r_[y, 1.0],
        method="highs",
    )
    return pd.Series(solution.x[:k], index=models)


def combine(forecasts: pd.DataFrame, weights: pd.Series) -> np.ndarray:
    """Return the weighted mean of forecasts.

    Parameters
    ----------
    forecasts : DataFrame
        One column for each model.
    weights : Series
        By model, summing to one.

    Returns
    -------
    ndarray, shape (len(forecasts),)
    """
    return forecasts[weights.index].to_numpy() @ weights.to_numpy()
