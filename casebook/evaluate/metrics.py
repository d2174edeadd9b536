"""Metrics of the course that scikit-learn does not have, with their intervals.

Forecasts are frames in the long format of the Nixtla libraries: ``unique_id``
(series), ``ds`` (time stamp), ``y`` (actual) and one column for each model.
Per-series losses come from ``utilsforecast.losses``; pooled ones and intervals
are added here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def _pair(actual: ArrayLike, forecast: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    actual, forecast = np.asarray(actual, float), np.asarray(forecast, float)
    if actual.shape != forecast.shape:
        raise ValueError(
            f"actual has shape {actual.shape} and forecast {forecast.shape}: align them first "
            "(the same series, the same periods, the same order)."
        )
    for name, values in (("actual", actual), ("forecast", forecast)):
        if bad := int(np.isnan(values).sum()):
            raise ValueError(
                f"{name} holds {bad} missing values of {values.size}: repair or drop them on "
                "both sides before you score."
            )
    return actual, forecast


def wape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Weighted absolute percentage error: sum of absolute errors over sum of actuals.

    Parameters
    ----------
    actual, forecast : array_like, shape (n,)
        In the same unit.

    Returns
    -------
    float
        A share (0.25 is 25 %). Not defined where the actuals sum to zero.

    Raises
    ------
    ValueError
        On different shapes, missing values, or actuals that sum to zero.

    References
    ----------
    Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed.,
    section 5.8.
    """
    actual, forecast = _pair(actual, forecast)
    total = np.abs(actual).sum()
    if total == 0:
        raise ValueError("WAPE is not defined: the actuals sum to zero.")
    return float(np.abs(actual - forecast).sum() / total)


def mape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Mean absolute percentage error, by scikit-learn, refusing actuals of zero.

    Parameters
    ----------
    actual, forecast : array_like, shape (n,)
        In the same unit; no actual may be zero.

    Returns
    -------
    float
        A share.

    Raises
    ------
    ValueError
        On different shapes, missing values or a zero among the actuals (where
        scikit-learn would divide by a tiny constant and return about 1e15).
    """
    from sklearn.metrics import mean_absolute_percentage_error

    actual, forecast = _pair(actual, forecast)
    if zeros := int((actual == 0).sum()):
        raise ValueError(f"MAPE is not defined: {zeros} of {actual.size} actuals are zero.")
    return float(mean_absolute_percentage_error(actual, forecast))


def score_forecasts(
    forecasts: pd.DataFrame,
    train: pd.DataFrame,
    season: int,
    models: Sequence[str],
) -> pd.DataFrame:
    """Score the forecasts of one origin.

    Parameters
    ----------
    forecasts : DataFrame
        Columns ``unique_id``, ``ds``, ``y`` and one for each model.
    train : DataFrame
        Columns ``unique_id``, ``ds``, ``y``: what was known at the origin. The
        denominators of MASE and RMSSE come from here, never from the test.
    season : int
        Periods in a season (4 for quarters).
    models : sequence of str
        Columns of ``forecasts`` to score.

    Returns
    -------
    DataFrame
        Index model; columns ``WAPE`` (pooled over all series), ``MASE`` and
        ``RMSSE`` (mean over series).

    Raises
    ------
    ValueError
        If a forecast or an actual is missing, a test period is also a training
        period, or a series is absent from ``train`` or constant there.
    """
    from utilsforecast.losses import mase, rmsse

    overlap = forecasts[["unique_id", "ds"]].merge(train[["unique_id", "ds"]])
    if len(overlap):
        raise ValueError(
            f"{len(overlap)} test periods also stand in the training frame: cut the training "
            "frame at the origin."
        )
    models = list(models)
    for model in models:
        _pair(forecasts["y"], forecasts[model])
    columns = forecasts[["unique_id", "ds", "y", *models]]
    if unknown := set(forecasts["unique_id"]) - set(train["unique_id"]):
        raise ValueError(
            f"{len(unknown)} series have no training rows (such as {min(unknown)!r}): MASE and "
            "RMSSE are not defined for them; score them apart."
        )
    train = train.sort_values(["unique_id", "ds"])  # utilsforecast takes the order as time
    scaled = {
        "MASE": mase(columns, models, seasonality=season, train_df=train),
        "RMSSE": rmsse(columns, models, seasonality=season, train_df=train),
    }
    endless = scaled["MASE"].loc[~np.isfinite(scaled["MASE"][models]).all(axis=1), "unique_id"]
    if len(endless):
        raise ValueError(
            f"{len(endless)} series repeat themselves exactly in the training rows (such as "
            f"{endless.iloc[0]!r}): MASE and RMSSE divide by zero there; score them apart."
        )
    return pd.DataFrame(
        {
            "WAPE": {m: wape(columns["y"], columns[m]) for m in models},
            **{name: values[models].mean() for name, values in scaled.items()},
        }
    )


def wape_difference_interval(
    forecasts: pd.DataFrame,
    model: str,
    baseline: str,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Paired bootstrap interval of the difference in pooled WAPE.

    Whole series are resampled, so that the dependence between the periods of
    one series stays intact.

    Parameters
    ----------
    forecasts : DataFrame
        Columns ``unique_id``, ``y``, ``model`` and ``baseline``.
    model, baseline : str
        The difference is WAPE(model) − WAPE(baseline): negative is better.
    level : float
        Confidence level.
    n_resamples, seed : int
        Of the bootstrap (``scipy.stats.bootstrap``, percentile method).

    Returns
    -------
    tuple of float
        Difference, lower end, upper end.
    """
    from scipy.stats import bootstrap

    for column in (model, baseline):
        _pair(forecasts["y"], forecasts[column])
    sums = (
        forecasts.assign(
            model_error=(forecasts["y"] - forecasts[model]).abs(),
            baseline_error=(forecasts["y"] - forecasts[baseline]).abs(),
            actual=forecasts["y"].abs(),
        )
        .groupby("unique_id")[["model_error", "baseline_error", "actual"]]
        .sum()
    )

    def difference(model_error, baseline_error, actual, axis):
        gain = model_error.sum(axis=axis) - baseline_error.sum(axis=axis)
        return gain / actual.sum(axis=axis)

    data = tuple(sums[c].to_numpy() for c in sums)
    interval = bootstrap(
        data,
        difference,
        paired=True,
        confidence_level=level,
        n_resamples=n_resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(difference(*data, axis=0)), float(interval.low), float(interval.high)
