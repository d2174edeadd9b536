"""The same functions on public data: orders of a restaurant, trips of taxis; all in minutes.

Neither set has scans: each row is one moment with one outcome. What meets real data here are the
quantile model, the routes' history, both conformal corrections and the scores; hubs, queues and the
stream do not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.evaluation import compare, deciles, score
from casebook.cases.delivery_eta.ladder import routes
from casebook.cases.delivery_eta.quantiles import DIRECT, adapted, conformalise, fit, follower
from casebook.data import real
from casebook.recorded.real import from_real

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: Random splits of the orders, which have no date.
SPLITS = tuple(range(5))
ORDER_FEATURES = ("hour", "weekday", "distance", "items")
#: Not the metered distance: it is known when the trip is over.
TRIP_FEATURES = ("hour", "weekday", "from_zone", "to_zone")
#: A trip of less than a minute or more than three hours is a meter that was left on or off.
SHORTEST, LONGEST = 1.0, 180.0
COLUMNS = ["coverage", "late", "width", "interval_score", "pinball", "mae"]


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


def as_orders(table: pd.DataFrame) -> pd.DataFrame:
    """Return orders as moments; bands of hour and distance stand for the zones."""
    hour = np.clip((table["hour"] // 2).astype(int), 5, 10).astype(str)
    band = pd.qcut(table["distance"], 5, labels=False).astype(str)
    items = table.filter(like="item_").sum(axis=1)
    frame = table[["hour", "weekday", "distance"]].assign(items=items, stage="collected", step=0)
    keys = {"origin": hour, "destination": band, "origin_hub": hour, "destination_hub": "all"}
    return frame.assign(**keys, service="order", remaining=table["minutes"], truth=table["minutes"])


def as_trips(table: pd.DataFrame) -> pd.DataFrame:
    """Return trips as moments; a trip becomes known when it ends."""
    start = table["pickup"]
    codes = {name: pd.factorize(table[name], sort=True)[0] for name in table.filter(like="_zone")}
    return pd.DataFrame(
        {
            "known_at": start.astype("datetime64[s]"),
            "label_at": table["dropoff"].astype("datetime64[s]"),
            "hour": start.dt.hour + start.dt.minute / 60,
            "weekday": start.dt.dayofweek,
            "from_zone": codes["pickup_zone"],
            "to_zone": codes["dropoff_zone"],
            "origin": table["pickup_zone"],
            "destination": table["dropoff_zone"],
            "origin_hub": table["pickup_borough"],
            "destination_hub": table["dropoff_borough"],
            "service": "taxi",
            "stage": "collected",
            "step": 0,
            "remaining": table["minutes"],
            "truth": table["minutes"],
        }
    )


def ladder(
    train: pd.DataFrame, calibration: pd.DataFrame, test: pd.DataFrame, features: Sequence[str]
) -> pd.DataFrame:
    """Fit, calibrate and score the rungs that need no scans.

    Returns
    -------
    DataFrame
        ``model``, ``n``, scores in minutes, and ``worst_decile`` (least coverage of the ten groups
        of zone pairs by what they took in training).
    """
    model = fit(train, features, **DIRECT)
    made = {
        "routes": routes(train).predict(test),
        "lightgbm": model.predict(test),
        "cqr": conformalise(model, calibration).predict(test),
    }
    if "label_at" in test:
        made["adaptive"] = adapted(model, follower(model, calibration), test)
    table = compare(test, made)
    group = deciles(test, train)
    worst = {
        name: score(test, f, group)["coverage"].drop(0, errors="ignore") for name, f in made.items()
    }
    table["worst_decile"] = pd.Series({name: values.min() for name, values in worst.items()})
    return table.reset_index()[["model", "n", *COLUMNS, "worst_decile"]]


def real_deliveries(splits: Sequence[int] = SPLITS) -> pd.DataFrame:
    """Score the rungs on the restaurant's orders: 60 % to train, 20 % to calibrate, 20 % to test.

    Returns
    -------
    DataFrame
        ``split`` and as of :func:`ladder`; ``data``.
    """
    rows = as_orders(deliveries(real("deliveries")))
    parts = []
    for seed in splits:
        order = np.random.default_rng(seed).permutation(len(rows))
        cut = [int(0.6 * len(rows)), int(0.8 * len(rows))]
        three = (rows.iloc[np.sort(part)] for part in np.split(order, cut))
        parts.append(ladder(*three, ORDER_FEATURES).assign(split=seed))
    return from_real(pd.concat(parts, ignore_index=True), "deliveries")


def real_taxis() -> pd.DataFrame:
    """Score the rungs on taxi trips by time: 60 % to train, 20 % to calibrate, 20 % to test.

    Returns
    -------
    DataFrame
        As of :func:`ladder`; ``data``.
    """
    rows = as_trips(taxis(real("taxis")))
    three = np.split(np.arange(len(rows)), [int(0.6 * len(rows)), int(0.8 * len(rows))])
    return from_real(ladder(*(rows.iloc[part] for part in three), TRIP_FEATURES), "taxis")
