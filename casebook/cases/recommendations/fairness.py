"""Exposure by merit: how unevenly brands are shown, and what evening it out costs.

A brand's *merit* is its share of what users would click if all items were shown alike; its
*exposure* is its share of the looks. The shop knows merit by its random slice, and lifts brands
whose exposure lags behind.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.nights import Known
from casebook.cases.recommendations.rankers import asked
from casebook.cases.recommendations.recommend import for_days
from casebook.cases.recommendations.studies import REQUESTS, SHOP, Setting, setting

#: Weights of the lift, and the clicks of an even shop that the random slice is shrunk by.
WEIGHTS, SHRUNK = (0.0, 0.1, 0.2, 0.4), 100.0


def exposure(lists: np.ndarray, brand: np.ndarray, look: float) -> np.ndarray:
    """Return the share of the looks that falls on each brand."""
    weight = np.broadcast_to(look ** np.arange(lists.shape[1]), lists.shape)
    made = np.bincount(brand[lists].ravel(), weight.ravel(), brand.max() + 1)
    return made / made.sum()


def seen_merit(here: Setting) -> np.ndarray:
    """Return the brands' shares of the clicks on random lists, shrunk to their shares of items."""
    brand, shown = here.nights.log.goods.brand, here.world.shown
    before = shown["random"] & shown["clicked"] & (shown["day"] < here.world.split.validate_until)
    clicks = np.bincount(brand[shown.loc[before, "item"]], minlength=brand.max() + 1)
    made = clicks + SHRUNK * np.bincount(brand) / len(brand)
    return made / made.sum()


def true_merit(here: Setting) -> np.ndarray:
    """Return the brands' shares of the clicks, were all items in stock shown alike."""
    brand, test = here.nights.log.goods.brand, here.test
    made, every = np.zeros(brand.max() + 1), np.arange(len(brand))
    for day in np.unique(test.day):
        users = test.user[test.day == day]
        items = np.broadcast_to(every, (len(users), len(every)))
        appeal = here.world.truth.appeal(users, items, int(day)).sum(axis=0)
        made += np.bincount(brand, appeal * here.world.stock[day], len(made))
    return made / made.sum()


def _lift(night: Known, odds: np.ndarray) -> Known:
    return replace(night, lift=odds[night.goods.brand])


def fairness_of(seed: int, shop: Shop = SHOP) -> pd.DataFrame:
    """Lift brands by merit over exposure, as the lists of the week before the test show them.

    Returns
    -------
    DataFrame
        ``weight``, ``clicks`` (true, a list), ``off`` (share of the looks that would have to move
        for exposure to equal true merit), ``least`` (exposure over true merit of the quarter of
        the brands that is shown least by merit).
    """
    here, rows = setting(seed, shop), []
    world, brand, look = here.world, here.nights.log.goods.brand, here.nights.log.looked
    before = asked(world.shown, range(world.split.train_until, world.split.validate_until))
    before = before.where(slice(None, None, max(len(before.user) // REQUESTS, 1)))
    past = for_days(here.nights, here.parts, before, world.stock)
    ratio = (seen_merit(here) + 1e-3) / (exposure(past, brand, look) + 1e-3)
    merit = true_merit(here)
    for weight in WEIGHTS:
        change = partial(_lift, odds=weight * np.log(ratio))
        lists = for_days(here.nights, here.parts, here.test, world.stock, change)
        share = exposure(lists, brand, look)
        there = np.flatnonzero(merit)  # a small shop may lack a brand
        last = there[np.argsort(share[there] / merit[there])][: len(there) // 4]
        rows.append(
            {
                "weight": weight,
                "clicks": here.clicks(lists),
                "off": np.abs(share - merit).sum() / 2,
                "least": share[last].sum() / merit[last].sum(),
            }
        )
    return pd.DataFrame(rows)
