"""Readers of public sets about how long something took: a delivery, a taxi trip."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: A trip of less than a minute or more than three hours is a meter that was left on or off.
SHORTEST, LONGEST = 1.0, 180.0


def deliveries(path: Path) -> pd.DataFrame:
    """Read the orders of a restaurant.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("deliveries")``: the R data file of the package modeldata.

    Returns
    -------
    DataFrame, 10,012 rows
        ``minutes`` (order to delivery), ``hour`` (of the order, with fraction), ``weekday``
        (0 is Monday), ``distance`` (miles), ``item_01`` … ``item_27`` (how many of each).

    Raises
    ------
    ValueError
        If it is not the whole set.
    """
    import rdata

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Missing constructor for R class")
        table = rdata.read_rda(path)["deliveries"]
    items = [name for name in table if str(name).startswith("item_")]
    if (len(table), len(items)) != (10_012, 27):
        raise ValueError(f"{path}: {len(table)} orders, {len(items)} items; not 10,012 and 27.")
    weekday = table["day"].astype(str).map({name: k for k, name in enumerate(DAYS)})
    columns = {"minutes": table["time_to_delivery"], "hour": table["hour"], "weekday": weekday}
    frame = pd.DataFrame({**columns, "distance": table["distance"], **table[items]})
    return frame.astype(float).reset_index(drop=True)


def taxis(path: Path) -> pd.DataFrame:
    """Read taxi trips of March 2019.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("taxis")``.

    Returns
    -------
    DataFrame
        ``pickup``, ``dropoff``, ``minutes``, ``distance`` (miles, metered), ``pickup_zone``,
        ``dropoff_zone``, ``pickup_borough``, ``dropoff_borough``; in the order of ``pickup``. Trips
        without a zone, or with a meter left on or off, are left out.

    Raises
    ------
    ValueError
        If it is not the whole set.
    """
    table = pd.read_csv(path, parse_dates=["pickup", "dropoff"])
    if len(table) != 6433:
        raise ValueError(f"{path} holds {len(table):,} trips; expected 6,433.")
    zones = ["pickup_zone", "dropoff_zone", "pickup_borough", "dropoff_borough"]
    minutes = (table["dropoff"] - table["pickup"]) / pd.Timedelta(minutes=1)
    good = minutes.between(SHORTEST, LONGEST) & table[zones].notna().all(axis=1)
    good &= table["pickup"] >= "2019-03-01"  # one trip is of February
    frame = table.loc[good, ["pickup", "dropoff", "distance", *zones]]
    return frame.assign(minutes=minutes).sort_values("pickup", ignore_index=True)
