"""The nightly batch: from the feed of a morning to a checked forecast in a file.

:class:`Pipeline` makes one run a day and answers even when the model does not. What it cannot
answer it refuses with a reason, and the file of the night before stays.

Examples
--------
>>> import tempfile
>>> days, opens = pd.date_range("2024-01-01", periods=70), pd.Timestamp("2024-01-01")
>>> routes = pd.DataFrame({"unique_id": ["BE/1/a"], "country": ["BE"], "depot": ["1"]})
>>> routes = routes.assign(opens=opens, closes=pd.NaT)
>>> calendar = pd.DataFrame({"country": ["BE"], "ds": [pd.Timestamp("2024-01-01")]})
>>> reports = pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 100, "received": days + DAY})
>>> night = Pipeline(None, routes, calendar, Path(tempfile.mkdtemp()))
>>> run = night.run(reports, days[-1] + DAY)
>>> len(run.forecasts), run.source, run.log
(28, 'last_week', ('fell back to last_week: LookupError: there is no model',))
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.data.feed import Repaired, repair
from casebook.data.plans import check_calendar, check_master
from casebook.data.reports import DAY, KEYS, FeedRejected, as_of, check_contract, morning
from casebook.forecasting.classical import seasonal_naive_week
from casebook.forecasting.direct import UnknownCountry
from casebook.forecasting.levels import RECENT, check_level, check_values, hold_level
from casebook.forecasting.walk import Forecaster
from casebook.project import write_whole

#: Days that are planned ahead.
HORIZON = 28
#: A depot that sent nothing for so many days is named in the log.
SILENT = 7
#: When no depot has sent anything for more than so many days, the feed is dead: there is no plan.
DEAD = 14

# One run --------------------------------------------------------------------------------


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
    """Return the routes that are or come into service, on each day that they are open.

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
        ``unique_id``, ``ds``, by route and day: a route that opens within the horizon has rows
        from its opening on.
    """
    days = pd.DataFrame({"ds": pd.date_range(day, periods=horizon)})
    rows = routes[["unique_id", "opens", "closes"]].merge(days, how="cross")
    rows = rows.loc[(rows["opens"] <= rows["ds"]) & ~(rows["closes"] <= rows["ds"]), KEYS]
    return rows.sort_values(KEYS, ignore_index=True)


def last_week(panel: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast each day by the same weekday of the last week: the fall-back.

    A route that has not seen the weekday takes the mean of its depot's other routes on it.
    """
    return seasonal_naive_week(panel, future)


def write_atomically(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file so that a reader sees the old file or the new one, never a part."""
    write_whole(Path(path), lambda file: frame.to_parquet(file, index=False))


#: Waits for a thread, at most so many seconds.
Wait = Callable[[threading.Thread, float], None]


def _without_exit(call: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the result of a call that must not end the night, or its thread, without a word."""
    try:
        return call()
    except SystemExit as error:
        raise RuntimeError(f"ended with SystemExit {error.code}") from error


def _in_time(call: Callable[[], np.ndarray], seconds: float, wait: Wait) -> np.ndarray:
    """Return the result of a call, or raise TimeoutError when it is not there after the wait."""
    answer: dict[str, object] = {}

    def work() -> None:
        try:
            answer["value"] = _without_exit(call)
        except Exception as error:
            answer["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait(thread, seconds)
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
        Master data and public holidays, as for :func:`~casebook.data.feed.repair`.
    folder : Path
        Where the forecasts are written, and rows that break the feed's contract.
    fallback : callable
        Answers for the forecaster; as simple as can be.
    horizon : int
        Days ahead.
    time_limit : float
        Seconds that the forecaster has.
    wait : callable
        Waits for the forecaster's thread; a test puts its own clock here.

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
    wait: Wait = threading.Thread.join

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
        start, log = time.perf_counter(), []
        try:
            day = morning(day)
            self._check_tables(day, log)
            accepted = self._accepted(reports, day, log)
            repaired = repair(accepted, self.routes, self.calendar, day)
            log += _recent_repairs(repaired.log, day)
            log += self._unheard(accepted, day)
            future = rows_to_forecast(self.routes, day, self.horizon)
            if future.empty:
                raise ValueError("no route is in service: check the master data")
        except ValueError as error:
            raise PipelineFailed(f"no forecast for {str(day)[:10]}: {error}") from error
        forecasts, source = self._forecast(repaired, future, day, log)
        write_atomically(forecasts.assign(source=source), self.path(day))
        return Run(day, forecasts, source, tuple(log), time.perf_counter() - start)

    def _check_tables(self, day: pd.Timestamp, log: list[str]) -> None:
        """Refuse broken master data and calendars; name routes whose distance is not known.

        A holiday at a time of day would match no day, here and in the model's features.
        """
        check_master(self.routes)
        if "distance_km" in self.routes:
            unknown = self.routes["distance_km"].isna() & ~(self.routes["closes"] <= day)
            log += [
                f"master data: {name} has no distance_km, others stand in for it: enter it"
                for name in self.routes.loc[unknown, "unique_id"]
            ]
        last, ahead = day + (self.horizon - 1) * DAY, self.routes["closes"]
        open_ = self.routes[(self.routes["opens"] <= last) & ~(ahead <= day)]
        check_calendar(self.calendar, open_["country"], day, last)
        timed = self.calendar[self.calendar["ds"] != self.calendar["ds"].dt.normalize()].dropna()
        if len(timed):
            raise ValueError(
                f"calendar: {timed['country'].iloc[0]} has a holiday at a time of day, "
                f"{timed['ds'].iloc[0]}: cut the time off"
            )

    def _accepted(self, reports: pd.DataFrame, day: pd.Timestamp, log: list[str]) -> pd.DataFrame:
        """Return the known rows that keep the contract; the others go into quarantine.

        A second run of a day leaves the quarantine of its own rows, not that of the first run.
        """
        known = as_of(reports, day)
        timed = int(
            (known["received"] != known["received"].dt.normalize())[known["received"].notna()].sum()
        )
        if timed:
            log.append(
                f"received: {timed:,} rows have a time of day, each counts from the morning of "
                "its day: stamp the day alone"
            )
        try:
            accepted = check_contract(known, self.routes, day)
            self._replace_quarantine(None, day, log)
            return accepted
        except FeedRejected as rejected:
            log += [f"quarantined: {line}" for line in rejected.lines]
            self._replace_quarantine(rejected, day, log)
            if rejected.accepted.empty:
                raise ValueError(f"all rows were refused: {rejected}") from rejected
            return rejected.accepted

    def _replace_quarantine(
        self, rejected: FeedRejected | None, day: pd.Timestamp, log: list[str]
    ) -> None:
        """Write the refused rows with their reasons; a disk that is full costs no plan."""
        try:
            if rejected is None:
                self.quarantine(day).unlink(missing_ok=True)
            else:
                rows = rejected.rows.astype(str).assign(reason=list(rejected.reasons))
                write_atomically(rows, self.quarantine(day))
        except OSError as error:
            log.append(f"quarantine: {self.quarantine(day).name} was not written: {error}")

    def _unheard(self, known: pd.DataFrame, day: pd.Timestamp) -> list[str]:
        """Name what is forecast although the feed says little of it.

        Raises
        ------
        ValueError
            If less than half of the routes in service have ever reported, or no depot has sent
            anything for more than :data:`DEAD` days.
        """
        last = self.routes["unique_id"].map(known.groupby("unique_id")["ds"].max())
        routes = self.routes.assign(last=last)
        new = routes[routes["opens"].between(day, day + (self.horizon - 1) * DAY)]
        running = routes[(routes["opens"] < day) & ~(routes["closes"] <= day)]
        never = running.loc[running["last"].isna(), "unique_id"]
        if 2 * len(never) > len(running):
            raise ValueError(
                f"the feed holds {len(running) - len(never)} of {len(running)} routes in service, "
                f"not {never.iloc[0]}: ask the sender for the complete file"
            )
        if (heard := running["last"].max()) < day - (DEAD + 1) * DAY:
            raise ValueError(
                f"no depot has sent anything since {heard:%Y-%m-%d}, more than {DEAD} days: ask "
                "the sender for the feed"
            )
        opening = [f"{row.unique_id} opens on {row.opens:%Y-%m-%d}" for row in new.itertuples()]
        lines = [f"new: {what} and has no history" for what in opening]
        lines += [f"new: {name} is in service and never reported" for name in never]
        depots = running.groupby(["country", "depot"])["last"].max().dropna()
        for name, last in depots[depots < day - SILENT * DAY].items():
            lines.append(
                f"silent: {'/'.join(name)} has sent nothing since {last:%Y-%m-%d}, its plan keeps "
                "the level of then: ask it for its files"
            )
        return lines

    def _forecast(
        self, repaired: Repaired, future: pd.DataFrame, day: pd.Timestamp, log: list[str]
    ) -> tuple[pd.DataFrame, str]:
        """Return the forecasts of the model, or else of the fall-back, and who made them."""
        panel, model = repaired.panel, self.forecaster

        def answer(forecaster: Forecaster) -> np.ndarray:
            return forecaster(panel.copy(), future.copy())

        def in_form(values: np.ndarray) -> pd.DataFrame:
            return future.assign(y_hat=check_values(values, future))

        try:
            if model is None:
                raise LookupError("there is no model")
            with _noted(log):
                values = _in_time(lambda: answer(model), self.time_limit, self.wait)
            forecasts = in_form(values)
            check_level(forecasts, panel, self.routes, repaired.log)
            return forecasts, _name(model)
        except Exception as error:  # whatever went wrong, the depots must be staffed
            reason = f"{type(error).__name__}: {error}"
            fell_back = f"fell back to {_name(self.fallback)}: {reason}"
            log.append(fell_back)
        try:
            forecasts = in_form(_without_exit(lambda: answer(self.fallback)))
            forecasts, lines = hold_level(forecasts, panel, self.routes, repaired.log)
            log += lines
            return forecasts, _name(self.fallback)
        except Exception as error:
            raise PipelineFailed(
                f"no forecast for {day:%Y-%m-%d}: {fell_back}; and the fall-back failed: {error}"
            ) from error


@contextmanager
def _noted(log: list[str]) -> Iterator[None]:
    """Take what a model says of countries that it does not know into the log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnknownCountry)
        yield
    for warning in caught:
        if issubclass(warning.category, UnknownCountry):
            log.append(f"model: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


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
