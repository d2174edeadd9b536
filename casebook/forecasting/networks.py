"""Two deep networks for many series at once, TFT and N-BEATS, through neuralforecast.

They are trained where that package is installed, and their forecasts kept: a sample made anew is
compared by :func:`compare_forecasts`.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=60)
>>> usual(pd.DataFrame({"unique_id": "BE/1/a", "ds": days, "y": 10.0})).to_dict()
{'BE/1/a': 11.0}
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.forecasting.cold_start import NEW
from casebook.forecasting.origins import HORIZON, WINDOW

if TYPE_CHECKING:
    from neuralforecast import NeuralForecast

KEYS = ["unique_id", "ds"]
LEVELS = ("total", "country", "depot", "route")
#: Of the networks: first weights, and which windows a step sees.
NETWORK_SEED = 1
#: Known ahead: the columns of ``features.add_known`` that change from day to day, and the date.
AHEAD = ("promotion", "holiday", "eve", "backlog_1", "backlog_2", "age")
DATE = ("week_sin", "week_cos", "year_sin", "year_cos")


@dataclass(frozen=True)
class Settings:
    """Settings of one network.

    Attributes
    ----------
    network : {"tft", "nbeats"}
    input_days : int
        Past days that it sees.
    width : int
        Hidden size of the TFT, units of each layer of N-BEATS.
    steps : int
        Steps of the optimiser (Adam; the rate is halved three times on the way).
    learning_rate : float
    log : bool
        Learn the logarithm of the scaled series, or the scaled series itself.
    """

    network: str
    input_days: int
    width: int
    steps: int
    learning_rate: float
    log: bool = True


def usual(train: pd.DataFrame) -> pd.Series:
    """Return the mean of the last 56 days of each series, plus one parcel.

    Parameters
    ----------
    train : DataFrame
        ``unique_id``, ``ds``, ``y``: days before the origin. A series that has no row on the last
        of them has closed, and one of fewer than seven days is too new: both are left out.

    Returns
    -------
    Series
        Index ``unique_id``, sorted.
    """
    by_id = train.groupby("unique_id")["ds"].agg(["size", "max"])
    ready = by_id.index[(by_id["max"] == train["ds"].max()) & (by_id["size"] >= NEW)]
    recent = train[train["ds"] > train["ds"].max() - pd.Timedelta(days=WINDOW)]
    return recent.groupby("unique_id")["y"].mean().loc[ready].sort_index() + 1


def with_date(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the place of a day in the week and in the year, as points on two circles."""
    week = 2 * np.pi * frame["ds"].dt.dayofweek / 7
    year = 2 * np.pi * frame["ds"].dt.dayofyear / 365.25
    waves = [np.sin(week), np.cos(week), np.sin(year), np.cos(year)]
    columns = dict(zip(DATE, waves, strict=True))
    return frame.assign(**columns, age=frame["age"] / frame["age"].max())


def network_frames(
    train: pd.DataFrame, future: pd.DataFrame, log: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.Series]:
    """Scale the series and lay out what is known ahead, in the form of neuralforecast.

    Parameters
    ----------
    train, future : DataFrame
        See :func:`~casebook.forecasting.walk.at_origin`.
    log : bool
        See :class:`Settings`.

    Returns
    -------
    past : DataFrame
        ``unique_id``, ``ds``, ``y`` (scaled) and the known columns.
    ahead : DataFrame
        The same without ``y``: 28 days of each series. A series that closes meanwhile has zeros
        in the known columns from then on; what is forecast there is not looked at.
    static : DataFrame
        ``unique_id`` and for each country, the total being one more, a column of 0 and 1.
    scale : Series
        See :func:`usual`.
    """
    scale, known = usual(train), [*AHEAD, *DATE]
    past = with_date(train[train["unique_id"].isin(scale.index)])
    size = past["unique_id"].map(scale)
    past["y"] = np.log((past["y"] + 1) / size) if log else past["y"] / size
    days = pd.date_range(future["ds"].min(), periods=HORIZON, freq="D")
    grid = pd.MultiIndex.from_product([scale.index, days], names=KEYS).to_frame(index=False)
    ahead = grid.merge(future[[*KEYS, *AHEAD]], on=KEYS, how="left")
    ahead = with_date(ahead.fillna(dict.fromkeys(AHEAD, 0.0)))
    country = pd.get_dummies(scale.index.str.split("/").str[0], dtype=float)
    static = country.assign(unique_id=scale.index)
    return past[[*KEYS, "y", *known]].sort_values(KEYS), ahead[[*KEYS, *known]], static, scale


def _shared(settings: Settings) -> dict[str, object]:
    """Return the arguments that both networks take, but for the loss."""
    return {
        "h": HORIZON,
        "input_size": settings.input_days,
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "num_lr_decays": 3,
        "start_padding_enabled": True,
        "scaler_type": "identity",
        "random_seed": NETWORK_SEED,
        "alias": settings.network,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def train_network(settings: Settings, train: pd.DataFrame, future: pd.DataFrame) -> NeuralForecast:
    """Train one network on all series, on one thread.

    Parameters
    ----------
    settings : Settings
    train, future : DataFrame
        See :func:`~casebook.forecasting.walk.at_origin`.

    Returns
    -------
    NeuralForecast
    """
    import torch
    from neuralforecast import NeuralForecast, models
    from neuralforecast.losses.pytorch import MAE

    # They announce the absence of a GPU and each end of a training, on every call.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order
    past, _, static, _ = network_frames(train, future, settings.log)
    shared = {**_shared(settings), "loss": MAE()}
    if settings.network == "tft":
        model = models.TFT(
            hidden_size=settings.width,
            n_head=4,
            futr_exog_list=[*AHEAD, *DATE],
            stat_exog_list=[c for c in static if c != "unique_id"],
            batch_size=12,
            windows_batch_size=128,
            # Of each series in a step, windows that begin three days apart: every weekday is
            # among them, and cutting them costs a third.
            step_size=3,
            **shared,
        )
    else:
        model = models.NBEATS(
            mlp_units=3 * [2 * [settings.width]], batch_size=12, windows_batch_size=256, **shared
        )
        past, static = past[[*KEYS, "y"]], None
    network = NeuralForecast(models=[model], freq="D")
    network.fit(past, static_df=static)
    return network


def network_forecasts(
    network: NeuralForecast, settings: Settings, train: pd.DataFrame, future: pd.DataFrame
) -> np.ndarray:
    """Forecast the 28 days from an origin with a trained network.

    Parameters
    ----------
    network : NeuralForecast
    settings : Settings
        It was trained with.
    train, future : DataFrame
        See :func:`~casebook.forecasting.walk.at_origin`; the origin is that
        of the training, or a later one.

    Returns
    -------
    ndarray, shape (len(future),)
        NaN for a series that is too new.
    """
    past, ahead, static, scale = network_frames(train, future, settings.log)
    if settings.network == "nbeats":
        made = network.predict(past[[*KEYS, "y"]])
    else:
        made = network.predict(past, static_df=static, futr_df=ahead)
    size, z = made["unique_id"].map(scale), made[settings.network].astype(float)
    made["forecast"] = (size * np.exp(z) - 1 if settings.log else size * z).clip(lower=0)
    return future[KEYS].merge(made, on=KEYS, how="left")["forecast"].to_numpy()


#: On the kind of processor that made them, the forecasts come out equal to the last bit. Another
#: kind adds numbers in another order, and hundreds of steps magnify the last bit. With the
#: instruction sets of older processors (AVX2, and none of AVX) the forecasts of a level moved by up
#: to 1.1 % and 3.7 % of their sum, those of a node by 13 %. More than this is not rounding.
LEVEL_TOLERANCE = 0.08
#: Of one node and origin: the share of its 28 days, and the parcels on top (for a sparse route).
NODE_TOLERANCE, NODE_PARCELS = 0.25, 28.0
#: Of a WAPE of a trial, for the same reason.
TRIAL_TOLERANCE = 0.02


def compare_forecasts(stored: pd.DataFrame, made: pd.DataFrame, name: str) -> tuple[str, list[str]]:
    """Compare forecasts of one network from one origin.

    Parameters
    ----------
    stored, made : DataFrame
        ``unique_id``, ``ds`` and ``name``.
    name : str
        Of the network.

    Returns
    -------
    how : str
        How near they are.
    differences : list of str
        A line for each row that only one of them has, each level and each node that differs by
        more than another processor explains.
    """
    both = stored[[*KEYS, name]].merge(
        made[[*KEYS, name]], on=KEYS, how="outer", suffixes=("", "_made"), indicator="side"
    )
    if lone := int((both["side"] != "both").sum()):
        return "not the same rows", [f"{name}: {lone} rows are only stored, or only made anew"]
    if bad := int((~np.isfinite(both[name]) | (both[name] < 0)).sum()):
        return "not forecasts", [f"{name}: {bad} stored forecasts are missing or negative"]
    gap = (both[name].astype(float) - both[f"{name}_made"].astype(float)).abs()
    if not gap.any():
        return "equal to the last bit", []
    sums = pd.DataFrame({"id": both["unique_id"], "gap": gap, "size": both[name].astype(float)})
    sums = sums.groupby("id").sum()
    depth = sums.index.str.count("/") + (sums.index != "total")
    level = sums.groupby(np.array(LEVELS)[depth]).sum()
    share = (level["gap"] / level["size"]).reindex(list(LEVELS))
    found = [
        f"{name}: the forecasts of the level {k} differ by {v:.1%} of their sum, more than "
        f"{LEVEL_TOLERANCE:.0%}"
        for k, v in share.items()
        if v > LEVEL_TOLERANCE
    ]
    far = sums[sums["gap"] > NODE_TOLERANCE * sums["size"] + NODE_PARCELS]
    found += [
        f"{name}: the forecasts of {k} differ by {v['gap']:.0f} parcels of {v['size']:.0f} in 28 "
        "days"
        for k, v in far.iterrows()
    ]
    return f"within {share.max():.2%} of the sum of each level", found


def compare_trial(stored: pd.Series, made: Mapping[str, object]) -> tuple[str, list[str]]:
    """Compare a row of the trials with the trial made anew."""
    scores = [k for k in made if k not in Settings.__dataclass_fields__]
    found = [
        f"trial: {k} is {stored[k]} in the file, {made[k]} in the code"
        for k in Settings.__dataclass_fields__
        if stored[k] != made[k]
    ]
    gap = {k: abs(stored[k] - made[k]) for k in scores}
    found += [
        f"trial: {k} is {stored[k]:.4f} in the file, {made[k]:.4f} made anew"
        for k, v in gap.items()
        if not v <= TRIAL_TOLERANCE
    ]
    return f"WAPE within {max(gap.values()):.4f}", found
