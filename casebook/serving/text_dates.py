"""Since when each text is as it is, in a file: a restart must not make old texts new.

Examples
--------
>>> dates = TextDates()
>>> march, may = np.datetime64("2026-03-01", "s"), np.datetime64("2026-05-01", "s")
>>> dates.keep({"wiki:d1": ("a hash", march)})
>>> dates.of(["wiki:d1", "wiki:d2"])["wiki:d1"] == ("a hash", march)
True
>>> dates.forget("wiki:d1"), dates.of(["wiki:d1"])
(None, {})
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from casebook.data.private import private


class TextDates:
    """Hash and date of the last change of each text.

    Parameters
    ----------
    path : Path or str
        Of a file of SQLite, which is made for its owner alone.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA secure_delete = ON")
        columns = "name TEXT PRIMARY KEY, digest TEXT NOT NULL, since INTEGER NOT NULL"
        self._db.execute(f"CREATE TABLE IF NOT EXISTS text ({columns}) WITHOUT ROWID")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def of(self, names: Iterable[str]) -> dict[str, tuple[str, np.datetime64]]:
        """Return hash and date of those that are known."""
        query, found = "SELECT digest, since FROM text WHERE name = ?", {}
        with self._lock:
            for name in names:
                if row := self._db.execute(query, (name,)).fetchone():
                    found[name] = row[0], np.datetime64(row[1], "s")
        return found

    def keep(self, told: Mapping[str, tuple[str, np.datetime64]]) -> None:
        """Keep hashes and dates, all or none."""
        rows = [
            (name, digest, int(np.datetime64(since, "s").astype(np.int64)))
            for name, (digest, since) in told.items()
        ]
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO text VALUES (?, ?, ?)", rows)

    def forget(self, name: str) -> None:
        """Overwrite the hash and the date of a text."""
        with self._lock:
            self._db.execute("DELETE FROM text WHERE name = ?", (name,))
