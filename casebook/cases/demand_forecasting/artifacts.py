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
(:func:`~casebook.forecasting.cold_start.analogue`). Forecasts below zero are cut.

References
----------
Lim, Arık, Loeff & Pfister (2021), *Temporal Fusion Transformers for interpretable multi-horizon
time series forecasting*, International Journal of Forecasting 37.
Oreshkin, Carpov, Chapados & Bengio (2020), *N-BEATS: Neural basis expansion analysis for
interpretable time series forecasting*, ICLR.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache, partial

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import DAYS, SEED, simulate
from casebook.evaluate.metrics import wape
from casebook.forecasting.cold_start import analogue
from casebook.forecasting.hierarchy import Hierarchy, aggregate, from_ids
from casebook.forecasting.networks import (
    KEYS,
    LEVELS,
    NETWORK_SEED,
    Settings,
    compare_forecasts,
    compare_trial,
    network_forecasts,
    train_network,
)
from casebook.forecasting.walk import at_origin, planning_origins
from casebook.recorded.artifacts import Recipe, frame_hash

#: World of the trials; its test days are never looked at.
TRIAL_SEED = 101
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


def with_analogues(train: pd.DataFrame, future: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Let the analogues answer for the routes that have no forecast.

    Parameters
    ----------
    train, future : DataFrame
        See :func:`~casebook.forecasting.walk.at_origin`.
    values : ndarray, shape (len(future),)
        NaN for routes that are too new.

    Returns
    -------
    ndarray, shape (len(future),)
    """
    bottom, values = (future["level"] == LEVELS[-1]).to_numpy(), np.array(values, float)
    values[bottom] = analogue(train[train["level"] == LEVELS[-1]], future[bottom], values[bottom])
    return values


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
