"""The A/B test of two recommenders: arms by a hash, six metrics, and what a kill is decided on.

The tests of the split and of harm are those of :mod:`casebook.evaluate.killing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.recommendations.log import Policy, Requests
from casebook.evaluate.assign import CONTROL, TREATMENT, arm_of, arms
from casebook.evaluate.experiments import Effect, ratio_effect

if TYPE_CHECKING:
    from casebook.cases.recommendations.world import World

#: Days before which a test is not read, however good it looks: a week has a Sunday.
LEAST_DAYS = 7


class Plan(NamedTuple):
    """An experiment of the service.

    Attributes
    ----------
    name, salt : str
    shares : mapping of str to float
        Arm → share of the users.
    margin : float
        Relative loss of revenue at which it is killed.
    """

    name: str = "ranker"
    salt: str = "ranker.1"
    shares: Mapping[str, float] = {CONTROL: 0.5, TREATMENT: 0.5}
    margin: float = 0.02

    def arm(self, user: int) -> str:
        """Return the arm of a user, the same at each request and in each process."""
        return arm_of(f"u{user}", self.salt, self.shares)

    def arms(self, users: np.ndarray) -> np.ndarray:
        """Return the arms of many users, shape (n,)."""
        return arms((f"u{user}" for user in np.asarray(users).tolist()), self.salt, self.shares)


def split(plan: Plan, policies: Mapping[str, Policy]) -> Policy:
    """Return a policy of the shop in which each user gets the lists of the own arm."""

    def policy(asked: Requests) -> np.ndarray:
        arm, lists = plan.arms(asked.user), None
        for name, own in policies.items():
            made = own(asked)
            lists = made.copy() if lists is None else lists
            lists[arm == name] = made[arm == name]
        return lists

    return policy


# What each arm earned -------------------------------------------------------------------------


def daily_revenue(world: World, days: Sequence[int]) -> np.ndarray:
    """Return what each user spent on items of the lists, shape (users, days), in euro."""
    price, made = world.items["price"].to_numpy(), np.zeros((world.shop.users, len(days)))
    for column, day in enumerate(days):
        played = world.played[day]
        paid = (played.bought * price[np.maximum(played.lists, 0)]).sum(axis=1)
        np.add.at(made[:, column], played.asked.user, paid)
    return made


def outcomes(world: World, days: Sequence[int]) -> pd.DataFrame:
    """Return of each user what the six metrics are made of.

    Returns
    -------
    DataFrame
        Index user (those who came): ``lists``, ``slots``, ``clicks``, ``buyers`` (1 if something
        was bought), ``revenue``, ``sessions``, ``carts``, ``categories`` (different ones, summed
        over the lists).
    """
    category, price = world.items["category"].cat.codes.to_numpy(), world.items["price"].to_numpy()
    parts = []
    for day in days:
        played = world.played[day]
        lists = played.lists
        kinds = np.sort(category[lists], axis=1)
        part = {
            "user": played.asked.user,
            "session": played.asked.session,
            "lists": 1,
            "slots": lists.shape[1],
            "clicks": played.clicked.sum(axis=1),
            "bought": played.bought.sum(axis=1),
            "carts": played.cart.astype(int),
            "revenue": (played.bought * price[lists]).sum(axis=1),
            "categories": 1 + (np.diff(kinds, axis=1) != 0).sum(axis=1),
        }
        parts.append(pd.DataFrame(part))
    rows = pd.concat(parts, ignore_index=True)
    by = rows.groupby("user")
    made = by[["lists", "slots", "clicks", "carts", "revenue", "categories"]].sum()
    made["sessions"] = by["session"].nunique()
    return made.assign(buyers=(by["bought"].sum() > 0).astype(int), users=1)


#: Metric → what is divided by what; a user is the unit, so that the ratios need the delta method.
METRICS = {
    "click rate": ("clicks", "slots"),
    "carts a session": ("carts", "sessions"),
    "buyers": ("buyers", "users"),
    "revenue a session": ("revenue", "sessions"),
    "categories a list": ("categories", "lists"),
}


def report(world: World, plan: Plan, days: Sequence[int]) -> dict[str, Effect | float]:
    """Return the effect on each metric, and of both arms the share of the items that they show."""
    table = outcomes(world, days)
    treated = plan.arms(table.index.to_numpy()) == TREATMENT
    pair = (table[~treated], table[treated])
    found: dict[str, Effect | float] = {
        name: ratio_effect(*((part[a].to_numpy(), part[b].to_numpy()) for part in pair))
        for name, (a, b) in METRICS.items()
    }
    for name in (CONTROL, TREATMENT):
        shown = [world.played[d].lists[plan.arms(world.played[d].asked.user) == name] for d in days]
        items = np.unique(np.concatenate([lists.ravel() for lists in shown]))
        found[f"coverage, {name}"] = len(items) / len(world.items)
    return found
