"""Item-item, EASE and iALS: against slow references and what defines them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from casebook.retrieval.factors import ease, ials, interactions, item_item, top


@pytest.fixture(scope="module")
def taken():
    """Two groups of users who take what their group likes, and some by chance."""
    rng = np.random.default_rng(3)
    group = rng.integers(2, size=150)
    likes = np.where(np.arange(30) < 15, 0, 1)
    chance = np.where(group[:, None] == likes, 0.35, 0.04)
    return interactions(*np.nonzero(rng.random(chance.shape) < chance), shape=chance.shape)


def slow_ease(x: np.ndarray, penalty: float) -> np.ndarray:
    """Fit the ridge regression of each item on all others, one after the other."""
    items = x.shape[1]
    made = np.zeros((items, items))
    for j in range(items):
        rest = np.arange(items) != j
        own = x[:, rest]
        normal = own.T @ own + penalty * np.eye(items - 1)
        made[rest, j] = np.linalg.solve(normal, own.T @ x[:, j])
    return made


def assert_optimal(x: np.ndarray, weights: np.ndarray, penalty: float) -> None:
    """The gradient of the penalised loss is zero off the diagonal, and the diagonal is zero."""
    gradient = x.T @ (x @ weights - x) + penalty * weights
    np.fill_diagonal(gradient, 0)  # there the multiplier of the constraint stands against it
    assert np.abs(gradient).max() < 1e-8
    assert (np.diag(weights) == 0).all()


@pytest.mark.parametrize("penalty", [0.5, 20.0])
def test_ease_is_the_ridge_regression_of_each_item_on_the_others(taken, penalty):
    weights, x = ease(taken, penalty), taken.toarray()
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, slow_ease(x, penalty), atol=1e-10)
    assert_optimal(x, weights, penalty)


def test_weights_that_are_not_optimal_are_found(taken):
    weights, x = ease(taken, 5.0), taken.toarray()
    for wrong in (weights * 1.01, weights.T, weights + 0.01 * np.eye(len(weights))):
        with pytest.raises(AssertionError):
            assert_optimal(x, wrong, 5.0)


def test_single_precision_would_do_here_and_loses_where_a_few_items_are_in_every_basket(taken):
    x = taken.toarray()
    x = np.hstack([np.tile(x[:, :1], (40, 5)), np.tile(x, (40, 1))])  # six copies of one item
    gram = x.T @ x
    half = np.linalg.inv(gram.astype(np.float32) + np.float32(1e-3) * np.eye(len(gram), dtype="f4"))
    half = half / -np.diag(half)
    np.fill_diagonal(half, 0)
    right = ease(sp.csr_matrix(x), 1e-3)
    assert np.abs(right - slow_ease(x, 1e-3)).max() < 1e-4
    assert np.abs(half - right).max() > 100 * np.abs(right - slow_ease(x, 1e-3)).max()


def test_item_item_by_hand(taken):
    made, x = item_item(taken, 3.0), taken.toarray()
    both = x[:, 2] @ x[:, 7]
    assert made[2, 7] == pytest.approx(both / (np.sqrt(x[:, 2].sum() * x[:, 7].sum()) + 3.0))
    assert (made == made.T).all() and (np.diag(made) == 0).all()
    few = item_item(taken, 3.0, neighbours=4)
    assert ((few > 0).sum(axis=1) == 4).all()
    assert (few[few > 0] == made[few > 0]).all()
    assert few[0].sum() == pytest.approx(np.sort(made[0])[-4:].sum())


def test_all_three_find_the_group(taken):
    x, groups = taken.toarray(), np.where(np.arange(30) < 15, 0, 1)
    mine = (x @ np.eye(2)[groups]).argmax(axis=1)
    vectors = ials(taken, factors=4, confidence=5.0)
    for scores in (x @ item_item(taken), x @ ease(taken, 10.0), vectors.fold_in(taken)
                   @ vectors.items.T):  # fmt: skip
        best = top(scores, 5, without=taken)
        assert (groups[best] == mine[:, None]).mean() > 0.85
        assert not x[np.arange(len(x))[:, None], best].any()


def test_the_same_seed_gives_the_same_factors_and_another_one_others(taken):
    one, two, other = (ials(taken, 4, seed=seed).items for seed in (0, 0, 1))
    assert (one == two).all() and (one != other).any()


def test_a_user_is_folded_in_where_the_loss_is_least(taken):
    found = ials(taken, factors=4, regularisation=2.0, confidence=5.0)
    x, y = taken.toarray(), found.items.astype(float)
    users = found.fold_in(taken)
    sure = 1 + 5.0 * x
    gradient = ((users @ y.T - x) * sure) @ y + 2.0 * users
    assert np.abs(gradient).max() < 1e-8
    # The items' vectors are as good: their gradient is small against that of other vectors.
    items = ((users @ y.T - x) * sure).T @ users + 2.0 * y
    assert np.abs(items).max() < 0.05 * np.abs(((users @ (0.5 * y.T) - x) * sure).T @ users).max()
    nobody = found.fold_in(sp.csr_matrix((1, 30)))
    assert not nobody.any()


def test_equal_scores_are_ordered_by_number_and_what_is_missing_is_left_out():
    scores = np.array([[1.0, 2.0, 2.0, np.nan, 2.0], [0.0, -np.inf, -np.inf, -np.inf, 5.0]])
    assert top(scores, 2).tolist() == [[1, 2], [4, 0]]
    assert top(scores, 3).tolist() == [[1, 2, 4], [4, 0, -1]]
    assert top(scores, 5).tolist() == [[1, 2, 4, 0, -1], [4, 0, -1, -1, -1]]
    without = interactions([0], [1], (2, 5))
    assert top(scores, 2, without).tolist() == [[2, 4], [4, 0]]
    rng = np.random.default_rng(0)
    many = rng.integers(6, size=(50, 40)).astype(float)
    assert (top(many, 9) == np.argsort(-many, axis=1, kind="stable")[:, :9]).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: ease(x, 0.0), "penalty"),
        (lambda x: item_item(x, -1.0), "shrinkage"),
        (lambda x: ials(x, factors=0), "above zero"),
        (lambda x: ials(x * 0, factors=2), "with entries"),
        (lambda x: top(x.toarray(), 31), "31"),
        (lambda x: interactions([0], [30], x.shape), "item number"),
        (lambda x: interactions([-1], [3], x.shape), "user number"),
        (lambda x: interactions([1], [3], x.shape, [0.0]), "weight"),
    ],
)
def test_what_does_not_fit_is_refused(taken, call, says):
    with pytest.raises(ValueError, match=says):
        call(taken)


def test_a_pair_counts_once_or_by_its_weights():
    once = interactions([0, 0], [1, 1], (1, 2))
    twice = interactions([0, 0], [1, 1], (1, 2), [1.0, 2.5])
    assert once.toarray().tolist() == [[0, 1]] and twice.toarray().tolist() == [[0, 3.5]]
