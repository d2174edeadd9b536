"""LightGBM at the critical ratio, counted from the plan, corrected on weeks that it has not seen.

The label is demand over plan, weighted by the plan: the pinball loss grows with its scale, so that
is the loss in units. The correction is one-sided: with it the share of sufficient orders among the
calibration rows is the level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from casebook.cases.inventory_demand.features import CODES, FEATURES, Rows, history_rows
from casebook.cases.inventory_demand.levels import Levels
from casebook.cases.inventory_demand.play import FRESH, WEEKLY, Window
from casebook.evaluate import conformal

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

#: Chosen on worlds 1 and 2 among twelve that lay within 1 %: the cheapest.
SETTINGS: dict[str, object] = {
    "n_estimators": 40,
    "num_leaves": 7,
    "learning_rate": 0.08,
    "min_child_samples": 60,
    "max_bin": 63,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
}
#: The first days of the history teach levels only; the last weeks calibrate.
FIRST, CALIBRATION = 112, 84
#: Plans below this many units are one unit of weight: a ratio to nothing is no number.
LEAST = 0.5
#: The level that means the mean.
MEAN = -1.0


def settings_for(window: Window) -> tuple[bool, int]:
    """Return rhythm and days between two evenings of the training."""
    return (True, 2) if window == FRESH else (False, 7)


@dataclass(frozen=True)
class Fitted:
    """A model of one level of one rhythm.

    Attributes
    ----------
    model : LGBMRegressor
    shift : float
        Added to every ratio; 0 without a correction.
    level : float
    features : tuple of int
        Columns of ``X``.
    ratios : ndarray
        Demand over order of the calibration rows: how wrong such orders have been.
    """

    model: LGBMRegressor
    shift: float
    level: float
    features: tuple[int, ...]
    ratios: np.ndarray = field(repr=False)

    def order(self, rows: Rows) -> np.ndarray:
        """Return units that suffice with the level, shape (n,)."""
        ratio = self.model.booster_.predict(rows.X[:, self.features]) + self.shift
        return np.maximum(ratio, 0) * rows.plan


@dataclass
class Training:
    """A history as rows to fit and to calibrate, made once for all levels.

    Parameters
    ----------
    levels : Levels
        Of the history.
    wanted : ndarray, shape (days, cells)
        The labels' demand.
    first, calibration : int
        See ``FIRST`` and ``CALIBRATION``.
    """

    levels: Levels
    wanted: np.ndarray
    first: int = FIRST
    calibration: int = CALIBRATION
    leave_out: Sequence[str] = ()

    @cached_property
    def features(self) -> tuple[int, ...]:
        """Columns that the models see."""
        return tuple(k for k, name in enumerate(FEATURES) if name not in self.leave_out)

    def __post_init__(self) -> None:
        self._rows: dict[Window, tuple[Rows, np.ndarray, np.ndarray]] = {}

    def rows(self, window: Window) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Return rows, units wanted, and which rows calibrate."""
        if window not in self._rows:
            fresh, step = settings_for(window)
            last = len(self.wanted) - 1 - window.last
            last -= 0 if fresh else (last + 1) % 7  # a Sunday
            days = np.arange(last, self.first, -step)[::-1]
            made, units = history_rows(self.levels, self.wanted, window, days, fresh)
            cut = len(self.wanted) - self.calibration
            # A window that reaches into the calibration weeks teaches nothing.
            late, middle = made.day >= cut, made.day + window.last >= cut
            keep = late | ~middle
            picked = Rows(*(part[keep] for part in (made.X, made.plan, made.day, made.cell)))
            self._rows[window] = picked, units[keep], late[keep]
        return self._rows[window]

    def fit(
        self,
        window: Window,
        level: float,
        correct: bool = True,
        seed: int = 0,
        life: int | None = None,
        **settings: object,
    ) -> Fitted:
        """Fit a level, or the mean, for one rhythm.

        Parameters
        ----------
        window : Window
        level : float
            Or ``MEAN``.
        correct : bool
            Conformalise on the calibration weeks; a mean is not corrected.
        life : int, optional
            Correct by the goods of this life alone.
        """
        from lightgbm import LGBMRegressor

        rows, units, late = self.rows(window)
        scale = np.maximum(rows.plan, LEAST)
        options = {"n_jobs": 1, "verbose": -1, "random_state": seed, "deterministic": True}
        goal = {"objective": "l2"} if level == MEAN else {"objective": "quantile", "alpha": level}
        model = LGBMRegressor(**{**options, **SETTINGS, **goal, **settings})
        places = [k for k, i in enumerate(self.features) if FEATURES[i] in CODES]
        model.fit(
            rows.X[~late][:, self.features],
            (units / scale)[~late],
            sample_weight=scale[~late],
            categorical_feature=places,
        )
        own = late if life is None else late & (rows.X[:, FEATURES.index("life")] == life)
        ratio = model.booster_.predict(rows.X[own][:, self.features])
        actual, shift = (units / scale)[own], 0.0
        if correct and level != MEAN:
            shift = conformal.quantile(actual - ratio, level)
        made = np.maximum(ratio + shift, 0.05)
        return Fitted(model, shift, level, self.features, np.sort(actual / made))


def fit_all(
    training: Training, by_life: Mapping[int, float], correct: bool = True, **settings: object
) -> dict[int, Fitted]:
    """Fit the level of each life, and the middle of the days before a weekly window.

    Returns
    -------
    dict of int to Fitted
        By life.
    """
    return {
        life: training.fit(FRESH if life == 1 else WEEKLY, level, correct, life=life, **settings)
        for life, level in by_life.items()
    }
