"""Rossmann's stores laid out as routes: paths, the holidays that each store keeps, known features.

A store's opening days are planned, so they are known ahead: a closed day has no row. Which public
holidays a store keeps depends on its state, which the data do not name; it is read off the days on
which the store was closed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.features import add_known

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
    rows = chosen.assign(unique_id=_ids(chosen)).astype({"y": float})
    first, region_of = rows.groupby("unique_id")["ds"].min(), calendars(rows)
    region, calendar = region_of
    # New Year is closed nearly everywhere: a store seen in the first week was open before it.
    opens = first.where(first > FIRST + pd.Timedelta(days=7), FIRST)
    metres = rows.groupby("unique_id")["distance"].first()
    stores = pd.DataFrame(
        {
            "unique_id": region.index,
            "country": region.to_numpy(),
            "distance_km": metres.fillna(metres.median()).reindex(region.index).to_numpy() / 1000,
            "opens": opens.reindex(region.index).to_numpy(),
        }
    )
    promotions = rows.loc[rows["promotion"] == 1, KEYS]
    return add_known(rows[[*KEYS, "y"]], stores, calendar, promotions)
