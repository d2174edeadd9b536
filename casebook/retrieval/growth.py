"""What an index costs as it grows: to build, to ask, to change, on disk and in memory.

Its text is drawn with the frequencies of natural language (Zipf) and its vectors at random: time
and memory do not depend on their meaning. What an embedder costs comes on top, for each new passage
and for each question.

Examples
--------
>>> articles = drawn_articles(2, np.random.default_rng(0))
>>> len(articles), len(articles["text"][0].split())
(2, 500)
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import content_hash
from casebook.retrieval.index import Index

SIZES = (1_000, 10_000, 100_000)


#: Of the drawn text: different words, words in a passage, passages in an article.
VOCABULARY, PASSAGE, ARTICLE = 30_000, 100, 5


#: The most frequent words, which a stop list would hold: no question asks for them.
FREQUENT = 100


NOW = pd.Timestamp("2026-06-01")


class Drawn:
    """An embedder that costs next to nothing: the unit vector of a text is drawn from its hash."""

    name, dimensions = "drawn-384", 384

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 384)."""
        rows = [
            np.random.default_rng(int(content_hash(text)[:15], 16)).standard_normal(
                self.dimensions, np.float32
            )
            for text in texts
        ]
        vectors = np.array(rows, np.float32).reshape(len(texts), self.dimensions)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@cache
def vocabulary() -> np.ndarray:
    """Return made-up words of two to four syllables, the most frequent first."""
    syllables = [a + b for a in "bdfgklmnprtvz" for b in "aiou"]
    words = []
    for n in range(VOCABULARY):
        word, rest = "", n + len(syllables)
        while rest:
            rest, last = divmod(rest, len(syllables))
            word = syllables[last] + word
        words.append(word + "x")
    return np.array(words, object)


def drawn_words(rng: np.random.Generator, n: int, skip: int = 0) -> np.ndarray:
    """Draw words by Zipf's law: the r-th most frequent with a probability that falls like 1/r."""
    ranks = np.exp(rng.uniform(np.log(skip + 1), np.log(VOCABULARY), n)).astype(int)
    return vocabulary()[ranks]


def drawn_articles(n: int, rng: np.random.Generator, first: int = 0) -> pd.DataFrame:
    """Draw n articles of five passages of a hundred words."""
    size = PASSAGE * ARTICLE
    words = drawn_words(rng, n * size).reshape(n, size)
    return pd.DataFrame(
        {
            "article_id": [f"a{first + i}" for i in range(n)],
            "version": 1,
            "language": "en",
            "title": "",
            "text": [" ".join(row) for row in words],
            "valid_from": pd.Timestamp("2026-01-01"),
            "valid_to": pd.NaT,
        }
    )


def _memory() -> float:
    """Return the megabytes that this process holds (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ask(path: Path, queries: int, seed: int = 1) -> dict[str, float]:
    """Open an index and ask it; run in a process of its own.

    Parameters
    ----------
    path : Path
    queries : int
        For each way to search, at least 100.
    seed : int
        Of the questions: six words each.

    Returns
    -------
    dict of str to float
        ``load`` (seconds of the first question), ``memory`` (megabytes that it took), and for
        each way to search ``<how>_p50`` and ``<how>_p95`` (milliseconds).
    """
    rng, model = np.random.default_rng(seed), Drawn()
    found: dict[str, float] = {}
    with Index.open(path, model) as index:
        before, start = _memory(), time.perf_counter()
        index.search(" ".join(drawn_words(rng, 6, FREQUENT)), at=NOW)
        found["load"] = time.perf_counter() - start
        found["memory"] = _memory() - before
        for how in ("lexical", "dense", "hybrid"):
            asked = [" ".join(drawn_words(rng, 6, FREQUENT)) for _ in range(queries + 20)]
            call = partial(index.search, at=NOW, how=how)
            took = _seconds([partial(call, text) for text in asked])[20:]  # the first warm up
            found |= {f"{how}_p{q}": 1e3 * float(np.percentile(took, q)) for q in (50, 95)}
    return found


def _seconds(calls: Sequence[Callable[[], object]]) -> np.ndarray:
    """Return how long each call takes."""
    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


@cache
def measured(size: int, queries: int = 300) -> Mapping[str, float]:
    """Build an index of a size, ask it, change it.

    Parameters
    ----------
    size : int
        Passages; a multiple of five.
    queries : int

    Returns
    -------
    mapping of str to float
        That of :func:`ask`, ``chunks``, ``build`` (seconds), ``disk`` (megabytes), ``update_one``
        and ``update_ten`` (seconds of one and of ten new versions), ``follow`` (seconds of a
        reader's next question after ten).
    """
    rng, model = np.random.default_rng(0), Drawn()
    articles = drawn_articles(size // ARTICLE, rng)
    chunker = Chunker("words", PASSAGE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.db"
        start = time.perf_counter()
        index = Index.build(path, articles, model, chunker)
        found = {"build": time.perf_counter() - start}
        with index, Index.open(path, model) as reader:
            found |= {"chunks": index.size()["chunks"], "disk": index.size()["bytes"] / 2**20}
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found |= pool.submit(ask, path, queries).result()
            reader.search("word", at=NOW)
            ones = [drawn_articles(1, rng, i).assign(version=2) for i in range(9)]
            found["update_one"] = np.median(_seconds([lambda f=f: index.update(f) for f in ones]))
            tens = [drawn_articles(10, rng, 20 + 10 * i).assign(version=2) for i in range(5)]
            writes, follows = [], []
            for frame in tens:
                writes.append(*_seconds([lambda f=frame: index.update(f)]))
                follows.append(*_seconds([lambda: reader.search("word", at=NOW)]))
            found |= {"update_ten": np.median(writes), "follow": np.median(follows)}
    return found


def index_cost(sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """Build indexes of several sizes and change them.

    Returns
    -------
    DataFrame
        ``chunks``, ``build_s``, ``disk_mb``, ``memory_mb``, ``load_s``, ``update_one_ms``,
        ``update_ten_ms``, ``follow_ms``: see :func:`measured`. No embedder's time is in it.
    """
    rows = []
    for size in sizes:
        m = measured(size)
        rows.append(
            {
                "chunks": m["chunks"],
                "build_s": m["build"],
                "disk_mb": m["disk"],
                "memory_mb": m["memory"],
                "load_s": m["load"],
                "update_one_ms": 1e3 * m["update_one"],
                "update_ten_ms": 1e3 * m["update_ten"],
                "follow_ms": 1e3 * m["follow"],
            }
        )
    return pd.DataFrame(rows)


def query_latency(sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """Ask indexes of several sizes, one question after the other, in three ways.

    Returns
    -------
    DataFrame
        ``chunks``, ``how``, ``p50_ms``, ``p95_ms``.
    """
    rows = [
        (measured(size)["chunks"], how, *(measured(size)[f"{how}_{p}"] for p in ("p50", "p95")))
        for size in sizes
        for how in ("lexical", "dense", "hybrid")
    ]
    return pd.DataFrame(rows, columns=["chunks", "how", "p50_ms", "p95_ms"])
