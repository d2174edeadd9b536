"""Nearest neighbours among the vectors that a user may see: before, after or inside the index.

A mask says which rows a user may see. Five ways return the k nearest of them:

* **pre**: multiply the query with the visible rows alone. Exact; the time grows with their number.
* **all**: multiply the query with all rows and drop the hidden ones. Exact, in one time for all.
* **post**: ask a graph (HNSW) for k' rows, as many as hold k visible ones if those lie anywhere,
  drop the hidden ones, and double k' until k are left, the graph has no more, or k' is too wide.
* **graph**: walk along the graph with the mask in hand. Hidden rows are walked over and not kept.
* **cells**: look into the cells nearest to the query (IVF) and compare the visible rows there.

The last two hand the mask to faiss as an ``IDSelector``. An index that forgets its selector has
happened (faiss issues 5504 and 5584), so :meth:`Filtered.search` looks every row up in the mask
before it leaves. A way that returns fewer rows than there are has missed some: that can be seen
without knowing the answer, and :class:`Router` then multiplies.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> index = Filtered(rng.normal(size=(500, 16)))
>>> visible = Visible.of(np.arange(500) % 50 == 0)
>>> found = index.search(rng.normal(size=16), visible, k=3)
>>> found.way, len(found.rows), bool(visible.mask[found.rows].all())
('pre', 3, True)
>>> Router(rows=2_000, way="graph", effort=256).plan(visible), Router(rows=5).plan(visible)
(('pre', 0), ('graph', 128))

References
----------
Douze et al. (2024), *The Faiss library*; Patel, Kraft, Guestrin & Zaharia (2024), *ACORN:
Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured Data*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from casebook.retrieval.ann import unit

WAYS = ("pre", "all", "post", "graph", "cells")
#: What a way does if nothing is asked of it; see :meth:`Filtered.search`.
EFFORTS = {"pre": 1, "all": 1, "post": 1, "graph": 128, "cells": 16}
#: Visible rows that are gathered at a time: so few stay in the processor's cache.
PIECE = 256
#: Up to so many rows → share of visible ones from which on all are multiplied, which is faster than
#: to gather so many. From :func:`.filtered_study.gathering`, which measures it for each size.
GATHER = {2_000: 0.3, math.inf: 0.45}


class Unfiltered(RuntimeError):
    """An index returned a row that the mask hides. Nothing of the result is handed on."""


@dataclass(frozen=True, eq=False)
class Visible:
    """What one user may see: made once for each state of the permissions, used by many searches.

    Attributes
    ----------
    mask : ndarray of bool, shape (n,)
    rows : ndarray of int, shape (visible,)
    """

    mask: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Visible:
        """Return it from a mask, which must not be changed afterwards.

        Raises
        ------
        ValueError
            If it is not one truth value a row.
        """
        mask = np.asarray(mask)
        if mask.ndim != 1 or mask.dtype != bool:
            raise ValueError(f"a mask of {mask.dtype}, shape {mask.shape}: give one bool a row.")
        return cls(mask, np.flatnonzero(mask))

    @property
    def share(self) -> float:
        """The share of rows that may be seen; 0 where there are none."""
        return len(self.rows) / len(self.mask) if len(self.mask) else 0.0

    @cached_property
    def selector(self) -> Any:
        """The mask as faiss reads it: one bit a row, the lowest bit first."""
        import faiss

        return faiss.IDSelectorBitmap(np.packbits(self.mask, bitorder="little"))


@dataclass(frozen=True, eq=False)
class Found:
    """What a search returned.

    Attributes
    ----------
    rows : ndarray of int
        Nearest first; at most k.
    scores : ndarray of float32
        Cosines.
    way : str
        Of :data:`WAYS`; the one that gave the result.
    effort : int
        Rows multiplied (pre, all), the last k' (post), neighbours in view (graph), cells (cells).
    """

    rows: np.ndarray
    scores: np.ndarray
    way: str
    effort: int


class Filtered:
    """Unit vectors with a graph and cells over them, searched under a mask.

    Parameters
    ----------
    vectors : array_like, shape (n, d)
        Row i is item i. They are brought to length 1.
    links, build : int
        Of the graph; see :class:`~casebook.retrieval.ann.Settings`.
    cells : int, optional
        Of IVF; by default the square root of the number of rows when they are first needed.
    widest : int
        The most rows that **post** asks for.

    Notes
    -----
    Graph and cells are built when they are first asked for, with one thread. :meth:`add` extends
    what is built.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        links: int = 32,
        build: int = 80,
        cells: int | None = None,
        widest: int = 16_384,
    ) -> None:
        self.vectors = unit(vectors)
        self._links, self._build, self._widest = links, build, widest
        self._cells = cells
        self._built: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    def add(self, vectors: np.ndarray) -> range:
        """Add vectors and return their rows.

        Raises
        ------
        ValueError
            If they have another length.
        """
        vectors = unit(vectors)
        if vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"{vectors.shape[1]} numbers; the index has {self.vectors.shape[1]}.")
        first = len(self)
        self.vectors = np.concatenate([self.vectors, vectors])
        for index in self._built.values():
            index.add(vectors)
        return range(first, len(self))

    def search(
        self,
        query: np.ndarray,
        visible: Visible,
        k: int,
        way: str = "pre",
        effort: int | None = None,
    ) -> Found:
        """Return the nearest visible rows.

        Parameters
        ----------
        query : array_like, shape (d,)
        visible : Visible
        k : int
        way : str
            Of :data:`WAYS`.
        effort : int, optional
            The first k' in multiples of k over the visible share (post), neighbours in view
            (graph), cells looked into (cells); by default as in :data:`EFFORTS`.

        Raises
        ------
        ValueError
            If mask, query, k or way do not fit.
        Unfiltered
            If the index returned a hidden row.
        """
        if len(visible.mask) != len(self):
            raise ValueError(f"a mask of {len(visible.mask)} rows for {len(self)} vectors.")
        effort = EFFORTS.get(way, 1) if effort is None else effort
        if way not in WAYS or k < 1 or effort < 1:
            raise ValueError(f"way {way!r}, k {k}, effort {effort}: {', '.join(WAYS)}; from 1.")
        query = unit(np.reshape(query, (1, -1)))
        if query.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"a query of {query.shape[1]} numbers, not {self.vectors.shape[1]}.")
        if not len(visible.rows):
            return Found(np.empty(0, np.int64), np.empty(0, np.float32), way, 0)
        if way in ("pre", "all"):
            return self._multiplied(query[0], visible, k, way)
        if way == "post":
            return _checked(self._dropped(query, visible, k, effort), visible)
        scores, rows = self._index(way).search(query, k, params=_asked(way, effort, visible))
        real = rows[0] >= 0
        return _checked(Found(rows[0][real], scores[0][real], way, effort), visible)

    def _multiplied(self, query: np.ndarray, visible: Visible, k: int, way: str) -> Found:
        """Return the exact result."""
        few = way == "pre" and visible.share < most_gathered(len(self))
        if few:
            scores = gathered(self.vectors, visible.rows, query)
        else:
            scores = (self.vectors @ query)[visible.rows]
        k = min(k, len(scores))
        best = np.argpartition(-scores, k - 1)[:k]
        best = best[np.lexsort((best, -scores[best]))]
        read = len(visible.rows) if few else len(self)
        return Found(visible.rows[best], scores[best], way, read)

    def _dropped(self, query: np.ndarray, visible: Visible, k: int, times: int) -> Found:
        """Ask for more and more rows, without a filter, until k visible ones are among them."""
        most, wanted = min(self._widest, len(self)), min(k, len(visible.rows))
        wide = min(math.ceil(times * k / visible.share), most)
        while True:
            scores, rows = self._index("graph").search(query, wide, params=_asked("post", wide))
            keep = (rows[0] >= 0) & visible.mask[rows[0]]
            if keep.sum() >= wanted or wide == most or rows[0][-1] < 0:
                return Found(rows[0][keep][:k], scores[0][keep][:k], "post", wide)
            wide = min(2 * wide, most)

    def _index(self, way: str) -> Any:
        """Return the graph or the cells; one thread builds, so that they are the same again."""
        import faiss

        if way not in self._built:
            faiss.omp_set_num_threads(1)
            d, near = self.vectors.shape[1], faiss.METRIC_INNER_PRODUCT
            if way == "graph":
                made = faiss.IndexHNSWFlat(d, self._links, near)
                made.hnsw.efConstruction = self._build
            else:
                coarse = faiss.IndexFlatIP(d)
                cells = self._cells or max(1, round(len(self) ** 0.5))
                made = faiss.IndexIVFFlat(coarse, d, cells, near)
                made.own_fields = True
                coarse.this.disown()
                made.cp.min_points_per_centroid = 1
                made.train(self.vectors)
            made.add(self.vectors)
            self._built[way] = made
        return self._built[way]


def most_gathered(n: int) -> float:
    """Return the share of visible rows up to which they are gathered, of so many rows."""
    return next(share for most, share in GATHER.items() if n <= most)


def gathered(vectors: np.ndarray, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the products of some rows with a query, a piece of them at a time.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    rows : ndarray of int, shape (visible,)
    query : ndarray of float32, shape (d,)

    Returns
    -------
    ndarray of float32, shape (visible,)
    """
    scores = np.empty(len(rows), np.float32)
    held = np.empty((min(PIECE, len(rows)), vectors.shape[1]), np.float32)
    for first in range(0, len(rows), PIECE):
        piece = rows[first : first + PIECE]
        own = held[: len(piece)]
        np.take(vectors, piece, axis=0, out=own, mode="clip")  # mode: fills `out` without a copy
        np.dot(own, query, out=scores[first : first + len(piece)])
    return scores


def _asked(way: str, effort: int, visible: Visible | None = None) -> Any:
    """Return the parameters of a search in faiss."""
    import faiss

    told = {"sel": visible.selector} if visible else {}
    if way == "cells":
        return faiss.SearchParametersIVF(nprobe=effort, **told)
    return faiss.SearchParametersHNSW(efSearch=effort, **told)


def _checked(found: Found, visible: Visible) -> Found:
    """Return it, if the mask shows every row of it."""
    if not visible.mask[found.rows].all():
        raise Unfiltered(f"{found.way} returned rows that the mask hides: nothing is handed on.")
    return found


@dataclass(frozen=True)
class Router:
    """Chooses the way by the number of visible rows, and multiplies where a way falls short.

    Attributes
    ----------
    rows : float
        Up to so many visible rows are multiplied.
    way : str
        For more: of :data:`WAYS`.
    effort : int
        Of that way; see :meth:`Filtered.search`.
    """

    rows: float
    way: str = "graph"
    effort: int = 128

    def plan(self, visible: Visible) -> tuple[str, int]:
        """Return way and effort."""
        if len(visible.rows) <= self.rows or self.way == "pre":
            return "pre", 0
        return self.way, self.effort

    def search(self, index: Filtered, query: np.ndarray, visible: Visible, k: int) -> Found:
        """Search by plan; multiply if fewer rows come back than there are to find."""
        way, effort = self.plan(visible)
        if way != "pre":
            found = index.search(query, visible, k, way, effort)
            if len(found.rows) == min(k, len(visible.rows)):
                return found
        return index.search(query, visible, k)
