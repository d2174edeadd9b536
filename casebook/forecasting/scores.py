"""Scores of forecasts by level and origin, their scales, and the interval of a duel.

Frames are long: ``unique_id`` (series), ``ds`` (time), ``origin`` (first period of a forecast),
``y`` and one column of forecasts for each model.

Examples
--------
>>> import pandas as pd
>>> ds = pd.date_range("2024-01-01", periods=4)
>>> past = pd.DataFrame({"unique_id": "a", "ds": ds[:3], "y": [1.0, 2.0, 4.0]})
>>> ahead = pd.DataFrame({"unique_id": "a", "ds": ds[3:], "origin": ds[3:], "y": 4.0, "m": 3.0})
>>> score(ahead, past, ["m"], by=["origin"], season=1)[["model", "WAPE", "MASE"]].values.tolist()
[['m', 0.25, 0.6666666666666666]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import pigeonhole

#: Days in a week: the season of daily data.
SEASON = 7
#: What :func:`paired_interval` draws anew, independently of each other.
RESAMPLED = ("origin", "unique_id")


def period(days: pd.Series) -> pd.tseries.offsets.BaseOffset:
    """Return the frequency of data from their days: days, weeks, quarters, …

    Parameters
    ----------
    days : Series of datetime
        In any order, with repeats. A single day may be missing where the frequency is a fixed
        number of days.

    Returns
    -------
    DateOffset

    Raises
    ------
    ValueError
        If the days follow no calendar frequency.
    """
    index = pd.DatetimeIndex(np.sort(pd.unique(days)))
    if len(index) < 3:
        return pd.offsets.Day()
    if found := pd.infer_freq(index):
        return pd.tseries.frequencies.to_offset(found)
    steps = np.diff(index.to_numpy())
    if (steps % steps.min() != np.timedelta64(0)).any():
        raise ValueError(
            f"the days from {index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d} follow no frequency: fill "
            "the missing periods first"
        )
    return pd.tseries.frequencies.to_offset(pd.Timedelta(steps.min()))


def scales(history: pd.DataFrame, origin: pd.Timestamp, season: int = SEASON) -> pd.DataFrame:
    """Return what MASE and RMSSE divide by: errors of the seasonal naive before the origin.

    Parameters
    ----------
    history : DataFrame
        ``unique_id``, ``ds``, ``y`` of all nodes; what lies at or after the origin is not used.
    origin : Timestamp
    season : int
        Periods.

    Returns
    -------
    DataFrame
        Index ``unique_id``; ``mae`` and ``rmse`` of ``y[t] - y[t - season]``. NaN for a series that
        is shorter than two seasons or repeats itself exactly: it has no scale. A period without a
        row takes no other's place.
    """
    past = history[history["ds"] < origin].pivot(index="ds", columns="unique_id", values="y")
    change = past.asfreq(period(past.index)).diff(season)
    long_enough = change.notna().sum() >= season
    frame = pd.DataFrame({"mae": change.abs().mean(), "rmse": np.sqrt((change**2).mean())})
    return frame.where(long_enough & (frame["mae"] > 0), np.nan)


def _errors(rows: pd.DataFrame, model: str, keys: Sequence[str]) -> pd.DataFrame:
    """Return a model's errors, row by row, in every form that a score needs."""
    y, error = rows["y"], (rows["y"] - rows[model]).abs()
    size = y.abs() + rows[model].abs()
    return rows[[*keys, "y", "mae", "rmse"]].assign(
        model=model,
        error=error,
        square=error**2,
        smape=np.where(size > 0, 2 * error / size.where(size > 0, 1), 0.0 * error),
        mape=np.where(y != 0, error / y.where(y != 0, 1), np.nan),
        missing=error.isna(),
    )


def _scaled(errors: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Return MASE and RMSSE, means over series and origins, and how many have no scale."""
    cells = errors.groupby([*dict.fromkeys([*groups, "unique_id", "origin"])], sort=False)
    cells = cells[["error", "square", "mae", "rmse"]].mean()
    cells["MASE"] = cells["error"] / cells["mae"]
    cells["RMSSE"] = np.sqrt(cells["square"]) / cells["rmse"]
    cells["unscaled"] = cells["mae"].isna()
    return cells.groupby(groups, sort=False).agg(
        MASE=("MASE", "mean"), RMSSE=("RMSSE", "mean"), unscaled=("unscaled", "sum")
    )


def score(
    result: pd.DataFrame,
    history: pd.DataFrame,
    models: Sequence[str],
    by: Sequence[str] = ("level", "origin"),
    season: int = SEASON,
) -> pd.DataFrame:
    """Score forecasts by level and origin.

    Parameters
    ----------
    result : DataFrame
        See the module.
    history : DataFrame
        ``unique_id``, ``ds``, ``y`` of all nodes.
    models : sequence of str
        Columns of forecasts.
    by : sequence of str
        What to score apart.
    season : int
        Of MASE and RMSSE.

    Returns
    -------
    DataFrame
        ``by``, ``model``, ``WAPE`` (pooled; NaN where the actuals sum to zero: there
        :func:`casebook.evaluate.metrics.wape` refuses too), ``MASE`` and ``RMSSE`` (mean over
        series and origins with a scale), ``sMAPE`` (0 to 2; 0 where both are 0), ``MAPE`` (of the
        days with parcels), ``zeros`` (share of days without, where MAPE is not defined) and
        ``unscaled`` (series without a scale). A model with a missing forecast has no score there.
    """
    scale = pd.concat(
        scales(history, origin, season).assign(origin=origin)
        for origin in result["origin"].unique()
    )
    rows = result.merge(scale.reset_index(), on=["unique_id", "origin"], how="left")
    keys = [*dict.fromkeys([*by, "unique_id", "origin"])]
    errors = pd.concat([_errors(rows, model, keys) for model in models], ignore_index=True)
    groups = [*by, "model"]
    scaled = _scaled(errors, groups)
    errors = errors.assign(zeros=errors["y"] == 0, size=errors["y"].abs())
    pooled = errors.groupby(groups, sort=False)
    size = pooled["size"].sum()
    table = pd.DataFrame(
        {
            "WAPE": pooled["error"].sum() / size.where(size > 0),
            "sMAPE": pooled["smape"].mean(),
            "MAPE": pooled["mape"].mean(),
            "zeros": pooled["zeros"].mean(),
        }
    ).join(scaled)
    values = ["WAPE", "MASE", "RMSSE", "sMAPE", "MAPE"]
    table.loc[pooled["missing"].any(), values] = np.nan
    return table[[*values, "zeros", "unscaled"]].reset_index()


def heatmap(scores: pd.DataFrame, metric: str, levels: Sequence[str]) -> pd.DataFrame:
    """Return levels x models of one metric, the mean over what else the scores are split by.

    Parameters
    ----------
    scores : DataFrame
        See :func:`score`.
    metric : str
    levels : sequence of str
        Order of the rows.

    Returns
    -------
    DataFrame
    """
    table = scores.groupby(["level", "model"], sort=False)[metric].mean().unstack()
    return table.loc[list(levels), list(dict.fromkeys(scores["model"]))]


def paired_interval(
    result: pd.DataFrame,
    history: pd.DataFrame,
    model: str,
    baseline: str,
    metric: str = "MASE",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    season: int = SEASON,
) -> tuple[float, float, float]:
    """Paired bootstrap interval of the difference of two models, over origins and series.

    It resamples :data:`RESAMPLED`: origins and series are drawn independently of each other and a
    block is what both draws share (the pigeonhole bootstrap): days of one block depend on each
    other, and so do the series of one origin. Of the total there is one series, so that only the
    origins vary: with six of them a nominal 95 % interval covers .86. Over worlds take the paired
    t interval (:func:`casebook.evaluate.intervals.mean_interval`).

    Parameters
    ----------
    result : DataFrame
        See the module; of one level.
    history : DataFrame
        ``unique_id``, ``ds``, ``y`` of its nodes.
    model, baseline : str
        The difference is model − baseline: negative is better.
    metric : {"WAPE", "MASE", "RMSSE"}
    confidence : float
    n_resamples, seed : int
        Of the bootstrap.
    season : int
        Of MASE and RMSSE.

    Returns
    -------
    tuple of float
        Difference, lower end, upper end.

    References
    ----------
    Owen (2007), *The pigeonhole bootstrap*, Annals of Applied Statistics 1.
    """
    by = list(RESAMPLED)
    names = [model, baseline]
    if metric == "WAPE":
        error = result[names].rsub(result["y"], axis=0).abs()
        cells = error.assign(y=result["y"]).groupby([result[c] for c in by]).sum()
        gain, weight = cells[model] - cells[baseline], cells["y"]
    elif metric in ("MASE", "RMSSE"):
        scores = score(result, history, names, by, season).set_index([*by, "model"])[metric]
        cells = scores.unstack("model").dropna()
        gain, weight = cells[model] - cells[baseline], pd.Series(1.0, cells.index)
    else:
        raise ValueError(f"no metric {metric!r}: WAPE, MASE or RMSSE")
    gain, weight = (v.unstack("unique_id").fillna(0) for v in (gain, weight))
    return pigeonhole(gain, weight, n_resamples, confidence, seed)
