"""How good lists are: what they find, how much of the catalogue they show, how alike their items.

Lists are arrays of item numbers, shape (n, k), best first; -1 is an empty place. What is relevant
is a matrix of users by items.

Examples
--------
Two users, five items; each user wants items 0 and 3:

>>> import numpy as np
>>> wanted = relevant([0, 0, 1, 1], [0, 3, 0, 3], shape=(2, 5))
>>> lists = np.array([[0, 1, 3], [1, 2, 4]])
>>> recall_at(lists, wanted, 3).tolist()
[1.0, 0.0]
>>> coverage(lists, items=5), diversity(lists, np.array([0, 0, 1, 1, 1])).round(2).tolist()
(1.0, [0.67, 0.67])

References
----------
Järvelin & Kekäläinen (2002), *Cumulated gain-based evaluation of IR techniques*, ACM TOIS 20;
Carbonell & Goldstein (1998), *The use of MMR, diversity-based reranking for reordering documents
and producing summaries*, SIGIR.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike


def relevant(users: ArrayLike, items: ArrayLike, shape: tuple[int, int]) -> sp.csr_matrix:
    """Return what is relevant to whom as a matrix of ones.

    Parameters
    ----------
    users, items : array_like of int, shape (n,)
        Pairs; one that is repeated counts once.
    shape : tuple of int
        Numbers of users and of items.

    Returns
    -------
    csr_matrix of bool, shape ``shape``
    """
    users, items = np.asarray(users), np.asarray(items)
    made = sp.csr_matrix((np.ones(len(users), bool), (users, items)), shape=shape, dtype=bool)
    made.sum_duplicates()
    return made


def hits(lists: ArrayLike, wanted: sp.csr_matrix, k: int | None = None) -> np.ndarray:
    """Return which places of the lists hold a relevant item.

    Parameters
    ----------
    lists : array_like of int, shape (n, m)
        -1: an empty place.
    wanted : csr_matrix, shape (n, items)
        Row i belongs to list i.
    k : int, optional
        Places that count; all by default.

    Returns
    -------
    ndarray of bool, shape (n, k)

    Raises
    ------
    ValueError
        If shapes differ, k is not within 1 and m, an item is unknown or twice in a list.
    """
    lists = np.asarray(lists)
    if lists.ndim != 2 or len(lists) != wanted.shape[0]:
        raise ValueError(f"lists of shape {lists.shape} for {wanted.shape[0]} users: one for each.")
    k = lists.shape[1] if k is None else k
    if not 1 <= k <= lists.shape[1]:
        raise ValueError(f"k is {k} and a list has {lists.shape[1]} places.")
    if lists.size and (lists.min() < -1 or lists.max() >= wanted.shape[1]):
        raise ValueError(f"an item number is outside of -1 … {wanted.shape[1] - 1}.")
    lists = lists[:, :k]
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("an item stands twice in a list: it would count twice.")
    rows = np.arange(len(lists))[:, None]
    found = np.asarray(wanted[rows, np.maximum(lists, 0)].todense()).reshape(lists.shape)
    return found.astype(bool) & (lists >= 0)


def _counts(wanted: sp.csr_matrix) -> np.ndarray:
    """Return how many items are relevant to each user; nobody may want nothing."""
    made = np.asarray((wanted != 0).sum(axis=1)).ravel()
    if (made == 0).any():
        raise ValueError(
            f"nothing is relevant to {int((made == 0).sum())} of the users: leave them out."
        )
    return made


def recall_at(lists: ArrayLike, wanted: sp.csr_matrix, k: int) -> np.ndarray:
    """Return the share of what is relevant that stands in the first k places.

    A user with more than k relevant items can reach 1 all the same: the share is that of what k
    places could hold.

    Parameters
    ----------
    lists, wanted, k
        As of :func:`hits`.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        As :func:`hits`, or if nothing is relevant to a user.
    """
    found = hits(lists, wanted, k).sum(axis=1)
    return found / np.minimum(_counts(wanted), k)


def precision_at(lists: ArrayLike, wanted: sp.csr_matrix, k: int) -> np.ndarray:
    """Return the share of the first k places that hold a relevant item.

    Parameters
    ----------
    lists, wanted, k
        As of :func:`hits`.

    Returns
    -------
    ndarray, shape (n,)
    """
    return hits(lists, wanted, k).mean(axis=1)


def ndcg_at(lists: ArrayLike, wanted: sp.csr_matrix, k: int) -> np.ndarray:
    """Return the discounted gain of the first k places over the best possible one.

    Every relevant item has gain 1, place r the discount log2(r + 1).

    Parameters
    ----------
    lists, wanted, k
        As of :func:`hits`.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        As :func:`recall_at`.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(discount)[np.minimum(_counts(wanted), k) - 1]
    return hits(lists, wanted, k) @ discount / best


def shown(lists: ArrayLike, items: int) -> np.ndarray:
    """Return how often each item is shown, shape (items,)."""
    lists = np.asarray(lists).ravel()
    return np.bincount(lists[lists >= 0], minlength=items)


def coverage(lists: ArrayLike, items: int) -> float:
    """Return the share of the catalogue that stands in a list at least.

    Parameters
    ----------
    lists : array_like of int
    items : int
        Size of the catalogue.
    """
    return float((shown(lists, items) > 0).mean())


def gini(counts: ArrayLike) -> float:
    """Return the Gini coefficient: 0 where all items are shown equally often, near 1 for one item.

    Parameters
    ----------
    counts : array_like, shape (items,)
        Not below zero; the items that are never shown belong to them.

    Raises
    ------
    ValueError
        If a count is negative or all are zero.

    Examples
    --------
    >>> gini([5, 5, 5, 5]), gini([0, 0, 0, 20])
    (0.0, 0.75)
    """
    counts = np.sort(np.asarray(counts, float))
    if not len(counts) or counts[0] < 0 or counts[-1] == 0:
        raise ValueError("counts must not be negative, and one must be above zero.")
    n = len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * counts.sum()))


def _like(own: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Return how like one item of a list its items are, shape (n, m)."""
    if own.ndim == 2:
        return (own == one[:, None]).astype(float)
    return np.einsum("nmd,nd->nm", own, one)


def diversity(lists: ArrayLike, traits: ArrayLike) -> np.ndarray:
    """Return the mean distance of two items of a list: one less how alike they are.

    Parameters
    ----------
    lists : array_like of int, shape (n, k)
        Without empty places, two at least.
    traits : array_like, shape (items,) or (items, d)
        A label (alike: the same label), or a unit vector (alike: the cosine).

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If a list has an empty place, or one place alone.
    """
    lists = np.asarray(lists)
    k = lists.shape[1]
    if k < 2 or (lists < 0).any():
        raise ValueError("a list needs two items at least, and no empty place.")
    own = np.asarray(traits)[lists]
    alike = sum(_like(own, own[:, place]).sum(axis=1) for place in range(k))
    itself = sum(_like(own[:, [place]], own[:, place])[:, 0] for place in range(k))
    return 1 - (alike - itself) / (k * (k - 1))


def mmr(lists: ArrayLike, scores: ArrayLike, traits: ArrayLike, k: int, weight: float):
    """Choose k items one after the other: good, and unlike those that were chosen before.

    The next item has the largest ``(1 - weight) * score - weight * alike``, where ``alike`` is that
    of the chosen item which is most like it (maximal marginal relevance).

    Parameters
    ----------
    lists : array_like of int, shape (n, m)
        Candidates, m of at least k; -1: an empty place.
    scores : array_like, shape (n, m)
        Larger is better. On the scale of ``alike``: between 0 and 1.
    traits : array_like, shape (items,) or (items, d)
        As of :func:`diversity`.
    k : int
    weight : float
        0: by score alone.

    Returns
    -------
    ndarray of int, shape (n, k)
        Places in ``lists``, in the order of choice.

    Raises
    ------
    ValueError
        If shapes differ, k is too large or the weight is not within 0 and 1.

    Examples
    --------
    >>> mmr([[0, 1, 2]], [[0.9, 0.8, 0.7]], np.array([0, 0, 1]), k=2, weight=0.5).tolist()
    [[0, 2]]
    """
    lists, scores = np.asarray(lists), np.asarray(scores, float)
    if lists.shape != scores.shape or lists.ndim != 2 or not 1 <= k <= lists.shape[1]:
        raise ValueError(f"{lists.shape} items, {scores.shape} scores, k = {k}: they do not fit.")
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight is {weight}: it must be within 0 and 1.")
    own, rows = np.asarray(traits)[np.maximum(lists, 0)], np.arange(len(lists))
    left = np.where(lists >= 0, (1 - weight) * scores, -np.inf)
    nearest, chosen = np.zeros(lists.shape), np.empty((len(lists), k), int)
    for place in range(k):
        best = np.argmax(left - weight * nearest, axis=1)
        chosen[:, place] = best
        left[rows, best] = -np.inf
        nearest = np.maximum(nearest, _like(own, own[rows, best]))
    return chosen
