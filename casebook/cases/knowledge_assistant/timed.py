"""How long a person waits for the assistant, and how long a right that is gone still shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import ladder
from casebook.cases.knowledge_assistant.answering import Assistant
from casebook.cases.knowledge_assistant.desk import Desk
from casebook.cases.knowledge_assistant.fitted import TIMES, fitted
from casebook.cases.knowledge_assistant.records import Document, Event, Grant, Payload
from casebook.cases.knowledge_assistant.world import CHAPTER
from casebook.recorded.artifacts import artifact
from casebook.retrieval.dense import Embedder

QUANTILES = (0.5, 0.95)


def _tell(setting: ladder.Setting, kind: str, subject: str, payload: Payload, number: int) -> None:
    """Tell the rights of a change, at once."""
    source, now = subject.partition(":")[0], setting.now
    event = Event(source, 10_000_000 + number, now, kind, subject, payload)
    setting.library.access.apply([event])


def _anew(embedder: Embedder | None, how: dict[str, Any]) -> tuple[ladder.Setting, Assistant]:
    """Return the world in a library of its own, which nobody has asked yet, and its reader."""
    one = fitted(embedder=embedder, **how)
    held = one.setting
    setting = ladder.setting_of(held.world, held.asked, held.library.embedder)
    return setting, Assistant(setting.library, one.learned)


def store(setting: ladder.Setting, user: str, seen: bool, number: int) -> Document:
    """Store a new document that a user may see, or that is hidden: a copy of one of both kinds.

    Raises
    ------
    LookupError
        If there is none to copy.
    """
    library = setting.library
    names = [*library.leaves]
    may = library.access.sees(user, names)
    for n in np.roll(np.flatnonzero(may == seen), -7 * number):
        old = library.leaves[names[n]].document
        made = replace(old, id=f"{old.source}:new{number}", version=1, critical=False)
        _tell(setting, "document", made.id, made, number)
        library.access.settle()
        library.take([made])
        if bool(library.access.sees(user, [made.id])[0]) == seen:
            return made
        library.drop(made.id)
    raise LookupError(f"{user} has no document to copy: seen {seen}.")


def _ask(desk: Desk, user: str, conversation: str, question: str) -> tuple[float, float]:
    """Return the seconds to the first piece of an answer and to its end."""
    start, first = time.perf_counter(), None
    for told in desk.ask(user, conversation, question):
        if told["event"] == "piece" and first is None:
            first = time.perf_counter() - start
    if first is None:
        raise RuntimeError(f"{user} was shown nothing, not even that nothing is known.")
    return first, time.perf_counter() - start


def latency(asks: int = 200, embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Ask a desk, and return quantiles of seconds to the first piece and to the end.

    Embedding a typed question is part of each answer that is made. MiniLM does not run where the
    studies do: its times on the same questions come from the artifacts and are added.

    Returns
    -------
    DataFrame
        ``answers``: ``cold`` (a person's first question), ``made`` (mask and names are there),
        ``kept`` (from the cache), ``new text`` and ``hidden text`` (just before, a text was stored
        that the person may see, or may not), ``embedding`` (the part of the question); ``what``
        (first, whole), ``p50``, ``p95``, ``of``; ``documents``, ``passages`` and ``visible``
        passages of who asks (mean).
    """
    setting, reader = _anew(embedder, how)
    asked = setting.asked.head(asks)
    read = _embedding(len(asked)) if embedder is None else np.zeros(len(asked))
    held = fitted(
        embedder=embedder, **how
    ).setting.library  # the same texts, and not the same masks
    size = len(held.leaves), len(held.chunks)
    visible = float(np.mean([len(held.visible(user).rows) for user in asked["user"]]))
    rows = []
    for answers, took in _times(setting, reader, asked, read):
        for what, seconds in zip(("first", "whole"), np.array(took).T, strict=True):
            rows.append((answers, what, *np.quantile(seconds, QUANTILES), len(took)))
    if read.any():
        rows.append(("embedding", "first", *np.quantile(read, QUANTILES), len(read)))
    table = pd.DataFrame(rows, columns=["answers", "what", "p50", "p95", "of"])
    return table.assign(documents=size[0], passages=size[1], visible=visible)


def _times(
    setting: ladder.Setting, reader: Assistant, asked: pd.DataFrame, read: np.ndarray
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield the seconds of answers in each state of caches, masks and texts."""

    def of(answers: str, desk: Desk, rows: np.ndarray, seen: bool | None = None) -> tuple:
        took = []
        for n in rows:
            user, question = asked["user"].iat[n], asked["standalone"].iat[n]
            if seen is not None:
                store(setting, user, seen, 1_000 * (1 + seen) + n)
            more = 0.0 if answers == "kept" else read[n]
            took.append(tuple(more + x for x in _ask(desk, user, f"{answers}{n}", question)))
        return answers, took

    every = np.arange(len(asked))
    yield of("cold", Desk(reader), np.flatnonzero(~asked["user"].duplicated()))
    yield of("made", desk := Desk(reader), every)
    yield of("kept", desk, every)
    may = [setting.library.visible(user).share for user in asked["user"]]
    some = every[[0 < share < 1 for share in may]]
    yield of("new text", Desk(reader), some, True)
    yield of("hidden text", Desk(reader), some, False)


def _embedding(asks: int) -> np.ndarray:
    """Return the seconds in which MiniLM read so many questions."""
    table = artifact(CHAPTER, TIMES)
    found = table.loc[table["what"] == "question", "seconds"].to_numpy()
    if len(found) < asks:
        raise ValueError(f"{len(found)} questions were timed, {asks} are asked.")
    return found[:asks]


def revocation(rounds: int = 60, embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Take from a person the document of an answer, and time until it is shown nowhere.

    The clock starts when the store is told; how long a source takes to tell comes on top.

    Returns
    -------
    DataFrame
        ``where`` (opened, asked again, stored turn), ``p50``, ``p95``, ``most`` (seconds from the
        revocation to the end of the first request after it), ``shown`` (how often that request
        still had the text), ``of``.
    """
    setting, reader = _anew(embedder, how)
    desk, took, shown = Desk(reader), [], []
    for n, one in enumerate(setting.asked.itertuples()):
        end = [*desk.ask(one.user, f"r{n}", one.standalone)][-1]
        if not end["citations"]:
            continue
        cited = end["citations"][0]
        start = time.perf_counter()
        denied = (Grant(cited["document"], one.user, "deny"),)
        _tell(setting, "grants", cited["document"], denied, n)
        opened = setting.library.read(one.user, cited["document"])
        ends = [time.perf_counter()]
        told = [*desk.ask(one.user, f"again{n}", one.standalone)]
        ends.append(time.perf_counter())
        turns = [piece.text for turn in desk.history(one.user, f"r{n}") for piece in turn.pieces]
        ends.append(time.perf_counter())
        took.append(np.array(ends) - start)
        named = {c["document"] for c in told[-1]["citations"]}
        kept = any(cited["anchor"] in text for text in turns)
        shown.append((opened is not None, cited["document"] in named, kept))
        if len(took) == rounds:
            break
    rows = []
    for where, own, seen in zip(_WHERE, np.array(took).T, np.array(shown).T, strict=True):
        rows.append((where, *np.quantile(own, QUANTILES), own.max(), int(seen.sum()), len(own)))
    return pd.DataFrame(rows, columns=["where", "p50", "p95", "most", "shown", "of"])


_WHERE = ("opened", "asked again", "stored turn")
