"""A global model: one LightGBM for all series, fitted, kept as text, and asked again.

Its target is the factor between a day's parcels and what level and weekday profile of its series
say (:func:`~casebook.forecasting.origins.origin_features`), with a Tweedie loss: the
mean of counts, zeros allowed, right after growth. A row weighs as much as its expected count, up
to a saturation.

Examples
--------
>>> from casebook.forecasting.origins import KNOWN
>>> days = pd.date_range("2024-01-01", periods=200)
>>> panel = pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 10.0 + days.dayofweek})
>>> panel = panel.assign(**dict.fromkeys(KNOWN, 0.0))
>>> lightgbm_direct(panel[:-7], panel[-7:]).round().tolist()  # a Friday comes first
[14.0, 15.0, 16.0, 10.0, 11.0, 12.0, 13.0]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.data.contracts import ModelRefused
from casebook.forecasting.origins import (
    HORIZON,
    Rows,
    Table,
    block_lifts,
    origin_features,
    past_origins,
    to_table,
    training_rows,
)

if TYPE_CHECKING:
    from lightgbm import Booster, LGBMRegressor

Weight = Callable[[pd.DatetimeIndex], np.ndarray]
#: The best of seven trials on validation origins of other worlds. The loss is Tweedie's, between
#: Poisson and gamma: the mean of counts whose spread grows faster than theirs.
PARAMETERS = {
    "objective": "tweedie",
    "tweedie_variance_power": 1.5,
    "n_estimators": 120,
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_child_samples": 100,
    "max_bin": 63,
}
#: Expected parcels beyond which a row hardly weighs more: the depot's shock is the noise there,
#: not the count.
SATURATION = 50.0
#: A day with more than so many times the expected parcels counts as one with so many.
MOST = 8.0


class UnknownCountry(UserWarning):
    """A model answers for a country that it was not fitted to; the night's log repeats it."""


@dataclass(frozen=True)
class DirectModel:
    """A fitted model, as it goes into the registry.

    Attributes
    ----------
    text : str
        LightGBM's own model string.
    features : tuple of str
        In the order of its columns.
    countries : tuple of str
        In the order of their numbers, the feature ``in_country``.
    trained_until : Timestamp
        Last day whose parcels it has seen.
    """

    text: str
    features: tuple[str, ...]
    countries: tuple[str, ...]
    trained_until: pd.Timestamp

    @cached_property
    def booster(self) -> Booster:
        """The model itself."""
        import lightgbm as lgb

        return lgb.Booster(model_str=self.text)


def regressor(parameters: Mapping[str, object] | None, seed: int) -> LGBMRegressor:
    """Return an unfitted model on one thread that gives the same trees on every run."""
    import lightgbm as lgb

    fixed = {"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbose": -1}
    return lgb.LGBMRegressor(**{**PARAMETERS, **(parameters or {}), **fixed}, random_state=seed)


def _fit(
    rows: Rows,
    x: np.ndarray,
    days: pd.DatetimeIndex,
    day_weight: Weight | None,
    parameters: Mapping[str, object] | None,
    seed: int,
) -> LGBMRegressor:
    weight = rows.expected / (1 + rows.expected / SATURATION)
    if day_weight is not None:
        weight = weight * day_weight(days)[rows.day]
    used = weight > 0
    target = np.minimum(rows.y / rows.expected, MOST)
    return regressor(parameters, seed).fit(x[used], target[used], sample_weight=weight[used])


def _asked(values: np.ndarray, table: Table, future: pd.DataFrame) -> np.ndarray:
    """Pick the rows to forecast, in their order, out of values of days ahead by nodes."""
    ahead = (future["ds"] - table.days[table.start]).dt.days.to_numpy()
    return values[ahead, np.searchsorted(table.ids, future["unique_id"].to_numpy(str))]


def lightgbm_direct(
    train: pd.DataFrame,
    future: pd.DataFrame,
    *,
    parameters: Mapping[str, object] | None = None,
    day_weight: Weight | None = None,
    dummy: tuple[str, str] | None = None,
    without: tuple[str, ...] = (),
    seed: int = 0,
) -> np.ndarray:
    """Fit one LightGBM model to all series, and forecast directly for one to 28 days ahead.

    Parameters
    ----------
    train, future : DataFrame
        Rows before the origin and rows to forecast, with the known features.
    parameters : mapping, optional
        Of LightGBM, in place of those in :data:`PARAMETERS`.
    day_weight : callable, optional
        Weight of each day of the training rows: :func:`half_life` and :func:`leave_out` make one.
    dummy : tuple of str, optional
        First and last day of a shock: one more feature is 1 on them. The last day must be known
        at the origin.
    without : tuple of str
        Features to leave out (for an ablation).
    seed : int
        Of LightGBM.

    Returns
    -------
    ndarray, shape (len(future),)
        NaN for a series without a level: one seen on fewer than five weekdays in the last 56 days
        (see :func:`~.cold_start.with_cold_start`).
    """
    table = to_table(train, future)
    rows = training_rows(table)
    keep = [k for k, name in enumerate(rows.names) if name not in without]
    x, x_future = rows.x[:, keep], rows.x_future[..., keep]
    if dummy is not None:
        shocked = ((table.days >= dummy[0]) & (table.days <= dummy[1])).astype(np.float32)
        later = np.broadcast_to(shocked[table.start :, None, None], (*x_future.shape[:2], 1))
        x = np.column_stack([x, shocked[rows.day]])
        x_future = np.concatenate([x_future, later], axis=-1)
    model = _fit(rows, x, table.days, day_weight, parameters, seed)
    factor = model.predict(x_future.reshape(-1, x_future.shape[-1]))
    values = factor.reshape(rows.expected_future.shape).clip(0) * rows.expected_future
    return _asked(values, table, future)


def fit_direct(
    train: pd.DataFrame, *, parameters: Mapping[str, object] | None = None, seed: int = 0
) -> DirectModel:
    """Fit the model of :func:`lightgbm_direct` for the registry.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y`` and the known features.
    parameters : mapping, optional
        Of LightGBM.
    seed : int

    Returns
    -------
    DirectModel
    """
    table = to_table(train, train.head(0))
    rows = training_rows(table)
    model = _fit(rows, rows.x, table.days, None, parameters, seed)
    text, names = model.booster_.model_to_string(), tuple(rows.names)
    return DirectModel(text, names, table.countries, table.days[table.start - 1])


def predict_at(
    model: DirectModel, table: Table, origin: int, lifts: np.ndarray, days: int = HORIZON
) -> np.ndarray:
    """Return a model's parcels of the days from an origin, whatever the table holds of them.

    Parameters
    ----------
    model : DirectModel
    table : Table
    origin : int
        Row of the first day to forecast.
    lifts : ndarray, shape (2, nodes)
        As for :func:`~.origins.origin_features`.
    days : int
        Ahead, at most.

    Returns
    -------
    ndarray, shape (days ahead, nodes)
        NaN for a series without a level.

    Raises
    ------
    ModelRefused
        If the model has seen days from the origin on, or was fitted to other features.

    Warns
    -----
    UnknownCountry
        If it was not fitted to a country: the number of that country is missing for its rows.
    """
    features, expected = origin_features(table, origin, lifts)
    if model.trained_until >= (first := table.days[origin]):
        raise ModelRefused(
            f"the model has seen {model.trained_until:%Y-%m-%d}, which is not before the origin "
            f"{first:%Y-%m-%d}: load an older one"
        )
    if other := set(model.features) ^ set(features):
        raise ModelRefused(f"the model was fitted to other features ({min(other)}): train again")
    number = {country: k for k, country in enumerate(model.countries)}
    if new := [country for country in table.countries if country not in number]:
        warnings.warn(
            f"the model was not fitted to {', '.join(new)}: it answers there without the country, "
            "train it again",
            UnknownCountry,
            stacklevel=2,
        )
    codes = np.array([number.get(country, np.nan) for country in table.countries])
    features["in_country"] = np.broadcast_to(codes[table.country], features["in_country"].shape)
    x = np.stack([features[name][:days] for name in model.features], axis=-1).astype(np.float32)
    factor = model.booster.predict(x.reshape(-1, x.shape[-1]), num_threads=1)
    return factor.reshape(x.shape[:2]).clip(0) * expected[:days]


def predict_direct(model: DirectModel, train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast by a fitted model: what has happened since moves the levels, not the trees.

    Parameters
    ----------
    model : DirectModel
    train, future : DataFrame
        As for :func:`lightgbm_direct`; ``train`` reaches to the day before the origin.

    Returns
    -------
    ndarray, shape (len(future),)
        As of :func:`lightgbm_direct`.

    Raises
    ------
    ModelRefused
        As :func:`predict_at`.
    """
    table = to_table(train, future)
    lifts = sum(block_lifts(table, origin) for origin in past_origins(table.start))
    return _asked(predict_at(model, table, table.start, lifts), table, future)


def half_life(origin: pd.Timestamp, days: float) -> Weight:
    """Weigh a training day by its age: half as much for each ``days`` before the origin."""
    return lambda dates: 0.5 ** ((pd.Timestamp(origin) - dates).days.to_numpy() / days)


def leave_out(first: str, last: str) -> Weight:
    """Leave the days from ``first`` to ``last`` out of the training rows."""
    return lambda dates: 1.0 - ((dates >= first) & (dates <= last))
