"""Models of risk and of what a call changes, each a few lines on LightGBM.

*Risk* learners predict who cancels without a call; the others predict the *effect*, by how much a
call lowers that chance. All of them take the features, the outcome, who was drawn and the known
chance of it, so that they can be compared on one set of rows.

References
----------
Künzel et al. (2019), *Metalearners for estimating heterogeneous treatment effects using machine
learning*, PNAS 116 (S, T, X); Kennedy (2023), *Towards optimal doubly robust estimation of
heterogeneous causal effects*, Electronic Journal of Statistics 17 (DR).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

#: LightGBM's settings that all learners share; the trials change leaves and rounds.
SETTINGS: dict[str, object] = {
    "n_estimators": 150,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 300,
    "subsample": 0.7,
    "subsample_freq": 1,
    "random_state": 0,
    "n_jobs": 1,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
#: From features to a score of each row.
Predict = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Sample:
    """Rows of the randomised month.

    Attributes
    ----------
    features : DataFrame
    cancelled, drawn : ndarray of bool, shape (n,)
    chance : ndarray, shape (n,)
        Of being drawn; missing outside of an experiment.
    account : ndarray of int, shape (n,)
        Folds keep an account together.
    """

    features: pd.DataFrame
    cancelled: np.ndarray
    drawn: np.ndarray
    chance: np.ndarray
    account: np.ndarray

    def where(self, rows: np.ndarray) -> Sample:
        """Return some of the rows."""
        rest = (getattr(self, name)[rows] for name in ("cancelled", "drawn", "chance", "account"))
        return Sample(
            self.features.iloc[rows] if rows.dtype != bool else self.features[rows], *rest
        )

    def folds(self, k: int = 2, salt: int = 0) -> np.ndarray:
        """Return the fold of each row; an account is in one fold. Nested folds take other salts."""
        drawn = np.random.default_rng(salt).permutation(int(self.account.max(initial=0)) + 1)
        return drawn[self.account] % k


def classifier(settings: Mapping[str, object] | None = None):
    """Return a LightGBM classifier with the shared settings."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**{**SETTINGS, **(settings or {})})


def regressor(settings: Mapping[str, object] | None = None):
    """Return a LightGBM regressor with the shared settings."""
    from lightgbm import LGBMRegressor

    return LGBMRegressor(**{**SETTINGS, **(settings or {})})


# Risk --------------------------------------------------------------------------------


def logistic(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit a logistic regression of the risk on the rows that were not drawn."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    stay = ~sample.drawn
    model = make_pipeline(
        SimpleImputer(add_indicator=True),
        QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=0),
        LogisticRegression(C=0.1, max_iter=300),
    )
    model.fit(sample.features[stay], sample.cancelled[stay])
    return lambda features: model.predict_proba(features)[:, 1]


def risk(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit LightGBM to the risk on the rows that were not drawn."""
    stay = ~sample.drawn
    model = classifier(settings).fit(sample.features[stay], sample.cancelled[stay])
    return lambda features: model.predict_proba(features)[:, 1]


# Effects -----------------------------------------------------------------------------


def s_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit one model that knows who was drawn, and ask it twice."""
    model = classifier(settings).fit(sample.features.assign(drawn=sample.drawn), sample.cancelled)

    def effect(features: pd.DataFrame) -> np.ndarray:
        ask = [model.predict_proba(features.assign(drawn=drawn))[:, 1] for drawn in (False, True)]
        return ask[0] - ask[1]

    return effect


def t_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit one model to those drawn and one to the others; the effect is their difference."""
    models = [
        classifier(settings).fit(sample.features[arm], sample.cancelled[arm])
        for arm in (~sample.drawn, sample.drawn)
    ]

    def effect(features: pd.DataFrame) -> np.ndarray:
        stay, called = (model.predict_proba(features)[:, 1] for model in models)
        return stay - called

    return effect


def x_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Impute each row's effect by the other arm's model, and learn both; the chance weighs them.

    Where few are drawn, the effect learned from the drawn rows counts most: it stands on the model
    of the many others.
    """
    x, y, drawn = sample.features, sample.cancelled.astype(float), sample.drawn
    stay, called = (risk_of(sample, arm, settings) for arm in (~drawn, drawn))
    of_drawn = regressor(settings).fit(x[drawn], stay(x[drawn]) - y[drawn])
    of_others = regressor(settings).fit(x[~drawn], y[~drawn] - called(x[~drawn]))
    share = drawn.mean()

    def effect(features: pd.DataFrame) -> np.ndarray:
        return (1 - share) * of_drawn.predict(features) + share * of_others.predict(features)

    return effect


def risk_of(sample: Sample, arm: np.ndarray, settings: Mapping[str, object] | None) -> Predict:
    """Fit the chance to cancel within one arm."""
    model = classifier(settings).fit(sample.features[arm], sample.cancelled[arm])
    return lambda features: model.predict_proba(features)[:, 1]


def dr_scores(
    sample: Sample, settings: Mapping[str, object] | None = None, folds: int = 2
) -> np.ndarray:
    """Return each row's doubly robust score: its mean over any group is the group's effect.

    Two models of the outcome, fitted on the other folds, say what is expected; what happened
    corrects them, divided by its chance.
    """
    fold, scores = sample.folds(folds, salt=1), np.empty(len(sample.drawn))
    for k in range(folds):
        here = fold == k
        rest = sample.where(~here)
        x = sample.features[here]
        stay, called = (risk_of(rest, arm, settings)(x) for arm in (~rest.drawn, rest.drawn))
        y, drawn, chance = sample.cancelled[here], sample.drawn[here], sample.chance[here]
        off = np.where(drawn, -(y - called) / chance, (y - stay) / (1 - chance))
        scores[here] = stay - called + off
    return scores


def dr_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Regress the doubly robust scores on the features."""
    model = regressor(settings).fit(sample.features, dr_scores(sample, settings))
    return model.predict


def forest(
    sample: Sample, settings: Mapping[str, object] | None = None, rows: int = 60_000
) -> Predict:
    """Fit a causal forest of econml to what the expected outcome and chance leave over.

    References
    ----------
    Athey, Tibshirani & Wager (2019), *Generalized random forests*, Annals of Statistics 47.
    """
    from econml.grf import CausalForest

    use = np.random.default_rng(0).permutation(len(sample.drawn))[:rows]
    sample = sample.where(use)
    expected = np.empty(len(use))
    for k in range(2):
        here = sample.folds() == k
        rest = sample.where(~here)
        model = classifier(settings).fit(rest.features, rest.cancelled)
        expected[here] = model.predict_proba(sample.features[here])[:, 1]
    model = CausalForest(
        n_estimators=100, min_samples_leaf=100, max_samples=0.3, random_state=0, n_jobs=1,
        inference=False, subforest_size=1,
    )  # fmt: skip
    left = (sample.cancelled - expected)[:, None]
    drawn = (sample.drawn - sample.chance)[:, None]
    model.fit(sample.features.fillna(-1).to_numpy(), drawn, left)
    return lambda features: -model.predict(features.fillna(-1).to_numpy())[:, 0]


RISKS = {"logistic": logistic, "risk": risk}
EFFECTS = {"S": s_learner, "T": t_learner, "X": x_learner, "DR": dr_learner}
