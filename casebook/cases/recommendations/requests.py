"""What goes in and out of the service: goods, requests, events, and lists before they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.emails import LONG, wrong
from casebook.serving.app import Problem, query_number, query_of

MOST_COUNT, MOST_ID, MOST_PRICE = LONG, 2**31, 1_000_000
NAMES = ("user_id", "item_id", "type", "count")
KINDS = ("view", "click", "cart", "buy", "stock")
VALUES = ("price", "stock")


class Goods(NamedTuple):
    """Category of each item, all items' numbers, best seller first, brands, and which are new.

    New are those of the last days, also those that no training has seen yet.
    """

    category: np.ndarray
    bestsellers: np.ndarray
    brand: np.ndarray | None = None
    new: np.ndarray | None = None

    def whole(self) -> Goods:
        """Return them with numbers that can be; an item without a brand is a brand of its own."""
        n, best, brand = len(self.category), self.bestsellers, self.brand
        if brand is not None:
            brand = np.append(brand, -1 - np.arange(max(n - len(brand), 0)))
        new = np.zeros(n, bool)
        new[: 0 if self.new is None else len(self.new)] = self.new
        return Goods(self.category, best[(best >= 0) & (best < n)], brand, new)


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


def placed(
    items: list[int],
    goods: Goods,
    stock: np.ndarray,
    page: int,
    cap: int,
    rng: np.random.Generator,
) -> tuple[list[int], float | None]:
    """Return a list whose last place has a new item in stock, drawn evenly, and its chance.

    What is on the list, the page's own item, and brands that have ``cap`` of the other places are
    not drawn; None instead of a chance: no item is left, and the list is as it was.
    """
    free = stock & goods.new[: len(stock)]
    free[[i for i in (*items, page) if i >= 0]] = False
    if goods.brand is not None:
        brands, held = np.unique(goods.brand[items[:-1]], return_counts=True)
        free &= ~np.isin(goods.brand[: len(free)], brands[held >= cap])
    new = np.flatnonzero(free)
    if len(items) < 2 or not len(new):
        return items, None
    return [*items[:-1], int(rng.choice(new))], 1 / len(new)


def event_of(one: Any, now: pd.Timestamp, items: int) -> tuple:
    """Return an event as a row: number, time, kind, item, user and :data:`VALUES`.

    Raises
    ------
    ValueError
        With what is wrong with it.
    """
    if not isinstance(one, dict):
        raise ValueError("an event is an object")
    kind, item, user = one.get("kind"), one.get("item"), one.get("user", -1)
    if kind not in KINDS:
        raise ValueError(f"kind {str(kind)[:20]!r}: one of {', '.join(KINDS)}")
    for name, value, most in (("item", item, items), ("user", user, MOST_ID)):
        if type(value) is not int or not -(name == "user") <= value < most:
            raise ValueError(f"{name} {str(value)[:20]!r} is not known")
    values = [one.get(name, float("nan")) for name in VALUES]
    if not all(type(v) in (int, float) and not (v < 0 or v > MOST_PRICE) for v in values):
        raise ValueError(f"{' and '.join(VALUES)} are numbers from 0 to {MOST_PRICE:,}")
    if one.get("stock") not in (0, 1) if kind == "stock" else "stock" in one:
        raise ValueError("stock is 0 or 1 in a message of the kind stock, and in no other")
    if not isinstance(one.get("event"), int | str):
        raise ValueError("event: a number or a text of its own")
    sent = one.get("at")
    at = now if sent is None else pd.Timestamp(sent if isinstance(sent, str) else "")
    if pd.isna(at) or at.tzinfo is not None:
        raise ValueError("at: a time in UTC without a zone, as text")
    return one["event"], at, kind, item, user, *values
