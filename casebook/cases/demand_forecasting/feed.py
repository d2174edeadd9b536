"""The depots' daily feed: what was known when, its contract, its faults and their repair.

The table of reports is never trusted as it stands: :func:`as_of` takes it back to a morning,
:func:`check_contract` refuses rows that cannot be right, :func:`inspect` finds the faults that
a feed has even so, :func:`repair` makes of the rest one value for each route and day. All
judge a day by earlier days only, so that the repaired past is what a forecaster could have had.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_dtype, is_numeric_dtype

from casebook.data.contracts import ContractBroken, enforce, summary

if TYPE_CHECKING:
    import pandera.pandas as pa

KEYS = ["unique_id", "ds"]
COLUMNS = [*KEYS, "y", "received"]
DAY = pd.Timedelta(days=1)
#: A day is compared with the same weekday of so many weeks before it.
WEEKS = 8
#: The unit that some depots' software switches to: hundreds of parcels.
HUNDRED = 100
#: A day below this share of what is usual may stand in hundreds. A true hundredth lies five
#: times below it, a holiday that the calendar does not know (a tenth) twice above it.
FAR_BELOW = 1 / 20
#: With fewer parcels expected, a day is too small to tell hundreds from a quiet day.
ENOUGH = 100
#: Hundreds, with what their rounding may hide, must explain this share of what is usual:
#: a depot on strike sends zeros, and they are true.
EXPLAINED = 1 / 3

# What was known when -------------------------------------------------------------------


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
        The rows received on or before ``day``. A row without a day of arrival is among them:
        no row is lost in silence, the contract will refuse it.

    Raises
    ------
    ValueError
        Without dates of arrival nobody can tell what was known.
    """
    if "received" not in reports or not is_datetime64_dtype(reports["received"]):
        raise ValueError(
            f"the reports hold {', '.join(map(str, reports.columns))} and no dates of arrival: "
            "parse the column received, what was known on a morning follows from it"
        )
    return reports[~(reports["received"] > pd.Timestamp(day))]


# The contract --------------------------------------------------------------------------

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
    "arrival": "check the clock that stamps arrivals",
    "unknown": "stamp each row with the morning on which it arrived",
    "service": "correct the opening or closing in the master data, or the row's route",
    "conflict": "ask the depot which one counts",
}


class FeedRejected(ContractBroken):
    """Rows of the feed break its contract: see :class:`casebook.data.contracts.ContractBroken`."""


def _is_number(values: pd.Series) -> pd.Series:
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        return pd.Series(True, index=values.index)
    return values.map(lambda value: isinstance(value, Real) and not isinstance(value, bool))


def _numbers(values: pd.Series) -> pd.Series:
    """Return the values as numbers; what is none becomes a 0, which breaks no further rule."""
    return values.where(_is_number(values), 0).astype(float)


def _one_value(batch: pd.DataFrame) -> pd.Series:
    """Return for each row whether no other of the same arrival gives its day another value."""
    same = [*KEYS, "received"]
    twice = batch[batch.duplicated(same, keep=False)]
    values = twice.groupby(same)["y"].transform("nunique")
    return (values <= 1).reindex(batch.index, fill_value=True)


def contract(routes: pd.DataFrame, day: pd.Timestamp) -> pa.DataFrameSchema:
    """Return the contract of what is known on a morning, as a pandera schema.

    Parameters
    ----------
    routes : DataFrame
        Master data: ``unique_id``, ``opens``, ``closes`` (empty if none).
    day : Timestamp
        The morning.

    Returns
    -------
    pandera.pandas.DataFrameSchema
        Its checks are named as in ``REMEDY``. Other columns than the four are let through.

    Raises
    ------
    ValueError
        If a route stands in the master data twice.

    Notes
    -----
    A row must be received *after* its day. A count stamped with its own day would be known
    on that day's morning, before the parcels were.
    """
    import pandera.pandas as pa

    if (twice := routes["unique_id"].duplicated()).any():
        raise ValueError(
            f"route {routes.loc[twice, 'unique_id'].iloc[0]} stands in the master data more than "
            "once: keep one row for each route"
        )
    day = pd.Timestamp(day)
    opens = routes.set_index("unique_id")["opens"]
    closes = routes.set_index("unique_id")["closes"]

    def in_service(batch: pd.DataFrame) -> pd.Series:
        first, end = (batch["unique_id"].map(dates) for dates in (opens, closes))
        return ~((batch["ds"] < first) | (batch["ds"] >= end))

    def rule(name: str, what: str, holds) -> pa.Check:
        return pa.Check(holds, name=name, error=what)

    known = rule("route", "unknown route", lambda ids: ids.isin(opens.index))
    whole_day = rule("midnight", "day with a time", lambda ds: ds == ds.dt.normalize())
    over = rule("future", f"day not over on {day:%Y-%m-%d}", lambda ds: ds < day)
    number = rule("number", "y is no number", _is_number)
    whole = rule("whole", "y is not whole", lambda y: _numbers(y) % 1 == 0)
    positive = rule("negative", "y is negative", lambda y: _numbers(y) >= 0)
    arrived = rule("unknown", f"arrival after {day:%Y-%m-%d}", lambda received: received <= day)
    after = rule("arrival", "received before its day was over", lambda b: ~(b.received <= b.ds))
    service = rule("service", "route not in service", in_service)
    one = rule("conflict", "two values for one day in one arrival", _one_value)
    return pa.DataFrameSchema(
        {
            "unique_id": pa.Column(None, known),
            "ds": pa.Column("datetime64[ns]", [whole_day, over]),
            "y": pa.Column(None, [number, whole, positive]),
            "received": pa.Column("datetime64[ns]", arrived),
        },
        checks=[after, service, one],
        name="feed",
    )


def _lines(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
    return [summary(what, rows, COLUMNS, REMEDY[rule])]


def check_contract(batch: pd.DataFrame, routes: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Refuse a batch with rows that cannot be right.

    Parameters
    ----------
    batch : DataFrame
        ``unique_id``, ``ds``, ``y`` (parcels), ``received``: one night's rows, or all so far.
    routes : DataFrame
        Master data, as for :func:`contract`.
    day : Timestamp
        The morning on which the batch is read.

    Returns
    -------
    DataFrame
        The four columns of the batch, with ``y`` as int64.

    Raises
    ------
    FeedRejected
        When a rule is broken, with all broken rules and all rows that break one.
    """
    enforce(contract(routes, day), batch, _lines, FeedRejected)
    return batch.reset_index(drop=True)[COLUMNS].astype({"y": "int64"})


# Faults and their repair ---------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """The feed of a morning as arrays of days by routes, routes in the order of the master data.

    ``open``: in service. ``copies``: rows. ``y``: parcels, NaN without a row. ``first``: days
    from a day to the first arrival of its row. ``holiday``: public holiday in the route's
    country. ``depot``, ``country``: number of each route's.
    """

    days: pd.DatetimeIndex
    routes: pd.Index
    depot: np.ndarray
    country: np.ndarray
    open: np.ndarray
    holiday: np.ndarray
    copies: np.ndarray
    y: np.ndarray
    first: np.ndarray


def _grid(
    reports: pd.DataFrame, routes: pd.DataFrame, calendar: pd.DataFrame, day: pd.Timestamp
) -> _Grid:
    """Lay the rows that were known on a morning out by days and routes."""
    day = pd.Timestamp(day)
    known = check_contract(as_of(reports, day), routes, day)
    if known.empty:
        raise ValueError(
            f"no report had arrived by {day:%Y-%m-%d}: choose a later day, or wait for the feed"
        )
    days = pd.date_range(known["ds"].min(), day - DAY, name="ds")
    ids = pd.Index(routes["unique_id"], name="unique_id")
    shape = (len(days), len(ids))
    # Of several rows of a day the one that arrived last counts; of equal ones it is all one.
    known = known.sort_values("received", kind="stable")
    at = days.get_indexer(known["ds"]), ids.get_indexer(known["unique_id"])
    copies, y, first = np.zeros(shape, int), np.full(shape, np.nan), np.zeros(shape, int)
    np.add.at(copies, at, 1)
    y[at] = known["y"]
    delay = (known["received"] - known["ds"]).dt.days.to_numpy()
    first[tuple(a[::-1] for a in at)] = delay[::-1]
    country, countries = pd.factorize(routes["country"])
    closed = np.zeros((len(days), len(countries)), bool)
    holidays = calendar[calendar["ds"].isin(days) & calendar["country"].isin(countries)]
    closed[days.get_indexer(holidays["ds"]), countries.get_indexer(holidays["country"])] = True
    dates = days.to_numpy()[:, None]
    return _Grid(
        days=days,
        routes=ids,
        depot=routes.groupby(["country", "depot"]).ngroup().to_numpy(),
        country=country,
        open=(dates >= routes["opens"].to_numpy()) & ~(dates >= routes["closes"].to_numpy()),
        holiday=closed[:, country],
        copies=copies,
        y=y,
        first=first,
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of what is known in each column, NaN where nothing is."""
    count, unknown = (~np.isnan(values)).sum(axis=0), np.full(values.shape[1], np.nan)
    return np.divide(np.nansum(values, axis=0), count, out=unknown, where=count > 0)


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median of what is known in each column, NaN where nothing is."""
    known = ~np.isnan(values).all(axis=0)
    median = np.full(values.shape[1], np.nan)
    median[known] = np.nanmedian(values[:, known], axis=0)
    return median


class _Usual:
    """What is usual on each day, learnt day by day from the days before.

    A route's usual parcels are those of the same weekday in the last eight weeks without
    holidays. A holiday keeps its country's share of them: parcels over usual parcels on all
    earlier holidays of the country.
    """

    def __init__(self, grid: _Grid):
        self.grid = grid
        self.sound = np.full(grid.y.shape, np.nan)
        n_countries = grid.country.max() + 1
        self.parcels, self.usual = np.zeros(n_countries), np.zeros(n_countries)

    def share(self, t: int) -> np.ndarray:
        """Return what a holiday keeps: NaN before one was seen, 1 on other days; (routes,)."""
        unknown = np.full(len(self.usual), np.nan)
        learnt = np.divide(self.parcels, self.usual, out=unknown, where=self.usual > 0)
        return np.where(self.grid.holiday[t], learnt[self.grid.country], 1.0)

    def weekdays(self, t: int) -> np.ndarray:
        """Return the same weekdays of the last weeks, shape (up to 8, routes)."""
        before = t - 7 * np.arange(1, WEEKS + 1)
        return self.sound[before[before >= 0]]

    def likely(self, t: int) -> np.ndarray:
        """Return what stands in for a day that was not reported, shape (routes,)."""
        mean = _mean(self.weekdays(t))
        if (new := np.isnan(mean)).any():
            mean[new] = np.nan_to_num(_mean(self.sound[max(t - 7 * WEEKS, 0) : t, new]))
        share = self.share(t)
        return np.where(np.isnan(share), 1.0, share) * mean

    def learn(self, t: int, y: np.ndarray) -> None:
        """Take in the parcels of a day, NaN where none were reported."""
        holiday, usual = self.grid.holiday[t], _mean(self.weekdays(t))
        self.sound[t] = np.where(holiday, np.nan, y)
        both = holiday & ~np.isnan(y) & ~np.isnan(usual)
        np.add.at(self.parcels, self.grid.country[both], y[both])
        np.add.at(self.usual, self.grid.country[both], usual[both])


def _in_hundreds(
    y: np.ndarray, usual: np.ndarray, depot: np.ndarray, before: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which depots' files of a day stand in hundreds.

    Parameters
    ----------
    y, usual : ndarray, shape (routes,)
        Reported parcels (NaN: no row) and usual ones (NaN: unknown).
    depot : ndarray of int, shape (routes,)
    before : ndarray of bool, shape (depots,)
        The verdict on the last day that could be judged.

    Returns
    -------
    tuple of ndarray of bool, shape (depots,)
        The verdict on the day, and the one to hand on.
    """
    counted = ~np.isnan(y) & ~np.isnan(usual)
    total, expected, n_routes = (
        np.bincount(depot, np.where(counted, values, 0.0), len(before))
        for values in (y, usual, np.ones(len(y)))
    )
    most = HUNDRED * total + HUNDRED / 2 * n_routes
    looks = (total < FAR_BELOW * expected) & (most >= EXPLAINED * expected)
    large = expected >= ENOUGH
    # A small day alone proves nothing: it is believed when the last large one was in hundreds.
    return looks & (large | before), np.where(large, looks, before)


def _walk(grid: _Grid) -> tuple[np.ndarray, np.ndarray]:
    """Go through the days once, judging and mending each by the days before it.

    Returns
    -------
    tuple of ndarray, shape (days, routes)
        Whether a row stands in hundreds, and the mended parcels: NaN only out of service.
    """
    usual, mended = _Usual(grid), np.full(grid.y.shape, np.nan)
    hundreds = np.zeros(grid.y.shape, bool)
    before = np.zeros(grid.depot.max() + 1, bool)
    for t, y in enumerate(grid.y):
        typical, likely = usual.share(t) * _median(usual.weekdays(t)), usual.likely(t)
        verdict, before = _in_hundreds(y, typical, grid.depot, before)
        hundreds[t] = verdict[grid.depot] & ~np.isnan(y)
        # Rounding to hundreds leaves 100 parcels open; inside them the usual day decides.
        low, high = np.maximum(HUNDRED * y - HUNDRED / 2, 0), HUNDRED * y + HUNDRED / 2
        y = np.where(hundreds[t], np.clip(likely, low, high), y)
        usual.learn(t, y)
        mended[t] = np.where(np.isnan(y) & grid.open[t], likely, y)
    return hundreds, mended


def _faults(grid: _Grid, hundreds: np.ndarray) -> dict[str, np.ndarray]:
    """Return where each fault stands, as masks of days by routes."""
    depots = np.eye(grid.depot.max() + 1, dtype=bool)[grid.depot]
    sent = (grid.copies > 0) @ depots
    missing = grid.open & (grid.copies == 0)
    return {
        "missing depot": missing & ~sent[:, grid.depot],
        "missing route": missing & sent[:, grid.depot],
        "duplicated": grid.copies > 1,
        "wrong unit": hundreds,
        "late": grid.first > 1,
    }


def _rows(grid: _Grid, where: np.ndarray, fault: str, **values: np.ndarray) -> pd.DataFrame:
    """Return a mask's rows with their fault, and the values of arrays at them."""
    t, route = np.nonzero(where)
    keys = {"unique_id": grid.routes[route], "ds": grid.days[t], "fault": fault}
    return pd.DataFrame(keys | {name: array[t, route] for name, array in values.items()})


def inspect(
    reports: pd.DataFrame, routes: pd.DataFrame, calendar: pd.DataFrame, day: pd.Timestamp
) -> pd.DataFrame:
    """Find the faults of the feed as it was known on a morning.

    Parameters
    ----------
    reports : DataFrame
        ``unique_id``, ``ds``, ``y``, ``received``; what arrives after ``day`` is not looked at.
    routes : DataFrame
        Master data: ``unique_id``, ``country``, ``depot``, ``opens``, ``closes``.
    calendar : DataFrame
        ``country``, ``ds`` of public holidays.
    day : Timestamp
        The morning.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``fault``, by route and day, one row for each fault of a route's
        day: ``missing depot`` (a depot with routes in service sent nothing), ``missing route``
        (it sent the others), ``duplicated`` (more than one row), ``wrong unit`` (the depot's
        file stands in hundreds) and ``late`` (first received later than the next day; until
        then it is missing).

    Raises
    ------
    FeedRejected
        If the rows known on ``day`` break the contract: check it and set them aside first.
    ValueError
        If no row is known on ``day``, or a route stands in the master data twice.

    Notes
    -----
    A file stands in hundreds when it holds less than a twentieth of what is usual for its
    routes (the median of the same weekday in the last eight weeks without holidays, summed;
    on a holiday times the share that earlier holidays of the country kept), when hundreds
    would explain at least a third of that, and when at least 100 parcels are usual. A smaller
    day follows the last larger one. Each day is judged by earlier days, already mended.
    """
    return repair(reports, routes, calendar, day).log[[*KEYS, "fault"]]


@dataclass(frozen=True)
class Repaired:
    """The feed of a morning after its repair.

    Attributes
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y`` (parcels, float): one row for each route and day in
        service, from the first reported day to the day before the morning.
    log : DataFrame
        ``unique_id``, ``ds``, ``fault`` (as of :func:`inspect`), ``repair`` (in words).
    """

    panel: pd.DataFrame
    log: pd.DataFrame


def repair(
    reports: pd.DataFrame, routes: pd.DataFrame, calendar: pd.DataFrame, day: pd.Timestamp
) -> Repaired:
    """Make of the feed of a morning one value for each route and day in service.

    Parameters
    ----------
    reports, routes, calendar, day
        As for :func:`inspect`.

    Returns
    -------
    Repaired

    Raises
    ------
    FeedRejected, ValueError
        As :func:`inspect`.

    Notes
    -----
    * Of several rows the one that was received last counts.
    * A missing day takes the mean of the same weekday in the last eight weeks without holidays,
      on a holiday times the share that earlier holidays of the country kept (all of it before
      the first). A route too young for that takes the mean of its days so far, or 0.
    * Hundreds are multiplied back; among the 100 parcels that rounding leaves open the value
      nearest to the mean of a missing day is taken.
    * A late file is used from the day on which it arrives; before, its days are missing.
    """
    grid = _grid(reports, routes, calendar, day)
    hundreds, mended = _walk(grid)
    faults = _faults(grid, hundreds)
    values = {"y": grid.y, "mended": mended, "copies": grid.copies, "first": grid.first}
    log = pd.concat(
        [_rows(grid, where, fault, **values) for fault, where in faults.items()], ignore_index=True
    )
    log["repair"] = [_words(row) for row in log.itertuples()]
    panel = _rows(grid, grid.open, "", y=mended)[[*KEYS, "y"]]
    return Repaired(
        panel.sort_values(KEYS, ignore_index=True),
        log[[*KEYS, "fault", "repair"]].sort_values([*KEYS, "fault"], ignore_index=True),
    )


def _words(row) -> str:
    """Return in words what was done about a fault."""
    match row.fault:
        case "duplicated":
            return f"one of {row.copies} rows kept"
        case "wrong unit":
            return f"{row.y:.0f} hundred read as {row.mended:.1f} parcels"
        case "late":
            return f"used since it came, {row.first} days after its day"
    return f"filled with {row.mended:.1f}, usual for such a day"
