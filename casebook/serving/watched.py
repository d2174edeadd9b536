"""An event log whose file may be broken, deleted or replaced while a service goes on.

What SQLite cannot read at a start is put aside, and told; a file that was deleted or replaced
is begun anew with the next event, since whoever holds a deleted file open writes into nothing.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> log = Watched(Path(folder.name) / "log.db")
>>> log.append([("a", "1")]), log.path.unlink(), log.append([("a", "2")]), len(log.faults)
('1', None, '1', 1)
>>> log.close(), folder.cleanup()
(None, None)
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from casebook.features.hashes import put_aside
from casebook.serving.eventlog import EventLog, checked


class Watched(EventLog):
    """An :class:`~casebook.serving.eventlog.EventLog` that outlives its file.

    Parameters
    ----------
    path : Path or str

    Attributes
    ----------
    faults : list of str
        What became of the file, a sentence each: what it held is missing in this one.
    """

    def __init__(self, path: Path | str) -> None:
        self.faults: list[str] = []
        try:
            self._begin(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or no folder: no other file
                raise
            put_aside(Path(path))
            self._begin(path)
            self._told(f"{error}; it is kept as {self.path.name}.broken")

    def append(self, events: Iterable[tuple[str, str]]) -> str:
        """Append events to the file that is there: as :meth:`.EventLog.append`."""
        events = checked(events)
        with self._lock:
            if self._there() != self._file:
                self._db.close()
                if self._there() is None:  # what belongs to the old one would spoil the new one
                    for end in ("-wal", "-shm"):
                        Path(f"{self.path}{end}").unlink(missing_ok=True)
                self._begin(self.path)
                self._told("was deleted or replaced, and is written anew")
            return super().append(events)

    def _begin(self, path: Path | str) -> None:
        super().__init__(path)
        self._file = self._there()

    def _there(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _told(self, what: str) -> None:
        self.faults = [*self.faults[-4:], f"log: {self.path.name}: {what}"]
