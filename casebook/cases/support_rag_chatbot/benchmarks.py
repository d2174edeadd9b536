"""What case 16 records with ``make bench N=16``: the cost of an index, and public collections.

* ``index_cost`` and ``query_latency``: an index of 1,000, 10,000 and 100,000 passages. Its text is
  drawn with the frequencies of natural language (Zipf) and its vectors at random: time and memory
  do not depend on their meaning. What an embedder costs comes on top, for each new passage and for
  each question.
* ``retrievers``: word, vector and fused rankings of SciFact and Cranfield, each held against the
  single retriever that is better on the training queries.
* ``rescues``: the first relevant rank of each test query, by words, by vectors and by both.
* ``fusion_weight``: the weight of the vectors on training and test queries.
* ``chunking``: size and overlap of passages on both collections, by BM25.
* ``real_scifact``: words, vectors and half of each on SciFact, as a page shows them.

The last five need the public files; they read the dense ranks from the artifacts.

The tables whose names begin with ``support_`` are those of the chatbot in its world: see
:mod:`~casebook.cases.support_rag_chatbot.studies`.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.studies import STUDIES
from casebook.data import real
from casebook.data.texts import Collection, cranfield, scifact
from casebook.recorded.artifacts import artifact
from casebook.recorded.real import from_real
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import content_hash
from casebook.retrieval.evaluate import compare, first_ranks, per_query
from casebook.retrieval.fusion import reciprocal_rank_fusion, tune_weight, weighted_fusion
from casebook.retrieval.index import Index
from casebook.retrieval.lexical import BM25, FaqSearch, run
from casebook.retrieval.rerank import PairFeatures, Reranker, feature_columns, unseen, with_labels
from casebook.retrieval.text import char_ngrams
from casebook.serving.latency import measure

CASE = "16_support_rag_chatbot"
SIZES = (1_000, 10_000, 100_000)
COLLECTIONS = ("scifact", "cranfield")

# An index of any size ----------------------------------------------------------------

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
            texts = iter(asked)
            took = measure(lambda h=how, t=texts: index.search(next(t), at=NOW, how=h), queries, 20)
            found |= {f"{how}_p50": took.p50, f"{how}_p95": took.p95}
    return found


def _median_seconds(calls: Sequence[Callable[[], object]]) -> float:
    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


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
            found["update_one"] = _median_seconds([lambda f=f: index.update(f) for f in ones])
            tens = [drawn_articles(10, rng, 20 + 10 * i).assign(version=2) for i in range(5)]
            writes, follows = [], []
            for frame in tens:
                writes.append(_median_seconds([lambda f=frame: index.update(f)]))
                follows.append(_median_seconds([lambda: reader.search("word", at=NOW)]))
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


# Public collections ------------------------------------------------------------------


@cache
def collection(name: str) -> Collection:
    """Read SciFact or Cranfield; raises ``RealDataUnavailable`` without its files."""
    if name == "scifact":
        return scifact(real("scifact"))
    files = ("documents", "queries", "judgements")
    return cranfield(*(real(f"cranfield_{file}") for file in files))


def of_split(rows: pd.DataFrame, queries: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of a run or of judgements whose query belongs to a split."""
    return rows[rows["query_id"].isin(queries.loc[queries["split"] == split, "query_id"])]


@cache
def base_runs(name: str) -> Mapping[str, pd.DataFrame]:
    """Return the rankings of all queries by the single retrievers.

    Parameters
    ----------
    name : {"scifact", "cranfield"}

    Returns
    -------
    mapping of str to DataFrame
        ``faq``, ``ngrams``, ``bm25`` (stems, no stop words), ``dense`` (MiniLM, from the
        artifacts), a hundred ranks each.
    """
    found = collection(name)
    documents, queries = found.documents, found.queries
    texts, ids = (documents["title"] + ". " + documents["text"]).tolist(), documents["doc_id"]
    return {
        "faq": run(FaqSearch(documents["title"], documents["text"]), queries, ids),
        "ngrams": run(BM25(texts, analyser=char_ngrams), queries, ids),
        "bm25": run(BM25(texts), queries, ids),
        "dense": artifact(CASE, f"{name}_dense.parquet"),
    }


@cache
def fused_runs(name: str) -> Mapping[str, pd.DataFrame]:
    """Return rankings of the test queries that use both retrievers.

    Weight, scale and reranker are learned on the training queries alone; the reranker orders the
    first fifty of both.

    Parameters
    ----------
    name : {"scifact", "cranfield"}

    Returns
    -------
    mapping of str to DataFrame
        ``rrf``, ``weighted``, ``reranked``.
    """
    found, base = collection(name), base_runs(name)
    queries = found.queries
    training = of_split(found.judgements, queries, "train")
    lexical, dense = (of_split(base[n], queries, "test") for n in ("bm25", "dense"))
    curves = {
        how: tune_weight(base["bm25"], base["dense"], training, how=how)
        for how in ("minmax", "zscore")
    }
    how = max(curves, key=lambda h: curves[h].max())
    first = {n: base[n][base[n]["rank"] <= 50] for n in ("bm25", "dense")}
    pairs = PairFeatures(found.documents)(queries, first)
    labelled = with_labels(of_split(pairs, queries, "train"), training)
    reranker = Reranker(feature_columns(labelled)).fit(labelled)
    return {
        "rrf": reciprocal_rank_fusion([lexical, dense]),
        "weighted": weighted_fusion(lexical, dense, curves[how].idxmax(), how),
        "reranked": reranker.rerank(of_split(pairs, queries, "test")),
    }


def better_single(name: str) -> str:
    """Return which of BM25 and vectors is better on the training queries, by nDCG@10."""
    found = collection(name)
    training = of_split(found.judgements, found.queries, "train")
    score = {
        n: per_query(of_split(base_runs(name)[n], found.queries, "train"), training)["ndcg"].mean()
        for n in ("bm25", "dense")
    }
    return max(score, key=score.get)


def retrievers(names: Sequence[str] = COLLECTIONS) -> pd.DataFrame:
    """Compare all rankings with the better single retriever, on the test queries.

    Returns
    -------
    DataFrame
        ``collection``, ``queries_of`` ("all", or "unseen": those whose relevant documents are
        relevant to no training query), ``against``, ``model``, ``metric`` (``ndcg`` and
        ``recall`` at 10), ``value``, ``difference``, ``low``, ``high``, ``wins``, ``losses``,
        ``queries``.
    """
    parts = []
    for name in names:
        found, against = collection(name), better_single(name)
        training = of_split(found.judgements, found.queries, "train")
        test = of_split(found.judgements, found.queries, "test")
        base = {n: of_split(r, found.queries, "test") for n, r in base_runs(name).items()}
        runs = base | fused_runs(name)
        groups = {"all": set(test["query_id"]), "unseen": set(unseen(test, training))}
        for group, ids in groups.items():
            chosen = {n: r[r["query_id"].isin(ids)] for n, r in runs.items()}
            if len(ids) > 1:
                table = compare(chosen, test[test["query_id"].isin(ids)], against)
                parts.append(table.assign(collection=name, queries_of=group, against=against))
    columns = ["collection", "queries_of", "against", "model", "metric", "value"]
    columns += ["difference", "low", "high", "wins", "losses", "queries"]
    return pd.concat(parts, ignore_index=True)[columns]


def rescues(names: Sequence[str] = COLLECTIONS) -> pd.DataFrame:
    """Return the rank of each test query's first relevant document, by words and by vectors.

    Returns
    -------
    DataFrame
        ``collection``, ``query_id``, ``bm25``, ``dense``, ``weighted`` (both, with the weight of
        the training queries): ranks, 101 where none of the first hundred is relevant.
    """
    parts = []
    for name in names:
        found = collection(name)
        test = of_split(found.judgements, found.queries, "test")
        base = {n: of_split(base_runs(name)[n], found.queries, "test") for n in ("bm25", "dense")}
        runs = base | {"weighted": fused_runs(name)["weighted"]}
        ranks = pd.DataFrame({n: first_ranks(run, test) for n, run in runs.items()})
        parts.append(ranks.rename_axis("query_id").reset_index().assign(collection=name))
    table = pd.concat(parts, ignore_index=True)
    return table[["collection", *table.columns[:-1]]]


def fusion_weight(names: Sequence[str] = COLLECTIONS) -> pd.DataFrame:
    """Score every weight of the vectors on training and on test queries.

    Returns
    -------
    DataFrame
        ``collection``, ``scale``, ``split``, ``weight``, ``ndcg`` (at 10).
    """
    parts = []
    for name in names:
        found, base = collection(name), base_runs(name)
        for split in ("train", "test"):
            judged = of_split(found.judgements, found.queries, split)
            for scale in ("minmax", "zscore"):
                curve = tune_weight(base["bm25"], base["dense"], judged, how=scale).reset_index()
                parts.append(curve.assign(collection=name, scale=scale, split=split))
    return pd.concat(parts, ignore_index=True)[["collection", "scale", "split", "weight", "ndcg"]]


#: Words in a passage, and the share that stands in the next one too.
PASSAGES, OVERLAPS = (25, 50, 100, 200), (0.0, 0.25, 0.5)


def passage_run(
    found: Collection, chunker: Chunker | None, k: int = 100
) -> tuple[pd.DataFrame, int]:
    """Rank documents by their best passage, by BM25.

    Parameters
    ----------
    found : Collection
    chunker : Chunker, optional
        Without one a document is one passage. The title stands in front of each.
    k : int
        Ranks that are kept.

    Returns
    -------
    run : DataFrame
    passages : int
    """
    owner, texts = [], []
    for doc, title, text in found.documents[["doc_id", "title", "text"]].to_numpy():
        for start, end in chunker.spans(text) if chunker and text else [(0, len(text))]:
            owner.append(doc)
            texts.append(f"{title}. {text[start:end]}")
    ranked = run(BM25(texts), found.queries, [f"{i}" for i in range(len(texts))], 20 * k)
    ranked["doc_id"] = np.array(owner, object)[ranked["doc_id"].astype(int)]
    best = ranked.drop_duplicates(["query_id", "doc_id"])  # the first is the best
    best = best.assign(rank=best.groupby("query_id").cumcount() + 1)
    return best[best["rank"] <= k], len(texts)


def chunking(
    names: Sequence[str] = COLLECTIONS,
    sizes: Sequence[int] = PASSAGES,
    overlaps: Sequence[float] = OVERLAPS,
) -> pd.DataFrame:
    """Vary size and overlap of the passages, on the training queries.

    Returns
    -------
    DataFrame
        ``collection``, ``words`` (0: the whole document), ``overlap`` (share), ``passages``,
        ``ndcg``, ``recall`` (at 10).
    """
    rows = []
    for name in names:
        found = collection(name)
        judged = of_split(found.judgements, found.queries, "train")
        cuts = [(0, 0.0, None)]
        cuts += [(n, s, Chunker("words", n, int(s * n))) for n in sizes for s in overlaps]
        for words, share, chunker in cuts:
            ranked, passages = passage_run(found, chunker)
            scored = per_query(of_split(ranked, found.queries, "train"), judged)
            rows.append((name, words, share, passages, *scored[["ndcg", "recall"]].mean()))
    columns = ["collection", "words", "overlap", "passages", "ndcg", "recall"]
    return pd.DataFrame(rows, columns=columns)


def real_scifact() -> pd.DataFrame:
    """Search SciFact's abstracts by words, by vectors and by half of each, on the test claims.

    Returns
    -------
    DataFrame
        ``model`` (``bm25``, ``dense``: MiniLM, ``both``: their weighted sum), ``ndcg`` (at 10).
    """
    found = collection("scifact")
    documents, claims = found.documents, found.queries.query("split == 'test'")
    dense = of_split(artifact(CASE, "scifact_dense.parquet"), found.queries, "test")
    texts = (documents["title"] + ". " + documents["text"]).tolist()
    bm25 = run(BM25(texts), claims, documents["doc_id"])
    judged = of_split(found.judgements, found.queries, "test")
    ranked = {"bm25": bm25, "dense": dense}
    ranked["both"] = weighted_fusion(bm25, dense, 0.5, "minmax")
    rows = [(name, per_query(one, judged)["ndcg"].mean()) for name, one in ranked.items()]
    return from_real(pd.DataFrame(rows, columns=["model", "ndcg"]), "scifact")


#: The timing comes first, while nothing else of the run loads the machine.
BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "index_cost": index_cost,
    "query_latency": query_latency,
    "retrievers": retrievers,
    "rescues": rescues,
    "fusion_weight": fusion_weight,
    "chunking": chunking,
    "real_scifact": real_scifact,
    **STUDIES,
}
