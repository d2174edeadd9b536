"""Blocked topics by sentence vectors: near to examples, or on their side of a learned plane.

The plain way holds a text against a few examples of a topic: blocked is what has a cosine of 0.85
or more with one of them. What cosine means *about this topic* depends on the model and on the
topic, and the nearest example is often near for another reason, such as the same task about
another thing. :meth:`Topics.learned` reads from examples and from harmless texts which direction of
the vectors is the topic's (logistic regression), and sets each topic's threshold on harmless texts
that it did not learn from, at the share of false alarms that a tenant accepts.

Embedding takes milliseconds a piece: a gateway asks for it where a tenant blocks topics, and
nowhere else.

Examples
--------
>>> def encode(texts):  # of a model: here three words are its dimensions
...     rows = np.array([[t.count(w) for w in ("tax", "cat", "form")] for t in texts], float) + 0.01
...     return rows / np.linalg.norm(rows, axis=1, keepdims=True)
>>> harmless = ["form cat", "cat", "form form cat", "cat form form"]
>>> topics = Topics.learned(encode, {"tax": ["form tax", "tax tax form"]}, harmless, 0.0)
>>> [topics(text, ["tax"])["tax"] >= SIMILAR for text in ("tax form form", "form form cat")]
[True, False]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

#: The score from which a text is about a topic, whatever the topic's own threshold is.
SIMILAR = 0.85
#: Characters of a piece of a text, and pieces that are looked at: the first ones and the last. What
#: stands in the middle of a text of more than 12,000 characters is not seen.
PIECE, MOST = 300, 40

Encode = Callable[[Sequence[str]], np.ndarray]


def pieces(text: str) -> list[str]:
    """Return a text in pieces of whole sentences, where it is longer than one piece.

    Examples
    --------
    >>> [len(piece) for piece in pieces("A short sentence. " * 40)]
    [287, 287, 143]
    """
    if len(text) <= PIECE:
        return [text]
    found = [""]
    for sentence in re.split(r"(?<=[.!?\n])\s+", text):
        for start in range(0, len(sentence), PIECE):
            part = sentence[start : start + PIECE]
            if found[-1] and len(found[-1]) + 1 + len(part) > PIECE:
                found.append("")
            found[-1] = f"{found[-1]} {part}".strip()
    half = MOST // 2
    return found if len(found) <= MOST else [*found[:half], *found[-half:]]


class Topics:
    """Says how much a text is about each topic.

    Parameters
    ----------
    encode : callable
        Returns the vectors of texts, one a row, of length 1.
    directions : mapping of str to array
        By topic, a column for each example, or the one column of what was learned: a vector's
        score is its largest product with one of them.
    thresholds : mapping of str to float
        Score from which a text is about a topic; :data:`SIMILAR` where there is none.
    """

    def __init__(
        self,
        encode: Encode,
        directions: Mapping[str, np.ndarray],
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self._encode, self._directions = encode, dict(directions)
        self.thresholds = dict(thresholds or {})

    @classmethod
    def nearest(cls, encode: Encode, examples: Mapping[str, Sequence[str]]) -> Topics:
        """Return topics that a text is held against by its cosine with the nearest example.

        Raises
        ------
        ValueError
            If a topic has no examples.
        """
        _check(examples)
        return cls(encode, {name: np.asarray(encode(texts)).T for name, texts in examples.items()})

    @classmethod
    def learned(
        cls,
        encode: Encode,
        examples: Mapping[str, Sequence[str]],
        harmless: Sequence[str],
        false_alarms: float = 0.02,
    ) -> Topics:
        """Return topics that were told from harmless texts.

        Every second harmless text is learned from; the others set the threshold.

        Raises
        ------
        ValueError
            If a topic has no examples, or too few harmless texts tell that share.
        """
        from sklearn.linear_model import LogisticRegression

        _check(examples)
        if false_alarms and len(harmless) // 2 * false_alarms < 1:
            n = int(2 * np.ceil(1 / false_alarms))
            raise ValueError(f"{len(harmless)} harmless texts do not tell: give {n} or more.")
        topics, others = cls(encode, {}), np.asarray(encode(harmless[::2]))
        for name, texts in examples.items():
            own = np.asarray(encode(texts))
            model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)
            model.fit(np.r_[own, others], np.r_[np.ones(len(own)), np.zeros(len(others))])
            topics._directions[name] = model.coef_.T
        held = [topics.scores(text, [*examples]) for text in harmless[1::2]]
        for name in examples:
            ordered = np.sort([one[name] for one in held])[::-1]
            highest = ordered[int(false_alarms * len(ordered))]
            topics.thresholds[name] = float(np.nextafter(highest, np.inf))
        return topics

    def scores(self, text: str, names: Sequence[str]) -> dict[str, float]:
        """Return each topic's score of a text's nearest piece; unknown names are left out."""
        known = [name for name in names if name in self._directions]
        if not known:
            return {}
        vectors = np.asarray(self._encode(pieces(text)))
        return {name: float((vectors @ self._directions[name]).max()) for name in known}

    def __call__(self, text: str, names: Sequence[str]) -> dict[str, float]:
        """Return scores that are :data:`SIMILAR` or more where a text is about a topic."""
        found = self.scores(text, names)
        return {
            name: SIMILAR + score - self.thresholds.get(name, SIMILAR)
            for name, score in found.items()
        }


def _check(examples: Mapping[str, Sequence[str]]) -> None:
    if empty := [name for name, texts in examples.items() if not texts]:
        raise ValueError(f"The topic {empty[0]} has no examples: give some.")
