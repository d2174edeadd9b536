"""What case 04 records by ``make bench N=04``: tables over worlds, the service, and public data.

The tables of one run share worlds and forecasts; the seconds of the first one include them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from casebook.cases.delivery_eta.features import outcomes
from casebook.cases.delivery_eta.public import real_deliveries, real_taxis
from casebook.cases.delivery_eta.stages import Constants
from casebook.cases.delivery_eta.stream import OUTCOME
from casebook.cases.delivery_eta.studies import (
    CHOSEN_ON,
    SEEDS,
    ablation,
    one_world,
    setting,
    sizes,
    varied,
)
from casebook.cases.delivery_eta.world import CALIBRATION_END, SEED
from casebook.evaluate.ranges import rolling_means
from casebook.recorded.studies import sensitivity as over_constants
from casebook.serving.consumer import Store
from casebook.serving.latency import throughput
from casebook.serving.load import over_http
from casebook.serving.stored import among, seconds

#: Days of the rolling window.
DAYS = 7
CONSTANTS = {
    "volume shocks": lambda usual, factor: replace(usual, shock_sd=usual.shock_sd * factor),
    "stage noise": lambda usual, factor: replace(usual, stage_sd=usual.stage_sd * factor),
}
FACTORS = (0.5, 1.0, 1.5)


def _table(name: str, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return a table of :class:`.studies.Found` over worlds."""
    return pd.concat([getattr(one_world(seed), name) for seed in seeds], ignore_index=True)


def rolling(seeds: Sequence[int] = SEEDS, page: int = SEED) -> pd.DataFrame:
    """Return coverage and width of seven days, in the page's world and over the fresh ones."""
    parts = []
    for which, numbers in (("page", [page]), ("worlds", seeds)):
        sums = _table("rolling", numbers).groupby(["method", "day"]).sum().drop(columns="seed")
        for method, daily in sums.groupby("method"):
            means = rolling_means(daily.droplevel("method"), DAYS)
            means = means.rename(columns={"covered": "coverage"})
            parts.append(means.reset_index().assign(which=which, method=method))
    table = pd.concat(parts, ignore_index=True)
    table["day"] = table["day"].dt.strftime("%Y-%m-%d")
    return table[["which", "method", "day", "coverage", "width", "interval_score", "n"]]


def sensitivity(
    seeds: Sequence[int] = CHOSEN_ON[:2], factors: Sequence[float] = FACTORS
) -> pd.DataFrame:
    """Vary the two most arbitrary constants of the world, one at a time."""
    return over_constants(varied, Constants(), CONSTANTS, factors, seeds)


# The service -------------------------------------------------------------------------


def _fill(store: Store, done: pd.DataFrame) -> None:
    """Store the deliveries of a whole history: what the consumer reads for its features."""
    rows = done[[*OUTCOME]].assign(label_at=done["label_at"].map(seconds))
    # Numbers below 0 are no parcel of the feed.
    values = [(-1 - k, *row) for k, row in enumerate(rows.itertuples(index=False, name=None))]
    with store.transaction() as db:
        db.executemany(f"INSERT INTO outcomes VALUES {among(values[0])}", values)


def _asked(folder: str, consume: bool, parcels: Sequence[int], calls: int) -> dict[str, float]:
    """Return rate and latency of one client's questions to a service in its own process."""
    factory, arguments = "casebook.cases.delivery_eta.service:app_from", {"folder": folder}
    paths = [f"/parcels/{parcel}/eta" for parcel in parcels]
    found, rate = over_http(factory, arguments | {"consume": consume}, paths, calls)
    return {"a_second_wall": rate, **found.percentiles(), "n": calls}


def service(events: int = 20_000, calls: int = 1000) -> pd.DataFrame:
    """Measure the consumer on a store with history, and the answers from a process of its own.

    ``a_second`` are events by CPU second, ``a_second_wall`` events or requests of one client by the
    clock; ``p50``, ``p95``, ``p99`` milliseconds.
    """
    from casebook.cases.delivery_eta.eta import train
    from casebook.cases.delivery_eta.messages import events_of
    from casebook.cases.delivery_eta.service import opened, save

    here = setting(SEED)
    world, models = here.world, train(here.train, here.calibration)
    parts = [
        world.scans[world.scans["received_at"] < CALIBRATION_END],
        world.parcels[world.parcels["accepted_at"] < CALIBRATION_END],
        world.load[world.load["published_at"] < CALIBRATION_END],
    ]
    feed = list(events_of(*parts))[-2 * events :]
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), models) as tracking:
        save(Path(folder), models)
        _fill(tracking.store, outcomes(here.rows[here.rows["label_at"] < CALIBRATION_END]))
        tracking.log.append(feed[:events])
        consumed = throughput(lambda: tracking.consumer.run().events)
        parcels = [p for (p,) in tracking.store.all("SELECT DISTINCT parcel FROM eta")]
        alone = _asked(folder, False, parcels, calls)
        tracking.log.append(feed[events:])
        busy = _asked(folder, True, parcels, calls)
    rows = {"consumer": consumed, "GET": alone, "GET while it consumes": busy}
    return pd.DataFrame([{"what": what, **row} for what, row in rows.items()])


#: The timing comes first, while nothing else of the run loads the machine.
BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "service": service,
    "worlds": partial(_table, "scores", (*SEEDS, SEED)),
    "slices": partial(_table, "slices"),
    "rolling": rolling,
    "promises": partial(_table, "promises", (*SEEDS, SEED)),
    "censoring": partial(_table, "censoring"),
    "fan": partial(_table, "fan", (SEED,)),
    "ablation": ablation,
    "sensitivity": sensitivity,
    "sizes": sizes,
    "real_deliveries": real_deliveries,
    "real_taxis": real_taxis,
}
