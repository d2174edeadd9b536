"""From a measured rate to the number of partitions.

Examples
--------
>>> sized = partitions(315.36e6, rate=50.0, messages=7, peak=4.0)
>>> sized["events_a_second"], sized["peak_a_second"], sized["partitions"]
(70.0, 280.0, 12)
"""

from __future__ import annotations

import numpy as np


def partitions(
    units_a_year: float, rate: float, messages: float = 7.0, peak: float = 10.0, spare: float = 0.5
) -> dict[str, float]:
    """Return how many partitions a log needs, from a measured rate.

    Parameters
    ----------
    units_a_year : float
        Shipments, orders, payments.
    rate : float
        Events a second that one consumer was measured to apply.
    messages : float
        Messages to a unit.
    peak : float
        Busiest hour over the mean one.
    spare : float
        Share of a consumer's rate that is planned for; the rest catches up after a stop.

    Returns
    -------
    dict of str to float
        ``events_a_second`` (mean), ``peak_a_second``, ``partitions``, ``catch_up_minutes`` (after
        a stop of ten minutes at the peak).
    """
    mean = units_a_year * messages / (365 * 24 * 3600)
    need = max(int(np.ceil(mean * peak / (rate * spare))), 1)
    free = need * rate - mean * peak
    behind = 600 * mean * peak / free / 60 if free > 0 else float("inf")
    return {
        "events_a_second": mean,
        "peak_a_second": mean * peak,
        "partitions": need,
        "catch_up_minutes": behind,
    }
