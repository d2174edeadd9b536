"""Case 12's families: what they learn, what resampling does to probabilities, and its repair."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import models
from casebook.cases.card_fraud.models import FAMILIES, TRIALS, WEIGHTED
from casebook.evaluate.rare import average_precision, skill

LIGHTGBM = [name for name in FAMILIES if name.startswith("LightGBM")]
REPAIRED = [name for name in LIGHTGBM if name != "LightGBM"]


def draw(n, seed, shift=-4.6):
    """Rows whose probability of fraud is known: 2 % on average, from two of four features."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 4)).astype(np.float32), columns=list("abcd"))
    p = 1 / (1 + np.exp(-(shift + 1.2 * X["a"] + 0.8 * X["b"])))
    return X, (rng.random(n) < p).astype(int), p.to_numpy()


@pytest.fixture(scope="module")
def data():
    return draw(12000, 0)


@pytest.fixture(scope="module")
def test_data():
    return draw(12000, 1)


# Equal trials -------------------------------------------------------------------------


def test_every_family_that_is_tuned_lists_as_many_different_trials():
    assert len(FAMILIES) == 7
    for name, family in FAMILIES.items():
        assert family.name == name
        many = 1 if name in REPAIRED else TRIALS
        assert len(family.trials) == many
        assert len({repr(sorted(trial.items(), key=str)) for trial in family.trials}) == many


def test_ways_to_deal_with_rare_fraud_have_one_setting():
    plain = FAMILIES["LightGBM"].trials[0]
    for name in REPAIRED:
        assert plain.items() <= FAMILIES[name].trials[0].items()


# Fitting ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_fits_the_same_twice_and_ranks_better_than_chance(name, data, test_data):
    X, y, _ = data
    family = FAMILIES[name]
    trial = family.trials[0]
    first = family.fit(X, y, trial, seed=3)
    again = family.fit(X.copy(), y.tolist(), dict(trial), seed=3)
    score = first.score(test_data[0])
    # Sums of products may differ in the last digit by where the table lies in memory.
    np.testing.assert_allclose(score, again.score(test_data[0]), rtol=1e-6)
    assert score.shape == (12000,) and np.isfinite(score).all()
    assert first.probability == family.probability
    if family.probability:
        assert score.min() >= 0 and score.max() <= 1
    assert average_precision(test_data[1], score) > 2.5 * test_data[1].mean()


@pytest.mark.parametrize("name", FAMILIES)
def test_all_listed_settings_fit(name, data):
    X, y, _ = data
    for trial in FAMILIES[name].trials:
        small = {**trial, "n_estimators": 5} if "n_estimators" in trial else dict(trial)
        if "rounds" in trial:
            small["rounds"] = 5
        score = FAMILIES[name].fit(X[:4000], y[:4000], small).score(X[:50])
        assert np.isfinite(score).all()


def test_fitting_leaves_the_listed_settings_alone(data):
    X, y, _ = data
    for name in ("LightGBM SMOTE", "LightGBM weighted"):
        before = repr(FAMILIES[name].trials)
        FAMILIES[name].fit(X[:15000], y[:15000])
        assert repr(FAMILIES[name].trials) == before


def test_columns_are_found_by_name(data, test_data):
    X, y, _ = data
    model = FAMILIES["LightGBM"].fit(X, y)
    moved = test_data[0][list("dcba")].assign(more=1.0)
    np.testing.assert_array_equal(model.score(moved), model.score(test_data[0]))
    with pytest.raises(ValueError, match=r"lacks 1 features of the model: \['a'\]"):
        model.score(test_data[0].drop(columns="a"))


def test_boosting_sees_what_one_row_in_500_has():
    """All amounts above 220 are fraud, 40 of 20,000: with 255 bins most of them are not seen."""
    rng = np.random.default_rng(0)
    amount = rng.exponential(40, 20000)
    amount = np.where(amount > 215, amount % 215, amount)
    rare = rng.choice(20000, 40, replace=False)
    amount[rare] = 220 + rng.random(40)
    X = pd.DataFrame({"amount": amount})
    y = np.isin(np.arange(20000), rare).astype(int)
    for name in ("LightGBM", "XGBoost"):
        trial = {**FAMILIES[name].trials[0]}
        fine = average_precision(y, FAMILIES[name].fit(X, y, trial).score(X))
        coarse = average_precision(y, FAMILIES[name].fit(X, y, {**trial, "max_bin": 63}).score(X))
        assert fine > 0.95 > 0.7 > coarse


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X, y: (X, y[:-1]), "one label a row is due"),
        (lambda X, y: (X, y * 2), "other than 0 and 1"),
        (lambda X, y: (X, y * 0), "two of each are the least"),
        (lambda X, y: (X.assign(b=X["b"].where(X.index != 5)), y), r"values in \['b'\]"),
    ],
)
def test_a_family_refuses(data, spoil, message):
    X, y, _ = data
    with pytest.raises(ValueError, match=message):
        FAMILIES["LightGBM"].fit(*spoil(X, y))


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_counts_a_row_as_often_as_it_says(name, data, test_data):
    X, y, _ = data
    X, y = X[:6000], y[:6000]
    times = np.where(y == 1, 3, 1)
    repeated = np.repeat(np.arange(len(y)), times)
    trial = {"C": 1.0} if "regression" in name else {**FAMILIES[name].trials[0], "max_bin": 15}
    trial |= {"min_data_in_leaf": 1} if name == "LightGBM" else {}
    weighted = FAMILIES[name].fit(X, y, trial, weight=times).score(test_data[0])
    copied = FAMILIES[name].fit(X.iloc[repeated], y[repeated], trial).score(test_data[0])
    plain = FAMILIES[name].fit(X, y, trial).score(test_data[0])
    # Scaling and bins see the copies too, so the two are near and not the same.
    assert abs(weighted.mean() / copied.mean() - 1) < 0.2 < weighted.mean() / plain.mean() - 1


@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        ("LightGBM SMOTE", 1.0, "LightGBM SMOTE takes no weights"),
        ("LightGBM", -1.0, "0 or more each"),
        ("LightGBM", np.nan, "0 or more each"),
    ],
)
def test_weights_that_cannot_be_are_refused(data, name, weight, message):
    X, y, _ = data
    with pytest.raises(ValueError, match=message):
        FAMILIES[name].fit(X, y, weight=np.full(len(y), weight))


def test_under_sampling_to_nothing_is_refused(data):
    X, y, _ = data
    trial = {**FAMILIES["LightGBM under-sampled"].trials[0], "keep": 1e-9}
    with pytest.raises(ValueError, match="fewer than two genuine rows"):
        FAMILIES["LightGBM under-sampled"].fit(X, y, trial)


# Resampling and repair ----------------------------------------------------------------


OWN = {
    "LightGBM weighted": {"fraud_weight": 30},
    "LightGBM SMOTE": {"frauds_per_genuine": 0.3, "neighbours": 5},
    "LightGBM under-sampled": {"keep": 0.1},
}


@pytest.mark.parametrize("name", REPAIRED)
def test_repair_brings_probabilities_back(name, data, test_data):
    X, y, _ = data
    trial = {**FAMILIES["LightGBM"].trials[0], **OWN[name]}
    model = FAMILIES[name].fit(X, y, trial)
    raw, repaired = model.score(test_data[0]), model.repaired(test_data[0])
    truth = test_data[2]
    assert abs(raw.mean() / truth.mean() - 1) > 0.5
    assert abs(repaired.mean() / truth.mean() - 1) < 0.3
    assert np.abs(repaired - truth).mean() < 0.5 * np.abs(raw - truth).mean()
    base = y.mean()
    for kind in ("brier", "log"):
        before = skill(test_data[1], raw, kind, prevalence=base)
        assert skill(test_data[1], repaired, kind, prevalence=base) > max(before, 0)
    order = np.argsort(raw)
    assert (np.diff(repaired[order]) >= -1e-15).all()


def test_nothing_to_repair_leaves_the_score(data, test_data):
    model = FAMILIES["LightGBM"].fit(*data[:2])
    np.testing.assert_array_equal(model.score(test_data[0]), model.repaired(test_data[0]))


def test_smote_leaves_data_with_enough_fraud_alone(data):
    X, _, _ = data
    y = (X["a"] > 0).astype(int).to_numpy()
    plain = FAMILIES["LightGBM"].fit(X, y).score(X)
    np.testing.assert_array_equal(FAMILIES["LightGBM SMOTE"].fit(X, y).score(X), plain)


def test_under_sampling_keeps_every_fraud(data, monkeypatch):
    seen = {}
    boost = models._boost

    def spy(X, y, *args, **kwargs):
        seen.update(y=y)
        return boost(X, y, *args, **kwargs)

    monkeypatch.setattr(models, "_boost", spy)
    X, y, _ = data
    FAMILIES["LightGBM under-sampled"].fit(X, y)
    assert seen["y"].sum() == y.sum()
    assert (seen["y"] == 0).sum() == pytest.approx(0.1 * (y == 0).sum(), rel=0.1)


# House rules --------------------------------------------------------------------------


def test_importing_loads_nothing_heavy():
    heavy = ("sklearn", "lightgbm", "xgboost", "imblearn", "scipy", "torch")
    code = (
        "import sys\n"
        "from casebook.cases.card_fraud import models, studies\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
