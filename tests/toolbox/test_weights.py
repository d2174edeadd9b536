"""Scores come on one scale, and weights go to the signal that helps."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.weights import ndcg, scaled, tune

WEIGHTS = {"words_own": 0.3, "dense_own": 0.5, "grams_own": 0.2}


def test_scores_are_scaled():
    assert scaled({"a": 4.0, "b": 2.0, "c": 1.0}, depth=2) == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert scaled({"a": 4.0, "b": 1.0}) == {"a": 1.0, "b": 0.25}
    assert scaled({}) == {}


@pytest.mark.parametrize("nothing", [0.0, np.nan])
@pytest.mark.parametrize("column", [0, 1])
def test_what_is_not_found_gains_nothing_whatever_its_place(nothing, column):
    relevant = np.arange(2)[None] == column
    assert ndcg(np.full((1, 2), nothing), relevant) == 0
    assert ndcg(np.where(relevant, 1.0, nothing), relevant) == 1


def test_weights_are_tuned_towards_the_signal_that_helps():
    rng = np.random.default_rng(0)
    relevant = rng.random((60, 12)) < 0.1
    relevant[:, 0] |= ~relevant.any(axis=1)
    matrices = {name: rng.random((60, 12)) for name in WEIGHTS}
    matrices["grams_own"] = relevant + 0.2 * rng.random((60, 12))
    weights, best = tune(matrices, relevant, WEIGHTS)
    assert max(weights, key=weights.get) == "grams_own"
    assert best > ndcg(sum(WEIGHTS[n] * matrices[n] for n in WEIGHTS), relevant)
    assert ndcg(relevant.astype(float), relevant) == pytest.approx(1)
