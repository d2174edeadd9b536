"""The ladder: keyword search in each source, BM25, hybrid, reranked, fresher, answers; graded.

Everything is learned on the tuning facts and chosen on the validation facts; the test facts are
asked once. A fact is a team and an attribute: all questions about it, of whatever kind, lie on one
side (:func:`split_of`). Every rung asks as the same users, under the same rights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.library import CHUNKERS, Library, Mix
from casebook.cases.knowledge_assistant.reading import (
    FEATURES,
    evidence,
)
from casebook.cases.knowledge_assistant.records import Document
from casebook.evaluate.abstain import fit_head
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import Embedder
from casebook.retrieval.follow_up import standalone

SPLITS = {"tune": 0.4, "validation": 0.2, "test": 0.4}
RUNGS = ("keywords per source", "BM25", "vectors", "hybrid", "+ rerank", "+ freshness", "answers")
MIXES = tuple(np.round(np.arange(0, 1.01, 0.1), 1))
PRIORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
HALF_LIVES = (60.0, 180.0, 540.0)


@dataclass(frozen=True, eq=False)
class Setting:
    """A world with its library and questions, as of the world's last second."""

    world: worlds.World
    library: Library
    asked: pd.DataFrame

    @property
    def now(self) -> np.datetime64:
        """When the questions are asked."""
        return self.world.firm.end


def setting_of(
    world: worlds.World,
    asked: pd.DataFrame,
    embedder: Embedder,
    chunker: Chunker = CHUNKERS["512/64"],
) -> Setting:
    """Put a world's documents into a library; add ``split`` to its questions."""
    end = float(world.firm.end.astype("datetime64[s]").astype(np.int64))
    access = Access(":memory:", clock=lambda: end)
    events = (*world.firm.events, *world.events)
    access.apply(events)
    library = Library(access, embedder, world.firm.teams["name"], chunker)
    library.take(worlds.State(events).documents.values(), text_dates(events))
    return Setting(world, library, asked.assign(split=split_of(world, asked["fact"])))


def text_dates(events: Sequence) -> dict[str, np.datetime64]:
    """Return when each document's text last changed: a version with the same text counts not."""
    last: dict[str, tuple[str, np.datetime64]] = {}
    for event in events:
        if isinstance(document := event.payload, Document):
            held = last.get(document.id)
            if held is None or held[0] != document.digest:
                last[document.id] = document.digest, document.modified
    return {name: when for name, (_, when) in last.items()}


def split_of(world: worlds.World, facts: pd.Series) -> list[str]:
    """Return tune, validation or test for each fact, by a hash of its team and attribute."""
    rows = world.facts.drop_duplicates("fact").set_index("fact")
    keys = rows["team"] + "/" + rows["attribute"]
    ends = np.cumsum(list(SPLITS.values()))
    found = []
    for key in facts.map(keys):
        place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
        found.append(list(SPLITS)[int(np.searchsorted(ends, place, side="right"))])
    return found


def told(world: worlds.World, documents: Mapping[str, Document]) -> dict[tuple[str, str], set[int]]:
    """Return the facts that a line of a document states, by document and anchor: the labels."""
    found: dict[tuple[str, str], set[int]] = {}
    for one in world.statements.itertuples():
        found.setdefault((one.document, one.anchor), set()).add(one.fact)
    return {key: facts for key, facts in found.items() if key[0] in documents}


@dataclass(eq=False)
class Looked:
    """What a question found, before anything is learned: signals and lines, with their labels."""

    question: str
    signals: pd.DataFrame
    passages: pd.DataFrame
    lines: pd.DataFrame


def look(setting: Setting, mix: Mix, questions: Sequence[str] | None = None) -> list[Looked]:
    """Ask all questions and label the lines that state the asked fact (``right``)."""
    library, found = setting.library, []
    labels = told(setting.world, {name: leaf.document for name, leaf in library.leaves.items()})
    for n, one in enumerate(setting.asked.itertuples()):
        names = library.view(one.user).names
        question = standalone(one.turns, names) if questions is None else questions[n]
        signals = library.signals(one.user, question, setting.now)
        passages = library.ranked(signals, mix)
        lines = evidence(library, one.user, question, passages)
        pairs = zip(lines["document"], lines["line"].astype(int), strict=True)
        quotes = [(name, library.leaves[name].lines[k].quote) for name, k in pairs]
        lines["right"] = [one.fact in labels.get(key, ()) for key in quotes]
        found.append(Looked(question, signals, passages, lines))
    return found


def learn_topic(setting: Setting, looked: Sequence[Looked]) -> dict[str, dict[str, float]]:
    """Return the head of lines, from the tuning questions."""
    rows = np.flatnonzero(setting.asked["split"] == "tune")
    lines = pd.concat([looked[n].lines.assign(fact=setting.asked["fact"].iat[n]) for n in rows])
    head, _ = fit_head(
        lines[[*FEATURES]], lines["right"].to_numpy(), lines["fact"].astype(str), 1.0
    )
    return head


def recall_at(ranked: Sequence[str], support: Sequence[str], k: int = 10) -> float:
    """Return the share of the supporting documents among the first k; NaN without any."""
    return len({*ranked[:k]} & {*support}) / min(k, len(support)) if support else np.nan


def first_is_true(ranked: Sequence[str], support: Sequence[str], against: Sequence[str]) -> bool:
    """Say whether the first document that states the fact, among three, states what is true."""
    stating = [name for name in ranked[:3] if name in {*support, *against}]
    return bool(stating) and stating[0] in support
