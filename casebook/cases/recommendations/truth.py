"""What is true in case 09, apart from all that a model may see: who would click what, if seen.

A click needs two things: the slot is looked at (:attr:`Truth.examined`), and the item appeals to
the user on that day (:meth:`Truth.appeal`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casebook.cases.recommendations.catalogue import CATEGORIES, Shop, Side, stream

#: Days after a click in which the item is no news.
FRESH = 7
#: A day has this place in a key of (user, item, day).
_DAYS = 256


def expit(x: np.ndarray) -> np.ndarray:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


def _needs(seed: int, shop: Shop, users: Side) -> np.ndarray:
    """Return the category that each user needs on each day, shape (days, users)."""
    rng, n = stream(seed, 4), shop.users
    wish = (users.category + 0.3 / len(CATEGORIES)).cumsum(axis=1)
    needs = np.empty((shop.days, n), np.int8)
    for day in range(shop.days):
        turn, luck = rng.random((2, n))
        new = np.flatnonzero(turn < shop.needs_change) if day else np.arange(n)
        needs[day] = needs[day - 1] if day else 0
        level = luck[new, None] * wish[new, -1:]
        needs[day, new] = np.minimum((wish[new] < level).sum(axis=1), len(CATEGORIES) - 1)
    return needs


def _of_the_day(seed: int, shop: Shop, items: Side) -> np.ndarray:
    """Return what is the same for all users: quality, novelty, bursts, season; (days, items)."""
    rng, day = stream(seed, 5), np.arange(shop.days)[:, None]
    added = items.table["added"].to_numpy()
    age = np.where(added > 0, day - added, np.inf)
    fresh = np.where(age >= 0, np.exp(-np.maximum(age, 0) / shop.novelty_days), 0)
    begins = rng.random((shop.days, shop.items)) < 0.006
    burst = begins.astype(float)
    for k in (1, 2, 3):
        burst[k:] += begins[:-k] * (1 - k / 4)
    phase = rng.random(len(CATEGORIES))[items.category]
    season = np.sin(2 * np.pi * (day / 56 + phase))
    offer = items.table["campaign"].to_numpy()
    own = shop.quality * items.level + shop.offer * offer
    made = own + shop.novelty * fresh + shop.trend * np.minimum(burst, 1) + shop.season * season
    return made.astype("f4")


@dataclass(frozen=True)
class Truth:
    """The truth of a world: judges may ask it, models may not.

    Attributes
    ----------
    examined : ndarray, shape (slots,)
        Chance that a slot is looked at.
    needs : ndarray of int, shape (days, users)
        Category (as a code) that a user needs on a day.
    bots : ndarray of int
        Users who are programs.
    """

    shop: Shop
    items: Side
    users: Side
    needs: np.ndarray
    common: np.ndarray
    stock: np.ndarray
    bots: np.ndarray
    clicked: np.ndarray
    owned: np.ndarray

    @property
    def examined(self) -> np.ndarray:
        """Chance that each slot is looked at, shape (slots,)."""
        return self.shop.look ** np.arange(self.shop.slots)

    def appeal(
        self, users: np.ndarray, items: np.ndarray, day: np.ndarray | int, memory: bool = True
    ) -> np.ndarray:
        """Return the chance of a click by a user who looks.

        Parameters
        ----------
        users : array of int, shape (n,)
        items : array of int, shape (n,) or (n, m)
        day : int or array of int, shape (n,)
        memory : bool
            With what each user has clicked and bought before the day in this world.

        Returns
        -------
        ndarray
            Shape of ``items``.
        """
        return expit(self.log_odds(users, items, day, memory))

    def log_odds(
        self, users: np.ndarray, items: np.ndarray, day: np.ndarray | int, memory: bool = True
    ) -> np.ndarray:
        """Return the logit of :meth:`appeal`."""
        shop, users, items = self.shop, np.asarray(users), np.asarray(items)
        day = np.broadcast_to(day, users.shape)
        if items.ndim == 2:
            users, day = users[:, None], day[:, None]
        who, what, category = self.users, self.items, self.items.category[items]
        made = shop.base + shop.eager * who.level[users] + self.common[day, items]
        made += shop.taste * 2 * np.sqrt(who.category[users, category])
        made += shop.brand * who.brand[users, what.brand[items]]
        made -= shop.price * np.abs(what.price[items] - who.price[users])
        made += shop.style * np.einsum("...k,...k->...", who.style[users], what.style[items])
        made += shop.need * (self.needs[day, users] == category)
        if shop.mixed:
            # Quality then counts where the taste is, and next to nothing elsewhere.
            liked = 2 * np.sqrt(who.category[users, category]) - 0.6
            made += shop.mixed * liked * what.level[items]
        if memory:
            key = (users.astype(np.int64) * shop.items + items) * _DAYS + day
            made += shop.seen * (_last(self.clicked, key) <= FRESH)
            made += shop.owned * (_last(self.owned, key) < _DAYS)
        return made

    def clicks(self, users: np.ndarray, lists: np.ndarray, day: np.ndarray | int) -> np.ndarray:
        """Return the expected clicks of whole lists.

        Parameters
        ----------
        users : array of int, shape (n,)
        lists : array of int, shape (n, slots)
            Items, best slot first; −1 leaves a slot empty. An item that is sold out gets no click.
        day : int or array of int, shape (n,)

        Returns
        -------
        ndarray, shape (n,)
        """
        lists = np.asarray(lists)
        if lists.ndim != 2 or lists.shape[1] > self.shop.slots:
            raise ValueError(f"lists of shape {lists.shape}: (n, {self.shop.slots}) is expected.")
        there = (lists >= 0) & self.stock[np.broadcast_to(day, len(lists))[:, None], lists]
        chance = self.appeal(users, np.maximum(lists, 0), day) * there
        return chance @ self.examined[: lists.shape[1]]

    def favourites(self, users: np.ndarray, day: int, n: int = 10) -> np.ndarray:
        """Return the best lists of items in stock: the oracle's, for tests and ceilings alone."""
        stocked, parts = np.flatnonzero(self.stock[day]), []
        for some in np.array_split(np.asarray(users), max(1, len(users) // 200)):
            odds = self.log_odds(some, np.tile(stocked, (len(some), 1)), day)
            top = np.argpartition(-odds, n, axis=1)[:, :n]
            order = np.argsort(-np.take_along_axis(odds, top, 1), axis=1)
            parts.append(stocked[np.take_along_axis(top, order, 1)])
        return np.concatenate(parts)

    def buy_chance(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the chance of a purchase after a click, the shape of ``items``."""
        dear = np.maximum(self.items.price[items] - self.users.price[users], 0)
        return expit(self.shop.buys + 0.3 * self.items.level[items] - dear)


def _last(keys: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the days from the last of the sorted keys before each one asked; 256 for none."""
    if not len(keys):
        return np.full(asked.shape, _DAYS)
    at = np.searchsorted(keys, asked) - 1
    found = keys[np.maximum(at, 0)]
    same = (at >= 0) & (found // _DAYS == asked // _DAYS)
    return np.where(same, asked - found, _DAYS)


def keys(users: np.ndarray, items: np.ndarray, day: np.ndarray | int, shop: Shop) -> np.ndarray:
    """Return one number for each (user, item, day), in the order of these."""
    return (users.astype(np.int64) * shop.items + items) * _DAYS + day


def make_truth(seed: int, shop: Shop, items: Side, users: Side, stock: np.ndarray) -> Truth:
    """Draw what is true, before anybody has clicked."""
    old = np.flatnonzero(users.table["joined"] == 0)
    bots = stream(seed, 6).choice(old, max(2, round(shop.bots * shop.users)), replace=False)
    needs, none = _needs(seed, shop, users), np.empty(0, np.int64)
    common = _of_the_day(seed, shop, items)
    return Truth(shop, items, users, needs, common, stock, np.sort(bots), none, none)
