"""Faults, each planted into one part of the assistant: the hunt has to find every one.

The first eight of :data:`PLANTED` hand out what is hidden. The others are quieter: a wrong key
behind a second check, which leaks a number only; a stream that is not asked again; a ranking that
no hidden text ever leaves, although it depends on what is hidden; rights that are gained before
their text has come. :class:`SlowRefusal` tells by the clock alone. Each is a few lines, as it would
be in real code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.desk import QUOTED, Answer, Citation, Desk, NotFound, Quotes
from casebook.cases.knowledge_assistant.hunt import OverHttp, hunt
from casebook.cases.knowledge_assistant.hunted import Parts, words
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.records import Document
from casebook.retrieval.chunks import Chunk
from casebook.retrieval.filtered import Visible
from casebook.serving.conversations import Turn, _key
from casebook.serving.permitted_answers import AnswerCache, Kept, normalised
from casebook.serving.rights import Rights, Sight
from casebook.serving.showing import Piece, of_json


def _everything(library: Library, question: str, k: int) -> list[Chunk]:
    """Search without a mask, as the faults do."""
    vector = library.embedder.encode([question])[0]
    rows = library.index.search(vector, Visible.of(library._live), k).rows
    return [library.chunks[row] for row in rows]


class _SharedCache(AnswerCache):
    def key(self, user: str, question: str) -> str:
        return hashlib.sha256(normalised(question).encode()).hexdigest()


class KeyOfQuestion(Desk):
    """The key is made of the question alone; the second check of :meth:`AnswerCache.get` stays."""

    shared: type[AnswerCache] = _SharedCache

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.cache = self.shared(self.access, self.library.versions, lambda user: 0)


class _TrustingCache(_SharedCache):
    def get(self, user: str, key: str) -> Kept | None:
        row = self._ask("SELECT pieces, used, beside FROM answers WHERE key = ?", key)
        texts = [piece.text for piece in of_json(row[0][0])] if row else []
        return Kept(tuple(map(Piece, texts)), (), json.loads(row[0][2])) if row else None


class CacheWithoutRights(KeyOfQuestion):
    """The key is made of the question alone; the words behind it are handed out as they are.

    Were it known what they were taken from, the check before each piece would stop them.
    """

    shared = _TrustingCache


class LogWithText(Desk):
    """The log says what was found, to help with debugging."""

    def line(self, what: str, user: str, question: str, shown: Sequence[str]) -> dict[str, object]:
        return super().line(what, user, question, shown) | {"best": [*shown][:1]}


class ForbiddenCitation(Desk):
    """A list "see also" is filled from the whole index."""

    def cited(self, user: str, kept: Kept) -> list[dict[str, Any]]:
        chunks = _everything(self.library, kept.pieces[0].text, 1)
        more = [
            {"document": c.article.article_id, "version": c.article.version, "anchor": c.text}
            | {"start": 0, "title": c.article.title}
            for c in chunks
        ]
        return [*super().cited(user, kept), *more]


class CountOfAll(Desk):
    """The count is that of the index, which has no rights."""

    def counted(self, user: str, question: str) -> int:
        pages = (leaf.document for leaf in self.library.leaves.values())
        return sum(words(question) <= words(page.body) for page in pages)


class StaleGroups(Access):
    """What a user sees is looked up every five minutes."""

    def sight(self, user: str) -> Sight:
        held = self.__dict__.setdefault("_held", {})
        if user not in held or self.clock() - held[user][0] > 300:
            held[user] = self.clock(), super().sight(user)
        now, then = super().sight(user), held[user][1]
        mask = np.zeros(len(now.editions), bool)
        mask[: len(then.mask)] = then.mask
        return Sight(mask, now.editions)


class GainedAtOnce(Access):
    """Rights that are gained hold at once, also for the texts that stood there before."""

    def sight(self, user: str) -> Sight:
        return Rights.sight(self, user)


class FilledUp(Quotes):
    """Hidden hits are dropped, and if too few are left, the list is filled up with the next."""

    def answer(self, user: str, question: str, now: np.datetime64) -> Answer:
        chunks = _everything(self.library, question, 4 * QUOTED)
        right = self.library.access.sees(user, [one.article.article_id for one in chunks])
        good = [one for one, may in zip(chunks, right, strict=True) if may]
        best = (good + [one for one in chunks if one not in good])[:QUOTED]
        keys = [(one.article.article_id, one.article.version) for one in best]
        cited = (Citation(*key, one.text, 0) for key, one in zip(keys, best, strict=True))
        seen = tuple((one.article.article_id, one.article.version) for one in good[:QUOTED])
        return Answer(tuple(Piece(one.text) for one in best), tuple(cited), seen)


class StoredTurns(Desk):
    """A stored conversation is shown as it is."""

    def history(self, user: str, conversation: str) -> list[Turn]:
        texts = self.turns.shelf.read(_key(user, conversation), self.access.clock())
        told = (json.loads(text) for text in texts)
        return [Turn(at, asked, tuple(of_json(pieces))) for at, asked, pieces in told]


class ErrorWithTitle(Desk):
    """The error is helpful."""

    def refusal(self, document: str) -> NotFound:
        if leaf := self.library.leaves.get(document):
            return NotFound(f"You may not see “{leaf.document.title}”.")
        return super().refusal(document)


class UnguardedStream(Desk):
    """Rights are asked for once, when the stream begins."""

    def guarded(self, user: str, kept: Kept) -> Iterator[Piece]:
        return iter(kept.pieces)


class RareWordsFirst(Library):
    """Words are weighed by their rarity in all documents, as any BM25 does."""

    def signals(self, user: str, question: str, now: np.datetime64) -> pd.DataFrame:
        weigh, everything = self.words.scores, np.ones(len(self.words), bool)
        self.words.scores = lambda terms, mask: weigh(terms, everything) * mask
        try:
            return super().signals(user, question, now)
        finally:
            del self.words.scores


class SlowRefusal(Desk):
    """A document is fetched and read before its reader's rights are looked up."""

    def open(self, user: str, document: str) -> Document:
        if leaf := self.library.leaves.get(document):
            words(leaf.document.body * 5)
        return super().open(user, document)


#: Name on the page → the assistant's parts, one of them faulty.
PLANTED: dict[str, Parts] = {
    "cache without rights": Parts(CacheWithoutRights),
    "log with text": Parts(LogWithText),
    "citation of a hidden source": Parts(ForbiddenCitation),
    "count of all hits": Parts(CountOfAll),
    "stale groups": Parts(store=StaleGroups),
    "filled up from hidden hits": Parts(reader=FilledUp),
    "stored turn after revocation": Parts(StoredTurns),
    "error with a title": Parts(ErrorWithTitle),
    "key of the question alone": Parts(KeyOfQuestion),
    "stream not asked again": Parts(UnguardedStream),
    "rarity counted over all": Parts(library=RareWordsFirst),
    "gained before the text came": Parts(store=GainedAtOnce),
}


def over_http(parts: Parts) -> Parts:
    """Return the same assistant behind the routes of the service."""
    desk: Callable = lambda reader: OverHttp(parts.desk(reader))  # noqa: E731
    return Parts(desk, parts.store, parts.reader, parts.library, parts.refresh)


def catches(seeds: Sequence[int], budget: int = 800) -> pd.DataFrame:
    """Hunt for each planted fault until it shows.

    Returns
    -------
    DataFrame
        ``fault``, ``seed``, ``first`` (query of the first leak; missing if the budget was not
        enough), ``check`` (that found it).
    """
    rows = []
    for fault, parts in PLANTED.items():
        for seed in seeds:
            report = hunt(budget, seed, parts, -(-budget // 100), until_leak=True)
            check = None if report.leaks.empty else report.leaks["check"].iloc[0]
            rows.append((fault, seed, report.first, check))
    return pd.DataFrame(rows, columns=["fault", "seed", "first", "check"])
