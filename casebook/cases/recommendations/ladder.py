"""The ladder without a ranker: lists by one rule or one retriever, from bestsellers to EASE.

Each rung scores all items for a request; what is sold out, and the page's own item, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from casebook.cases.recommendations import candidates
from casebook.cases.recommendations.nights import Known
from casebook.cases.recommendations.rankers import Asked, Nights, Settings
from casebook.retrieval.factors import ease, ials, item_item, top

#: From a night, the week's models and requests to scores of all items, shape (n, items).
Rung = Callable[[Known, "Fits", Asked], np.ndarray]
#: Nine trials for each retriever. ``page``: weight of the page's item beside the history.
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    "item-item": tuple(
        {"shrinkage": s, "page": p} for s in (10.0, 30.0, 100.0) for p in (100.0, 300.0, 1_000.0)
    ),
    "iALS": tuple(
        {"factors": f, "regularisation": r, "confidence": c, "page": p}
        for f, r, c, p in (
            *((32, 10.0, 2.0, 30.0), (32, 10.0, 2.0, 100.0), (32, 10.0, 2.0, 300.0)),
            *((32, 3.0, 2.0, 100.0), (32, 30.0, 2.0, 100.0), (32, 10.0, 1.0, 100.0)),
            *((32, 10.0, 8.0, 100.0), (16, 10.0, 2.0, 100.0), (64, 10.0, 2.0, 100.0)),
        )
    ),
    "EASE": tuple(
        {"penalty": s, "page": p} for s in (100.0, 300.0, 1_000.0) for p in (30.0, 100.0, 300.0)
    ),
}
#: What did best in the worlds of the choice.
CHOSEN: Mapping[str, Settings] = {
    "item-item": {"shrinkage": 30.0, "page": 1_000.0},
    "iALS": {"factors": 32, "regularisation": 10.0, "confidence": 2.0, "page": 300.0},
    "EASE": {"penalty": 300.0, "page": 100.0},
}


class Fits:
    """Retrievers that are fitted once for what was taken before a Monday.

    Parameters
    ----------
    nights : Nights
    settings : mapping of str to Settings
    """

    def __init__(self, nights: Nights, settings: Mapping[str, Settings] = CHOSEN) -> None:
        self.nights, self.settings, self._made = nights, settings, {}

    def __call__(self, name: str, day: int):
        """Return a fitted retriever: weights of items by items, or factors."""
        week = day // 7 * 7
        key = name, week
        if key not in self._made:
            taken, given = self.nights.known(week).taken, dict(self.settings[name])
            given.pop("page")
            fit = {"item-item": item_item, "EASE": ease, "iALS": ials}[name]
            self._made[key] = fit(taken, **given)
        return self._made[key]


def popular(night: Known, fits: Fits, some: Asked) -> np.ndarray:
    """Bestsellers: what was opened, clicked and bought most in the last week."""
    return np.tile(night.popular, (len(some.user), 1))


def analyst(night: Known, fits: Fits, some: Asked) -> np.ndarray:
    """An afternoon's list: the page's category, the user's own, of late popular, at his price.

    On a mail the category of his last page stands for the page's.
    """
    kind = night.goods.category
    asked = np.where(some.page >= 0, kind[np.maximum(some.page, 0)], night.last[some.user])
    likes = np.log(night.taste[some.user][:, kind])
    gap = np.abs(night.goods.price - night.price[some.user][:, None])
    near = kind == asked[:, None]
    return likes + 0.5 * night.popular + 0.25 * night.trend + 2.0 * near - 0.5 * gap


def _retriever(name: str) -> Rung:
    def rung(night: Known, fits: Fits, some: Asked) -> np.ndarray:
        page = fits.settings[name]["page"]
        own = candidates.history(night.taken, some.user, some.page, page)
        fitted = fits(name, night.day)
        return fitted.fold_in(own) @ fitted.items.T if name == "iALS" else own @ fitted

    return rung


RUNGS: Mapping[str, Rung] = {
    "popular": popular,
    "analyst": analyst,
    **{name: _retriever(name) for name in TRIALS},
}


def lists(fits: Fits, name: str | Rung, some: Asked, stock: np.ndarray, k: int = 10) -> np.ndarray:
    """Return a rung's lists for requests on several days, shape (n, k).

    ``stock`` has a row for each day.
    """
    score = RUNGS[name] if isinstance(name, str) else name
    made = np.empty((len(some.user), k), int)
    for day in np.unique(some.day):
        rows = np.flatnonzero(some.day == day)
        part = some.where(rows)
        scores = score(fits.nights.known(day), fits, part)
        made[rows] = top(candidates.allowed(scores, stock[day], part.page), k)
    return made
