"""LightGBM's quantiles of the remaining hours, put in order and conformalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.features import CODES, FEATURES
from casebook.evaluate import conformal
from casebook.evaluate.quantiles import uncrossed

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

LEVELS = (0.1, 0.5, 0.9)
NAMES = ["p10", "p50", "p90"]
COVER = 0.8
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


def as_forecast(values: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """Return quantiles as a forecast: in order, and not before now."""
    return pd.DataFrame(np.maximum(uncrossed(values), 0.0), index, NAMES)


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
    features: tuple[str, ...] = FEATURES
    offset: str | None = OFFSET

    def base(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the hours from which the models count."""
        return np.zeros(len(rows)) if self.offset is None else rows[self.offset].to_numpy(float)

    def raw(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the quantiles as the three models give them, shape (n, 3): they may cross."""
        inputs = rows[[*self.features]].to_numpy(float)
        made = np.column_stack([model.booster_.predict(inputs) for model in self.models])
        return made + self.base(rows)[:, None]

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of prepared moments: ``p10``, ``p50``, ``p90`` in hours."""
        return as_forecast(self.raw(rows), rows.index)


def fit(
    rows: pd.DataFrame,
    features: Sequence[str] = FEATURES,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    offset: str | None = OFFSET,
    **settings: object,
) -> Quantiles:
    """Fit one model for each quantile.

    Parameters
    ----------
    rows : DataFrame
        Prepared moments with ``remaining``.
    features : sequence of str
    levels : sequence of float
    seed : int
    offset : str or None
        Column of ``rows`` from which the hours are counted: the models fit the difference.
    **settings
        In place of those of :data:`SETTINGS`.

    Raises
    ------
    ValueError
        Without rows, or if a label is missing: train on :func:`ripe` rows.
    """
    from lightgbm import LGBMRegressor

    unknown = int(rows["remaining"].isna().sum())
    if rows.empty or unknown:
        raise ValueError(f"{len(rows)} rows, {unknown} without a label: train on ripe rows.")
    options = {**SETTINGS, "n_jobs": 1, "verbose": -1, "random_state": seed, **settings}
    categories = [k for k, name in enumerate(features) if name in CODES]
    start = Quantiles((), offset=offset).base(rows)
    inputs, target = rows[[*features]].to_numpy(float), rows["remaining"].to_numpy() - start
    models = (
        LGBMRegressor(objective="quantile", alpha=level, **options).fit(
            inputs, target, categorical_feature=categories
        )
        for level in levels
    )
    return Quantiles(tuple(models), tuple(features), offset)


def scores(rows: pd.DataFrame, forecast: pd.DataFrame, truth: str = "remaining") -> np.ndarray:
    """Return by how many hours each delivery lay outside of its interval; negative inside."""
    return conformal.cqr_scores(rows[truth], forecast["p10"], forecast["p90"])


def widened(forecast: pd.DataFrame, correction: np.ndarray | float) -> pd.DataFrame:
    """Return a forecast whose interval is wider on both sides; P50 stays inside of it.

    Parameters
    ----------
    forecast : DataFrame
    correction : ndarray or float
        Hours; negative makes it narrower.
    """
    low, high = forecast["p10"] - correction, forecast["p90"] + correction
    middle = (low + high) / 2
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    return pd.DataFrame(
        {
            "p10": np.maximum(low, 0.0),
            "p50": np.clip(forecast["p50"], np.maximum(low, 0.0), np.maximum(high, 0.0)),
            "p90": np.maximum(high, 0.0),
        },
        forecast.index,
    )


@dataclass(frozen=True)
class Conformal:
    """A forecaster with the correction that its calibration weeks ask for.

    Attributes
    ----------
    model : object
        With ``predict``.
    scores : ndarray
        Of the calibration rows.
    stages : ndarray of str
        Their stages; empty for one correction for all.
    """

    model: Quantiles
    scores: np.ndarray
    stages: np.ndarray

    def correction(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the hours that are added on both sides of each interval."""
        if not len(self.stages):
            return np.full(len(rows), conformal.quantile(self.scores, COVER))
        return conformal.by_group(self.scores, self.stages, rows["stage"].to_numpy(str), COVER)

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of prepared moments."""
        return widened(self.model.predict(rows), self.correction(rows))


def conformalise(model: Quantiles, rows: pd.DataFrame, by_stage: bool = False) -> Conformal:
    """Calibrate a fitted forecaster on rows that it was not trained on (CQR).

    Parameters
    ----------
    model : object
        With ``predict``.
    rows : DataFrame
        Prepared and :func:`ripe` moments after the training.
    by_stage : bool
        A correction for each stage, so that the coverage holds for each of them.
    """
    stages = rows["stage"].to_numpy(str) if by_stage else np.array([], str)
    return Conformal(model, scores(rows, model.predict(rows)), stages)


def follower(
    model: Quantiles, calibration: pd.DataFrame, gamma: float = 0.0005, window: int = 1000
) -> conformal.Adaptive:
    """Return a correction that starts from the calibration weeks and follows what is delivered.

    Parameters
    ----------
    model : object
        With ``predict``.
    calibration : DataFrame
        Prepared and ripe moments.
    gamma, window
        As of :class:`casebook.evaluate.conformal.Adaptive`; chosen on worlds 1 to 3.
    """
    start = calibration.sort_values("label_at", kind="stable")
    return conformal.Adaptive(scores(start, model.predict(start)), COVER, gamma, window)


def adapted(model: Quantiles, follows: conformal.Adaptive, rows: pd.DataFrame) -> pd.DataFrame:
    """Forecast a stream of moments with a correction that follows the deliveries known by then.

    Parameters
    ----------
    model : object
        With ``predict``.
    follows : Adaptive
        From :func:`follower`; it has learned the stream afterwards.
    rows : DataFrame
        Prepared moments after the calibration, with ``label_at`` and ``remaining`` where they are
        known.

    Returns
    -------
    DataFrame
        The forecast, with ``correction`` (hours) and ``alpha``.
    """
    forecast = model.predict(rows)
    found = conformal.adaptive(
        rows["known_at"].to_numpy("datetime64[s]"),
        rows["label_at"].to_numpy("datetime64[s]"),
        scores(rows, forecast),
        follows,
    )
    made = widened(forecast, found.correction)
    return made.assign(correction=found.correction, alpha=found.alpha)
