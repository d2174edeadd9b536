"""A global model on lags: one LightGBM for all series that feeds on its own forecasts.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=200)
>>> panel = pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 10.0 + days.dayofweek})
>>> panel = panel.assign(**dict.fromkeys(KNOWN, 0.0))
>>> twice = pd.concat([panel, panel.assign(unique_id="BE/1/b", y=2 * panel["y"])])
>>> ahead = twice[twice["ds"] > days[-8]]
>>> made = lightgbm_recursive(twice.drop(ahead.index), ahead, parameters={"n_estimators": 5})
>>> made.shape
(14,)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from casebook.features.calendar import time_features
from casebook.forecasting.classical import KEYS, need_daily
from casebook.forecasting.direct import regressor
from casebook.forecasting.origins import KNOWN


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
