"""New users and new items: what to show before anything is known, and how exploring is paid for.

A user is new until five events of his are known, an item for its first week. What an item's title,
brand, category and price promise stands in for its click rate, and blends out as looks come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.recommendations import ladder
from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.nights import Known
from casebook.cases.recommendations.rankers import Asked, asked
from casebook.cases.recommendations.recommend import for_days
from casebook.cases.recommendations.studies import SHOP, Setting, setting
from casebook.evaluate.ranking import shown

#: Looks at which an item's own rate weighs as much as its content; days of the bonus, its start.
BLEND, DAYS, BONUS = 100.0, 7, 0.6
#: Share of the lists in which rates are drawn from what is believed of them; three times as many
#: give their last place to a new item by chance.
SHARE = 0.1
#: Events known of a user: from here on the next bucket.
BUCKETS = {"0": (0, 0), "1 to 2": (1, 2), "3 to 5": (3, 5), "6 and more": (6, 10**9)}


# Users --------------------------------------------------------------------------------


def newcomers(here: Setting, most: int = 800) -> tuple[Asked, np.ndarray]:
    """Return requests of users who joined in the last two weeks, and the events known of each."""
    world = here.world
    test = asked(world.shown, world.split.test)
    joined = world.users["joined"].to_numpy()[test.user]
    rows = np.flatnonzero(joined >= world.split.train_until)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(world.seed).choice(rows, most, replace=False))
    test = test.where(rows)
    known = np.array(
        [here.nights.known(day).heard[user] for user, day in zip(test.user, test.day, strict=True)]
    )
    return test, np.rint(np.expm1(known)).astype(int) + (test.recent >= 0).sum(axis=1)


def _by_context(night: Known, fits: ladder.Fits, some: Asked, quiz: float = 0.0) -> np.ndarray:
    """Return scores by popularity in the page's category, and in that of the quiz."""
    kind = night.goods.category
    page = np.where(some.page >= 0, kind[np.maximum(some.page, 0)], -1)
    made = night.popular + 2.0 * (kind == page[:, None])
    return made + quiz * (kind == night.quiz[some.user][:, None])


#: Ways to greet a newcomer, beside the ranker. The quiz's weight was set by hand.
GREETINGS: Mapping[str, ladder.Rung] = {
    "popular": ladder.popular,
    "context": _by_context,
    "quiz": partial(_by_context, quiz=1.5),
    "analyst": ladder.analyst,
    # The warm-up models: a vector is solved from the first few events, or their rows are added up.
    "iALS": ladder.RUNGS["iALS"],
    "EASE": ladder.RUNGS["EASE"],
}


def cold_users(seed: int, shop: Shop = SHOP) -> pd.DataFrame:
    """Compare ways to greet a newcomer, by the number of events known of him.

    Returns
    -------
    DataFrame
        ``way`` (of :data:`GREETINGS`, ranker), ``seen``, ``requests``, ``clicks`` (true, a list).
    """
    here = setting(seed, shop)
    test, known = newcomers(here)
    fits, stock, rows = ladder.Fits(here.nights), here.world.stock, []
    lists = {way: ladder.lists(fits, score, test, stock) for way, score in GREETINGS.items()} | {
        "ranker": for_days(here.nights, here.parts, test, stock)
    }
    for way, own in lists.items():
        clicks = here.world.truth.clicks(test.user, own, test.day)
        for seen, (low, high) in BUCKETS.items():
            inside = (known >= low) & (known <= high)
            value = clicks[inside].mean() if inside.any() else np.nan
            rows.append({"way": way, "seen": seen, "requests": inside.sum(), "clicks": value})
    return pd.DataFrame(rows)


# Items --------------------------------------------------------------------------------


def promised(night: Known, penalty: float = 30.0) -> np.ndarray:
    """Return the click rate that content promises: a ridge regression, weighted by looks."""
    x = np.c_[night.goods.traits, np.abs(night.goods.price), np.ones(len(night.rate))]
    weight = night.looked / (night.looked + BLEND)
    normal = (x.T * weight) @ x + penalty * np.eye(x.shape[1]) * weight.mean()
    return x @ np.linalg.solve(normal, (x.T * weight) @ night.rate)


def blended(night: Known) -> np.ndarray:
    """Return rates that begin with the content's promise and end with the item's own."""
    own = night.looked / (night.looked + BLEND)
    return own * night.rate + (1 - own) * promised(night)


def drawn(night: Known, rng: np.random.Generator) -> np.ndarray:
    """Draw a rate for each item from what is believed of it: wide where few have looked."""
    clicks = 1.0 + night.looked * np.exp(night.rate) * 0.05
    return blended(night) + rng.normal(size=len(night.rate)) / np.sqrt(clicks + 2.0)


def age_of(night: Known) -> np.ndarray:
    """Return the days since items were added; those from the start are old."""
    added = night.goods.items["added"].to_numpy()
    return np.where(added > 0, night.day - added, 999)


def _changed(night: Known, way: str, rng: np.random.Generator) -> Known:
    """Return what a midnight knows under a way to treat new items."""
    if way in ("content", "content, bonus"):
        night = replace(night, rate=blended(night))
    if way == "content, bonus":
        night = replace(night, lift=BONUS * np.clip(1 - age_of(night) / DAYS, 0, 1))
    return replace(night, rate=drawn(night, rng)) if way == "content, Thompson" else night


def _lists(here: Setting, way: str) -> np.ndarray:
    """Return the lists of the test's requests under one way to treat new items."""
    test, stock = here.test, here.world.stock
    rng = np.random.default_rng(here.world.seed)
    chosen = rng.random(len(test.user)) < SHARE

    def made(way: str) -> np.ndarray:
        change = partial(_changed, way=way, rng=rng)
        return for_days(here.nights, here.parts, test, stock, change)

    if way == "content, Thompson":
        return np.where(chosen[:, None], made(way), made("content"))
    lists = made(way)
    if way == "a random place":
        for row in np.flatnonzero(rng.random(len(lists)) < 3 * SHARE):
            day = test.day[row]
            new = stock[day] & (age_of(here.nights.known(day)) <= DAYS)
            free = np.setdiff1d(np.flatnonzero(new), [*lists[row], test.page[row]])
            lists[row, -1] = rng.choice(free) if len(free) else lists[row, -1]
    return lists


WAYS = ("as they are", "content", "content, bonus", "content, Thompson", "a random place")


def cold_items(seed: int, shop: Shop = SHOP) -> pd.DataFrame:
    """Compare ways to treat items of the last seven days.

    What exploring teaches for later is not in it: this is its price today.

    Returns
    -------
    DataFrame
        ``way``, ``clicks`` (true, a list), ``new_share`` (of the slots), ``new_covered`` (share of
        the new items in stock that stand in a list), ``new_rate``, ``old_rate`` (true chance of a
        click if looked at, per thousand).
    """
    here, rows = setting(seed, shop), []
    test, world = here.test, here.world
    added = world.items["added"].to_numpy()
    for way in WAYS:
        lists = _lists(here, way)
        new = (added[lists] > 0) & (test.day[:, None] - added[lists] <= DAYS)
        appeal = np.stack([world.truth.appeal(test.user, column, test.day) for column in lists.T])
        first, last = test.day.min(), test.day.max()
        fresh = (added > first - DAYS) & (added > 0) & (added < last)
        fresh &= world.stock[first : last + 1].any(axis=0)
        rows.append(
            {
                "way": way,
                "clicks": here.clicks(lists),
                "new_share": new.mean(),
                "new_covered": (shown(lists, len(added)) > 0)[fresh].mean(),
                "new_rate": 1_000 * appeal.T[new].mean() if new.any() else np.nan,
                "old_rate": 1_000 * appeal.T[~new].mean(),
            }
        )
    return pd.DataFrame(rows)
