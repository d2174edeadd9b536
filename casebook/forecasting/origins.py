"""What a global model may know as of an origin: levels, profiles, recent days, earlier promotions.

:func:`to_table` lays a panel out as days by nodes, with nothing observed from the origin on;
:func:`training_rows` replays earlier origins, each seeing its own past only.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=85)
>>> panel = pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 10.0})
>>> panel = panel.assign(**dict.fromkeys(KNOWN, 0.0))
>>> table = to_table(panel[:84], panel[84:])
>>> level, _ = level_and_profile(table, table.start)
>>> level.tolist(), training_rows(table).x.shape[0]
([10.0], 28)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from casebook.data.contracts import need_columns
from casebook.features.calendar import AROUND_HOLIDAYS
from casebook.forecasting.classical import DAY, KEYS, need_daily
from casebook.forecasting.walk import HORIZON

#: Known columns by route and day.
KNOWN = ("promotion", "holiday", "eve", "backlog_1", "backlog_2", "age", "distance")
#: Days since opening are counted up to here; a route that was open on the first day has them all.
OLD = 365
#: Days that a level is estimated on; rows that a model is trained on lie this far behind at least.
WINDOW = 56
#: Parcels of the country's weekday profile that stand beside a series' own.
PSEUDO_PARCELS = 5.0
#: A day counts as plain when less than this share of its volume has a holiday, eve or backlog …
PLAIN_HOLIDAY = 0.02
#: … and less than this share a promotion.
PLAIN_PROMOTION = 0.5


@dataclass(frozen=True)
class Table:
    """A panel as matrices, days x nodes, with nothing observed from the origin on.

    Attributes
    ----------
    days : DatetimeIndex, shape (days,)
        Consecutive; from the first training day to the last future day.
    ids : ndarray, shape (nodes,)
        Sorted names.
    y : ndarray, shape (days, nodes)
        Observations; NaN where there is no row, and from ``start`` on.
    known : dict of str to ndarray, shape (days, nodes)
    start : int
        Row of the origin, the first day to forecast.
    country : ndarray of int, shape (nodes,)
        Number of the node's country; the total counts as one.
    """

    days: pd.DatetimeIndex
    ids: np.ndarray
    y: np.ndarray
    known: dict[str, np.ndarray]
    start: int
    country: np.ndarray

    @cached_property
    def countries(self) -> tuple[str, ...]:
        """Names of the countries in the order of their numbers."""
        return tuple(np.unique([name.split("/")[0] for name in self.ids]).tolist())

    @cached_property
    def weekday(self) -> np.ndarray:
        """Weekday of each day, 0 is Monday, shape (days,)."""
        return self.days.dayofweek.to_numpy()

    @cached_property
    def around_holiday(self) -> np.ndarray:
        """Whether a day is a holiday, eve or backlog, shape (days, nodes)."""
        return sum(self.known[c] for c in AROUND_HOLIDAYS) >= PLAIN_HOLIDAY

    @cached_property
    def plain(self) -> np.ndarray:
        """Observations of plain days, else NaN, shape (days, nodes)."""
        promoted = self.known["promotion"] >= PLAIN_PROMOTION
        return np.where(self.around_holiday | promoted, np.nan, self.y)


def to_table(train: pd.DataFrame, future: pd.DataFrame) -> Table:
    """Lay out a panel of nodes as matrices.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y`` and :data:`KNOWN`; any order of rows. Ids are paths
        (``country/depot/route``), the total is ``total``.
    future : DataFrame
        ``unique_id``, ``ds`` and :data:`KNOWN`; empty to learn from ``train`` alone.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If a known column is missing, the rows are not daily, a training row is not older than
        every future row, or rows repeat a node and day.
    """
    need_columns(train, [*KEYS, "y", *KNOWN], "training rows")
    need_columns(future, [*KEYS, *KNOWN], "future rows")
    need_daily(train)
    origin = future["ds"].min() if len(future) else train["ds"].max() + DAY
    if (late := train["ds"] >= origin).any():
        raise ValueError(
            f"{late.sum()} training rows are not before the origin {origin:%Y-%m-%d}: cut them off."
        )
    both = pd.concat([train, future.drop(columns="y", errors="ignore")], ignore_index=True)
    if twice := int(both.duplicated(["unique_id", "ds"]).sum()):
        raise ValueError(f"{twice} rows repeat a node and day: repair the panel first.")
    days = pd.date_range(both["ds"].min(), both["ds"].max())
    ids, column = np.unique(both["unique_id"].to_numpy(str), return_inverse=True)
    row = (both["ds"] - days[0]).dt.days.to_numpy()
    matrices = {}
    for name in ("y", *KNOWN):
        matrices[name] = np.full((len(days), len(ids)), np.nan)
        matrices[name][row, column] = both[name]
    return Table(
        days=days,
        ids=ids,
        y=matrices.pop("y"),
        known=matrices,
        start=(origin - days[0]).days,
        country=np.unique([name.split("/")[0] for name in ids], return_inverse=True)[1],
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Return column means of what is there; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=0)
    return np.divide(
        np.nansum(values, axis=0), count, np.full(count.shape, np.nan), where=count > 0
    )


def level_and_profile(table: Table, origin: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimate level and weekday profile on the plain days of the 56 days before an origin.

    The level is the mean of the seven weekday means. The profile of a small series is drawn
    towards that of all series of its country, as if it had seen :data:`PSEUDO_PARCELS` more of
    each weekday with that profile.

    Parameters
    ----------
    table : Table
    origin : int
        Row of the first day that is not known.

    Returns
    -------
    level : ndarray, shape (nodes,)
        Parcels a day; NaN where fewer than five weekdays were seen.
    profile : ndarray, shape (7, nodes)
        Factor of each weekday, at least 0.02.
    """
    rows = slice(max(0, origin - WINDOW), origin)
    plain, weekday = table.plain[rows], table.weekday[rows]
    sums = np.stack([np.nansum(plain[weekday == d], axis=0) for d in range(7)])
    counts = np.stack([np.isfinite(plain[weekday == d]).sum(axis=0) for d in range(7)])
    means = np.divide(sums, counts, np.full(sums.shape, np.nan), where=counts > 0)
    level = np.where((counts > 0).sum(axis=0) >= 5, _mean(means), np.nan)
    expected = np.nan_to_num(counts * level)
    member = np.equal.outer(table.country, np.arange(table.country.max() + 1)).astype(float)
    prior = ((sums @ member + 1) / (expected @ member + 1)) @ member.T
    profile = (sums + PSEUDO_PARCELS * prior) / (expected + PSEUDO_PARCELS)
    return level, np.maximum(profile, 0.02)


def recent_ratio(
    table: Table, origin: int, n_days: int, level: np.ndarray, profile: np.ndarray
) -> np.ndarray:
    """Return how the last days compare with level and profile: where the depot stands now.

    Parameters
    ----------
    table : Table
    origin, n_days : int
        The days before the row of the origin.
    level, profile : ndarray
        See :func:`level_and_profile`.

    Returns
    -------
    ndarray, shape (nodes,)
        Observed over expected parcels of plain days, both plus two parcels (so that a sparse
        series is near one).
    """
    rows = slice(max(0, origin - n_days), origin)
    plain, expected = table.plain[rows], level * profile[table.weekday[rows]]
    seen = np.isfinite(plain) & np.isfinite(expected)
    observed = np.where(seen, plain, 0).sum(axis=0)
    return (observed + 2) / (np.where(seen, expected, 0).sum(axis=0) + 2)


def origin_features(
    table: Table, origin: int, lifts: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Describe the 28 days from an origin by what was known on the day before it.

    Parameters
    ----------
    table : Table
    origin : int
        Row of the first day to forecast; ``table.start``, or an earlier one to learn from.
    lifts : ndarray, shape (2, nodes)
        Observed and expected parcels of the promotions that ended before the origin.

    Returns
    -------
    features : dict of str to ndarray, shape (days ahead, nodes)
        ``ahead`` (days); ``last_7``, ``last_14``, ``last_28`` (:func:`recent_ratio`);
        ``log_level``, ``profile``, ``weekday``, ``day_of_year``, ``in_country`` (its number); the
        known columns; ``age_at_origin`` (-1: not open yet); ``lift`` (earlier promotions of the
        node, drawn towards their mean over all nodes).
    expected : ndarray, shape (days ahead, nodes)
        Level times profile: what the model's factor is relative to. NaN without a level.
    """
    stop = min(origin + HORIZON, len(table.days))
    shape = (stop - origin, len(table.ids))
    level, profile = level_and_profile(table, origin)
    usual_lift = (lifts[0].sum() + 1) / (lifts[1].sum() + 1)
    features = {
        "ahead": np.arange(shape[0])[:, None],
        **{f"last_{n}": recent_ratio(table, origin, n, level, profile) for n in (7, 14, 28)},
        "log_level": np.log(np.maximum(level, 1e-3)),
        "profile": profile[table.weekday[origin:stop]],
        "weekday": table.weekday[origin:stop, None],
        "day_of_year": table.days.dayofyear.to_numpy()[origin:stop, None],
        "in_country": table.country,
        **{name: values[origin:stop] for name, values in table.known.items()},
        # No day from the origin on: nothing to describe, and no age.
        "age_at_origin": np.nan_to_num(table.known["age"][origin : origin + 1], nan=-1),
        "lift": (lifts[0] + 20 * usual_lift) / (lifts[1] + 20),
    }
    expected = np.maximum(level, 1e-3) * profile[table.weekday[origin:stop]]
    return {name: np.broadcast_to(v, shape) for name, v in features.items()}, expected


@dataclass(frozen=True)
class Rows:
    """What a global model learns from and what it forecasts.

    Attributes
    ----------
    x, expected, y : ndarray, shape (rows, features), (rows,), (rows,)
        Training rows: features, level times profile, observed parcels.
    day, node : ndarray of int, shape (rows,)
        Row of the day and column of the node in the table, of each training row.
    x_future : ndarray, shape (days ahead, nodes, features)
    expected_future : ndarray, shape (days ahead, nodes)
    names : list of str
        Features.
    """

    x: np.ndarray
    expected: np.ndarray
    y: np.ndarray
    day: np.ndarray
    node: np.ndarray
    x_future: np.ndarray
    expected_future: np.ndarray
    names: list[str]


def block_lifts(table: Table, origin: int, expected: np.ndarray | None = None) -> np.ndarray:
    """Return observed and expected parcels of the promotions in the 28 days from an origin.

    Parameters
    ----------
    table : Table
    origin : int
        Row of its first day; the block must have ended when a forecast uses it.
    expected : ndarray, shape (28, nodes), optional
        As of :func:`origin_features`, where it is there already.

    Returns
    -------
    ndarray, shape (2, nodes)
    """
    rows = slice(origin, origin + HORIZON)
    if expected is None:
        level, profile = level_and_profile(table, origin)
        expected = np.maximum(level, 1e-3) * profile[table.weekday[rows]]
    y = table.y[rows]
    seen = np.isfinite(y) & np.isfinite(expected)
    promoted = (table.known["promotion"][rows] > 0) & seen & ~table.around_holiday[rows]
    return np.stack([np.where(promoted, v, 0).sum(axis=0) for v in (y, expected)])


def past_origins(start: int) -> range:
    """Return the rows that a forecast from ``start`` learns from: one every 28 days before it."""
    return range(start - HORIZON, WINDOW - 1, -HORIZON)[::-1]


def training_rows(table: Table) -> Rows:
    """Replay earlier forecasts: an origin every 28 days, each seeing its own past only.

    A row of training data is a day as it looked on the day before its origin, with one day to 28
    days ahead. So the model learns what a forecast for so many days ahead may rely on, and nothing
    has to be forecast recursively.

    Parameters
    ----------
    table : Table

    Returns
    -------
    Rows

    Raises
    ------
    ValueError
        If there is less history than one window and one horizon, or a future day lies more than
        28 days ahead.
    """
    if len(table.days) - table.start > HORIZON:
        raise ValueError(
            f"{len(table.days) - table.start} days to forecast, at most {HORIZON}: the plan of "
            "promotions is not known any further."
        )
    if not (origins := past_origins(table.start)):
        raise ValueError(f"less than {WINDOW + HORIZON} days of history before the origin")
    parts, lifts = [], np.zeros((2, len(table.ids)))
    for origin in origins:
        features, expected = origin_features(table, origin, lifts)
        y = table.y[origin : origin + HORIZON]
        seen = np.isfinite(y) & np.isfinite(expected)
        day, node = np.nonzero(seen)
        x = np.stack([v[seen] for v in features.values()], axis=1).astype(np.float32)
        parts.append((x, expected[seen], y[seen], origin + day, node))
        lifts = lifts + block_lifts(table, origin, expected)
    features, expected = origin_features(table, table.start, lifts)
    x_future = np.stack(list(features.values()), axis=-1).astype(np.float32)
    return Rows(*map(np.concatenate, zip(*parts, strict=True)), x_future, expected, list(features))
