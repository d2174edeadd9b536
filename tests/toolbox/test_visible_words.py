"""BM25 under a mask equals an index of the visible passages alone."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.lexical import Postings
from casebook.retrieval.text import words
from casebook.retrieval.visible_words import LONGEST, VisibleBM25, short_words

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


@pytest.mark.parametrize("seed", range(3))
def test_what_is_forgotten_and_numbered_anew_equals_an_index_of_what_is_left(seed):
    texts, gone = drawn(seed), np.random.default_rng(seed).random(60) < 0.4
    index, alone = VisibleBM25(), VisibleBM25()
    index.add(texts[:40]), index.add(texts[40:])
    index.forget({place: texts[place] for place in np.flatnonzero(gone).tolist()})
    left = [text for text, out in zip(texts, gone, strict=True) if not out]
    alone.add(left)
    for renumbered in (False, True):
        mask = np.ones(len(index), bool) if renumbered else ~gone
        scores = index.scores(["w1", "w5"], mask)[mask]
        assert np.allclose(scores, alone.scores(["w1", "w5"], np.ones(len(left), bool)))
        assert scores.any() and not {*index._new, *index._held} - {w for t in left for w in t}
        if not renumbered:
            index.keep(np.flatnonzero(~gone))


def test_words_are_cut_only_where_one_is_long():
    text = "Naïve CN-23, IL-6/7 and " + "x" * LONGEST
    assert short_words(text) is text and words(short_words(text)) == words(text)
    cut = short_words("℡" * 100)  # longer in the form in which it is read
    assert max(map(len, cut.split())) == LONGEST and cut.replace(" ", "") == "tel" * 100


def test_passages_that_hold_all_words_are_those_of_a_plain_look(seed=3):
    texts, mask = drawn(seed), np.random.default_rng(seed).random(60) < 0.5
    index = VisibleBM25()
    index.add(texts)
    index.forget({7: texts[7], 9: texts[9]})
    kept = [set() if n in (7, 9) else {*text} for n, text in enumerate(texts)]
    for phrases in ([["w1"]], [["w2", "w5"]], [["w2", "w2"], ["w3"]], [["none"]], [[]], []):
        plain = [
            may and any(phrase and {*phrase} <= held for phrase in phrases)
            for held, may in zip(kept, mask, strict=True)
        ]
        assert index.holding(phrases, mask).tolist() == [bool(one) for one in plain]
    assert index.holding([["w1"]], mask).any()
