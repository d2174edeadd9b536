"""What studies start from: a world, its library, what was learned in it, and its graded rungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import pandas as pd

from casebook.cases.knowledge_assistant import ladder, value
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.answering import Learned
from casebook.recorded.artifacts import artifact
from casebook.retrieval.dense import Cached, Embedder, MiniLM

#: Artifacts: MiniLM's vectors of the chapter's world, graded rungs of other worlds, and what was
#: found in the handbooks.
VECTORS = tuple(f"world_vectors_{part}.parquet" for part in range(4))
WORLDS, HANDBOOKS = "worlds.parquet", "handbooks.parquet"
#: Seconds in which MiniLM reads questions, passages and lines on one core.
TIMES = "times.parquet"
#: Rows of :func:`graded_worlds` by what was learned in the chapter's world.
FROZEN = "frozen"
#: Sizes of the other worlds: small, since each of their texts is embedded.
SMALL = {"people": 60, "teams": 6, "documents": 420}


@cache
def minilm() -> Embedder:
    """Return MiniLM, with the vectors of the chapter's world where they have been made."""
    try:
        vectors = pd.concat([artifact(worlds.CHAPTER, file) for file in VECTORS])
    except FileNotFoundError:
        return MiniLM()
    return Cached(vectors, again="make artifacts N=18", live=MiniLM())


@dataclass(frozen=True, eq=False)
class Fitted:
    """A world with its library, what was learned in it, and its graded rungs."""

    setting: ladder.Setting
    learned: Learned
    looked: list[ladder.Looked]
    choices: pd.DataFrame
    rungs: pd.DataFrame


def fit(seed: int, questions: int, embedder: Embedder, **sizes: int) -> Fitted:
    """Simulate a world, learn on its tuning facts, choose on the validation facts, and grade."""
    world = worlds.simulate(seed, **sizes)
    question_seed = worlds.QUESTION_SEED if seed == worlds.SEED else seed
    setting = ladder.setting_of(world, worlds.ask(world, question_seed, questions), embedder)
    found = ladder.signals_of(setting)
    learned, looked, choices = ladder.learn(setting, found, value.costs())
    return Fitted(setting, learned, looked, choices, ladder.rungs(setting, looked, learned))


@lru_cache(maxsize=2)
def _kept(seed: int, questions: int, embedder: Embedder, sizes: tuple) -> Fitted:
    return fit(seed, questions, embedder, **dict(sizes))


def fitted(
    seed: int = worlds.SEED, questions: int = 400, embedder: Embedder | None = None, **sizes: int
) -> Fitted:
    """Return :func:`fit` of a world, the chapter's by default; the last two are remembered."""
    return _kept(seed, questions, embedder or minilm(), tuple(sorted(sizes.items())))


def graded_twice(seed: int, questions: int, embedder: Embedder, learned: Learned) -> pd.DataFrame:
    """Return the graded rungs of a small world, by what was learned elsewhere and learned anew."""
    world = worlds.simulate(seed, **SMALL)
    setting = ladder.setting_of(world, worlds.ask(world, seed, questions), embedder)
    found = ladder.signals_of(setting)
    frozen = ladder.rungs(setting, ladder.applied(setting, found, learned), learned)
    own, looked, _ = ladder.learn(setting, found, value.costs())
    again = ladder.rungs(setting, looked, own)
    return pd.concat([frozen.assign(learned=FROZEN), again.assign(learned="again")])


def graded_worlds(
    embedder: Embedder,
    learned: Learned,
    seeds: Sequence[int] = range(100, 115),
    questions: int = 160,
) -> pd.DataFrame:
    """Return the graded rungs of small worlds on their test facts.

    Parameters
    ----------
    embedder : Embedder
    learned : Learned
        In another world, such as the chapter's.
    seeds : sequence of int
    questions : int

    Returns
    -------
    DataFrame
        As of :func:`.ladder.rungs`, with ``world`` (its seed) and ``learned``: ``frozen`` (what is
        given, nothing of these worlds was looked at) or ``again`` (fitted in each of them).
    """
    tables = [graded_twice(seed, questions, embedder, learned).assign(world=seed) for seed in seeds]
    table = pd.concat(tables, ignore_index=True)
    return table[table["split"] == "test"].reset_index(drop=True)
