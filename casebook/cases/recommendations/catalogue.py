"""Items and users of case 09: what the shop's tables show of them, and what is true of them.

A :class:`Side` holds both: ``table`` may be seen by a model, all else may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

CATEGORIES = (
    *("shoes", "jackets", "shirts", "trousers", "bags", "watches", "lamps", "chairs", "pans"),
    *("knives", "towels", "tents", "bicycles", "helmets", "headphones", "keyboards", "cameras"),
    *("books", "games", "plants"),
)
STYLES = (
    *("light", "dark", "bright", "plain", "striped", "soft", "solid", "slim", "wide", "compact"),
    *("folding", "quiet", "fast", "warm", "cool", "dry", "classic", "modern", "rustic", "urban"),
    *("outdoor", "indoor", "travel", "office", "garden", "kitchen", "winter", "summer", "family"),
    *("junior", "senior", "basic", "premium", "recycled", "wooden", "steel", "cotton", "glass"),
    *("leather", "bamboo"),
)
COUNTRIES, DEVICES = ("AT", "DE", "FR", "IT", "NL"), ("desktop", "phone", "tablet")
SURFACES = ("similar", "also", "mail")


@dataclass(frozen=True)
class Shop:
    """Numbers of the shop. Weights act on the log-odds of a click by somebody who looks.

    Attributes
    ----------
    users, items, days : int
        Until the last day; those who join and are added later are among them.
    slots : int
        Of a list.
    brands, factors : int
        Brands; dimensions of style.
    random_share : float
        Share of the lists whose items are drawn by chance.
    visits, pages, mails : float
        Sessions of a user and day; pages of a session beyond the first; mails of a user and day.
    new_users, new_items : float
        Shares that come after the first day.
    base, eager : float
        Log-odds of a click on an item that fits nobody; spread between users.
    taste, brand, style, price, quality, need : float
        Weight of the favourite categories, of brands, of style, of a wrong price, of quality, and
        of the category that a user needs just now.
    content : float
        Share of an item's style (as variance) that its title tells.
    novelty, novelty_days, trend, season, offer : float
        Weight of a new item and the days in which it fades by a factor e, of a burst, of the
        season, of a campaign.
    seen, owned : float
        Weight of having clicked an item within seven days, of having bought it.
    needs_change : float
        Chance of a user and day that another category is needed.
    look : float
        Each slot is looked at so many times as often as the one before it.
    buys : float
        Log-odds of a purchase after a click.
    out, back : float
        Chances of a day that an item is sold out, that it comes back.
    trust, boost, rotation, memory : float
        Of the shop's own policy: weight of the log of the clicks, of campaigns, of chance; days in
        which clicks count half.
    near : tuple of float
        And of the page's category, by surface.
    late, twice, bots : float
        Shares of events that come late, that come twice; of users who are programs.
    cents_day : int
        From this day, for two days, prices that phones send are in cents.
    """

    users: int = 20_000
    items: int = 5_000
    days: int = 42
    slots: int = 10
    brands: int = 60
    factors: int = 8
    random_share: float = 0.05
    visits: float = 0.2
    pages: float = 1.0
    mails: float = 0.03
    new_users: float = 0.2
    new_items: float = 0.15
    base: float = -4.1
    eager: float = 0.4
    taste: float = 1.0
    brand: float = 0.3
    style: float = 0.45
    price: float = 0.5
    quality: float = 0.65
    need: float = 0.8
    mixed: float = 0.0
    content: float = 0.6
    novelty: float = 0.4
    novelty_days: float = 4.0
    trend: float = 0.7
    season: float = 0.25
    offer: float = 0.15
    seen: float = -0.8
    owned: float = -2.0
    needs_change: float = 0.2
    look: float = 0.86
    buys: float = -2.4
    out: float = 0.012
    back: float = 0.25
    trust: float = 0.7
    near: tuple[float, float, float] = (2.0, 0.5, 0.5)
    boost: float = 0.5
    rotation: float = 0.7
    memory: float = 7.0
    late: float = 0.03
    twice: float = 0.01
    bots: float = 0.001
    cents_day: int = 17

    def checked(self) -> Shop:
        """Return the shop, or raise a ``ValueError`` that names what is out of range."""
        if self.users < 50 or self.items < 8 * len(CATEGORIES) or not 7 <= self.days <= 120:
            raise ValueError(
                f"{self.users} users, {self.items} items, {self.days} days: a shop needs 50 users, "
                f"{8 * len(CATEGORIES)} items and 7 to 120 days."
            )
        shares = ("random_share", "new_users", "new_items", "content", "late", "twice", "bots")
        wrong = [name for name in shares if not 0 <= getattr(self, name) <= 1]
        if wrong or self.slots != 10 or not 0 < self.look <= 1:
            raise ValueError(
                f"{wrong or 'slots, look'}: shares are 0 to 1, and a list has 10 slots."
            )
        return self


@dataclass(frozen=True)
class Side:
    """Items or users: a table to be seen, and arrays of what is true, a row each.

    Attributes
    ----------
    table : DataFrame
    category, brand : ndarray of int
        Of an item; of users, the log-odds of each category (n, categories) and brand (n, brands).
    style : ndarray, shape (n, factors)
    level : ndarray
        Quality of an item; eagerness of a user.
    price : ndarray
        Logarithm of an item's price; of what a user would pay.
    fame : ndarray
        Log of how often an item is found; of how often a user comes.
    """

    table: pd.DataFrame
    category: np.ndarray
    brand: np.ndarray
    style: np.ndarray
    level: np.ndarray
    price: np.ndarray
    fame: np.ndarray


def stream(seed: int, *which: int) -> np.random.Generator:
    """Return random numbers of their own: the same whatever the policy."""
    return np.random.default_rng([seed, *which])


def _coming(rng: np.random.Generator, n: int, later: float, days: int) -> np.ndarray:
    """Return the day on which each of n comes, in order: 0 for those from the start."""
    day = np.where(rng.random(n) < later, rng.integers(1, days, n), 0)
    return np.sort(day)


def make_items(seed: int, shop: Shop) -> Side:
    """Draw the items: number 0 to I - 1, in the order in which they are added."""
    rng, n = stream(seed, 1), shop.items
    added = _coming(rng, n, shop.new_items, shop.days)
    share = rng.dirichlet(np.full(len(CATEGORIES), 8.0))
    share = 0.3 / len(CATEGORIES) + 0.7 * share
    category = rng.choice(len(CATEGORIES), n, p=share)
    # A brand sells in a few categories, at a price level of its own.
    sells = rng.random((len(CATEGORIES), shop.brands)) ** 4
    sells /= sells.sum(axis=1, keepdims=True)
    brand = (sells.cumsum(axis=1)[category] < rng.random(n)[:, None]).sum(axis=1)
    brand = np.minimum(brand, shop.brands - 1)
    level = rng.normal(3.4, 0.6, len(CATEGORIES))[category]
    price = level + rng.normal(0, 0.35, shop.brands)[brand] + rng.normal(0, 0.3, n)
    euro = np.maximum(np.exp(price).round(2), 0.5)
    words = rng.normal(0, 1, (len(STYLES), shop.factors))
    first = rng.integers(len(STYLES), size=n)
    second = (first + rng.integers(1, len(STYLES), n)) % len(STYLES)
    told = (words[first] + words[second]) / np.sqrt(2)
    style = np.sqrt(shop.content) * told
    style = style + np.sqrt(1 - shop.content) * rng.normal(0, 1, (n, shop.factors))
    quality = rng.normal(0, 1, n)
    styles, kinds = np.array(STYLES), np.array(CATEGORIES)
    title = pd.Series(styles[first]) + " " + styles[second] + " " + kinds[category]
    table = pd.DataFrame(
        {
            "title": title,
            "category": pd.Categorical.from_codes(category, CATEGORIES),
            "brand": pd.Categorical.from_codes(brand, [f"B{b:02d}" for b in range(shop.brands)]),
            "price": euro,
            "margin": np.clip(0.25 - 0.06 * (price - level) + rng.normal(0, 0.08, n), 0.02, 0.6),
            "added": added,
            "campaign": rng.random(n) < 0.05,
        }
    ).rename_axis("item")
    table["margin"] = table["margin"].round(3)
    fame = 0.3 * quality + rng.normal(0, 0.6, n)
    return Side(table, category, brand, style.astype("f4"), quality, np.log(euro) - level, fame)


def make_users(seed: int, shop: Shop) -> Side:
    """Draw the users, in the order in which they join."""
    rng, n = stream(seed, 2), shop.users
    liked = rng.dirichlet(np.full(len(CATEGORIES), 0.15), n)
    favourite = liked.argmax(axis=1)
    asked = rng.random(n) < 0.6
    told = np.where(rng.random(n) < 0.8, favourite, rng.integers(len(CATEGORIES), size=n))
    joined = _coming(rng, n, shop.new_users, shop.days)
    quiz = np.where(asked, np.array(CATEGORIES)[told], "")
    table = pd.DataFrame(
        {
            "country": rng.choice(COUNTRIES, n, p=(0.1, 0.45, 0.2, 0.15, 0.1)),
            "device": rng.choice(DEVICES, n, p=(0.35, 0.55, 0.1)),
            "joined": joined,
            "quiz": quiz,
        }
    ).rename_axis("user")
    return Side(
        table=table,
        category=liked.astype("f4"),
        brand=rng.normal(0, 1, (n, shop.brands)).astype("f4"),
        style=(rng.normal(0, 1, (n, shop.factors)) / np.sqrt(shop.factors)).astype("f4"),
        level=rng.normal(0, 1, n),
        price=rng.normal(0, 0.35, n),
        fame=rng.normal(-0.32, 0.8, n),
    )


def make_stock(seed: int, shop: Shop, items: Side) -> np.ndarray:
    """Return which items are in stock on which day, shape (days, items)."""
    rng = stream(seed, 3)
    often = shop.out * np.exp(0.4 * items.level - 0.08)
    out = rng.random(shop.items) < often / (often + shop.back)
    stock = np.empty((shop.days, shop.items), bool)
    for day in range(shop.days):
        luck = rng.random(shop.items)
        out = np.where(out, luck > shop.back, luck < often)
        stock[day] = ~out & (items.table["added"].to_numpy() <= day)
    return stock
