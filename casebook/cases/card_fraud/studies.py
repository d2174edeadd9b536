"""What is measured on public data: families on the Handbook's weeks, resampling.

Each function returns a tidy frame and is called twice: reduced while a reader waits, in full for
the record. What is tuned is tuned on weeks before all test weeks, and the test is seen once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import models
from casebook.cases.card_fraud.models import FAMILIES, Family, Fold, Model, Params
from casebook.evaluate.intervals import mean_interval
from casebook.evaluate.prequential import Week, known_cards_split, weeks
from casebook.evaluate.rare import (
    average_precision,
    recall_at_fpr,
    scores,
    skill,
)

#: Ten days are left to fill the windows of terminals, which begin seven days late.
HANDBOOK_FROM, HANDBOOK_TO = "2018-06-20", "2018-08-15"
#: Test weeks, the last of which is the one that the Handbook's chapter 3 publishes.
HANDBOOK_TESTS = 4
#: Settings of XGBoost that the Handbook names (chapter 5, model selection, average precision): the
#: one that validation chose there, and the one that turned out best on test. Both with the start
#: that its version of XGBoost had.
PUBLISHED: dict[str, Params] = {
    "XGBoost, the Handbook's choice": models.FAMILIES["XGBoost"].trials[3],
    "XGBoost, best on its test": models.FAMILIES["XGBoost"].trials[0],
}
# The Handbook -------------------------------------------------------------------------


def handbook_weeks(tests: int = HANDBOOK_TESTS) -> tuple[list[Week], list[Week]]:
    """Return the weeks of the Handbook's data that tune, and those that test.

    Parameters
    ----------
    tests : int
        Test weeks, the last of all; the weeks before them are for tuning.

    Returns
    -------
    validation, test : list of Week

    Raises
    ------
    ValueError
        When no week is left to tune on.
    """
    found = weeks(HANDBOOK_FROM, HANDBOOK_TO)
    if not 1 <= tests < len(found):
        raise ValueError(f"{tests} test weeks of {len(found)}: one or more must be left to tune on")
    return found[:-tests], found[-tests:]


def _handbook_features(frame: pd.DataFrame, features: pd.DataFrame | None) -> pd.DataFrame:
    if features is None:
        from casebook.features.card_payments import handbook

        features = handbook(frame)
    if len(features) != len(frame):
        raise ValueError(f"{len(features)} rows of features for {len(frame)} transactions")
    if not np.array_equal(features.index, frame["transaction"]):
        raise ValueError("the features are of other transactions than the frame, or in other order")
    return features.reset_index(drop=True)


def handbook_folds(
    frame: pd.DataFrame, chosen: Sequence[Week], features: pd.DataFrame | None = None
) -> list[Fold]:
    """Return what each week trains and judges by.

    Parameters
    ----------
    frame : DataFrame
        ``casebook.data.tables.fraud_handbook``.
    chosen : sequence of Week
    features : DataFrame, optional
        Index ``transaction``, in the order of the frame; the Handbook's 15 by default.

    Returns
    -------
    list of Fold
        The index of ``X_train`` and ``X_validation`` is the position in the frame.

    Raises
    ------
    ValueError
        When the features are not those of the frame's rows, in their order.
    """
    X = _handbook_features(frame, features)
    y = frame["is_fraud"].to_numpy()
    splits = [known_cards_split(frame, week) for week in chosen]
    return [Fold(X[train], y[train], X[test], y[test]) for train, test in splits]


def _handbook_test(frame: pd.DataFrame, fold: Fold, score: np.ndarray) -> pd.DataFrame:
    """Return the test rows as the metrics want them: a customer has one card here."""
    rows = frame.iloc[fold.X_validation.index]
    rows = rows[["time", "customer", "amount", "scenario"]].rename(columns={"customer": "card"})
    return rows.assign(y=fold.y_validation, score=score)


def handbook_tuning(
    frame: pd.DataFrame,
    validation: Sequence[Week],
    families: Sequence[str] = tuple(FAMILIES),
    trials: int | None = None,
    *,
    features: pd.DataFrame | None = None,
    seed: int = 0,
) -> tuple[dict[str, Params], pd.DataFrame]:
    """Tune families on weeks of the Handbook's data.

    Parameters
    ----------
    frame, features
        As in :func:`handbook_folds`.
    validation : sequence of Week
        Before all test weeks.
    families : sequence of str
        Names in ``FAMILIES``.
    trials : int, optional
        Settings for each family; all listed ones by default.
    seed : int

    Returns
    -------
    params : dict
        Best setting by name of the family.
    table : DataFrame
        See :func:`casebook.cases.card_fraud.models.tune_over`.
    """
    folds = handbook_folds(frame, validation, features)
    params, tables = {}, []
    for name in families:
        params[name], table = models.tune_over(_family(name), folds, trials, seed)
        tables.append(table)
    return params, pd.concat(tables, ignore_index=True)


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"no family {name!r}: there are {list(FAMILIES)}")
    return FAMILIES[name]


def handbook_study(
    frame: pd.DataFrame,
    test: Sequence[Week],
    families: Sequence[str] = tuple(FAMILIES),
    params: Mapping[str, Params] | None = None,
    *,
    features: pd.DataFrame | None = None,
    k: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit families on weeks of the Handbook's data and judge them by its protocol.

    Parameters
    ----------
    frame, features
        As in :func:`handbook_folds`.
    test : sequence of Week
    families : sequence of str
        Names in ``FAMILIES``; those of ``PUBLISHED`` have a setting of the Handbook.
    params : mapping, optional
        What tuning chose, by family: ``handbook_tuning(...)[0]``. A family without has its first
        setting.
    k : int
        Cards a day.
    seed : int

    Returns
    -------
    DataFrame
        ``week``, ``family``, ``AP``, ``card precision``, ``recall`` (at 1 % FPR), ``brier skill``
        and ``log skill`` (of the repaired probability; empty where there is none), ``cost``
        (empty), ``seconds`` (of the fit), ``frauds`` and ``rows`` of the test. The family
        ``truth`` is a perfect score: how far card precision can go.
    """
    rows = []
    for week, fold in zip(test, handbook_folds(frame, test, features), strict=True):
        for name in families:
            family = FAMILIES["XGBoost"] if name in PUBLISHED else _family(name)
            setting = PUBLISHED.get(name) or (params or {}).get(name)
            model, seconds = _timed(family, fold.X_train, fold.y_train, setting, seed)
            found = _handbook_test(frame, fold, model.repaired(fold.X_validation))
            prevalence = fold.y_train.mean() if family.probability else None
            judged = scores(found, prevalence=prevalence, k=k)
            rows.append({"week": week.name, "family": name, **judged, "seconds": seconds})
        perfect = scores(_handbook_test(frame, fold, fold.y_validation.astype(float)), k=k)
        rows.append({"week": week.name, "family": "truth", **perfect, "seconds": 0.0})
        for row in rows[-len(families) - 1 :]:
            row |= {"frauds": int(fold.y_validation.sum()), "rows": len(fold.y_validation)}
    return pd.DataFrame(rows)


def _timed(
    family: Family, X: pd.DataFrame, y: np.ndarray, params: Params | None, seed: int
) -> tuple[Model, float]:
    begun = time.perf_counter()
    model = family.fit(X, y, params, seed)
    return model, time.perf_counter() - begun


def against(table: pd.DataFrame, peer: str = "XGBoost", metric: str = "AP") -> pd.DataFrame:
    """Compare families with a peer, paired by week.

    Parameters
    ----------
    table : DataFrame
        ``week``, ``family`` and the metric: :func:`handbook_study`.
    peer : str
        Family to compare with.
    metric : str

    Returns
    -------
    DataFrame
        Index family: ``mean``, ``difference``, ``low``, ``high`` (95 % t-interval over weeks:
        four adjacent weeks have three degrees of freedom), ``weeks``.

    Raises
    ------
    ValueError
        When the peer is not in the table or a week is missing.
    """
    wide = table.pivot(index="week", columns="family", values=metric)
    if peer not in wide:
        raise ValueError(f"no family {peer!r} in the table: {sorted(wide)}")
    rows = {
        name: (wide[name].mean(), *mean_interval(wide[name] - wide[peer]), len(wide))
        for name in wide
        if name != peer
    }
    columns = ["mean", "difference", "low", "high", "weeks"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("family")


# Imbalance ----------------------------------------------------------------------------

#: What each way of dealing with rare fraud adds to one and the same setting of LightGBM.
WAYS: dict[str, tuple[str, dict]] = {
    "plain": ("LightGBM", {}),
    "weights 10": ("LightGBM weighted", {"fraud_weight": 10}),
    "weights balanced": ("LightGBM weighted", {"fraud_weight": "balanced"}),
    "SMOTE 1:10": ("LightGBM SMOTE", {"frauds_per_genuine": 0.1, "neighbours": 5}),
    "SMOTE 1:1": ("LightGBM SMOTE", {"frauds_per_genuine": 1.0, "neighbours": 5}),
    "under-sampled 1:10": ("LightGBM under-sampled", {"keep": "1:10"}),
    "under-sampled 1:1": ("LightGBM under-sampled", {"keep": "1:1"}),
}


def _way(name: str, y: np.ndarray) -> tuple[Family, dict]:
    """Return the family of a way and its own parameters, with ratios turned into numbers."""
    if name not in WAYS:
        raise ValueError(f"no way {name!r}: there are {list(WAYS)}")
    family, own = WAYS[name]
    ratio = (y == 0).sum() / (y == 1).sum()
    numbers = {"balanced": ratio, "1:10": min(1.0, 10 / ratio), "1:1": min(1.0, 1 / ratio)}
    own = {key: numbers.get(value, value) for key, value in own.items()}
    return FAMILIES[family], own


def imbalance_study(
    folds: Mapping[str, Fold],
    ways: Sequence[str] = tuple(WAYS),
    setting: Params | None = None,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """Hold ways of dealing with rare fraud against doing nothing, before and after repair.

    Parameters
    ----------
    folds : mapping of str to Fold
        Name (a week) and what it trains and judges by.
    ways : sequence of str
        Names in ``WAYS``. All have the same setting of LightGBM, so that only the way differs.
    setting : mapping, optional
        Of LightGBM; its first by default.
    seeds : sequence of int

    Returns
    -------
    DataFrame
        ``week``, ``seed``, ``way``, ``AP``, ``recall`` (at 1 % FPR), ``brier skill``,
        ``log skill``, ``predicted`` (mean), the same three with ``repaired`` before them,
        ``observed`` (share of fraud in the test), ``seconds``.
    """
    setting = FAMILIES["LightGBM"].trials[0] if setting is None else setting
    rows = []
    for week, fold in folds.items():
        y, prevalence = fold.y_validation, fold.y_train.mean()
        for seed in seeds:
            for name in ways:
                family, own = _way(name, fold.y_train)
                given = {**setting, **own}
                model, seconds = _timed(family, fold.X_train, fold.y_train, given, seed)
                raw = model.score(fold.X_validation)
                row = {"week": week, "seed": seed, "way": name, "AP": average_precision(y, raw)}
                row["recall"] = recall_at_fpr(y, raw)
                both = {"": raw, "repaired ": model.repaired(fold.X_validation)}
                for prefix, p in both.items():
                    row[f"{prefix}brier skill"] = skill(y, p, "brier", prevalence=prevalence)
                    row[f"{prefix}log skill"] = skill(y, p, "log", prevalence=prevalence)
                    row[f"{prefix}predicted"] = p.mean()
                rows.append({**row, "observed": y.mean(), "seconds": seconds})
    return pd.DataFrame(rows)
