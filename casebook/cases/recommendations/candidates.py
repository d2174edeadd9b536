"""Candidates: four sources propose items for a page or a mail, and their union is ranked.

What the night fits is here too: item–item similarities and EASE, on who had opened, clicked or
bought what before a week began.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from casebook.cases.recommendations.nights import Known
from casebook.retrieval.factors import ease, item_item, top

#: Items that each source proposes.
SOURCES = {"ease": 80, "together": 60, "category": 60, "trending": 60}
#: As sources and as features; of the first trials in the worlds of the choice. A ranker that reads
#: both weighs the page by itself.
PENALTY, SHRINKAGE = 100.0, 1.0


@dataclass(frozen=True)
class Taste:
    """Who took what, and the models of items by items that are fitted to it.

    Attributes
    ----------
    taken : csr_matrix, shape (users, items)
    penalty, shrinkage : float
        Of EASE and of item–item.
    """

    taken: sp.csr_matrix
    penalty: float = PENALTY
    shrinkage: float = SHRINKAGE

    @cached_property
    def ease(self) -> np.ndarray:
        """Weights of EASE, shape (items, items)."""
        return ease(self.taken, self.penalty)

    @cached_property
    def together(self) -> np.ndarray:
        """Item–item similarities, shape (items, items)."""
        return item_item(self.taken, self.shrinkage)


def history(
    own: sp.csr_matrix, users: np.ndarray, pages: np.ndarray, weight: float
) -> sp.csr_matrix:
    """Return what users have taken, the item of their page with another weight."""
    row = np.flatnonzero(pages >= 0)
    page = sp.csr_matrix((np.full(len(row), weight), (row, pages[row])), (len(users), own.shape[1]))
    return (own[users] + page).tocsr()


def allowed(scores: np.ndarray, stock: np.ndarray, pages: np.ndarray) -> np.ndarray:
    """Return scores without what is sold out and without the page's own item."""
    made = np.where(stock, scores, -np.inf)
    row = np.flatnonzero(pages >= 0)
    made[row, pages[row]] = -np.inf
    return made


def scored(
    night: Known, taste: Taste, users: np.ndarray, pages: np.ndarray
) -> dict[str, np.ndarray]:
    """Return EASE and item–item scores of all items, each of shape (n, items).

    Item–item asks for the page's item; a mail has none, there the user's whole history asks.
    """
    own = night.taken
    near = taste.together[np.maximum(pages, 0)]
    mail = pages < 0
    near[mail] = own[users[mail]] @ taste.together
    return {"ease": history(own, users, pages, 1.0) @ taste.ease, "together": near}


def proposed(
    night: Known,
    scores: dict[str, np.ndarray],
    users: np.ndarray,
    pages: np.ndarray,
    stock: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return what each source proposes.

    Parameters
    ----------
    night : Known
    scores : dict of str to ndarray, shape (n, items)
        Of :func:`scored`.
    users, pages : ndarray of int, shape (n,)
    stock : ndarray of bool, shape (items,)

    Returns
    -------
    dict of str to ndarray of int, shape (n, k)
        By :data:`SOURCES`; −1: no further item.
    """
    kind = night.goods.category
    asked = np.where(pages >= 0, kind[np.maximum(pages, 0)], night.last[users])
    good = night.rate + 0.5 * night.popular
    inside = np.where(kind == asked[:, None], good, -np.inf)
    # The three categories that the user likes, or needs just now.
    like = night.taste[users] + night.need[users]
    fair = np.argsort(-like, axis=1, kind="stable")[:, :3]
    own = (kind[None, None] == fair[:, :, None]).any(axis=1)
    late = np.where(own, night.trend + night.novel + good, -np.inf)
    every = {"ease": scores["ease"], "together": scores["together"]}
    every |= {"category": inside, "trending": late}
    return {
        name: top(allowed(every[name], stock, pages), min(k, len(kind)))
        for name, k in SOURCES.items()
    }


def merged(lists: dict[str, np.ndarray], least: int = 1) -> np.ndarray:
    """Return the union of what the sources propose, shape (n, m); −1: no further item.

    m is as large as the longest union, and ``least`` at least.
    """
    both = np.sort(np.concatenate([*lists.values()], axis=1), axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
    both = -np.sort(-both, axis=1)
    return both[:, : max(least, int((both >= 0).sum(axis=1).max(initial=0)))]
