"""Case 07: learners recover a known effect, the decision keeps its limits, curves by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import rules, uplift
from casebook.cases.subscription_churn.evaluation import (
    auuc,
    by_capacity,
    clustered,
    gains,
    ips_scores,
    policy_value,
    qini,
    radcliffe,
    snips,
)
from casebook.cases.subscription_churn.policy import TERMS, Terms, choose, gain

SETTINGS = {"n_estimators": 40, "num_leaves": 6, "min_child_samples": 100}


def trial(n: int = 20_000, seed: int = 0) -> tuple[uplift.Sample, np.ndarray]:
    """Return a trial in which a call saves where ``a`` is high and harms where it is low."""
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.random((n, 3)), columns=["a", "b", "c"])
    effect = 0.5 * (x["a"] - 0.4).to_numpy()
    risk = 0.35 + 0.2 * x["b"].to_numpy()
    chance = np.where(x["c"] > 0.5, 0.5, 0.2)
    drawn = rng.random(n) < chance
    y = rng.random(n) < risk - effect * drawn
    return uplift.Sample(x, y, drawn, chance, rng.integers(n // 8, size=n)), effect


@pytest.fixture(scope="module")
def made() -> tuple[uplift.Sample, np.ndarray]:
    return trial()


@pytest.mark.parametrize("name", [*uplift.EFFECTS])
def test_each_learner_finds_where_a_call_helps(made, name):
    sample, _ = made
    other, truth = trial(4_000, seed=1)
    found = uplift.EFFECTS[name](sample, SETTINGS)(other.features)
    assert np.corrcoef(found, truth)[0, 1] > (0.6 if name == "S" else 0.85)
    assert found.mean() == pytest.approx(truth.mean(), abs=0.05)


@pytest.mark.parametrize("name", [*uplift.RISKS])
def test_a_risk_model_learns_from_those_who_were_not_drawn(made, name):
    sample, _ = made
    risk = uplift.RISKS[name](sample, SETTINGS)(sample.features)
    assert np.corrcoef(risk, sample.features["b"])[0, 1] > 0.8
    upside_down = uplift.Sample(
        sample.features,
        np.where(sample.drawn, ~sample.cancelled, sample.cancelled),
        sample.drawn,
        sample.chance,
        sample.account,
    )
    again = uplift.RISKS[name](upside_down, SETTINGS)(sample.features)
    assert np.array_equal(risk, again)


def test_scores_estimate_the_effect_of_any_group_although_chances_differ(made):
    sample, truth = made
    groups = {"high": truth > 0.1, "likely": sample.chance > 0.3, "all": truth > -9}
    for name, group in groups.items():
        for scores, slack in (
            (uplift.dr_scores(sample, SETTINGS), 4),
            (ips_scores(sample.cancelled, sample.drawn, sample.chance), 4),
        ):
            own = scores[group]
            off = abs(own.mean() - truth[group].mean())
            assert off < slack * own.std() / np.sqrt(len(own)), name
    naive = sample.cancelled[~sample.drawn].mean() - sample.cancelled[sample.drawn].mean()
    assert naive == pytest.approx(truth.mean(), abs=0.03)
    dr, ips = (
        s.std()
        for s in (
            uplift.dr_scores(sample, SETTINGS),
            ips_scores(sample.cancelled, sample.drawn, sample.chance),
        )
    )
    assert dr < 0.9 * ips


def test_folds_keep_an_account_together(made):
    sample, _ = made
    fold = pd.Series(sample.folds(2)).groupby(sample.account).nunique()
    assert (fold == 1).all() and 0.4 < sample.folds(2).mean() < 0.6


def test_an_interval_covers_the_truth_as_often_as_it_says():
    hits = []
    for seed in range(60):
        sample, truth = trial(2_000, seed=100 + seed)
        list_ = np.flatnonzero(sample.features["a"] > 0.6)
        scores = ips_scores(sample.cancelled, sample.drawn, sample.chance)
        found = policy_value(list_, scores, np.ones(2_000), 0.0, sample.account)
        hits.append(found.covers(truth[list_].sum()))
    assert 0.85 <= np.mean(hits) <= 1.0


# The decision ------------------------------------------------------------------------


def test_terms_of_the_team():
    assert (TERMS.daily, TERMS.capacity, TERMS.cost) == (200, 4_000, 32.0)
    assert Terms(days=30).capacity == 6_000
    assert TERMS.break_even(3_200, saved=0.2) == pytest.approx(0.05)
    assert gain([0.02, -0.01], [2_000, 5_000]).tolist() == [8.0, -82.0]


@pytest.mark.parametrize(
    ("gains", "options", "chosen"),
    [
        ([3, 9, 5], {"capacity": 2}, [1, 2]),
        ([3, -9, 5], {"capacity": 3}, [2, 0]),
        ([3, -9, 5], {"capacity": 3, "least": -np.inf}, [2, 0, 1]),
        ([3, 9, 5], {"capacity": 2, "blocked": [False, True, False]}, [2, 0]),
        ([np.nan, 1, np.inf], {"capacity": 3}, [1]),
        ([5, 5, 5], {"capacity": 2}, [0, 1]),
        ([1, 2], {"capacity": 0}, []),
        ([], {"capacity": 5}, []),
    ],
)
def test_who_is_chosen(gains, options, chosen):
    assert choose(np.array(gains, float), **options).tolist() == chosen


def test_a_decision_with_broken_input_is_refused():
    with pytest.raises(ValueError, match="one each"):
        choose(np.ones(3), blocked=[True])
    with pytest.raises(ValueError, match="negative"):
        choose(np.ones(3), capacity=-1)


# Rules -------------------------------------------------------------------------------


def test_the_segment_table_weighs_by_chance():
    segment = np.array(["new"] * 8)
    drawn = np.array([True, True, False, False, True, False, False, False])
    cancelled = np.array([0, 1, 1, 1, 0, 0, 0, 1], bool)
    chance = np.array([0.5] * 4 + [0.25] * 4)
    row = rules.segment_effects(segment, cancelled, drawn, chance).loc["new"]
    # drawn: weights 2, 2, 4, of which 2 cancel; others: 2, 2, 4/3, 4/3, 4/3, of which 16/3 cancel
    assert row["called"] == pytest.approx(2 / 8) and row["stay"] == pytest.approx((16 / 3) / 8)
    assert row["effect"] == pytest.approx(row["stay"] - row["called"]) and row["se"] > 0


# Curves by hand ----------------------------------------------------------------------


def test_gains_of_four_subscribers():
    effects = np.array([0.4, 0.2, 0.0, -0.2])
    curve = gains(effects, effects, points=4)
    assert curve["gain"].tolist() == pytest.approx([0, 0.1, 0.15, 0.15, 0.1])
    assert auuc(effects, effects, points=4) == pytest.approx(0.1125)
    assert qini(effects, effects) == pytest.approx(1.0)
    assert qini(-effects, effects) == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="equal"):
        qini([1, 2], [0.1, 0.1])


def test_radcliffe_by_hand_and_equal_to_the_gains_where_arms_are_balanced():
    score, drawn = np.arange(6, 0, -1), np.array([True, False, True, False, True, False])
    cancelled = np.array([0, 1, 0, 0, 1, 0], bool)
    curve = radcliffe(score, cancelled, drawn)
    assert curve["prevented"].tolist() == pytest.approx([0, 1, 2, 1, 0.5, 0])
    scores = ips_scores(cancelled, drawn, np.full(6, 0.5))
    pairs = gains(score, scores, points=3)["gain"].to_numpy() * 6 / 2
    assert pairs.tolist() == pytest.approx([0, 1, 1, 0])


def test_value_by_capacity_and_by_weights():
    table = by_capacity([3, 1, 2], [100, 10, 50], cost=32, capacities=[0, 1, 2, 3, 9])
    assert table["euro"].tolist() == [0, 68, 86, 64, 64]
    drawn, y = np.array([True, False, True, False]), np.array([False, True, False, True])
    found = snips(np.arange(4), y, drawn, np.full(4, 0.5), np.full(4, 100.0), 10.0)
    assert found == pytest.approx(4 * 100 - 40)
    with pytest.raises(ValueError, match="clusters"):
        clustered([1.0, 2.0], [7, 7])
    with pytest.raises(ValueError, match="possible"):
        ips_scores([0], [True], [1.0])


def test_by_hand_equals_econml(made):
    metalearners = pytest.importorskip("econml.metalearners")
    sample, _ = made
    y, t = sample.cancelled.astype(float), sample.drawn.astype(int)
    theirs = metalearners.TLearner(models=uplift.regressor(SETTINGS))
    theirs.fit(y, t, X=sample.features)
    arms = [uplift.regressor(SETTINGS).fit(sample.features[t == k], y[t == k]) for k in (0, 1)]
    ours = arms[1].predict(sample.features) - arms[0].predict(sample.features)
    np.testing.assert_allclose(theirs.effect(sample.features), ours, atol=1e-9)


def test_the_forest_of_econml_finds_the_effect(made):
    pytest.importorskip("econml.grf")
    sample, _ = made
    other, truth = trial(3_000, seed=1)
    found = uplift.forest(sample, SETTINGS, rows=12_000)(other.features)
    assert np.corrcoef(found, truth)[0, 1] > 0.85
    assert found.mean() == pytest.approx(truth.mean(), abs=0.05)
