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

from dataclasses import dataclass

import numpy as np

#: Pieces in a pack; days without a sale that are odd for a cell that sells so many a day.
PACK, SILENT_DAYS, SELLS = 12, 7, 2.0


@dataclass(frozen=True)
class Grid:
    """Reports as arrays of days by cells; NaN where nothing was reported."""

    sold: np.ndarray
    closing: np.ndarray
    arrived: np.ndarray
    wasted: np.ndarray


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
        ``phantom`` (stock, but no sale on ``SILENT_DAYS`` days) and ``balance`` (another count
        than the balance, for no reason that is known).
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
    off = np.isfinite(by_balance) & np.isfinite(g.sold) & (g.sold != by_balance)
    return found | {"balance": off & ~np.any([*found.values()], axis=0)}
