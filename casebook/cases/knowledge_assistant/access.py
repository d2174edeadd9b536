"""Who may see what: the store of :mod:`casebook.serving.held_back`, kept up by the feeds' events.

:meth:`Access.sees` is asked by search, counts, citations, the cache of answers, stored turns and
streams; nothing else decides. The rules stand in :mod:`.records`. What an event takes away is gone
at the next request; what it gives waits for :meth:`.HeldBack.settle`, since the texts come later.

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

from collections.abc import Iterable

import numpy as np

from casebook.cases.knowledge_assistant.records import Document, Event
from casebook.serving.held_back import HeldBack


class Access(HeldBack):
    """The rights of the firm; documents are the items that are seen."""

    def apply(self, events: Iterable[Event]) -> int:
        """Take over events, all or none; return how many were news.

        An event whose thing has one with the same or a higher ``seq`` is left out.

        Raises
        ------
        ValueError
            On an event that :func:`~.records.event_of` would refuse; then none is taken over.
        """
        news = 0
        with self.writing():
            for event in events:
                if self.newer(*event.key, event.seq):
                    self.source = event.source
                    self._take(event)
                    news += 1
        return news

    def _take(self, event: Event) -> None:
        """Write one event."""
        name, payload = event.subject, event.payload
        if isinstance(payload, Document):
            self.lies_in(name, payload.container, item=True, edition=payload.version)
        elif event.kind == "deleted":
            self.lies_in(name, None, item=True)
        elif event.kind == "container":
            self.lies_in(name, payload)
        elif event.kind == "grants":
            if any(one.resource != name for one in payload):
                raise ValueError(f"grants of {name} name another resource.")
            self.grants(name, {(one.principal, one.effect) for one in payload})
        elif event.kind == "members":
            self.members(name, payload)
        elif event.kind == "user":
            at = int(event.at.astype("datetime64[s]").astype(np.int64))
            (self.person if payload else self.leaves)(name, at)
        else:
            raise ValueError(f"an event of kind {event.kind!r} with {type(payload).__name__}.")
