"""The last check: a piece of an answer is asked about again at the moment when it is shown.

Between a search and the screen lie a model that writes for seconds, a cache, a store of
conversations. A right that is lost in between is lost for what was not shown yet.

Examples
--------
>>> rule, law = ("rule", 1), ("law", 3)
>>> rights = {rule: True, law: True}
>>> may = lambda sources: [rights[one] for one in sources]
>>> written = [Piece("Keep it ", (rule,)), Piece("for 7 years."), Piece("Or 9.", (law,))]
>>> stream = guarded(written, may, read=(rule, law))
>>> next(stream).text
'Keep it '
>>> rights[law] = False
>>> [piece.text for piece in stream] == [WITHDRAWN.text]
True
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

#: What a text is taken from: an item, and its edition.
Source = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer, with what its text is taken from."""

    text: str
    sources: tuple[Source, ...] = ()


#: Says of sources whether the user at the other end may see them now; see :meth:`.Rights.shows`.
May = Callable[[Sequence[Source]], Iterable[bool]]
#: Stands in place of what may not be shown any more: it says nothing of what that was.
WITHDRAWN = Piece("A part of this answer can no longer be shown to you.")


def shown(pieces: Iterable[Piece], may: May) -> list[Piece]:
    """Return the pieces, each that the user may not see replaced by :data:`WITHDRAWN`."""
    pieces = [*pieces]
    right = iter([*may([one for piece in pieces for one in piece.sources])])
    told = [[next(right) for _ in piece.sources] for piece in pieces]
    return [piece if all(may) else WITHDRAWN for piece, may in zip(pieces, told, strict=True)]


def guarded(pieces: Iterable[Piece], may: May, read: Sequence[Source]) -> Iterator[Piece]:
    """Yield the pieces of an answer that is still being written, until a right is lost.

    Parameters
    ----------
    pieces : iterable of Piece
    may : callable
    read : sequence of (str, int)
        All sources that the writer has read. A model words what it has read without a quotation,
        so that the loss of one of them ends the answer, whatever the piece says that it quotes.

    Yields
    ------
    Piece
        What has been yielded is on the user's screen; nothing takes it back.
    """
    for piece in pieces:
        if not all(may([*read, *piece.sources])):
            yield WITHDRAWN
            return
        yield piece


def as_json(pieces: Iterable[Piece]) -> str:
    """Return pieces as a text for a store."""
    return json.dumps([asdict(piece) for piece in pieces])


def of_json(text: str) -> list[Piece]:
    """Return the pieces of :func:`as_json`."""
    told = json.loads(text)
    return [Piece(one["text"], tuple((i, e) for i, e in one["sources"])) for one in told]
