"""World of case 09: a shop whose pages show ten items each, chosen by the shop's own policy.

Mechanisms
----------
* *Items* have a category, a brand, a price, a margin, a quality, and a style of eight numbers, of
  which the title tells a part. Some are added while the world runs; each may be sold out on a day.
* *Users* like few categories, some brands and styles, and have a price of their own. Some join
  while the world runs. On each day a user *needs* one category, which lasts five days on average.
* *A page* of an item shows a list of similar items or of what others also bought; a mail shows one
  without a page. The item of a page is chosen by the user, whatever the shop recommends.
* *A click* needs a slot that is looked at (each next one less often) and an item that appeals:
  logistic in taste, brand, style, price, quality, need, novelty, bursts, season, campaign, less if
  the user clicked it within seven days or owns it.
* *The shop's policy* shows what was clicked of late in the page's category, campaigns first. What
  it shows is clicked, and what is clicked it shows: its past decides what the log knows.
* *The random slice*: 5 % of all lists are drawn evenly among the items in stock, without the
  page's own, with the chance logged.

Every draw belongs to a seed, a day and a stream, whatever is shown: :meth:`World.replay` shows the
same people the lists of another policy. Nothing is estimated from data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import (
    SURFACES,
    Shop,
    make_items,
    make_stock,
    make_users,
)
from casebook.cases.recommendations.log import DAY, Played, Policy, habit, moment, play, requests
from casebook.cases.recommendations.messages import feed
from casebook.cases.recommendations.truth import Truth, keys, make_truth

CHAPTER = "09_recommendations"
SEED = 2026


class Split(NamedTuple):
    """Days: a model trains on those before the first number, is tuned on those before the second.

    Attributes
    ----------
    train_until, validate_until, days : int
    """

    train_until: int
    validate_until: int
    days: int

    @property
    def test(self) -> range:
        """Days of the test."""
        return range(self.validate_until, self.days)


@dataclass(frozen=True)
class World:
    """A shop after some weeks.

    Attributes
    ----------
    seed : int
    shop : Shop
    items : DataFrame
        By item number: ``title``, ``category``, ``brand``, ``price`` (euro), ``margin`` (share of
        the price), ``added`` (day; 0 from the start), ``campaign``.
    users : DataFrame
        By user number: ``country``, ``device``, ``joined`` (day), ``quiz`` (a category, or "").
    stock : ndarray of bool, shape (days, items)
    truth : Truth
        Not for models.
    played : tuple of Played
        The days.
    """

    seed: int
    shop: Shop
    items: pd.DataFrame
    users: pd.DataFrame
    stock: np.ndarray
    truth: Truth
    played: tuple[Played, ...]

    @property
    def split(self) -> Split:
        """Two thirds of the days to train, a sixth to tune, a sixth to test."""
        days = self.shop.days
        return Split(days * 2 // 3, days * 5 // 6, days)

    @cached_property
    def shown(self) -> pd.DataFrame:
        """Impressions, a row for each slot of each list.

        ``list``, ``at``, ``day``, ``user``, ``surface``, ``seed_item`` (−1 for a mail), ``slot``,
        ``item``, ``random`` (drawn by chance), ``chance`` (of that item to be drawn for that slot;
        missing where the policy chose), ``clicked``, ``bought``.
        """
        return _shown(self.played, self.shop.slots)

    @cached_property
    def _feed(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return feed(self.seed, self.played, self.truth)

    @property
    def events(self) -> pd.DataFrame:
        """The feed as it came in, with its faults; see :mod:`.messages`."""
        return self._feed[0]

    @property
    def faults(self) -> pd.DataFrame:
        """Where faults are planted: ``event``, ``fault``. Not for models."""
        return self._feed[1]

    def replay(
        self, policy: Policy | None, days: Sequence[int] | None = None, seed: int | None = None
    ) -> World:
        """Return the same shop in which another policy chooses on some days.

        Parameters
        ----------
        policy : callable
            From :class:`~.log.Requests` to lists; ``None`` for the shop's own.
        days : sequence of int, optional
            The policy acts on them (by default on the days of the test); on others the shop's own.
        seed : int, optional
            Another seed is another shop; by default this one's.

        Returns
        -------
        World
        """
        acts = frozenset(self.split.test if days is None else days)
        return _run(self.seed if seed is None else seed, self.shop, policy, acts)


def _shown(played: Sequence[Played], slots: int) -> pd.DataFrame:
    """Return the impressions of some days as one table."""

    def of(read: str) -> np.ndarray:
        return np.concatenate([getattr(day.asked, read) for day in played])

    def whole(read: str) -> np.ndarray:
        return np.concatenate([getattr(day, read) for day in played])

    user = of("user")
    n = len(user)
    day = np.repeat([p.asked.day for p in played], [len(p.asked) for p in played])
    each = {
        "list": np.arange(n, dtype=np.int32),
        "at": moment(of("at")),
        "day": day.astype(np.int16),
        "user": user.astype(np.int32),
        "surface": of("surface"),
        "seed_item": of("seed_item").astype(np.int32),
    }
    columns = {name: np.repeat(values, slots) for name, values in each.items()}
    columns["surface"] = pd.Categorical.from_codes(columns["surface"], SURFACES)
    columns["slot"] = np.tile(np.arange(slots, dtype=np.int8), n)
    columns["item"] = whole("lists").astype(np.int32).ravel()
    columns["random"] = np.repeat(whole("random"), slots)
    columns["chance"] = np.repeat(whole("chance"), slots)
    columns["clicked"], columns["bought"] = whole("clicked").ravel(), whole("bought").ravel()
    return pd.DataFrame(columns, copy=False)


def _remembered(truth: Truth, played: Sequence[Played]) -> Truth:
    """Return the truth in which users know what they clicked and bought on the days played."""
    clicked, owned = [], []
    for day in played:
        user, page = day.asked.user, np.maximum(day.asked.seed_item, 0)
        for into, where in ((clicked, day.clicked), (owned, day.bought)):
            row, slot = np.nonzero(where)
            into.append(keys(user[row], day.lists[row, slot], day.asked.day, truth.shop))
        paid = day.bought_page
        owned.append(keys(user[paid], page[paid], day.asked.day, truth.shop))
    return replace(
        truth,
        clicked=np.sort(np.concatenate(clicked)),
        owned=np.sort(np.concatenate(owned)),
    )


def _run(seed: int, shop: Shop, policy: Policy | None, acts: frozenset[int]) -> World:
    """Play all days, the policy on those on which it acts."""
    items, users = make_items(seed, shop), make_users(seed, shop)
    stock = make_stock(seed, shop, items)
    truth = make_truth(seed, shop, items, users, stock)
    own, played = habit(seed, truth), []
    for day in range(shop.days):
        so_far = tuple(played)

        def known(so_far: tuple[Played, ...] = so_far, day: int = day) -> pd.DataFrame:
            return _known(seed, so_far, truth, day)

        asked, luck = requests(seed, day, truth, known)
        lists = own(asked)
        if policy is not None and day in acts:
            lists = policy(asked)
        now = play(seed, asked, luck, lists, _remembered(truth, played) if played else truth)
        played.append(now)
        own.learn(now.lists[now.clicked], asked.seed_item[asked.seed_item >= 0])
    truth = _remembered(truth, played)
    return World(seed, shop, items.table, users.table, stock, truth, tuple(played))


def _known(seed: int, played: tuple[Played, ...], truth: Truth, day: int) -> pd.DataFrame:
    """Return the events that were known on the midnight before a day."""
    if not played:
        raise ValueError(
            "before the first day no event is known: let the policy act from day 1 on."
        )
    events = feed(seed, played, truth)[0]
    known = events["known_at"] < moment(np.array([day * DAY]))[0]
    return events[known].reset_index(drop=True)


def simulate(
    seed: int = SEED,
    users: int | None = None,
    items: int | None = None,
    days: int | None = None,
    shop: Shop | None = None,
    policy: Policy | None = None,
) -> World:
    """Simulate a shop.

    Parameters
    ----------
    seed : int
        The same seed gives the same world, bit by bit.
    users, items, days : int, optional
        In place of the shop's.
    shop : Shop, optional
    policy : callable, optional
        Chooses on all days but the first; by default the shop's own does.

    Returns
    -------
    World

    Raises
    ------
    ValueError
        If a number of the shop is out of its range.
    """
    given = {"users": users, "items": items, "days": days}
    shop = replace(shop or Shop(), **{k: v for k, v in given.items() if v is not None}).checked()
    return _run(seed, shop, policy, frozenset(range(1, shop.days)))


#: The snapshots show the form of the tables in a small shop.
SMALL = Shop(users=1_000, items=400)
#: Days of the snapshots' events and impressions.
SHOWN = 14


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``data/09_recommendations/`` holds, by file name: two weeks of a small shop.

    The truth is not among them: ``World.truth`` gives it to the evaluation.
    """
    world = simulate(SEED, shop=SMALL)
    last = moment(np.array([SHOWN * DAY]))[0]
    stock = pd.DataFrame(world.stock.T).rename_axis("item").add_prefix("day_")
    return {
        "items.parquet": world.items.reset_index(),
        "users.parquet": world.users.reset_index(),
        "stock.parquet": stock.reset_index(),
        "shown.parquet": world.shown[world.shown["day"] < SHOWN].reset_index(drop=True),
        "events.parquet": world.events[world.events["known_at"] < last].reset_index(drop=True),
    }
