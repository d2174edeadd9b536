"""Walk-forward at all levels, scores and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.contract import KEYS
from casebook.cases.demand_forecasting.direct import Forecaster
from casebook.cases.demand_forecasting.features import HORIZON, aggregate_known
from casebook.cases.demand_forecasting.world import World, oracle
from casebook.evaluate.intervals import pigeonhole
from casebook.forecasting.hierarchy import Hierarchy, aggregate, reconcile

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


def at_origin(
    panel: pd.DataFrame, hierarchy: Hierarchy, origin: pd.Timestamp, horizon: int = HORIZON
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cut a panel at an origin, at all levels.

    Parameters
    ----------
    panel : DataFrame
        Bottom series: ``unique_id``, ``ds``, ``y`` and those of the known features
        (:data:`~.features.KNOWN`) that a forecaster needs.
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
    origin, step = pd.Timestamp(origin), period(panel["ds"])
    end = origin + horizon * step
    past = panel[panel["ds"] < origin]
    ahead = panel[(panel["ds"] >= origin) & (panel["ds"] < end)]
    if past.empty or panel["ds"].max() + step < end:
        raise ValueError(
            f"the origin {origin:%Y-%m-%d} needs data before it and up to {end - step:%Y-%m-%d}; "
            f"the panel holds {panel['ds'].min():%Y-%m-%d} to {panel['ds'].max():%Y-%m-%d}: choose "
            "another origin"
        )
    recent = past[past["ds"] >= origin - pd.Timedelta(days=364)]
    volume = recent.groupby("unique_id")["y"].mean()
    train = aggregate(past, hierarchy).merge(
        aggregate_known(past, hierarchy, volume), on=["level", *KEYS]
    )
    future = aggregate_known(ahead.drop(columns="y"), hierarchy, volume)
    return train, future, aggregate(ahead, hierarchy)


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
    if not len(origins):
        raise ValueError("no origins: give at least one first day to forecast")
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
                values = forecaster(shown.copy(), asked)
                moved = isinstance(values, pd.Series) and not values.index.equals(asked.index)
                if moved or np.shape(values) != (len(rows),):
                    raise ValueError(
                        f"{name} returned {np.size(values)} forecasts for {len(rows)} rows, or in "
                        "another order: it must return one for each row of `future`, in their order"
                    )
                result[name] = np.asarray(values, float)
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


def complete_oracle(world: World, origin: pd.Timestamp, horizon: int = HORIZON) -> pd.DataFrame:
    """Return the world's oracle, with the routes that open within the horizon.

    Shock and break are those of a depot, so a route that opens takes them from the routes that
    were open.

    Parameters
    ----------
    world : World
    origin : Timestamp
        First day to forecast.
    horizon : int
        Days.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``oracle``.
    """
    last = origin + pd.Timedelta(days=horizon - 1)
    rows = world.truth.loc[world.truth["ds"].between(origin, last), [*KEYS, "base"]]
    rows = rows.merge(oracle(world, origin, horizon), on=KEYS, how="left")
    depot = rows["unique_id"].str.rpartition("/")[0]
    state = (rows["oracle"] / rows["base"]).groupby([depot, rows["ds"]]).transform("mean")
    return rows[KEYS].assign(oracle=rows["oracle"].fillna(rows["base"] * state))


def add_oracle(result: pd.DataFrame, world: World, hierarchy: Hierarchy) -> pd.DataFrame:
    """Add the oracle of all levels: the sums of the routes' conditional means.

    Parameters
    ----------
    result : DataFrame
        See :func:`walk_forward`.
    world : World
    hierarchy : Hierarchy

    Returns
    -------
    DataFrame
        ``result`` with the column ``oracle``.
    """
    parts = [
        aggregate(complete_oracle(world, origin), hierarchy, ["oracle"]).assign(origin=origin)
        for origin in result["origin"].unique()
    ]
    return result.merge(pd.concat(parts), on=["level", *KEYS, "origin"], how="left")


# Scores ------------------------------------------------------------------------------


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
        See :func:`walk_forward`.
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
    parts = []
    for model in models:
        error = (rows["y"] - rows[model]).abs()
        size = rows["y"].abs() + rows[model].abs()
        parts.append(
            rows[[*dict.fromkeys([*by, "unique_id", "origin"]), "y", "mae", "rmse"]].assign(
                model=model,
                error=error,
                square=error**2,
                smape=np.where(size > 0, 2 * error / size.where(size > 0, 1), 0.0 * error),
                mape=np.where(rows["y"] != 0, error / rows["y"].where(rows["y"] != 0, 1), np.nan),
                missing=error.isna(),
            )
        )
    errors = pd.concat(parts, ignore_index=True)
    groups = [*by, "model"]
    cells = errors.groupby([*dict.fromkeys([*groups, "unique_id", "origin"])], sort=False)
    cells = cells[["error", "square", "mae", "rmse"]].mean()
    cells["MASE"] = cells["error"] / cells["mae"]
    cells["RMSSE"] = np.sqrt(cells["square"]) / cells["rmse"]
    cells["unscaled"] = cells["mae"].isna()
    scaled = cells.groupby(groups, sort=False).agg(
        MASE=("MASE", "mean"), RMSSE=("RMSSE", "mean"), unscaled=("unscaled", "sum")
    )
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
        See :func:`walk_forward`; of one level.
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


def breaking_cases() -> pd.DataFrame:
    """Return small examples in which a metric says something useless.

    Returns
    -------
    DataFrame
        ``case``, ``metric``, ``actual``, ``forecast``, ``value``, ``lesson``.
    """
    from casebook.evaluate.metrics import wape

    def smape(y: list, f: list) -> float:
        y, f = np.asarray(y, float), np.asarray(f, float)
        return float(np.mean(np.where(y + f > 0, 2 * np.abs(y - f) / np.maximum(y + f, 1e-300), 0)))

    def mape(y: list, f: list) -> float:
        y, f = np.asarray(y, float), np.asarray(f, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.mean(np.abs(y - f) / y))

    def mase(y: list, f: list, train: list) -> float:
        scale = np.abs(np.diff(train)).mean()
        with np.errstate(divide="ignore"):
            return float(np.divide(np.mean(np.abs(np.subtract(y, f))), scale))

    sparse, one = [0, 0, 1, 0], [0.25] * 4
    rows = [
        ("a day without parcels", "MAPE", sparse, one, mape(sparse, one), "not defined at 0"),
        ("twice too high", "MAPE", [10], [20], mape([10], [20]), "an error upwards has no limit …"),
        ("nothing forecast", "MAPE", [10], [0], mape([10], [0]), "… downwards it ends at 100 %"),
        ("one parcel, none forecast", "sMAPE", [1], [0], smape([1], [0]), "its maximum, 200 % …"),
        (
            "a thousand too few",
            "sMAPE",
            [10000],
            [9000],
            smape([10000], [9000]),
            "… for one parcel, a twentieth of it for a thousand",
        ),
        ("sparse, mean forecast", "sMAPE", sparse, one, smape(sparse, one), "2 on each empty day"),
        ("sparse, zero forecast", "sMAPE", sparse, [0] * 4, smape(sparse, [0] * 4), "zero wins"),
        ("sparse, zero forecast", "WAPE", sparse, [0] * 4, wape(sparse, [0] * 4), "zero beats …"),
        ("sparse, mean forecast", "WAPE", sparse, one, wape(sparse, one), "… the true mean"),
        (
            "a constant past",
            "MASE",
            [5, 6],
            [5, 5],
            mase([5, 6], [5, 5], [5, 5, 5]),
            "divides by zero",
        ),
    ]
    columns = ["case", "metric", "actual", "forecast", "value", "lesson"]
    return pd.DataFrame(rows, columns=columns)
