"""The registry of models: one file that the weekly training writes and each night reads.

The file holds LightGBM's text with what a night must know to trust it. A model that it must not
trust is refused with the reason, and the pipeline's fall-back answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.contract import DAY, morning
from casebook.cases.demand_forecasting.direct import (
    DirectModel,
    Forecaster,
    ModelRefused,
    predict_direct,
)
from casebook.cases.demand_forecasting.forecasters import with_cold_start
from casebook.project import write_whole

NAME = "model.json"
#: Days after its last training day on which a model still answers: four weeks and one to repair.
MAX_AGE = 35


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save(model: DirectModel, folder: Path) -> Path:
    """Put a model into the registry, in place of the one before.

    Parameters
    ----------
    model : DirectModel
    folder : Path
        Of the registry; a reader sees the old file or the new one, never a part.

    Returns
    -------
    Path
        Of the file.
    """
    content = {
        "trained_until": f"{model.trained_until:%Y-%m-%d}",
        "features": list(model.features),
        "countries": list(model.countries),
        "text": model.text,
    }
    path = Path(folder) / NAME
    write_whole(path, json.dumps({"sha256": _digest(content), **content}, indent=1).encode())
    return path


def load(folder: Path, day: pd.Timestamp, max_age: int = MAX_AGE) -> DirectModel:
    """Read the model that may answer on a morning.

    Parameters
    ----------
    folder : Path
        Of the registry.
    day : Timestamp
        The morning.
    max_age : int
        Days.

    Returns
    -------
    DirectModel

    Raises
    ------
    ModelRefused
        If there is none, it is not what was saved, it is older than ``max_age`` days, or it has
        seen the morning's own day or a later one.
    """
    path, day = Path(folder) / NAME, morning(day)
    try:
        content = json.loads(path.read_bytes())
        expected = content.pop("sha256")
    except FileNotFoundError:
        raise ModelRefused(f"there is no model in {path}: train one and save it") from None
    except (ValueError, KeyError, TypeError, AttributeError, IsADirectoryError):
        raise ModelRefused(f"{path} is no stored model: save one again") from None
    if _digest(content) != expected:
        raise ModelRefused(f"{path} was altered after it was saved: save the model again")
    until = pd.Timestamp(content["trained_until"])
    if until >= day:
        raise ModelRefused(
            f"the model has seen {until:%Y-%m-%d}, which {day:%Y-%m-%d} does not know yet: load "
            "the one of that time"
        )
    if (age := (day - until) // DAY) > max_age:
        raise ModelRefused(
            f"the model ends on {until:%Y-%m-%d}, {age} days ago, at most {max_age} are allowed: "
            "train it again"
        )
    named = (tuple(content[name]) for name in ("features", "countries"))
    return DirectModel(content["text"], *named, until)


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
        For :class:`~.pipeline.Pipeline`; raises :class:`ModelRefused` where the model may not
        answer, so that the night falls back and its log says why.
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
