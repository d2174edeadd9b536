"""Readers of public sets of sales: what a restaurant used, what a gift shop sold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

INGREDIENTS = ("calamari", "fish", "shrimp", "chicken", "koefte", "lamb", "steak")
#: Lines of more units are agreed with a wholesaler and no demand of the day.
BULK = 100


def yaz(days: Path, demand: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the restaurant YAZ.

    Parameters
    ----------
    days, demand : Path
        ``casebook.data.real("yaz_days")`` and ``real("yaz_demand")``.

    Returns
    -------
    tuple of DataFrame, 765 rows each
        By day: units of the seven ingredients; and ``holiday``, ``closed`` (0 or 1), ``wind``,
        ``clouds``, ``rain``, ``sunshine``, ``temperature`` as they were on that day.

    Raises
    ------
    ValueError
        If it is not the whole set.
    """
    known, wanted = pd.read_csv(days, parse_dates=["date"]), pd.read_csv(demand)
    if (len(known), len(wanted), tuple(wanted)) != (765, 765, INGREDIENTS):
        raise ValueError(f"{demand}: {len(wanted)} days of {wanted.shape[1]} ingredients; expected "
                         "765 days of 7.")  # fmt: skip
    day = pd.DatetimeIndex(known["date"], name="day")
    known = known.rename(columns={"is_holiday": "holiday", "is_closed": "closed"}).set_index(day)
    columns = ["holiday", "closed", "wind", "clouds", "rain", "sunshine", "temperature"]
    return wanted.set_index(day).astype(float), known[columns].astype(float)


def online_retail(path: Path, products: int = 150, unseen: int = 0) -> pd.DataFrame:
    """Read units a day of the products of a gift shop that sold on most days.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("online_retail")``.
    products : int
        How many.
    unseen : int
        Days at the end that do not choose them: those of a test.

    Returns
    -------
    DataFrame
        By day, from 2009-12-01 to 2010-12-09; a column for each stock code. Cancelled invoices,
        codes that are no products, and lines of more than ``BULK`` units are left out.

    Raises
    ------
    ValueError
        If it is not the whole set.
    """
    table = pd.read_parquet(path)
    if len(table) != 525_461:
        raise ValueError(f"{path} holds {len(table):,} lines; expected 525,461.")
    code, units = table["StockCode"].astype(str), table["Quantity"]
    good = code.str.match(r"^\d{5}") & units.between(1, BULK)
    good &= ~table["Invoice"].astype(str).str.startswith("C")
    day = pd.to_datetime(table["InvoiceDate"]).dt.normalize().rename("day")
    daily = units[good].groupby([day[good], code[good]]).sum().unstack(fill_value=0)
    daily = daily.asfreq("D", fill_value=0)
    days = (daily[: len(daily) - unseen] > 0).sum()
    often = days.sort_values(ascending=False, kind="stable").index[:products]
    return daily[often].astype(float)
