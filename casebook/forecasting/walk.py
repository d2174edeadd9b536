"""Walk-forward: base forecasts of all levels from several origins, and their reconciliation.

Examples
--------
>>> [f"{day:%d %b}" for day in planning_origins(pd.Timestamp("2024-06-30"), n=2)]
['06 May', '03 Jun']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.forecasting.hierarchy import Hierarchy, aggregate, reconcile
from casebook.forecasting.scores import period

KEYS = ["unique_id", "ds"]
#: Periods ahead.
HORIZON = 28
#: Takes rows before an origin (``unique_id``, ``ds``, ``y``) and the rows to forecast; returns
#: values in the order of the latter.
Forecaster = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]


def planning_origins(
    last_day: pd.Timestamp, n: int = 6, skip: int = 0, horizon: int = HORIZON, freq: str = "D"
) -> list[pd.Timestamp]:
    """Return origins one horizon apart, the last of them one horizon before the end.

    Parameters
    ----------
    last_day : Timestamp
        Last period of the panel.
    n : int
        Origins.
    skip : int
        Horizons to leave at the end: the six test origins, for those of the validation.
    horizon : int
        Periods.
    freq : str
        Of pandas.

    Returns
    -------
    list of Timestamp
        In time order; each is the first period to forecast.
    """
    step = pd.tseries.frequencies.to_offset(freq)
    end = pd.Timestamp(last_day) + step
    return [end - horizon * k * step for k in range(n + skip, skip, -1)]


def aggregate_known(frame: pd.DataFrame, hierarchy: Hierarchy, volume: pd.Series) -> pd.DataFrame:
    """Return known features of all nodes: volume-weighted means over their series of the day.

    Parameters
    ----------
    frame : DataFrame
        ``unique_id`` (bottom series), ``ds``; all other columns of numbers but ``y`` are known.
    hierarchy : Hierarchy
    volume : Series
        By series, from before the origin; a series without any takes the smallest one.

    Returns
    -------
    DataFrame
        ``level``, ``unique_id``, ``ds`` and the known columns; bottom series keep their values.
    """
    known = [name for name in frame.select_dtypes("number") if name != "y"]
    weight = frame["unique_id"].map(volume)
    weight = weight.fillna(volume.min()).clip(lower=1e-3).to_numpy()
    weighted = frame[known].mul(weight, axis=0).assign(weight=weight)
    frames = []
    for level in hierarchy.tags:
        node = frame["unique_id"].map(hierarchy.table[level])
        sums = weighted.groupby([node, frame["ds"]]).sum()
        means = sums[known].div(sums["weight"], axis=0).reset_index()
        frames.append(means.assign(level=level))
    return pd.concat(frames, ignore_index=True)[["level", "unique_id", "ds", *known]]


def cut(
    panel: pd.DataFrame, origin: pd.Timestamp, horizon: int = HORIZON
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a panel before an origin, and those of the periods to forecast.

    Parameters
    ----------
    panel, origin, horizon
        As for :func:`at_origin`, which raises the same errors.
    """
    origin, step = pd.Timestamp(origin), period(panel["ds"])
    end = origin + horizon * step
    past = panel[panel["ds"] < origin]
    if past.empty or panel["ds"].max() + step < end:
        raise ValueError(
            f"the origin {origin:%Y-%m-%d} needs data before it and up to {end - step:%Y-%m-%d}; "
            f"the panel holds {panel['ds'].min():%Y-%m-%d} to {panel['ds'].max():%Y-%m-%d}: choose "
            "another origin"
        )
    ahead = panel[(panel["ds"] >= origin) & (panel["ds"] < end)]
    return past, ahead.reset_index(drop=True)


def at_origin(
    panel: pd.DataFrame, hierarchy: Hierarchy, origin: pd.Timestamp, horizon: int = HORIZON
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cut a panel at an origin, at all levels.

    Parameters
    ----------
    panel : DataFrame
        Bottom series: ``unique_id``, ``ds``, ``y`` and known features, columns of
        numbers that a forecaster needs.
    hierarchy : Hierarchy
    origin : Timestamp
        First period to forecast.
    horizon : int
        Periods of the panel's frequency: days, weeks, quarters.

    Returns
    -------
    train : DataFrame
        ``level``, ``unique_id``, ``ds``, ``y`` and the known features, before the origin.
    future : DataFrame
        The same of the days to forecast, without ``y``.
    actual : DataFrame
        ``level``, ``unique_id``, ``ds``, ``y`` of these periods: never shown to a forecaster.

    Raises
    ------
    ValueError
        If nothing is known before the origin, or the panel ends before the horizon does.
    """
    origin = pd.Timestamp(origin)
    past, ahead = cut(panel, origin, horizon)
    recent = past[past["ds"] >= origin - pd.Timedelta(days=364)]
    volume = recent.groupby("unique_id")["y"].mean()
    train = aggregate(past, hierarchy).merge(
        aggregate_known(past, hierarchy, volume), on=["level", *KEYS]
    )
    future = aggregate_known(ahead.drop(columns="y"), hierarchy, volume)
    return train, future, aggregate(ahead, hierarchy)


def _in_order(name: str, values: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
    """Return a forecaster's values; refuse too few or many, and those in another order."""
    moved = isinstance(values, pd.Series) and not values.index.equals(asked.index)
    if moved or np.shape(values) != (len(asked),):
        raise ValueError(
            f"{name} returned {np.size(values)} forecasts for {len(asked)} rows, or in another "
            "order: it must return one for each row of `future`, in their order"
        )
    return np.asarray(values, float)


def _need_origins(origins: Sequence[pd.Timestamp]) -> None:
    if not len(origins):
        raise ValueError("no origins: give at least one first day to forecast")


def walk_forward(
    panel: pd.DataFrame,
    hierarchy: Hierarchy,
    forecasters: Mapping[str, Forecaster],
    origins: Sequence[pd.Timestamp],
    horizon: int = HORIZON,
    only_above: Sequence[str] = (),
    levels: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Make base forecasts at all levels, or at some, from several origins.

    Each forecaster is called twice at an origin: for the bottom series, and for the nodes above
    them. It never sees a day from the origin on.

    Parameters
    ----------
    panel : DataFrame
        As for :func:`at_origin`; any order of rows.
    hierarchy : Hierarchy
    forecasters : mapping of str to callable
        Their values stand in the order of the rows asked for; a Series in another is refused.
    origins : sequence of Timestamp
        At least one.
    horizon : int
        Periods of the panel's frequency.
    only_above : sequence of str
        Forecasters that are too slow, or make no sense, for bottom series: NaN there.
    levels : sequence of str, optional
        To forecast; a forecaster is shown the series of these alone.

    Returns
    -------
    DataFrame
        ``level``, ``unique_id``, ``ds``, ``origin``, ``y`` and one column for each forecaster.

    Raises
    ------
    ValueError
        If there is no origin, an origin lies beyond the panel, a forecaster does not return one
        value for each row in their order, or a level is unknown.
    """
    _need_origins(origins)
    results, (*above, bottom) = [], list(hierarchy.tags)
    wanted = list(hierarchy.tags) if levels is None else list(levels)
    if unknown := set(wanted) - set(hierarchy.tags):
        raise ValueError(f"no level {min(unknown)!r}: the levels are {list(hierarchy.tags)}")
    groups = [(set(above) & set(wanted), False), ({bottom} & set(wanted), True)]
    for origin in origins:
        train, future, actual = at_origin(panel, hierarchy, origin, horizon)
        for group, is_bottom in groups:
            if not group:
                continue
            shown = train[train["level"].isin(group)].drop(columns="level")
            rows = future[future["level"].isin(group)]
            result = rows[["level", *KEYS]].assign(origin=origin)
            for name, forecaster in forecasters.items():
                if is_bottom and name in only_above:
                    result[name] = np.nan
                    continue
                asked = rows.drop(columns="level").reset_index(drop=True)
                result[name] = _in_order(name, forecaster(shown.copy(), asked), asked)
            results.append(result.merge(actual, on=["level", *KEYS]))
    columns = ["level", *KEYS, "origin", "y", *forecasters]
    return pd.concat(results, ignore_index=True)[columns]


def earlier_errors(result: pd.DataFrame, column: str, origin: pd.Timestamp) -> pd.DataFrame:
    """Return the errors of the forecasts from earlier origins: what is known of them at this one.

    Parameters
    ----------
    result : DataFrame
        See :func:`walk_forward`.
    column : str
        Forecasts.
    origin : Timestamp

    Returns
    -------
    DataFrame, shape (days, nodes)
        Actual minus forecast, up to four weeks ahead: what MinT weighs by. Fitted values of the
        training rows would flatter a flexible model.
    """
    past = result[(result["origin"] < origin) & (result["ds"] < origin)]
    errors = past["y"] - past[column]
    return past.assign(error=errors).pivot(index="ds", columns="unique_id", values="error")


def add_reconciled(
    result: pd.DataFrame,
    hierarchy: Hierarchy,
    column: str,
    origins: Sequence[pd.Timestamp],
    methods: Sequence[str] = ("bottom_up", "top_down", "mint"),
) -> tuple[pd.DataFrame, list[str]]:
    """Reconcile base forecasts from each origin.

    Parameters
    ----------
    result : DataFrame
        See :func:`walk_forward`; with origins before ``origins`` for MinT's errors.
    hierarchy : Hierarchy
    column : str
        Base forecasts.
    origins : sequence of Timestamp
        To reconcile: these rows are returned.
    methods : sequence of str
        See :func:`casebook.forecasting.hierarchy.reconcile`.

    Returns
    -------
    reconciled : DataFrame
        The rows of ``origins`` with a column ``<column>_<method>`` for each method.
    notes : list of str
        What MinT had to do to its covariance, by origin.
    """
    parts, notes = [], []
    for origin in origins:
        rows = result[result["origin"] == origin].copy()
        for method in methods:
            errors = earlier_errors(result, column, origin) if method in ("wls", "mint") else None
            rows[f"{column}_{method}"], note = reconcile(rows, hierarchy, method, column, errors)
            if note:
                notes.append(f"{origin:%Y-%m-%d}: {note}")
        parts.append(rows)
    return pd.concat(parts, ignore_index=True), notes


def route_forecasts(
    panel: pd.DataFrame,
    forecasters: Mapping[str, Forecaster],
    origins: Sequence[pd.Timestamp],
    horizon: int = HORIZON,
) -> pd.DataFrame:
    """Forecast the bottom series alone: all that bottom-up needs, at half the cost of all levels.

    Parameters
    ----------
    panel, forecasters, origins, horizon
        As for :func:`walk_forward`, which raises the same errors.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``origin``, ``y`` and one column for each forecaster.
    """
    _need_origins(origins)
    parts = []
    for origin in origins:
        train, ahead = cut(panel, origin, horizon)
        asked = ahead.drop(columns="y")
        made = {
            name: _in_order(name, forecast(train, asked), asked)
            for name, forecast in forecasters.items()
        }
        parts.append(ahead[[*KEYS, "y"]].assign(origin=origin, **made))
    return pd.concat(parts, ignore_index=True)


def bottom_up(routes: pd.DataFrame, tree: Hierarchy, columns: Sequence[str]) -> pd.DataFrame:
    """Sum actuals and forecasts of bottom series to all levels, origin by origin."""
    sums = [
        aggregate(rows, tree, ["y", *columns]).assign(origin=origin)
        for origin, rows in routes.groupby("origin")
    ]
    return pd.concat(sums, ignore_index=True)
