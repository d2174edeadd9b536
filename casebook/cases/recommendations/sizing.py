"""What the problem asks for, and the cores that a measured request needs at its rate."""

from __future__ import annotations

import math
from typing import NamedTuple


class Asked(NamedTuple):
    """What the problem asks for.

    Attributes
    ----------
    users, items, mails : float
        ``mails`` lists a night.
    views : float
        Pages of a user and day that show a list.
    peak, black_friday : float
        Busiest hour over the mean one; Black Friday over a usual peak.
    busy : float
        Share of a core that is planned for: beyond it the queue, not the work, takes the time.
    cached : float
        Share of the requests that a cache of anonymous lists answers.
    hours : float
        For the night.
    """

    users: float = 50e6
    items: float = 10e6
    mails: float = 10e6
    views: float = 2.0
    peak: float = 4.0
    black_friday: float = 10.0
    busy: float = 0.4
    cached: float = 0.0
    hours: float = 4.0


def cores(rps: float, core_ms: float, busy: float) -> int:
    """Return the cores that a rate needs.

    Examples
    --------
    >>> cores(1_000, 5.0, 0.4)
    13
    """
    if not (rps >= 0 and core_ms > 0 and 0 < busy < 1):
        raise ValueError(f"{rps} a second at {core_ms} ms, {busy} busy: these cannot be.")
    return max(1, math.ceil(rps * core_ms / 1000 / busy))
