"""Naive and classical forecasters: last week, last year, ETS, ARIMA and Prophet.

Every forecaster is a function ``(train, future) -> ndarray``: one value for each row of ``future``
in its order. ``train`` holds ``unique_id``, ``ds``, ``y`` before the origin, ``future`` the periods
to forecast. Node names are paths (``country/depot/route``): a parent can be read from an id.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=7)
>>> past = pd.DataFrame({"unique_id": "a", "ds": days, "y": [5.0, 4, 3, 3, 4, 2, 1]})
>>> seasonal_naive_week(past, past.assign(ds=days + 14 * DAY).drop(columns="y")).tolist()
[5.0, 4.0, 3.0, 3.0, 4.0, 2.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

KEYS = ["unique_id", "ds"]
DAY = pd.Timedelta(days=1)

WEEK = 7


YEAR = 364


def parent(ids: pd.Series) -> pd.Series:
    """Return the path above each id: the depot of a route."""
    return ids.str.rpartition("/")[0]


def _last_of_weekday(train: pd.DataFrame) -> pd.DataFrame:
    """Return the last value of each series and weekday."""
    last = train.assign(weekday=train["ds"].dt.dayofweek).sort_values("ds")
    return last.drop_duplicates(["unique_id", "weekday"], keep="last")


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
        depot = recent.groupby([parent(recent["unique_id"]), "weekday"])["y"].mean().rename("depot")
        keys = pd.MultiIndex.from_arrays([parent(own["unique_id"]), own["weekday"]])
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


def recent_days(train: pd.DataFrame, n_days: int) -> pd.DataFrame:
    """Return the rows of the last days of a table."""
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

    return _statsforecast(AutoETS(season_length=WEEK), recent_days(train, last_days), future)


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
    return _statsforecast(model, recent_days(train, last_days), future)


def prophet(
    train: pd.DataFrame, future: pd.DataFrame, regressors: Sequence[str] = ()
) -> np.ndarray:
    """Forecast each series by Prophet: trend, week, year and what is known ahead.

    Holidays enter as regressors, so that an aggregate over countries can take the share of its
    volume that has one.

    Parameters
    ----------
    train, future : DataFrame
        See the module, with the regressors.
    regressors : sequence of str
        Columns that are known ahead, such as promotion and holiday.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    from cmdstanpy import disable_logging
    from prophet import Prophet

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


def need_daily(train: pd.DataFrame) -> None:
    """Refuse training rows of weeks, months or quarters.

    Raises
    ------
    ValueError
    """
    steps = pd.Series(train["ds"].unique()).sort_values().diff()
    if len(steps) > 1 and steps.min() > DAY:
        raise ValueError(
            f"the training rows are {steps.min().days} days apart; a weekday profile needs daily "
            "rows: forecast other periods by ets_with_errors, with their season"
        )
