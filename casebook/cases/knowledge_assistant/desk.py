"""The one way through the assistant: understand, find, answer, show, remember, and hide the rest.

A :class:`Desk` has every way out that a service has: answers with citations and counts, documents,
places that citations lead to, conversations, errors, a log. What makes the answer is a
:class:`Reader`: :class:`Quotes` here, :class:`~.answering.Assistant` for the chapter. The service
puts tokens and budgets in front of a desk, :mod:`.hunt` looks at each way out of it.

A text that is gone from its document, deleted or cut by a later version, goes from the cache of
answers and from the stored turns as well (:meth:`Desk.gone`), when the round that brings the news
is stored: a conversation shows what its sources still say. An answer that is being made at that
moment may enter the cache afterwards: nobody gets it, and it is overwritten when it is too old.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from casebook.cases.knowledge_assistant.library import Library, Mix
from casebook.cases.knowledge_assistant.records import Document
from casebook.retrieval.follow_up import standalone
from casebook.serving.closing import Closing, finish
from casebook.serving.conversations import Shelf, SqliteShelf, Turn, Turns
from casebook.serving.permitted_answers import AnswerCache, Kept
from casebook.serving.showing import WITHDRAWN, Piece, guarded

#: Passages that :class:`Quotes` shows, and characters of each by which it is found again.
QUOTED, ANCHOR = 3, 200
#: Characters of an anchor, at most: a line may be as long as its document.
LONGEST_ANCHOR = 2_000
#: Lines of the log that are kept in memory, at least.
LINES = 10_000
_log = logging.getLogger(__name__)
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
        self.cache = AnswerCache(self.access, self.library.versions, self.library.urgent)
        self.turns = Turns(self.access, shelf or SqliteShelf())
        self.log: list[str] = []
        self._left: deque[Callable[[], None]] = deque()
        self._gone: deque[str] = deque()
        self.library.tells.add(self)

    def ask(
        self,
        user: str,
        conversation: str,
        question: str,
        spend: Callable[[int], None] = lambda tokens: None,
    ) -> Closing:
        """Yield an answer: how the question was understood, its pieces, citations at the end.

        Before each piece the rights are asked about all that was read; whatever ends the answer,
        what was shown of it is kept as a turn. Who does not read to the end closes the stream.

        Parameters
        ----------
        user, conversation, question : str
        spend : callable
            Told of a model's tokens as soon as they are used.
        """
        shown, number = list[Piece](), list[int]()

        def end() -> None:
            if shown:
                self._add(user, conversation, question, shown, number[0])
            self._note("ask", user, question, [piece.text for piece in shown])

        asked = self._asked(user, conversation, question, spend, shown, number)
        return Closing(asked, end, self._left)

    def _asked(self, user, conversation, question, spend, shown, number) -> Iterator[dict]:
        """Yield the events of an answer; note what is shown, and the turn's number."""
        self.tidy()
        turns = [turn.question for turn in self.turns.history(user, conversation)]
        number.append(self.turns.number(user, conversation))
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
        yield {"event": "end", "turn": number[0], "count": count, "citations": cited}

    def _add(self, user: str, conversation: str, question: str, shown: list, number: int) -> None:
        """Keep a turn, without what has gone from its source since it was shown."""
        self.turns.add(user, conversation, question, shown, number)
        told = {source for piece in shown for source in piece.sources}
        now = self.library.versions([name for name, _ in told])
        for (name, version), current in zip(told, now, strict=True):
            if version != current:
                self.turns.erase(name)

    def gone(self, document: str) -> None:
        """Hear that a text is gone: deleted, or not as it was. What is told of it goes too."""
        self._gone.append(document)
        self.tidy()

    def tidy(self) -> None:
        """End streams that were thrown away, and let go what was taken from texts that are gone.

        What fails is logged and tried again the next time; a process that ends before forgets it.
        """
        finish(self._left)
        for document in dict.fromkeys([*self._gone]):
            try:
                self.cache.forget(document)
                self.turns.erase(document)
                self._gone.remove(document)
            except Exception as error:
                _log.error("what was told of a text that is gone stays: %s", type(error).__name__)
                return

    def purge(self) -> int:
        """Overwrite answers and conversations that are too old; return how many."""
        self.tidy()
        return self.cache.purge() + self.turns.purge()

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
            maybe elsewhere) or *changed* (the text is gone from it); ``version``, ``told`` (the
            source's own number of it), ``title``, ``path`` and ``start`` (None where it changed) of
            what is in force.
        """
        document = self.open(user, citation.document)
        start = document.body.find(citation.anchor, max(0, citation.start))
        start = document.body.find(citation.anchor) if start < 0 else start
        same = document.version == citation.version
        state = "changed" if start < 0 else "same" if same else "moved"
        told = {"state": state, "version": document.version, "told": document.as_told().version}
        told |= {"title": document.title, "path": document.path}
        return told | {"start": start if start >= 0 else None}

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return a conversation as it may be shown now."""
        return self.turns.history(user, conversation)

    # The parts, each with a name, so that a fault can be planted into each

    def made(self, user: str, question: str, spend: Callable[[int], None]) -> tuple[str, Kept]:
        """Return an answer, made or remembered, and its key, which is taken before the search.

        It is kept only if no right was gained or lost while it was made and counted.
        """
        heard, key = self.access.heard(), self.cache.key(user, question)
        if kept := self.cache.get(user, key):
            return key, kept
        answer = self.reader.answer(user, question, np.datetime64(int(self.access.clock()), "s"))
        spend(answer.tokens)
        cited = [asdict(one) for one in answer.citations]
        beside = {"count": self.counted(user, question), "citations": cited}
        kept = Kept(answer.pieces, answer.read if cited else (), beside)
        same = self.cache.key(user, question) == key and self.access.heard() == heard
        if cited and same:  # what is unknown today may be known in a minute
            self.cache.put(key, kept)
        return key, kept

    def guarded(self, user: str, kept: Kept) -> Iterator[Piece]:
        """Yield the pieces, as long as the user may see what they were made from."""
        return guarded(kept.pieces, lambda told: self.access.shows(user, told), kept.used)

    def counted(self, user: str, question: str) -> int:
        """Return how many documents that the user may see have all words of the question."""
        return self.library.count(user, question)

    def cited(self, user: str, kept: Kept) -> list[dict[str, Any]]:
        """Return the sources below the answer, as the user may see them.

        Each has its title, and as ``told`` the source's own number of the cited version, 0 if that
        has just been replaced.
        """
        cited = [
            (one, self.library.read(user, one["document"])) for one in kept.beside["citations"]
        ]
        return [
            one
            | {"title": page.title}
            | {"told": page.as_told().version if page.version == one["version"] else 0}
            for one, page in cited
            if page
        ]

    def refusal(self, document: str) -> NotFound:
        """Return the one error for what is hidden and what is not there."""
        return NotFound("There is no such document or conversation, or none that you may see.")

    def line(self, what: str, user: str, question: str, shown: Sequence[str]) -> dict[str, object]:
        """Return what the log keeps: no text of a question or an answer, no name of a document."""
        return {"what": what, "user": user, "letters": len(question), "pieces": len(shown)}

    def _note(self, what: str, user: str, question: str, shown: Sequence[str]) -> None:
        self.log.append(json.dumps(self.line(what, user, question, shown)))
        if len(self.log) > 2 * LINES:
            del self.log[:-LINES]
