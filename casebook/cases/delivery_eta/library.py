"""The same correction by the library: MAPIE's conformalised quantile regression."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from casebook.cases.delivery_eta.quantiles import COVER, Quantiles

if TYPE_CHECKING:
    import pandas as pd


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
        Prepared moments; those of the calibration with ``remaining``.

    Returns
    -------
    tuple of ndarray, shape (n,)
        One correction for both sides; crossed quantiles and hours before now stay as they are.
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
