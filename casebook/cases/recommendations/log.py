"""A day of the shop: who comes, which ten items each page shows, what is looked at and clicked.

Draws of a day do not depend on the policy: the same people open the same pages at the same times,
look at the same slots and have the same luck.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import CATEGORIES, SURFACES, Shop, stream
from casebook.cases.recommendations.truth import Truth
from casebook.evaluate.slates import by_chance

START = pd.Timestamp("2026-03-02")
#: Milliseconds of a day.
DAY = 86_400_000
#: More than the sessions of a day: the first of day d has the number d times this.
SESSIONS = 1_000_000
SIMILAR, ALSO, MAIL = range(len(SURFACES))
#: Relative visits of the hours of a day, and of the days of a week from Monday.
HOURS = np.array(
    [2, 1, 1, 1, 1, 2, 3, 5, 6, 7, 7, 7, 8, 8, 7, 7, 8, 9, 11, 13, 14, 12, 8, 4], float
)
WEEK = np.array([0.95, 0.93, 0.93, 0.95, 1.0, 1.12, 1.12])
#: Items of the page's category, and of the whole shop, among which the shop's policy chooses.
POOL = 20


@dataclass(frozen=True)
class Requests:
    """All lists that a day asks for, in order of time: what a policy may know of them.

    Attributes
    ----------
    day : int
    user, surface, seed_item, session : ndarray of int, shape (n,)
        ``surface`` is a position in ``SURFACES``; ``seed_item`` is −1 for a mail.
    at : ndarray of int
        Milliseconds since the start of the world.
    stock : ndarray of bool, shape (items,)
    """

    day: int
    user: np.ndarray
    surface: np.ndarray
    seed_item: np.ndarray
    session: np.ndarray
    at: np.ndarray
    stock: np.ndarray
    _events: Callable[[], pd.DataFrame] = field(repr=False)

    def __len__(self) -> int:
        return len(self.user)

    def events(self) -> pd.DataFrame:
        """Return all events that were known on the midnight before the day."""
        return self._events()


#: From the requests of a day to lists of items in stock, shape (n, slots), best slot first.
Policy = Callable[[Requests], np.ndarray]


def moment(milliseconds: np.ndarray) -> np.ndarray:
    """Return moments of the world, in milliseconds since its start, as times."""
    return (START.to_datetime64().astype("M8[ms]") + milliseconds.astype("m8[ms]")).astype("M8[ns]")


# Who comes ----------------------------------------------------------------------------


def _pages(rng: np.random.Generator, day: int, truth: Truth) -> tuple[np.ndarray, ...]:
    """Return user, session and time of every page of a day."""
    shop, users = truth.shop, truth.users
    here = users.table["joined"].to_numpy() <= day
    rate = shop.visits * np.exp(users.fame) * WEEK[day % 7] * here
    # On the day of joining a user comes for certain.
    visits = rng.poisson(rate) + (users.table["joined"].to_numpy() == day) * (day > 0)
    who = np.repeat(np.arange(shop.users), visits)
    pages = 1 + rng.poisson(shop.pages, len(who))
    hour = np.searchsorted(HOURS.cumsum() / HOURS.sum(), rng.random(len(who)), side="right")
    start = (hour + rng.random(len(who))) * (DAY // 24)
    session = np.repeat(np.arange(len(who)), pages)
    gap = 8_000 + rng.exponential(80_000, len(session))
    first = np.r_[True, session[1:] != session[:-1]][: len(session)]
    total = np.where(first, 0, gap).cumsum()
    within = total - np.repeat(total[first], pages)
    return who[session], session, np.minimum(start[session] + within, DAY - 120_000)


def _seeds(
    rng: np.random.Generator, user: np.ndarray, day: int, truth: Truth
) -> tuple[np.ndarray, np.ndarray]:
    """Return the item of each page, and whether the user puts it in the cart."""
    n, tries = len(user), 6
    added = int((truth.items.table["added"].to_numpy() <= day).sum())
    kind = truth.items.category[:added]
    order, size = np.argsort(kind, kind="stable"), np.bincount(kind, minlength=len(CATEGORIES))
    wish = (truth.users.category[user] + 0.02).cumsum(axis=1)
    level = rng.random(n)[:, None] * wish[:, -1:]
    category = np.minimum((wish < level).sum(axis=1), len(CATEGORIES) - 1)
    category = np.where(rng.random(n) < 0.6, truth.needs[day, user], category)
    category = np.where(size[category] > 0, category, size.argmax())
    place = (rng.random((n, tries)) * size[category][:, None]).astype(int)
    tried = order[(size.cumsum() - size)[category][:, None] + place]
    odds = truth.log_odds(user, tried, day, memory=False) + truth.items.fame[tried]
    best = (odds + rng.gumbel(size=(n, tries))).argmax(axis=1)
    return tried[np.arange(n), best], rng.random(n)


def requests(
    seed: int, day: int, truth: Truth, events: Callable[[], pd.DataFrame]
) -> tuple[Requests, np.ndarray]:
    """Return the requests of a day, and the luck of each page's item to be bought."""
    rng, shop = stream(seed, 100 + day, 1), truth.shop
    user, visit, at = _pages(rng, day, truth)
    item, luck = _seeds(rng, user, day, truth)
    surface = np.where(rng.random(len(user)) < 0.5, SIMILAR, ALSO)
    here = np.flatnonzero(truth.users.table["joined"].to_numpy() <= day)
    mailed = here[rng.random(len(here)) < shop.mails]
    opened = (6.5 + rng.gamma(2.0, 1.5, len(mailed))).clip(max=23.9) * (DAY // 24)
    at = np.r_[at, opened].astype(np.int64)
    order = np.argsort(at, kind="stable")
    visit = np.r_[visit, visit.max(initial=-1) + 1 + np.arange(len(mailed))] + day * SESSIONS
    asked = Requests(
        day=day,
        user=np.r_[user, mailed][order],
        surface=np.r_[surface, np.full(len(mailed), MAIL)][order].astype(np.int8),
        seed_item=np.r_[item, np.full(len(mailed), -1)][order],
        session=visit[order],
        at=at[order] + day * DAY,
        stock=truth.stock[day],
        _events=events,
    )
    return asked, np.r_[luck, np.ones(len(mailed))][order]


# What is shown ------------------------------------------------------------------------


@dataclass
class Habit:
    """The shop's own policy: what was clicked of late, in the page's category, with rotation.

    What it shows is clicked, what is clicked is shown: it feeds on itself. It knows who came for
    what by the last page of each user.

    Attributes
    ----------
    counts : ndarray
        Clicks on each item, those of ``memory`` days ago by half.
    last : ndarray of int
        Category of each user's last page, −1 before the first.
    """

    seed: int
    shop: Shop
    category: np.ndarray
    campaign: np.ndarray
    counts: np.ndarray
    last: np.ndarray

    def __call__(self, asked: Requests) -> np.ndarray:
        """Return the lists of a day."""
        rng = stream(self.seed, 100 + asked.day, 3)
        score = self.shop.trust * np.log(self.counts + 0.2) + self.shop.boost * self.campaign
        score = np.where(asked.stock, score, -np.inf)
        best = np.argsort(-score, kind="stable")
        pools = np.zeros((len(CATEGORIES) + 1, POOL), int)
        known = np.full((len(CATEGORIES) + 1, POOL), -np.inf)
        for kind in range(len(CATEGORIES)):
            own = best[self.category[best] == kind][:POOL]
            pools[kind, : len(own)], known[kind, : len(own)] = own, score[own]
        page = asked.seed_item >= 0
        kind = np.where(page, self.category[asked.seed_item], self.last[asked.user])
        wide = np.broadcast_to(best[:POOL], (len(asked), POOL))
        pool = np.concatenate([pools[kind], wide], axis=1)
        weight = np.array(self.shop.near)[asked.surface][:, None]
        value = np.concatenate([known[kind] + weight, score[wide]], axis=1)
        value[:, POOL:][self.category[wide] == kind[:, None]] = -np.inf
        value[pool == asked.seed_item[:, None]] = -np.inf
        value += self.shop.rotation * rng.gumbel(size=value.shape)
        top = np.argsort(-value, axis=1)[:, : self.shop.slots]
        self.last[asked.user[page]] = self.category[asked.seed_item[page]]
        return np.take_along_axis(pool, top, 1)

    def learn(self, items: np.ndarray, views: np.ndarray) -> None:
        """Add a day's clicks on lists, and views of pages at a tenth."""
        self.counts *= 0.5 ** (1 / self.shop.memory)
        self.counts += np.bincount(items, minlength=len(self.counts))
        self.counts += 0.1 * np.bincount(views, minlength=len(self.counts))


def habit(seed: int, truth: Truth) -> Habit:
    """Return the shop's policy as it stands on the first day: an accident of its past."""
    rng, items = stream(seed, 7), truth.items
    past = np.exp(0.5 * items.level + items.fame + rng.normal(0, 0.6, len(items.level)))
    past *= (items.table["added"] == 0).to_numpy() * truth.shop.users / truth.shop.items / 10
    campaign = items.table["campaign"].to_numpy()
    last = np.full(truth.shop.users, -1)
    return Habit(seed, truth.shop, items.category, campaign, past, last)


def check_lists(lists: np.ndarray, asked: Requests, slots: int) -> np.ndarray:
    """Return a policy's lists, or raise a ``ValueError`` that says what is wrong with them."""
    lists = np.asarray(lists)
    if lists.shape != (len(asked), slots) or lists.dtype.kind not in "iu":
        raise ValueError(
            f"the policy gave {lists.dtype} of shape {lists.shape} for {len(asked)} requests: "
            f"give item numbers of shape ({len(asked)}, {slots})."
        )
    if lists.size and not (lists.min() >= 0 and lists.max() < len(asked.stock)):
        raise ValueError(f"the policy named an item beyond 0 to {len(asked.stock) - 1}.")
    ordered = np.sort(lists, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ValueError("the policy put an item twice in a list: each item once.")
    if not asked.stock[lists].all():
        raise ValueError(
            f"the policy showed {int((~asked.stock[lists]).sum())} items that are sold out on day "
            f"{asked.day}: choose among requests.stock."
        )
    return lists


@dataclass(frozen=True)
class Played:
    """What happened on a day: lists and what became of them, shape (n, slots) or (n,)."""

    asked: Requests
    lists: np.ndarray
    random: np.ndarray
    chance: np.ndarray
    clicked: np.ndarray
    bought: np.ndarray
    cart: np.ndarray
    bought_page: np.ndarray


def play(seed: int, asked: Requests, luck: np.ndarray, lists: np.ndarray, truth: Truth) -> Played:
    """Show a policy's lists, but chance's where the random slice has it, and see who clicks."""
    shop, n = truth.shop, len(asked)
    rng = stream(seed, 100 + asked.day, 4)
    random = rng.random(n) < shop.random_share
    drawn, even = by_chance(rng, asked.stock, asked.seed_item[random], shop.slots)
    lists = check_lists(lists, asked, shop.slots).copy()
    lists[random] = drawn
    chance = np.full(n, np.nan)
    chance[random] = even
    rng = stream(seed, 100 + asked.day, 5)
    eye, will, buy = rng.random((3, n, shop.slots))
    looked = eye < truth.examined
    clicked = looked & (will < truth.appeal(asked.user, lists, asked.day))
    bought = np.zeros_like(clicked)
    row, slot = np.nonzero(clicked)
    bought[row, slot] = buy[row, slot] < truth.buy_chance(asked.user[row], lists[row, slot])
    page = np.maximum(asked.seed_item, 0)
    ready = (asked.seed_item >= 0) & asked.stock[page]
    paid = ready & (luck < 0.5 * truth.buy_chance(asked.user, page))
    cart = ready & (luck < truth.buy_chance(asked.user, page))
    return Played(asked, lists, random, chance, clicked, bought, cart, paid)
