"""Case 12's studies: no week is tuned on and tested, what is thinned is corrected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import studies
from casebook.cases.card_fraud.models import FAMILIES
from casebook.data import find_real
from casebook.data.tables import fraud_handbook
from casebook.evaluate.intervals import mean_interval
from casebook.evaluate.prequential import known_cards_split
from casebook.evaluate.rare import average_precision, card_precision, skill

DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def frame():
    """Two months as in the Handbook: 300 customers, fraud above 60 euro and at random."""
    rng = np.random.default_rng(0)
    n = 30_000
    amount = rng.exponential(15, n)
    fraud = (amount > 60) & (rng.random(n) < 0.8) | (rng.random(n) < 0.002)
    start, end = pd.Timestamp("2018-06-10"), pd.Timestamp("2018-08-15")
    return pd.DataFrame(
        {
            "transaction": np.arange(n),
            "time": np.sort(start + pd.to_timedelta(rng.random(n) * (end - start))),
            "customer": rng.integers(0, 900, n),
            "terminal": rng.integers(0, 50, n),
            "amount": amount,
            "is_fraud": fraud.astype(int),
            "scenario": np.where(amount > 60, 1, 2) * fraud,
        }
    )


@pytest.fixture(scope="module")
def features(frame):
    rng = np.random.default_rng(1)
    noise = {name: rng.normal(size=len(frame)) for name in "xy"}
    amount = frame["amount"].to_numpy()
    return pd.DataFrame({"amount": amount, **noise}, index=pd.Index(frame["transaction"]))


# The Handbook -------------------------------------------------------------------------


def test_weeks_that_tune_lie_before_weeks_that_test():
    validation, test = studies.handbook_weeks()
    assert [w.name for w in validation] == ["2018-07-04", "2018-07-11"]
    assert [w.name for w in test] == ["2018-07-18", "2018-07-25", "2018-08-01", "2018-08-08"]
    assert max(w.test_to for w in validation) <= min(w.test_from for w in test)
    with pytest.raises(ValueError, match="6 test weeks of 6"):
        studies.handbook_weeks(6)


def test_folds_are_the_weeks_rows(frame, features):
    _, test = studies.handbook_weeks()
    for week, fold in zip(test, studies.handbook_folds(frame, test, features), strict=True):
        train, later = known_cards_split(frame, week)
        np.testing.assert_array_equal(fold.X_train["amount"], frame.loc[train, "amount"])
        np.testing.assert_array_equal(fold.y_validation, frame.loc[later, "is_fraud"])
        assert fold.X_validation.index.tolist() == np.flatnonzero(later).tolist()
    with pytest.raises(ValueError, match="29999 rows of features for 30000"):
        studies.handbook_folds(frame, test, features[1:])
    with pytest.raises(ValueError, match="features are of other transactions"):
        studies.handbook_folds(frame, test, features[::-1])


def test_the_features_are_the_handbooks_by_default(frame):
    _, test = studies.handbook_weeks(1)
    (fold,) = studies.handbook_folds(frame, test)
    assert fold.X_train.shape[1] == 15
    assert "terminal_risk_7d" in fold.X_train


def test_the_study_judges_each_family_and_week(frame, features):
    _, test = studies.handbook_weeks(2)
    names = ["logistic regression", "LightGBM", "XGBoost, best on its test"]
    table = studies.handbook_study(frame, test, names, features=features, k=5)
    assert len(table) == 2 * 4 and not table.duplicated(["week", "family"]).any()
    row = table.set_index(["week", "family"]).loc[("2018-08-08", "LightGBM")]
    fold = studies.handbook_folds(frame, test, features)[1]
    score = FAMILIES["LightGBM"].fit(fold.X_train, fold.y_train).score(fold.X_validation)
    assert row["AP"] == pytest.approx(average_precision(fold.y_validation, score))
    rows = frame.loc[fold.X_validation.index].rename(columns={"customer": "card"})
    judged = rows.assign(y=rows["is_fraud"], score=score)
    assert row["card precision"] == pytest.approx(card_precision(judged, 5))
    assert row["frauds"] == fold.y_validation.sum() and row["rows"] == len(rows)
    expected = skill(fold.y_validation, score, prevalence=fold.y_train.mean())
    assert row["brier skill"] == pytest.approx(expected) and expected > 0.3
    perfect = table[table["family"] == "truth"]
    assert (perfect["AP"] == 1).all()
    assert (
        table["card precision"] <= table["week"].map(perfect.set_index("week")["card precision"])
    ).all()
    assert table.loc[table["family"] == "truth", "brier skill"].isna().all()


def test_what_was_tuned_is_what_is_tested(frame, features):
    validation, test = studies.handbook_weeks(1)
    names = ["logistic regression", "LightGBM"]
    params, table = studies.handbook_tuning(frame, validation[-1:], names, 3, features=features)
    assert table.groupby("family").size().to_dict() == dict.fromkeys(names, 3)
    assert table[table["chosen"]]["family"].tolist() == names
    trials = FAMILIES["logistic regression"].trials
    best = table[table["family"] == "logistic regression"]["AP"].to_numpy().argmax()
    assert params["logistic regression"] == trials[best]
    seen = []

    class Spy:
        probability = True

        def fit(self, X, y, given, seed):
            seen.append(given)
            return FAMILIES["logistic regression"].fit(X, y, given, seed)

    family = dict(FAMILIES, spy=Spy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "FAMILIES", family)
        studies.handbook_study(frame, test, ["spy"], {"spy": {"C": 3.0}}, features=features, k=5)
    assert seen == [{"C": 3.0}]
    with pytest.raises(ValueError, match="no family 'LightGMB'"):
        studies.handbook_study(frame, test, ["LightGMB"], features=features)


def test_families_are_compared_pairwise_by_week():
    table = pd.DataFrame(
        {
            "week": ["a", "a", "b", "b", "c", "c"],
            "family": ["XGBoost", "other"] * 3,
            "AP": [0.5, 0.6, 0.7, 0.75, 0.6, 0.72],
        }
    )
    found = studies.against(table)
    assert found.index.tolist() == ["other"]
    expected = [0.69, *mean_interval([0.1, 0.05, 0.12]), 3]
    assert found.loc["other"].tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="no family 'CatBoost'"):
        studies.against(table, "CatBoost")
    with pytest.raises(ValueError, match="1 of 3 measurements are missing"):
        studies.against(table[:-1])


# Imbalance ----------------------------------------------------------------------------


def test_ways_share_one_setting_and_repair_the_mean(frame, features):
    _, test = studies.handbook_weeks(1)
    folds = {"week": studies.handbook_folds(frame, test, features)[0]}
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        timed = studies._timed
        patch.setattr(studies, "_timed", lambda *args: seen.append(args[3]) or timed(*args))
        table = studies.imbalance_study(folds, seeds=(0, 1)).query("seed == 0")
    setting = FAMILIES["LightGBM"].trials[0]
    assert all(setting.items() <= given.items() for given in seen)
    assert table["way"].tolist() == list(studies.WAYS)
    by = table.set_index("way")
    pd.testing.assert_series_equal(
        by.loc["plain", ["brier skill", "log skill"]],
        by.loc["plain", ["repaired brier skill", "repaired log skill"]].set_axis(
            ["brier skill", "log skill"]
        ),
    )
    for way in ("weights balanced", "SMOTE 1:1", "under-sampled 1:1"):
        raw, repaired = by.loc[way, "predicted"], by.loc[way, "repaired predicted"]
        assert abs(repaired - by["observed"].iloc[0]) < abs(raw - by["observed"].iloc[0])
        assert by.loc[way, "repaired log skill"] > by.loc[way, "log skill"]
    ratio = (folds["week"].y_train == 0).sum() / (folds["week"].y_train == 1).sum()
    weights = [given["fraud_weight"] for given in seen if "fraud_weight" in given]
    assert weights == [10, ratio] * 2
    with pytest.raises(ValueError, match="no way 'SMOTE'"):
        studies.imbalance_study(folds, ["SMOTE"])


# Public data --------------------------------------------------------------------------


def test_the_handbooks_own_setting_gives_about_its_own_figures():
    """Published for XGBoost: 0.687 average precision, 0.302 card precision@100."""
    path = find_real("fraud_handbook")
    if path is None:
        pytest.skip("fraud_handbook is not here, or real data are switched off")
    _, test = studies.handbook_weeks(1)
    table = studies.handbook_study(fraud_handbook(path), test, ["XGBoost, best on its test"])
    row = table.iloc[0]
    assert (row["rows"], row["frauds"]) == (58_264, 385)
    assert row["AP"] == pytest.approx(0.687, abs=0.02)
    assert row["card precision"] == pytest.approx(0.302, abs=0.02)
