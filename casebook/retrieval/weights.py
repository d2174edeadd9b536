"""Several rankings added up: scores put on one scale, and weights tuned by nDCG.

Examples
--------
>>> {name: float(value) for name, value in scaled({"a": 4.0, "b": 1.0}).items()}
{'a': 1.0, 'b': 0.25}
>>> signals = {"words": np.array([[1.0, 0.0]]), "vectors": np.array([[0.0, 1.0]])}
>>> tune(signals, np.array([[False, True]]), {"words": 0.5, "vectors": 0.5})
({'words': 0.0, 'vectors': 0.5}, 1.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: Documents of a ranking on which its scores are put from 0 to 1.
DEPTH = 50


def scaled(scores: Mapping[str, float], depth: int = DEPTH) -> dict[str, float]:
    """Put the scores of a ranking from 0 (the article at ``depth``, or no score) to 1."""
    values = np.sort(np.fromiter(scores.values(), float, len(scores)))[::-1]
    if not len(values):
        return {}
    low = values[depth - 1] if len(values) >= depth else min(0.0, values[-1])
    width = values[0] - low
    return {a: max(0.0, (s - low) / width) if width > 0 else 1.0 for a, s in scores.items()}


def tune(
    matrices: Mapping[str, np.ndarray],
    relevant: np.ndarray,
    start: Mapping[str, float],
    steps: Sequence[float] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    rounds: int = 2,
) -> tuple[dict[str, float], float]:
    """Choose weights one after the other by nDCG@10.

    Parameters
    ----------
    matrices : mapping of str to ndarray, shape (questions, articles)
        Scaled signals of the tuning questions.
    relevant : ndarray of bool, shape (questions, articles)
    start : mapping of str to float
    steps : sequence of float
    rounds : int

    Returns
    -------
    weights : dict of str to float
    ndcg : float
    """
    weights = dict(start)

    def score(w: Mapping[str, float]) -> float:
        return ndcg(sum(w[name] * matrices[name] for name in w), relevant)

    best = score(weights)
    for _ in range(rounds):
        for name in weights:
            for step in steps:
                trial = weights | {name: step}
                if sum(trial.values()) > 0 and (value := score(trial)) > best + 1e-9:
                    best, weights = value, trial
    return weights, best


def ndcg(scores: np.ndarray, relevant: np.ndarray, k: int = 10) -> float:
    """Return the mean nDCG@k of score matrices with binary relevance.

    A score of 0, or a missing one, is that of a document that was not found: it gains nothing,
    whatever its place among the others.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    discount = 1 / np.log2(np.arange(2, order.shape[1] + 2))
    gain = (np.take_along_axis(relevant & (scores > 0), order, axis=1) * discount).sum(axis=1)
    ideal = np.cumsum(discount)[np.clip(relevant.sum(axis=1), 1, len(discount)) - 1]
    return float((gain / ideal).mean())
