"""Faults, each planted into one part of the assistant: the hunt has to find every one.

The first eight of :data:`PLANTED` hand out what is hidden. Four more are quieter: a wrong key
behind a second check, which leaks a number only; a stream that is not asked again; a ranking that
no hidden text ever leaves, although it depends on what is hidden; a text that is shown under rights
that were given to a later one. :class:`SlowRefusal` tells by the clock alone. Each is a few lines,
as it would be in real code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answer_cache import AnswerCache, Kept, normalised
from casebook.cases.knowledge_assistant.desk import QUOTED, Desk, NotFound
from casebook.cases.knowledge_assistant.hunt import AIMED, hunt
from casebook.cases.knowledge_assistant.records import Document
from casebook.cases.knowledge_assistant.search import Hit, words
from casebook.retrieval.filtered import Visible
from casebook.serving.conversations import Turn, _key
from casebook.serving.rights import Sight
from casebook.serving.showing import Piece, of_json


def _everything(desk: Desk, question: str, k: int) -> list[Hit]:
    """Search without a mask, as the faults do."""
    search = desk.search
    rows = search._index.search(desk.encode(question), Visible.of(search._live), k).rows
    told = [(search._documents[search._pieces[row][0]][0], search._pieces[row][1]) for row in rows]
    return [Hit(one.id, one.version, one.title, text, 0.0) for one, text in told]


class _SharedCache(AnswerCache):
    def key(self, user: str, question: str) -> str:
        return hashlib.sha256(normalised(question).encode()).hexdigest()


class KeyOfQuestion(Desk):
    """The key is made of the question alone; the second check of :meth:`AnswerCache.get` stays."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)
        self.cache = _SharedCache(self.access, self.search.versions, lambda: 0)


class _TrustingCache(_SharedCache):
    def get(self, user: str, key: str) -> Kept | None:
        row = self._ask("SELECT pieces, count, used FROM answers WHERE key = ?", key)
        told = row and (of_json(row[0][0]), row[0][1], json.loads(row[0][2]))
        return Kept(tuple(told[0]), told[1], tuple(map(tuple, told[2]))) if told else None


class CacheWithoutRights(Desk):
    """The key is made of the question alone, and what stands behind it is handed out."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)
        self.cache = _TrustingCache(self.access, self.search.versions, lambda: 0)


class LogWithText(Desk):
    """The log says what was found, to help with debugging."""

    def line(self, what: str, user: str, question: str, hits: Sequence[str]) -> dict[str, object]:
        return super().line(what, user, question, hits) | {"best": [*hits][:1]}


class ForbiddenCitation(Desk):
    """A list "see also" is filled from the whole index."""

    def cited(self, user: str, kept: Kept) -> tuple[tuple[str, str, int], ...]:
        first = super().cited(user, kept)
        question = kept.pieces[0].text if kept.pieces else ""
        more = [(h.document, h.title, h.version) for h in _everything(self, question, 1)]
        return (*first, *(one for one in more if one not in first))


class CountOfAll(Desk):
    """The count is that of the index, which has no rights."""

    def counted(self, user: str, question: str) -> int:
        having = (self.search._having[word] for word in words(question))
        return len(set.intersection(*having))


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


class OneEdition(Access):
    """What a document said before it was moved is shown to those who see its new place."""

    def lies_in(self, *told: object, edition: int = 0, **more: bool) -> None:
        super().lies_in(*told, **more)


class FilledUp(Desk):
    """Hidden hits are dropped, and if too few are left, the list is filled up with the next."""

    def found(self, user: str, question: str) -> list[Hit]:
        hits = _everything(self, question, 4 * QUOTED)
        right = self.access.sees(user, [hit.document for hit in hits])
        good = [hit for hit, may in zip(hits, right, strict=True) if may]
        return (good + [hit for hit in hits if hit not in good])[:QUOTED]


class StoredTurns(Desk):
    """A stored conversation is shown as it is."""

    def history(self, user: str, conversation: str) -> list[Turn]:
        texts = self.turns.shelf.read(_key(user, conversation), self.access.clock())
        told = (json.loads(text) for text in texts)
        return [Turn(at, asked, tuple(of_json(pieces))) for at, asked, pieces in told]


class ErrorWithTitle(Desk):
    """The error is helpful."""

    def refusal(self, document: str) -> NotFound:
        if document in self.search._documents:
            return NotFound(f"You may not see “{self.search._documents[document][0].title}”.")
        return super().refusal(document)


class UnguardedStream(Desk):
    """Rights are asked for once, when the stream begins."""

    def stream(self, user: str, question: str) -> Iterator[Piece]:
        return iter(self.written(self.found(user, question)))


class RareWordsFirst(Desk):
    """Pieces are ranked by the rarity of their words, counted over all documents, as BM25 does."""

    def found(self, user: str, question: str) -> list[Hit]:
        rarity = {word: 1 / (1 + len(self.search._having[word])) for word in words(question)}

        def score(hit: Hit) -> float:
            return sum(value for word, value in rarity.items() if word in words(hit.text))

        hits = self.search.find(user, self.encode(question), 10 * QUOTED)
        return sorted(self.search.still(user, hits), key=score, reverse=True)[:QUOTED]


class SlowRefusal(Desk):
    """A document is fetched and read before its reader's rights are looked up."""

    def open(self, user: str, document: str) -> Document:
        if told := self.search._documents.get(document):
            words(told[0].body * 5)
        return super().open(user, document)


#: Name on the page → the faulty assistant, and the store that it asks.
PLANTED: dict[str, tuple[type[Desk], Callable[..., Access]]] = {
    "cache without rights": (CacheWithoutRights, Access),
    "log with text": (LogWithText, Access),
    "citation of a hidden source": (ForbiddenCitation, Access),
    "count of all hits": (CountOfAll, Access),
    "stale groups": (Desk, StaleGroups),
    "filled up from hidden hits": (FilledUp, Access),
    "stored turn after revocation": (StoredTurns, Access),
    "error with a title": (ErrorWithTitle, Access),
    "key of the question alone": (KeyOfQuestion, Access),
    "stream not asked again": (UnguardedStream, Access),
    "rarity counted over all": (RareWordsFirst, Access),
    "old text under new rights": (Desk, OneEdition),
}


def catches(seeds: Sequence[int], budget: int = 800, aimed: float = AIMED) -> pd.DataFrame:
    """Hunt for each planted fault until it shows.

    Returns
    -------
    DataFrame
        ``fault``, ``seed``, ``first`` (query of the first leak; missing if the budget was not
        enough), ``check`` (that found it).
    """
    rows = []
    for fault, (desk, store) in PLANTED.items():
        for seed in seeds:
            worlds = -(-budget // 100)
            report = hunt(budget, seed, desk, store, worlds, until_leak=True, aimed=aimed)
            check = None if report.leaks.empty else report.leaks["check"].iloc[0]
            rows.append((fault, seed, report.first, check))
    return pd.DataFrame(rows, columns=["fault", "seed", "first", "check"])
