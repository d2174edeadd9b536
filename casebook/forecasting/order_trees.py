"""A quantile of demand by LightGBM, counted from a plan, corrected on weeks that it has not seen.

The label is demand over plan, weighted by the plan: the pinball loss grows with its scale, so that
is the loss in units, and one model serves cells of one unit and of thirty. The correction is
one-sided: with it the order suffices for the level's share of the calibration rows.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> plan = np.repeat([2.0, 20.0], 2000)
>>> units = rng.poisson(plan)
>>> late = np.arange(4000) % 2 == 0
>>> model = fit(np.column_stack([plan]), units, plan, late, level=0.8, n_estimators=20)
>>> order = model.order(np.array([[2.0], [20.0]]), np.array([2.0, 20.0]))
>>> bool(abs((units <= model.order(np.column_stack([plan]), plan)).mean() - 0.8) < 0.06)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from casebook.evaluate import conformal

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

SETTINGS: dict[str, object] = {
    "n_estimators": 40,
    "num_leaves": 7,
    "learning_rate": 0.08,
    "min_child_samples": 60,
    "max_bin": 63,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
    "n_jobs": 1,
    "verbose": -1,
    "deterministic": True,
}
#: Plans below this many units are one unit of weight: a ratio to nothing is no number.
LEAST = 0.5
#: The level that means the mean.
MEAN = -1.0


@dataclass(frozen=True)
class Fitted:
    """A model of one level.

    Attributes
    ----------
    model : LGBMRegressor
    shift : float
        Added to every ratio; 0 without a correction.
    level : float
    ratios : ndarray
        Demand over order of the calibration rows, sorted: how wrong such orders have been.
    """

    model: LGBMRegressor
    shift: float
    level: float
    ratios: np.ndarray = field(repr=False)

    def order(self, X: np.ndarray, plan: np.ndarray) -> np.ndarray:
        """Return units that suffice with the level, shape (n,)."""
        scale = np.where(plan > 0, np.maximum(plan, LEAST), 0)  # as in the labels
        return np.maximum(self.model.booster_.predict(X) + self.shift, 0) * scale


def fit(
    X: np.ndarray,
    units: np.ndarray,
    plan: np.ndarray,
    late: np.ndarray,
    level: float,
    categories: Sequence[int] = (),
    correct: bool | np.ndarray = True,
    seed: int = 0,
    **settings: object,
) -> Fitted:
    """Fit a level of demand, or its mean.

    Parameters
    ----------
    X : ndarray, shape (n, k)
    units, plan : ndarray, shape (n,)
        What was wanted, and what was planned.
    late : ndarray of bool, shape (n,)
        Rows that calibrate; the others train.
    level : float
        Or ``MEAN``, which is not corrected.
    categories : sequence of int
        Columns that are codes and no numbers.
    correct : bool or ndarray of bool, shape (n,)
        Whether the order is corrected; or which of the late rows correct it.
    seed : int
    **settings
        Of LightGBM, in place of ``SETTINGS``.

    Raises
    ------
    ValueError
        Without rows to train or to calibrate on, or if a number of units is missing.
    """
    from lightgbm import LGBMRegressor

    own = late if isinstance(correct, bool) else late & correct
    if late.all() or not own.any() or np.isnan(units).any():
        raise ValueError(f"{(~late).sum()} rows to train, {own.sum()} to calibrate on: give both, "
                         "with known units.")  # fmt: skip
    scale = np.maximum(plan, LEAST)
    goal = {"objective": "l2"} if level == MEAN else {"objective": "quantile", "alpha": level}
    model = LGBMRegressor(**{**SETTINGS, "random_state": seed, **goal, **settings})
    ratio = units / scale
    model.fit(X[~late], ratio[~late], sample_weight=scale[~late], categorical_feature=[*categories])
    made, shift = model.booster_.predict(X[own]), 0.0
    if level != MEAN and correct is not False:
        shift = conformal.quantile(ratio[own] - made, level)
    return Fitted(model, shift, level, np.sort(ratio[own] / np.maximum(made + shift, 0.05)))
