"""Conversations, kept for a while, and read only through the eyes of today's rights.

A stored turn holds what its user was allowed to see when it was made. :meth:`Turns.history` is the
one way to read it, for the screen and for the model that continues: both get it with every piece
withdrawn whose source the user may not see any more. A conversation belongs to its user; that of
another one and one that never was are the same to whoever asks.

SQLite keeps the turns, or Redis where one runs (:mod:`casebook.serving.conversations`).

Examples
--------
>>> from casebook.serving.conversations import SqliteShelf
>>> rights = {"wiki:d1"}
>>> class Rights:
...     clock = lambda self: 1_000.0
...     def sees(self, user, documents): return [one in rights for one in documents]
>>> turns = Turns(Rights(), SqliteShelf())
>>> turns.add("user:ann", "c1", "How long?", [Piece("For 7 years.", ("wiki:d1",))])
>>> turns.history("user:ann", "c1")[0].pieces[0].text, turns.history("user:bob", "c1")
('For 7 years.', [])
>>> rights.clear()
>>> turns.history("user:ann", "c1")[0].pieces[0] == WITHDRAWN
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.showing import WITHDRAWN, Piece, as_json, of_json, shown
from casebook.serving.conversations import Shelf

#: Seconds from the last turn until a conversation is deleted.
TTL = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what may be shown of its answer."""

    at: float
    question: str
    pieces: tuple[Piece, ...]


class Turns:
    """The conversations of all users.

    Parameters
    ----------
    access : Access
    shelf : Shelf
    ttl : float
        Seconds.
    """

    def __init__(self, access: Access, shelf: Shelf, ttl: float = TTL) -> None:
        if ttl <= 0:
            raise ValueError(f"ttl is {ttl}: give seconds above 0.")
        self.access, self.shelf, self.ttl = access, shelf, ttl

    def add(self, user: str, conversation: str, question: str, pieces: Sequence[Piece]) -> None:
        """Keep a turn."""
        now = self.access.clock()
        text = json.dumps([now, question, as_json(pieces)])
        self.shelf.push(_key(user, conversation), text, now, self.ttl)

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return the turns of a user's conversation, with what he may see of them now."""
        turns = []
        for text in self.shelf.read(_key(user, conversation), self.access.clock()):
            at, question, kept = json.loads(text)
            pieces = shown(of_json(kept), lambda names: self.access.sees(user, names))
            turns.append(Turn(at, question, tuple(pieces)))
        return turns

    def context(self, user: str, conversation: str) -> list[str]:
        """Return what a model may read of a conversation: nothing of what was withdrawn."""
        lines = []
        for turn in self.history(user, conversation):
            kept = " ".join(piece.text for piece in turn.pieces if piece != WITHDRAWN)
            lines += [turn.question, kept]
        return lines


def _key(user: str, conversation: str) -> str:
    """Return one key for two names, whatever stands in them."""
    return hashlib.sha256(json.dumps([user, conversation]).encode()).hexdigest()
