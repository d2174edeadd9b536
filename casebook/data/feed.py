"""The faults of the depots' daily feed, and their repair: one value for each route and day.

What the contract lets through (:mod:`~casebook.data.reports`) may still be
missing, doubled, late or in another unit: :func:`inspect` finds it, :func:`repair` mends it. Both
judge a day by earlier days only, so that the repaired past is what a forecaster could have had.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=4)
>>> routes = pd.DataFrame({"unique_id": ["BE/1/a"], "country": ["BE"], "depot": ["1"]})
>>> routes = routes.assign(opens=days[0], closes=pd.NaT)
>>> sent = pd.DataFrame({"unique_id": "BE/1/a", "ds": days[[0, 2]], "y": [40, 44]})
>>> sent["received"] = sent["ds"] + DAY
>>> calendar = pd.DataFrame({"country": ["BE"], "ds": [pd.Timestamp("2024-01-01")]})
>>> inspect(sent, routes, calendar, days[3])["fault"].tolist()
['missing depot']
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.data.reports import (
    DAY,
    KEYS,
    as_of,
    check_contract,
    morning,
)

#: A day is compared with the same weekday of so many weeks before it.
WEEKS = 8
#: Units that a depot's software may switch to, and the share of what is usual below which a file
#: may stand in them: five times a true hundredth, twice and a half a true tenth. A holiday that
#: the calendar does not know keeps a tenth too, so tens ask for more: see ``ALIKE``.
UNITS = {100: 1 / 20, 10: 1 / 4}
NAMES = {100: "hundred", 10: "tens"}
#: With fewer parcels expected, a day is too small to tell a unit from a quiet day.
ENOUGH = 100
#: A file of fewer parcels does not tell a unit from a day on which hardly anything came.
LEAST = 2
#: The unit, with what its rounding may hide, must explain this share of what is usual: a depot on
#: strike sends zeros, and they are true.
EXPLAINED = 1 / 3
#: Tens are believed of a depot when the others of its country have this share of what is usual,
#: or on the second day: a country's unknown holiday looks the same on the first.
ALIKE = 1 / 2


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
    day = morning(day)
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
    if not len(values):
        return np.full(values.shape[1], np.nan)
    # Sorted, what is unknown comes last; numpy's own takes ten times as long on so few rows.
    ordered, count = np.sort(values, axis=0), (~np.isnan(values)).sum(axis=0)
    middle = [np.maximum(count - k, 0) // 2 for k in (1, 0)]
    low, high = (
        np.take_along_axis(ordered, m[None, :].clip(max=len(values) - 1), 0)[0] for m in middle
    )
    return np.where(count > 0, (low + high) / 2, np.nan)


class _Usual:
    """What is usual on each day, learnt day by day from the days before.

    A route's usual parcels are those of the same weekday in the last eight weeks without
    holidays. A holiday keeps its country's share of them: parcels over usual parcels on all
    earlier holidays of the country.
    """

    def __init__(self, grid: _Grid):
        self.grid = grid
        self.sound = np.full(grid.y.shape, np.nan)
        self.last = np.full((7, grid.y.shape[1]), np.nan)
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
            recent = _mean(self.sound[max(t - 7 * WEEKS, 0) : t, new])
            silent = self.last[t % 7, new]  # for longer than the weeks: its last such day
            mean[new] = np.nan_to_num(np.where(np.isnan(recent), silent, recent))
        share = self.share(t)
        return np.where(np.isnan(share), 1.0, share) * mean

    def learn(self, t: int, y: np.ndarray) -> None:
        """Take in the parcels of a day, NaN where none were reported."""
        holiday, usual = self.grid.holiday[t], _mean(self.weekdays(t))
        self.sound[t] = np.where(holiday, np.nan, y)
        self.last[t % 7] = np.where(np.isnan(self.sound[t]), self.last[t % 7], self.sound[t])
        both = holiday & ~np.isnan(y) & ~np.isnan(usual)
        np.add.at(self.parcels, self.grid.country[both], y[both])
        np.add.at(self.usual, self.grid.country[both], usual[both])


def _in_unit(
    unit: int,
    sums: tuple[np.ndarray, np.ndarray, np.ndarray],
    country: np.ndarray,
    before: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which depots' files of a day stand in a unit.

    Parameters
    ----------
    unit : int
        Of :data:`UNITS`.
    sums : tuple of ndarray, shape (depots,)
        Reported parcels, usual ones and number of the routes that have both.
    country : ndarray of int, shape (depots,)
    before : ndarray of bool, shape (depots,)
        How the last day that could be judged looked.

    Returns
    -------
    tuple of ndarray of bool, shape (depots,)
        The verdict on the day, and the look to hand on.
    """
    total, expected, n_routes = sums
    most = unit * total + unit / 2 * n_routes
    looks = (total < UNITS[unit] * expected) & (most >= EXPLAINED * expected)
    # A small day alone proves nothing, nor do counts so small that they may be true, zeros above
    # all: such a day is believed when the last one that could tell looked so too.
    tells = (expected >= ENOUGH) & (~looks | (total >= LEAST))
    verdict, after = looks & (tells | before), np.where(tells, looks, before)
    if unit == 10:
        others, usual = (np.bincount(country, v)[country] - v for v in (total, expected))
        verdict &= before | (others >= ALIKE * np.maximum(usual, ENOUGH))
    return verdict, after


def _walk(grid: _Grid) -> tuple[np.ndarray, np.ndarray]:
    """Go through the days once, judging and mending each by the days before it.

    Returns
    -------
    tuple of ndarray, shape (days, routes)
        The unit of each row (1: parcels), and the mended parcels: NaN only out of service.
    """
    usual, mended = _Usual(grid), np.full(grid.y.shape, np.nan)
    units, n_depots = np.ones(grid.y.shape, int), grid.depot.max() + 1
    country = np.zeros(n_depots, int)
    country[grid.depot] = grid.country
    before = {unit: np.zeros(n_depots, bool) for unit in UNITS}
    for t, y in enumerate(grid.y):
        typical, likely = usual.share(t) * _median(usual.weekdays(t)), usual.likely(t)
        counted = ~np.isnan(y) & ~np.isnan(typical)
        sums = tuple(
            np.bincount(grid.depot, np.where(counted, values, 0.0), n_depots)
            for values in (y, typical, np.ones(len(y)))
        )
        for unit in sorted(UNITS):  # where both fit, hundreds win
            verdict, before[unit] = _in_unit(unit, sums, country, before[unit])
            units[t, verdict[grid.depot] & ~np.isnan(y)] = unit
        # Rounding to a unit leaves as many parcels open; inside them the usual day decides.
        unit = units[t]
        low, high = np.maximum(unit * y - unit / 2, 0), unit * y + unit / 2
        y = np.where(unit > 1, np.clip(likely, low, high), y)
        usual.learn(t, y)
        mended[t] = np.where(np.isnan(y) & grid.open[t], likely, y)
    return units, mended


def _faults(grid: _Grid, units: np.ndarray) -> dict[str, np.ndarray]:
    """Return where each fault stands, as masks of days by routes."""
    depots = np.eye(grid.depot.max() + 1, dtype=bool)[grid.depot]
    sent = (grid.copies > 0) @ depots
    missing = grid.open & (grid.copies == 0)
    return {
        "missing depot": missing & ~sent[:, grid.depot],
        "missing route": missing & sent[:, grid.depot],
        "duplicated": grid.copies > 1,
        "wrong unit": units > 1,
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
        file stands in tens or hundreds) and ``late`` (first received later than the next day; until
        then it is missing).

    Raises
    ------
    FeedRejected
        If the rows known on ``day`` break the contract: check it and set them aside first.
    ValueError
        If no row is known on ``day``, or the master data are broken.

    Notes
    -----
    A file stands in hundreds when it holds less than a twentieth of what is usual for its
    routes (the median of the same weekday in the last eight weeks without holidays, summed;
    on a holiday times the share that earlier holidays of the country kept), when hundreds
    would explain at least a third of that, and when at least 100 parcels are usual. A smaller
    day follows the last larger one. It stands in tens when it holds less than a quarter that
    tens explain, and the country's other depots are not low as well; where they are, or there
    are none, from the second such day on. Each day is judged by earlier days, already mended.
    """
    return repair(reports, routes, calendar, day).log[[*KEYS, "fault"]]


@dataclass(frozen=True)
class Repaired:
    """The feed of a morning after its repair.

    Attributes
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y`` (parcels, float): one row for each route and day in
        service, from the first reported day to the day before the morning. A route that never
        reported has no rows: nothing is known of it.
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
    * A route that is silent for more than eight weeks keeps the last value of each weekday.
    * Tens and hundreds are multiplied back; among the parcels that rounding leaves open the value
      nearest to the mean of a missing day is taken.
    * A late file is used from the day on which it arrives; before, its days are missing.
    """
    grid = _grid(reports, routes, calendar, day)
    units, mended = _walk(grid)
    faults = _faults(grid, units)
    values = {"y": grid.y, "mended": mended, "copies": grid.copies, "first": grid.first}
    values["unit"] = units
    log = pd.concat(
        [_rows(grid, where, fault, **values) for fault, where in faults.items()], ignore_index=True
    )
    log["repair"] = [_words(row) for row in log.itertuples()]
    reported = grid.open & (grid.copies > 0).any(axis=0)
    panel = _rows(grid, reported, "", y=mended)[[*KEYS, "y"]]
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
            return f"{row.y:.0f} {NAMES[row.unit]} read as {row.mended:.1f} parcels"
        case "late":
            return f"used since it came, {row.first} days after its day"
    return f"filled with {row.mended:.1f}, usual for such a day"
