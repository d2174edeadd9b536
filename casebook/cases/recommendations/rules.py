"""What the shop wants beside clicks: rules that re-rank, each of which can be priced.

Scores are log-odds of a click, so that a weight is one too. Brands are capped, margins and
campaigns lifted, what was opened of late held back; a list may not be ten times the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casebook.cases.recommendations.nights import Known
from casebook.evaluate.ranking import mmr

#: Of the candidates, the best so many are re-ranked.
BEST = 60


@dataclass(frozen=True)
class Rules:
    """Weights of the rules; :data:`NONE` has none of them.

    Attributes
    ----------
    stock : bool
        Nothing is shown that is sold out.
    cap : int
        Items of one brand in ten.
    margin, campaign, seen : float
        Log-odds for a margin of 1, for a campaign, and against what the user opened or clicked
        within seven days.
    diversity : float
        Weight of :func:`casebook.evaluate.ranking.mmr`.
    """

    stock: bool = True
    cap: int = 3
    margin: float = 0.5
    campaign: float = 0.2
    seen: float = 0.5
    diversity: float = 0.1

    def __post_init__(self) -> None:
        if self.cap < 1 or not 0 <= self.diversity < 1:
            raise ValueError(
                f"a cap of {self.cap}, a diversity of {self.diversity}: at least 1, 0 to 1."
            )


NONE = Rules(cap=10, margin=0.0, campaign=0.0, seen=0.0, diversity=0.0)


def wanted(
    rules: Rules,
    night: Known,
    users: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
    recent: np.ndarray,
) -> np.ndarray:
    """Return scores with the weights of the rules and the night's lift, shape (n, m)."""
    table, at = night.goods.items, np.maximum(items, 0)
    made = scores + rules.margin * table["margin"].to_numpy()[at]
    made = made + rules.campaign * table["campaign"].to_numpy()[at]
    made = made if night.lift is None else made + night.lift[at]
    seen = night.has("seen", users[:, None], at)
    seen |= (at[:, :, None] == recent[:, None, :]).any(axis=2)
    return np.where(items >= 0, made - rules.seen * seen, -np.inf)


def reranked(
    rules: Rules, night: Known, items: np.ndarray, scores: np.ndarray, count: int = 10
) -> np.ndarray:
    """Choose the list: good by :func:`wanted` scores, unlike each other, and not of one brand.

    Parameters
    ----------
    rules : Rules
    night : Known
    items : ndarray of int, shape (n, m)
        −1: no item.
    scores : ndarray, shape (n, m)
    count : int

    Returns
    -------
    ndarray of int, shape (n, count)
        Positions in ``items``, best first; one of an empty place where nothing is left.
    """
    m = items.shape[1]
    if m < count:
        raise ValueError(f"{m} candidates for a list of {count}: propose more.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, : min(m, BEST)]
    items, scores = (np.take_along_axis(a, best, axis=1) for a in (items, scores))
    if rules.diversity:
        # Within the list scores run from 1 to 0, as likenesses do.
        low = np.where(items >= 0, scores, np.inf).min(axis=1, keepdims=True)
        high = scores.max(axis=1, keepdims=True)
        scaled = np.where(items >= 0, (scores - low) / np.maximum(high - low, 1e-9), -np.inf)
        many = min(items.shape[1], 3 * count)
        order = mmr(items, scaled, night.goods.traits, many, rules.diversity)
    else:
        order = np.tile(np.arange(items.shape[1]), (len(items), 1))
    brand = night.goods.brand[np.take_along_axis(items, order, axis=1)]
    before = np.zeros(brand.shape, int)
    for place in range(1, brand.shape[1]):
        before[:, place] = (brand[:, :place] == brand[:, [place]]).sum(axis=1)
    # What is beyond the cap goes to the end: it is shown where nothing else is left.
    late = np.argsort(before >= rules.cap, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(best, np.take_along_axis(order, late, axis=1), axis=1)
