"""The morning's checks of the recommender: what would otherwise fail silently.

The report is that of :mod:`casebook.serving.checks`; here is what is particular to lists.
"""

from __future__ import annotations

import numpy as np

from casebook.evaluate.psi import noise, psi
from casebook.serving.checks import Check, above, below

#: Hours after which a model alarms; least share of the items that are shown to anybody in a day;
#: items of one brand in a list; index recall; PSI of scores above its noise.
STALE, COVERAGE, BRAND_CAP, RECALL, PSI = 48.0, 0.30, 3, 0.95, 0.10


def drift(before: np.ndarray, now: np.ndarray, limit: float = PSI) -> Check:
    """Compare scores of two days by PSI; a small day's noise raises the limit."""
    value, limit = psi(before, now), max(limit, noise(len(before), len(now)))
    what = "scores have moved: compare features, model and traffic of both days"
    return above("PSI of scores", value, limit, what)


def coverage(lists: np.ndarray, stock: np.ndarray, limit: float = COVERAGE) -> Check:
    """Return the share of the items in stock that were shown to anybody."""
    shown = np.unique(lists[lists >= 0])
    value = float(stock[shown].sum() / max(stock.sum(), 1))
    what = "few items are ever shown: look for a fall-back that serves, or a feature that is flat"
    return below("coverage", value, limit, what)


def found(share: float, limit: float = RECALL) -> Check:
    """Return whether the index still finds what brute force finds."""
    what = "the index misses neighbours: build it again, or search wider"
    return below("index recall", share, limit, what)


def rules(
    lists: np.ndarray,
    pages: np.ndarray,
    stock: np.ndarray,
    brand: np.ndarray,
    cap: int = BRAND_CAP,
) -> list[Check]:
    """Count lists that break a rule of the shop.

    Parameters
    ----------
    lists : ndarray of int, shape (n, slots)
        −1 is an empty place.
    pages : ndarray of int, shape (n,)
        Item of the page, −1 for a mail.
    stock : ndarray of bool, shape (items,) or (n, items)
        When each list was shown.
    brand : ndarray of int, shape (items,)
    cap : int
    """
    lists, pages = np.atleast_2d(lists), np.asarray(pages)
    there, safe = lists >= 0, np.maximum(lists, 0)
    have = stock[np.arange(len(lists))[:, None], safe] if stock.ndim == 2 else stock[safe]
    own = np.where(there, brand[safe], -1 - np.arange(lists.shape[1]))
    ordered = np.sort(own, axis=1)
    many = (ordered[:, cap:] == ordered[:, : lists.shape[1] - cap]).any(axis=1)
    same = np.sort(np.where(there, lists, -1 - np.arange(lists.shape[1])), axis=1)
    broken = {
        "sold out": (there & ~have).any(axis=1),
        "its own page": (there & (lists == pages[:, None]) & (pages >= 0)[:, None]).any(axis=1),
        "an item twice": (np.diff(same, axis=1) == 0).any(axis=1),
        f"more than {cap} of a brand": many,
    }
    what = "a rule is broken: stop the model, and look"
    return [above(name, rows.sum(), 0.0, what) for name, rows in broken.items()]
