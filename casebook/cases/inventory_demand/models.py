"""The model that ships: a history as rows of cells and evenings, and a level for each life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from casebook.cases.inventory_demand.features import CODES, FEATURES, Rows, history_rows
from casebook.cases.inventory_demand.levels import CellLevels
from casebook.cases.inventory_demand.play import FRESH, WEEKLY, Window
from casebook.forecasting.order_trees import Fitted, fit

#: The first days of the history teach levels only; the last weeks calibrate.
FIRST, CALIBRATION = 112, 84


@dataclass
class Training:
    """A history as rows to fit and to calibrate, made once for all levels.

    Parameters
    ----------
    levels : CellLevels
        Of the history.
    wanted : ndarray, shape (days, cells)
        The labels' demand.
    hidden : ndarray of bool, shape (days, cells), optional
        A window with such a day is no row.
    leave_out : sequence of str
        Features that the models do not see.
    """

    levels: CellLevels
    wanted: np.ndarray
    hidden: np.ndarray | None = None
    leave_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._rows: dict[Window, tuple[Rows, np.ndarray, np.ndarray]] = {}

    @property
    def features(self) -> list[int]:
        """Columns that the models see."""
        return [k for k, name in enumerate(FEATURES) if name not in self.leave_out]

    def rows(self, window: Window) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Return rows, units wanted, and which rows calibrate.

        Weekly goods are asked on Sundays, fresh ones on every second evening. A window that
        reaches into the calibration weeks teaches nothing.
        """
        if window not in self._rows:
            fresh, n = window == FRESH, len(self.wanted)
            last = n - 1 - window.last
            last -= 0 if fresh else (last + 1) % 7
            days = np.arange(last, FIRST, -2 if fresh else -7)[::-1]
            made, units = history_rows(self.levels, self.wanted, window, days, fresh)
            late = made.day >= n - CALIBRATION
            keep = late | (made.day + window.last < n - CALIBRATION)
            if self.hidden is not None:
                for k in window.ahead:
                    keep &= ~self.hidden[made.day + k, made.cell]
            self._rows[window] = made.pick(keep), units[keep], late[keep]
        return self._rows[window]

    def fit(self, life: int, level: float, correct: bool = True, **settings: object) -> Fitted:
        """Fit a level for the goods of one life, to all goods of their rhythm.

        The correction comes from the goods of that life alone.
        """
        rows, units, late = self.rows(FRESH if life == 1 else WEEKLY)
        own = rows.X[:, FEATURES.index("life")] == life
        places = [k for k, i in enumerate(self.features) if FEATURES[i] in CODES]
        return fit(
            rows.X[:, self.features],
            units,
            rows.plan,
            late,
            level,
            places,
            own if correct else False,
            **settings,
        )


def fit_all(
    training: Training, by_life: Mapping[int, float], correct: bool = True, **settings: object
) -> dict[int, Fitted]:
    """Fit the level of each life."""
    return {life: training.fit(life, at, correct, **settings) for life, at in by_life.items()}
