"""Quantiles by boosted trees: one LightGBM for each level, counted from a plan where there is one.

Trees cannot follow a value beyond those of their training. Where a plan can (a timetable with
today's queues), they fit what is left beside it.

Examples
--------
>>> rows = pd.DataFrame({"plan": np.arange(400.0), "x": np.arange(400) % 2})
>>> rows["remaining"] = rows["plan"] + 5 * rows["x"]
>>> model = fit(rows, ["x"], offset="plan", n_estimators=50, min_child_samples=20)
>>> far = pd.DataFrame({"plan": [1000.0, 1000.0], "x": [0, 1]})
>>> model.predict(far)["p50"].round().tolist()
[1000.0, 1005.0]
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.evaluate.ranges import COVER, LEVELS, as_forecast

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor


@dataclass(frozen=True)
class Quantiles:
    """A fitted model.

    Attributes
    ----------
    models : tuple of LGBMRegressor
        One for each level.
    features : tuple of str
    offset : str or None
        Column that is added to what the models say.
    """

    models: tuple[LGBMRegressor, ...]
    features: tuple[str, ...]
    offset: str | None = None

    def base(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the values from which the models count."""
        return np.zeros(len(rows)) if self.offset is None else rows[self.offset].to_numpy(float)

    def raw(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the quantiles as the three models give them, shape (n, 3): they may cross."""
        inputs = rows[[*self.features]].to_numpy(float)
        made = np.column_stack([model.booster_.predict(inputs) for model in self.models])
        return made + self.base(rows)[:, None]

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of rows, where the levels are those of a range."""
        return as_forecast(self.raw(rows), rows.index)


def fit(
    rows: pd.DataFrame,
    features: Sequence[str],
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    offset: str | None = None,
    categories: Collection[str] = (),
    **settings: object,
) -> Quantiles:
    """Fit one model for each quantile.

    Parameters
    ----------
    rows : DataFrame
        With ``remaining``, the label.
    features : sequence of str
    levels : sequence of float
    seed : int
    offset : str or None
        Column of ``rows`` from which the label is counted: the models fit the difference.
    categories : collection of str
        Features that are codes and no numbers.
    **settings
        Of LightGBM.

    Raises
    ------
    ValueError
        Without rows, or if a label is missing.
    """
    from lightgbm import LGBMRegressor

    unknown = int(rows["remaining"].isna().sum())
    if rows.empty or unknown:
        raise ValueError(f"{len(rows)} rows, {unknown} without a label: train on ripe rows.")
    options = {"n_jobs": 1, "verbose": -1, "random_state": seed, **settings}
    start = Quantiles((), (), offset).base(rows)
    inputs, target = rows[[*features]].to_numpy(float), rows["remaining"].to_numpy() - start
    places = [k for k, name in enumerate(features) if name in categories]
    models = (
        LGBMRegressor(objective="quantile", alpha=level, **options).fit(
            inputs, target, categorical_feature=places
        )
        for level in levels
    )
    return Quantiles(tuple(models), tuple(features), offset)


# The same correction by a library ------------------------------------------------------


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep the library's remarks away from the reader, and the root logger as it was."""
    root = logging.getLogger()
    disabled, level, handlers = root.manager.disable, root.level, root.handlers[:]
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


def mapie_interval(
    model: Quantiles, calibration: pd.DataFrame, rows: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the intervals that MAPIE makes of a fitted model's quantiles.

    Parameters
    ----------
    model : Quantiles
    calibration, rows : DataFrame
        Those of the calibration with ``remaining``.

    Returns
    -------
    tuple of ndarray, shape (n,)
        One correction for both sides; crossed quantiles and values below 0 stay as they are.
    """
    from mapie.regression import ConformalizedQuantileRegressor

    low, middle, high = model.models
    library = ConformalizedQuantileRegressor(
        [low, high, middle], confidence_level=COVER, prefit=True
    )
    features, off = [*model.features], calibration["remaining"] - model.base(calibration)
    inputs = rows[features].to_numpy(float)
    with _without_remarks():  # it remarks that quantiles cross, as they may here
        library.conformalize(calibration[features].to_numpy(float), off.to_numpy())
        _, ends = library.predict_interval(inputs, symmetric_correction=True)
    return ends[:, 0, 0] + model.base(rows), ends[:, 1, 0] + model.base(rows)
