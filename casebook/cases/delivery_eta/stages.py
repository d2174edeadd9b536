"""How a parcel moves: calendars, stage durations, and queues. World and oracle use these alone.

Time is a float: hours since :data:`START`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import pandas as pd

from casebook.evaluate.survival import lasting
from casebook.worlds.schedules import last_of, next_of

START = pd.Timestamp("2025-04-14")
#: The world ends after 245 days; the schedules go on, for parcels that are then in transit.
WORLD_DAYS, ALL_DAYS = 245, 320
DAYS = pd.date_range(START, periods=ALL_DAYS, freq="D")
HOLIDAYS = {
    "2025-04-21": "Easter Monday",
    "2025-05-01": "Labour Day",
    "2025-05-29": "Ascension Day",
    "2025-06-09": "Whit Monday",
    "2025-08-15": "Assumption",
    "2025-10-03": "Unity Day",
    "2025-11-01": "All Saints",
    "2025-12-25": "Christmas Day",
    "2025-12-26": "Boxing Day",
    "2026-01-01": "New Year",
}
#: Stages in order; ``attempted`` is a delivery that failed.
STAGES = ("collected", "origin_hub", "departed", "destination_hub", "out", "attempted", "delivered")
COLLECTED, ORIGIN_HUB, DEPARTED, DESTINATION_HUB, OUT, ATTEMPTED, DELIVERED = range(len(STAGES))
MOST_ATTEMPTS = 3

WORKING = (DAYS.dayofweek < 6) & ~DAYS.isin(pd.to_datetime(list(HOLIDAYS)))
#: Vans leave once a working day, line hauls six times; on other days there is one line haul.
VAN_HOUR, HAUL_HOURS, SUNDAY_HAUL = 7.5, (0, 4, 8, 12, 16, 20), 20
VANS = np.flatnonzero(WORKING) * 24 + VAN_HOUR
HAULS = np.array(
    [
        24.0 * day + hour
        for day, working in enumerate(WORKING)
        for hour in (HAUL_HOURS if working else (SUNDAY_HAUL,))
    ]
)

#: Volume and capacity of a hub by weekday, in mean days; each has mean one.
WEEK = np.array([1.20, 1.10, 1.05, 1.00, 1.05, 0.90, 0.70])
HANDS = np.array([1.06, 1.06, 1.06, 1.06, 1.06, 1.06, 0.64])
#: Sales and the peak season: first day, last day, volume, capacity.
SEASONS = (
    ("2025-05-19", "2025-05-28", 1.18, 1.0),
    ("2025-07-07", "2025-07-18", 1.22, 1.05),
    ("2025-11-24", "2025-12-22", 1.30, 1.18),
)
#: Persistence of a hub's daily volume shock.
PHI = 0.75
#: A hub works overtime while its backlog exceeds so many mean days: factor on its capacity.
OVERTIME_AT, OVERTIME = 1.0, 1.2
#: What a storm leaves of a hub's capacity, and its factor on a line haul's hours.
STORM_HANDS, STORM_ROAD = 0.3, 1.6
#: It blows so many days at least and at most; in between it ends with each day by a chance.
STORM_LEAST, STORM_MOST, STORM_ENDS = 3, 8, 0.25
#: Hours: handling in a hub, loading a line haul, and the last a van is out. Kilometres an hour.
HANDLING, LOADING, LAST_RING, SPEED = 3.0, 1.5, 11.0, 65.0
#: What of the queue an express parcel waits; log sd of line hauls.
EXPRESS_WAIT, HAUL_SD = 0.35, 0.12


@dataclass(frozen=True)
class Constants:
    """The two most arbitrary constants, both in logs; a study of sensitivity varies them.

    ``shock_sd`` is of a hub's daily volume, ``stage_sd`` of hours in collection, hub and van.
    """

    shock_sd: float = 0.13
    stage_sd: float = 0.35


@dataclass(frozen=True)
class Network:
    """What does not change: hubs, zones, distances. Arrays by hub (8), zone (24) or hub pair.

    By hub ``utilisation`` (mean volume over capacity) and ``stormy`` (the storm will hit it); by
    zone ``zone_hub``, ``share`` (of all parcels), ``first`` and ``ring`` (median hours of
    collection and on the van), ``fails`` (chance of a failed delivery) and ``zone_km`` (to its
    hub); by pair ``km`` and ``road`` (factor on the hours of a line haul).
    """

    hubs: tuple[str, ...]
    zones: tuple[str, ...]
    utilisation: np.ndarray
    stormy: np.ndarray
    zone_hub: np.ndarray
    share: np.ndarray
    first: np.ndarray
    ring: np.ndarray
    fails: np.ndarray
    km: np.ndarray
    road: np.ndarray
    zone_km: np.ndarray


@dataclass(frozen=True)
class Trips:
    """Parcels on their way: zones as numbers, and the service. Arrays of one length."""

    origin: np.ndarray
    destination: np.ndarray
    express: np.ndarray

    def take(self, rows: np.ndarray) -> Trips:
        """Return the trips of these rows."""
        return Trips(self.origin[rows], self.destination[rows], self.express[rows])


class Queues(Protocol):
    """The state of all hubs, past or imagined."""

    def wait(self, hub: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the hours that a hub's queue lasts at some times."""

    def storm(self, at: np.ndarray) -> np.ndarray:
        """Return whether the storm blows at some times."""


def hours(times: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Return times as hours since the start; NaN where there is none."""
    return ((times - START) / pd.Timedelta(hours=1)).to_numpy(float)


def stamps(at: np.ndarray) -> pd.DatetimeIndex:
    """Return hours since the start as times, to the second."""
    seconds = pd.Series(np.round(at * 3600))
    return pd.DatetimeIndex(START + pd.to_timedelta(seconds, unit="s")).as_unit("s")


def day_of(at: np.ndarray) -> np.ndarray:
    """Return the number of the day, from 0, not beyond the last one."""
    return np.clip((at // 24).astype(int), 0, ALL_DAYS - 1)


@cache
def seasons() -> tuple[np.ndarray, np.ndarray]:
    """Return volume and capacity of each day, shape (days,), in mean days."""
    volume, hands = WEEK[DAYS.dayofweek], HANDS[DAYS.dayofweek]
    for first, last, more, staff in SEASONS:
        inside = (first <= DAYS) & (last >= DAYS)
        volume, hands = (
            np.where(inside, volume * more, volume),
            np.where(inside, hands * staff, hands),
        )
    return volume, hands


def tomorrow(
    backlog: np.ndarray,
    shock: np.ndarray,
    storm: np.ndarray,
    day: int,
    noise: np.ndarray,
    network: Network,
    constants: Constants,
) -> tuple[np.ndarray, np.ndarray]:
    """Return backlog and shock of the next morning (Lindley's recursion, a step a day).

    Shape (..., hubs): backlog in mean days of volume, log shock, standard normal noise; storm
    (...).
    """
    volume, hands = seasons()
    shock = PHI * shock + np.sqrt(1 - PHI**2) * constants.shock_sd * noise
    slow = storm[..., None] & network.stormy
    capacity = hands[day] / network.utilisation * np.where(backlog > OVERTIME_AT, OVERTIME, 1.0)
    capacity = capacity * np.where(slow, STORM_HANDS, 1.0)
    return np.maximum(backlog + volume[day] * np.exp(shock) - capacity, 0.0), shock


def storm_goes_on(rng: np.random.Generator, blown: np.ndarray) -> np.ndarray:
    """Draw whether a storm that has blown for so many days blows another day (0: there is none)."""
    longer = (blown < STORM_LEAST) | (rng.random(blown.shape) >= STORM_ENDS)
    return (blown > 0) & (blown < STORM_MOST) & longer


@dataclass(frozen=True)
class Times:
    """When each stage was entered, in hours; NaN before the stage at which the walk began.

    ``stages`` (n, 4): collected, origin hub, departed, destination hub. ``out`` and ``rung`` (n,
    3): van's departure and ring at the door for each attempt; NaN where there was none.
    """

    stages: np.ndarray
    out: np.ndarray
    rung: np.ndarray
    delivered: np.ndarray


def onward(
    rng: np.random.Generator,
    trips: Trips,
    step: int,
    entered: np.ndarray,
    now: np.ndarray,
    attempts: np.ndarray | int,
    queues: Queues,
    network: Network,
    constants: Constants,
) -> Times:
    """Let parcels that are all in one stage (``step``) walk on to their delivery.

    They ``entered`` it, were still in it at ``now``, and had so many failed ``attempts``; queues
    are those of the world, or of an imagined future.
    """
    start, end = network.zone_hub[trips.origin], network.zone_hub[trips.destination]
    sd, at = constants.stage_sd, np.asarray(entered, float)
    stages = np.full((len(at), 4), np.nan)
    stages[:, min(step, 3)] = at if step <= 3 else np.nan

    def passed(stage: int) -> np.ndarray | float:
        return now - entered if step == stage else 0.0

    def ready(hub: np.ndarray, stage: int, schedule: np.ndarray) -> np.ndarray:
        """Return when the parcel leaves a hub: the first departure once it is handled."""
        queue = queues.wait(hub, at) * np.where(trips.express, EXPRESS_WAIT, 1.0)
        # Who is still here has missed the last departure.
        missed = last_of(schedule, now) - at if step == stage else 0.0
        return next_of(schedule, at + lasting(rng, HANDLING + queue, sd, missed))

    if step <= COLLECTED:
        at = at + lasting(rng, network.first[trips.origin], sd, passed(COLLECTED))
        stages[:, 1] = at
    if step <= ORIGIN_HUB:
        at = ready(start, ORIGIN_HUB, HAULS)
        stages[:, 2] = at
    if step <= DEPARTED:
        slow = queues.storm(at) & (network.stormy[start] | network.stormy[end])
        road = LOADING + network.km[start, end] / SPEED * network.road[start, end]
        road = road * np.where(slow, STORM_ROAD, 1.0)
        at = at + lasting(rng, road, HAUL_SD, passed(DEPARTED))
        stages[:, 3] = at
    if step <= DESTINATION_HUB:
        at = ready(end, DESTINATION_HUB, VANS)
    return Times(stages, *_deliver(rng, trips, step, at, passed, attempts, network, sd))


def _deliver(
    rng: np.random.Generator,
    trips: Trips,
    step: int,
    at: np.ndarray,
    passed: Callable[[int], np.ndarray | float],
    attempts: np.ndarray | int,
    network: Network,
    sd: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the vans' departures, the rings at the door, and the delivery."""
    out, rung = np.full((2, len(at), MOST_ATTEMPTS), np.nan)
    failed_before = np.broadcast_to(np.asarray(attempts), at.shape)
    delivered, open_ = np.full(len(at), np.nan), np.ones(len(at), bool)
    van = next_of(VANS, at) if step == ATTEMPTED else at
    for n in range(MOST_ATTEMPTS):
        beyond = passed(OUT) if n == 0 else 0.0
        ring = van + np.minimum(
            lasting(rng, network.ring[trips.destination], sd, beyond), LAST_RING
        )
        out[:, n], rung[:, n] = np.where(open_, van, np.nan), np.where(open_, ring, np.nan)
        fails = rng.random(len(at)) < network.fails[trips.destination]
        fails &= failed_before + n < MOST_ATTEMPTS - 1
        delivered = np.where(open_ & ~fails, ring, delivered)
        open_ = open_ & fails
        van = next_of(VANS, ring)
    return out, rung, delivered
