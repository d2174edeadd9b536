"""When to answer: how well a confidence tells right from wrong, and what a threshold on it costs.

Examples
--------
>>> import numpy as np, pandas as pd
>>> sure, labels = np.array([0.9, 0.6, 0.2]), pd.Series(["right", "right", "wrong"])
>>> price = pd.Series({"right": 0.0, "wrong": 9.0, "person": 4.0})
>>> curve = cost_curve(sure, labels, price, instead="person", right=["right"])
>>> float(curve.loc[curve["cost_eur"].idxmin(), "threshold"])
0.22
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import cluster_counts

#: Thresholds that are tried; above the last one nothing is answered.
THRESHOLDS = (*np.round(np.arange(0, 1.0, 0.02), 2), 1.01)


def auroc(
    score: np.ndarray,
    positive: np.ndarray,
    clusters: Sequence | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the area under the ROC curve and its 95 % bootstrap interval.

    Parameters
    ----------
    score : ndarray
    positive : ndarray of bool
    clusters : sequence, optional
        What is resampled: topics; by default each case for itself.
    draws, seed : int
    """
    from sklearn.metrics import roc_auc_score

    units = np.arange(len(score)) if clusters is None else clusters
    values = []
    for counts in cluster_counts(units, draws, seed):
        rows = np.repeat(np.arange(len(score)), counts)
        if positive[rows].any() and not positive[rows].all():
            values.append(roc_auc_score(positive[rows], score[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(roc_auc_score(positive, score)), float(low), float(high)


def risk_coverage(sure: np.ndarray, good: np.ndarray) -> pd.DataFrame:
    """Return the share of wrong answers among the surest, by how many are answered.

    Parameters
    ----------
    sure : ndarray
    good : ndarray of bool

    Returns
    -------
    DataFrame
        ``coverage``, ``risk``, ``threshold``; one row for each number of answers.
    """
    order = np.argsort(-sure, kind="stable")
    n = np.arange(1, len(order) + 1)
    return pd.DataFrame(
        {
            "coverage": n / len(n),
            "risk": 1 - np.cumsum(good[order]) / n,
            "threshold": sure[order],
        }
    )


def cost_curve(
    sure: np.ndarray,
    labels: pd.Series,
    costs: pd.Series,
    instead: str | Sequence[str],
    right: Collection[str],
    weights: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return what a threshold on the confidence costs.

    Parameters
    ----------
    sure : ndarray
        Confidence of each question's answer.
    labels : Series of str
        Kinds of answer.
    costs : Series
        Euro by kind of answer.
    instead : str or sequence of str
        Kind of what is done where nothing is answered: the same for all questions (a person), or
        one for each (what titles would do).
    right : collection of str
        Kinds of answer that are right.
    weights : ndarray, optional
        Of the questions.

    Returns
    -------
    DataFrame
        ``threshold``, ``cost_eur`` (mean), ``coverage``, ``right`` (share of those answered).
    """
    weights = np.ones(len(sure)) if weights is None else weights
    answered, good = labels.map(costs).to_numpy(), labels.isin(right).to_numpy()
    kinds = [instead] * len(sure) if isinstance(instead, str) else list(instead)
    abstained = pd.Series(kinds).map(costs).to_numpy()
    rows = []
    for threshold in THRESHOLDS:
        given = sure >= threshold
        cost = np.average(np.where(given, answered, abstained), weights=weights)
        share = np.average(given, weights=weights)
        found = np.average(good[given], weights=weights[given]) if given.any() else np.nan
        rows.append((threshold, cost, share, found))
    return pd.DataFrame(rows, columns=["threshold", "cost_eur", "coverage", "right"])


# A probability from evidence -----------------------------------------------------------


def probability(evidence: Mapping[str, float], model: Mapping[str, Mapping[str, float]]) -> float:
    """Return what a logistic model makes of the evidence.

    Parameters
    ----------
    evidence : mapping of str to float
    model : mapping
        ``mean``, ``sd`` and ``weight`` by feature, ``intercept`` under ``weight``; see
        :func:`fit_head`.
    """
    z = model["weight"]["intercept"] + sum(
        model["weight"][name] * (evidence[name] - mean) / model["sd"][name]
        for name, mean in model["mean"].items()
    )
    return float(1 / (1 + np.exp(-z)))


def fit_head(
    evidence: pd.DataFrame, positive: np.ndarray, groups: Sequence[str], strength: float = 0.1
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Learn a probability from evidence.

    Parameters
    ----------
    evidence : DataFrame
        A column for each feature, and no other.
    positive : ndarray of bool
    groups : sequence of str
        Of topics; none stands on both sides of a fold.
    strength : float
        Inverse of the regularisation (C).

    Returns
    -------
    model : dict
        See :func:`probability`.
    crossed : ndarray
        Probability of each row by a model that has not seen its group.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    x = evidence.to_numpy(float)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    sd = np.where(sd < 1e-9, 1.0, sd)  # what is the same everywhere says nothing
    z = (x - mean) / sd
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    crossed = np.zeros(len(z))
    for train, test in folds.split(z, positive, list(groups)):
        regression = LogisticRegression(C=strength, max_iter=2000).fit(z[train], positive[train])
        crossed[test] = regression.predict_proba(z[test])[:, 1]
    regression = LogisticRegression(C=strength, max_iter=2000).fit(z, positive)

    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip(evidence.columns, values.round(5).tolist(), strict=True))

    weight = named(regression.coef_[0]) | {"intercept": round(float(regression.intercept_[0]), 5)}
    return {"mean": named(mean), "sd": named(sd), "weight": weight}, crossed
