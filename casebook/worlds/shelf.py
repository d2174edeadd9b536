"""Stock with ages: units are delivered, sold the oldest first, and thrown away when they expire.

Examples
--------
>>> shelf = Shelf(cells=1, longest=3)
>>> shelf.deliver(np.array([4]), np.array([1])), shelf.deliver(np.array([5]), np.array([3]))
(None, None)
>>> shelf.sell(np.array([6])).tolist(), shelf.ages.tolist()
([6], [[0, 0, 3]])
>>> [int(shelf.night()[0]) for _ in range(3)]
[0, 0, 3]
"""

from __future__ import annotations

import numpy as np


class Shelf:
    """The stock of many cells (products in stores).

    Parameters
    ----------
    cells : int
    longest : int
        Nights that the longest-lived units last.

    Attributes
    ----------
    ages : ndarray of int, shape (cells, longest)
        Units by nights left: column 0 is thrown away tonight.

    Raises
    ------
    ValueError
        If there is no cell, or units that last no night.
    """

    def __init__(self, cells: int, longest: int) -> None:
        if cells < 1 or longest < 1:
            raise ValueError(f"{cells} cells, {longest} nights: give one of each at least.")
        self.ages = np.zeros((cells, longest), int)

    def copy(self) -> Shelf:
        """Return a shelf of its own with the same stock."""
        other = Shelf(*self.ages.shape)
        other.ages = self.ages.copy()
        return other

    @property
    def stock(self) -> np.ndarray:
        """Units in each cell, shape (cells,)."""
        return self.ages.sum(axis=1)

    def lasting(self, nights: int) -> np.ndarray:
        """Return the units of each cell that are still there after so many nights, if unsold."""
        return self.ages[:, nights:].sum(axis=1)

    def deliver(self, units: np.ndarray, life: np.ndarray) -> None:
        """Add units that last so many nights, both of shape (cells,).

        Raises
        ------
        ValueError
            On a negative delivery, or a life that the shelf has no place for.
        """
        units, life = np.asarray(units, int), np.asarray(life, int)
        if (units < 0).any() or (life < 1).any() or (life > self.ages.shape[1]).any():
            raise ValueError("units are 0 or more, a life is a night up to the longest one.")
        self.ages[np.arange(len(units)), life - 1] += units

    def sell(self, demand: np.ndarray) -> np.ndarray:
        """Sell what is asked for while there is some, the oldest first; return what was sold."""
        reached = self.ages.cumsum(axis=1)
        taken = np.minimum(reached, np.asarray(demand, int)[:, None])
        self.ages -= np.diff(taken, axis=1, prepend=0)
        return taken[:, -1].copy()

    def night(self) -> np.ndarray:
        """Let a night pass; return the units of each cell that are thrown away."""
        waste = self.ages[:, 0].copy()
        self.ages[:, :-1] = self.ages[:, 1:]
        self.ages[:, -1] = 0
        return waste
