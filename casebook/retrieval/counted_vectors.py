"""Vectors of texts that several documents share: kept as long as one of them has the text.

Examples
--------
>>> held = CountedVectors(2)
>>> one = np.ones((1, 2), np.float32)
>>> held.add(["a"], {"a": one[0]}).tolist(), held.add(["a", "b"], {"b": 2 * one[0]}).tolist()
([0], [0, 1])
>>> held.drop(["a"]), held.drop(["a"]), held.vectors[:2].tolist(), len(held)
(set(), {'a'}, [[0.0, 0.0], [2.0, 2.0]], 1)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


class CountedVectors:
    """Rows of vectors by text; a row that nobody uses is overwritten and given to another text.

    Parameters
    ----------
    dimensions : int

    Attributes
    ----------
    vectors : ndarray of float32, shape (rows, dimensions)
        Grows to twice its length when it is full.
    """

    def __init__(self, dimensions: int) -> None:
        self.vectors = np.zeros((16, dimensions), np.float32)
        self._rows, self._uses = dict[str, int](), dict[str, int]()
        self._free: list[int] = []

    def __contains__(self, text: str) -> bool:
        return text in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, texts: Sequence[str], vectors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Count a document's texts in, and return their rows.

        Parameters
        ----------
        texts : sequence of str
        vectors : mapping of str to ndarray
            Of the texts that are new here, at least; ``KeyError`` if one is missing.
        """
        for text in dict.fromkeys(texts):
            if text not in self._rows:
                vector = vectors[text]
                row = self._free.pop() if self._free else len(self._rows)
                if row == len(self.vectors):
                    self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)])
                self.vectors[row], self._rows[text], self._uses[text] = vector, row, 0
            self._uses[text] += 1
        return np.array([self._rows[text] for text in texts], np.int64)

    def drop(self, texts: Iterable[str]) -> set[str]:
        """Count a document's texts out; overwrite and return those that nobody has any more."""
        gone = set()
        for text in dict.fromkeys(texts):
            self._uses[text] -= 1
            if not self._uses[text]:
                del self._uses[text]
                row = self._rows.pop(text)
                self.vectors[row] = 0
                self._free.append(row)
                gone.add(text)
        return gone
