"""Forecasts of two deep networks, made once: TFT and N-BEATS, by neuralforecast.

``make artifacts N=01`` trains them in an environment of their own and writes

* ``forecasts.parquet``: the forecasts of all nodes from the six test origins;
* ``trials.csv``: what was tried before, on the validation origins of another world.

Both are global models: one network for the 120 routes and the 31 nodes above them. At each test
origin a network is trained anew on the days before it. The temporal fusion transformer is also
given what is known ahead (promotions, holidays and the days around them, age, weekday, time of the
year) and the country. N-BEATS is univariate: it knows the past parcels of the series and nothing
else, so no holiday that lies ahead.

Each series is divided by its own mean of the last 56 days, one parcel added to both. The chosen TFT
takes logarithms of it: 0 is "as usual", whatever the size, and a factor is a distance; the chosen
N-BEATS does not. What stands before the first day of a series that is shorter than the input is
filled with 0 ("as usual" to the one, no parcels to the other); the networks see such beginnings in
training too. A route of fewer than seven days is in no training; it is forecast by
the analogues that stand in for the other global models as well
(:func:`~casebook.cases.demand_forecasting.forecasters.analogue`). Forecasts below zero are cut.

References
----------
Lim, Arık, Loeff & Pfister (2021), *Temporal Fusion Transformers for interpretable multi-horizon
time series forecasting*, International Journal of Forecasting 37.
Oreshkin, Carpov, Chapados & Bengio (2020), *N-BEATS: Neural basis expansion analysis for
interpretable time series forecasting*, ICLR.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.features import HORIZON, WINDOW, add_known
from casebook.cases.demand_forecasting.forecasters import NEW, analogue
from casebook.cases.demand_forecasting.world import DAYS, SEED, simulate
from casebook.evaluate.metrics import wape
from casebook.forecasting.hierarchy import Hierarchy, aggregate, from_ids
from casebook.forecasting.walk import at_origin, planning_origins
from casebook.recorded.artifacts import Recipe, frame_hash

if TYPE_CHECKING:
    from neuralforecast import NeuralForecast

KEYS = ["unique_id", "ds"]
LEVELS = ("total", "country", "depot", "route")
#: World of the trials; its test days are never looked at.
TRIAL_SEED = 101
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


_TFT = Settings("tft", input_days=56, width=16, steps=250, learning_rate=5e-3)
_NBEATS = Settings("nbeats", input_days=56, width=128, steps=1000, learning_rate=1e-3)
#: Five trials for each network, in their order: a first guess, then changes of the best so far.
TRIALS = (
    _TFT,
    replace(_TFT, learning_rate=1e-2),
    replace(_TFT, learning_rate=1e-2, log=False),
    replace(_TFT, learning_rate=1e-2, input_days=28, steps=400),
    replace(_TFT, learning_rate=1e-2, input_days=28, width=32),
    _NBEATS,
    replace(_NBEATS, learning_rate=3e-3),
    replace(_NBEATS, learning_rate=3e-3, log=False),
    replace(_NBEATS, learning_rate=3e-3, input_days=112),
    replace(_NBEATS, learning_rate=3e-3, input_days=112, log=False),
)
#: The best of the trials by the mean over the levels of the WAPE of the summed routes.
CHOSEN = {"tft": TRIALS[3], "nbeats": TRIALS[7]}


# Series as the networks see them -----------------------------------------------------


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
        See :func:`~casebook.cases.demand_forecasting.evaluation.at_origin`.
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


# Training and forecasting ------------------------------------------------------------


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
        See :func:`~casebook.cases.demand_forecasting.evaluation.at_origin`.

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
        See :func:`~casebook.cases.demand_forecasting.evaluation.at_origin`; the origin is that
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


def with_analogues(train: pd.DataFrame, future: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Let the analogues answer for the routes that have no forecast.

    Parameters
    ----------
    train, future : DataFrame
        See :func:`~casebook.cases.demand_forecasting.evaluation.at_origin`.
    values : ndarray, shape (len(future),)
        NaN for routes that are too new.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    bottom, values = (future["level"] == LEVELS[-1]).to_numpy(), np.array(values, float)
    values[bottom] = analogue(train[train["level"] == LEVELS[-1]], future[bottom], values[bottom])
    return values


# What is stored ----------------------------------------------------------------------


@cache
def panel(seed: int) -> tuple[pd.DataFrame, Hierarchy]:
    """Return the clean panel of a world with its known features, and the hierarchy."""
    world = simulate(seed)
    rows = world.truth[[*KEYS, "y"]].astype({"y": float})
    rows = add_known(rows, world.routes, world.calendar, world.promotions)
    return rows, from_ids(rows["unique_id"], ("country", "depot", "route"))


def forecasts_at(settings: Settings, origin: pd.Timestamp) -> pd.DataFrame:
    """Train a network at a test origin and forecast all nodes.

    Parameters
    ----------
    settings : Settings
    origin : Timestamp

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``origin`` and a column with the name of the network (parcels, in
        single precision).
    """
    train, future, _ = at_origin(*panel(SEED), origin)
    network = train_network(settings, train, future)
    values = with_analogues(train, future, network_forecasts(network, settings, train, future))
    return future[KEYS].assign(origin=origin, **{settings.network: values.astype("float32")})


def trial(number: int) -> dict[str, object]:
    """Try settings: train before the validation, forecast from its four origins.

    Parameters
    ----------
    number : int
        Of the trial in :data:`TRIALS`.

    Returns
    -------
    dict
        The settings; ``WAPE`` of the network's own forecasts by level, ``bottom_up`` of the sums of
        its routes by level, and ``mean``, that of the latter over the four levels, which chooses.
        One training serves the four origins: the network of the first one is shown the newer days.
    """
    settings = TRIALS[number]
    rows, hierarchy = panel(TRIAL_SEED)
    network, parts = None, []
    for origin in planning_origins(DAYS[-1], 4, skip=6):
        train, future, actual = at_origin(rows, hierarchy, origin)
        network = network or train_network(settings, train, future)
        values = network_forecasts(network, settings, train, future)
        made = future[["level", *KEYS]].assign(own=with_analogues(train, future, values))
        routes = made.loc[made["level"] == LEVELS[-1], [*KEYS, "own"]]
        sums = aggregate(routes.rename(columns={"own": "sum"}), hierarchy, ["sum"])
        parts.append(made.merge(sums, on=["level", *KEYS]).merge(actual, on=["level", *KEYS]))
    result = pd.concat(parts)
    by_level = {level: result[result["level"] == level] for level in LEVELS}
    own = {f"WAPE_{k}": wape(v["y"], v["own"]) for k, v in by_level.items()}
    sums = {f"bottom_up_{k}": wape(v["y"], v["sum"]) for k, v in by_level.items()}
    return {**asdict(settings), **own, **sums, "mean": float(np.mean(list(sums.values())))}


def forecasts() -> pd.DataFrame:
    """Train both networks at each test origin and forecast all nodes.

    Returns
    -------
    DataFrame
        ``unique_id``, ``ds``, ``origin``, ``tft``, ``nbeats`` (parcels a day), sorted by origin,
        node and day.
    """
    parts = []
    for origin in planning_origins(DAYS[-1]):
        both = [forecasts_at(settings, origin) for settings in CHOSEN.values()]
        parts.append(both[0].merge(both[1], on=[*KEYS, "origin"], validate="1:1"))
    return pd.concat(parts).sort_values(["origin", *KEYS], ignore_index=True)


def trials() -> pd.DataFrame:
    """Run all trials.

    Returns
    -------
    DataFrame
        A row for each of :data:`TRIALS`: see :func:`trial`, and ``seconds``.
    """
    rows = []
    for number in range(len(TRIALS)):
        start = time.perf_counter()
        rows.append({**trial(number), "seconds": round(time.perf_counter() - start)})
    return pd.DataFrame(rows)


def _panel_hash(seed: int) -> str:
    return frame_hash(panel(seed)[0])


ARTIFACTS = {
    "forecasts.parquet": Recipe(
        forecasts, {"panel": partial(_panel_hash, SEED)}, {"world": SEED, "network": NETWORK_SEED}
    ),
    "trials.csv": Recipe(
        trials,
        {"panel": partial(_panel_hash, TRIAL_SEED)},
        {"world": TRIAL_SEED, "network": NETWORK_SEED},
    ),
}
PACKAGES = ("holidays", "neuralforecast", "numpy", "pandas", "pytorch-lightning", "torch")


# The sample --------------------------------------------------------------------------

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


def draw(rng: np.random.Generator) -> tuple[str, int]:
    """Draw one of the twelve trainings of the forecasts, or one of the ten trials."""
    origins = range(len(planning_origins(DAYS[-1])))
    pool = [(name, k) for name in CHOSEN for k in origins]
    pool += [("trial", k) for k in range(len(TRIALS))]
    return pool[rng.integers(len(pool))]


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Train one network anew, at a random test origin or of a random trial.

    Parameters
    ----------
    stored : mapping of str to DataFrame
        The artifacts by file.
    rng : Generator
        See :func:`draw`.

    Returns
    -------
    what : str
        What was drawn, and how near it comes.
    differences : list of str
    """
    name, which = draw(rng)
    if name == "trial":
        what, row = f"trial {which + 1} ({TRIALS[which].network})", stored["trials.csv"].iloc[which]
        how, found = compare_trial(row, trial(which))
    else:
        origin = planning_origins(DAYS[-1])[which]
        what, frame = f"{name} from {origin:%Y-%m-%d}", stored["forecasts.parquet"]
        made = forecasts_at(CHOSEN[name], origin)
        how, found = compare_forecasts(frame[frame["origin"] == origin], made, name)
    return f"{what}: {how}", found
