"""A forecast as a range: P10, P50 and P90 of what is still to come, scored and conformalised.

Rows are cases with a truth; a forecast is a frame of the same index with the columns ``p10``,
``p50``, ``p90`` in one unit. It covers 80 % if it is right.

Examples
--------
>>> forecast = as_forecast(np.array([[5.0, 3.0, 9.0], [1.0, 2.0, 4.0]]), pd.RangeIndex(2))
>>> forecast.to_numpy().tolist()
[[3.0, 5.0, 9.0], [1.0, 2.0, 4.0]]
>>> rows = pd.DataFrame({"truth": [6.0, 9.0]})
>>> score(rows, forecast)[["coverage", "width", "interval_score"]].round(1).to_numpy().tolist()
[[0.5, 4.5, 29.5]]
>>> widened(forecast, 5.0)["p90"].tolist()
[14.0, 9.0]
>>> hours = pd.to_datetime(["2025-10-06 10:00", "2025-10-06 12:00"])
>>> jumps(pd.DataFrame({"parcel": 7, "known_at": hours}), forecast, "parcel").tolist()
[nan, -1.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from casebook.evaluate import conformal
from casebook.evaluate.quantiles import interval_score, pinball_losses, uncrossed

LEVELS = (0.1, 0.5, 0.9)
NAMES = ["p10", "p50", "p90"]
COVER = 0.8
TRUTH = "truth"


class Forecaster(Protocol):
    """A fitted model of ranges."""

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of rows."""


def as_forecast(values: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """Return quantiles as a forecast: in order, and not before now."""
    return pd.DataFrame(np.maximum(uncrossed(values), 0.0), index, NAMES)


def sane(values: np.ndarray, most: float) -> np.ndarray:
    """Return which rows of quantiles, shape (n, 3), are numbers from 0 to ``most``."""
    return (np.isfinite(values) & (values >= 0) & (values <= most)).all(axis=1)


def usable(values: np.ndarray, most: float) -> np.ndarray:
    """Return quantiles of which a row at least is sane; for a breaker.

    Raises
    ------
    ValueError
        If none is: the model talks nonsense.
    """
    if len(values) and not sane(values, most).any():
        raise ValueError(f"no row of {len(values)} is usable, such as {values[0]}")
    return values


# Scores -------------------------------------------------------------------------------


def losses(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Return the losses of each row.

    Parameters
    ----------
    rows : DataFrame
        With ``truth``.
    forecast : DataFrame
        ``p10``, ``p50``, ``p90``; the same index.

    Returns
    -------
    DataFrame
        ``covered``, ``late`` (the truth is above P90), ``width``, ``interval_score``, ``pinball``
        (mean of the three), ``error`` (absolute, of P50).

    Raises
    ------
    ValueError
        If the rows are not those of the forecast.
    """
    if not rows.index.equals(forecast.index):
        raise ValueError("rows and forecast have different indexes: score what was forecast.")
    y, quantiles = rows[TRUTH].to_numpy(), forecast[NAMES].to_numpy()
    low, middle, high = quantiles.T
    each = [pinball_losses(y, quantiles[:, k], level) for k, level in enumerate(LEVELS)]
    return pd.DataFrame(
        {
            "covered": (y >= low) & (y <= high),
            "late": y > high,
            "width": high - low,
            "interval_score": interval_score(y, low, high, COVER),
            "pinball": np.mean(each, axis=0),
            "error": np.abs(y - middle),
        },
        rows.index,
    )


def score(
    rows: pd.DataFrame, forecast: pd.DataFrame, by: str | Sequence[str] | pd.Series | None = None
) -> pd.DataFrame:
    """Score a forecast, over all rows or by group.

    Parameters
    ----------
    rows, forecast
        As for :func:`losses`.
    by : str, sequence of str or Series, optional
        Columns of ``rows``, or a group for each of them.

    Returns
    -------
    DataFrame
        ``n``, ``coverage``, ``late``, ``width``, ``interval_score``, ``pinball``, ``mae``; one row
        ("all"), or one for each group.
    """
    each = losses(rows, forecast).rename(columns={"covered": "coverage", "error": "mae"})
    if by is None:
        by = pd.Series("all", rows.index, name="rows")
    keys = (
        [rows[name] for name in ([by] if isinstance(by, str) else by)]
        if not isinstance(by, pd.Series)
        else [by]
    )
    groups = each.groupby(keys, sort=True, observed=True)
    return pd.concat([groups.size().rename("n"), groups.mean()], axis=1)


def compare(
    rows: pd.DataFrame, forecasts: Mapping[str, pd.DataFrame], by: str | None = None
) -> pd.DataFrame:
    """Score several forecasts of the same rows.

    Returns
    -------
    DataFrame
        As of :func:`score`, with the forecast's name (``model``) in the index, in order.
    """
    parts = {name: score(rows, forecast, by) for name, forecast in forecasts.items()}
    table = pd.concat(parts, names=["model"])
    return table.droplevel(-1) if by is None else table


def daily_sums(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Return by day of ``known_at`` the sums of the losses, and ``n``; the index is ``day``."""
    each = losses(rows, forecast)[["covered", "width", "interval_score"]].assign(n=1)
    return each.groupby(rows["known_at"].dt.normalize().rename("day")).sum()


def rolling_means(daily: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return means over the last days from sums of each day, such as :func:`daily_sums`.

    Parameters
    ----------
    daily : DataFrame
        Index of days, which may have gaps; sums, and ``n`` of how many.
    days : int

    Returns
    -------
    DataFrame
        A row for each day; the means, and ``n``.
    """
    sums = daily.asfreq("D", fill_value=0).rolling(days, min_periods=1).sum()
    return sums.drop(columns="n").div(sums["n"], axis=0).assign(n=sums["n"].astype(int))


def jumps(rows: pd.DataFrame, forecast: pd.DataFrame, case: str) -> pd.Series:
    """Return by how much each new forecast of a case moved its end; NaN at its first one.

    Parameters
    ----------
    rows : DataFrame
        ``known_at`` (when it was forecast) and the column ``case``.
    forecast : DataFrame
        ``p50`` in hours from then; the same index.
    """
    due = rows["known_at"] + pd.to_timedelta(forecast["p50"], unit="h")
    order = rows.sort_values([case, "known_at"]).index
    moved = due.loc[order].groupby(rows.loc[order, case]).diff()
    return (moved / pd.Timedelta(hours=1)).reindex(rows.index)


# Conformal corrections ----------------------------------------------------------------


def scores(rows: pd.DataFrame, forecast: pd.DataFrame, truth: str = "remaining") -> np.ndarray:
    """Return by how much each outcome lay outside of its interval; negative inside."""
    return conformal.cqr_scores(rows[truth], forecast["p10"], forecast["p90"])


def widened(forecast: pd.DataFrame, correction: np.ndarray | float) -> pd.DataFrame:
    """Return a forecast whose interval is wider on both sides; P50 stays inside of it.

    Parameters
    ----------
    forecast : DataFrame
    correction : ndarray or float
        Negative makes it narrower.
    """
    low, high = forecast["p10"] - correction, forecast["p90"] + correction
    middle = (low + high) / 2
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    return pd.DataFrame(
        {
            "p10": np.maximum(low, 0.0),
            "p50": np.clip(forecast["p50"], np.maximum(low, 0.0), np.maximum(high, 0.0)),
            "p90": np.maximum(high, 0.0),
        },
        forecast.index,
    )


@dataclass(frozen=True)
class Conformal:
    """A forecaster with the correction that its calibration rows ask for.

    Attributes
    ----------
    model : Forecaster
    scores : ndarray
        Of the calibration rows.
    by : str
        Column of groups that each have a correction of their own; "" for one for all.
    groups : ndarray of str, optional
        Of the calibration rows.
    """

    model: Forecaster
    scores: np.ndarray
    by: str = ""
    groups: np.ndarray | None = None

    def correction(self, rows: pd.DataFrame) -> np.ndarray:
        """Return what is added on both sides of each interval."""
        if not self.by:
            return np.full(len(rows), conformal.quantile(self.scores, COVER))
        return conformal.by_group(self.scores, self.groups, rows[self.by].to_numpy(str), COVER)

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of rows."""
        return widened(self.model.predict(rows), self.correction(rows))


def conformalise(model: Forecaster, rows: pd.DataFrame, by: str = "") -> Conformal:
    """Calibrate a fitted forecaster on rows that it was not trained on (CQR).

    Parameters
    ----------
    model : Forecaster
    rows : DataFrame
        With ``remaining``.
    by : str
        Column of groups: the coverage then holds for each of them that is large enough.
    """
    groups = rows[by].to_numpy(str) if by else None
    return Conformal(model, scores(rows, model.predict(rows)), by, groups)


def follower(
    model: Forecaster, calibration: pd.DataFrame, gamma: float = 0.0005, window: int = 1000
) -> conformal.Adaptive:
    """Return a correction that starts from the calibration rows and follows what becomes known.

    Parameters
    ----------
    model : Forecaster
    calibration : DataFrame
        With ``remaining`` and ``label_at``.
    gamma, window
        As of :class:`casebook.evaluate.conformal.Adaptive`.
    """
    start = calibration.sort_values("label_at", kind="stable")
    return conformal.Adaptive(scores(start, model.predict(start)), COVER, gamma, window)


def adapted(model: Forecaster, follows: conformal.Adaptive, rows: pd.DataFrame) -> pd.DataFrame:
    """Forecast a stream with a correction that follows the outcomes known by then.

    Parameters
    ----------
    model : Forecaster
    follows : Adaptive
        From :func:`follower`; it has learned the stream afterwards.
    rows : DataFrame
        After the calibration: ``known_at`` (when it is predicted), ``label_at`` and
        ``remaining`` where they are known.

    Returns
    -------
    DataFrame
        The forecast, with ``correction`` and ``alpha``.
    """
    forecast = model.predict(rows)
    found = conformal.adaptive(
        rows["known_at"].to_numpy("datetime64[s]"),
        rows["label_at"].to_numpy("datetime64[s]"),
        scores(rows, forecast),
        follows,
    )
    made = widened(forecast, found.correction)
    return made.assign(correction=found.correction, alpha=found.alpha)
