"""Answers that are kept, each for those alone who see what its first reader saw.

The key is made of the question and of the fingerprint of all documents that the user may see. So
an answer is shared by colleagues with the same rights, and a lost right leads to another key at
once. The versions of the documents behind an answer cannot be in the key, as nobody knows them
before the search; they are kept with the answer and compared when it is taken out.

What is new in a document that the answer does not use is missing from it until it is too old. That
must not be so for critical documents: each change of one gives all questions of those who see it
another key, and of nobody else: who sees an answer change would know that something did. Take
:mod:`casebook.serving.answer_cache` instead where a tenant's readers all see the same: it is
shorter, keeps nothing on disk, and knows no documents.

**A key is taken before the search.** Taken afterwards it may be that of rights which the search
did not have, and an answer made with a right that was lost in between would stand under the key of
those who never had it. Rights that were *gained* in between make an answer that is too rich for the
key: :meth:`AnswerCache.key` is asked again after the search, and an answer under another one is not
kept.

Examples
--------
>>> normalised("  What is the  Per-Diem?? ") == normalised("what is the per-diem")
True
>>> normalised("may I not travel?") == normalised("may I travel?")
False
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from casebook.data.private import private
from casebook.serving.rights import Rights
from casebook.serving.showing import Piece, as_json, of_json

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, pieces TEXT, used TEXT,
  beside TEXT, until REAL);
CREATE TABLE IF NOT EXISTS used (document TEXT, key TEXT, PRIMARY KEY (document, key));
"""
#: Seconds that an answer is kept.
TTL = 900.0


def normalised(question: str) -> str:
    """Return a question without what does not change its meaning: case, spaces, marks at its end.

    A question of a conversation must stand by itself before it comes here.
    """
    plain = " ".join(unicodedata.normalize("NFKC", question).casefold().split())
    return plain.rstrip("?!. ")


@dataclass(frozen=True)
class Kept:
    """An answer as it is kept.

    Attributes
    ----------
    pieces : tuple of Piece
    used : tuple of (str, int)
        All documents that it was made from, with their versions.
    beside : dict
        What is shown beside it, as JSON can keep it: counts, citations.
    """

    pieces: tuple[Piece, ...]
    used: tuple[tuple[str, int], ...]
    beside: dict[str, Any] = field(default_factory=dict)


class AnswerCache:
    """Answers in SQLite.

    Parameters
    ----------
    rights : Rights
    versions : callable
        Documents → the versions that are in force, 0 for those that are gone.
    urgent : callable
        User → what names the changes so far of the critical documents that the user may see.
    path : str
        Of a file, which is made for its owner alone; ``":memory:"`` by default.
    ttl : float
        Seconds.
    """

    def __init__(
        self,
        rights: Rights,
        versions: Callable[[Sequence[str]], Sequence[int]],
        urgent: Callable[[str], object],
        path: str = ":memory:",
        ttl: float = TTL,
    ) -> None:
        if ttl <= 0:
            raise ValueError(f"ttl is {ttl}: give seconds above 0.")
        self.rights, self.versions, self.urgent, self.ttl = rights, versions, urgent, ttl
        self._lock = threading.Lock()
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.executescript(SCHEMA)

    def key(self, user: str, question: str) -> str:
        """Return the key of a question under the rights that a user has now."""
        now = [self.rights.sight(user).fingerprint, str(self.urgent(user))]
        told = json.dumps([normalised(question), *now])
        return hashlib.sha256(told.encode()).hexdigest()

    def get(self, user: str, key: str) -> Kept | None:
        """Return the answer of a key, if it is fresh and the user may see all that it uses.

        The last question is answered by the key already. It is asked again, because what stands
        behind a key is the work of a program that may have a fault.
        """
        query = "SELECT pieces, used, beside, until FROM answers WHERE key = ?"
        row = self._ask(query, key)
        if not row:
            return None
        pieces, told, beside, until = row[0]
        used = tuple((name, version) for name, version in json.loads(told))
        names = [name for name, _ in used]
        same = [*self.versions(names)] == [version for _, version in used]
        if not same or self.rights.clock() >= until:
            self._drop(key)
            return None
        if not self.rights.shows(user, used).all():
            return None
        return Kept(tuple(of_json(pieces)), used, json.loads(beside))

    def put(self, key: str, kept: Kept) -> None:
        """Keep an answer under the key that was taken before its search."""
        told = key, as_json(kept.pieces), json.dumps(kept.used), json.dumps(kept.beside)
        with self._lock, self._db:
            self._db.execute("BEGIN")
            self._db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
                (*told, self.rights.clock() + self.ttl),
            )
            pairs = [(name, key) for name, _ in kept.used]
            self._db.executemany("INSERT OR IGNORE INTO used VALUES (?, ?)", pairs)

    def forget(self, document: str) -> int:
        """Overwrite all answers that use a document, whose text is gone; return how many."""
        keys = self._ask("SELECT key FROM used WHERE document = ?", document)
        for (key,) in keys:
            self._drop(key)
        return len(keys)

    def purge(self) -> int:
        """Overwrite what is too old, and return how many answers that was."""
        keys = self._ask("SELECT key FROM answers WHERE until <= ?", self.rights.clock())
        for (key,) in keys:
            self._drop(key)
        return len(keys)

    def __len__(self) -> int:
        return self._ask("SELECT count(*) FROM answers")[0][0]

    def _ask(self, query: str, *values: Any) -> list[tuple]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _drop(self, key: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM used WHERE key = ?", (key,))
            self._db.execute("DELETE FROM answers WHERE key = ?", (key,))
