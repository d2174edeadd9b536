"""What is known of users and items on a midnight, and the features of a pair made of it.

One definition for the batch, the page and the service: :func:`known` lays the events that had
arrived before a midnight out as arrays, :func:`features` reads them for any pairs. What the day
itself adds, the page that is open and those opened before it, is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from casebook.cases.recommendations.catalogue import CATEGORIES
from casebook.cases.recommendations.log import START
from casebook.cases.recommendations.messages import repair
from casebook.cases.recommendations.world import World
from casebook.retrieval.factors import interactions

#: Days in which an event counts half: for what a user likes, did of late, and needs just now.
LIKES, LATELY, NEEDS = 21.0, 7.0, 3.0
#: Pages of the day that are looked back at.
PAGES = 5
#: Impressions that the click rate of an item is shrunk by; events, what is known of a user.
SHRUNK, FEW = 30.0, 2.0
#: Days in which a click makes an item no news.
SEEN = 7
NAMES = (
    *("taste", "need", "same", "same_similar", "mail_last", "brand", "price_gap", "style"),
    *("page_style", "page_brand", "rate", "popular", "trend", "novel", "campaign", "season"),
    *("seen", "owned", "together", "ease", "heard", "taste_heard", "need_mail", "affinity"),
    *("quiz", "session", "again"),
)


def midnight(day: int) -> pd.Timestamp:
    """Return the moment at which a day begins."""
    return START + pd.Timedelta(days=int(day))


@dataclass(frozen=True)
class Goods:
    """The catalogue as arrays, row i for item i."""

    items: pd.DataFrame

    @cached_property
    def category(self) -> np.ndarray:
        """Code of the category."""
        return self.items["category"].cat.codes.to_numpy(int)

    @cached_property
    def brand(self) -> np.ndarray:
        """Code of the brand."""
        return self.items["brand"].cat.codes.to_numpy(int)

    @cached_property
    def price(self) -> np.ndarray:
        """Log of the price over the median of its category."""
        log = np.log(self.items["price"].to_numpy())
        return log - pd.Series(log).groupby(self.category).transform("median").to_numpy()

    @cached_property
    def words(self) -> np.ndarray:
        """Which words the title has beside the category, as unit vectors, shape (items, words)."""
        found = self.items["title"].str.rsplit(n=1).str[0].str.get_dummies(" ").to_numpy(float)
        return found / np.sqrt(np.maximum(found.sum(axis=1, keepdims=True), 1))

    @cached_property
    def traits(self) -> np.ndarray:
        """What two items may have in common, as unit vectors: half of it words, then two labels."""
        labels = [np.eye(codes.max() + 1)[codes] for codes in (self.category, self.brand)]
        words = self.words / np.maximum(np.linalg.norm(self.words, axis=1, keepdims=True), 1e-9)
        parts = (np.sqrt(0.5) * words, *(0.5 * label for label in labels))
        made = np.concatenate(parts, axis=1)
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("f4")


@dataclass(frozen=True)
class Known:
    """What a midnight knows.

    Attributes
    ----------
    day : int
        That begins.
    goods : Goods
    rows : ndarray of int, shape (n, 3)
        User, item and day of each event, in order of arrival.
    taste, affinity, need, brand, words : ndarray
        Of users: share of each category (long, of late, just now); lift of each brand and word.
    price, heard : ndarray, shape (users,)
        Mean relative price; log of the number of events.
    quiz : ndarray of int, shape (users,)
        Category named at sign-up; −1: none.
    last : ndarray of int, shape (users,)
        Category of the last event; −1: none.
    lift : ndarray, shape (items,), optional
        Log-odds that the shop gives items beside its rules: a bonus for new ones, say.
    looked, rate, popular, trend, novel, season : ndarray, shape (items,)
        Looks at the item so far; log click rate of a look over the mean; log of the week's events,
        and of the last day's against it; newness; lift of the category in the last week.
    """

    day: int
    goods: Goods
    rows: np.ndarray
    taste: np.ndarray
    affinity: np.ndarray
    need: np.ndarray
    brand: np.ndarray
    words: np.ndarray
    price: np.ndarray
    heard: np.ndarray
    quiz: np.ndarray
    last: np.ndarray
    looked: np.ndarray
    rate: np.ndarray
    popular: np.ndarray
    trend: np.ndarray
    novel: np.ndarray
    season: np.ndarray
    _seen: np.ndarray
    _owned: np.ndarray
    lift: np.ndarray | None = None

    @cached_property
    def taken(self) -> sp.csr_matrix:
        """Who has taken what, as ones, shape (users, items)."""
        shape = (len(self.heard), len(self.goods.category))
        return interactions(self.rows[:, 0], self.rows[:, 1], shape)

    def has(self, which: str, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return whether users have ``seen`` (within the week) or ``owned`` items."""
        keys = self._seen if which == "seen" else self._owned
        asked = users * len(self.goods.category) + items
        at = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
        return keys[at] == asked if len(keys) else np.zeros(asked.shape, bool)


def _table(row: np.ndarray, column: np.ndarray, weight: np.ndarray, shape: tuple[int, int]):
    """Return sums of weights by row and column."""
    return np.bincount(row * shape[1] + column, weight, shape[0] * shape[1]).reshape(shape)


def look(shown: pd.DataFrame) -> float:
    """Return how much less often each slot is looked at than the one before it.

    Fitted to the lists drawn by chance: there the items of all slots are alike.
    """
    slots = shown.loc[shown["random"] & shown["clicked"], "slot"].to_numpy(int)
    grid = np.linspace(0.6, 1.0, 81)
    places = np.arange(10)
    mass = grid[:, None] ** places
    # Twenty clicks of a usual page are added, so that a small slice does not say too much.
    told = slots.sum() + 20 * (places * 0.85**places).sum() / (0.85**places).sum()
    fit = told * np.log(grid) - (len(slots) + 20) * np.log(mass.sum(axis=1))
    return float(grid[fit.argmax()])


@dataclass(frozen=True)
class Log:
    """Events and impressions of a shop, once cleaned, from which any midnight is cut.

    Attributes
    ----------
    goods : Goods
    users : DataFrame
    events : DataFrame
        Of :func:`.messages.repair`, in order of ``known_at``.
    shown : DataFrame
        Impressions, in order of time.
    """

    goods: Goods
    users: pd.DataFrame
    events: pd.DataFrame
    shown: pd.DataFrame

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The events as arrays."""
        made = {name: self.events[name].to_numpy(int) for name in ("user", "item", "session")}
        made["day"] = (self.events["at"] - START).dt.days.to_numpy()
        made["buy"] = (self.events["kind"] == "buy").to_numpy()
        made["click"] = (self.events["kind"] == "click").to_numpy()
        made["known"] = self.events["known_at"].to_numpy()
        return made

    @cached_property
    def looked(self) -> float:
        """How much less often each slot is looked at, by the first two thirds of the days."""
        early = self.shown["day"] < (self.shown["day"].max() + 1) * 2 // 3
        return look(self.shown[early])


def cleaned(world: World) -> Log:
    """Return the log of a world without what the audit finds."""
    events = repair(world.events, world.items).sort_values("known_at", kind="stable")
    return Log(Goods(world.items), world.users, events.reset_index(drop=True), world.shown)


def _of_items(log: Log, day: int, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of items as of a midnight."""
    goods, n = log.goods, len(log.goods.category)
    end = np.searchsorted(log.shown["day"].to_numpy(), day)
    past = log.shown.iloc[:end]
    item, look_at = past["item"].to_numpy(), log.looked ** past["slot"].to_numpy()
    looked = np.bincount(item, look_at, n)
    clicked = np.bincount(item, past["clicked"].to_numpy(), n)
    usual = clicked.sum() / max(looked.sum(), 1)
    rate = np.log((clicked + SHRUNK * usual + 1e-9) / (looked * usual + SHRUNK * usual + 1e-9))
    week, yesterday = rows["day"] >= day - 7, rows["day"] >= day - 1
    views = np.bincount(rows["item"][week], minlength=n)
    fresh = np.bincount(rows["item"][yesterday], minlength=n)
    kind = np.bincount(goods.category[rows["item"]], minlength=len(CATEGORIES))
    late = np.bincount(goods.category[rows["item"][week]], minlength=len(CATEGORIES))
    lift = np.log((late + 5) / late.sum().clip(1)) - np.log((kind + 5) / kind.sum().clip(1))
    added = goods.items["added"].to_numpy()
    age = np.where(added > 0, day - added, 99)
    return {
        "looked": looked,
        "rate": rate,
        "popular": np.log1p(views),
        "trend": np.log((fresh + 1) / (views / 7 + 1)),
        "novel": np.exp(-np.maximum(age, 0) / 4),
        "season": lift[goods.category],
    }


def known(log: Log, day: int) -> Known:
    """Lay out what had arrived before a midnight.

    Parameters
    ----------
    log : Log
    day : int
        Events with ``known_at`` before its midnight count, impressions of the days before it.

    Returns
    -------
    Known
    """
    # One more row stands for a user of whom nothing is known: number −1 finds it.
    goods, n, kinds = log.goods, len(log.users) + 1, len(CATEGORIES)
    end = np.searchsorted(log.arrays["known"], midnight(day).to_datetime64())
    rows = {name: values[:end] for name, values in log.arrays.items()}
    user, item, age = rows["user"], rows["item"], day - rows["day"]
    category, one = goods.category[item], np.ones(end)
    long = _table(user, category, 0.5 ** (age / LIKES), (n, kinds))
    quiz = np.append(pd.Index(CATEGORIES).get_indexer(log.users["quiz"]), -1)
    told = np.zeros((n, kinds))
    told[quiz >= 0, quiz[quiz >= 0]] = FEW
    base = long.sum(axis=0) + 1
    prior = FEW * base / base.sum()
    late = _table(user, category, 0.5 ** (age / NEEDS), (n, kinds))
    week = _table(user, category, 0.5 ** (age / LATELY), (n, kinds))
    many = np.bincount(user, minlength=n)
    brands = _table(user, goods.brand[item], one, (n, goods.brand.max() + 1))
    total = brands.sum(axis=0) + 1
    expected = many[:, None] * total / total.sum()
    words = np.stack([np.bincount(user, w, n) for w in goods.words[item].T], axis=1)
    usual = words.sum(axis=0) + 1
    more = words.sum(axis=1, keepdims=True) * usual / usual.sum()
    last = np.full(n, -1)
    last[user] = category
    size = len(goods.category)
    seen = (age <= SEEN) & rows["click"]
    share = long + told + prior
    return Known(
        day,
        goods,
        np.stack([user, item, rows["day"]], axis=1),
        taste=share / share.sum(axis=1, keepdims=True),
        affinity=(week + 0.2) / (week.sum(axis=1, keepdims=True) + 4.0),
        need=late / (late.sum(axis=1, keepdims=True) + 0.5),
        brand=np.log((brands + FEW) / (expected + FEW)),
        words=np.log((words + 4) / (more + 4)),
        price=np.bincount(user, goods.price[item], n) / (many + FEW),
        heard=np.log1p(many),
        quiz=quiz,
        last=last,
        **_of_items(log, day, rows),
        _seen=np.unique(user[seen] * size + item[seen]),
        _owned=np.unique(user[rows["buy"]] * size + item[rows["buy"]]),
    )


def features(
    night: Known,
    users: np.ndarray,
    items: np.ndarray,
    pages: np.ndarray,
    surfaces: np.ndarray,
    scores: Mapping[str, np.ndarray],
    recent: np.ndarray,
) -> np.ndarray:
    """Return the features of pairs.

    Parameters
    ----------
    night : Known
    users : ndarray of int, shape (n,)
    items : ndarray of int, shape (n, m)
    pages : ndarray of int, shape (n,)
        Item of the page; −1 for a mail.
    surfaces : ndarray of int, shape (n,)
        Positions in ``SURFACES``.
    scores : mapping of str to ndarray, shape (n, m)
        ``together`` (item–item with the page's item) and ``ease``.
    recent : ndarray of int, shape (n, k)
        Items of the pages that the user opened before, since the midnight, newest first; −1: none.

    Returns
    -------
    ndarray of float32, shape (n, m, len(NAMES))
    """
    goods, who = night.goods, np.asarray(users)[:, None]
    items, page, surface = np.asarray(items), np.asarray(pages)[:, None], surfaces[:, None]
    there, own = page >= 0, np.maximum(page, 0)
    kind = goods.category[items]
    same = there & (kind == goods.category[own])
    before = np.where(recent >= 0, goods.category[recent], -1)
    last = np.where(before[:, :1] >= 0, before[:, :1], night.last[who])
    session = sum(kind == before[:, [place]] for place in range(recent.shape[1]))
    again = sum(items == recent[:, [place]] for place in range(recent.shape[1]))
    taste, need = np.log(night.taste[who, kind]), night.need[who, kind]
    lift, mail, heard = night.words[users], surface == 2, night.heard[who]
    words = goods.words[items]
    made = {
        "taste": taste,
        "need": need,
        "same": same,
        "same_similar": same & (surface == 0),
        "mail_last": mail & (kind == last),
        "brand": night.brand[who, goods.brand[items]],
        "price_gap": np.abs(goods.price[items] - night.price[who]),
        "style": np.einsum("nmw,nw->nm", words, lift),
        "page_style": np.einsum("nmw,nw->nm", words, goods.words[own[:, 0]]) * there,
        "page_brand": there & (goods.brand[items] == goods.brand[own]),
        "rate": night.rate[items],
        "popular": night.popular[items],
        "trend": night.trend[items],
        "novel": night.novel[items],
        "campaign": goods.items["campaign"].to_numpy()[items],
        "season": night.season[items],
        "seen": night.has("seen", who, items),
        "owned": night.has("owned", who, items),
        "together": np.sqrt(np.maximum(scores["together"], 0)),
        "ease": scores["ease"],
        "heard": np.broadcast_to(heard, items.shape),
        "taste_heard": taste * heard,
        "need_mail": need * mail,
        "affinity": night.affinity[who, kind],
        "quiz": kind == night.quiz[who],
        "session": np.log1p(session),
        "again": again,
    }
    return np.stack([np.asarray(made[name], "f4") for name in NAMES], axis=2)
