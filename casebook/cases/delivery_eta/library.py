"""The same correction by the library: MAPIE's conformalised quantile regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casebook.cases.delivery_eta.quantiles import COVER, Quantiles

if TYPE_CHECKING:
    import pandas as pd


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
    library.conformalize(calibration[features].to_numpy(float), off.to_numpy())
    _, ends = library.predict_interval(rows[features].to_numpy(float), symmetric_correction=True)
    return ends[:, 0, 0] + model.base(rows), ends[:, 1, 0] + model.base(rows)
