"""How unhappy a text sounds, learned from the texts that were rated.

A logistic regression on the words, kept as a weight for each word, so that a registry can store it
as JSON and a night can score without the training data.

Examples
--------
>>> tickets = pd.DataFrame({
...     "text": ["all is fine", "many thanks", "it fails again", "again no answer"] * 9,
...     "rating": [5, 4, 1, 2] * 9,
...     "at": pd.Timestamp("2025-01-06"),
... })
>>> mood = Mood(tickets, pd.Timestamp("2025-02-01"))
>>> (mood.of(pd.Series(["thanks", "it fails again"])) > 0.5).tolist()
[False, True]
>>> (Mood.restored(mood.stored()).of(pd.Series(["thanks"])) > 0.5).tolist()
[False]
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Letters of a text that are read: more is no ticket, and would take the memory of all others.
LETTERS = 2_000


class Mood:
    """Unhappiness of a text, learned from the tickets that were rated: a weight for each word.

    Parameters
    ----------
    tickets : DataFrame
        ``text``, ``rating`` (mostly empty), ``at``.
    end : Timestamp
        Tickets from then on are not looked at.

    Raises
    ------
    ValueError
        If no rated ticket is known yet.
    """

    def __init__(self, tickets: pd.DataFrame, end: pd.Timestamp) -> None:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        rated = tickets[(tickets["at"] < end) & tickets["rating"].notna()]
        if rated["rating"].le(3).nunique() < 2:
            raise ValueError(f"{len(rated)} rated tickets by {end:%Y-%m-%d}: too few.")
        rated = rated.head(4_000)
        words = CountVectorizer(binary=True)
        counts = words.fit_transform(rated["text"].astype(str).str.slice(0, LETTERS))
        model = LogisticRegression().fit(counts, rated["rating"] <= 3)
        names, weights = words.get_feature_names_out(), model.coef_[0]
        self.weights = dict(zip(names.tolist(), weights.tolist(), strict=True))
        self.start = float(model.intercept_[0])

    @classmethod
    def restored(cls, stored: dict) -> Mood:
        """Return a mood from what :meth:`stored` returned."""
        made = cls.__new__(cls)
        made.weights, made.start = dict(stored["weights"]), float(stored["start"])
        return made

    def stored(self) -> dict[str, object]:
        """Return what a registry keeps."""
        return {"weights": self.weights, "start": self.start}

    def of(self, texts: pd.Series) -> np.ndarray:
        """Return the chance that each text would be rated 3 or less."""
        from sklearn.feature_extraction.text import CountVectorizer

        if not len(texts) or not self.weights:
            return np.full(len(texts), 0.5)
        # As objects: an array of strings gives each text the room of the longest.
        short = texts.astype(str).str.slice(0, LETTERS).to_numpy(object)
        known, codes = np.unique(short, return_inverse=True)
        words = CountVectorizer(binary=True, vocabulary=list(self.weights))
        odds = self.start + words.transform(known) @ np.array([*self.weights.values()])
        return (1 / (1 + np.exp(-odds)))[codes]


#: Says nothing of any text: where no model may be asked.
NO_MOOD = Mood.restored({"weights": {}, "start": 0.0})
