"""Judges of recommendation lists: what the log says, what its random slice says, and the truth.

A candidate names ten items for every list of the test days. Judges on *logged clicks* ask whether
it names what was clicked, and only what the shop showed could be clicked. Judges on the *random
slice* ask what came of items that chance showed, with the chance known. An A/B test shows the lists
to half of the users; the truth is what it would find without end.

All values but those on logged clicks are clicks a list, and can be compared with the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import SURFACES, stream
from casebook.cases.recommendations.features import click_model
from casebook.cases.recommendations.log import by_chance, moment
from casebook.evaluate.assign import CONTROL, TREATMENT, arms, numbered
from casebook.evaluate.experiments import Effect, ratio_effect
from casebook.evaluate.off_policy import Estimate
from casebook.evaluate.slates import (
    logged_ndcg,
    logged_recall,
    look_curve,
    mean_over,
    random_slice,
    slate_value,
)

if TYPE_CHECKING:
    from casebook.cases.recommendations.world import World

#: Lists of items for each row of :func:`contexts`, or a function from these rows to them.
Candidate = np.ndarray | Callable[[pd.DataFrame], np.ndarray]
JUDGES = ("recall", "ndcg", "weighted recall", "ips", "snips", "dr", "dr cut", "ab", "truth")
#: The judge "dr cut" cuts weights to this: less noise, and a part of the model's errors stays.
CUT = 20.0
#: From rows with ``user``, ``item``, ``at``, ``seed_item`` to the chance of a click if looked at.
Model = Callable[[pd.DataFrame], np.ndarray]


def contexts(world: World, days: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the lists that some days asked for: what a candidate is given, a row each.

    Parameters
    ----------
    world : World
    days : sequence of int, optional
        By default those of the test.

    Returns
    -------
    DataFrame
        ``list``, ``at``, ``day``, ``user``, ``surface``, ``seed_item``, ``session``, ``random``.
    """
    wanted = set(world.split.test if days is None else days)
    if not wanted <= {*range(world.shop.days)}:
        raise ValueError(f"the world has the days 0 to {world.shop.days - 1}.")
    parts, first = [], 0
    for day in world.played:
        asked, n = day.asked, len(day.asked)
        if asked.day in wanted:
            columns = {
                "list": first + np.arange(n),
                "at": moment(asked.at),
                "day": asked.day,
                "user": asked.user,
                "surface": pd.Categorical.from_codes(asked.surface, SURFACES),
                "seed_item": asked.seed_item,
                "session": asked.session,
                "random": day.random,
            }
            parts.append(pd.DataFrame(columns))
        first += n
    return pd.concat(parts, ignore_index=True)


def lists_of(world: World, candidate: Candidate, asked: pd.DataFrame) -> np.ndarray:
    """Return a candidate's lists, or raise a ``ValueError`` that says what is wrong with them.

    An item that is sold out, the item of the page itself and an item named twice are refused: the
    random slice never shows them, so that it could not say what they are worth.
    """
    made = np.asarray(candidate(asked) if callable(candidate) else candidate)
    if made.shape != (len(asked), world.shop.slots) or made.dtype.kind not in "iu":
        raise ValueError(
            f"lists of {made.dtype}, shape {made.shape}: give item numbers of shape "
            f"({len(asked)}, {world.shop.slots}), a row for each of contexts()."
        )
    if made.min(initial=0) < 0 or made.max(initial=0) >= world.shop.items:
        raise ValueError(f"items are numbered from 0 to {world.shop.items - 1}.")
    ordered = np.sort(made, axis=1)
    faults = {
        "twice in a list": ordered[:, 1:] == ordered[:, :-1],
        "sold out on the day": ~world.stock[asked["day"].to_numpy()[:, None], made],
        "the page's own": made == asked["seed_item"].to_numpy()[:, None],
    }
    for what, where in faults.items():
        if where.any():
            raise ValueError(f"{int(where.sum())} items are {what}: leave them out.")
    return made


def logged(world: World, asked: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column of ``World.shown`` for the lists of :func:`contexts`, shape (n, slots)."""
    values = world.shown[name].to_numpy().reshape(-1, world.shop.slots)
    return values[asked["list"].to_numpy()]


def chance_from_scratch(world: World, rows: pd.DataFrame) -> np.ndarray:
    """Return the chance that a random list has a given item in a given slot, counted anew.

    Parameters
    ----------
    world : World
    rows : DataFrame
        Lists or impressions: ``day``, ``seed_item``.

    Returns
    -------
    ndarray, shape (n,)
        One over the items in stock on the day, without the page's own.
    """
    day, seed = rows["day"].to_numpy(), rows["seed_item"].to_numpy()
    own = (seed >= 0) & world.stock[day, np.maximum(seed, 0)]
    return 1 / (world.stock[day].sum(axis=1) - own)


# A test, and the truth ----------------------------------------------------------------


def _outcome(world: World, asked: pd.DataFrame, lists: np.ndarray) -> np.ndarray:
    """Return the clicks on each list, had it been shown: with the luck of the log."""
    clicks = np.empty(len(asked))
    start = asked.groupby("day")["list"].transform("min").to_numpy()
    for day in asked["day"].unique():
        on = (asked["day"] == day).to_numpy()
        rng = stream(world.seed, 100 + int(day), 5)
        n = len(world.played[day].asked)
        eye, will, _ = rng.random((3, n, world.shop.slots))
        at = asked.loc[on, "list"].to_numpy() - start[on]
        appeal = world.truth.appeal(asked.loc[on, "user"].to_numpy(), lists[on], int(day))
        seen = (eye[at] < world.truth.examined) & (will[at] < appeal)
        clicks[on] = seen.sum(axis=1)
    return clicks


class Trial(NamedTuple):
    """An A/B test of one candidate against the shop's own lists.

    Attributes
    ----------
    effect : Effect
        Of clicks a list.
    value : Estimate
        Clicks a list of the candidate.
    users : dict of str to int
        Users of each arm.
    """

    effect: Effect
    value: Estimate
    users: dict[str, int]


def ab_test(
    world: World, asked: pd.DataFrame, lists: np.ndarray, salt: str = "lists", share: float = 0.5
) -> Trial:
    """Show a candidate to some users by a salted hash, and the shop's own lists to the others.

    Parameters
    ----------
    world : World
    asked : DataFrame
        Of :func:`contexts`; random lists are left out.
    lists : ndarray, shape (n, slots)
    salt : str
    share : float
        Of the users who get the candidate.
    """
    users = numbered(range(world.shop.users))
    arm = arms(users, salt, {CONTROL: 1 - share, TREATMENT: share})
    counted = ~asked["random"].to_numpy()
    treated = (arm == TREATMENT)[asked["user"]]
    own = logged(world, asked, "clicked").sum(axis=1).astype(float)
    clicks = np.where(treated, 0.0, own)
    clicks[treated] = _outcome(world, asked, lists)[treated]
    sums = []
    for here in (counted & ~treated, counted & treated):
        _, code = np.unique(asked.loc[here, "user"], return_inverse=True)
        sums.append((np.bincount(code, clicks[here]), np.bincount(code).astype(float)))
    here = counted & treated
    value = mean_over(clicks[here], asked.loc[here, "user"])
    n = {name: len(both[1]) for name, both in zip((CONTROL, TREATMENT), sums, strict=True)}
    return Trial(ratio_effect(*sums), value, n)


def true_clicks(world: World, asked: pd.DataFrame, lists: np.ndarray) -> Estimate:
    """Return the expected clicks a list; its error is that of who happened to come."""
    chance = world.truth.clicks(asked["user"].to_numpy(), lists, asked["day"].to_numpy())
    return mean_over(chance, asked["user"])


# All of them --------------------------------------------------------------------------


def controls(world: World, asked: pd.DataFrame, seed: int = 0) -> dict[str, np.ndarray]:
    """Return lists that every table has: the bestsellers, and lists drawn by chance.

    Bestsellers are the items with the most logged clicks before the first of the days, in stock,
    without the page's own.
    """
    slots, first = world.shop.slots, int(asked["day"].min())
    before = world.shown[(world.shown["day"] < first) & world.shown["clicked"]]
    count = np.bincount(before["item"], minlength=world.shop.items)
    best, even = np.empty((len(asked), slots), int), np.empty((len(asked), slots), int)
    rng = np.random.default_rng([seed, 9])
    for day, rows in asked.groupby("day").indices.items():
        stock, own = world.stock[day], asked["seed_item"].to_numpy()[rows]
        ranked = np.argsort(-np.where(stock, count, -1), kind="stable")[: slots + 1]
        top = np.tile(ranked, (len(rows), 1))
        # The page's own goes last, and the last is cut off.
        order = np.argsort(top == own[:, None], axis=1, kind="stable")[:, :slots]
        best[rows] = np.take_along_axis(top, order, 1)
        even[rows] = by_chance(rng, stock, own, slots)[0]
    return {"bestsellers": best, "random list": even}


def judge_table(
    world: World,
    candidates: Mapping[str, Candidate],
    days: Sequence[int] | None = None,
    model: Model | None = None,
    judges: Sequence[str] = JUDGES,
) -> pd.DataFrame:
    """Let every judge value every candidate, and the controls.

    Parameters
    ----------
    world : World
    candidates : mapping of str to Candidate
    days : sequence of int, optional
        By default those of the test.
    model : callable, optional
        Of the doubly robust judge; by default :func:`click_model` of the days before.
    judges : sequence of str
        Of :data:`JUDGES`.

    Returns
    -------
    DataFrame
        ``candidate``, ``judge``, ``value``, ``se`` (over users), ``low``, ``high``.

    Raises
    ------
    ValueError
        If a judge is unknown or lists are not allowed.
    """
    if unknown := sorted({*judges} - {*JUDGES}):
        raise ValueError(f"no judge has the name {unknown}: choose among {JUDGES}.")
    asked, found = contexts(world, days), []
    first = int(asked["day"].min())
    if model is None and {"dr", "dr cut"} & {*judges}:
        model = click_model(world, first)
    before = contexts(world, range(first))
    look = look_curve(logged(world, before[before["random"]], "clicked"))
    for name, candidate in {**controls(world, asked), **candidates}.items():
        ask = _judges(world, asked, lists_of(world, candidate, asked), look, model)
        found += [(name, judge, *ask[judge]()[:4]) for judge in judges]
    return pd.DataFrame(found, columns=["candidate", "judge", "value", "se", "low", "high"])


def _judges(
    world: World, asked: pd.DataFrame, lists: np.ndarray, look: np.ndarray, model: Model | None
) -> dict[str, Callable[[], Estimate]]:
    """Return the judges of a candidate's lists, to be asked by name."""
    user, items = asked["user"].to_numpy(), logged(world, asked, "item")
    clicked, drawn = logged(world, asked, "clicked"), asked["random"].to_numpy()
    share = np.bincount(items.ravel(), minlength=world.shop.items) / len(items)
    chance = logged(world, asked, "chance")[drawn, 0]

    def expects(of: np.ndarray) -> np.ndarray:
        rows = asked.loc[drawn, ["user", "at", "seed_item"]]
        rows = rows.loc[rows.index.repeat(of.shape[1])].assign(item=of[drawn].ravel())
        return model(rows.reset_index(drop=True)).reshape(-1, of.shape[1])

    def by_chance_slice(how: str, **given: float) -> Estimate:
        part = random_slice(items[drawn], lists[drawn], look, chance)
        if how == "dr":
            given |= {"expected": expects(items), "named": expects(lists)}
        return slate_value(part, clicked[drawn], how, user[drawn], **given)

    return {
        "recall": partial(logged_recall, items, clicked, lists, user),
        "ndcg": partial(logged_ndcg, items, clicked, lists, user),
        "weighted recall": partial(logged_recall, items, clicked, lists, user, share),
        "ips": partial(by_chance_slice, "ips"),
        "snips": partial(by_chance_slice, "snips"),
        "dr": partial(by_chance_slice, "dr"),
        "dr cut": partial(by_chance_slice, "dr", most=CUT),
        "ab": lambda: ab_test(world, asked, lists).value,
        "truth": partial(true_clicks, world, asked, lists),
    }


def verdicts(table: pd.DataFrame, always: str) -> pd.DataFrame:
    """Return whom each judge names, and what is lost by it; with a judge who names the same always.

    Parameters
    ----------
    table : DataFrame
        Of :func:`judge_table`, with the truth.
    always : str
        The candidate that the control names without looking.

    Returns
    -------
    DataFrame
        By judge: ``named``, ``right``, ``truth`` (of who is named), ``loss`` (to the best one).
    """
    wide = table.pivot(index="candidate", columns="judge", values="value")
    if always not in wide.index or "truth" not in wide:
        raise ValueError(f"the table needs the truth and a candidate {always!r}.")
    truth = wide["truth"]
    named = {judge: wide[judge].idxmax() for judge in wide} | {f"always {always}": always}
    held = truth.loc[[*named.values()]].to_numpy()
    columns = {"named": [*named.values()], "right": held >= truth.max(), "truth": held}
    made = pd.DataFrame(columns, index=pd.Index([*named], name="judge"))
    return made.assign(loss=truth.max() - made["truth"])
