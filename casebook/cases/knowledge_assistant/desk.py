"""The smallest whole assistant: find, quote, cite, count, remember, and never say what is hidden.

It has every way out that a service has, so that :mod:`.hunt` can look at each of them: answers with
citations and counts, streams, documents, conversations, errors, a log. A service puts its own
reader and ranking in place of the quotations; the ways out stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answer_cache import AnswerCache, Kept
from casebook.cases.knowledge_assistant.records import Document
from casebook.cases.knowledge_assistant.search import Hit, Search
from casebook.serving.conversations import Shelf, SqliteShelf, Turn, Turns
from casebook.serving.showing import Piece, guarded

#: Pieces that an answer quotes.
QUOTED = 3


class NotFound(LookupError):
    """There is no such document, or none that the user may see: one error, one text."""


@dataclass(frozen=True)
class Reply:
    """An answer as it is shown.

    Attributes
    ----------
    pieces : tuple of Piece
    citations : tuple of (str, str, int)
        Document, title, version.
    count : int
        Documents with all words of the question.
    """

    pieces: tuple[Piece, ...]
    citations: tuple[tuple[str, str, int], ...]
    count: int


class Desk:
    """The assistant.

    Parameters
    ----------
    access : Access
    search : Search
    encode : callable
        A question → its vector.
    shelf : Shelf, optional
        Keeps conversations; SQLite in memory by default.
    """

    def __init__(
        self,
        access: Access,
        search: Search,
        encode: Callable[[str], np.ndarray],
        shelf: Shelf | None = None,
    ) -> None:
        self.access, self.search, self.encode = access, search, encode
        self.cache = AnswerCache(access, search.versions, lambda: search.urgent)
        self.turns = Turns(access, shelf or SqliteShelf())
        self.log: list[str] = []

    def ask(self, user: str, conversation: str, question: str) -> Reply:
        """Answer a question by quotation."""
        key = self.cache.key(user, question)
        if not (kept := self.cache.get(user, key)):
            hits = self.found(user, question)
            used = tuple(dict.fromkeys((hit.document, hit.version) for hit in hits))
            kept = Kept(self.written(hits), self.counted(user, question), used)
            self.cache.put(key, kept)
        reply = Reply(kept.pieces, self.cited(user, kept), kept.count)
        self.turns.add(user, conversation, question, reply.pieces)
        self._note("ask", user, question, [title for _, title, _ in reply.citations])
        return reply

    def stream(self, user: str, question: str) -> Iterator[Piece]:
        """Yield an answer piece by piece, as long as the user may see what it was made from."""
        hits = self.found(user, question)
        read = [(hit.document, hit.version) for hit in hits]
        self._note("stream", user, question, [hit.title for hit in hits])
        return guarded(self.written(hits), lambda told: self.access.shows(user, told), read)

    def open(self, user: str, document: str) -> Document:
        """Return a document; NotFound if the user may not see it, or if it is not there."""
        if (found := self.search.read(user, document)) is None:
            raise self.refusal(document)
        return found

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return a conversation as it may be shown now."""
        return self.turns.history(user, conversation)

    # The parts, each with a name, so that a fault can be planted into each

    def found(self, user: str, question: str) -> list[Hit]:
        """Return what the answer is made from; asked about again, at the moment of use."""
        hits = self.search.find(user, self.encode(question), QUOTED)
        return self.search.still(user, hits)

    def written(self, hits: Sequence[Hit]) -> tuple[Piece, ...]:
        """Return the answer."""
        return tuple(Piece(hit.text, ((hit.document, hit.version),)) for hit in hits)

    def counted(self, user: str, question: str) -> int:
        """Return the count that stands above the answer."""
        return self.search.count(user, question)

    def cited(self, user: str, kept: Kept) -> tuple[tuple[str, str, int], ...]:
        """Return the sources that stand below the answer, each read under the user's rights."""
        read = (self.search.read(user, name) for name, _ in kept.used)
        return tuple((one.id, one.title, one.version) for one in read if one)

    def refusal(self, document: str) -> NotFound:
        """Return the one error for what is hidden and what is not there."""
        return NotFound("There is no such document, or none that you may see.")

    def line(self, what: str, user: str, question: str, hits: Sequence[str]) -> dict[str, object]:
        """Return what the log keeps: no text of a question or an answer, no name of a document."""
        return {"what": what, "user": user, "letters": len(question), "hits": len(hits)}

    def _note(self, what: str, user: str, question: str, hits: Sequence[str]) -> None:
        self.log.append(json.dumps(self.line(what, user, question, hits)))
