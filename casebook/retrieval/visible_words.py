"""BM25 among the passages that a user may see, by numbers that only those passages give.

BM25 weighs a word by the passages that hold it, and a length by the mean. Counted over all
passages, both tell of hidden ones: a score falls when somebody writes a word into a document that
the user may not see. Here they are counted under the user's mask, so that scores equal those of an
index of the visible passages alone.

What it does not hide is time. The passages of a word are looked through before the hidden ones are
left out, so that a word which stands in very many hidden passages is answered later than one that
stands nowhere: .69 and .47 ms at 240,000 hidden passages on one machine. Who can time many
questions to a fraction of a millisecond may learn that a word is frequent somewhere.

A passage that is gone is forgotten word by word (:meth:`VisibleBM25.forget`).

Examples
--------
>>> index = VisibleBM25()
>>> index.add([["pager", "otter"], ["pager"], ["otter", "secret"]])
>>> mask = np.array([True, True, False])
>>> alone = VisibleBM25()
>>> alone.add([["pager", "otter"], ["pager"]])
>>> index.scores(["otter", "secret"], mask)[:2] == alone.scores(["otter", "secret"], mask[:2])
array([ True,  True])
>>> float(index.scores(["otter"], mask)[2])
0.0
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from casebook.retrieval.lexical import K1, B
from casebook.retrieval.text import words

#: Characters of a word, at most.
LONGEST = 64
_LONG = re.compile(rf"[^\W_]{{{LONGEST}}}(?=[^\W_])")


def short_words(text: str) -> str:
    """Return a text whose words are cut after so many characters; without such, the text itself.

    :func:`~casebook.retrieval.text.words` looks for codes from each character of a word on, so that
    its time grows with the square of a word's length: a page of digits without a space would stop
    the reader for minutes. It reads a text in another form (NFKC, small letters), in which words
    can be longer; that form is looked at.

    >>> short_words("CN-23 is here"), len(short_words("a" * 200).split())
    ('CN-23 is here', 4)
    """
    read = unicodedata.normalize("NFKC", text).casefold()
    return _LONG.sub(r"\g<0> ", read) if _LONG.search(read) else text


def counted(text: str) -> list[str]:
    """Return the words of an English text as they are counted, long ones cut."""
    return words(short_words(text), "en")


class VisibleBM25:
    """Counts of words by passage; passages are numbered by their place, from 0.

    Parameters
    ----------
    k1, b : float
        As of :class:`~casebook.retrieval.lexical.BM25`.
    """

    def __init__(self, k1: float = K1, b: float = B) -> None:
        self.k1, self.b = k1, b
        self._new: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._held: dict[str, np.ndarray] = {}  # columns: place, count
        self._lengths = np.zeros(0)

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, texts: Sequence[Sequence[str]]) -> None:
        """Add passages behind the last one.

        Parameters
        ----------
        texts : sequence of sequence of str
            Their terms.
        """
        first = len(self)
        for place, terms in enumerate(texts, first):
            found, counts = np.unique(np.array(terms, object), return_counts=True)
            for term, count in zip(found.tolist(), counts.tolist(), strict=True):
                self._new[term].append((place, count))
        self._lengths = np.concatenate([self._lengths, [float(len(terms)) for terms in texts]])

    def forget(self, passages: Mapping[int, Sequence[str]]) -> None:
        """Forget passages: their places stay, without a word.

        Parameters
        ----------
        passages : mapping of int to sequence of str
            Place → its terms, as they were added.
        """
        gone: defaultdict[str, list[int]] = defaultdict(list)
        for place, terms in passages.items():
            self._lengths[place] = 0.0
            for term in set(terms):
                gone[term].append(place)
        for term, places in gone.items():
            rows = self.rows(term)
            self._hold(term, rows[~np.isin(rows[:, 0], places)])

    def keep(self, places: np.ndarray) -> None:
        """Keep these passages alone and number them anew, in their order.

        Parameters
        ----------
        places : ndarray of int
            Ascending.
        """
        new = np.full(len(self), -1, np.int64)
        new[places] = np.arange(len(places))
        for term in {*self._new, *self._held}:
            rows = self.rows(term).copy()
            rows[:, 0] = new[rows[:, 0]]
            self._hold(term, rows[rows[:, 0] >= 0])
        self._lengths = self._lengths[places]

    def _hold(self, term: str, rows: np.ndarray) -> None:
        if len(rows):
            self._held[term] = rows
        else:
            self._held.pop(term, None)

    def scores(self, terms: Sequence[str], mask: np.ndarray) -> np.ndarray:
        """Return the score of each passage; 0 for those that are hidden.

        Parameters
        ----------
        terms : sequence of str
            Of the question; a repeated term counts again.
        mask : ndarray of bool, shape (len(self),)
            What may be seen.

        Returns
        -------
        ndarray, shape (len(self),)

        Raises
        ------
        ValueError
            On a mask of another length.
        """
        if mask.shape != self._lengths.shape:
            raise ValueError(f"a mask of {len(mask)} for {len(self)} passages: one each is due.")
        scores, passages = np.zeros(len(self)), int(mask.sum())
        if not passages:
            return scores
        mean = float(self._lengths @ mask) / passages
        for term in terms:
            rows = self.rows(term)
            rows = rows[mask[rows[:, 0]]]
            at, times = rows[:, 0], rows[:, 1]
            idf = np.log1p((passages - len(at) + 0.5) / (len(at) + 0.5))
            norm = self.k1 * (1 - self.b + self.b * self._lengths[at] / max(mean, 1e-9))
            scores[at] += idf * times / (times + norm)
        return scores

    def rows(self, term: str) -> np.ndarray:
        """Return places and counts of a term."""
        none = np.zeros((0, 2), np.int64)
        if fresh := self._new.pop(term, None):
            before = self._held.get(term, none)
            self._held[term] = np.concatenate([before, np.array(fresh, np.int64)])
        return self._held.get(term, none)

    def holding(self, phrases: Iterable[Collection[str]], mask: np.ndarray) -> np.ndarray:
        """Return the visible passages that hold all words of one of some phrases, as a mask.

        Parameters
        ----------
        phrases : iterable of collections of str
            One without words is in no passage.
        mask : ndarray of bool, shape (passages,)

        Returns
        -------
        ndarray of bool, shape (passages,)
        """
        found = np.zeros(len(mask), bool)
        for phrase in map(set, phrases):
            held = np.zeros(len(mask), np.int64)
            for term in phrase:
                held[self.rows(term)[:, 0]] += 1
            found |= (held == len(phrase)) & bool(phrase)
        return found & mask
