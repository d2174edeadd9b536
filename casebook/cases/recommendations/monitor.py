"""What a model must pass before it serves: lists that can be shown, and of the right time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.emails import LONG, Recommends, wrong
from casebook.serving.within import within

#: Hours after which a model alarms, and seconds for which a model is waited for when it is tried.
STALE, PATIENCE = 48.0, 30.0


def fitting(model: Recommends, stock: np.ndarray) -> np.ndarray:
    """Return the stock of the items that a model knows: the shop may have newer ones, or it."""
    known = getattr(model, "items", None)
    if not isinstance(known, int) or known == len(stock):
        return stock
    return np.append(stock, np.zeros(max(known - len(stock), 0), bool))[:known]


def before_it_serves(
    stock: Callable[[], np.ndarray],
    clock: Callable[[], pd.Timestamp],
    pages: int = 20,
    share: float = 0.1,
    seconds: float = PATIENCE,
) -> dict:
    """Return what a model must pass before it serves.

    Its lists of some pages, other ones for each model, and for some users can be shown, on each
    surface. Those of pages share items with the model that serves, unless that one is broken: none
    in common means that its numbers of items are not the shop's. It is asked for one list at a
    time, as requests ask: between two of them those of users are answered. Who hangs is waited for
    ``seconds``: a new one is refused then, and an old one is broken.
    """

    def some(new: Recommends, *others: Recommends) -> np.ndarray:
        known = min(len(fitting(one, stock())) for one in (new, *others))
        there = np.flatnonzero(stock()[:known])
        if not len(there):
            raise ValueError("nothing is in stock, so no list can be tried: look at the store")
        return np.random.default_rng(new.trained.value % 2**32).choice(there, pages)

    def lists(model: Recommends, surface: str, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nobody, there = np.full(pages, -1), fitting(model, stock())
        who, page = (at, nobody) if surface == "mail" else (nobody, at)
        each = zip(who[:, None], page[:, None], strict=True)
        made = [model.recommend(*one, surface, there, count=LONG)[:2] for one in each]
        items, scores = zip(*made, strict=True)
        return np.concatenate(items), np.concatenate(scores)

    def fault(made: tuple[np.ndarray, np.ndarray]) -> str:
        return wrong(*made, stock(), pages)

    def can_be_shown(new: Recommends, old: Recommends) -> str:
        at = some(new)
        for surface in SURFACES:
            rows = np.arange(pages) if surface == "mail" else at
            if why := fault(within(seconds, lists, new, surface, rows)):
                return f"{surface}: {why}"
        return ""

    def resembles(new: Recommends, old: Recommends) -> str:
        try:
            at = some(new, old)
            before = within(seconds, lists, old, "similar", at)
            if fault(before):
                return ""
        except Exception:  # what is broken or hangs is no measure, and has to be replaced
            return ""
        pairs = zip(within(seconds, lists, new, "similar", at)[0], before[0], strict=True)
        common = np.mean([len({*a.tolist()} & {*b.tolist()} - {-1}) for a, b in pairs]) / LONG
        return "" if common >= share else f"{common:.0%} of the items are those that are shown now"

    def is_later(new: Recommends, old: Recommends | None) -> str:
        now = clock()
        if not new.trained <= now:
            return f"it ends on {new.trained}, after {now}: set the clock of the training right"
        if old is None or old.trained > now:  # a wrong date holds up no right one
            return ""
        return "" if new.trained >= old.trained else f"it ends on {new.trained}, before the old one"

    # The cheap one first: a model of another time is not asked at all.
    return {"age": is_later, "lists": can_be_shown, "resemblance": resembles}
