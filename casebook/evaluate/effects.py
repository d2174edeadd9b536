"""Models of a risk and of what an action changes, each a few lines on LightGBM.

*Risk* learners predict who is lost without the action; the others predict the *effect*, by how much
it lowers that chance. All of them take the features, the outcome, who was drawn and the known
chance of it, so that they can be compared on one set of rows. The names are those of a company that
calls subscribers before they cancel.

Examples
--------
Chance calls every second subscriber; a call saves those who have tickets, and nobody else:

>>> rng = np.random.default_rng(0)
>>> x = pd.DataFrame({"tickets": rng.integers(2, size=4_000)})
>>> drawn = rng.random(4_000) < 0.5
>>> lost = rng.random(4_000) < 0.3 - 0.2 * drawn * x["tickets"]
>>> trial = Sample(x, lost.to_numpy(), drawn, np.full(4_000, 0.5), np.arange(4_000))
>>> effect = t_learner(trial)(pd.DataFrame({"tickets": [0, 1]}))
>>> (effect.round(1) + 0.0).tolist()
[0.0, 0.2]

References
----------
Künzel et al. (2019), *Metalearners for estimating heterogeneous treatment effects using machine
learning*, PNAS 116 (S, T, X); Kennedy (2023), *Towards optimal doubly robust estimation of
heterogeneous causal effects*, Electronic Journal of Statistics 17 (DR); Nie & Wager (2021),
*Quasi-oracle estimation of heterogeneous treatment effects*, Biometrika 108 (R).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

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
#: Settings of the models of what is expected, in DR and R.
OUTCOME = {"n_estimators": 80, "num_leaves": 6}
#: From features to a score of each row.
Predict = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a trial.

    Attributes
    ----------
    features : DataFrame
    cancelled, drawn : ndarray of bool, shape (n,)
        The loss that the action shall prevent; whether chance chose it.
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

    @property
    def weight(self) -> np.ndarray:
        """One over the chance of what happened: so weighted, the arms are alike."""
        made = 1 / np.where(self.drawn, self.chance, 1 - self.chance)
        for arm in (self.drawn, ~self.drawn):
            made[arm] /= made[arm].mean() if arm.any() else 1.0
        return made

    def folds(self, k: int = 2, salt: int = 0) -> np.ndarray:
        """Return the fold of each row; an account is in one fold. Nested folds take other salts."""
        drawn = np.random.default_rng(salt).permutation(int(self.account.max(initial=0)) + 1)
        return drawn[self.account] % k


def by_chance(sample: Sample) -> Sample:
    """Return the rows for which both was possible."""
    return sample.where((sample.chance > 0) & (sample.chance < 1))


def joined(samples: Sequence[Sample]) -> Sample:
    """Return several trials as one."""
    rest = ("cancelled", "drawn", "chance", "account")
    parts = {name: np.concatenate([getattr(s, name) for s in samples]) for name in rest}
    return Sample(pd.concat([s.features for s in samples]), **parts)


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
        LogisticRegression(**{"C": 0.1, "max_iter": 300, **(settings or {})}),
    )
    model.fit(sample.features[stay], sample.cancelled[stay])
    return lambda features: model.predict_proba(features)[:, 1]


def risk(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit LightGBM to the risk on the rows that were not drawn."""
    stay = ~sample.drawn
    model = classifier(settings).fit(sample.features[stay], sample.cancelled[stay])
    return lambda features: model.predict_proba(features)[:, 1]


# Effects -----------------------------------------------------------------------------


def _weights(sample: Sample, settings: Mapping[str, object] | None) -> tuple[np.ndarray, dict]:
    """Return the rows' weights (all 1 unless ``weighted`` is set) and the rest of the settings."""
    rest = dict(settings or {})
    return sample.weight if rest.pop("weighted", False) else np.ones(len(sample.drawn)), rest


def s_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit one model that knows who was drawn, and ask it twice."""
    weight, settings = _weights(sample, settings)
    x = sample.features.assign(drawn=sample.drawn)
    model = classifier(settings).fit(x, sample.cancelled, weight)

    def effect(features: pd.DataFrame) -> np.ndarray:
        ask = [model.predict_proba(features.assign(drawn=drawn))[:, 1] for drawn in (False, True)]
        return ask[0] - ask[1]

    return effect


def _of_arms(sample: Sample, settings: Mapping[str, object] | None) -> list[Predict]:
    """Fit the chance to cancel of those not drawn, and of those drawn."""
    weight, settings = _weights(sample, settings)
    models = [
        classifier(settings).fit(sample.features[arm], sample.cancelled[arm], weight[arm])
        for arm in (~sample.drawn, sample.drawn)
    ]
    return [lambda features, m=model: m.predict_proba(features)[:, 1] for model in models]


def t_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Fit one model to those drawn and one to the others; the effect is their difference."""
    stay, called = _of_arms(sample, settings)
    return lambda features: stay(features) - called(features)


def x_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Impute each row's effect by the other arm's model, and learn both; the share weighs them.

    Where few are drawn, the effect learned from the drawn rows counts most: it stands on the model
    of the many others.
    """
    x, y, drawn = sample.features, sample.cancelled.astype(float), sample.drawn
    stay, called = _of_arms(sample, settings)
    w, settings = _weights(sample, settings)
    of_drawn = regressor(settings).fit(x[drawn], stay(x[drawn]) - y[drawn], w[drawn])
    of_others = regressor(settings).fit(x[~drawn], y[~drawn] - called(x[~drawn]), w[~drawn])
    share = drawn.mean()

    def effect(features: pd.DataFrame) -> np.ndarray:
        return (1 - share) * of_drawn.predict(features) + share * of_others.predict(features)

    return effect


def expected(sample: Sample, arms: Sequence[np.ndarray], salt: int = 1) -> list[np.ndarray]:
    """Return what is expected of each row by models of the other accounts, one for each arm.

    The models know the chance too: it holds what the team saw. They meet no row that they judge.
    """
    x, made = sample.features.assign(chance=sample.chance), []
    fold = sample.folds(2, salt)
    for arm in arms:
        own = np.empty(len(fold))
        for k in range(2):
            fit = arm & (fold != k)
            model = classifier(OUTCOME).fit(x[fit], sample.cancelled[fit])
            own[fold == k] = model.predict_proba(x[fold == k])[:, 1]
        made.append(own)
    return made


@lru_cache(maxsize=4)
def dr_scores(sample: Sample) -> np.ndarray:
    """Return each row's doubly robust score: its mean over any group is the group's effect.

    Two models say what is expected; what happened corrects them, divided by its chance.
    """
    stay, called = expected(sample, (~sample.drawn, sample.drawn))
    y, drawn, chance = sample.cancelled, sample.drawn, sample.chance
    off = np.where(drawn, -(y - called) / chance, (y - stay) / (1 - chance))
    return stay - called + off


def dr_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Regress the doubly robust scores on the features."""
    model = regressor(settings).fit(sample.features, dr_scores(sample))
    return model.predict


@lru_cache(maxsize=4)
def residuals(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's effect by what expectation leaves over, and its weight.

    What happened less what was expected, over whether drawn less the chance of it. Rows with a
    chance near one half say most about an effect, and weigh most.
    """
    (mean,) = expected(sample, (np.ones(len(sample.drawn), bool),))
    off = sample.drawn - sample.chance
    return (mean - sample.cancelled) / off, off**2


def r_learner(sample: Sample, settings: Mapping[str, object] | None = None) -> Predict:
    """Regress the residuals on the features, by their weights."""
    target, weight = residuals(sample)
    return regressor(settings).fit(sample.features, target, weight).predict


class Factor(NamedTuple):
    """A factor with its standard error over accounts."""

    value: float
    error: float

    @property
    def relative(self) -> float:
        """The error as a share of the factor."""
        return self.error / max(abs(self.value), 1e-9)


def slope(found: np.ndarray, sample: Sample) -> Factor:
    """Return by which factor predicted effects are to be multiplied to be right on the mean.

    The highest predictions are high by luck, too: what a model of other accounts has found is
    regressed on the residuals of these. One trial says it with an error.
    """
    target, weight = residuals(sample)
    size = (weight * found**2).sum()
    value = (weight * found * target).sum() / size
    off = np.bincount(sample.account, weight * found * (target - value * found))
    return Factor(float(value), float(np.sqrt((off**2).sum()) / size))


def group_effects(
    group: np.ndarray, cancelled: np.ndarray, drawn: np.ndarray, chance: np.ndarray
) -> pd.DataFrame:
    """Return what a call changed in each group of a trial.

    Parameters
    ----------
    group : ndarray of str, shape (n,)
    cancelled, drawn : ndarray of bool, shape (n,)
        Whether chance had chosen them.
    chance : ndarray, shape (n,)
        Of being chosen: each counts by one over the chance of what happened.

    Returns
    -------
    DataFrame
        Index group; ``n``, ``drawn``, ``stay`` and ``called`` (share that cancelled, without and
        with a call), ``effect`` (their difference) and ``se``.
    """
    frame = pd.DataFrame({"group": group, "y": cancelled.astype(float), "drawn": drawn})
    frame["w"] = np.where(drawn, 1 / chance, 1 / (1 - chance))
    frame["wy"] = frame["w"] * frame["y"]
    sums = frame.groupby(["group", "drawn"])[["w", "wy"]].sum()
    rate = (sums["wy"] / sums["w"]).unstack()
    mean = rate.stack().reindex(pd.MultiIndex.from_frame(frame[["group", "drawn"]])).to_numpy()
    frame["square"] = (frame["w"] * (frame["y"] - mean)) ** 2
    squares = frame.groupby(["group", "drawn"])["square"].sum()
    variance = (squares / sums["w"] ** 2).unstack().sum(axis=1)
    return pd.DataFrame(
        {
            "n": frame.groupby("group").size(),
            "drawn": frame.groupby("group")["drawn"].sum(),
            "stay": rate[False],
            "called": rate[True],
            "effect": rate[False] - rate[True],
            "se": np.sqrt(variance),
        }
    )


RISKS = {"logistic": logistic, "risk": risk}
EFFECTS = {
    "S": s_learner,
    "T": t_learner,
    "X": x_learner,
    "DR": dr_learner,
    "R": r_learner,
}
