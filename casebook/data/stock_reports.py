"""Faults in reports of stock, told by the balance of units from one day to the next.

What was left in the evening, less what was thrown away, and what came must be what was sold and
what is left now. A count in pieces breaks that balance by a factor; stock that nobody can find
keeps it, and shows by a good seller that sells nothing for a week.

Examples
--------
>>> sold = np.array([[2.0], [24.0], [3.0]])
>>> left, none = np.array([[8.0], [6.0], [3.0]]), np.zeros((3, 1))
>>> there = np.ones((3, 1), bool)
>>> found = inspect(Grid(sold, left, none, none), there, ~there)
>>> found["pieces"].ravel().tolist(), found["missing"].any().item()
([False, True, False], False)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.data.contracts import Checked, checked, countable, summary

if TYPE_CHECKING:
    import pandera.pandas as pa

#: What tells one report from another, and what it counts.
KEYS = ["day", "store", "product"]
COUNTS = ["sold", "delivered", "wasted", "closing"]
REMEDIES = {
    "column": "send all columns",
    "type": "send whole numbers, days and names",
    "empty": "fill it in",
    "range": "count again",
    "day": "a day of the calendar, without a time, until this evening",
    "store": "enter it into the master data first",
    "product": "enter it into the master data first",
    "twice": "send the one that holds",
}
#: Pieces in a pack; days without a sale that are odd for a cell that sells so many a day.
PACK, SILENT_DAYS, SELLS = 12, 7, 2.0
#: A day's sale of so many usual ones is a mistake in typing, even where the balance agrees.
LEAP = 25.0


def accept(rows: pd.DataFrame, schema: pa.DataFrameSchema, until: pd.Timestamp) -> Checked:
    """Sort out the rows that break a contract; nothing is raised for a bad row.

    Rows of days after ``until`` are refused, and so are all rows of a store, product and day that
    say different things: which of them holds does not depend on which came first.

    Parameters
    ----------
    rows : DataFrame
        ``KEYS`` and ``COUNTS``.
    schema : pandera.pandas.DataFrameSchema
        With the rules of ``REMEDIES``.
    until : Timestamp
    """
    if not {*KEYS, *COUNTS} <= {*rows} or rows.empty:
        return checked(schema, rows, KEYS, REMEDIES)
    told, wrong = countable(rows, COUNTS, "day", KEYS[1:])
    late = ~wrong & (told["day"] > until).to_numpy()
    said = told[~wrong & ~late].drop_duplicates([*KEYS, *COUNTS])
    both = pd.MultiIndex.from_frame(said[said.duplicated(KEYS)][KEYS])
    twice = pd.MultiIndex.from_frame(told[KEYS]).isin(both) & ~wrong & ~late
    reasons = {
        "type": ("no whole number or no day", wrong),
        "day": ("a day that has not come", late),
        "twice": ("two rows that differ", twice),
    }
    lines = [
        summary(f"{rule}: {what}", rows[bad], KEYS, REMEDIES[rule])
        for rule, (what, bad) in reasons.items()
        if bad.any()
    ]
    out = wrong | late | twice
    found = checked(schema, told[~out], KEYS, REMEDIES)
    refused = pd.concat([rows[out], found.quarantined])
    return Checked(found.accepted, refused, (*lines, *found.lines))


def silent(
    rows: pd.DataFrame, stores: Sequence[str], due: np.ndarray, since: pd.Timestamp
) -> list[str]:
    """Return the stores of which less than half of the reports that are due have come.

    Parameters
    ----------
    rows : DataFrame
        Accepted.
    stores : sequence of str
    due : ndarray of int, shape (len(stores),)
        Rows from the day ``since`` on.

    Raises
    ------
    ValueError
        If these are more than half of the stores of which any is due.
    """
    told = rows[rows["day"] >= since]["store"].value_counts() if len(rows) else {}
    missing = [name for name, n in zip(stores, due, strict=True) if 2 * told.get(name, 0) < n]
    if 2 * len(missing) > (np.asarray(due) > 0).sum():
        what = f"no report since {since:%Y-%m-%d} from {', '.join(missing)}"
        raise ValueError(f"{what}: ask the stores")
    return missing


def need_same_stock(ages: np.ndarray, longest: int, left: np.ndarray, most: float = 0.2) -> None:
    """Refuse a ledger of stock by age that is not that of the evening that was reported.

    Parameters
    ----------
    ages : ndarray, shape (cells, nights)
    longest : int
        Nights that units may last.
    left : ndarray, shape (cells,)
        Units by the reports; NaN where nothing is known.
    most : float
        Share of the known cells that may differ: a report may be wrong.

    Raises
    ------
    ValueError
    """
    good = ages.ndim == 2 and ages.shape[0] == len(left) and ages.shape[1] >= longest
    if not good or not np.isfinite(ages).all() or (ages < 0).any() or (ages % 1).any():
        raise ValueError(f"the ledger is no stock of {len(left)} cells in whole units from 0 on.")
    told = ~np.isnan(left)
    off = (left != ages.sum(axis=1))[told].mean() if told.any() else 0.0
    if off > most:
        raise ValueError(f"the ledger differs from this evening's reports in {off:.0%} of the "
                         "cells: ask for that of this evening.")  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Reports as arrays of days by cells; NaN where nothing was reported."""

    sold: np.ndarray
    closing: np.ndarray
    arrived: np.ndarray
    wasted: np.ndarray


def laid_out(rows: pd.DataFrame, day: np.ndarray, cell: np.ndarray, shape: tuple) -> Grid:
    """Return reports as arrays; of two rows for one day and cell the first."""
    one = ~rows.duplicated(KEYS).to_numpy()
    made = []
    for name in ("sold", "closing", "delivered", "wasted"):
        values = np.full(shape, np.nan)
        values[day[one], cell[one]] = rows[name].to_numpy()[one]
        made.append(values)
    return Grid(*made)


def runs(flag: np.ndarray, length: int) -> np.ndarray:
    """Return which entries belong to a run of so many true ones down the days.

    Examples
    --------
    >>> runs(np.array([[1], [1], [0], [1], [1], [1]], bool), 3).ravel().astype(int).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    start = np.cumsum(flag, axis=0)
    before = np.vstack([np.zeros((length, flag.shape[1]), int), start[:-length]])[: len(flag)]
    full, result = (start - before) == length, np.zeros_like(flag)
    for back in range(min(length, len(flag))):
        result[: len(flag) - back] |= full[back:]
    return result & flag


def inspect(g: Grid, there: np.ndarray, closed: np.ndarray) -> dict[str, np.ndarray]:
    """Return where each fault is, as masks of days by cells.

    Parameters
    ----------
    g : Grid
    there, closed : ndarray of bool, shape (days, cells)
        Whether a cell should report, and whether its store was closed.

    Returns
    -------
    dict of str to ndarray
        ``missing``, ``returns`` (sold below 0), ``pieces`` (``PACK`` times the balance),
        ``phantom`` (stock, but no sale on ``SILENT_DAYS`` days), ``absurd`` (``LEAP`` times what
        sells on the middling day with a sale) and ``balance`` (another count than the balance, for
        no reason that is known).
    """
    left = g.closing - g.wasted
    before = np.vstack([np.full((1, left.shape[1]), np.nan), left[:-1]])
    by_balance = before + g.arrived - g.closing
    sells, usual = (g.sold > 0).any(axis=0), np.zeros(g.sold.shape[1])
    if sells.any():
        usual[sells] = np.nanmedian(np.where(g.sold > 0, g.sold, np.nan)[:, sells], axis=0)
    still = (g.sold == 0) & (g.closing > 0)
    found = {
        "missing": np.isnan(g.sold) & there,
        "returns": g.sold < 0,
        "pieces": (g.sold != by_balance) & (g.sold == PACK * by_balance) & (g.sold > 0),
        "phantom": runs(still, SILENT_DAYS) & (usual >= SELLS),
    }
    found["absurd"] = (g.sold > LEAP * np.maximum(usual, SELLS)) & ~found["pieces"]
    off = np.isfinite(by_balance) & np.isfinite(g.sold) & (g.sold != by_balance)
    return found | {"balance": off & ~np.any([*found.values()], axis=0)}


def usual_weeks(sold: np.ndarray, days: int, weeks: int) -> np.ndarray:
    """Return what each cell sold in the middling one of its last weeks, shape (cells,).

    Parameters
    ----------
    sold : ndarray, shape (days, cells)
        NaN where nothing is known. A week counts by its known days, if more than half are known.
    days : int
        Of a week.
    weeks : int
        How many.

    Returns
    -------
    ndarray
        NaN for a cell with less than two such weeks.

    Examples
    --------
    >>> sold = np.array([[2.0], [4.0], [np.nan], [3.0], [9.0], [9.0]])
    >>> usual_weeks(sold, 2, 3).tolist()
    [12.0]
    >>> usual_weeks(sold[:4], 2, 3).tolist()
    [nan]
    """
    blocks = sold[len(sold) % days :][-days * weeks :].reshape(-1, days, sold.shape[1])
    known = (~np.isnan(blocks)).sum(axis=1)
    total = np.nansum(blocks, axis=1) * days / np.maximum(known, 1)
    total[2 * known <= days] = np.nan
    few = (2 * known > days).sum(axis=0) < 2
    middle = np.full(sold.shape[1], np.nan)
    middle[~few] = np.nanmedian(total[:, ~few], axis=0)
    return middle
