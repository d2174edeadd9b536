"""An embedder that understands the world's wording, in place of MiniLM: two texts that speak of one
attribute are near, whatever their words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from casebook.cases.knowledge_assistant.world.writing import ATTRIBUTES
from casebook.retrieval.dense import Hashed


def _of(plan: dict) -> re.Pattern[str]:
    """Return a pattern of all that is said and asked about an attribute."""
    texts = [*plan["says"], *plan["asks"], plan["follow"], plan["short"]]
    forms = [re.escape(t).replace(r"\{t\}", ".{0,40}").replace(r"\{v\}", ".{1,40}") for t in texts]
    return re.compile("|".join(form.rstrip(".?\\") for form in forms), re.IGNORECASE)


class Understanding:
    """Vectors of attributes, and a little of the letters."""

    name, dimensions = "understanding", len(ATTRIBUTES) + 64

    def __init__(self) -> None:
        self._letters, self._of = Hashed(64), [_of(plan) for plan in ATTRIBUTES.values()]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors."""
        speaks = [[bool(one.search(text)) for one in self._of] for text in texts]
        speaks = np.array(speaks, np.float32).reshape(len(texts), len(self._of))
        vectors = np.hstack([speaks, 0.7 * self._letters.encode(texts)])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
