"""What trains too long for a page: a causal forest as a list, a network over the weekly logins.

``make artifacts N=07`` makes the tables in an environment of its own. Both had six trials on the
choice worlds and meet the fresh worlds once, as all other models. The forest's list keeps the rules
of every list. The network is asked for the risk alone: it sees 24 weeks of logins and all features,
learns from whom LightGBM learns from and is scored on the same subscribers.
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
from casebook.recorded.artifacts import Recipe

Settings = Mapping[str, object]
FOREST_TRIALS: tuple[Settings, ...] = tuple(
    {"min_samples_leaf": leaf, "max_features": share}
    for leaf in (100, 300, 1_000)
    for share in (0.33, 1.0)
)
NETWORK_TRIALS: tuple[Settings, ...] = tuple(
    {"width": width, "epochs": epochs} for width in (16, 32) for epochs in (2, 4, 8)
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


def network_risk(here: studies.Setting, settings: Settings) -> np.ndarray:
    """Return the chance to cancel in the test month that the network gives each row."""
    own = here.sample.where(~here.sample.drawn)
    weeks = _sequences(here, own.features.index.to_numpy(), LOTTERY)
    predict = recurrent.fit(weeks, own.features, own.cancelled, recurrent.Settings(**settings))
    return predict(_sequences(here, here.features.index.to_numpy(), TEST), here.features)


def _precision(here: studies.Setting, risk: np.ndarray) -> float:
    """Return the average precision among those who may be called."""
    from sklearn.metrics import average_precision_score

    cancels = here.world.months[TEST].cancelled[here.features.index.to_numpy()]
    return float(average_precision_score(cancels[~here.blocked], risk[~here.blocked]))


def risk_trials(seeds: Sequence[int] = studies.CHOSEN_ON) -> pd.DataFrame:
    """Try six settings of both: ``model``, ``settings`` (JSON), ``seed``, average ``precision``."""
    rows = []
    for seed in seeds:
        here = studies.setting(seed)
        for name, grid in (("trees", studies.TRIALS[studies.RISK]), ("network", NETWORK_TRIALS)):
            for settings in grid:
                found = _precision(here, _risk(here, name, settings))
                rows.append((name, json.dumps(settings), seed, found))
    return pd.DataFrame(rows, columns=["model", "settings", "seed", "precision"])


def _risk(here: studies.Setting, name: str, settings: Settings) -> np.ndarray:
    if name == "network":
        return network_risk(here, settings)
    return effects.risk(here.sample, settings)(here.features)
