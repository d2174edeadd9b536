"""The shipped model in the registry: what the weekly training writes and each night asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.data.reports import morning
from casebook.forecasting.cold_start import with_cold_start
from casebook.forecasting.direct import DirectModel, predict_direct
from casebook.forecasting.walk import Forecaster
from casebook.serving.registry import MAX_AGE, put, take


def save(model: DirectModel, folder: Path) -> Path:
    """Put a model into the registry (:func:`casebook.serving.registry.put`)."""
    names = {"features": list(model.features), "countries": list(model.countries)}
    return put(folder, model.trained_until, text=model.text, **names)


def load(folder: Path, day: pd.Timestamp, max_age: int = MAX_AGE) -> DirectModel:
    """Read the model that may answer on a morning (:func:`casebook.serving.registry.take`).

    Raises
    ------
    ModelRefused
    """
    content = take(folder, morning(day), max_age)
    named = (tuple(content[name]) for name in ("features", "countries"))
    return DirectModel(content["text"], *named, content["trained_until"])


def from_registry(
    folder: Path, add_known: Callable[[pd.DataFrame], pd.DataFrame], max_age: int = MAX_AGE
) -> Forecaster:
    """Return the night's forecaster: tonight's levels, the registry's model, analogues for the new.

    Parameters
    ----------
    folder : Path
        Of the registry; it is read on each call.
    add_known : callable
        Adds the known features to rows, such as a partial of :func:`~.features.add_known`.
    max_age : int
        Days, as for :func:`load`.

    Returns
    -------
    callable
        For :class:`~casebook.forecasting.pipeline.Pipeline`; raises :class:`ModelRefused` where the
        model may not answer, so that the night falls back and its log says why.
    """

    def stored_model(panel: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        model = load(folder, future["ds"].min(), max_age)
        answer = with_cold_start(lambda train, asked: predict_direct(model, train, asked))
        return answer(*_with_distance(add_known(panel), add_known(future)))

    return stored_model


def _with_distance(train: pd.DataFrame, future: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give a route whose distance is not known the median of its depot, or else of all routes.

    Analogues compare distances, so that one empty cell would spoil the new routes' forecasts.
    """
    routes = pd.concat([train, future]).groupby("unique_id")["distance"].first()
    by_depot = routes.groupby(routes.index.str.rpartition("/").get_level_values(0))
    filled = routes.fillna(by_depot.transform("median")).fillna(routes.median())
    return tuple(
        frame.assign(distance=frame["distance"].fillna(frame["unique_id"].map(filled)))
        for frame in (train, future)
    )
