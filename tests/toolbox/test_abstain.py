"""Thresholds by cost, risk by coverage and areas under a curve find what was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.abstain import auroc, cost_curve, fit_head, probability, risk_coverage


def test_the_threshold_that_costs_least_is_where_it_was_planted():
    sure = np.linspace(0, 1, 201)
    labels = pd.Series(np.where(sure >= 0.6, "right", "wrong"))
    costs = pd.Series({"right": 0.3, "wrong": 9.0, "abstain_to_human": 4.0})
    curve = cost_curve(sure, labels, costs, "abstain_to_human", ["right"])
    assert curve.loc[curve["cost_eur"].idxmin(), "threshold"] == pytest.approx(0.6, abs=0.02)
    assert curve["cost_eur"].iloc[-1] == 4.0 and curve["coverage"].iloc[0] == 1
    cheap = cost_curve(
        sure, labels, pd.Series({**costs, "wrong": 1.0}), "abstain_to_human", ["right"]
    )
    assert cheap.loc[cheap["cost_eur"].idxmin(), "threshold"] == 0


def test_risk_coverage_and_auroc():
    curve = risk_coverage(np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, False, False, True]))
    assert curve["risk"].round(3).tolist() == [0, 0.5, 0.333, 0.5]
    value, low, high = auroc(np.arange(40.0), np.arange(40) >= 20, draws=100)
    assert (value, low, high) == pytest.approx((1, 1, 1))


def test_what_is_done_instead_may_differ_by_question():
    sure, labels = np.linspace(0, 1, 101), pd.Series(["right", "wrong"] * 50 + ["right"])
    costs = pd.Series({"right": 0.3, "wrong": 9.0, "person": 4.0, "title": 1.0})
    one = cost_curve(sure, labels, costs, "person", ["right"])
    each = cost_curve(sure, labels, costs, ["person"] * 101, ["right"])
    pd.testing.assert_frame_equal(one, each)
    mixed = cost_curve(sure, labels, costs, ["person"] * 50 + ["title"] * 51, ["right"])
    last = mixed["cost_eur"].iloc[-1]
    assert last == pytest.approx((50 * 4 + 51) / 101) and mixed["right"].iloc[0] > 0.5


def test_topics_are_resampled_whole():
    rng = np.random.default_rng(0)
    topic = np.repeat(np.arange(20), 20)
    good = rng.random(20)[topic] < 0.5
    score = good + rng.normal(size=400) + rng.normal(size=20)[topic]
    alone, by_topic = (auroc(score, good, clusters, draws=300) for clusters in (None, topic))
    assert alone[0] == by_topic[0] and by_topic[2] - by_topic[1] > 1.5 * (alone[2] - alone[1])


def test_heads_learn_what_is_there():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(300, 4)), columns=["margin", "score", "length", "same"])
    good = rng.random(300) < 1 / (1 + np.exp(-3 * rows["margin"]))
    groups = [f"g{i % 30}" for i in range(300)]
    model, crossed = fit_head(rows, good.to_numpy(), groups)
    assert max(model["weight"], key=model["weight"].get) == "margin"
    assert auroc(crossed, good.to_numpy(), draws=50)[0] > 0.85
    told = [probability(row, model) for row in rows.to_dict("records")]
    assert np.corrcoef(told, crossed)[0, 1] > 0.95  # the same model, and those of other folds
    # Planted: shuffled labels leave nothing to learn.
    _, blind = fit_head(rows, rng.permutation(good), groups)
    assert auroc(blind, good.to_numpy(), draws=50)[0] < 0.65
