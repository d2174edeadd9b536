"""Messages about events with the faults of a real feed: lost, late, sent twice, by a wrong clock.

Times are hours since the start of a world.

Examples
--------
>>> rng, at = np.random.default_rng(0), np.arange(1000.0)
>>> faults = Faults(missing=0.03, late=0.04, twice=0.02, lag=0.05, delay=10.0, again=6.0)
>>> came = arrivals(rng, at, np.full(1000, True), faults)
>>> int(came.missing.sum()), int(came.late.sum()), len(came.twice)
(33, 51, 19)
>>> scans = pd.DataFrame({"id": np.arange(1000), "received": pd.to_timedelta(came.received, "h")})
>>> len(sent(scans, came, "id", "received")), planted(scans, came, "id")["fault"].iloc[0]
(986, 'late')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Faults:
    """How often a feed fails, and by how much.

    Attributes
    ----------
    missing, late, twice : float
        Shares of the events: the message never comes, comes an hour late or more, comes again.
    lag, delay, again : float
        Mean hours until a message comes; beyond the hour, until a late one does; until it comes
        again.
    """

    missing: float
    late: float
    twice: float
    lag: float
    delay: float
    again: float


class Arrivals(NamedTuple):
    """What became of the messages of n events.

    Attributes
    ----------
    missing, late : ndarray of bool, shape (n,)
    received : ndarray, shape (n,)
        Hours.
    twice : ndarray of int
        Events whose message comes again.
    again : ndarray
        After so many whole seconds; one of each.
    """

    missing: np.ndarray
    late: np.ndarray
    received: np.ndarray
    twice: np.ndarray
    again: np.ndarray


def arrivals(
    rng: np.random.Generator, at: np.ndarray, may_miss: np.ndarray, faults: Faults
) -> Arrivals:
    """Draw when the message of each event comes in, if it does.

    Parameters
    ----------
    rng : Generator
    at : ndarray, shape (n,)
        When the events happen.
    may_miss : ndarray of bool, shape (n,)
        Events whose message may be lost.
    faults : Faults
    """
    n = len(at)
    missing = may_miss & (rng.random(n) < faults.missing)
    late = ~missing & (rng.random(n) < faults.late)
    lag = rng.exponential(faults.lag, n)
    received = at + lag + np.where(late, 1 + rng.exponential(faults.delay, n), 0.0)
    twice = np.flatnonzero(~missing & (rng.random(n) < faults.twice))
    again = np.ceil(3600 * rng.exponential(faults.again, len(twice)))
    return Arrivals(missing, late, received, twice, again)


def wrong_clocks(
    rng: np.random.Generator,
    place: np.ndarray,
    device: np.ndarray,
    at: np.ndarray,
    off: Sequence[float],
    lasts: float,
    end: float,
) -> np.ndarray:
    """Return by how many hours the clock of each event's device is wrong.

    Parameters
    ----------
    rng : Generator
    place, device : ndarray of int, shape (n,)
        Where an event happens, and with which of the devices there.
    at : ndarray, shape (n,)
    off : sequence of float
        Hours, for one clock after the other.
    lasts, end : float
        For so many hours, before the end of the world.
    """
    wrong = np.zeros(len(at))
    for hours in off:
        where, which = rng.integers(place.max() + 1), rng.integers(device.max() + 1)
        begins = rng.uniform(0, end - lasts)
        here = (place == where) & (device == which) & (at >= begins) & (at < begins + lasts)
        wrong[here] = hours
    return wrong


def sent(messages: pd.DataFrame, came: Arrivals, number: str, received: str) -> pd.DataFrame:
    """Return the messages as they come in, in order.

    Parameters
    ----------
    messages : DataFrame
        One row for each event, index 0 to n - 1.
    came : Arrivals
    number, received : str
        Columns: what tells messages apart, and when they come in.
    """
    again = messages.loc[came.twice].copy()
    again[received] += pd.to_timedelta(came.again, unit="s").as_unit("s")
    return pd.concat([messages[~came.missing], again]).sort_values([received, number])


def planted(
    messages: pd.DataFrame,
    came: Arrivals,
    number: str,
    more: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return where faults are: ``number`` and ``fault`` (missing, late, duplicated, or more)."""
    marks = {"missing": came.missing, "late": came.late, **(more or {}), "duplicated": came.twice}
    frames = [pd.DataFrame({number: messages[number][m], "fault": f}) for f, m in marks.items()]
    return pd.concat(frames).sort_values([number, "fault"], ignore_index=True)
