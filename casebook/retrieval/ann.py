"""Approximate nearest neighbours: what recall, latency and memory an index trades, measured.

Three kinds of index hold the same vectors. *Flat* compares a query with all of them. *HNSW* walks
along a graph of neighbours. *IVF-PQ* looks into a few cells and compares codes in place of vectors.
The bytes of an index are those of its vectors or codes, its numbers of items, its links, its
centroids and its codebooks: :func:`arithmetic` adds them up, :meth:`Index.bytes` measures them.

Examples
--------
Ten million vectors of 128 single-precision numbers, flat and as codes of 32 bytes:

>>> flat = arithmetic(Settings("flat"), n=10_000_000, dimensions=128)
>>> codes = arithmetic(Settings("ivfpq", cells=4096, code=32), n=10_000_000, dimensions=128)
>>> flat["total"] / 1e9, round(codes["total"] / 1e9, 2)
(5.12, 0.4)

References
----------
Malkov & Yashunin (2020), *Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs*, IEEE TPAMI 42; Jégou, Douze & Schmid (2011), *Product
quantization for nearest neighbor search*, IEEE TPAMI 33; Douze et al. (2024), *The Faiss library*.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

KINDS = ("flat", "hnsw", "ivfpq")


@dataclass(frozen=True)
class Settings:
    """How an index is built and searched.

    Attributes
    ----------
    kind : str
        Of :data:`KINDS`.
    links, build, search : int
        HNSW: links of a node (twice as many on the lowest level), and how many neighbours are kept
        in view while the graph is built and while it is searched.
    cells, probes, code : int
        IVF-PQ: cells, those that a query looks into, and bytes of a code (a divisor of the
        dimensions).
    rescored : int
        So many times k are found by codes and compared again by their vectors, which then stay in
        reach (0: no).
    """

    kind: str
    links: int = 32
    build: int = 80
    search: int = 128
    cells: int = 64
    probes: int = 16
    code: int = 16
    rescored: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no index {self.kind!r}, but {', '.join(KINDS)}.")

    @property
    def label(self) -> str:
        """What a table calls it."""
        named = {
            "flat": "flat",
            "hnsw": f"HNSW, {self.links} links, {self.search} in view",
            "ivfpq": f"IVF-PQ, {self.code} bytes, {self.probes} of {self.cells} cells",
        }[self.kind]
        return f"{named}, {self.rescored} k rescored" if self.rescored else named


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1 in single precision; those of length 0 stay as they are.

    Parameters
    ----------
    vectors : array_like, shape (n, d)

    Raises
    ------
    ValueError
        If a number is missing or infinite: it would be near to nothing and to everything.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError("vectors must be a table of finite numbers.")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(length > 0, length, 1))


class Index:
    """An index of unit vectors; near is what has a large cosine.

    Parameters
    ----------
    vectors : array_like, shape (n, d)
        Row i is item i. They are brought to length 1.
    settings : Settings
        The cells of IVF-PQ need about 40 vectors each to be found well.

    Raises
    ------
    ValueError
        If there are fewer vectors than cells or codewords, or the bytes of a code do not divide
        the dimensions.
    """

    def __init__(self, vectors: np.ndarray, settings: Settings) -> None:
        self.settings, self._vectors = settings, unit(vectors)
        n, d = self._vectors.shape
        if settings.kind == "ivfpq" and (n < max(settings.cells, 256) or d % settings.code):
            raise ValueError(
                f"{n} vectors of {d} numbers for {settings.cells} cells, 256 codewords and codes "
                f"of {settings.code} bytes: take fewer cells, or bytes that divide {d}."
            )
        self._faiss = _built(self._vectors, settings)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest items and their scores.

        Parameters
        ----------
        queries : array_like, shape (m, d)
        k : int
            At most the number of vectors.

        Returns
        -------
        items : ndarray of int, shape (m, k)
            Nearest first; -1 where too few were found.
        scores : ndarray of float32, shape (m, k)

        Raises
        ------
        ValueError
            If k or the dimensions do not fit.
        """
        queries = unit(queries)
        if not 1 <= k <= len(self._vectors) or queries.shape[1] != self._vectors.shape[1]:
            raise ValueError(
                f"k = {k}, queries of {queries.shape[1]} numbers; the index holds "
                f"{len(self._vectors)} vectors of {self._vectors.shape[1]}."
            )
        if not self.settings.rescored:
            scores, items = self._faiss.search(queries, k)
            return items, scores
        wide = min(k * self.settings.rescored, len(self._vectors))
        found = self._faiss.search(queries, wide)[1]
        scores = np.einsum("md,mnd->mn", queries, self._vectors[np.maximum(found, 0)])
        scores[found < 0] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return tuple(np.take_along_axis(a, best, axis=1) for a in (found, scores))

    @cached_property
    def bytes(self) -> int:
        """Bytes of the index as it is written to a file, without the vectors of the rescoring."""
        import faiss

        return int(faiss.serialize_index(self._faiss).nbytes)


def _built(vectors: np.ndarray, settings: Settings):
    """Return the index of the package; one thread works, so that it is the same every time."""
    import faiss

    faiss.omp_set_num_threads(1)
    d, near = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
    if settings.kind == "flat":
        made = faiss.IndexFlatIP(d)
    elif settings.kind == "hnsw":
        made = faiss.IndexHNSWFlat(d, settings.links, near)
        made.hnsw.efConstruction, made.hnsw.efSearch = settings.build, settings.search
    else:
        coarse = faiss.IndexFlatIP(d)
        made = faiss.IndexIVFPQ(coarse, d, settings.cells, settings.code, 8, near)
        made.own_fields = True
        coarse.this.disown()
        made.cp.min_points_per_centroid = made.pq.cp.min_points_per_centroid = 1
        made.nprobe = settings.probes
        made.train(vectors)
    made.add(vectors)
    return made


def arithmetic(settings: Settings, n: int, dimensions: int) -> dict[str, float]:
    """Return the bytes of an index by its parts.

    Parameters
    ----------
    settings : Settings
    n, dimensions : int
        Vectors and their length.

    Returns
    -------
    dict of str to float
        ``vectors`` (4 bytes a number) or ``codes``, ``ids`` (8 bytes an item; a flat index and a
        graph number by position), ``links`` (4 bytes each: twice ``links`` on the lowest level,
        ``links`` on each of the levels above, which one node in ``links`` reaches; 12 bytes a node
        say where they begin), ``centroids``, ``codebooks``, ``total``.
    """
    vectors = 4.0 * n * dimensions
    if settings.kind == "flat":
        parts = {"vectors": vectors}
    elif settings.kind == "hnsw":
        above = settings.links / (settings.links - 1)
        parts = {"vectors": vectors, "links": n * (4 * (2 * settings.links + above) + 12)}
    else:
        parts = {
            "codes": float(n * settings.code),
            "ids": 8.0 * n,
            "centroids": 4.0 * settings.cells * dimensions,
            "codebooks": 4.0 * 256 * dimensions,
        }
    return parts | {"total": sum(parts.values())}


def recall(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return which share of the exact neighbours was found, of each query.

    Parameters
    ----------
    found, exact : array_like of int, shape (m, k)

    Returns
    -------
    ndarray, shape (m,)
    """
    found, exact = np.asarray(found), np.asarray(exact)
    if found.shape != exact.shape:
        raise ValueError(f"shapes {found.shape} and {exact.shape} differ.")
    pairs = zip(found, exact, strict=True)
    return np.array([len({*a.tolist()} & {*b.tolist()}) / len(b) for a, b in pairs])


def measure(vectors: np.ndarray, queries: np.ndarray, settings: Settings, k: int = 100) -> dict:
    """Build an index and measure it against exact search.

    Parameters
    ----------
    vectors, queries : array_like, shapes (n, d) and (m, d)
    settings : Settings
    k : int

    Returns
    -------
    dict
        ``index`` (label), ``n``, ``recall`` (mean share of the exact k), ``p50`` and ``p95``
        (milliseconds of a query alone, one thread), ``seconds`` (to build), ``bytes`` (as written
        to a file), ``computed`` (bytes by :func:`arithmetic`), ``beside`` (bytes of the vectors
        that rescoring reads, on a disk or in memory; 0 without it).
    """
    start = time.perf_counter()
    index = Index(vectors, settings)
    seconds, took, found = time.perf_counter() - start, [], []
    exact = Index(vectors, Settings("flat")).search(queries, k)[0]
    index.search(queries[:1], k)  # the first search wakes the package
    for row in range(len(queries)):
        start = time.perf_counter()
        found.append(index.search(queries[row : row + 1], k)[0][0])
        took.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.quantile(took, [0.5, 0.95])
    return {
        "index": settings.label,
        "n": len(vectors),
        "recall": float(recall(np.array(found), exact).mean()),
        "p50": float(p50),
        "p95": float(p95),
        "seconds": seconds,
        "bytes": index.bytes,
        "computed": arithmetic(settings, *np.shape(vectors))["total"],
        "beside": 4.0 * np.size(vectors) if settings.rescored else 0.0,
    }


def clustered(n: int, dimensions: int, groups: int = 200, seed: int = 0) -> np.ndarray:
    """Return unit vectors that lie in groups, as those of a catalogue do: for measuring an index.

    Parameters
    ----------
    n, dimensions, groups : int
        Vectors, their length, and the groups that they lie around.
    seed : int

    Returns
    -------
    ndarray of float32, shape (n, dimensions)
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dimensions))
    own = rng.normal(size=(n, dimensions)) * 0.6
    return unit(centres[rng.integers(groups, size=n)] + own)
