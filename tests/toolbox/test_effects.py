"""Learners of an effect recover a known one, and use the chance where it matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate import effects
from casebook.evaluate.uplift import ips_scores

SETTINGS = {"n_estimators": 40, "num_leaves": 6, "min_child_samples": 100}


def trial(n: int = 20_000, seed: int = 0) -> tuple[effects.Sample, np.ndarray]:
    """Return a trial in which a call saves where ``a`` is high and harms where it is low."""
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.random((n, 3)), columns=["a", "b", "c"])
    effect = 0.5 * (x["a"] - 0.4).to_numpy()
    risk = 0.35 + 0.2 * x["b"].to_numpy()
    chance = np.where(x["c"] > 0.5, 0.5, 0.2)
    drawn = rng.random(n) < chance
    y = rng.random(n) < risk - effect * drawn
    return effects.Sample(x, y, drawn, chance, rng.integers(n // 8, size=n)), effect


@pytest.fixture(scope="module")
def made() -> tuple[effects.Sample, np.ndarray]:
    return trial()


@pytest.mark.parametrize("name", [*effects.EFFECTS])
def test_each_learner_finds_where_a_call_helps(made, name):
    sample, _ = made
    other, truth = trial(4_000, seed=1)
    found = effects.EFFECTS[name](sample, SETTINGS)(other.features)
    assert np.corrcoef(found, truth)[0, 1] > (0.6 if name == "S" else 0.85)
    assert found.mean() == pytest.approx(truth.mean(), abs=0.05)


@pytest.mark.parametrize("name", [*effects.RISKS])
def test_a_risk_model_learns_from_those_who_were_not_drawn(made, name):
    sample, _ = made
    settings = SETTINGS if name == "risk" else None
    risk = effects.RISKS[name](sample, settings)(sample.features)
    assert np.corrcoef(risk, sample.features["b"])[0, 1] > 0.8
    upside_down = effects.Sample(
        sample.features,
        np.where(sample.drawn, ~sample.cancelled, sample.cancelled),
        sample.drawn,
        sample.chance,
        sample.account,
    )
    again = effects.RISKS[name](upside_down, settings)(sample.features)
    assert np.array_equal(risk, again)


def test_scores_estimate_the_effect_of_any_group_although_chances_differ(made):
    sample, truth = made
    groups = {"high": truth > 0.1, "likely": sample.chance > 0.3, "all": truth > -9}
    for name, group in groups.items():
        for scores, slack in (
            (effects.dr_scores(sample), 4),
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
            effects.dr_scores(sample),
            ips_scores(sample.cancelled, sample.drawn, sample.chance),
        )
    )
    assert dr < 0.9 * ips


def test_folds_keep_an_account_together(made):
    sample, _ = made
    fold = pd.Series(sample.folds(2)).groupby(sample.account).nunique()
    assert (fold == 1).all() and 0.4 < sample.folds(2).mean() < 0.6


def test_weights_make_the_arms_alike_where_chance_knew_more_than_the_features():
    """Those with a higher risk are drawn more often; no feature shows it."""
    rng = np.random.default_rng(0)
    n = 40_000
    x = pd.DataFrame({"a": rng.random(n)})
    danger = rng.random(n) < 0.3
    chance = np.where(danger, 0.5, 0.1)
    drawn = rng.random(n) < chance
    y = rng.random(n) < np.where(danger, 0.4, 0.1) - 0.08 * drawn
    sample = effects.Sample(x, y, drawn, chance, np.arange(n))
    found = {
        name: learn(sample, SETTINGS | more)(x).mean()
        for name, learn, more in (
            ("T", effects.t_learner, {}),
            ("T weighted", effects.t_learner, {"weighted": True}),
            ("DR", effects.dr_learner, {}),
        )
    }
    assert found["T"] < 0.0
    assert found["T weighted"] == pytest.approx(0.08, abs=0.025)
    assert found["DR"] == pytest.approx(0.08, abs=0.025)


def test_doubly_robust_scores_divide_by_each_row_s_own_chance(monkeypatch):
    """With a constant in place of the models the weights alone must bring the mean right."""
    sample, _ = trial(60_000, seed=3)
    risky = np.random.default_rng(5).random(60_000) < np.where(sample.chance > 0.3, 0.6, 0.1)
    y = risky & ~(sample.drawn & (np.arange(60_000) % 2 == 0))  # a call saves every second one
    skewed = effects.Sample(sample.features, y, sample.drawn, sample.chance, sample.account)
    monkeypatch.setattr(effects, "expected", lambda sample, arms: [np.full(60_000, 0.2)] * 2)
    scores, own = effects.dr_scores(skewed), risky.mean() / 2
    slack = 4 * scores.std() / np.sqrt(60_000)
    assert abs(scores.mean() - own) < slack
    alike = replace(skewed, chance=np.full(60_000, sample.chance.mean()))
    assert abs(effects.dr_scores(alike).mean() - own) > 2 * slack


def test_what_is_expected_of_a_row_never_saw_its_account(made):
    """With the outcomes of one fold turned round, the fold's own expectations stay."""
    sample, _ = made
    fold = sample.folds(2, salt=1) == 0
    turned = effects.Sample(
        sample.features,
        np.where(fold, ~sample.cancelled, sample.cancelled),
        sample.drawn,
        sample.chance,
        sample.account,
    )
    every = (np.ones(len(fold), bool),)
    (before,), (after,) = effects.expected(sample, every), effects.expected(turned, every)
    assert np.array_equal(before[fold], after[fold])
    assert not np.allclose(before[~fold], after[~fold])


def test_effects_of_groups_weigh_by_chance():
    group = np.array(["new"] * 8)
    drawn = np.array([True, True, False, False, True, False, False, False])
    cancelled = np.array([0, 1, 1, 1, 0, 0, 0, 1], bool)
    chance = np.array([0.5] * 4 + [0.25] * 4)
    row = effects.group_effects(group, cancelled, drawn, chance).loc["new"]
    # drawn: weights 2, 2, 4, of which 2 cancel; others: 2, 2, 4/3, 4/3, 4/3, of which 16/3 cancel
    assert row["called"] == pytest.approx(2 / 8) and row["stay"] == pytest.approx((16 / 3) / 8)
    assert row["effect"] == pytest.approx(row["stay"] - row["called"]) and row["se"] > 0


def test_the_error_of_the_factor_is_how_far_it_varies_between_trials():
    """What is true times two is to be halved; over trials the factor varies by its own error."""
    found = [effects.slope(2 * truth, sample) for sample, truth in map(small_trial, range(24))]
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(0.5, abs=0.08)
    errors = np.mean([one.error for one in found])
    assert 0.6 < values.std(ddof=1) / errors < 1.5
    assert found[0].relative == pytest.approx(found[0].error / found[0].value)


def small_trial(seed: int) -> tuple[effects.Sample, np.ndarray]:
    return trial(2_000, seed=100 + seed)
