"""Metrics of lists, and what re-ranks them: against counts by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from casebook.evaluate.ranking import (
    coverage,
    diversity,
    gini,
    hits,
    mmr,
    ndcg_at,
    precision_at,
    recall_at,
    relevant,
    shown,
)

WANTED = relevant([0, 0, 0, 1, 1], [1, 3, 3, 0, 4], shape=(2, 6))
LISTS = np.array([[3, 0, 1], [5, 4, 2]])


def test_what_is_found_by_hand():
    assert hits(LISTS, WANTED).tolist() == [[True, False, True], [False, True, False]]
    assert recall_at(LISTS, WANTED, 3).tolist() == [1.0, 0.5]
    assert recall_at(LISTS, WANTED, 1).tolist() == [1.0, 0.0]  # one place holds one item
    assert precision_at(LISTS, WANTED, 2).tolist() == [0.5, 0.5]
    second = 1 / np.log2(3) / (1 + 1 / np.log2(3))
    assert ndcg_at(LISTS, WANTED, 2) == pytest.approx([1 / (1 + 1 / np.log2(3)), second])


def test_the_gain_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(30, 12)), rng.random((30, 12)) < 0.3
    truth[:, 0] |= ~truth.any(axis=1)
    lists = np.argsort(-scores, axis=1)
    wanted = relevant(*np.nonzero(truth), shape=truth.shape)
    ours = ndcg_at(lists, wanted, 5)
    theirs = [ndcg_score(t[None], s[None], k=5) for t, s in zip(truth, scores, strict=True)]
    assert ours == pytest.approx(theirs)


def test_an_empty_place_finds_nothing():
    lists = np.array([[-1, 3, -1], [-1, -1, -1]])
    assert recall_at(lists, WANTED, 3).tolist() == [0.5, 0.0]
    assert shown(lists, 6).tolist() == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("lists", "k", "says"),
    [
        (LISTS[:1], 2, "one for each"),
        (LISTS, 4, "3 places"),
        (LISTS, 0, "3 places"),
        (LISTS + 1, 2, "outside of"),
        (np.array([[3, 3, 1], [5, 4, 2]]), 3, "twice"),
    ],
)
def test_lists_that_do_not_fit_are_refused(lists, k, says):
    with pytest.raises(ValueError, match=says):
        hits(lists, WANTED, k)


def test_who_wants_nothing_must_be_left_out():
    with pytest.raises(ValueError, match="1 of the users"):
        recall_at(LISTS, relevant([0], [1], shape=(2, 6)), 2)


def test_how_evenly_a_catalogue_is_shown():
    assert coverage(LISTS, 12) == 0.5
    counts = np.array([0, 1, 2, 7])
    apart = np.abs(counts[:, None] - counts).sum() / (2 * len(counts) * counts.sum())
    assert gini(counts) == pytest.approx(apart)
    for wrong in ([0, 0], [], [-1, 2]):
        with pytest.raises(ValueError, match="counts"):
            gini(wrong)


def test_diversity_of_labels_and_of_vectors_agree():
    labels = np.array([0, 0, 1, 2, 2, 2])
    one_hot = np.eye(3)[labels]
    assert diversity(LISTS, labels) == pytest.approx(diversity(LISTS, one_hot))
    assert diversity(LISTS, labels) == pytest.approx([1 - 1 / 3, 1 - 1 / 3])
    assert diversity(np.array([[3, 4, 5]]), labels).tolist() == [0.0]
    with pytest.raises(ValueError, match="empty"):
        diversity(np.array([[-1, 3]]), labels)


def slow_mmr(items, scores, alike, k, weight):
    chosen = []
    while len(chosen) < k:
        left = [i for i in range(len(items)) if i not in chosen and items[i] >= 0]
        worth = [
            (1 - weight) * scores[i]
            - weight * max([alike[items[i], items[j]] for j in chosen], default=0)
            for i in left
        ]
        chosen.append(left[int(np.argmax(worth))])
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_next_item_is_good_and_unlike_the_others(weight):
    rng = np.random.default_rng(1)
    vectors = np.abs(rng.normal(size=(20, 4)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lists = np.array([rng.permutation(20)[:8] for _ in range(6)])
    lists[0, 3] = -1
    scores = rng.random(lists.shape)
    made = mmr(lists, scores, vectors, 5, weight)
    for row in range(6):
        slow = slow_mmr(lists[row], scores[row], vectors @ vectors.T, 5, weight)
        assert made[row].tolist() == slow
    if weight == 0:
        kept = np.where(lists < 0, -1, scores)
        assert (made == np.argsort(-kept, axis=1)[:, :5]).all()
    for wrong in ({"k": 9, "weight": 0.1}, {"k": 2, "weight": 1.5}):
        with pytest.raises(ValueError, match=r"fit|within"):
            mmr(lists, scores, vectors, **wrong)
