"""LightGBM's quantiles of the remaining hours, with the settings of this case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from casebook.cases.delivery_eta.features import CODES, FEATURES
from casebook.evaluate.ranges import LEVELS
from casebook.forecasting import quantile_trees

if TYPE_CHECKING:
    import pandas as pd

#: Chosen on worlds 1 to 3.
SETTINGS = {
    "n_estimators": 60,
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_child_samples": 40,
    "max_bin": 127,
    "subsample": 0.8,
    "subsample_freq": 1,
}
#: What the model's hours are counted from: the planned van. A queue that is longer than any in the
#: training moves the plan, where trees on the bare hours could not follow.
OFFSET = "plan_van"
#: Without it more trees are needed.
DIRECT = {"offset": None, "n_estimators": 120}


def fit(
    rows: pd.DataFrame,
    features: Sequence[str] = FEATURES,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    offset: str | None = OFFSET,
    **settings: object,
) -> quantile_trees.Quantiles:
    """Fit one model for each quantile to ripe moments; ``settings`` replace :data:`SETTINGS`."""
    options = {**SETTINGS, **settings}
    return quantile_trees.fit(rows, features, levels, seed, offset, CODES, **options)
