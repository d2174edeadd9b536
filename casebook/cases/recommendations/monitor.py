"""What a model must pass before it serves: lists that can be shown, and of the right time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from casebook.cases.recommendations.emails import LONG, Recommends, wrong

#: Hours after which a model alarms.
STALE = 48.0


def before_it_serves(
    stock: Callable[[], np.ndarray],
    clock: Callable[[], pd.Timestamp],
    pages: int = 20,
    share: float = 0.1,
) -> dict:
    """Return what a model must pass before it serves.

    Its lists of some pages and for some users can be shown. Those of pages share items with the
    model that serves, unless that one is broken: none in common means that its numbers of items are
    not the shop's. It is asked for one list at a time, as requests ask: between two of them those
    of users are answered.
    """

    def lists(model: Recommends) -> tuple[np.ndarray, np.ndarray]:
        items = np.flatnonzero(stock())
        some = items[np.linspace(0, len(items) - 1, pages).astype(int)]
        return one_by_one(model, np.full(pages, -1), some, "similar")

    def mails(model: Recommends) -> tuple[np.ndarray, np.ndarray]:
        return one_by_one(model, np.arange(pages), np.full(pages, -1), "mail")

    def one_by_one(
        model: Recommends, users: np.ndarray, seeds: np.ndarray, surface: str
    ) -> tuple[np.ndarray, np.ndarray]:
        each = zip(users[:, None], seeds[:, None], strict=True)
        made = [model.recommend(*one, surface, stock(), count=LONG) for one in each]
        items, scores = zip(*made, strict=True)
        return np.concatenate(items), np.concatenate(scores)

    def fault(made: tuple[np.ndarray, np.ndarray]) -> str:
        return wrong(*made, stock(), pages)

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
        now = clock()
        if new.trained > now:
            return f"it ends on {new.trained}, after {now}: set the clock of the training right"
        if old.trained > now:  # a wrong date of the one that serves holds up no right one
            return ""
        return "" if new.trained >= old.trained else f"it ends on {new.trained}, before the old one"

    # The cheap one first: a model of another time is not asked at all.
    return {"age": is_later, "lists": can_be_shown, "resemblance": resembles}
