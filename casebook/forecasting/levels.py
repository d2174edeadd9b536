"""What the night hands out: numbers in the right form, at a level that its places have had.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=30)
>>> panel = pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 100.0})
>>> routes = pd.DataFrame({"unique_id": ["BE/1/a"], "country": ["BE"], "depot": ["1"]})
>>> later = days + pd.Timedelta(days=30)
>>> ahead = pd.DataFrame({"unique_id": "BE/1/a", "ds": later, "y_hat": 1000.0})
>>> check_level(ahead, panel, routes)
Traceback (most recent call last):
...
casebook.forecasting.levels.ForecastRejected: the forecast for BE/1 is 10.00 times its last 28 ...
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.forecasting.classical import KEYS

#: Clean days that a forecast's level is compared with.
RECENT = 28
#: A forecast over recent parcels, both a day. In sixteen simulated worlds the parcels that really
#: came lay between 0.59 and 1.91 in a country and 0.31 and 3.4 in a depot, openings included.
BAND, DEPOT_BAND = (0.4, 2.5), (0.25, 4.0)
#: With fewer parcels a day a level tells nothing.
ENOUGH = 10


class ForecastRejected(ValueError):
    """A forecast breaks the contract of what the pipeline hands out."""


def check_values(values: np.ndarray, future: pd.DataFrame) -> np.ndarray:
    """Refuse forecasts that are not one finite, non-negative number for each row.

    Parameters
    ----------
    values : array_like
        What a forecaster returned; of a Series the index must be that of ``future``.
    future : DataFrame
        The rows that it was asked for.

    Returns
    -------
    ndarray of float, shape (len(future),)

    Raises
    ------
    ForecastRejected
    """
    if isinstance(values, pd.Series | pd.DataFrame) and not values.index.equals(future.index):
        raise ForecastRejected("forecasts in another order than the rows: keep their index")
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


def clean_level(panel: pd.DataFrame, repairs: pd.DataFrame | None) -> pd.Series:
    """Return each route's mean over its last 28 days that were reported as they were.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``.
    repairs : DataFrame or None
        ``unique_id``, ``ds``, ``fault`` as of :func:`casebook.data.feed.inspect`: days that were
        filled or stood in another unit do not count, however long ago the last clean one is.

    Returns
    -------
    Series
        Parcels a day by ``unique_id``; routes with fewer than seven clean days are missing.
    """
    by_route = _clean_days(panel, repairs).groupby(level="unique_id")
    return by_route.mean()[by_route.size() >= 7]


def _clean_days(panel: pd.DataFrame, repairs: pd.DataFrame | None) -> pd.Series:
    """Return each route's parcels on its last 28 days that were reported as they were."""
    rows = panel.set_index(KEYS)["y"]
    if repairs is not None:
        made_up = repairs["fault"].isin(["missing depot", "missing route", "wrong unit"])
        rows = rows.drop(pd.MultiIndex.from_frame(repairs.loc[made_up, KEYS]), errors="ignore")
    return rows.sort_index().groupby(level="unique_id").tail(RECENT)


def check_level(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    repairs: pd.DataFrame | None = None,
) -> None:
    """Refuse a forecast whose level in a depot or country is far from its last clean days.

    Parameters
    ----------
    forecasts : DataFrame
        ``unique_id``, ``ds``, ``y_hat``.
    panel, repairs : DataFrame
        As for :func:`clean_level`.
    routes : DataFrame
        ``unique_id``, ``country``, ``depot``.

    Raises
    ------
    ForecastRejected
        With the depot or country that lies farthest outside :data:`DEPOT_BAND` or :data:`BAND`.
        A route without history counts against the upper end alone.
    """
    judged = _judged(forecasts, panel, routes, repairs)
    outside = judged[~judged["inside"]]
    if len(outside):
        name = np.log(outside["ratio"].clip(lower=1e-9)).abs().idxmax()
        raise ForecastRejected(
            f"the forecast for {name} is {_far(outside.loc[name])} ({len(outside)} of "
            f"{len(judged)} depots and countries are)"
        )


def _far(place: pd.Series) -> str:
    ratio, low, high = place[["ratio", "low", "high"]]
    return f"{ratio:.2f} times its last {RECENT} clean days, outside {low:g} to {high:g}"


def _judged(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    repairs: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return of each depot and country ``ratio``, ``low``, ``high`` and ``inside``."""
    table = pd.DataFrame({"ahead": forecasts.groupby("unique_id")["y_hat"].mean()})
    table["level"] = clean_level(panel, repairs)
    table["known"] = table["ahead"].where(table["level"].notna())
    place, judged = routes.set_index("unique_id").reindex(table.index), []
    depot = place["country"] + "/" + place["depot"]
    for (low, high), group in ((DEPOT_BAND, depot), (BAND, place["country"])):
        sums = table.groupby(group).sum().query("level >= @ENOUGH")
        most, least = sums["ahead"] / sums["level"], sums["known"] / sums["level"]
        ratio = most.where(most > high, least)
        judged.append(pd.DataFrame({"ratio": ratio, "low": low, "high": high}))
    judged = pd.concat(judged)
    return judged.assign(inside=judged["ratio"].between(judged["low"], judged["high"]))


def hold_level(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    repairs: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Plan a few places that a forecast puts far off by their last clean days instead.

    For the fall-back, behind which nothing answers: one depot that was closed for a week must
    not cost all others their plan.

    Parameters
    ----------
    forecasts, panel, routes, repairs
        As for :func:`check_level`.

    Returns
    -------
    forecasts : DataFrame
        In a place outside its band each route has the mean of the same weekday over its last 28
        clean days; a route without them has the mean of the place's others.
    lines : list of str
        One for each such place.

    Raises
    ------
    ForecastRejected
        If more than half of the depots are outside, or a place still is.
    """
    country = routes.set_index("unique_id")["country"]
    places = (country + "/" + routes.set_index("unique_id")["depot"], country)  # depots first
    lines = []
    for of_route in places:
        judged = _judged(forecasts, panel, routes, repairs)
        judged = judged[judged.index.isin(of_route)]
        outside = judged[~judged["inside"]]
        if 2 * len(outside) > len(judged):
            break  # then it is the forecast, not the places: the check below refuses it
        for name, place in outside.iterrows():
            here = forecasts["unique_id"].map(of_route) == name
            usual = _usual_week(forecasts[here], panel, repairs)
            forecasts = forecasts.assign(y_hat=forecasts["y_hat"].mask(here, usual))
            lines.append(
                f"held: the forecast for {name} is {_far(place)}; it is planned by the same "
                "weekdays of those days: ask it whether it is closed"
            )
    check_level(forecasts, panel, routes, repairs)
    return forecasts, lines


def _usual_week(
    asked: pd.DataFrame, panel: pd.DataFrame, repairs: pd.DataFrame | None
) -> pd.Series:
    """Return for each row the mean of its weekday over its route's last clean days."""
    clean = _clean_days(panel, repairs).rename("y").reset_index()
    weekday = [clean["unique_id"], clean["ds"].dt.dayofweek]
    keys = pd.MultiIndex.from_arrays([asked["unique_id"], asked["ds"].dt.dayofweek])
    own = pd.Series(clean["y"].groupby(weekday).mean().reindex(keys).to_numpy(), asked.index)
    own = own.fillna(asked["unique_id"].map(clean.groupby("unique_id")["y"].mean()))
    return own.fillna(own.groupby(asked["ds"]).transform("mean")).fillna(asked["y_hat"])
