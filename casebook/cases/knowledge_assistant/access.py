"""Who may see what: the store of :mod:`casebook.serving.held_back`, kept up by the feeds' events.

:meth:`Access.sees` is asked by search, counts, citations, the cache of answers, stored turns and
streams; nothing else decides. The rules stand in :mod:`.records`. What an event takes away is gone
at the next request; what it gives waits for :meth:`.HeldBack.settle`, since the texts come later.
A leave holds from its arrival. What an event without a readable payload speaks of is hidden. Where
an event cannot be written, this process shows nothing to anybody until it has been.

Examples
--------
>>> from casebook.cases.knowledge_assistant.records import Grant, moment
>>> noon = moment("2025-03-01T12:00:00")
>>> allow = Grant("wiki:c1", "group:legal", "allow")
>>> told = [Event("directory", 1, noon, "user", "user:ann", True),
...         Event("directory", 2, noon, "members", "group:legal", ("user:ann",)),
...         Event("wiki", 1, noon, "container", "wiki:c1", ""),
...         Event("wiki", 2, noon, "grants", "wiki:c1", (allow,)),
...         Event("wiki", 3, noon, "document", "wiki:d1", Document("wiki:d1", "wiki", "p", "t",
...             "b", 1, noon, "user:ann", False, "wiki:c1"))]
>>> access = Access(":memory:")
>>> access.apply(told), access.settle()
(5, 5)
>>> access.sees("user:ann", ["wiki:d1", "wiki:d2"]).tolist()
[True, False]
>>> access.apply([Event("directory", 3, noon, "members", "group:legal", ())])
1
>>> access.sees("user:ann", ["wiki:d1"]).tolist()
[False]
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from casebook.cases.knowledge_assistant.records import Document, Event
from casebook.serving.held_back import HeldBack
from casebook.serving.rights import EVERYBODY, Sight, _keep


class Access(HeldBack):
    """The rights of the firm; documents are the items that are seen.

    Attributes
    ----------
    silent : frozenset of str
        Sources of which this process shows nothing, as they have not answered for too long.
    """

    def __init__(self, path: Path | str, *how: Any, **more: Any) -> None:
        super().__init__(path, *how, **more)
        self._unwritten: dict[tuple[str, str], int] = {}
        self.silent: frozenset[str] = frozenset()
        self._spoken: OrderedDict[tuple, Sight] = OrderedDict()

    def sight(self, name: str) -> Sight:
        """Return what somebody sees, but for the sources that are silent."""
        with self._lock:
            now, silent = super().sight(name), self.silent
            if not silent:
                return now
            key = now.fingerprint, len(now.mask), silent
            if key not in self._spoken:
                mask = now.mask.copy()
                known = ((row, one.split(":")[0]) for one, row in self._row_of.items())
                mask[[row for row, one in known if one in silent and row < len(mask)]] = False
                _keep(self._spoken, key, Sight(mask, now.editions), self._kept)
            return self._spoken[key]

    def apply(self, events: Iterable[Event]) -> int:
        """Take over events, all or none; return how many were news.

        An event whose thing has one with the same or a higher ``seq`` is left out.

        Raises
        ------
        ValueError
            On an event that :func:`~.records.event_of` would refuse; then none is taken over.
        sqlite3.Error
            If the store cannot be written; it is shut until these events have been taken over.
        """
        news, events = 0, [*events]
        with self._lock:
            try:
                with self.writing():
                    for event in events:
                        if self.newer(*event.key, event.seq):
                            self.source = event.source
                            self._take(event)
                            news += 1
            except sqlite3.Error:
                self._unwritten |= {event.key: event.seq for event in events}
                self.shut = True
                raise
            for event in events:
                if event.seq >= self._unwritten.get(event.key, event.seq + 1):
                    del self._unwritten[event.key]
            self.shut = bool(self._unwritten)
        return news

    def fed_by(self, copy: str, events: Callable[[], Iterable[Event]]) -> None:
        """Take over all that a copy of the sources has, unless it has fed this store before.

        Raises
        ------
        ValueError
            If another copy has: its numbers say nothing about those of this one.
        """
        query = "SELECT subject FROM said WHERE kind = 'copy'"
        with self._lock:
            known = [name for (name,) in self._db.execute(query)]
            if known == [copy]:
                return
            if known:
                raise ValueError(
                    "The rights are those of another copy of the sources: delete their two files."
                )
            self.apply(events())
            with self.writing():
                self.newer("copy", copy, 1)

    def _take(self, event: Event) -> None:
        """Write one event."""
        name, kind, payload = event.subject, event.kind, event.payload
        if isinstance(payload, Document):
            self.lies_in(name, payload.container, item=True, edition=payload.version)
        elif kind == "deleted":
            self.lies_in(name, None, item=True)
        elif kind == "container":
            self.lies_in(name, payload)
        elif kind == "grants":
            told = payload or ()
            if any(one.resource != name for one in told):
                raise ValueError(f"grants of {name} name another resource.")
            unread = {(EVERYBODY, "deny")} if payload is None else set()
            self.grants(name, {(one.principal, one.effect) for one in told} | unread)
        elif kind == "members":
            self.members(name, (EVERYBODY,) if payload is None else payload)
        elif kind == "user" and payload:
            self.person(name, int(event.at.astype("datetime64[s]").astype(np.int64)))
        elif kind == "user":
            self.leaves(name, 0)  # not at the source's second: two clocks never agree
        else:
            raise ValueError(f"an event of kind {kind!r} with {type(payload).__name__}.")
