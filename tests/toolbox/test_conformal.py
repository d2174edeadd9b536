"""Conformal corrections: exact ranks, the promised coverage, and what a stream may learn."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.conformal import (
    Adaptive,
    adaptive,
    by_group,
    cqr_scores,
    quantile,
    rank,
)


@pytest.mark.parametrize(
    ("n", "level", "expected"), [(9, 0.8, 8), (4, 0.8, 4), (3, 0.8, 4), (9, 0.7, 7), (99, 0.9, 90)]
)
def test_the_rank_counts_the_new_case(n, level, expected):
    assert rank(n, level) == expected


@pytest.mark.parametrize(("n", "level"), [(0, 0.8), (5, 0.0), (5, 1.0)])
def test_a_rank_of_nothing_is_refused(n, level):
    with pytest.raises(ValueError, match="give one score"):
        rank(n, level)


def test_the_correction_is_a_score_or_infinite_and_never_of_an_unknown_outcome():
    assert quantile([3, 1, 2, 4], 0.8) == 4
    assert quantile([3, 1, 2], 0.8) == np.inf
    with pytest.raises(ValueError, match="1 scores are missing"):
        quantile([1, np.nan], 0.5)


def coverage_of(index: int, n: int = 19, draws: int = 40_000) -> float:
    """Return how often the so-manieth of n sorted scores covers a new one."""
    scores = np.random.default_rng(0).exponential(size=(draws, n + 1))
    return float((scores[:, -1] <= np.sort(scores[:, :-1], axis=1)[:, index]).mean())


def test_the_coverage_is_what_the_rank_promises_and_one_less_misses_it():
    n, level = 19, 0.8
    assert coverage_of(rank(n, level) - 1) == pytest.approx(0.8, abs=0.006)
    assert coverage_of(rank(n, level) - 2) < 0.76


def test_scores_are_negative_inside():
    found = cqr_scores([10, 14, 8], [9, 9, 9], [12, 12, 12])
    assert found.tolist() == [-1, 2, 1]


def test_a_group_of_its_own_has_its_own_coverage_and_a_small_one_that_of_all():
    rng = np.random.default_rng(0)
    groups = np.repeat(["calm", "wild"], 2000)
    scores = rng.exponential(np.where(groups == "wild", 10.0, 1.0))
    new = rng.exponential(np.where(groups == "wild", 10.0, 1.0))
    marginal = new <= quantile(scores, 0.8)
    own = new <= by_group(scores, groups, groups, 0.8)
    for group in ("calm", "wild"):
        assert own[groups == group].mean() == pytest.approx(0.8, abs=0.03)
    assert marginal.mean() == pytest.approx(0.8, abs=0.03)
    assert marginal[groups == "wild"].mean() < 0.7
    assert by_group(scores, groups, ["new"], 0.8)[0] == quantile(scores, 0.8)


# A stream ----------------------------------------------------------------------------


def stream(n: int = 6000, delay: float = 50.0, seed: int = 0):
    """Return a stream whose scores double in the middle; outcomes come later."""
    rng = np.random.default_rng(seed)
    scores = rng.exponential(np.where(np.arange(n) < n // 2, 1.0, 3.0))
    return np.arange(n, dtype=float), np.arange(n) + delay, scores, rng.exponential(size=1000)


def test_it_recovers_its_coverage_after_a_shift_and_a_static_one_does_not():
    asked, known, scores, start = stream()
    found = adaptive(asked, known, scores, Adaptive(start, gamma=0.005, window=500))
    late = asked > 4500
    assert (scores[late] <= found.correction[late]).mean() == pytest.approx(0.8, abs=0.03)
    assert (scores[late] <= quantile(start, 0.8)).mean() < 0.5


def test_it_learns_from_nothing_that_is_not_known():
    asked, known, scores, start = stream(600)
    whole = adaptive(asked, known, scores, Adaptive(start)).correction
    for now in (100.0, 333.0):
        changed = np.where(known > now, 1e6, scores)
        cut = adaptive(asked, known, changed, Adaptive(start)).correction
        np.testing.assert_array_equal(cut[asked <= now], whole[asked <= now])
    at_once = adaptive(asked, asked, scores, Adaptive(start)).correction
    assert (at_once != whole).any(), "the test can fail: a leak changes the corrections"
    never = adaptive(asked, np.full(600, np.nan), scores, Adaptive(start))
    assert len(set(never.correction)) == 1


def test_a_case_by_case_follower_is_the_whole_stream():
    asked, known, scores, start = stream(300)
    whole = adaptive(asked, known, scores, Adaptive(start, window=100))
    one, given = Adaptive(start, window=100), []
    for now in range(300):
        if now >= 50:
            one.learn(scores[now - 50], given[now - 50])
        given.append(one.ask())
    np.testing.assert_array_equal(whole.correction, given)


def test_alpha_moves_by_gamma_and_the_correction_stays_within_what_was_seen():
    one = Adaptive([1.0, 2.0, 3.0, 4.0], level=0.8, gamma=0.1, window=4)
    assert one.ask() == 4.0
    one.learn(9.0, correction=4.0)
    assert one.alpha == pytest.approx(0.2 + 0.1 * (0.2 - 1)) and list(one.recent) == [2, 3, 4, 9]
    for _ in range(5):
        one.learn(9.0, correction=0.0)
    assert one.alpha < 0 and one.ask() == 9.0
    with pytest.raises(ValueError, match="0 scores"):
        Adaptive([])
