"""What goes in and out of the service: goods, requests, and a model's list before it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.emails import LONG, wrong
from casebook.serving.app import Problem, query_number, query_of

MOST_COUNT, MOST_ID = LONG, 2**31
NAMES = ("user_id", "item_id", "type", "count")


class Goods(NamedTuple):
    """Category of each item, the numbers of all items, best seller first, and their brands."""

    category: np.ndarray
    bestsellers: np.ndarray
    brand: np.ndarray | None = None

    def whole(self) -> Goods:
        """Return them with numbers that can be; an item without a brand is a brand of its own."""
        n, best, brand = len(self.category), self.bestsellers, self.brand
        if brand is not None:
            brand = np.append(brand, -1 - np.arange(max(n - len(brand), 0)))
        return Goods(self.category, best[(best >= 0) & (best < n)], brand)


class Asked(NamedTuple):
    """A request: −1 is nobody, or no page."""

    user: int
    item: int
    type: str
    count: int


def asked(query: Sequence[tuple[str, str]], items: int) -> Asked:
    """Return a request from the parameters of its address.

    Raises
    ------
    Problem
        422 with the parameter that is wrong, 404 for an item that the shop does not have.
    """
    given = query_of(query, NAMES)
    surface = given.get("type", "similar")
    if surface not in SURFACES:
        what = f"type is {surface[:40]!r}."
        raise Problem(422, "type", what, f"Send one of {', '.join(SURFACES)}.")
    user = query_number(given, "user_id", 0, MOST_ID - 1, -1)
    item = query_number(given, "item_id", 0, items - 1, -1, outside=404)
    needed, name = (user, "user_id") if surface == "mail" else (item, "item_id")
    if needed < 0:
        raise Problem(422, name, f"A {surface} list needs {name}.", f"Send {name}.")
    count = query_number(given, "count", 1, MOST_COUNT, 10)
    return Asked(user, -1 if surface == "mail" else item, surface, count)


def shown(made: Any, stock: np.ndarray) -> list[tuple[int, float, float | None]]:
    """Return the items of a model's one list, each with its score and, if it was drawn, its chance.

    Raises
    ------
    ValueError
        If it cannot be shown.
    """
    items, scores, *rest = (np.asarray(part) for part in made)
    chance = rest[0] if rest else np.full(items.shape, np.nan)
    why = wrong(items, scores, stock, 1)
    if not why and (chance.shape != items.shape or ((chance <= 0) | (chance > 1)).any()):
        why = "a chance is not above 0 and at most 1"
    if why:
        raise ValueError(why)
    each = zip(items[0].tolist(), scores[0].tolist(), chance[0].tolist(), strict=True)
    return [(i, float(s), None if c != c else float(c)) for i, s, c in each if i >= 0]
