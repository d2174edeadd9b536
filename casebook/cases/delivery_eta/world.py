"""World of case 04: parcels of one country through eight hubs, as their scans tell it.

Mechanisms
----------
A parcel is collected in a zone, handled in the hub of that zone, driven to the hub of its
destination, handled again, loaded on a van and delivered. Each stage lasts a lognormal time, so
that each has a hazard of its own:

* collection: the median is that of the zone;
* a hub: handling plus the *queue* that the hub has on the day of arrival; an express parcel waits
  a third of it. The next line haul or van takes the parcel;
* a line haul: by distance, with a factor of the pair of hubs. Line hauls leave every four hours,
  on Sundays and holidays once, at 20:00;
* vans leave at 07:30 on working days (Monday to Saturday, no holiday); the ring at the door
  follows within hours that depend on the zone. A delivery fails with a chance of the zone, and is
  tried again on the next working day, three times at most.

A hub's queue follows Lindley's recursion, a step a day: what is left over, plus the day's volume,
less the day's capacity, which overtime raises while the backlog is long. Volume has a weekday
profile, two sales and a peak season, and an autoregressive shock of each hub. Utilisation differs
by hub, so that some are always near their limit. Parcels of the world are a sample of that traffic:
they do not make the queue.

From ``STORM`` on a storm takes 70 % of the capacity of four neighbouring hubs and lengthens their
line hauls by 60 %; after three days it ends with each day by a chance of one in four. The zones of
the last hub open on ``OPENS``: new routes, after all training.

Scans are messages about those events, with faults: some never come, some come hours late (so that
they arrive out of order), some are sent twice, and some scanners have a wrong clock for weeks.
What has not been received by ``CUT`` is not there: parcels in transit are censored.

Nothing here is estimated from data. Structure, queues, parcels and faults are drawn from streams of
their own: with another constant the same seed gives the same network, parcels and faults.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.stages import (
    ALL_DAYS,
    COLLECTED,
    DAYS,
    HOLIDAYS,
    MOST_ATTEMPTS,
    STAGES,
    START,
    WORKING,
    WORLD_DAYS,
    Constants,
    Network,
    Times,
    Trips,
    day_of,
    onward,
    seasons,
    stamps,
    storm_goes_on,
    tomorrow,
)
from casebook.worlds.feeds import Faults, arrivals, planted, sent, wrong_clocks
from casebook.worlds.schedules import nth_after

CHAPTER = "04_delivery_eta"
SEED = 2026
PARCELS = 20_000
#: Twenty weeks to train, five to calibrate, five quiet ones to test; then the storm, then the peak.
TRAIN_END = START + pd.Timedelta(weeks=20)
CALIBRATION_END = TRAIN_END + pd.Timedelta(weeks=5)
QUIET_END = CALIBRATION_END + pd.Timedelta(weeks=5)
OPENS = CALIBRATION_END + pd.Timedelta(weeks=1)
STORM = QUIET_END + pd.Timedelta(days=2)
PEAK = pd.Timestamp("2025-11-24")
CUT = START + pd.Timedelta(days=WORLD_DAYS)

HUBS = tuple("ABCDEFGH")
ZONES = tuple(f"Z{k:02d}" for k in range(1, 25))
EXPRESS = 0.2
#: Days before the start, in which the queues become what they are.
WARM_UP = 35
#: The carrier's stated window, in working days, by service and kilometres.
WINDOWS = {
    "express": ((250, 1, 1), (1e9, 1, 2)),
    "standard": ((250, 1, 2), (500, 1, 3), (1e9, 2, 4)),
}

#: Faults of the feed; hours.
FAULTS = Faults(missing=0.03, late=0.04, twice=0.02, lag=3.0 / 60, delay=10.0, again=6.0)
#: Scanners of a place; clocks that are wrong, by how many hours, for how many days.
SCANNERS, WRONG_CLOCKS, CLOCK_HOURS, CLOCK_DAYS = 3, 14, (2.0, 24.0, -3.0), 30
#: A hub's report of its queue: log sd of its error, and the share that is published late.
REPORT_SD, REPORT_HOUR, REPORT_LATE, REPORT_LATE_HOURS = 0.10, 6.0, 0.03, 10.0


@dataclass(frozen=True)
class Past:
    """The queues as they were: backlog in mean days and log shock (days, hubs), days of storm."""

    backlog: np.ndarray
    shock: np.ndarray
    blows: np.ndarray
    network: Network

    def wait(self, hub: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the hours that a hub's queue lasts at some times."""
        return 24 * self.backlog[day_of(at), hub] * self.network.utilisation[hub]

    def storm(self, at: np.ndarray) -> np.ndarray:
        """Return whether the storm blows at some times."""
        return self.blows[day_of(at)]


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes
    ----------
    parcels : DataFrame
        Known when a parcel is collected: ``parcel``, ``origin``, ``destination`` (zones),
        ``origin_hub``, ``destination_hub``, ``km``, ``service`` (standard, express),
        ``accepted_at``, ``window_low``, ``window_high`` (the carrier's stated window).
    scans : DataFrame
        The feed until ``CUT``, in the order in which it came in, faults included: ``scan_id``,
        ``parcel``, ``stage``, ``attempt`` (failed deliveries before), ``scanned_at`` (the
        scanner's clock), ``received_at``, ``device``.
    load : DataFrame
        What the hubs report: ``hub``, ``day``, ``backlog_hours`` (how long the queue lasts on the
        morning of the day), ``published_at``.
    holidays : DataFrame
        ``day``, ``name``. Known years ahead.
    truth : DataFrame
        What no model may see: ``parcel``, the time of each stage (``collected``, ``origin_hub``,
        ``departed``, ``destination_hub``, ``out`` and ``rung`` of the first attempt,
        ``delivered``) and ``attempts`` (failed ones). Also what lies beyond ``CUT``.
    queues : DataFrame
        Truth: ``hub``, ``day``, ``backlog_hours``, ``storm`` (it blows and the hub is in it).
    faults : DataFrame
        Where faults were planted: ``scan_id``, ``fault`` (missing, late, duplicated, wrong clock).
    times : Times
        Truth in hours, for the oracle; rows as in ``parcels``.
    trips : Trips
    past : Past
    constants : Constants
    """

    parcels: pd.DataFrame
    scans: pd.DataFrame
    load: pd.DataFrame
    holidays: pd.DataFrame
    truth: pd.DataFrame
    queues: pd.DataFrame
    faults: pd.DataFrame
    times: Times
    trips: Trips
    past: Past
    constants: Constants


# The network and its queues ----------------------------------------------------------


def _network(rng: np.random.Generator) -> Network:
    """Draw hubs, zones and distances."""
    n, zones = len(HUBS), len(ZONES)
    # Eight cells of a grid of 800 by 400 kilometres, a hub somewhere in each.
    corner = np.array([(200.0 * (k % 4), 200.0 * (k // 4)) for k in range(n)])
    place = corner + rng.uniform(20, 180, (n, 2))
    km = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1))
    road = np.exp(rng.normal(0, 0.15, (n, n)))
    zone_hub = np.repeat(np.arange(n), zones // n)
    share = rng.dirichlet(np.full(zones, 4.0))
    stormy = np.argsort(km[rng.integers(n)])[:4]
    return Network(
        hubs=HUBS,
        zones=ZONES,
        utilisation=rng.permutation(np.linspace(0.80, 0.94, n)),
        stormy=np.isin(np.arange(n), stormy),
        zone_hub=zone_hub,
        share=share,
        first=rng.uniform(3, 7, zones),
        ring=rng.uniform(2, 6, zones),
        fails=rng.uniform(0.02, 0.10, zones),
        km=km,
        road=road,
        zone_km=rng.uniform(5, 60, zones),
    )


def _past(rng: np.random.Generator, network: Network, constants: Constants) -> Past:
    """Simulate the queues of all days, the warm-up before them, and the storm."""
    n, first = len(HUBS), (STORM - START).days
    blows = np.zeros(ALL_DAYS, bool)
    blown = np.array(1)
    blows[first] = True
    while storm_goes_on(rng, blown):
        blows[first + blown] = True
        blown = blown + 1
    backlog, shock = np.zeros((2, ALL_DAYS, n))
    left, x = np.zeros(n), constants.shock_sd * rng.standard_normal(n)
    for day in range(-WARM_UP, ALL_DAYS):
        if day >= 0:
            backlog[day], shock[day] = left, x
        # Before the start the weeks are those of the first five weeks.
        like = day % 7 if day < 0 else day
        calm = blows[day] if day >= 0 else np.False_
        left, x = tomorrow(left, x, calm, like, rng.standard_normal(n), network, constants)
    return Past(backlog, shock, blows, network)


# Parcels -----------------------------------------------------------------------------


def _trips(rng: np.random.Generator, network: Network, n: int) -> tuple[Trips, np.ndarray]:
    """Draw zones, service and time of collection; in the order of collection."""
    volume = seasons()[0][:WORLD_DAYS]
    day = rng.choice(WORLD_DAYS, n, p=volume / volume.sum())
    at = np.sort(24.0 * day + np.clip(rng.normal(15, 3, n), 8, 21))
    new = np.isin(network.zone_hub, len(HUBS) - 1)
    before = np.where(new, 0.0, network.share)
    open_ = day_of(at) >= (OPENS - START).days

    def zone() -> np.ndarray:
        old = rng.choice(len(ZONES), n, p=before / before.sum())
        return np.where(open_, rng.choice(len(ZONES), n, p=network.share), old)

    return Trips(zone(), zone(), rng.random(n) < EXPRESS), at


def _windows(express: np.ndarray, km: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the carrier's stated window, in hours."""
    first, last = np.zeros((2, len(day)), int)
    working = np.flatnonzero(WORKING)
    for service, mask in (("express", express), ("standard", ~express)):
        for most, low, high in reversed(WINDOWS[service]):
            here = mask & (km <= most)
            first[here], last[here] = low, high
    return 24.0 * nth_after(working, day, first) + 8, 24.0 * nth_after(working, day, last) + 18


def _parcels(network: Network, trips: Trips, at: np.ndarray) -> pd.DataFrame:
    """Return what is known of each parcel when it is collected."""
    start, end = network.zone_hub[trips.origin], network.zone_hub[trips.destination]
    km = network.km[start, end] + network.zone_km[trips.origin] + network.zone_km[trips.destination]
    low, high = _windows(trips.express, km, day_of(at))
    zones, hubs = np.array(ZONES), np.array(HUBS)
    return pd.DataFrame(
        {
            "parcel": np.arange(1, len(at) + 1),
            "origin": zones[trips.origin],
            "destination": zones[trips.destination],
            "origin_hub": hubs[start],
            "destination_hub": hubs[end],
            "km": np.round(km, 1),
            "service": np.where(trips.express, "express", "standard"),
            "accepted_at": stamps(at),
            "window_low": stamps(low),
            "window_high": stamps(high),
        }
    )


# The feed ----------------------------------------------------------------------------


def _events(times: Times, network: Network, trips: Trips) -> pd.DataFrame:
    """Return all events: row of the parcel, stage, attempt, time in hours, place."""
    start, end = network.zone_hub[trips.origin], network.zone_hub[trips.destination]
    hubs = len(HUBS)
    n, rows = len(start), np.arange(len(start))
    places = (hubs + trips.origin, start, start, end)
    parts = [(rows, k, 0, times.stages[:, k], places[k]) for k in range(4)]
    for attempt in range(MOST_ATTEMPTS):
        out, rung = times.out[:, attempt], times.rung[:, attempt]
        done = rung == times.delivered
        parts.append((rows, 4, attempt, out, hubs + trips.destination))
        parts.append((rows, np.where(done, 6, 5), attempt, rung, hubs + trips.destination))
    columns = ["row", "stage", "attempt", "at", "place"]
    full = [[np.broadcast_to(value, n) for value in part] for part in parts]
    frame = pd.DataFrame({c: np.concatenate([p[k] for p in full]) for k, c in enumerate(columns)})
    return frame.dropna(subset=["at"]).sort_values("at", kind="stable", ignore_index=True)


def _feed(rng: np.random.Generator, events: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the messages of the events with their faults, and where these are."""
    at, place = events["at"].to_numpy(), events["place"].to_numpy()
    scanner = rng.integers(SCANNERS, size=len(events))
    off = [CLOCK_HOURS[k % len(CLOCK_HOURS)] for k in range(WRONG_CLOCKS)]
    wrong = wrong_clocks(rng, place, scanner, at, off, 24 * CLOCK_DAYS, 24 * WORLD_DAYS)
    # A parcel is accepted against a receipt, and handed over against a signature: neither is lost.
    may_miss = ~events["stage"].isin([COLLECTED, len(STAGES) - 1]).to_numpy()
    came = arrivals(rng, at, may_miss, FAULTS)
    names = np.array([*HUBS, *ZONES])[place]
    scans = pd.DataFrame(
        {
            "scan_id": np.arange(1, len(events) + 1),
            "parcel": events["row"].to_numpy() + 1,
            "stage": np.array(STAGES)[events["stage"]],
            "attempt": events["attempt"].to_numpy(np.int64),
            "scanned_at": stamps(at + wrong),
            "received_at": stamps(came.received),
            "device": pd.Series(names) + "-" + pd.Series(scanner + 1).astype(str),
        }
    )
    messages = sent(scans, came, "scan_id", "received_at")
    known = messages[messages["received_at"] < CUT].reset_index(drop=True)
    return known, planted(scans, came, "scan_id", {"wrong clock": wrong != 0})


def _load(rng: np.random.Generator, past: Past) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the hubs report of their queues, and the truth."""
    day, hub = np.divmod(np.arange(WORLD_DAYS * len(HUBS)), len(HUBS))
    wait = past.wait(hub, 24.0 * day)
    hit = past.blows[day] & past.network.stormy[hub]
    keys = {"hub": np.array(HUBS)[hub], "day": DAYS[day]}
    queues = pd.DataFrame({**keys, "backlog_hours": wait, "storm": hit})
    seen = np.round(wait * np.exp(rng.normal(0, REPORT_SD, len(wait))), 1)
    late = np.where(rng.random(len(wait)) < REPORT_LATE, REPORT_LATE_HOURS, 0.0)
    published = stamps(24.0 * day + REPORT_HOUR + late)
    return pd.DataFrame({**keys, "backlog_hours": seen, "published_at": published}), queues


def _truth(parcels: pd.DataFrame, times: Times) -> pd.DataFrame:
    """Return the true time of each stage."""
    columns = {name: stamps(times.stages[:, k]) for k, name in enumerate(STAGES[:4])}
    columns |= {"out": stamps(times.out[:, 0]), "rung": stamps(times.rung[:, 0])}
    columns |= {"delivered": stamps(times.delivered)}
    attempts = np.isfinite(times.rung).sum(axis=1) - 1
    return pd.DataFrame({"parcel": parcels["parcel"], **columns, "attempts": attempts})


def simulate(seed: int = SEED, constants: Constants | None = None, parcels: int = PARCELS) -> World:
    """Simulate a world with so many parcels over 35 weeks; the same seed, the same bits.

    Raises
    ------
    ValueError
        Without parcels.
    """
    if parcels < 1:
        raise ValueError(f"parcels is {parcels}: a world needs one at least.")
    constants = constants or Constants()
    streams = [np.random.default_rng([seed, k]) for k in range(5)]
    network = _network(streams[0])
    past = _past(streams[1], network, constants)
    trips, at = _trips(streams[2], network, parcels)
    times = onward(
        streams[3], trips, COLLECTED, at, at, 0, queues=past, network=network, constants=constants
    )
    table = _parcels(network, trips, at)
    scans, faults = _feed(streams[4], _events(times, network, trips))
    load, queues = _load(streams[4], past)
    holidays = pd.DataFrame({"day": pd.to_datetime(list(HOLIDAYS)), "name": [*HOLIDAYS.values()]})
    return World(
        parcels=table,
        scans=scans,
        load=load,
        holidays=holidays,
        truth=_truth(table, times),
        queues=queues,
        faults=faults,
        times=times,
        trips=trips,
        past=past,
        constants=constants,
    )


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``data/04_delivery_eta/`` holds, by file name; the truth is not among it."""
    world = simulate()
    return {
        "parcels.parquet": world.parcels,
        "scans.parquet": world.scans,
        "load.parquet": world.load,
        "holidays.parquet": world.holidays,
        "faults.parquet": world.faults,
    }
