"""A causal forest for a trial whose chances differ: the last stage of econml's CausalForestDML.

It needs econml, which has an environment of its own (``requirements-artifacts.txt``); a small
forest to read, for trials with one chance for all, is in :mod:`casebook.evaluate.heterogeneity`.

Examples
--------
What is missing becomes a value of its own, below all others:

>>> filled(pd.DataFrame({"score": [7.0, np.nan, 3.0]})).ravel().tolist()
[7.0, 2.0, 3.0]

References
----------
Athey, Tibshirani & Wager (2019), *Generalized random forests*, Annals of Statistics 47.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from casebook.evaluate.effects import Predict, Sample, residuals

#: What all trials share: trees, the share of the rows that each sees (half of it for its leaves).
SETTINGS: Mapping[str, object] = {
    "n_estimators": 100,
    "max_samples": 0.2,
    "inference": False,
    "random_state": 0,
    "n_jobs": 1,
}


def filled(features: pd.DataFrame, least: pd.Series | None = None) -> np.ndarray:
    """Return features in which a missing value is one less than the least, shape (n, columns)."""
    least = features.min() if least is None else least
    return features.fillna(least - 1).to_numpy(float)


def causal_forest(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Grow a forest whose leaves differ in the effect; each leaf is filled by rows that it hid.

    As :func:`casebook.evaluate.effects.r_learner` it starts from what expectation leaves over of
    the outcome, and from whether somebody was drawn less the known chance of it. Every row has a
    weight by how often it shares a leaf with the row that is asked for; in these neighbours the one
    is regressed on the other.

    Parameters
    ----------
    sample : Sample
    settings : mapping, optional
        Of ``econml.grf.CausalForest``, beside :data:`SETTINGS`.

    Raises
    ------
    ModuleNotFoundError
        Where econml is not installed.
    """
    from econml.grf import CausalForest

    target, _ = residuals(sample)
    drawn = sample.drawn - sample.chance
    least = sample.features.min()
    forest = CausalForest(**{**SETTINGS, **(settings or {})})
    forest.fit(filled(sample.features, least), drawn[:, None], (target * drawn)[:, None])
    return lambda features: forest.predict(filled(features, least))[:, 0]
