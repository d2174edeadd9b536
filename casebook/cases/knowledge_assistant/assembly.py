"""The whole assistant over a folder: each store in a file of its own, which is its owner's alone.

A restart finds rights, copy, dates of the texts, conversations, thumbs and budgets as they were.
The texts are stored anew from the copy by the first round; their dates do not change by it. The
cache of answers begins empty.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.connectors import connectors, refresh
from casebook.cases.knowledge_assistant.desk import Desk, Reader
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.mirror import Mirror
from casebook.cases.knowledge_assistant.service import Service
from casebook.retrieval.dense import Embedder
from casebook.serving.allowance import Allowance
from casebook.serving.bearer import Bearer
from casebook.serving.conversations import SqliteShelf
from casebook.serving.text_dates import TextDates

#: Tokens that a user may spend in a day.
TOKENS = 200_000


class Assembly:
    """Connectors, copy, rights, library, desk and service, connected.

    Parameters
    ----------
    folder : Path
        Made if need be.
    url : str
        Of the sources' servers: ``url/wiki`` and so on.
    embedder : Embedder
        One that keeps its vectors (:class:`.KeptVectors`) spares a restart their making.
    reader : callable
        Makes the reader of a library.
    bearer : Bearer
    teams : iterable of str
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        embedder: Embedder,
        reader: Callable[[Library], Reader],
        bearer: Bearer,
        teams: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.access = Access(folder / "rights.db", clock=clock)
        self.mirror = Mirror(folder / "mirror.db", [self.access.apply])
        self.links = connectors(url, self.mirror)
        self.dates = TextDates(folder / "dates.db")
        self.library = Library(self.access, embedder, teams, dates=self.dates)
        self.desk = Desk(reader(self.library), SqliteShelf(str(folder / "conversations.db")))
        self.service = Service(
            self.desk,
            bearer,
            budget=Allowance(str(folder / "budgets.db"), TOKENS),
            path=str(folder / "thumbs.db"),
            troubles=self.mirror.troubles,
        )
        self._applied = 0

    def refresh(self) -> None:
        """Read all sources to their end and store what is new: :func:`.connectors.refresh`."""
        self._applied = refresh(self.links, self.library, self._applied)

    def close(self) -> None:
        """Close the files that are written by rounds."""
        for one in (self.access, self.mirror, self.dates, *(link.reader for link in self.links)):
            one.close()
