"""What the chapter builds: the audit, the repair and two forecasts of a day's orders."""

# To write: the case's own system; the page shows each function, or it goes.

from __future__ import annotations

import pandas as pd

KEYS = ["shop", "ds"]


def audit(observed: pd.DataFrame) -> pd.DataFrame:
    """Return the shops and days that the feed has sent more than once."""
    twice = observed.duplicated(KEYS)
    return observed.loc[twice, KEYS].drop_duplicates(ignore_index=True)


def repair(observed: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each shop and day, sorted by both."""
    return observed.drop_duplicates(KEYS).sort_values(KEYS, ignore_index=True)


def forecasts(orders: pd.DataFrame, days: int) -> pd.DataFrame:
    """Forecast each of the last days from what was known a week before it.

    Parameters
    ----------
    orders : DataFrame
        Repaired: one row for each ``shop`` and ``ds``, without gaps, with ``y``.
    days : int
        How many days are forecast.

    Returns
    -------
    DataFrame
        ``shop``, ``ds``, ``y``, and two forecasts: ``last_week`` (same weekday of the week
        before) and ``four_weeks`` (its mean over four weeks).

    Raises
    ------
    ValueError
        If there are too few days for the four weeks before the first forecast.
    """
    known = orders["ds"].nunique()
    if not 0 < days <= known - 28:
        raise ValueError(f"{known} days are too few to forecast {days}: 28 must come before.")
    y = orders.groupby("shop")["y"]
    weeks = pd.concat([y.shift(7 * week) for week in (1, 2, 3, 4)], axis=1)
    made = orders.assign(last_week=y.shift(7), four_weeks=weeks.mean(axis=1))
    first = orders["ds"].drop_duplicates().nlargest(days).min()
    return made[made["ds"] >= first].reset_index(drop=True)
