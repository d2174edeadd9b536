"""BM25 under a mask equals an index of the visible passages alone."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.lexical import Postings
from casebook.retrieval.visible_words import VisibleBM25

WORDS = np.array([f"w{n}" for n in range(12)], object)


def drawn(seed, n=60):
    """Return texts of drawn words."""
    rng = np.random.default_rng(seed)
    return [rng.choice(WORDS, rng.integers(1, 9)).tolist() for _ in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_an_index_of_what_is_visible(seed):
    texts, mask = drawn(seed), np.random.default_rng(seed).random(60) < 0.3
    index = VisibleBM25()
    for start in range(0, 60, 25):  # in several lots
        index.add(texts[start : start + 25])
        index.scores(["w1"], np.ones(len(index), bool))
    alone, seen = Postings(), [text for text, may in zip(texts, mask, strict=True) if may]
    alone.add(0, seen)
    for query in (["w1"], ["w2", "w2", "w5"], ["none"], []):
        scores = index.scores(query, mask)
        assert np.allclose(scores[mask], alone.scores(query, len(seen)))
        assert not scores[~mask].any()


def test_hidden_passages_change_no_score():
    texts, mask = drawn(1), np.arange(61) < 60
    scores = []
    for hidden in (["w1"] * 50, ["w9"]):
        index = VisibleBM25()
        index.add([*texts, hidden])
        scores.append(index.scores(["w1", "w9"], mask))
    assert (scores[0] == scores[1]).all() and scores[0].any()


def test_a_mask_of_another_length_is_refused_and_nothing_visible_scores_nothing():
    index = VisibleBM25()
    index.add([["a"]])
    with pytest.raises(ValueError, match="a mask of 2 for 1 passages"):
        index.scores(["a"], np.ones(2, bool))
    assert index.scores(["a"], np.zeros(1, bool)).tolist() == [0.0]
