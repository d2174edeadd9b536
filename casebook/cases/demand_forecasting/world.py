"""World of case 01: parcels a day over six countries, 24 depots and 120 routes.

Mechanisms
----------
The intensity of a route on a day is the product of

* a level, lognormal over depots and routes and falling with the distance; a
  tenth of the routes are *intermittent*, with less than one parcel a day;
* growth, a yearly rate of its country plus one of its own;
* the weekday, a profile of its country that some routes follow more steeply
  than others;
* the season, two yearly waves and a peak before Christmas, by country;
* public holidays of its country, many of them moving: almost no parcels on the
  day and, when it takes a working week's day, more on the working day before and
  a backlog on the two working days after;
* promotions of its customers: a planned week or so, with a lift that is the
  same in every promotion of the route; the plan is known 28 days ahead and longer;
* the shock of its depot, an autoregressive process in logs that depots of one
  country share in part;
* the break: on a day of its own in spring 2022 each country's level jumps, as
  in a pandemic, and half of the jump fades away within months; the weekday
  profile changes on the same day, for good.

Parcels are negative binomial around the intensity. Some routes open late, and
fill up over weeks; some close. On top of that come the faults of the feed: a
depot's day that was never sent, rows sent twice, three weeks of a depot in
hundreds of parcels, and files of a country that arrive days late, so that what
was known on a day is not what stands in the table today. A row has one fault at most.

Nothing here is estimated from data. Country codes select a real holiday
calendar and nothing else. Structure, parcels and faults are drawn from streams
of their own: with another constant the same seed gives the same world but for
what that constant governs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

CHAPTER = "01_demand_forecasting"
SEED = 2026
DAYS = pd.date_range("2021-01-01", "2024-06-30", freq="D")
YEARS = np.arange(len(DAYS)) / 365.25
#: Depots of each country.
DEPOTS = {"BR": 3, "DE": 5, "FR": 4, "PL": 3, "TR": 3, "US": 6}
ROUTES_PER_DEPOT = 5
KEYS = ["unique_id", "ds"]

#: Level: log mean and log sd of depots, log sd of routes, exponent of the distance.
DEPOT_LEVEL, ROUTE_SD, DISTANCE_DECAY = (5.2, 0.5), 0.6, 0.4
INTERMITTENT, INTERMITTENT_LEVEL = 12, (0.15, 0.60)
#: Log growth a year, of the country and of the route on top of it.
GROWTH, OWN_GROWTH = (0.0, 0.09), (-0.04, 0.04)
#: Monday to Sunday: the profile, and what the break does to it.
WEEK = (1.12, 1.18, 1.12, 1.08, 1.05, 0.55, 0.15)
WEEK_CHANGE = (0.98, 0.97, 0.98, 1.00, 1.02, 1.35, 1.60)
STEEPNESS = (0.85, 1.15)
#: Share on top at the peak, day of a common year (10 December), sd in days.
PEAK, PEAK_DAY, PEAK_SD = (0.25, 0.45), 344, 12
HOLIDAY, EVE, BACKLOG = 0.10, 1.12, (1.35, 1.15)
#: Log lift of a route's promotions.
LIFT = (0.20, 0.50)
SHOCK_PHI, SHOCK_SD, SHOCK_SHARED = 0.92, 0.10, 0.6
DISPERSION = 80.0
BREAK_FIRST_DAY, BREAK_LAST_DAY = "2022-03-01", "2022-05-01"
#: Size of the jump in logs; up in two countries of three.
BREAK_SIZE, BREAK_HALF_LIFE = (0.22, 0.40), 120
OPENING, OPENING_LATE, CLOSING = 6, 4, 4
#: A new route starts at this share of its level; the gap halves in so many days.
RAMP_START, RAMP_HALF_LIFE = 0.4, 14

OUTAGES, TWICE, UNIT_DAYS = 30, 60, 21
#: Late files anywhere, and one just before each of the last planning runs.
LATE_FILES, LATE_RUNS, RUN_EVERY = 24, 6, 28


@dataclass(frozen=True)
class Constants:
    """The two parts of demand that nobody can foresee; a study of sensitivity varies them.

    Attributes
    ----------
    shock_sd : float
        Standard deviation of a depot's shock, in logs.
    dispersion : float
        Of the negative binomial parcels; the noise variance beyond Poisson is one over it.
    """

    shock_sd: float = SHOCK_SD
    dispersion: float = DISPERSION


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes
    ----------
    reports : DataFrame
        The feed as it stands in the table today, faults included: ``unique_id``
        (``country/depot/route``), ``ds``, ``y`` (parcels; a day without any is a row with 0) and
        ``received`` (day on which the row arrived: a forecast made on the morning of a day knows
        the rows received by that day).
    routes : DataFrame
        Master data: ``unique_id``, ``country``, ``depot``, ``distance_km``, ``opens`` (first
        day), ``closes`` (first day without service, empty if none), both known when planned.
    calendar : DataFrame
        ``country``, ``ds``, ``holiday``: one row for each holiday. Known years ahead.
    promotions : DataFrame
        ``unique_id``, ``ds``: days with a planned promotion. Known 28 days ahead.
    truth : DataFrame
        What no model may see: ``unique_id``, ``ds``, ``y`` (parcels that were really sent),
        ``base`` (intensity without shock and break), ``jump`` (log of the break, of level and
        weekday), ``shock`` (log of the depot's shock). The intensity is
        ``base * exp(jump + shock)``.
    faults : DataFrame
        Where faults were planted: ``unique_id``, ``ds``, ``fault`` (missing, duplicated, wrong
        unit, late).
    constants : Constants
        With which it was simulated.
    """

    reports: pd.DataFrame
    routes: pd.DataFrame
    calendar: pd.DataFrame
    promotions: pd.DataFrame
    truth: pd.DataFrame
    faults: pd.DataFrame
    constants: Constants = Constants()


@cache
def _holidays() -> pd.DataFrame:
    import holidays

    years = range(DAYS[0].year, DAYS[-1].year + 1)
    # In English everywhere: without a language the names follow the reader's locale.
    rows = [
        (country, pd.Timestamp(day), name)
        for country in DEPOTS
        for day, name in sorted(
            holidays.country_holidays(country, years=years, language="en_US").items()
        )
    ]
    frame = pd.DataFrame(rows, columns=["country", "ds", "holiday"])
    return frame[frame["ds"].isin(DAYS)].reset_index(drop=True)


def holiday_calendar() -> pd.DataFrame:
    """Return the public holidays of the countries, moving ones included.

    Returns
    -------
    DataFrame
        ``country``, ``ds``, ``holiday``: one row for each holiday.
    """
    return _holidays().copy()


def _holiday_effect(country: str) -> np.ndarray:
    """Return the factor of holidays, eves and backlogs, shape (days,)."""
    calendar = _holidays()
    closed = DAYS.isin(calendar.loc[calendar["country"] == country, "ds"])
    working = np.flatnonzero(~closed & (DAYS.dayofweek < 6))
    effect = np.where(closed, HOLIDAY, 1.0)
    # Little is lost on a weekend, so only a holiday from Monday to Friday has an eve and a
    # backlog. A day has one effect: a later line wins.
    after = np.searchsorted(working, np.flatnonzero(closed & (DAYS.dayofweek < 5)))
    effect[working[after[after > 0] - 1]] = EVE
    effect[working[after + 1]] = BACKLOG[1]
    effect[working[after]] = BACKLOG[0]
    return effect


def _season(rng: np.random.Generator) -> np.ndarray:
    """Return two yearly waves and the peak of a country, shape (days,)."""
    angle = 2 * np.pi * DAYS.dayofyear.to_numpy() / 365.25
    waves = rng.uniform(0.04, 0.10) * np.cos(angle - rng.uniform(0, 2 * np.pi))
    waves += rng.uniform(0.02, 0.05) * np.cos(2 * angle - rng.uniform(0, 2 * np.pi))
    from_peak = (DAYS.dayofyear - DAYS.is_leap_year - PEAK_DAY).to_numpy()
    return np.exp(waves) * (1 + rng.uniform(*PEAK) * np.exp(-0.5 * (from_peak / PEAK_SD) ** 2))


def _break(rng: np.random.Generator) -> np.ndarray:
    """Return the log of a country's break, of level and weekday, shape (days,)."""
    first, last = DAYS.get_loc(BREAK_FIRST_DAY), DAYS.get_loc(BREAK_LAST_DAY)
    age = np.arange(len(DAYS)) - rng.integers(first, last, endpoint=True)
    size = rng.choice([-1, 1, 1]) * rng.uniform(*BREAK_SIZE)
    level = size * (0.5 + 0.5 * 0.5 ** (age.clip(0) / BREAK_HALF_LIFE))
    return np.where(age >= 0, level + np.log(WEEK_CHANGE)[DAYS.dayofweek], 0.0)


def _shocks(rng: np.random.Generator, n_depots: int, sd: float = SHOCK_SD) -> np.ndarray:
    """Return log shocks of a country's depots, stationary from the first day, (depots, days)."""
    shared, own = rng.normal(size=len(DAYS)), rng.normal(size=(n_depots, len(DAYS)))
    shocks = sd * (np.sqrt(SHOCK_SHARED) * shared + np.sqrt(1 - SHOCK_SHARED) * own)
    for t in range(1, len(DAYS)):
        shocks[:, t] = SHOCK_PHI * shocks[:, t - 1] + np.sqrt(1 - SHOCK_PHI**2) * shocks[:, t]
    return shocks


def _promotion_plan(rng: np.random.Generator) -> np.ndarray:
    """Return a route's planned days, shape (days,): two to five promotions a year."""
    planned = np.zeros(len(DAYS), bool)
    for year_start in range(0, len(DAYS), 365):
        for start in year_start + rng.choice(355, size=rng.integers(2, 6), replace=False):
            planned[start : start + rng.integers(5, 11)] = True
    return planned


def _ramp(opens: pd.Timestamp) -> np.ndarray:
    """Return how a route fills up after its opening, shape (days,)."""
    if opens == DAYS[0]:
        return np.ones(len(DAYS))
    age = (DAYS - opens).days.to_numpy().clip(0)
    return 1 - (1 - RAMP_START) * 0.5 ** (age / RAMP_HALF_LIFE)


def _routes(rng: np.random.Generator) -> pd.DataFrame:
    """Return the master data, with the level of each route."""
    rows = []
    for country, n_depots in DEPOTS.items():
        for depot in range(1, n_depots + 1):
            size = rng.lognormal(*DEPOT_LEVEL)
            for route in range(1, ROUTES_PER_DEPOT + 1):
                name, distance = f"{country}/{country}{depot}/r{route}", rng.integers(30, 900)
                level = size * rng.lognormal(0, ROUTE_SD) * (distance / 400) ** -DISTANCE_DECAY
                rows.append((name, country, f"{country}{depot}", distance, level))
    columns = ["unique_id", "country", "depot", "distance_km", "level"]
    frame = pd.DataFrame(rows, columns=columns)
    parts = np.cumsum([INTERMITTENT, OPENING, OPENING_LATE, CLOSING])
    sparse, opening, late, closing, _ = np.split(rng.permutation(len(frame)), parts)
    frame.loc[sparse, "level"] = rng.uniform(*INTERMITTENT_LEVEL, len(sparse))
    frame["opens"], frame["closes"] = DAYS[0], pd.NaT
    frame.loc[opening, "opens"] = DAYS[rng.integers(600, 1000, OPENING)]
    frame.loc[late, "opens"] = DAYS[len(DAYS) - rng.integers(30, 110, OPENING_LATE)]
    frame.loc[closing, "closes"] = DAYS[rng.integers(700, 1150, CLOSING)]
    return frame


def _country_days(
    rng: np.random.Generator, country: str, routes: pd.DataFrame, constants: Constants
) -> list[pd.DataFrame]:
    """Return for each route of a country its days: base, jump, shock and whether promoted."""
    growth, season = rng.uniform(*GROWTH), _season(rng) * _holiday_effect(country)
    week = (np.array(WEEK) * rng.uniform(0.93, 1.07, 7))[DAYS.dayofweek]
    jump, depots = _break(rng), routes["depot"].unique()
    shocks = dict(zip(depots, _shocks(rng, len(depots), constants.shock_sd), strict=True))
    frames = []
    for route in routes.itertuples():
        promoted, lift = _promotion_plan(rng), rng.uniform(*LIFT)
        growing = np.exp((growth + rng.uniform(*OWN_GROWTH)) * YEARS)
        usual = route.level * _ramp(route.opens) * growing * season
        base = usual * week ** rng.uniform(*STEEPNESS) * np.exp(lift * promoted)
        days = {"ds": DAYS, "base": base, "jump": jump, "shock": shocks[route.depot]}
        frame = pd.DataFrame({"unique_id": route.unique_id, **days, "promoted": promoted})
        frames.append(frame[(route.opens <= DAYS) & ~(route.closes <= DAYS)])
    return frames


def _late_files(rng: np.random.Generator, unit_days: np.ndarray) -> pd.DataFrame:
    """Return the files that come late: ``country``, ``ds``, ``delay`` (days)."""
    quiet = np.setdiff1d(np.arange(60, len(DAYS) - 200), unit_days)
    runs = len(DAYS) - RUN_EVERY * np.arange(1, LATE_RUNS + 1)
    days = np.concatenate(
        [rng.choice(quiet, LATE_FILES, replace=False), runs - rng.integers(1, 4, LATE_RUNS)]
    )
    countries, delay = rng.choice(list(DEPOTS), len(days)), rng.integers(3, 7, len(days))
    return pd.DataFrame({"country": countries, "ds": DAYS[days], "delay": delay})


def _plant(rng: np.random.Generator, rows: pd.DataFrame) -> tuple[dict[str, pd.Index], pd.Series]:
    """Return the rows of each fault, none in two, and the delay of each row."""
    depot, start = rng.choice(rows["depot"].unique()), rng.integers(500, 900)
    unit_days = np.arange(start, start + UNIT_DAYS)
    unit = rows.index[(rows["depot"] == depot) & rows["ds"].isin(DAYS[unit_days])]
    delay = rows.merge(_late_files(rng, unit_days), how="left")["delay"].fillna(0)
    late = rows.index[delay > 0]

    free = rows.drop(index=unit.union(late))
    free = free[free["ds"] >= DAYS[60]]
    files = free.loc[free["ds"] < DAYS[-120], ["depot", "ds"]].drop_duplicates()
    silent = files.iloc[rng.choice(len(files), OUTAGES, replace=False)]
    missing = free.reset_index().merge(silent)["index"]
    twice = rng.choice(free.index.difference(missing), TWICE, replace=False)
    return {"wrong unit": unit, "late": late, "missing": missing, "duplicated": twice}, delay


def _feed(
    rng: np.random.Generator, truth: pd.DataFrame, routes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the reports with their faults, and where the faults were planted."""
    feed = truth[[*KEYS, "y"]].merge(routes[["unique_id", "country", "depot"]])
    rows, delay = _plant(rng, feed)
    feed["received"] = feed["ds"] + pd.to_timedelta(1 + delay, unit="D")
    unit = rows["wrong unit"]
    feed.loc[unit, "y"] = (feed.loc[unit, "y"] / 100).round().astype(int)
    sent = pd.concat([feed.drop(index=rows["missing"]), feed.loc[rows["duplicated"]]])
    faults = pd.concat(feed.loc[index, KEYS].assign(fault=name) for name, index in rows.items())
    return (
        sent.sort_values(KEYS, ignore_index=True)[[*KEYS, "y", "received"]],
        faults.sort_values(KEYS, ignore_index=True),
    )


def simulate(seed: int = SEED, constants: Constants | None = None) -> World:
    """Simulate the world.

    Parameters
    ----------
    seed : int
        The same seed gives the same world, bit by bit.
    constants : Constants, optional
        Other sizes of what nobody can foresee; the rest of the world stays the same.

    Returns
    -------
    World
        120 routes over 1,277 days.
    """
    constants = constants or Constants()
    structure, parcels, faulty = np.random.default_rng(seed).spawn(3)
    routes, days = _routes(structure), []
    for country, group in routes.groupby("country"):
        days += _country_days(structure, country, group, constants)
    truth = pd.concat(days, ignore_index=True)
    intensity = truth["base"] * np.exp(truth["jump"] + truth["shock"])
    dispersion = constants.dispersion
    y = parcels.negative_binomial(dispersion, dispersion / (dispersion + intensity))
    truth.insert(2, "y", y)
    promoted = truth.pop("promoted")
    reports, faults = _feed(faulty, truth, routes)
    return World(
        reports=reports,
        routes=routes.drop(columns="level"),
        calendar=holiday_calendar(),
        promotions=truth.loc[promoted, KEYS].reset_index(drop=True),
        truth=truth,
        faults=faults,
        constants=constants,
    )


def oracle(world: World, origin: pd.Timestamp, horizon: int) -> pd.DataFrame:
    """Forecast with everything that could be known on the day before the origin.

    The oracle knows all mechanisms, the plans of routes and promotions, and the
    state of each shock on the day before the origin. It does not know future
    shocks, nor a break that has not begun.

    Parameters
    ----------
    world : World
        With its truth.
    origin : Timestamp
        First day to forecast.
    horizon : int
        Days.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``oracle``: the conditional mean of the parcels. Only routes that
        were open on the day before the origin.

    Raises
    ------
    ValueError
        When the world does not hold the day before the origin and all days of the horizon.

    Notes
    -----
    The conditional mean of a log-AR(1) shock ``h`` days ahead is
    ``exp(phi**h * s + sd**2 * (1 - phi**(2 * h)) / 2)``.
    """
    origin = pd.Timestamp(origin)
    yesterday, last = origin - pd.Timedelta(days=1), origin + pd.Timedelta(days=horizon - 1)
    if not DAYS[0] < origin <= last <= DAYS[-1]:
        raise ValueError(
            f"no {horizon} days to forecast from {origin:%Y-%m-%d}: choose an origin after "
            f"{DAYS[0]:%Y-%m-%d} and at least one day, none after {DAYS[-1]:%Y-%m-%d}"
        )
    before = world.truth.loc[world.truth["ds"] == yesterday, ["unique_id", "jump", "shock"]]
    future = world.truth[world.truth["ds"].between(origin, last)]
    future = future.merge(before, on="unique_id", suffixes=("", "_before"))
    carry = SHOCK_PHI ** ((future["ds"] - yesterday).dt.days)
    # A break that has begun goes on as its mechanism says; one that has not is unknown.
    jump = np.where(future["jump_before"] != 0, future["jump"], 0.0)
    shock = carry * future["shock_before"] + world.constants.shock_sd**2 * (1 - carry**2) / 2
    return future[KEYS].assign(oracle=future["base"] * np.exp(jump + shock))


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what stands in ``data/01_demand_forecasting/``, by file name.

    The truth is not among them: ``simulate()`` gives it to the evaluation.
    """
    world = simulate()
    return {
        "reports.parquet": world.reports,
        "routes.parquet": world.routes,
        "calendar.parquet": world.calendar,
        "promotions.parquet": world.promotions,
        "faults.parquet": world.faults,
    }
