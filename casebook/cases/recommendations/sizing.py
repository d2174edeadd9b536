"""From what was measured on two cores to 50 million users, 10 million items and Black Friday.

Every input is a measurement of this chapter or a number of the problem; nothing is assumed of the
code. What does not grow in proportion is said: a matrix of items by items grows with its square.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd


class Measured(NamedTuple):
    """What the chapter measured.

    Attributes
    ----------
    core_ms : float
        CPU milliseconds of a request, all stages, on one core.
    mails : float
        Lists of the nightly batch a CPU second.
    user_bytes, item_bytes : float
        Of the online store.
    index_bytes : float
        Of an item in the index, with its number and links.
    """

    core_ms: float
    mails: float
    user_bytes: float
    item_bytes: float
    index_bytes: float


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


def plan(m: Measured, a: Asked = Asked()) -> pd.DataFrame:  # noqa: B008  an immutable default
    """Return the arithmetic, line by line.

    Parameters
    ----------
    m : Measured
    a : Asked

    Returns
    -------
    DataFrame
        Index ``what``; ``value``, ``unit``, ``how``.
    """
    mean = a.users * a.views / 86_400
    usual, friday = mean * a.peak, mean * a.peak * a.black_friday
    computed = friday * (1 - a.cached)
    night = a.mails / m.mails
    top = 0.1 * a.users
    rows = [
        ("requests, mean", mean, "a second", "users x views / 86,400"),
        ("requests, peak", usual, "a second", "mean x peak hour"),
        ("requests, Black Friday", friday, "a second", "peak x 10"),
        ("computed on Black Friday", computed, "a second", "without those that a cache answers"),
        ("cores, peak", cores(usual, m.core_ms, a.busy), "", "rate x CPU time / planned share"),
        ("cores, Black Friday", cores(computed, m.core_ms, a.busy), "", "the same"),
        ("night", night / 3600, "CPU hours", "mails / lists a CPU second"),
        ("cores, night", math.ceil(night / 3600 / a.hours), "", "CPU hours / hours of the night"),
        ("top tenth of users before the day", top / m.mails / 3600, "CPU hours", "as the night"),
        ("online store", (a.users * m.user_bytes + a.items * m.item_bytes) / 1e9, "GB", "measured"),
        ("index", a.items * m.index_bytes / 1e9, "GB", "measured bytes of an item"),
        ("index while it is swapped", 2 * a.items * m.index_bytes / 1e9, "GB", "old and new"),
        ("items by items, dense", a.items**2 * 8 / 1e12, "TB", "8 bytes: why EASE ends here"),
    ]
    return pd.DataFrame(rows, columns=["what", "value", "unit", "how"]).set_index("what")
