"""The morning's checks of the recommender: what would otherwise fail silently.

The report is that of :mod:`casebook.serving.checks`; here is what is particular to lists.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from casebook.cases.recommendations.emails import LONG, Recommends, wrong
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


def before_it_serves(stock: Callable[[], np.ndarray], pages: int = 20, share: float = 0.1) -> dict:
    """Return what a model must pass before it serves.

    Its lists of some pages and for some users can be shown. Those of pages share items with the
    model that serves, unless that one is broken: none in common means that its numbers of items are
    not the shop's.
    """

    def lists(model: Recommends) -> tuple[np.ndarray, np.ndarray]:
        items = np.flatnonzero(stock())
        some = items[np.linspace(0, len(items) - 1, pages).astype(int)]
        return model.recommend(np.full(pages, -1), some, "similar", stock(), count=LONG)

    def mails(model: Recommends) -> tuple[np.ndarray, np.ndarray]:
        nowhere = np.full(pages, -1)
        return model.recommend(np.arange(pages), nowhere, "mail", stock(), count=LONG)

    def fault(made: tuple[np.ndarray, np.ndarray]) -> str:
        return wrong(*map(np.asarray, made), stock(), pages)

    def can_be_shown(new: Recommends, old: Recommends) -> str:
        return fault(lists(new)) or fault(mails(new))

    def resembles(new: Recommends, old: Recommends) -> str:
        try:
            before = lists(old)
            if fault(before):
                return ""
        except Exception:  # what is broken is no measure, and has to be replaced
            return ""
        pairs = zip(lists(new)[0], before[0], strict=True)
        common = np.mean([len({*a.tolist()} & {*b.tolist()} - {-1}) for a, b in pairs]) / LONG
        return "" if common >= share else f"{common:.0%} of the items are those that are shown now"

    def is_later(new: Recommends, old: Recommends) -> str:
        return "" if new.trained >= old.trained else f"it ends on {new.trained}, before the old one"

    return {"lists": can_be_shown, "resemblance": resembles, "age": is_later}
