"""Keep a copy of the sources and the library up to date: rights at once, texts after a whole round.

Who may see a document never waits for a backlog: the lane ``access`` of *all* sources is read to
its end before every page of documents, and ``critical`` before the rest. :func:`refresh` has one
order: rights of all sources, then texts, then rights again, then show. A text that was written
after somebody lost a right is stored after that loss has come; a right that came after a text is
let hold after that text (:mod:`casebook.serving.held_back`). So nobody sees an old text by a new
right, nor a new text by an old one.

Each reading is noted in ``library.rights_lags`` and ``library.lags``, by the second in which it
began, so that the service can ring when a source falls behind.

Nothing stops the others: a source that fails, in whatever way, is left out until the next time; an
entry that is no event is put aside and its subject hidden (:mod:`.mirror`); a document whose text
the embedder refuses is not shown, and tried again. While the directory does not answer, no text is
stored, since nobody knows who has left.

What it cannot do: see a change before the source tells it, or know of a text that the source tells
later than the right that came after it. A critical document is stored at the end of the round: in
seconds, as long as no source has a backlog.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.mirror import Mirror
from casebook.cases.knowledge_assistant.records import DIRECTORY, SOURCES, Document, Event
from casebook.cases.knowledge_assistant.world.sources import LANES
from casebook.llm.timing import Budget
from casebook.retrieval.dense import Embedder
from casebook.retrieval.kept_vectors import KeptVectors
from casebook.serving.deltas import ALL, Page, Reader, drain

__all__ = ["Connector", "Mirror", "connectors", "index_hours", "refresh"]

#: Documents that are embedded before the rights are looked at again.
BATCH = 32
#: Times that all sources are read, until one finds nothing new.
PASSES = 3
#: Seconds for which the others wait for a source with what people gain in the directory.
PATIENCE = 600.0


class Connector:
    """Keeps one source's part of a mirror up to date.

    Parameters
    ----------
    source : str
    url : str
        Of its server.
    mirror : Mirror
    budget : Budget
        For one page.
    """

    def __init__(
        self,
        source: str,
        url: str,
        mirror: Mirror,
        budget: Budget | None = None,
    ) -> None:
        if source not in (*SOURCES, DIRECTORY):
            raise ValueError(f"{source!r} is no source: {', '.join((*SOURCES, DIRECTORY))}")
        self.source, self.mirror = source, mirror
        self.reader, self._lock = Reader(url, budget), threading.RLock()

    def sync(
        self,
        pages: int | None = None,
        limit: int = 200,
        lanes: Sequence[str] = LANES,
        before: Callable[[], Any] = lambda: None,
    ) -> int:
        """Read what is new, urgent lanes first; return how many pages were taken.

        Parameters
        ----------
        pages, limit, lanes
            As of :func:`.drain`.
        before : callable
            Called before every page that is not of the first lane.

        Raises
        ------
        FeedDown
            If the server does not answer within the budget; what was read is kept.
        """
        with self._lock:
            taken = drain(
                self.reader,
                self._take,
                lambda lane: self.mirror.cursor(self.source, lane),
                lanes,
                limit,
                pages,
                lambda lane: self.mirror.begin(self.source),
                before,
            )
            if ALL in lanes and (pages is None or taken < pages):
                self.mirror.finish(self.source)
            return taken

    def _take(self, lane: str, page: Page) -> None:
        self.mirror.take(self.source, lane, page.entries, page.cursor)


def connectors(url: str, mirror: Mirror, **how: Any) -> list[Connector]:
    """Return the connectors of all servers behind an address; the directory comes first."""
    return [Connector(one, f"{url}/{one}", mirror, **how) for one in (DIRECTORY, *SOURCES)]


class _Reading:
    """One reading of all sources, and which of them failed.

    Attributes
    ----------
    down : set of str
        Sources whose texts were not read to their end.
    silent : set of str
        Sources whose rights were not.
    began : dict of str to float
        When the last reading of each source's texts began.
    """

    def __init__(self, links: Sequence[Connector], library: Library) -> None:
        self.links, self.down, self.silent = links, set[str](), set[str]()
        self.clock, self.lags = library.access.clock, library.rights_lags
        self.began = dict[str, float]()
        links[0].mirror.failed = {}

    def rights(self, but: str = "") -> None:
        """Read the rights of all sources to their end."""
        for link in self.links:
            if link.source not in (*self.silent, but):
                self._tried(link, self.silent, LANES[:1])

    def everything(self) -> int:
        """Read all lanes of all sources, all rights before each page; return pages of texts."""
        taken = 0
        for link in self.links:
            if link.source not in self.down | self.silent:
                self.began[link.source] = self.clock()
                taken += self._tried(link, self.down, LANES)
        return taken

    def _tried(self, link: Connector, failed: set[str], lanes: Sequence[str]) -> int:
        began = self.clock()

        def heard() -> None:
            """Note that the source's own rights were read to their end; read the others'."""
            nonlocal began
            self.lags.ended(link.source, began)
            self.rights(but=link.source)
            began = self.clock()

        try:
            taken = link.sync(lanes=lanes, before=heard)
        except Exception as error:
            failed.add(link.source)
            link.mirror.failed[link.source] = type(error).__name__
            return 0
        if len(lanes) == 1:  # nobody called ``heard``
            self.lags.ended(link.source, began)
        return taken

    @property
    def late(self) -> set[str]:
        """Sources whose texts and gains wait."""
        return self.down | self.silent


def refresh(
    links: Iterable[Connector], library: Library, applied: int = 0, patience: float = PATIENCE
) -> int:
    """Read all sources to their end, store the texts, and let what was gained hold.

    A backlog is embedded first, and losses of rights are read after every :data:`BATCH` documents
    of it. Then all texts are stored at once: no right changes between them and the last event.
    Only one refresh of a mirror runs at a time; others may take pages meanwhile.

    Parameters
    ----------
    links : iterable of Connector
        Of one mirror, among whose sinks is ``library.access.apply``.
    library : Library
    applied : int
        What this returned the last time; 0 for a library that is empty.
    patience : float
        Seconds for which a source that does not answer is waited for.

    Returns
    -------
    int
        The same as before if a source did not answer. Texts and gains of that source then wait,
        and what people gain in the directory, as nobody knows what has changed there. After
        ``patience`` nothing of that source is shown until it answers, and the others go on. If it
        is the directory, all texts and gains wait.
    """
    links = [*links]
    mirror, access, names = links[0].mirror, library.access, [link.source for link in links]
    library.lags.expects(names), library.rights_lags.expects(names)
    with mirror.refreshing:
        access.fed_by(mirror.id, lambda: mirror.news()[0])
        reading = _Reading(links, library)
        for _ in range(PASSES):
            heard = access.heard()  # all texts from before these changes come with this pass
            if not reading.everything():
                break
        events, now = mirror.news(applied, mirror.unstored)
        _warm(library, events, reading)
        reading.rights()  # once more: as new as the newest text
        late = reading.late
        lags = mirror.lags(late - {DIRECTORY})
        given_up = frozenset(one for one, seconds in lags.items() if seconds >= patience)
        access.silent |= given_up
        if DIRECTORY not in reading.silent:
            events = [event for event in events if event.source not in late]
            with library.steady():
                _store(library, events, mirror.unstored)
                access.settle(heard, late | ({DIRECTORY} if late - given_up else set()))
            access.silent = given_up
            for source in {*names} - late:
                library.lags.ended(source, reading.began[source])
        mirror.ended({*names} - late)
        mirror.scrub()
        return applied if late else now


def _warm(library: Library, events: Iterable[Event], reading: _Reading) -> None:
    """Embed texts ahead, for an embedder that keeps vectors, with a look at the rights between."""
    if isinstance(library.embedder, KeptVectors):
        told = [one.payload for one in events if isinstance(one.payload, Document)]
        for start in range(0, len(told), BATCH):
            with suppress(Exception):  # the library will meet it too
                library.warm(told[start : start + BATCH])
            reading.rights()


def _store(library: Library, events: Iterable[Event], unstored: dict[str, str]) -> None:
    """Drop what was deleted and store what was written; note what cannot be stored."""
    stored = {leaf.document for leaf in library.leaves.values()}
    written = []
    for event in events:
        if event.kind == "deleted":
            library.drop(event.subject)
            unstored.pop(event.subject, None)
        elif isinstance(event.payload, Document) and event.payload not in stored:
            written.append(event.payload)
    refused = _taken(library, written)
    for document in written:
        unstored.pop(document.id, None)
    unstored |= refused


def _taken(library: Library, documents: Sequence[Document]) -> dict[str, str]:
    """Store documents; return those that are refused, of which nothing is shown any more."""
    if not documents:
        return {}
    try:
        library.take(documents)
        return {}
    except Exception as error:
        if (half := len(documents) // 2) == 0:
            _need_works(library.embedder)
            library.drop(documents[0].id)
            return {documents[0].id: type(error).__name__}
    return _taken(library, documents[:half]) | _taken(library, documents[half:])


def _need_works(embedder: Embedder) -> None:
    """Raise what an embedder raises that embeds nothing at all."""
    probe = f"probe {uuid.uuid4().hex}"
    embedder.encode([probe])
    if forget := getattr(embedder, "forget", None):
        forget([probe])


def index_hours(
    documents: int, passages_each: float, passages_a_second: float, documents_a_second: float
) -> float:
    """Return the hours to read and embed a whole collection with one worker, by arithmetic.

    Parameters
    ----------
    documents : int
    passages_each : float
    passages_a_second : float
        Of the embedder, measured.
    documents_a_second : float
        Of reading and writing without embedding, measured.

    Examples
    --------
    >>> round(index_hours(500_000, 2, 24, 1_000), 1)  # MiniLM on two threads
    11.7
    """
    return documents * (passages_each / passages_a_second + 1 / documents_a_second) / 3600
