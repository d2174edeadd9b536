"""Case 12's studies: no week is tuned on and tested, what is thinned is corrected, waits add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import studies
from casebook.cases.card_fraud.models import FAMILIES, Fold
from casebook.cases.card_fraud.protocol import (
    average_precision,
    card_precision,
    handbook_split,
    skill,
)
from casebook.cases.card_fraud.world import simulate
from casebook.data import find_real
from casebook.data.tables import fraud_handbook, ulb
from casebook.evaluate.intervals import mean_interval

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
        train, later = handbook_split(frame, week)
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
    names = ["logistic regression", "LightGBM", "autoencoder", "XGBoost, best on its test"]
    table = studies.handbook_study(frame, test, names, features=features, k=5)
    assert len(table) == 2 * 5 and not table.duplicated(["week", "family"]).any()
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
    assert table.loc[table["family"].isin(["autoencoder", "truth"]), "brier skill"].isna().all()


def test_what_was_tuned_is_what_is_tested(frame, features):
    validation, test = studies.handbook_weeks(1)
    names = ["logistic regression", "LightGBM under-sampled"]
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
            "log skill": [0.1, np.nan] * 3,
        }
    )
    found = studies.against(table, metrics=["AP", "log skill"])
    assert found["metric"].tolist() == ["AP"]
    expected = [*mean_interval([0.1, 0.05, 0.12]), 3]
    assert found.loc[0, ["difference", "low", "high", "weeks"]].tolist() == pytest.approx(expected)
    assert found.loc[0, "mean"] == pytest.approx(0.69)
    with pytest.raises(ValueError, match="no family 'CatBoost'"):
        studies.against(table, "CatBoost")
    with pytest.raises(ValueError, match="1 of 3 measurements are missing"):
        studies.against(table[:-1], metrics=["AP"])


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
    for way in ("weights balanced", "SMOTE 1:1", "under-sampled 1:1", "focal, gamma 2"):
        raw, repaired = by.loc[way, "predicted"], by.loc[way, "repaired predicted"]
        assert abs(repaired - by["observed"].iloc[0]) < abs(raw - by["observed"].iloc[0])
        assert by.loc[way, "repaired log skill"] > by.loc[way, "log skill"]
    ratio = (folds["week"].y_train == 0).sum() / (folds["week"].y_train == 1).sum()
    weights = [given["fraud_weight"] for given in seen if "fraud_weight" in given]
    assert weights == [10, ratio] * 2
    with pytest.raises(ValueError, match="no way 'SMOTE'"):
        studies.imbalance_study(folds, ["SMOTE"])


# Thinned tests ------------------------------------------------------------------------


def test_thinning_flatters_and_the_correction_takes_it_back():
    rng = np.random.default_rng(0)
    y = (rng.random(40_000) < 0.01).astype(int)
    score = rng.normal(size=40_000) + 2.5 * y
    table = studies.thinned_test(y, score, (1.0, 0.1, 0.03))
    full = average_precision(y, score)
    assert table["AP"].is_monotonic_increasing and table["AP"].iloc[-1] > full + 0.3
    np.testing.assert_allclose(table["corrected"], full, atol=0.03)
    assert ((table["low"] <= full + 1e-9) & (full <= table["high"] + 1e-9)).all()
    widths = (table["high"] - table["low"]).tolist()
    assert widths == sorted(widths) and widths[0] == 0
    assert table["fraud"].tolist() == pytest.approx([0.01, 0.092, 0.25], abs=0.01)
    with pytest.raises(ValueError, match=r"at most 1: \[0, 2\]"):
        studies.thinned_test(y, score, (0, 2, 1))


def ulb_like(n=1500, frauds=300):
    rng = np.random.default_rng(0)
    y = np.r_[np.ones(frauds, int), np.zeros(n - frauds, int)]
    columns = {f"V{i}": rng.normal(size=n) + y * (i < 3) * 1.5 for i in range(1, 6)}
    frame = pd.DataFrame({"time": rng.random(n) * 172_000, **columns, "amount": 1.0, "is_fraud": y})
    return frame.sort_values("time", ignore_index=True)


@pytest.mark.parametrize("folds", ["time", "stratified"])
def test_the_ulb_study_corrects_and_drops_doubles(folds):
    frame = ulb_like()
    names = ["logistic regression"]
    table = studies.ulb_study(frame, names, folds=folds, resamples=50)
    row = table.iloc[0]
    assert row["corrected"] < row["AP"] / 2
    assert row["low"] <= row["corrected"] <= row["high"] + 0.05
    assert row["floor"] == pytest.approx(1 / row["genuine"])
    doubled = pd.concat([frame, frame[:200]], ignore_index=True)
    again = studies.ulb_study(doubled, names, folds=folds, resamples=50)
    pd.testing.assert_frame_equal(table, again)
    with pytest.raises(ValueError, match="folds is 'random'"):
        studies.ulb_study(frame, names, folds="random")


def test_in_time_nothing_later_trains(monkeypatch):
    frame = ulb_like()
    later = frame["time"] >= frame["time"].min() + 0.6 * np.ptp(frame["time"])
    changed = frame.copy()
    changed.loc[later, "is_fraud"] = 1 - changed.loc[later, "is_fraud"]
    fitted = []
    family = FAMILIES["logistic regression"]
    for each in (frame, changed):
        X, y = each.drop(columns=["time", "is_fraud"]), each["is_fraud"].to_numpy()
        fitted.append(studies._ulb_scores(family, X, y, each["time"].to_numpy(), "time", 0)[1])
    np.testing.assert_allclose(*fitted)


# Waiting for labels -------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return simulate(seed=5, n_customers=600, days=120)


@pytest.fixture(scope="module")
def hints(world):
    """Features that hold the truth behind noise: any model can learn them."""
    truth = world.truth["is_fraud"].to_numpy(float)
    noise = np.random.default_rng(0).normal(size=(2, len(truth)))
    return pd.DataFrame(
        {"hint": 3 * truth + noise[0], "noise": noise[1]}, index=world.truth["transaction"]
    )


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


def test_ulbs_subsets_differ_as_reported_and_agree_when_corrected():
    tables = []
    for name in ("ulb_1230", "ulb_4800"):
        path = find_real(name)
        if path is None:
            pytest.skip(f"{name} is not here, or real data are switched off")
        tables.append(studies.ulb_study(ulb(path), ["logistic regression"], resamples=50).iloc[0])
    few, more = tables
    assert few["frauds"] == more["frauds"]
    assert few["AP"] > more["AP"] > more["corrected"]
    assert few["low"] < more["high"] and more["low"] < few["high"]


def test_a_fold_can_be_made_by_hand(frame, features):
    """What the world's own features are put into: the imbalance study asks for nothing else."""
    X, y = features.reset_index(drop=True), frame["is_fraud"].to_numpy()
    fold = Fold(X[:9000], y[:9000], X[9000:15000], y[9000:15000])
    table = studies.imbalance_study({"by hand": fold}, ["plain", "weights 10"])
    assert table["AP"].between(0.3, 1).all()
