"""The same functions on public data: orders of a restaurant, trips of taxis; all in minutes.

Neither set has scans: each row is one moment with one outcome. What meets real data here are the
quantile model, the routes' history, both conformal corrections and the scores; hubs, queues and the
stream do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.evaluation import deciles
from casebook.cases.delivery_eta.ladder import routes
from casebook.cases.delivery_eta.quantiles import DIRECT, fit
from casebook.data import real
from casebook.data.trips import deliveries, taxis
from casebook.evaluate.ranges import adapted, compare, conformalise, follower, score
from casebook.recorded.real import from_real

#: Random splits of the orders, which have no date.
SPLITS = tuple(range(5))
ORDER_FEATURES = ("hour", "weekday", "distance", "items")
#: Not the metered distance: it is known when the trip is over.
TRIP_FEATURES = ("hour", "weekday", "from_zone", "to_zone")
COLUMNS = ["coverage", "late", "width", "interval_score", "pinball", "mae"]


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
    """Fit, calibrate and score the rungs that need no scans, in minutes.

    ``worst_decile`` is the least coverage of ten groups of zone pairs by what they took in
    training.
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
        name: score(test, f, group)["coverage"].drop(0, errors="ignore").min()
        for name, f in made.items()
    }
    table = table.assign(worst_decile=pd.Series(worst))
    return table.reset_index()[["model", "n", *COLUMNS, "worst_decile"]]


def real_deliveries(splits: Sequence[int] = SPLITS) -> pd.DataFrame:
    """Score the restaurant's orders: 60 % to train, 20 % to calibrate, 20 % to test."""
    rows = as_orders(deliveries(real("deliveries")))
    parts = []
    for seed in splits:
        order = np.random.default_rng(seed).permutation(len(rows))
        cut = [int(0.6 * len(rows)), int(0.8 * len(rows))]
        three = (rows.iloc[np.sort(part)] for part in np.split(order, cut))
        parts.append(ladder(*three, ORDER_FEATURES).assign(split=seed))
    return from_real(pd.concat(parts, ignore_index=True), "deliveries")


def real_taxis() -> pd.DataFrame:
    """Score taxi trips by time: 60 % to train, 20 % to calibrate, 20 % to test."""
    rows = as_trips(taxis(real("taxis")))
    three = np.split(np.arange(len(rows)), [int(0.6 * len(rows)), int(0.8 * len(rows))])
    return from_real(ladder(*(rows.iloc[part] for part in three), TRIP_FEATURES), "taxis")
