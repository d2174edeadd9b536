"""Recommenders that learn from who took what: item-item, EASE and factors of a matrix (iALS).

All of them take a matrix of users by items. Item-item and EASE give a matrix of items by items: a
user's scores are the sum of the rows of what he took. iALS gives a vector for each item;
a user is folded in by what he took.

Examples
--------
Items 0 and 1 are bought together; who has bought 0 is offered 1:

>>> import numpy as np
>>> bought = interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], shape=(3, 3))
>>> again = item_item(bought, shrinkage=1.0)
>>> top(np.array([[1, 0, 0]]) @ again, k=1).tolist()
[[1]]
>>> np.diag(ease(bought, penalty=1.0)).tolist()
[0.0, 0.0, 0.0]

References
----------
Linden, Smith & York (2003), *Amazon.com recommendations: item-to-item collaborative filtering*,
IEEE Internet Computing 7; Steck (2019), *Embarrassingly shallow autoencoders for sparse data*, WWW;
Hu, Koren & Volinsky (2008), *Collaborative filtering for implicit feedback datasets*, ICDM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.linalg import lapack

#: Sweeps of alternating least squares: the loss hardly falls after them.
SWEEPS = 20


def interactions(
    users: ArrayLike, items: ArrayLike, shape: tuple[int, int], weights: ArrayLike | None = None
) -> sp.csr_matrix:
    """Return a matrix of users by items.

    Parameters
    ----------
    users, items : array_like of int, shape (n,)
    shape : tuple of int
        Numbers of users and of items.
    weights : array_like, shape (n,), optional
        Those of a pair that is repeated are added; without weights a pair counts once.

    Returns
    -------
    csr_matrix of float64, shape ``shape``

    Raises
    ------
    ValueError
        If a number is outside of the shape, or a weight is not above zero.
    """
    users, items = np.asarray(users, int), np.asarray(items, int)
    for what, numbers, most in (("user", users, shape[0]), ("item", items, shape[1])):
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= most):
            raise ValueError(f"a {what} number is outside of 0 … {most - 1}.")
    values = np.ones(len(users)) if weights is None else np.asarray(weights, float)
    if not (values > 0).all():
        raise ValueError("a weight is not above zero: leave such rows out.")
    made = sp.csr_matrix((values, (users, items)), shape=shape)
    made.sum_duplicates()
    if weights is None:
        made.data[:] = 1.0
    return made


def top(scores: ArrayLike, k: int, without: sp.csr_matrix | None = None) -> np.ndarray:
    """Return the k best items of each row; of equal ones those with the lower number.

    Parameters
    ----------
    scores : array_like, shape (n, items)
        Not a number and minus infinity: not to be shown.
    k : int
    without : csr_matrix, shape (n, items), optional
        What the user has already; it is left out.

    Returns
    -------
    ndarray of int, shape (n, k)
        -1 where fewer than k are left.

    Raises
    ------
    ValueError
        If k is not within 1 and the number of items.
    """
    scores = np.array(scores, float)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k is {k} and there are {scores.shape[1]} items.")
    scores[np.isnan(scores)] = -np.inf
    if without is not None:
        scores[without.nonzero()] = -np.inf
    if k < scores.shape[1]:
        # Equal scores at the edge are decided by number, whatever the partition does.
        edge = -np.partition(-scores, k - 1, axis=1)[:, [k - 1]]
        above, level = scores > edge, scores == edge
        room = k - above.sum(axis=1, keepdims=True)
        kept = above | (level & (np.cumsum(level, axis=1) <= room))
        picked = np.nonzero(kept)[1].reshape(len(scores), k)
    else:
        picked = np.tile(np.arange(k), (len(scores), 1))
    own = np.take_along_axis(scores, picked, axis=1)
    order = np.argsort(-own, axis=1, kind="stable")
    own, picked = (np.take_along_axis(a, order, axis=1) for a in (own, picked))
    return np.where(np.isfinite(own), picked, -1)


# Items by items --------------------------------------------------------------------------


def item_item(
    taken: sp.csr_matrix, shrinkage: float = 10.0, neighbours: int | None = None
) -> np.ndarray:
    """Return how alike items are by who took both: the cosine, shrunk where few did.

    Parameters
    ----------
    taken : csr_matrix, shape (users, items)
    shrinkage : float
        ``together / (sqrt(n_i n_j) + shrinkage)``: pairs of rare items are held back.
    neighbours : int, optional
        Of each item only so many are kept.

    Returns
    -------
    ndarray, shape (items, items)
        Symmetric if all neighbours are kept; zero on its diagonal.

    Raises
    ------
    ValueError
        If the shrinkage is negative, or zero while an item was never taken.
    """
    together = np.asarray((taken.T @ taken).todense(), float)
    norm = np.sqrt(np.diag(together))
    if shrinkage < 0 or (shrinkage == 0 and (norm == 0).any()):
        raise ValueError(f"a shrinkage of {shrinkage}: it must be above zero.")
    made = together / (np.outer(norm, norm) + shrinkage)
    np.fill_diagonal(made, 0.0)
    if neighbours is None:
        return made
    kept, best = np.zeros_like(made), top(made, neighbours)
    rows = np.arange(len(made))[:, None]
    kept[rows, best] = made[rows, best]
    return kept


def ease(taken: sp.csr_matrix, penalty: float) -> np.ndarray:
    """Return the weights of EASE: the ridge regression of each item on all others, closed form.

    With ``P = inv(X'X + penalty I)`` the weights are ``-P[i, j] / P[j, j]`` off the diagonal, and
    zero on it: no item recommends itself.

    Parameters
    ----------
    taken : csr_matrix, shape (users, items)
    penalty : float
        Above zero.

    Returns
    -------
    ndarray of float64, shape (items, items)
        A user's scores are ``x @ weights``. Memory is that of two such matrices, time grows with
        the third power of the items (5,000 items: a few seconds on one core).

    Raises
    ------
    ValueError
        If the penalty is not above zero.
    """
    if not penalty > 0:
        raise ValueError(f"a penalty of {penalty}: it must be above zero, or nothing is unique.")
    gram = np.asfortranarray((taken.T @ taken).toarray(), float)
    gram[np.diag_indices_from(gram)] += penalty
    factor, fault = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    inverse, again = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if fault or again:
        raise ValueError("the matrix cannot be inverted: are there missing numbers in it?")
    # The routine fills the lower half; the matrix is symmetric.
    upper = np.triu_indices_from(inverse, 1)
    inverse[upper] = inverse.T[upper]
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return np.ascontiguousarray(weights)


# Factors -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factors:
    """Vectors of items; those of users are folded in, for a batch and online alike.

    The score of a pair is the dot product of its vectors.

    Attributes
    ----------
    items : ndarray of float32, shape (items, d)
    regularisation, confidence : float
        With which they were fitted.
    """

    items: np.ndarray
    regularisation: float
    confidence: float

    def fold_in(self, taken: sp.csr_matrix) -> np.ndarray:
        """Return vectors of users by what they took, with the items' vectors as they are.

        Parameters
        ----------
        taken : csr_matrix, shape (n, items)

        Returns
        -------
        ndarray, shape (n, d)
            Zero for somebody who took nothing.
        """
        items = self.items.astype(float)
        base = items.T @ items + self.regularisation * np.eye(items.shape[1])
        made = np.zeros((taken.shape[0], items.shape[1]))
        for row in range(taken.shape[0]):
            own = slice(taken.indptr[row], taken.indptr[row + 1])
            vectors = items[taken.indices[own]]
            if not len(vectors):
                continue
            sure = 1 + self.confidence * taken.data[own]
            normal = base + (vectors.T * (sure - 1)) @ vectors
            made[row] = np.linalg.solve(normal, vectors.T @ sure)
        return made


def ials(
    taken: sp.csr_matrix,
    factors: int = 32,
    regularisation: float = 1.0,
    confidence: float = 10.0,
    sweeps: int = SWEEPS,
    seed: int = 0,
) -> Factors:
    """Fit vectors to all pairs: what was taken with a high confidence, the rest with a low one.

    Parameters
    ----------
    taken : csr_matrix, shape (users, items)
    factors : int
        Length of a vector.
    regularisation : float
    confidence : float
        A pair of weight w counts ``1 + confidence * w``, one that was not taken 1.
    sweeps : int
        Over users and items.
    seed : int
        Of the first vectors. One thread works, so that the same seed gives the same result.

    Returns
    -------
    Factors

    Raises
    ------
    ValueError
        If nothing was taken, or a setting is not above zero.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    if not taken.count_nonzero() or min(factors, regularisation, confidence, sweeps) <= 0:
        raise ValueError("iALS needs a matrix with entries, and settings above zero.")
    # The package takes the confidence itself as the value of an entry.
    sure = taken.astype(np.float32)
    sure.data = (1 + confidence * taken.data).astype(np.float32)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularisation,
            alpha=1.0,
            iterations=sweeps,
            random_state=seed,
            num_threads=1,
            use_cg=False,
        )
        model.fit(sure, show_progress=False)
    return Factors(np.array(model.item_factors), regularisation, confidence)
