"""Daily reports of many sites: what was known on a morning, and the rows that cannot be right.

A table of reports is never trusted as it is: :func:`as_of` takes it back to a morning and
:func:`check_contract` refuses rows that cannot be right, absurdly large ones among them. The names
are those of chapter 01: a *route* is a series, a *depot* the site that reports it.

Examples
--------
>>> day = pd.Timestamp("2024-03-05")
>>> routes = pd.DataFrame({"unique_id": ["BE/1/a"], "country": ["BE"], "depot": ["1"]})
>>> routes = routes.assign(opens=pd.Timestamp("2020-01-01"), closes=pd.NaT)
>>> row = {"unique_id": "BE/1/a", "ds": pd.Timestamp("2024-03-04"), "y": -3, "received": day}
>>> check_contract(as_of(pd.DataFrame([row]), day), routes, day)
Traceback (most recent call last):
...
casebook.data.reports.FeedRejected: y is negative: 1 row...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_dtype

from casebook.data.contracts import ContractBroken, enforce, summary
from casebook.data.plans import check_master
from casebook.data.values import hashable, is_number, numbers

if TYPE_CHECKING:
    import pandera.pandas as pa

KEYS = ["unique_id", "ds"]
COLUMNS = [*KEYS, "y", "received"]
DAY = pd.Timedelta(days=1)
#: A route's day holds at most so many times its usual parcels, and a few more. In sixteen worlds
#: no true day, promoted, after a holiday or at the peak, had more than 4.4 times as many.
MOST_TIMES, MOST_MORE = 8, 10
#: A route's own days tell what is usual from so many days on (three weeks in a wrong unit must not
#: be all of them); the mean is taken over so many.
OWN_DAYS, USUAL_DAYS = 28, 56
#: Before anything is known: about a hundred truckloads.
MOST_EVER = 100_000
#: No file is so many days late: a later arrival is a broken clock, not a row that is on its way.
LATEST = 366


def morning(day: pd.Timestamp) -> pd.Timestamp:
    """Return the day of a morning, without a time.

    Raises
    ------
    ValueError
        If it is none, or has a time zone: the feed's days have none, and would not compare.
    """
    day = pd.Timestamp(day)
    if pd.isna(day):
        raise ValueError("the morning is empty: pass the day of the forecast")
    if day.tzinfo is not None:
        raise ValueError(f"the morning {day} has a time zone: pass the local day without one")
    return day.normalize()


def as_of(reports: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Return the reports that had arrived by the morning of a day.

    Parameters
    ----------
    reports : DataFrame
        ``unique_id``, ``ds``, ``y`` (parcels) and ``received`` (day of arrival).
    day : Timestamp
        The morning on which a forecast is made.

    Returns
    -------
    DataFrame
        The rows received on or before ``day``, whatever the time of day. Rows without a day of
        arrival, and rows of earlier days that claim to arrive more than :data:`LATEST` days after
        their day, are among them: no row is lost in silence, the contract will refuse it.

    Raises
    ------
    ValueError
        Without dates of arrival nobody can tell what was known; or if a column is there twice.
    """
    _need_single_columns(reports)
    if "received" in reports and isinstance(reports["received"].dtype, pd.DatetimeTZDtype):
        raise ValueError(
            f"received has time zone {reports['received'].dt.tz}: convert to local days"
        )
    if "received" not in reports or not is_datetime64_dtype(reports["received"]):
        raise ValueError(
            f"the reports hold {', '.join(map(str, reports.columns))} and no dates of arrival: "
            "parse the column received, what was known on a morning follows from it"
        )
    later = reports["received"].dt.normalize() > morning(day)
    if "ds" in reports and is_datetime64_dtype(reports["ds"]):
        never = reports["received"] - reports["ds"] > LATEST * DAY
        later &= ~(never & (reports["ds"] < morning(day)))
    return reports[~later]


def _need_single_columns(reports: pd.DataFrame) -> None:
    twice = [column for column in COLUMNS if (reports.columns == column).sum() > 1]
    if twice:
        raise ValueError(f"the feed has the column {twice[0]} more than once: keep one of them")


#: What to do about each broken rule.
REMEDY = {
    "column": "ask the sender for the complete file",
    "type": "parse the column before you hand it in",
    "empty": "ask the sender for the complete row",
    "route": "add the route to the master data or correct its name",
    "midnight": "cut the time of day off",
    "future": "check the depot's clock",
    "number": "ask the depot for the file again",
    "whole": "ask the depot for counts",
    "negative": "ask the depot for counts before cancellations",
    "most": "ask the depot for its count, and enter a true one as `most` of the route",
    "arrival": "check the clock that stamps arrivals",
    "unknown": "stamp each row with the morning on which it arrived",
    "service": "correct the opening or closing in the master data, or the row's route",
    "conflict": "ask the depot which one counts",
}


class FeedRejected(ContractBroken):
    """Rows of the feed break its contract: see :class:`casebook.data.contracts.ContractBroken`.

    Attributes
    ----------
    reasons : tuple of str
        What is wrong with each of ``rows``, in their order.
    """

    reasons: tuple[str, ...] = ()


def _one_value(batch: pd.DataFrame) -> pd.Series:
    """Return for each row whether no other of the same arrival gives its day another value."""
    same = [*KEYS, "received"]
    twice = batch[batch.duplicated(same, keep=False)]
    values = twice.assign(y=numbers(twice["y"])).groupby(same)["y"].transform("nunique")
    return (values <= 1).reindex(batch.index, fill_value=True)


def _plausible(rows: pd.DataFrame, routes: pd.DataFrame, sound: np.ndarray) -> pd.Series:
    """Return for each row whether its route may have had that many parcels on that day.

    A day is judged by earlier days that were plausible themselves and ``sound``, which is to
    say keep all other rules: by the larger of the route's mean over its last 56 days with a row
    and over all of them. A route with fewer than 28 is judged by the largest route that has
    more, and the first days of all by :data:`MOST_EVER`.
    """
    day, days = pd.factorize(rows["ds"], sort=True)
    route = pd.Index(routes["unique_id"]).get_indexer(rows["unique_id"])
    most = routes["most"].to_numpy(float) if "most" in routes else np.full(len(routes), np.nan)
    y, good = numbers(rows["y"]).fillna(0).to_numpy(), np.ones(len(rows), bool)
    judged = (route >= 0) & (day >= 0)
    order = np.flatnonzero(judged)[np.argsort(day[judged], kind="stable")]
    recent = np.full((USUAL_DAYS, len(routes)), np.nan)
    total, count = np.zeros(len(routes)), np.zeros(len(routes), int)
    for at in np.split(order, np.searchsorted(day[order], np.arange(1, len(days)))):
        seen = np.minimum(count, USUAL_DAYS)
        lately = np.nansum(recent, axis=0) / np.maximum(seen, 1)
        usual = np.maximum(lately, total / np.maximum(count, 1))
        own = count >= OWN_DAYS
        largest = usual[own].max(initial=0)
        bound = MOST_TIMES * np.where(own, usual, largest) + MOST_MORE
        bound = np.where(own | own.any(), bound, MOST_EVER)
        bound = np.where(np.isnan(most), bound, most)
        good[at] = y[at] <= bound[route[at]]
        kept = at[good[at] & sound[at]]
        kept = kept[np.unique(route[kept], return_index=True)[1]]  # a day counts once
        recent[count[route[kept]] % USUAL_DAYS, route[kept]] = y[kept]
        total[route[kept]] += y[kept]
        count[route[kept]] += 1
    return pd.Series(good, rows.index)


def _plausible_after(
    history: pd.DataFrame | None, batch: pd.DataFrame, routes: pd.DataFrame, sound: np.ndarray
) -> pd.Series:
    """Judge a batch by its own earlier days, or by the history that goes with it."""
    if history is None:
        return _plausible(batch, routes, sound)
    both = pd.concat([history[[*KEYS, "y"]], batch[[*KEYS, "y"]]], ignore_index=True)
    keep = np.append(np.ones(len(history), bool), sound)
    return _plausible(both, routes, keep).tail(len(batch)).set_axis(batch.index)


def _after_its_day(batch: pd.DataFrame) -> pd.Series:
    return ~(batch["received"].dt.normalize() <= batch["ds"])


@dataclass(frozen=True)
class ServiceDays:
    """When each route is in service, and the morning on which its rows are judged."""

    opens: pd.Series
    closes: pd.Series
    day: pd.Timestamp

    def hold(self, batch: pd.DataFrame) -> pd.Series:
        """Return for each row whether its route was in service."""
        first, end = (batch["unique_id"].map(dates) for dates in (self.opens, self.closes))
        return ~((batch["ds"] < first) | (batch["ds"] >= end))

    def sound(self, batch: pd.DataFrame) -> np.ndarray:
        """Return for each row whether it keeps all rules but that of the most parcels."""
        y, arrived = numbers(batch["y"]), batch["received"].dt.normalize()
        counted = is_number(batch["y"]) & (y >= 0) & (y % 1 == 0)
        over = (batch["ds"] < self.day) & (batch["ds"] == batch["ds"].dt.normalize())
        known = batch["unique_id"].isin(self.opens.index) & (arrived <= self.day)
        keeps = self.hold(batch) & _one_value(batch) & _after_its_day(batch)
        return (counted & over & known & keeps).to_numpy(bool)


def contract(
    routes: pd.DataFrame, day: pd.Timestamp, history: pd.DataFrame | None = None
) -> pa.DataFrameSchema:
    """Return the contract of what is known on a morning, as a pandera schema.

    Parameters
    ----------
    routes : DataFrame
        Master data, as for :func:`check_master`.
    day : Timestamp
        The morning.
    history : DataFrame, optional
        Earlier accepted rows (``unique_id``, ``ds``, ``y``) by which a batch of one night is
        judged. A batch that holds all rows so far is judged by its own earlier days.

    Returns
    -------
    pandera.pandas.DataFrameSchema
        Its checks are named as in ``REMEDY``. Other columns than the four are let through.

    Raises
    ------
    ValueError
        If the master data are broken.

    Notes
    -----
    A row must be received *after* its day. A count stamped with its own day would be known
    on that day's morning, before the parcels were.
    """
    import pandera.pandas as pa

    check_master(routes)
    day = morning(day)
    opens = routes.set_index("unique_id")["opens"]
    closes = routes.set_index("unique_id")["closes"]

    service_days = ServiceDays(opens, closes, day)

    def plausible(batch: pd.DataFrame) -> pd.Series:
        return _plausible_after(history, batch, routes, service_days.sound(batch))

    def rule(name: str, what: str, holds) -> pa.Check:
        return pa.Check(holds, name=name, error=what)

    known = rule("route", "unknown route", lambda ids: ids.isin(opens.index))
    whole_day = rule("midnight", "day with a time", lambda ds: ds == ds.dt.normalize())
    over = rule("future", f"day not over on {day:%Y-%m-%d}", lambda ds: ds < day)
    number = rule("number", "y is no number", is_number)
    whole = rule("whole", "y is not whole", lambda y: numbers(y) % 1 == 0)
    positive = rule("negative", "y is negative", lambda y: numbers(y) >= 0)
    arrived = rule("unknown", f"arrival after {day:%Y-%m-%d}", _by(day))
    after = rule("arrival", "received before its day was over", _after_its_day)
    service = rule("service", "route not in service", service_days.hold)
    one = rule("conflict", "two values for one day in one arrival", _one_value)
    most = rule("most", f"more than {MOST_TIMES} times the route's usual parcels", plausible)
    return pa.DataFrameSchema(
        {
            "unique_id": pa.Column(None, known),
            "ds": pa.Column("datetime64[ns]", [whole_day, over]),
            "y": pa.Column(None, [number, whole, positive]),
            "received": pa.Column("datetime64[ns]", arrived),
        },
        checks=[after, service, one, most],
        name="feed",
    )


def _with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Write ids that no table can be looked up by, such as lists, out as text: unknown routes."""
    if "unique_id" not in table or not (lists := ~hashable(table["unique_id"])).any():
        return table
    return table.assign(unique_id=table["unique_id"].mask(lists, table["unique_id"].map(str)))


def _by(day: pd.Timestamp) -> Callable[[pd.Series], pd.Series]:
    """Return the rule that a row had arrived by a day, whatever the time of day."""
    return lambda received: received.dt.normalize() <= day


def check_contract(
    batch: pd.DataFrame,
    routes: pd.DataFrame,
    day: pd.Timestamp,
    history: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Refuse a batch with rows that cannot be right.

    Parameters
    ----------
    batch : DataFrame
        ``unique_id``, ``ds``, ``y`` (parcels), ``received``: one night's rows, or all so far.
    routes, day, history
        As for :func:`contract`; ``day`` is the morning on which the batch is read.

    Returns
    -------
    DataFrame
        The four columns of the batch, with ``y`` as int64.

    Raises
    ------
    FeedRejected
        When a rule is broken, with all broken rules and all rows that break one.
    ValueError
        If the master data are broken, or the batch has a column twice.
    """
    _need_single_columns(batch)
    given, batch = batch, _with_names(batch)
    reasons: dict[int, list[str]] = {}

    def lines(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
        for position in rows.index:
            reasons.setdefault(position, []).append(what)
        return [summary(what, rows, COLUMNS, REMEDY[rule])]

    try:
        enforce(contract(routes, day, history), batch, lines, FeedRejected)
    except FeedRejected as rejected:
        rejected.reasons = tuple("; ".join(reasons[position]) for position in sorted(reasons))
        rejected.rows = given.iloc[sorted(reasons)]
        raise
    return batch.reset_index(drop=True)[COLUMNS].astype({"y": "int64"})
