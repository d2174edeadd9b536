"""What trains too long for a page: a causal forest as a list, a network over the weekly logins.

Both had six trials on choice worlds and meet the fresh worlds once. The forest's list keeps the
rules of every list. The network is asked for the risk alone: it sees 24 weeks of logins beside all
features, and learns from and is scored on LightGBM's rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import studies
from casebook.cases.subscription_churn.features import weeks_by
from casebook.cases.subscription_churn.month import LOTTERY, TEST, night_of
from casebook.cases.subscription_churn.policy import gain
from casebook.evaluate import effects
from casebook.evaluate.forests import causal_forest
from casebook.forecasting import recurrent
from casebook.recorded.artifacts import Recipe, compared

Settings = Mapping[str, object]
FOREST_TRIALS: tuple[Settings, ...] = tuple(
    {"min_samples_leaf": leaf, "max_features": share}
    for leaf in (100, 300, 1_000)
    for share in (0.33, 1.0)
)
NETWORK_TRIALS: tuple[Settings, ...] = tuple(
    {"epochs": epochs, "learning_rate": rate} for epochs in (3, 6) for rate in (1e-3, 3e-3, 1e-2)
)
#: Weeks that the network reads.
WEEKS = 24


def _list_of(seed: int, settings: Settings) -> dict[str, float]:
    """Return what the forest's list brings in a world."""
    here = studies.setting(seed)
    effect = causal_forest(here.sample, settings)(here.features)
    return studies.outcome(here, gain(effect, here.value))


def forest_trials(seeds: Sequence[int] = studies.CHOSEN_ON) -> pd.DataFrame:
    """Try the forest's settings: ``settings`` (JSON), ``seed``, ``euro``, ``sensible``."""
    rows = []
    for seed in seeds:
        for settings in FOREST_TRIALS:
            found = _list_of(seed, settings)
            row = {"settings": json.dumps(settings), "seed": seed}
            rows.append(row | {name: found[name] for name in ("euro", "sensible")})
    return pd.DataFrame(rows)


def _sequences(here: studies.Setting, rows: np.ndarray, month: int) -> np.ndarray:
    """Return the last weeks of logins before a month, shape (rows, weeks)."""
    last = weeks_by(here.world.tables, night_of(month))
    return here.world.tables.logins[rows, last - WEEKS : last]


def _risk(here: studies.Setting, name: str, settings: Settings) -> np.ndarray:
    """Return the chance to cancel in the test month by the network, or by LightGBM (trees)."""
    if name == "trees":
        return effects.risk(here.sample, settings)(here.features)
    own = here.sample.where(~here.sample.drawn)
    weeks = _sequences(here, own.features.index.to_numpy(), LOTTERY)
    predict = recurrent.fit(weeks, own.features, own.cancelled, recurrent.Settings(**settings))
    return predict(_sequences(here, here.features.index.to_numpy(), TEST), here.features)


def _precision(here: studies.Setting, risk: np.ndarray) -> float:
    """Return the average precision among those who may be called."""
    from sklearn.metrics import average_precision_score

    cancels = here.world.months[TEST].cancelled[here.features.index.to_numpy()]
    return float(average_precision_score(cancels[~here.blocked], risk[~here.blocked]))


def risk_trials(seeds: Sequence[int] = studies.VALUED) -> pd.DataFrame:
    """Try both risks: ``learner``, ``settings`` (JSON), ``seed``, average ``precision``."""
    rows = []
    for seed in seeds:
        here = studies.setting(seed)
        for name, grid in (("trees", studies.TRIALS[studies.RISK]), ("network", NETWORK_TRIALS)):
            for settings in grid:
                found = _precision(here, _risk(here, name, settings))
                rows.append((name, json.dumps(settings), seed, found))
    return pd.DataFrame(rows, columns=["learner", "settings", "seed", "precision"])


#: The best of the trials, by the truth of the choice worlds.
CHOSEN: Mapping[str, Settings] = {
    "forest": FOREST_TRIALS[3],
    "trees": {"n_estimators": 160, "num_leaves": 6},
    "network": NETWORK_TRIALS[5],
}


def forest(seeds: Sequence[int] = studies.SEEDS) -> pd.DataFrame:
    """Run the forest's list in the fresh worlds: ``seed`` and as of :func:`.studies.outcome`."""
    return pd.DataFrame([{"seed": seed, **_list_of(seed, CHOSEN["forest"])} for seed in seeds])


def risk(seeds: Sequence[int] = studies.SEEDS[:5]) -> pd.DataFrame:
    """Score both risks in fresh worlds.

    Returns
    -------
    DataFrame
        ``seed``; average precision of ``trees``, ``network`` and ``both`` (the mean of their
        log-odds); ``share`` that cancels, which is what chance reaches.
    """
    rows = []
    for seed in seeds:
        here = studies.setting(seed)
        made = {name: _risk(here, name, CHOSEN[name]) for name in ("trees", "network")}
        odds = [np.log(p / (1 - p)) for p in made.values()]
        found = {name: _precision(here, p) for name, p in (made | {"both": sum(odds)}).items()}
        cancels = here.world.months[TEST].cancelled[here.features.index.to_numpy()]
        rows.append({"seed": seed, **found, "share": cancels[~here.blocked].mean()})
    return pd.DataFrame(rows)


ARTIFACTS = {
    f"{build.__name__}.csv": Recipe(build, seeds={"world": worlds[0], "model": 0})
    for worlds, builds in (
        (studies.CHOSEN_ON, (forest_trials,)),
        (studies.VALUED, (risk_trials,)),
        (studies.SEEDS, (forest, risk)),
    )
    for build in builds
}
PACKAGES = ("econml", "lightgbm", "numpy", "pandas", "scikit-learn", "torch")


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Make a random world's row of a random table anew; as of :class:`.artifacts.Builder`."""
    make = (forest, risk)[rng.integers(2)]
    frame = stored[f"{make.__name__}.csv"].set_index("seed")
    seed = int(rng.choice(frame.index))
    return compared(f"{make.__name__}, world {seed}", frame.loc[seed], make([seed]).iloc[0])
