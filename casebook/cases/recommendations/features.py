"""Features of (user, item, moment), one definition for training rows and for the service.

:class:`History` counts over tables for many rows at once; :class:`Online` keeps counts up to date,
event by event, and answers for one user and some items now. Both hand raw counts to
:func:`_formulas`, which makes the features. An event counts from the moment on at which it was
*known*, in every window: that is all that a service can do, and training must not know more.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import CATEGORIES
from casebook.cases.recommendations.log import DAY, START
from casebook.cases.recommendations.messages import repair
from casebook.evaluate.slates import look_curve

if TYPE_CHECKING:
    from casebook.cases.recommendations.world import World

HOUR, SESSION, WEEK = DAY // 24, DAY // 48, 7 * DAY
#: Weight of an event in a user's affinities.
WEIGHTS = {"view": 1.0, "click": 2.0, "cart": 1.0, "buy": 2.0}
NAMES = (
    *("trend_1h", "clicks_7d", "buys_7d", "shown_7d", "ctr_7d", "ctr", "age_days", "in_stock"),
    *("campaign", "margin", "log_price", "user_events", "session_events", "session_category"),
    *("category_affinity", "brand_affinity", "price_gap", "seen_7d", "owned", "quiz"),
    *("page_category", "page_brand"),
)


@dataclass(frozen=True)
class Definition:
    """What the features are made with, besides events: master data and constants.

    Attributes
    ----------
    category, brand : ndarray of int, shape (items,)
        Codes.
    relative : ndarray
        Log of the price over the mean (of logs) of the category.
    price, margin, campaign, added : ndarray
    stock : ndarray of bool, shape (days, items)
    quiz : ndarray of int, shape (users,)
        Code of the category named at sign-up, −1 for none.
    look : ndarray, shape (slots,)
        How often each slot is looked at, as estimated; an impression counts as so many looks.
    rate, strength : float
        Click rate of a look on average, and the looks at it that every item gets for a start.
    half_days : float
        In which the weight of an event in an affinity halves.
    """

    category: np.ndarray
    brand: np.ndarray
    relative: np.ndarray
    price: np.ndarray
    margin: np.ndarray
    campaign: np.ndarray
    added: np.ndarray
    stock: np.ndarray
    quiz: np.ndarray
    look: np.ndarray
    rate: float
    strength: float = 20.0
    half_days: float = 7.0


def define(world: World, until: int) -> Definition:
    """Return the definition, with what is estimated from the days before ``until``."""
    items, shown = world.items, world.shown
    before = shown[shown["day"] < until]
    drawn = before.loc[before["random"], "clicked"].to_numpy()
    look = look_curve(drawn.reshape(-1, world.shop.slots))
    looks = look[before["slot"].to_numpy()].sum()
    category = items["category"].cat.codes.to_numpy().astype(int)
    log = np.log(items["price"].to_numpy())
    count = np.maximum(np.bincount(category, minlength=len(CATEGORIES)), 1)
    mean = np.bincount(category, log, minlength=len(CATEGORIES)) / count
    return Definition(
        category=category,
        brand=items["brand"].cat.codes.to_numpy().astype(int),
        relative=log - mean[category],
        price=items["price"].to_numpy(),
        margin=items["margin"].to_numpy(),
        campaign=items["campaign"].to_numpy().astype(float),
        added=items["added"].to_numpy(),
        stock=world.stock,
        quiz=pd.Categorical(world.users["quiz"], CATEGORIES).codes.astype(int),
        look=look,
        rate=float(before["clicked"].sum() / looks),
    )


def milliseconds(moments: pd.Series | pd.Timestamp) -> np.ndarray:
    """Return moments as milliseconds since the start of the world."""
    return ((moments - START) // pd.Timedelta(milliseconds=1)).to_numpy().astype(np.int64)


def _formulas(
    d: Definition,
    raw: Mapping[str, np.ndarray],
    user: np.ndarray,
    item: np.ndarray,
    page: np.ndarray,
    now: np.ndarray,
) -> pd.DataFrame:
    """Make the features of n rows from raw counts: the one definition."""
    category, brand, day = d.category[item], d.brand[item], now // DAY
    smooth = d.rate * d.strength
    paged, seed = page >= 0, np.maximum(page, 0)
    taste = raw["price_sum"] / (raw["user_events"] + 2)
    values = {
        "trend_1h": np.log1p(raw["trend_1h"]),
        "clicks_7d": np.log1p(raw["clicks_7d"]),
        "buys_7d": np.log1p(raw["buys_7d"]),
        "shown_7d": np.log1p(raw["looks_7d"]),
        "ctr_7d": np.log((raw["clicks_7d"] + smooth) / (raw["looks_7d"] + d.strength)),
        "ctr": np.log((raw["clicks"] + smooth) / (raw["looks"] + d.strength)),
        "age_days": np.where(d.added[item] > 0, np.clip(day - d.added[item], 0, 30), 30),
        "in_stock": d.stock[np.minimum(day, len(d.stock) - 1), item],
        "campaign": d.campaign[item],
        "margin": d.margin[item],
        "log_price": np.log(d.price[item]),
        "user_events": np.log1p(raw["user_events"]),
        "session_events": np.log1p(raw["session_events"]),
        "session_category": np.log1p(raw["session_category"]),
        "category_affinity": (raw["category"] + 0.2) / (raw["all"] + 4.0),
        "brand_affinity": raw["brand"] / (raw["all"] + 4.0),
        "price_gap": np.abs(d.relative[item] - taste),
        "seen_7d": np.log1p(raw["seen_7d"]),
        "owned": np.minimum(raw["owned"], 1),
        "quiz": d.quiz[user] == category,
        "page_category": paged & (d.category[seed] == category),
        "page_brand": paged & (d.brand[seed] == brand),
    }
    return pd.DataFrame({name: np.asarray(values[name], float) for name in NAMES})


# Many rows ----------------------------------------------------------------------------


class _Sums:
    """Sums by key over events in [now − window, now), by a sorted line of key and time."""

    def __init__(self, key: np.ndarray, at: np.ndarray, value: np.ndarray | None = None):
        self.span = np.int64(400) * DAY
        line = key.astype(np.int64) * self.span + at
        order = np.argsort(line, kind="stable")
        self.line = line[order]
        value = np.ones(len(line)) if value is None else value
        self.total = np.r_[0.0, np.cumsum(value[order])]

    def over(self, key: np.ndarray, now: np.ndarray, window: int | None = None) -> np.ndarray:
        start = key.astype(np.int64) * self.span
        right = np.searchsorted(self.line, start + now)
        begin = np.zeros_like(now) if window is None else np.maximum(now - window, 0)
        return self.total[right] - self.total[np.searchsorted(self.line, start + begin)]


class History:
    """Events and impressions, laid out once, to be asked about many rows at any moments.

    Parameters
    ----------
    d : Definition
    events : DataFrame
        Of :func:`~.messages.repair`.
    shown : DataFrame
        Impressions: ``at``, ``item``, ``slot``; the shop knows them at once.
    by : str
        Time of an event from which on it counts. Anything but ``known_at`` knows the future.
    """

    def __init__(
        self, d: Definition, events: pd.DataFrame, shown: pd.DataFrame, by: str = "known_at"
    ):
        self.d, self.n, self.brands = d, len(d.category), int(d.brand.max()) + 1
        who, what = (events[name].to_numpy().astype(np.int64) for name in ("user", "item"))
        at, kind = milliseconds(events[by]), events["kind"].to_numpy()
        of = {name: kind == name for name in WEIGHTS}
        weight = sum(of[name] * value for name, value in WEIGHTS.items())
        # An early event weighs little beside a late one: over all of them, the sum fades as asked.
        faded = weight * 2.0 ** (at / (d.half_days * DAY))
        click, buy, active = of["click"], of["buy"], of["view"] | of["click"]
        by_category = who * len(CATEGORIES) + d.category[what]
        item = shown["item"].to_numpy()
        self.active = _Sums(what[active], at[active])
        self.clicks, self.buys = _Sums(what[click], at[click]), _Sums(what[buy], at[buy])
        self.looks = _Sums(item, milliseconds(shown["at"]), d.look[shown["slot"].to_numpy()])
        self.user, self.all = _Sums(who, at), _Sums(who, at, faded)
        self.session = _Sums(by_category, at)
        self.category = _Sums(by_category, at, faded)
        self.brand = _Sums(who * self.brands + d.brand[what], at, faded)
        self.price = _Sums(who, at, d.relative[what])
        self.seen = _Sums(who[active] * self.n + what[active], at[active])
        self.owned = _Sums(who[buy] * self.n + what[buy], at[buy])

    def features(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the features of rows, each as of its own moment.

        Parameters
        ----------
        rows : DataFrame
            ``user``, ``item``, ``at`` and, for a page, ``seed_item`` (−1 for none).

        Returns
        -------
        DataFrame, shape (n, 22)
            Columns :data:`NAMES`, index of ``rows``.

        Raises
        ------
        ValueError
            If a column is missing.
        """
        if missing := sorted({"user", "item", "at"} - {*rows}):
            raise ValueError(f"the rows have no column {missing}: give user, item and at.")
        d = self.d
        user, item = (rows[name].to_numpy().astype(np.int64) for name in ("user", "item"))
        page = rows["seed_item"].to_numpy() if "seed_item" in rows else np.full(len(rows), -1)
        now = milliseconds(rows["at"])
        fades = 2.0 ** (-now / (d.half_days * DAY))
        by_category = user * len(CATEGORIES) + d.category[item]
        own = user * self.n + item
        raw = {
            "trend_1h": self.active.over(item, now, HOUR),
            "clicks_7d": self.clicks.over(item, now, WEEK),
            "clicks": self.clicks.over(item, now),
            "buys_7d": self.buys.over(item, now, WEEK),
            "looks_7d": self.looks.over(item, now, WEEK),
            "looks": self.looks.over(item, now),
            "user_events": self.user.over(user, now),
            "session_events": self.user.over(user, now, SESSION),
            "session_category": self.session.over(by_category, now, SESSION),
            "category": self.category.over(by_category, now) * fades,
            "brand": self.brand.over(user * self.brands + d.brand[item], now) * fades,
            "all": self.all.over(user, now) * fades,
            "price_sum": self.price.over(user, now),
            "seen_7d": self.seen.over(own, now, WEEK),
            "owned": self.owned.over(own, now),
        }
        return _formulas(d, raw, user, item, page, now).set_axis(rows.index)


def batch(
    d: Definition,
    events: pd.DataFrame,
    shown: pd.DataFrame,
    rows: pd.DataFrame,
    by: str = "known_at",
) -> pd.DataFrame:
    """Return the features of many rows, each as of its own moment.

    Parameters
    ----------
    d, events, shown, by
        As for :class:`History`.
    rows : DataFrame
        As for :meth:`History.features`.

    Returns
    -------
    DataFrame, shape (n, 22)
    """
    return History(d, events, shown, by).features(rows)


# One user now -------------------------------------------------------------------------


class _Counts:
    """Sums by item over a window that moves on: what leaves it is taken away."""

    def __init__(self, items: int, window: int | None):
        self.sums, self.window = np.zeros(items), window
        self.inside: deque[tuple[int, int, float]] = deque()

    def add(self, at: int, item: int, value: float = 1.0) -> None:
        self.sums[item] += value
        if self.window is not None:
            self.inside.append((at, item, value))

    def at(self, now: int) -> np.ndarray:
        while self.inside and self.inside[0][0] < now - self.window:
            _, item, value = self.inside.popleft()
            self.sums[item] -= value
        return self.sums


@dataclass
class _Person:
    """What the service keeps of a user."""

    category: np.ndarray
    brand: np.ndarray
    total: float = 0.0
    when: int = 0
    events: int = 0
    price_sum: float = 0.0
    recent: deque = field(default_factory=deque)
    seen: deque = field(default_factory=deque)
    owned: dict = field(default_factory=lambda: defaultdict(int))

    def fade(self, now: int, half: float) -> None:
        factor = 2.0 ** (-(now - self.when) / half)
        self.category *= factor
        self.brand *= factor
        self.total *= factor
        self.when = now


class Online:
    """The same features in a service: counts that are kept up to date, message by message.

    Parameters
    ----------
    definition : Definition
    """

    def __init__(self, definition: Definition):
        self.d, n = definition, len(definition.category)
        self.now = 0
        spans = {"trend_1h": HOUR, "clicks_7d": WEEK, "buys_7d": WEEK, "looks_7d": WEEK}
        self.counts = {name: _Counts(n, span) for name, span in spans.items()}
        self.counts |= {name: _Counts(n, None) for name in ("clicks", "looks")}
        self.people: dict[int, _Person] = {}

    def _moved(self, now: int) -> int:
        if now < self.now:
            raise ValueError(
                f"moment {now} comes after {self.now}: messages are taken in the order in which "
                "they are known."
            )
        self.now = int(now)
        return self.now

    def _person(self, user: int) -> _Person:
        if user not in self.people:
            brands = int(self.d.brand.max()) + 1
            self.people[user] = _Person(np.zeros(len(CATEGORIES)), np.zeros(brands))
        return self.people[user]

    def show(self, at: int, items: np.ndarray) -> None:
        """Take a list that was shown.

        Parameters
        ----------
        at : int
            Milliseconds since the start.
        items : array of int
            Best slot first.
        """
        at = self._moved(at)
        for item, look in zip(items, self.d.look, strict=False):
            self.counts["looks_7d"].add(at, int(item), look)
            self.counts["looks"].add(at, int(item), look)

    def take(self, known: int, user: int, item: int, kind: str) -> None:
        """Take an event at the moment at which it is known (milliseconds since the start)."""
        d, known = self.d, self._moved(known)
        if kind in ("view", "click"):
            self.counts["trend_1h"].add(known, item)
        if kind == "click":
            self.counts["clicks_7d"].add(known, item)
            self.counts["clicks"].add(known, item)
        if kind == "buy":
            self.counts["buys_7d"].add(known, item)
        who = self._person(user)
        who.fade(known, d.half_days * DAY)
        who.category[d.category[item]] += WEIGHTS[kind]
        who.brand[d.brand[item]] += WEIGHTS[kind]
        who.total += WEIGHTS[kind]
        who.events += 1
        who.price_sum += d.relative[item]
        who.recent.append((known, d.category[item]))
        if kind in ("view", "click"):
            who.seen.append((known, item))
        if kind == "buy":
            who.owned[item] += 1

    def features(self, user: int, items: np.ndarray, now: int, seed_item: int = -1) -> pd.DataFrame:
        """Return the features of some items for a user now.

        Messages of this very millisecond count too: ask before they are taken.

        Parameters
        ----------
        user : int
        items : array of int, shape (n,)
        now : int
            Milliseconds since the start.
        seed_item : int
            Of the page, −1 for none.

        Returns
        -------
        DataFrame, shape (n, 22)
        """
        d, now, items = self.d, self._moved(now), np.asarray(items, np.int64)
        who = self._person(user)
        who.fade(now, d.half_days * DAY)
        for kept, span in ((who.recent, SESSION), (who.seen, WEEK)):
            while kept and kept[0][0] < now - span:
                kept.popleft()
        category, brand = d.category[items], d.brand[items]
        lately = np.bincount([kind for _, kind in who.recent], minlength=len(CATEGORIES))
        seen = np.array([item for _, item in who.seen], np.int64)
        raw = {name: counts.at(now)[items] for name, counts in self.counts.items()}
        raw |= {
            "user_events": np.full(len(items), float(who.events)),
            "session_events": np.full(len(items), float(len(who.recent))),
            "session_category": lately[category].astype(float),
            "category": who.category[category],
            "brand": who.brand[brand],
            "all": np.full(len(items), who.total),
            "price_sum": np.full(len(items), who.price_sum),
            "seen_7d": (seen[None, :] == items[:, None]).sum(axis=1).astype(float),
            "owned": np.array([who.owned.get(int(i), 0) for i in items], float),
        }
        one = np.ones(len(items), np.int64)
        return _formulas(d, raw, user * one, items, seed_item * one, now * one)


def training_rows(world: World, days: range, share: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Return impressions of some days as rows to be asked about, with their ``clicked``.

    Parameters
    ----------
    world : World
    days : range
    share : float
        Of the lists, drawn by chance; whole lists stay together.
    seed : int

    Returns
    -------
    DataFrame
        Columns of ``World.shown``.
    """
    shown = world.shown[world.shown["day"].between(days[0], days[-1])]
    if share < 1:
        lists = shown["list"].unique()
        rng = np.random.default_rng(seed)
        shown = shown[shown["list"].isin(lists[rng.random(len(lists)) < share])]
    return shown


def click_model(
    world: World, until: int, most: int = 60_000
) -> Callable[[pd.DataFrame], np.ndarray]:
    """Fit a logistic regression of clicks on the features, on impressions before a day.

    Parameters
    ----------
    world : World
    until : int
    most : int
        Impressions that it is fitted on, about.

    Returns
    -------
    callable
        From rows to the chance of a click if the first slot is looked at.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = define(world, until)
    past = History(made, repair(world.events, world.items), world.shown)
    rows = training_rows(world, range(until // 4, until))
    if len(rows) > most:
        rows = training_rows(world, range(until // 4, until), most / len(rows))
    features = past.features(rows).assign(look=np.log(made.look[rows["slot"].to_numpy()]))
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    fitted.fit(features, rows["clicked"])

    def expects(asked: pd.DataFrame) -> np.ndarray:
        return fitted.predict_proba(past.features(asked).assign(look=0.0))[:, 1]

    return expects
