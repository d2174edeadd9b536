"""Case 00: audit and repair of the reports, two forecasters, and their walk-forward.

The same functions serve the simulated world and the Australian tourism data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.evaluate.metrics import score_forecasts, wape_difference_interval

if TYPE_CHECKING:
    from mlforecast import MLForecast

SEASON = 4
HORIZON = 4
#: With these, LightGBM gives the same trees in every run.
REPRODUCIBLE = {"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbose": -1}
#: A forecaster takes what is known at the origin and the periods to forecast
#: (with known future columns), and returns ``y_hat`` in the order of the latter.
Forecaster = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]


def audit(observed: pd.DataFrame) -> pd.DataFrame:
    """Find missing and duplicated quarters, and values in another unit.

    Parameters
    ----------
    observed : DataFrame
        ``unique_id``, ``ds`` (first days of quarters) and ``y``.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``fault``: one row for each quarter that needs repair. Every
        series is expected in every quarter of the panel. A value counts as in another unit
        when it is more than 30 times the median of its series so far, where that is
        not zero.
    """
    keys = ["unique_id", "ds"]
    twice = observed.loc[observed.duplicated(keys), keys].assign(fault="duplicated")
    quarters = pd.date_range(observed["ds"].min(), observed["ds"].max(), freq="QS")
    full = pd.MultiIndex.from_product([observed["unique_id"].unique(), quarters], names=keys)
    full = full.to_frame(index=False)
    there = full.merge(observed[keys].drop_duplicates(), how="left", indicator=True)
    missing = there.loc[there["_merge"] == "left_only", keys].assign(fault="missing")
    in_order = observed.sort_values(keys)
    so_far = in_order.groupby("unique_id")["y"].transform(lambda y: y.expanding().median())
    jumps = (in_order["y"] > 30 * so_far) & (so_far > 0)
    unit = in_order.loc[jumps, keys].assign(fault="wrong unit")
    return pd.concat([missing, twice, unit], ignore_index=True)


def repair(observed: pd.DataFrame, faults: pd.DataFrame) -> pd.DataFrame:
    """Undo the faults that :func:`audit` found.

    Parameters
    ----------
    observed : DataFrame
        As given to :func:`audit`.
    faults : DataFrame
        What it returned.

    Returns
    -------
    DataFrame
        One row for each series and quarter. Duplicates keep their first row, single trips
        become thousands, a missing quarter takes the value of a year before. Only in the
        first year of a series, which no forecast is judged on, is it the value of a year later.
    """
    keys = ["unique_id", "ds"]
    wrong_unit = faults.loc[faults["fault"] == "wrong unit", keys].drop_duplicates()
    clean = observed.drop_duplicates(keys).merge(wrong_unit, how="left", indicator="unit")
    clean.loc[clean.pop("unit") == "both", "y"] /= 1000
    gaps = faults.loc[faults["fault"] == "missing", keys]
    names = clean.drop(columns=["ds", "y"]).drop_duplicates("unique_id")
    clean = pd.concat([clean, gaps.merge(names)], ignore_index=True).sort_values(keys)
    by_quarter = clean.groupby(["unique_id", clean["ds"].dt.quarter])["y"]
    clean["y"] = by_quarter.ffill().fillna(by_quarter.bfill())
    return clean.reset_index(drop=True)


def seasonal_naive(train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast each quarter by the same quarter of the last known year.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y``; complete quarters.
    future : DataFrame
        ``unique_id``, ``ds``: what to forecast, after the end of ``train``.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    last = train.sort_values("ds").groupby("unique_id").tail(SEASON)
    last = last.assign(quarter=last["ds"].dt.quarter)
    wanted = future.assign(quarter=future["ds"].dt.quarter)
    return wanted.merge(last, on=["unique_id", "quarter"], how="left")["y"].to_numpy()


def global_model(seed: int = 0) -> MLForecast:
    """Return one unfitted model for all series: boosted trees on yearly log ratios."""
    import lightgbm as lgb
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMean
    from mlforecast.target_transforms import Differences, GlobalSklearnTransformer
    from sklearn.preprocessing import FunctionTransformer

    trees = lgb.LGBMRegressor(
        n_estimators=150,
        learning_rate=0.05,
        num_leaves=15,
        min_child_samples=40,
        random_state=seed,
        **REPRODUCIBLE,
    )
    log = FunctionTransformer(np.log1p, np.expm1)
    return MLForecast(
        models={"y_hat": trees},
        freq="QS",
        lags=[1, 2, 3, 4, 8],
        lag_transforms={1: [RollingMean(4), RollingMean(8)]},
        date_features=["quarter"],
        target_transforms=[GlobalSklearnTransformer(log), Differences([SEASON])],
    )


def lightgbm_global(train: pd.DataFrame, future: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Forecast all series with one LightGBM model on lags and the known future.

    Lags beyond the first forecast quarter are filled with the model's own forecasts.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y`` and, if ``future`` has it, ``campaign``.
    future : DataFrame
        ``unique_id``, ``ds`` and the columns known in advance.
    seed : int
        Of LightGBM.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    known = [c for c in ("campaign", "campaign_last_year") if c in future]
    model = global_model(seed)
    model.fit(train[["unique_id", "ds", "y", *known]], static_features=[])
    future_known = future[["unique_id", "ds", *known]] if known else None
    predicted = model.predict(future["ds"].nunique(), X_df=future_known)
    return future[["unique_id", "ds"]].merge(predicted, how="left")["y_hat"].to_numpy()


class WithFallback:
    """A forecaster that never fails to answer.

    Parameters
    ----------
    primary, fallback : callable
        Forecasters. The fallback answers when the primary raises or returns a
        value that is not a finite, non-negative number.

    Attributes
    ----------
    log : list of str
        One line for each time that the fallback answered, with the reason.
    """

    def __init__(self, primary: Forecaster, fallback: Forecaster):
        self.primary, self.fallback = primary, fallback
        self.log: list[str] = []

    def __call__(self, train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        """Return the forecasts of the primary, or of the fallback."""
        try:
            values = np.asarray(self.primary(train, future), float)
            if values.shape != (len(future),):
                raise ValueError(f"{values.size} forecasts for {len(future)} rows")
            if bad := int((~np.isfinite(values) | (values < 0)).sum()):
                raise ValueError(f"{bad} forecasts are missing, infinite or negative")
            return values
        except Exception as error:  # whatever went wrong, the plan must be made
            name = getattr(self.fallback, "__name__", "the fallback")
            self.log.append(f"fell back to {name}: {type(error).__name__}: {error}")
            return self.fallback(train, future)


def walk_forward(
    frame: pd.DataFrame,
    forecasters: Mapping[str, Forecaster],
    n_origins: int,
    horizon: int = HORIZON,
    known: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Forecast from several origins; a forecaster never sees a quarter after its origin.

    Parameters
    ----------
    frame : DataFrame
        ``unique_id``, ``ds``, ``y`` and the columns named in ``known``; complete.
    forecasters : mapping of str to callable
        Name and function ``(train, future) -> forecasts``.
    n_origins : int
        Origins, one horizon apart, the last one horizon before the end.
    horizon : int
        Quarters ahead.
    known : tuple of str
        Columns whose future is known at the origin. Everything else is withheld.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``origin`` (first forecast quarter), ``y`` and one column for
        each forecaster.

    Raises
    ------
    ValueError
        If there are too few quarters for the origins.
    """
    quarters = np.sort(frame["ds"].unique())
    if len(quarters) < n_origins * horizon + 4 * SEASON:
        raise ValueError(
            f"{len(quarters)} quarters are too few for {n_origins} origins of {horizon} quarters "
            "with four years before the first."
        )
    results = []
    for k in range(n_origins, 0, -1):
        start = len(quarters) - k * horizon
        origin = quarters[start]
        train = frame[frame["ds"] < origin]
        actual = frame[frame["ds"].isin(quarters[start : start + horizon])]
        future = actual[["unique_id", "ds", *known]]
        result = actual[["unique_id", "ds", "y"]].assign(origin=origin)
        for name, forecaster in forecasters.items():
            values = np.asarray(forecaster(train.copy(), future.copy()), float)
            if values.shape != (len(future),):
                raise ValueError(
                    f"{name} returned {values.size} forecasts for {len(future)} rows; it must "
                    "return one for each row of `future`, in their order."
                )
            result[name] = values
        results.append(result)
    return pd.concat(results, ignore_index=True)


def with_plan(frame: pd.DataFrame, campaigns: pd.DataFrame) -> pd.DataFrame:
    """Add the campaign plan and the plan of the same quarter a year before.

    Parameters
    ----------
    frame : DataFrame
        ``state``, ``ds`` and more.
    campaigns : DataFrame
        ``state``, ``ds``, ``campaign``: known a year ahead, so that using it is no leak.

    Returns
    -------
    DataFrame
        ``frame`` with ``campaign`` and ``campaign_last_year`` (0 in the first year of the plan).

    Raises
    ------
    ValueError
        If the plan does not cover a quarter of ``frame``: no plan is not "no campaign".
    """
    last_year = campaigns.assign(ds=campaigns["ds"] + pd.DateOffset(years=1)).rename(
        columns={"campaign": "campaign_last_year"}
    )
    joined = frame.merge(campaigns, on=["state", "ds"], how="left", validate="many_to_one")
    if uncovered := int(joined["campaign"].isna().sum()):
        raise ValueError(f"The campaign plan does not cover {uncovered} rows of the frame.")
    joined = joined.merge(last_year, on=["state", "ds"], how="left", validate="many_to_one")
    plan = ["campaign", "campaign_last_year"]
    return joined.assign(**joined[plan].fillna(0).astype(int))


def real_check(trips: pd.DataFrame) -> pd.DataFrame:
    """Forecast the last eight quarters of real trips with the chapter's two functions.

    Parameters
    ----------
    trips : DataFrame
        ``casebook.data.tables.tourism``. There is no campaign plan.

    Returns
    -------
    DataFrame
        ``model``; ``WAPE``, ``MASE`` and ``RMSSE``; ``difference`` in WAPE to the seasonal naive
        with ``low`` and ``high`` (95 % bootstrap over series).
    """
    models = {"seasonal naive": seasonal_naive, "LightGBM": lightgbm_global}
    forecasts = walk_forward(trips, models, n_origins=1, horizon=8)
    known = trips[trips["ds"] < forecasts["ds"].min()]
    scores = score_forecasts(forecasts, known, season=4, models=list(models))
    interval = wape_difference_interval(forecasts, "LightGBM", "seasonal naive")
    scores.loc["LightGBM", ["difference", "low", "high"]] = list(interval)
    return scores.rename_axis("model").reset_index()
