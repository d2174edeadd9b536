"""Rossmann's stores laid out as routes: paths, the holidays that each store keeps, known features.

A store's opening days are planned, so they are known ahead: a closed day has no row. Which public
holidays a store keeps depends on its state, which the data do not name; it is read off the days on
which the store was closed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.features.calendar import AROUND_HOLIDAYS, holiday_features
from casebook.forecasting.origins import KNOWN, OLD

KEYS = ["unique_id", "ds"]
FIRST, LAST = pd.Timestamp("2013-01-01"), pd.Timestamp("2015-07-31")


def _ids(sales: pd.DataFrame) -> pd.Series:
    """Name each store by its path, ``type/type-assortment/store``."""
    number = sales["store"].astype(str).str.zfill(4)
    return sales["type"] + "/" + sales["type"] + sales["assortment"] + "/" + number


def german_holidays() -> pd.DatetimeIndex:
    """Return the days that are a public holiday in at least one German state."""
    import holidays

    years = range(FIRST.year - 1, LAST.year + 2)
    days = set()
    for state in holidays.Germany.subdivisions:
        days |= set(holidays.country_holidays("DE", subdiv=state, years=years))
    return pd.DatetimeIndex(sorted(days))


def calendars(panel: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Read off which public holidays each store keeps.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``.

    Returns
    -------
    region : Series
        By store: the number of its calendar. Stores that keep the same holidays share one.
    calendar : DataFrame
        ``country`` (the region), ``ds``.
    """
    days = german_holidays()
    days = days[(days >= FIRST) & (days <= LAST)]
    stores = np.sort(panel["unique_id"].unique())
    opened = panel[panel["ds"].isin(days)].assign(open=True)
    opened = opened.pivot(index="unique_id", columns="ds", values="open")
    closed = opened.reindex(index=stores, columns=days).isna()
    patterns, number = np.unique(closed.to_numpy(), axis=0, return_inverse=True)
    region = pd.Series(number.ravel().astype(str), index=stores)
    rows = [(str(k), day) for k, kept in enumerate(patterns) for day in days[kept]]
    return region, pd.DataFrame(rows, columns=["country", "ds"])


def _with_holidays(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the roles of the days around the holidays that each store keeps."""
    region, calendar = calendars(rows)
    days = pd.date_range(FIRST - pd.Timedelta(days=7), LAST + pd.Timedelta(days=7))
    around = holiday_features(calendar, days).rename(columns={"country": "region"})
    joined = rows.assign(region=rows["unique_id"].map(region)).merge(
        around, on=["region", "ds"], how="left"
    )
    # A store that keeps no holiday has no row there.
    roles = {name: joined[name].fillna(0.0).to_numpy(float) for name in AROUND_HOLIDAYS}
    return rows.reset_index(drop=True).assign(**roles)


def panel(sales: pd.DataFrame, every: int = 1) -> pd.DataFrame:
    """Lay out the stores as the forecasters see routes.

    Parameters
    ----------
    sales : DataFrame
        ``casebook.data.tables.rossmann``.
    every : int
        Take each store of so many.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``y`` (euro) and the known features; open days only.
    """
    chosen = sales[sales["store"] % every == 0] if every > 1 else sales
    rows = chosen.assign(unique_id=_ids(chosen)).astype({"y": float, "promotion": float})
    by_store = rows.groupby("unique_id")
    # New Year is closed nearly everywhere: a store seen in the first week was open before it.
    first = by_store["ds"].min()
    age = (rows["ds"] - rows["unique_id"].map(first)).dt.days.clip(upper=OLD)
    seen = rows["unique_id"].map(first > FIRST + pd.Timedelta(days=7))
    metres = by_store["distance"].first()
    distance = rows["unique_id"].map(metres.fillna(metres.median())) / 1000
    rows = rows.assign(age=age.where(seen, OLD).astype(float), distance=distance)
    return _with_holidays(rows)[[*KEYS, "y", *KNOWN]]
