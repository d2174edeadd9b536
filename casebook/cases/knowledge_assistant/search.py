"""Search among what the asking user may see: the mask of :mod:`.access`, the ways of the toolbox.

A document is stored in pieces, each with a vector. The mask over pieces is made once for each state
of a user's rights (:attr:`.Sight.fingerprint`) and of the pieces, and used until one of them
changes. Hits, counts and versions all go through it. What is found is asked about again when it is
shown (:meth:`Search.still`): rights may have changed since.

Numbers leak as well as texts. BM25 weighs a word by how many documents have it: counted over all,
a score tells whether a hidden document has a word. A walk along a graph passes hidden rows, so that
which visible rows it finds depends on them. What is multiplied depends on visible texts alone.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.records import Document
from casebook.retrieval.filtered import Filtered, Router, Visible
from casebook.serving.rights import NOWHERE

_WORD = re.compile(r"\w+")
#: Until the page has measured where its own crossover lies, everything visible is multiplied.
EXACT = Router(rows=np.inf, way="pre")


@dataclass(frozen=True, slots=True)
class Hit:
    """A piece that was found."""

    document: str
    version: int
    title: str
    text: str
    score: float


class Search:
    """Pieces of documents, searched under a user's rights.

    Parameters
    ----------
    access : Access
    dimensions : int
        Of the vectors.
    router : Router
        When to multiply and when to walk.
    kept : int
        Masks over pieces that are remembered.

    Attributes
    ----------
    urgent : int
        Changes of critical documents so far.
    """

    def __init__(
        self, access: Access, dimensions: int, router: Router = EXACT, kept: int = 256
    ) -> None:
        self.access, self.router, self._kept = access, router, kept
        self._index = Filtered(np.empty((0, dimensions), np.float32))
        self._lock, self._state, self.urgent = threading.RLock(), 0, 0
        self._documents: dict[str, tuple[Document, range]] = {}
        self._pieces: list[tuple[str, str]] = []
        self._names: dict[str, int] = {}
        self._rows = np.zeros(0, np.int64)  # of each name, in the masks of access
        self._versions = np.zeros(0, np.int64)
        self._owner = np.zeros(0, np.int64)  # place of each piece's name
        self._live = np.zeros(0, bool)
        self._having: defaultdict[str, set[str]] = defaultdict(set)
        self._masks: OrderedDict[tuple[str, int], Visible] = OrderedDict()

    def put(self, items: Iterable[tuple[Document, Sequence[str], np.ndarray]]) -> None:
        """Store versions in place of the last ones, after the rights have been told of them.

        Parameters
        ----------
        items : iterable of (Document, sequence of str, ndarray)
            With the pieces of the text and their vectors, shape (pieces, dimensions).
        """
        items = [*items]
        with self._lock:
            for document, _, _ in items:
                self.drop(document.id)
                self._names.setdefault(document.id, len(self._names))
            fresh = np.full(len(self._names) - len(self._rows), NOWHERE)
            self._rows = np.concatenate([self._rows, fresh])
            self._versions = np.concatenate([self._versions, 0 * fresh])
            first = len(self._index)
            if items:
                self._index.add(np.concatenate([vectors for _, _, vectors in items]))
            for document, pieces, _ in items:
                rows = range(first, first := first + len(pieces))
                self._documents[document.id] = document, rows
                self.urgent += document.critical
                self._versions[self._names[document.id]] = document.version
                self._pieces += [(document.id, piece) for piece in pieces]
                for word in words(f"{document.title} {document.body}"):
                    self._having[word].add(document.id)
            owner = [self._names[document.id] for document, pieces, _ in items for _ in pieces]
            self._owner = np.concatenate([self._owner, np.array(owner, np.int64)])
            self._live = np.concatenate([self._live, np.ones(len(owner), bool)])
            self._state += 1

    def drop(self, document: str) -> None:
        """Forget a document; its pieces are hidden from everybody."""
        with self._lock:
            if document in self._documents:
                old, rows = self._documents.pop(document)
                self.urgent += old.critical
                self._live[rows.start : rows.stop] = False
                for word in words(f"{old.title} {old.body}"):
                    self._having[word].discard(document)
                self._state += 1

    def visible(self, user: str) -> Visible:
        """Return the pieces that a user may see now."""
        with self._lock:
            key = self.access.sight(user).fingerprint, self._state
            if key not in self._masks:
                new = np.flatnonzero(self._rows == NOWHERE)
                names = [*self._names]
                self._rows[new] = self.access.rows(names[i] for i in new)
                sight = self.access.sight(user)  # again: at least as new as the rows
                key = sight.fingerprint, self._state
                seen = sight.sees(self._rows, self._versions)
                self._masks[key] = Visible.of(seen[self._owner] & self._live)
                if len(self._masks) > self._kept:
                    self._masks.popitem(last=False)
            return self._masks[key]

    def find(self, user: str, vector: np.ndarray, k: int = 10) -> list[Hit]:
        """Return the k nearest pieces among those that a user may see, best first."""
        with self._lock:
            found = self.router.search(self._index, vector, self.visible(user), k)
            hits = []
            for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
                name, text = self._pieces[row]
                document = self._documents[name][0]
                hits.append(Hit(name, document.version, document.title, text, score))
            return hits

    def still(self, user: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return those of the hits that the user may see now, and that are still what is stored."""
        right = self.access.shows(user, [(hit.document, hit.version) for hit in hits])
        now = self.versions([hit.document for hit in hits])
        return [h for h, may, v in zip(hits, right, now, strict=True) if may and v == h.version]

    def count(self, user: str, asked: str) -> int:
        """Return how many of the documents that a user may see have all words of a text."""
        sets = [self._having.get(word, set()) for word in words(asked)]
        with self._lock:
            both = sorted(set.intersection(*sets)) if sets else []
            return int(self.access.sees(user, both, self.versions(both)).sum())

    def versions(self, documents: Sequence[str]) -> list[int]:
        """Return the stored version of documents; 0 where there is none."""
        with self._lock:
            told = (self._documents.get(name) for name in documents)
            return [one[0].version if one else 0 for one in told]

    def read(self, user: str, document: str) -> Document | None:
        """Return a document, or None: whether it is hidden or does not exist is not to be told.

        Both take the same steps, a hidden one is not looked up.
        """
        with self._lock:
            may = bool(self.access.sees(user, [document], self.versions([document]))[0])
            return self._documents.get(document, (None,))[0] if may else None


def words(text: str) -> set[str]:
    """Return the words of a text in small letters."""
    return {*_WORD.findall(text.casefold())}
