"""The nightly batch: from the feed of a morning to a checked forecast in a file.

:class:`Pipeline` makes one run a day and answers even when the model does not.
:class:`DriftAlarm` watches the errors once the parcels are counted and asks for a retraining.
The last part builds features and trains on a Dask cluster, with the results of one machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.feed import (
    DAY,
    KEYS,
    FeedRejected,
    as_of,
    check_contract,
    repair,
)
from casebook.project import write_whole

if TYPE_CHECKING:
    import dask.dataframe as dd
    from distributed import Client
    from lightgbm import LGBMRegressor

#: Takes the repaired panel (``unique_id``, ``ds``, ``y``) and the rows to forecast
#: (``unique_id``, ``ds``), returns parcels in the order of the latter.
Forecaster = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]
#: Days that are planned ahead, and days that a forecast's level is compared with.
HORIZON, RECENT = 28, 28
#: A country's forecast over its recent parcels, both a day. In eleven simulated worlds the
#: parcels that really came lay between 0.59 and 1.91, peak and break included.
BAND = (0.4, 2.5)

# One run --------------------------------------------------------------------------------


class ForecastRejected(ValueError):
    """A forecast breaks the contract of what the pipeline hands out."""


class PipelineFailed(RuntimeError):
    """No forecast could be made; the last file is still there."""


@dataclass(frozen=True)
class Run:
    """What one night made.

    Attributes
    ----------
    day : Timestamp
        The morning, which is also the first day that is forecast.
    forecasts : DataFrame
        ``unique_id``, ``ds``, ``y_hat`` (parcels).
    source : str
        Name of the forecaster that answered.
    log : tuple of str
        One line for each broken rule of the feed, each kind of recent repair, each fall-back.
    seconds : float
        Duration of the run.
    """

    day: pd.Timestamp
    forecasts: pd.DataFrame
    source: str
    log: tuple[str, ...]
    seconds: float


def rows_to_forecast(routes: pd.DataFrame, day: pd.Timestamp, horizon: int) -> pd.DataFrame:
    """Return the routes that are in service the day before, on each day that they stay open.

    Parameters
    ----------
    routes : DataFrame
        ``unique_id``, ``opens``, ``closes`` (empty if none).
    day : Timestamp
        First day to forecast.
    horizon : int
        Days.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, by route and day.
    """
    days = pd.DataFrame({"ds": pd.date_range(day, periods=horizon)})
    running = routes[(routes["opens"] < day) & ~(routes["closes"] <= day)]
    rows = running[["unique_id", "closes"]].merge(days, how="cross")
    rows = rows.loc[~(rows["closes"] <= rows["ds"]), KEYS]
    return rows.sort_values(KEYS, ignore_index=True)


def last_week(panel: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast each day by the same weekday of the last week: the fall-back.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``, complete to its last day.
    future : DataFrame
        ``unique_id``, ``ds``: what to forecast, after the end of ``panel``.

    Returns
    -------
    ndarray, shape (len(future),)
        A weekday that a new route has not seen takes the mean of its days so far. NaN for a
        route that is not in ``panel``.
    """
    week = panel[panel["ds"] > panel["ds"].max() - 7 * DAY]
    week = week.assign(weekday=week["ds"].dt.dayofweek)[["unique_id", "weekday", "y"]]
    wanted = future[["unique_id"]].assign(weekday=future["ds"].dt.dayofweek)
    found = wanted.merge(week, how="left", validate="many_to_one")["y"].to_numpy()
    means = wanted["unique_id"].map(week.groupby("unique_id")["y"].mean()).to_numpy(float)
    return np.where(np.isnan(found), means, found)


def check_values(values: np.ndarray, future: pd.DataFrame) -> np.ndarray:
    """Refuse forecasts that are not one finite, non-negative number for each row.

    Parameters
    ----------
    values : array_like
        What a forecaster returned.
    future : DataFrame
        The rows that it was asked for.

    Returns
    -------
    ndarray of float, shape (len(future),)

    Raises
    ------
    ForecastRejected
    """
    values = np.asarray(values, float)
    if values.shape != (len(future),):
        raise ForecastRejected(f"forecasts of shape {values.shape} for {len(future)} rows")
    for what, bad in (("not finite", ~np.isfinite(values)), ("negative", values < 0)):
        if bad.any():
            first = future[bad].iloc[0]
            raise ForecastRejected(
                f"{bad.sum()} of {len(values)} forecasts are {what}, first {first['unique_id']} "
                f"on {first['ds']:%Y-%m-%d}"
            )
    return values


def check_level(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    band: tuple[float, float] = BAND,
) -> None:
    """Refuse a forecast whose level in a country is far from that of the last four weeks.

    Parameters
    ----------
    forecasts : DataFrame
        ``unique_id``, ``ds``, ``y_hat``.
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``.
    routes : DataFrame
        ``unique_id``, ``country``.
    band : tuple of float
        Lowest and highest mean forecast a day over mean parcels a day, for each country.

    Raises
    ------
    ForecastRejected
        With the country that lies farthest out.
    """
    country = routes.set_index("unique_id")["country"]
    recent = panel[panel["ds"] > panel["ds"].max() - RECENT * DAY]
    ahead, before = (
        frame[value].groupby([frame["unique_id"].map(country), frame["ds"]]).sum()
        for frame, value in ((forecasts, "y_hat"), (recent, "y"))
    )
    # A country without a recent or a coming parcel's row has no level to compare.
    ratio = (ahead.groupby(level=0).mean() / before.groupby(level=0).mean()).dropna()
    outside = ratio[~ratio.between(*band)]
    if len(outside):
        worst = np.log(outside.clip(lower=1e-9)).abs().idxmax()
        raise ForecastRejected(
            f"the forecast for {worst} is {ratio[worst]:.2f} times the last {RECENT} days, outside "
            f"{band[0]} to {band[1]} ({len(outside)} of {len(ratio)} countries are)"
        )


def write_atomically(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file so that a reader sees the old file or the new one, never a part."""
    write_whole(Path(path), lambda file: frame.to_parquet(file, index=False))


def _in_time(call: Callable[[], np.ndarray], seconds: float) -> np.ndarray:
    """Return the result of a call, or raise TimeoutError when it takes longer."""
    answer: dict[str, object] = {}

    def work() -> None:
        try:
            answer["value"] = call()
        except Exception as error:
            answer["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in answer:
        raise answer["error"]
    if "value" not in answer:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answer["value"]


@dataclass(frozen=True)
class Pipeline:
    """The nightly batch of the network.

    Parameters
    ----------
    forecaster : callable or None
        The model, ``forecaster(panel, future)``; None when there is none to load.
    routes, calendar : DataFrame
        Master data and public holidays, as for :func:`~.feed.repair`.
    folder : Path
        Where the forecasts are written, and rows that break the feed's contract.
    fallback : callable
        Answers for the forecaster; as simple as can be.
    horizon : int
        Days ahead.
    time_limit : float
        Seconds that the forecaster has.
    band : tuple of float
        As for :func:`check_level`; the fall-back repeats last week and is not asked.

    Notes
    -----
    A forecaster that overruns its time is left to finish in a thread and its answer dropped:
    Python cannot end a thread. Where that could exhaust the machine, run it in a process of
    its own and end that.
    """

    forecaster: Forecaster | None
    routes: pd.DataFrame
    calendar: pd.DataFrame
    folder: Path
    fallback: Forecaster = last_week
    horizon: int = HORIZON
    time_limit: float = 600.0
    band: tuple[float, float] = BAND

    def path(self, day: pd.Timestamp) -> Path:
        """Return the file of a day's forecast."""
        return Path(self.folder) / f"forecast_{pd.Timestamp(day):%Y-%m-%d}.parquet"

    def quarantine(self, day: pd.Timestamp) -> Path:
        """Return the file of the rows that were refused on a day."""
        return Path(self.folder) / f"quarantine_{pd.Timestamp(day):%Y-%m-%d}.parquet"

    def run(self, reports: pd.DataFrame, day: pd.Timestamp) -> Run:
        """Make and write the forecast of a morning.

        Parameters
        ----------
        reports : DataFrame
            The feed; only what had arrived by the morning is read.
        day : Timestamp
            The morning. A second run for it makes the same file again.

        Returns
        -------
        Run

        Raises
        ------
        PipelineFailed
            When there is nothing to forecast from, or the fall-back fails too. Files that are
            there stay as they are.
        """
        start, day, log = time.perf_counter(), pd.Timestamp(day), []
        try:
            repaired = repair(self._accepted(reports, day, log), self.routes, self.calendar, day)
        except ValueError as error:
            raise PipelineFailed(f"no forecast for {day:%Y-%m-%d}: {error}") from error
        log += _recent_repairs(repaired.log, day)
        log += self._openings(day)
        future = rows_to_forecast(self.routes, day, self.horizon)
        forecasts, source = self._forecast(repaired.panel, future, day, log)
        write_atomically(forecasts.assign(source=source), self.path(day))
        return Run(day, forecasts, source, tuple(log), time.perf_counter() - start)

    def _accepted(self, reports: pd.DataFrame, day: pd.Timestamp, log: list[str]) -> pd.DataFrame:
        """Return the known rows that keep the contract; the others go into quarantine."""
        known = as_of(reports, day)
        try:
            return check_contract(known, self.routes, day)
        except FeedRejected as rejected:
            log += [f"quarantined: {line}" for line in rejected.lines]
            write_atomically(rejected.rows.astype(str), self.quarantine(day))
            return rejected.accepted

    def _openings(self, day: pd.Timestamp) -> list[str]:
        last = day + (self.horizon - 1) * DAY
        opening = self.routes[self.routes["opens"].between(day, last)]
        return [
            f"no forecast: {row.unique_id} opens on {row.opens:%Y-%m-%d} and has no history"
            for row in opening.itertuples()
        ]

    def _forecast(
        self, panel: pd.DataFrame, future: pd.DataFrame, day: pd.Timestamp, log: list[str]
    ) -> tuple[pd.DataFrame, str]:
        """Return the forecasts of the model, or else of the fall-back, and who made them."""
        try:
            if self.forecaster is None:
                raise LookupError("there is no model")
            values = _in_time(lambda: self.forecaster(panel.copy(), future.copy()), self.time_limit)
            forecasts = future.assign(y_hat=check_values(values, future))
            check_level(forecasts, panel, self.routes, self.band)
            return forecasts, _name(self.forecaster)
        except Exception as error:  # whatever went wrong, the depots must be staffed
            reason = f"{type(error).__name__}: {error}"
            log.append(f"fell back to {_name(self.fallback)}: {reason}")
        try:
            values = check_values(self.fallback(panel, future), future)
        except Exception as error:
            raise PipelineFailed(
                f"no forecast for {day:%Y-%m-%d}: {log[-1]}; and the fall-back failed: {error}"
            ) from error
        return future.assign(y_hat=values), _name(self.fallback)


def _name(forecaster: Forecaster) -> str:
    forecaster = getattr(forecaster, "func", forecaster)  # of a functools.partial
    return getattr(forecaster, "__name__", type(forecaster).__name__)


def _recent_repairs(log: pd.DataFrame, day: pd.Timestamp) -> list[str]:
    """Return one line for each kind of fault in the last four weeks."""
    recent = log[log["ds"] >= day - RECENT * DAY]
    return [
        f"repaired: {fault}, {len(rows)} {'row' if len(rows) == 1 else 'rows'} of the last "
        f"{RECENT} days, the last {rows['unique_id'].iloc[-1]} on {rows['ds'].iloc[-1]:%Y-%m-%d}"
        for fault, rows in recent.sort_values("ds", kind="stable").groupby("fault")
    ]


# Drift ----------------------------------------------------------------------------------


def daily_errors(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    calendar: pd.DataFrame,
    leads: int = 7,
) -> pd.DataFrame:
    """Score, day by day, what earlier nights had forecast for each country.

    Parameters
    ----------
    forecasts : DataFrame
        ``origin`` (morning of the run), ``unique_id``, ``ds``, ``y_hat`` of many runs.
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``: what came.
    routes : DataFrame
        ``unique_id``, ``country``.
    calendar : DataFrame
        ``country``, ``ds`` of public holidays. They are left out: a tenth of the parcels makes
        any error large.
    leads : int
        Forecasts of 1 to so many days ahead are pooled. The first week holds less of the
        shocks that nobody can foresee than all 28 days, so that a break stands out sooner.

    Returns
    -------
    DataFrame
        Index ``ds`` (days), one column for each country: WAPE of the country's total over the
        runs that had forecast the day; NaN on holidays and where no run had.

    Raises
    ------
    ValueError
        If there is no day with both a forecast and its parcels.
    """
    lead = (forecasts["ds"] - forecasts["origin"]).dt.days + 1
    both = forecasts[lead.between(1, leads)].merge(panel[[*KEYS, "y"]], on=KEYS)
    if both.empty:
        raise ValueError(
            f"no parcels are known yet for forecasts of 1 to {leads} days ahead: wait for them"
        )
    both["country"] = both["unique_id"].map(routes.set_index("unique_id")["country"])
    totals = both.groupby(["country", "origin", "ds"])[["y", "y_hat"]].sum()
    totals["error"] = (totals["y"] - totals["y_hat"]).abs()
    sums = totals.groupby(level=["ds", "country"])[["error", "y"]].sum()
    wape = (sums["error"] / sums["y"].where(sums["y"] > 0)).unstack("country").asfreq("D")
    closed = pd.crosstab(calendar["ds"], calendar["country"])
    return wape.mask(closed.reindex(index=wape.index, columns=wape.columns, fill_value=0) > 0)


@dataclass(frozen=True)
class DriftAlarm:
    """A one-sided CUSUM on a country's daily error, measured in its own usual error.

    Each day adds ``error / usual - 1 - slack`` to a sum that never falls below zero; the alarm
    fires when the sum exceeds ``limit``. ``usual`` is the median error of the ``reference``
    days that ended ``gap`` days ago.

    Parameters
    ----------
    reference : int
        Days, 16 weeks: long against the memory of the shocks (12 days), short against a year.
    gap : int
        Days before today that the reference leaves out, so that a break does not at once
        become usual.
    slack : float
        Excess that a quiet time may have. Of a normal error the mean is 1.2 medians, after a
        jump of three standard deviations 4.4: halfway lies an excess of about 2.
    limit : float
        Chosen by the false alarms that can be borne, here about one a year and country.
    cap : float
        Highest excess of one day: with it a single day adds 2 and cannot fire alone.
    cool_down : int
        Days after a retraining without an alarm: the runs of before must leave the errors, and
        the features must have seen the new level.

    References
    ----------
    Page (1954), Continuous inspection schemes, *Biometrika* 41; Montgomery, *Introduction to
    Statistical Quality Control*, chapter 9.
    """

    reference: int = 112
    gap: int = 7
    slack: float = 2.0
    limit: float = 3.0
    cap: float = 4.0
    cool_down: int = 28

    def path(self, errors: pd.Series, retrained: pd.Timestamp | None = None) -> pd.DataFrame:
        """Return the sum day by day, as a control chart shows it.

        Parameters
        ----------
        errors : Series
            Daily errors of one country by day, such as a column of :func:`daily_errors`. A day
            without one adds nothing.
        retrained : Timestamp, optional
            Day of the last retraining; the sum begins when its cool-down is over.

        Returns
        -------
        DataFrame
            Index ``ds``; ``error``, ``usual``, ``sum`` and ``fires``. After an alarm the sum
            rests for a cool-down.

        Raises
        ------
        ValueError
            If the index holds anything but single days, or an error is negative.
        """
        if not isinstance(errors.index, pd.DatetimeIndex) or not errors.index.is_unique:
            raise ValueError("the errors need one row for each day: index them by their day")
        if (errors < 0).any():
            raise ValueError(f"an error is negative on {errors.idxmin():%Y-%m-%d}: pass WAPE")
        errors = errors.sort_index().asfreq("D")
        past = errors.shift(self.gap).rolling(self.reference, min_periods=self.reference // 2)
        usual = past.median()
        excess = (errors / usual - 1).clip(upper=self.cap) - self.slack
        rest = self.cool_down * DAY
        quiet_until = errors.index[0] - DAY if retrained is None else pd.Timestamp(retrained) + rest
        sums, fires, total = [], [], 0.0
        for day, step in excess.items():
            total = 0.0 if day <= quiet_until else max(0.0, total + np.nan_to_num(step))
            sums.append(total)
            fires.append(total > self.limit)
            if fires[-1]:
                total, quiet_until = 0.0, day + rest
        return pd.DataFrame(
            {"error": errors, "usual": usual, "sum": sums, "fires": fires}, index=errors.index
        )

    def retrain_due(
        self, errors: pd.Series, retrained: pd.Timestamp | None = None
    ) -> pd.Timestamp | None:
        """Return the first day on which the alarm fires, or None.

        Parameters
        ----------
        errors, retrained
            As for :meth:`path`.
        """
        fires = self.path(errors, retrained)["fires"]
        return fires.idxmax() if fires.any() else None


def retrain_on_drift(
    alarm: DriftAlarm,
    errors: pd.DataFrame,
    retrain: Callable[[pd.Timestamp, list[str]], object],
    retrained: pd.Timestamp | None = None,
) -> pd.Timestamp | None:
    """Start one retraining when a country's alarm fires: the nightly step after the scoring.

    Parameters
    ----------
    alarm : DriftAlarm
    errors : DataFrame
        All errors so far, as of :func:`daily_errors`.
    retrain : callable
        ``retrain(day, countries)``, with the last scored day and the countries that fired.
    retrained : Timestamp, optional
        What the last call returned, at first the day of the first training: with it a fire
        starts one retraining, not one each night.

    Returns
    -------
    Timestamp or None
        Day of the last retraining, to be handed to the next call.
    """
    fired = [c for c in errors if alarm.retrain_due(errors[c], retrained) is not None]
    if not fired:
        return retrained
    day = errors.index.max()
    retrain(day, fired)
    return day


# Features and training, on one machine and on a cluster ----------------------------------

LAGS, WINDOWS = (1, 7, 14, 28), (7, 28)
FEATURES = [*(f"lag_{k}" for k in LAGS), *(f"mean_{k}" for k in WINDOWS), "weekday"]


def _lags_of_route(y: np.ndarray) -> dict[str, np.ndarray]:
    """Return lags and means of one route's consecutive days, NaN where too young."""
    before = np.concatenate([np.full(max(LAGS), np.nan), y])
    n, longest = len(y), max(LAGS)
    columns = {f"lag_{k}": before[longest - k : longest - k + n] for k in LAGS}
    for k in WINDOWS:  # the k days that end on the day before
        windows = np.lib.stride_tricks.sliding_window_view(before[longest - k :], k)[:n]
        columns[f"mean_{k}"] = windows.mean(axis=1)
    return columns


def lag_features(panel: pd.DataFrame) -> pd.DataFrame:
    """Add what is known of each route on the day before.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``: one row for each route and day, in any order.

    Returns
    -------
    DataFrame
        The panel's rows in their order, with ``lag_1``, ``lag_7``, ``lag_14``, ``lag_28``,
        ``mean_7`` and ``mean_28`` (means of the 7 and 28 days that end on the day before; NaN
        for the first days of a route) and ``weekday`` (Monday is 0).

    Raises
    ------
    ValueError
        If a route's days are not consecutive: a lag counts rows, a gap would shift it.
    """
    order = panel.reset_index(drop=True).sort_values(KEYS).index.to_numpy()
    ordered = panel.iloc[order]
    first = np.diff(pd.factorize(ordered["unique_id"])[0], prepend=-1) != 0
    gap = ~first & ordered["ds"].diff().ne(DAY).to_numpy()
    if gap.any():
        row = ordered[gap].iloc[0]
        raise ValueError(
            f"{row['unique_id']} has no row for the day before {row['ds']:%Y-%m-%d}, or two for "
            "that day: repair the feed before you build features"
        )
    routes = np.split(ordered["y"].to_numpy(float), np.flatnonzero(first)[1:])
    columns = [_lags_of_route(y) for y in routes]
    back = np.argsort(order)
    built = {name: np.concatenate([route[name] for route in columns])[back] for name in columns[0]}
    return panel.assign(**built, weekday=panel["ds"].dt.dayofweek)


def train_lightgbm(features: pd.DataFrame, seed: int = 0) -> LGBMRegressor:
    """Train one LightGBM model for all routes, one day ahead, on one thread.

    Parameters
    ----------
    features : DataFrame
        As of :func:`lag_features`, in any order: rows are brought into the order of route and
        day first, because sums of floating-point numbers depend on it.
    seed : int

    Returns
    -------
    LGBMRegressor
        Predicts ``y`` from the columns ``FEATURES``.
    """
    from lightgbm import LGBMRegressor

    rows = features.sort_values(KEYS)
    model = LGBMRegressor(
        n_estimators=100,
        num_leaves=31,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    return model.fit(rows[FEATURES], rows["y"])


@contextmanager
def local_cluster(n_workers: int = 2, processes: bool = False) -> Iterator[Client]:
    """Open a Dask cluster on this machine, and close it.

    Parameters
    ----------
    n_workers : int
        One thread each.
    processes : bool
        Workers as processes (their own interpreter and memory) or as threads, which start
        sooner.

    Yields
    ------
    distributed.Client
        It listens on the loopback address only, and serves no dashboard.
    """
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=processes,
            protocol="tcp",
            host="127.0.0.1",
            # Its health pages are served in any case, without an address on port 8787.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def features_dask(
    panel: pd.DataFrame | dd.DataFrame, client: Client, n_partitions: int | None = None
) -> dd.DataFrame:
    """Build :func:`lag_features` on a cluster, routes side by side.

    A lag never leaves its route, so that a partition with whole routes needs no other.

    Parameters
    ----------
    panel : DataFrame or dask DataFrame
        As for :func:`lag_features`. A dask one, read from files, is first shuffled so that no
        route is spread over two partitions.
    client : distributed.Client
        Of a cluster that the caller opened and will close.
    n_partitions : int, optional
        Two for each worker by default.

    Returns
    -------
    dask DataFrame
        Held by the workers, in an order of their own: sort what you gather.
    """
    import dask
    import dask.dataframe as dd

    n_partitions = n_partitions or 2 * len(client.scheduler_info(n_workers=-1)["workers"])
    with dask.config.set({"dataframe.convert-string": False}):  # route names as pandas has them
        if isinstance(panel, pd.DataFrame):
            meta, start = panel.head(0), panel.sort_values("unique_id")
            bounds = np.linspace(0, start["unique_id"].nunique(), n_partitions + 1)[1:-1]
            part = np.searchsorted(bounds, pd.factorize(start["unique_id"])[0], side="right")
            parts = [rows for _, rows in start.groupby(part)]
            frame = dd.from_delayed(client.scatter(parts), meta=meta)
        else:
            meta, frame = (
                panel._meta,
                panel.shuffle("unique_id", npartitions=n_partitions, shuffle_method="tasks"),
            )
        return client.persist(frame.map_partitions(lag_features, meta=lag_features(meta)))


def train_dask(panel: pd.DataFrame | dd.DataFrame, client: Client, seed: int = 0) -> LGBMRegressor:
    """Train the model of :func:`train_lightgbm` on a cluster, exactly as on one machine.

    Parameters
    ----------
    panel, client
        As for :func:`features_dask`.
    seed : int

    Returns
    -------
    LGBMRegressor

    Notes
    -----
    Features are built side by side and gathered on one worker, which trains. LightGBM's own
    distributed training (``lightgbm.DaskLGBMRegressor``) cuts the features into bins by the
    rows of each worker and adds gradients in the order of the workers: another model, about
    as good, that changes with the number of workers. A row of features takes some 80 bytes,
    so gathering holds up to a few hundred million rows on a large machine.
    """
    features = client.compute(features_dask(panel, client))
    return client.submit(train_lightgbm, features, seed).result()
