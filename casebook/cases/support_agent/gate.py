"""The gate: which intent a message has, and whether the system answers it at all.

:class:`Keywords` is what an analyst writes in an afternoon. :class:`Gate` learns from tagged
messages (the toolbox's intent model); below its threshold a person answers. The threshold is chosen
on tuning messages for a wanted accuracy among those that are answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from casebook.evaluate.abstain import risk_coverage
from casebook.retrieval.classify import IntentModel

#: Intent → words; the first intent that has one counts.
WORDS = {
    "password": r"password|locked out|log ?in details|reset",
    "technical": r"\bapp\b|coupon|voucher|code|error|website|browser|sign-?in|page|crash",
    "billing": r"charged|charge|invoice|bill|statement|debit|booking|amount|paid|payment",
    "refund": r"refund|money back|cancel|return|reimburse|broken|damaged|repay",
    "order_status": r"where|when|track|deliver|status|arriv|shipped|late",
}
_WORDS = {intent: re.compile(words, re.IGNORECASE) for intent, words in WORDS.items()}
#: Words that mark intents but stand for the customer's own numbers.
_NUMBERS = re.compile(r"\d{4,}")


class Keywords:
    """Intents by lists of words; sure of what it finds, and not of what it does not."""

    def __call__(self, text: str) -> tuple[str, float]:
        """Return intent and confidence."""
        for intent, pattern in _WORDS.items():
            if pattern.search(text):
                return intent, 1.0
        return "other", 0.0


class Gate:
    """Intents by a model that says how sure it is.

    Parameters
    ----------
    strength : float
        Inverse of the regularisation (C).

    Attributes
    ----------
    threshold : float
        Below it, a person answers; see :meth:`tune`.
    """

    def __init__(self, strength: float = 10.0) -> None:
        self._model, self.threshold = IntentModel(strength), 0.0

    def fit(self, texts: Sequence[str], intents: Sequence[str]) -> Gate:
        """Learn from tagged messages, and return itself."""
        self._model.fit(_plain(texts), ["en"] * len(texts), list(intents))
        return self

    def read(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the likeliest intent of each message, and its probability, shape (n,)."""
        shares = self._model.probabilities(_plain(texts), ["en"] * len(texts))
        return np.array(self._model.classes)[shares.argmax(axis=1)], shares.max(axis=1)

    def tune(self, texts: Sequence[str], intents: Sequence[str], accuracy: float = 0.99) -> Gate:
        """Choose the lowest threshold whose answered messages are right as often as wanted."""
        found, sure = self.read(texts)
        curve = risk_coverage(sure, found == np.array(intents))
        good = curve[curve["risk"] <= 1 - accuracy]
        self.threshold = float(good["threshold"].iloc[-1]) if len(good) else 1.01
        return self

    def __call__(self, text: str) -> tuple[str, float]:
        """Return intent and confidence; ``other`` below the threshold."""
        found, sure = self.read([text])
        return (str(found[0]) if sure[0] >= self.threshold else "other"), float(sure[0])


def ahead(
    gate: Callable[[str], tuple[str, float]], texts: Sequence[str]
) -> Callable[[str], tuple[str, float]]:
    """Return the same gate, with these messages read at once: a tenth of the time."""
    if not isinstance(gate, Gate):
        return gate
    found, sure = gate.read(texts)
    kept = {
        text: (str(one) if p >= gate.threshold else "other", float(p))
        for text, one, p in zip(texts, found, sure, strict=True)
    }
    return lambda text: kept[text] if text in kept else gate(text)


def _plain(texts: Sequence[str]) -> list[str]:
    return [_NUMBERS.sub(" ", text.casefold()) for text in texts]
