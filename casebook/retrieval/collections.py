"""Public collections with judgements: rankings of them, compared, and dense ranks that are stored.

A ranking by vectors needs a model, so its hundred nearest documents are made once
(:func:`dense_run`) and stored; a sample of them is made anew (:func:`compare_ranks`). Rankings by
words, fused and reranked ones are made live; weight, scale and reranker are learned on the training
queries alone.

Examples
--------
>>> import pandas as pd
>>> queries = pd.DataFrame({"query_id": ["a", "b"], "split": ["train", "test"]})
>>> of_split(pd.DataFrame({"query_id": ["a", "b"]}), queries, "test")["query_id"].tolist()
['b']
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.data.texts import Collection, cranfield, scifact
from casebook.project import data_dir
from casebook.retrieval.dense import Cached, MiniLM, content_hash, nearest
from casebook.retrieval.evaluate import compare, first_ranks, per_query
from casebook.retrieval.fusion import reciprocal_rank_fusion, tune_weight, weighted_fusion
from casebook.retrieval.lexical import BM25, FaqSearch, run
from casebook.retrieval.rerank import PairFeatures, Reranker, feature_columns, unseen, with_labels
from casebook.retrieval.text import char_ngrams

#: Ranks that are kept.
DEPTH = 100


#: Files of each collection, in the order in which its reader takes them.
FILES = {
    "scifact": ("scifact",),
    "cranfield": ("cranfield_documents", "cranfield_queries", "cranfield_judgements"),
}


_READERS: dict[str, Callable[..., Collection]] = {"scifact": scifact, "cranfield": cranfield}


@cache
def _registry() -> dict[str, dict[str, str]]:
    with open(data_dir() / "real.toml", "rb") as file:
        return tomllib.load(file)


def find_file(name: str) -> Path | None:
    """Return a public file that is here and whose hash is right, or None.

    The environment of the artifacts has nothing that downloads: the files are looked for where
    ``CASEBOOK_DATA_DIR`` and ``CASEBOOK_CACHE_DIR`` say.

    Parameters
    ----------
    name : str
        In ``data/real.toml``.
    """
    if os.environ.get("CASEBOOK_REAL_DATA") == "off":
        return None
    for variable in ("CASEBOOK_DATA_DIR", "CASEBOOK_CACHE_DIR"):
        path = Path(os.environ.get(variable, "")) / _registry()[name]["path"]
        if path.is_file() and _sha256(path) == _registry()[name]["sha256"]:
            return path
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def collection(name: str) -> Collection:
    """Read a public collection whose files are here.

    Parameters
    ----------
    name : {"scifact", "cranfield"}

    Returns
    -------
    Collection

    Raises
    ------
    FileNotFoundError
        With what to do, if a file is not here.
    """
    paths = {file: find_file(file) for file in FILES[name]}
    if missing := [file for file, path in paths.items() if path is None]:
        raise FileNotFoundError(
            f"{', '.join(missing)}: not here. `make data` fetches the public files; then set "
            "CASEBOOK_CACHE_DIR to the folder of the cache (`casebook.data.cache_dir()`)."
        )
    return _READERS[name](*paths.values())


def document_texts(documents: pd.DataFrame) -> list[str]:
    """Return what is read of each document: title and text."""
    return (documents["title"] + ". " + documents["text"]).tolist()


def dense_run(name: str) -> pd.DataFrame:
    """Search a public collection by vectors of MiniLM.

    Parameters
    ----------
    name : {"scifact", "cranfield"}

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``rank`` (1 to 100), ``score`` (cosine, four decimals).
    """
    found, model = collection(name), MiniLM()
    documents = model.encode(document_texts(found.documents))
    positions, scores = nearest(model.encode(found.queries["text"].tolist()), documents, DEPTH)
    ids = found.documents["doc_id"].to_numpy()
    return pd.DataFrame(
        {
            "query_id": np.repeat(found.queries["query_id"].to_numpy(), DEPTH),
            "doc_id": ids[positions.ravel()],
            "rank": np.tile(np.arange(1, DEPTH + 1, dtype=np.int16), len(positions)),
            "score": scores.ravel().round(4),
        }
    )


def file_hash(name: str) -> str:
    """Return the beginning of the hash of a public file, as the registry has it."""
    return _registry()[name]["sha256"][:16]


# A sample made anew -------------------------------------------------------------------

#: Of a cosine: another processor adds in another order, and four decimals are stored.
TOLERANCE = 2e-3


#: Of the cosine between a vector made anew and the one of a byte for each number.
VECTOR_TOLERANCE = 2e-3


_QUERIES, _INSIDE, _OUTSIDE = 5, 4, 12


def compare_ranks(
    name: str,
    stored: pd.DataFrame,
    encode: Callable[[list[str]], np.ndarray],
    rng: np.random.Generator,
) -> tuple[str, list[str]]:
    """Embed a few queries and documents anew and compare them with the stored ranks.

    Parameters
    ----------
    name : {"scifact", "cranfield"}
    stored : DataFrame
        See :func:`dense_run`.
    encode : callable
        Texts to unit vectors.
    rng : Generator
        Draws queries, documents among their hundred and documents outside of them.

    Returns
    -------
    how : str
    differences : list of str
        A cosine that differs, or a document that is left out though it is nearer than the last
        one stored.
    """
    found = collection(name)
    texts = dict(zip(found.documents["doc_id"], document_texts(found.documents), strict=True))
    asked = found.queries.iloc[rng.choice(len(found.queries), _QUERIES, replace=False)]
    widest, lines = 0.0, []
    for query, text in zip(asked["query_id"], asked["text"], strict=True):
        rows = stored[stored["query_id"] == query].set_index("doc_id")["score"]
        inside = rng.choice(rows.index.to_numpy(), _INSIDE, replace=False)
        outside = rng.choice(sorted(set(texts) - set(rows.index)), _OUTSIDE, replace=False)
        vectors = encode([text, *(texts[doc] for doc in [*inside, *outside])])
        scores = vectors[1:] @ vectors[0]
        gaps = np.abs(scores[:_INSIDE] - rows.loc[inside].to_numpy())
        widest = max(widest, float(gaps.max()))
        lines += [
            f"{name}: the cosine of query {query} and document {doc} differs by {gap:.4f}"
            for doc, gap in zip(inside, gaps, strict=True)
            if gap > TOLERANCE
        ]
        lines += [
            f"{name}: document {doc} is nearer to query {query} than the last one stored"
            for doc, score in zip(outside, scores[_INSIDE:], strict=True)
            if score > rows.min() + TOLERANCE
        ]
    return f"{name}: {_QUERIES} queries, cosines within {widest:.5f}", lines


def shape_faults(name: str, stored: pd.DataFrame) -> list[str]:
    """Return a line for each query without its hundred ranks, in the order of their scores."""
    by_query = stored.groupby("query_id", sort=False)
    wrong = by_query["rank"].agg(list).map(lambda ranks: ranks != list(range(1, DEPTH + 1)))
    wrong |= by_query["doc_id"].nunique() != DEPTH
    wrong |= ~by_query["score"].agg(lambda s: s.is_monotonic_decreasing)
    return [f"{name}: query {q} has not {DEPTH} ranks in order" for q in wrong.index[wrong]]


def compare_vectors(
    stored: pd.DataFrame,
    texts: Iterable[str],
    encode: Callable[[list[str]], np.ndarray],
    rng: np.random.Generator,
    n: int = 20,
) -> tuple[str, list[str]]:
    """Embed a few texts anew and compare them with a cache.

    Parameters
    ----------
    stored : DataFrame
        See :func:`embed_corpus`.
    texts : iterable of str
        All that the cache must hold, and nothing else.
    encode : callable
        Texts to unit vectors.
    rng : Generator
    n : int
        Texts that are embedded.

    Returns
    -------
    how : str
    differences : list of str
    """
    unique = sorted(set(texts))
    needed, there = {content_hash(text) for text in unique}, set(stored["hash"])
    if needed != there:
        line = f"{len(needed - there)} texts are not in the cache, {len(there - needed)} not needed"
        return "not the same texts", [line]
    drawn = [unique[i] for i in rng.choice(len(unique), min(n, len(unique)), replace=False)]
    cosines = (Cached(stored).encode(drawn) * encode(drawn)).sum(axis=1)
    lines = [
        f"the vector of {text[:40]!r} differs: cosine {cosine:.4f}"
        for text, cosine in zip(drawn, cosines, strict=True)
        if cosine < 1 - VECTOR_TOLERANCE
    ]
    return f"{len(drawn)} texts, cosines above {cosines.min():.5f}", lines


# Rankings -----------------------------------------------------------------------------


def of_split(rows: pd.DataFrame, queries: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of a run or of judgements whose query belongs to a split."""
    return rows[rows["query_id"].isin(queries.loc[queries["split"] == split, "query_id"])]


def single_runs(found: Collection, dense: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rankings of all queries by the single retrievers.

    Parameters
    ----------
    found : Collection
    dense : DataFrame
        Of :func:`dense_run`.

    Returns
    -------
    dict of str to DataFrame
        ``faq``, ``ngrams``, ``bm25`` (stems, no stop words), ``dense``, a hundred ranks each.
    """
    documents, queries = found.documents, found.queries
    texts, ids = document_texts(documents), documents["doc_id"]
    return {
        "faq": run(FaqSearch(documents["title"], documents["text"]), queries, ids),
        "ngrams": run(BM25(texts, analyser=char_ngrams), queries, ids),
        "bm25": run(BM25(texts), queries, ids),
        "dense": dense,
    }


def fused_runs(found: Collection, base: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return rankings of the test queries that use both retrievers.

    Weight, scale and reranker are learned on the training queries alone; the reranker orders the
    first fifty of both.

    Parameters
    ----------
    found : Collection
    base : mapping of str to DataFrame
        Of :func:`single_runs`.

    Returns
    -------
    dict of str to DataFrame
        ``rrf``, ``weighted``, ``reranked``.
    """
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


def better_single(found: Collection, base: Mapping[str, pd.DataFrame]) -> str:
    """Return which of BM25 and vectors is better on the training queries, by nDCG@10."""
    training = of_split(found.judgements, found.queries, "train")
    score = {
        n: per_query(of_split(base[n], found.queries, "train"), training)["ndcg"].mean()
        for n in ("bm25", "dense")
    }
    return max(score, key=score.get)


def compared(found: Collection, base: Mapping, fused: Mapping) -> pd.DataFrame:
    """Compare all rankings with the better single retriever, on the test queries.

    Parameters
    ----------
    found : Collection
    base, fused : mapping of str to DataFrame
        Of :func:`single_runs` and :func:`fused_runs`.

    Returns
    -------
    DataFrame
        ``queries_of`` ("all", or "unseen": those whose relevant documents are relevant to no
        training query), ``against``, and the columns of
        :func:`~casebook.retrieval.evaluate.compare`.
    """
    against, parts = better_single(found, base), []
    training, test = (of_split(found.judgements, found.queries, s) for s in ("train", "test"))
    runs = {n: of_split(r, found.queries, "test") for n, r in base.items()} | dict(fused)
    groups = {"all": set(test["query_id"]), "unseen": set(unseen(test, training))}
    for group, ids in groups.items():
        chosen = {n: r[r["query_id"].isin(ids)] for n, r in runs.items()}
        if len(ids) > 1:
            table = compare(chosen, test[test["query_id"].isin(ids)], against)
            parts.append(table.assign(queries_of=group, against=against))
    table = pd.concat(parts, ignore_index=True)
    return table[["queries_of", "against", *table.columns[:-2]]]


def rescued(found: Collection, base: Mapping, fused: Mapping) -> pd.DataFrame:
    """Return the rank of each test query's first relevant document, by words and by vectors.

    Parameters
    ----------
    found : Collection
    base, fused : mapping of str to DataFrame
        Of :func:`single_runs` and :func:`fused_runs`.

    Returns
    -------
    DataFrame
        ``query_id``, ``bm25``, ``dense``, ``weighted`` (both, with the weight of the training
        queries): ranks, 101 where none of the first hundred is relevant.
    """
    test = of_split(found.judgements, found.queries, "test")
    runs = {n: of_split(base[n], found.queries, "test") for n in ("bm25", "dense")}
    runs["weighted"] = fused["weighted"]
    ranks = pd.DataFrame({n: first_ranks(one, test) for n, one in runs.items()})
    return ranks.rename_axis("query_id").reset_index()
