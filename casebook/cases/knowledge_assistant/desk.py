"""The one way through the assistant: understand, find, answer, show, remember, and hide the rest.

A :class:`Desk` has every way out that a service has: answers with citations and counts, documents,
places that citations lead to, conversations, errors, a log. What makes the answer is a
:class:`Reader`: :class:`Quotes` here, :class:`~.answering.Assistant` for the chapter. The service
puts tokens and budgets in front of a desk, :mod:`.hunt` looks at each way out of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from casebook.cases.knowledge_assistant.library import Library, Mix
from casebook.cases.knowledge_assistant.records import Document
from casebook.retrieval.follow_up import standalone
from casebook.serving.conversations import Shelf, SqliteShelf, Turn, Turns
from casebook.serving.permitted_answers import AnswerCache, Kept
from casebook.serving.showing import WITHDRAWN, Piece, guarded

#: Passages that :class:`Quotes` shows, and characters of each by which it is found again.
QUOTED, ANCHOR = 3, 200
UNKNOWN = Piece("I don't know: I found nothing that you may read and that answers this for sure.")


class NotFound(LookupError):
    """There is no such document, or none that the user may see: one error, one text."""


@dataclass(frozen=True)
class Citation:
    """A place in a version of a document: the text that stands there is its anchor.

    Attributes
    ----------
    document : str
    version : int
    anchor : str
    start : int
    """

    document: str
    version: int
    anchor: str
    start: int


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes
    ----------
    pieces : tuple of Piece
    citations : tuple of Citation
        In the order of the numbers in the pieces; without any, nothing is answered.
    read : tuple of (str, int)
        Documents, with their versions, that were read for it.
    tokens : int
        That a model read and wrote.
    """

    pieces: tuple[Piece, ...]
    citations: tuple[Citation, ...] = ()
    read: tuple[tuple[str, int], ...] = ()
    tokens: int = 0


class Reader(Protocol):
    """What makes answers from a library, under the rights of who asks."""

    library: Library

    def understood(self, user: str, turns: Sequence[str]) -> str:
        """Return the last of some turns as a question that stands by itself."""

    def answer(self, user: str, question: str, now: np.datetime64) -> Answer:
        """Answer a question that stands by itself."""


class Quotes:
    """The smallest reader: the best passages of the hybrid search, as they are."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def understood(self, user: str, turns: Sequence[str]) -> str:
        """Return the last of some turns as a question that stands by itself."""
        return standalone(turns, self.library.view(user).names)

    def answer(self, user: str, question: str, now: np.datetime64) -> Answer:
        """Quote."""
        library = self.library
        with library.steady():
            signals = library.signals(user, question, now)
            rows = library.ranked(signals, Mix(0.5, 0.1))["row"].head(QUOTED)
            chunks = [library.chunks[row] for row in rows]
        read = tuple((one.article.article_id, one.article.version) for one in chunks)
        pieces = tuple(Piece(one.text, (key,)) for one, key in zip(chunks, read, strict=True))
        told = zip(read, chunks, strict=True)
        cited = tuple(Citation(*key, one.text[:ANCHOR], one.start) for key, one in told)
        return Answer(pieces, cited, read) if cited else Answer((UNKNOWN,))


class Desk:
    """The assistant, whatever its reader.

    Parameters
    ----------
    reader : Reader
    shelf : Shelf, optional
        Keeps conversations; SQLite in memory by default.
    """

    def __init__(self, reader: Reader, shelf: Shelf | None = None) -> None:
        self.reader, self.library = reader, reader.library
        self.access = self.library.access
        library = self.library
        self.cache = AnswerCache(self.access, library.versions, lambda: library.urgent)
        self.turns = Turns(self.access, shelf or SqliteShelf())
        self.log: list[str] = []

    def ask(
        self,
        user: str,
        conversation: str,
        question: str,
        spend: Callable[[int], None] = lambda tokens: None,
    ) -> Iterator[dict[str, Any]]:
        """Yield an answer: how the question was understood, its pieces, citations at the end.

        Before each piece the rights are asked about all that was read; whatever ends the answer,
        what was shown of it is kept as a turn.

        Parameters
        ----------
        user, conversation, question : str
        spend : callable
            Told of a model's tokens as soon as they are used.
        """
        shown: list[Piece] = []
        turns = [turn.question for turn in self.turns.history(user, conversation)]
        try:
            understood = self.reader.understood(user, [*turns, question])
            yield {"event": "understood", "question": understood}
            key, kept = self.made(user, understood, spend)
            for piece in self.guarded(user, kept):
                shown.append(piece)
                yield {"event": "piece", "text": piece.text}
            whole = WITHDRAWN not in shown and all(self.access.shows(user, kept.used))
            same = self.cache.key(user, understood) == key
            count = kept.beside["count"] if same else self.counted(user, understood)
            cited = self.cited(user, kept) if whole else []
            yield {"event": "end", "turn": len(turns), "count": count, "citations": cited}
        finally:
            if shown:
                self.turns.add(user, conversation, question, shown)
            self._note("ask", user, question, [piece.text for piece in shown])

    def open(self, user: str, document: str) -> Document:
        """Return a document; NotFound if the user may not see it, or if it is not there."""
        if (found := self.library.read(user, document)) is None:
            raise self.refusal(document)
        return found

    def resolve(self, user: str, citation: Citation) -> dict[str, object]:
        """Return where a citation leads today; NotFound as :meth:`open`.

        Returns
        -------
        dict
            ``state``: *same* (the version that was cited), *moved* (a later version has the text,
            maybe elsewhere) or *changed* (the text is gone from it); ``version``, ``title``,
            ``path`` and ``start`` (None where it changed) of what is in force.
        """
        document = self.open(user, citation.document)
        start = document.body.find(citation.anchor, max(0, citation.start))
        start = document.body.find(citation.anchor) if start < 0 else start
        same = document.version == citation.version
        state = "changed" if start < 0 else "same" if same else "moved"
        told = {"state": state, "version": document.version, "title": document.title}
        return told | {"path": document.path, "start": start if start >= 0 else None}

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return a conversation as it may be shown now."""
        return self.turns.history(user, conversation)

    # The parts, each with a name, so that a fault can be planted into each

    def made(self, user: str, question: str, spend: Callable[[int], None]) -> tuple[str, Kept]:
        """Return an answer, made or remembered, and its key, which is taken before the search."""
        key = self.cache.key(user, question)
        if kept := self.cache.get(user, key):
            return key, kept
        answer = self.reader.answer(user, question, np.datetime64(int(self.access.clock()), "s"))
        spend(answer.tokens)
        cited = [asdict(one) for one in answer.citations]
        beside = {"count": self.counted(user, question), "citations": cited}
        kept = Kept(answer.pieces, answer.read if cited else (), beside)
        if cited:  # what is unknown today may be known in a minute
            self.cache.put(key, kept)
        return key, kept

    def guarded(self, user: str, kept: Kept) -> Iterator[Piece]:
        """Yield the pieces, as long as the user may see what they were made from."""
        return guarded(kept.pieces, lambda told: self.access.shows(user, told), kept.used)

    def counted(self, user: str, question: str) -> int:
        """Return how many documents that the user may see have all words of the question."""
        return self.library.count(user, question)

    def cited(self, user: str, kept: Kept) -> list[dict[str, Any]]:
        """Return the sources below the answer, each with its title, as the user may see them."""
        cited = [
            (one, self.library.read(user, one["document"])) for one in kept.beside["citations"]
        ]
        return [one | {"title": page.title} for one, page in cited if page]

    def refusal(self, document: str) -> NotFound:
        """Return the one error for what is hidden and what is not there."""
        return NotFound("There is no such document or conversation, or none that you may see.")

    def line(self, what: str, user: str, question: str, shown: Sequence[str]) -> dict[str, object]:
        """Return what the log keeps: no text of a question or an answer, no name of a document."""
        return {"what": what, "user": user, "letters": len(question), "pieces": len(shown)}

    def _note(self, what: str, user: str, question: str, shown: Sequence[str]) -> None:
        self.log.append(json.dumps(self.line(what, user, question, shown)))
