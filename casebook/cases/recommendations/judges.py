"""Judges of recommendation lists: what the log says, what its random slice says, and the truth.

A candidate names ten items for every list of the test days. Judges on *logged clicks* ask whether
it names what was clicked, and only what the shop showed could be clicked. Judges on the *random
slice* ask what came of items that chance showed, with the chance known. An A/B test shows the lists
to half of the users; the truth is what it would find without end.

All values but those on logged clicks are clicks a list, and can be compared with the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import stream
from casebook.cases.recommendations.nights import NAMES, cleaned
from casebook.cases.recommendations.rankers import Asked, Nights, asked, of_lists
from casebook.evaluate.assign import CONTROL, TREATMENT, arms, numbered
from casebook.evaluate.off_policy import Estimate
from casebook.evaluate.slates import (
    by_chance,
    fit_appeal,
    logged_ndcg,
    logged_recall,
    look_curve,
    mean_over,
    random_slice,
    slate_value,
)

if TYPE_CHECKING:
    from casebook.cases.recommendations.world import World

JUDGES = (
    *("recall", "ndcg", "weighted recall", "ips", "snips", "dr", "dr cut", "model"),
    *("ab", "truth"),
)
#: The judge "dr cut" cuts weights to this: less noise, and a part of the model's errors stays.
CUT = 20.0
#: The click model learns from the days after the first week, when midnights know something.
WARM = 7
#: What it knows of a pair: plain tastes and counts, nothing of EASE, of neighbours, of the session.
SIMPLE = (
    *("taste", "need", "quiz", "same", "brand", "price_gap", "style", "page_style", "page_brand"),
    *("rate", "popular", "trend", "novel", "campaign", "season", "seen", "owned"),
)
#: From requests and lists for them to the chances of a click if looked at.
Model = Callable[[Asked, np.ndarray], np.ndarray]


def lists_of(world: World, candidate: np.ndarray, some: Asked) -> np.ndarray:
    """Return a candidate's lists, or raise a ``ValueError`` that says what is wrong with them.

    An item that is sold out, the item of the page itself and an item named twice are refused: the
    random slice never shows them, so that it could not say what they are worth.
    """
    made = np.asarray(candidate)
    if made.shape != some.lists.shape or made.dtype.kind not in "iu":
        raise ValueError(
            f"lists of {made.dtype}, shape {made.shape}: give item numbers of shape "
            f"{some.lists.shape}, a row for each list that was asked for."
        )
    if made.min(initial=0) < 0 or made.max(initial=0) >= world.shop.items:
        raise ValueError(f"items are numbered from 0 to {world.shop.items - 1}.")
    ordered = np.sort(made, axis=1)
    faults = {
        "twice in a list": ordered[:, 1:] == ordered[:, :-1],
        "sold out on the day": ~world.stock[some.day[:, None], made],
        "the page's own": made == some.page[:, None],
    }
    for what, where in faults.items():
        if where.any():
            raise ValueError(f"{int(where.sum())} items are {what}: leave them out.")
    return made


def click_model(nights: Nights, until: int) -> Model:
    """Fit looks times an appeal to the random slice of the days before a day.

    The ranker learns from two weeks of all lists, with features of neighbours and sessions; this
    model does without these, and sees lists alone that chance drew.
    """
    some = asked(nights.log.shown, range(WARM, until))
    some = some.where(some.random)
    columns = [NAMES.index(name) for name in SIMPLE]
    x = of_lists(nights, some)[..., columns]
    fitted = fit_appeal(x, some.clicked, look_curve(some.clicked))

    def expects(some: Asked, lists: np.ndarray) -> np.ndarray:
        return fitted(of_lists(nights, some, lists)[..., columns])

    return expects


# A test, and the truth ----------------------------------------------------------------


def _outcome(world: World, some: Asked, lists: np.ndarray) -> np.ndarray:
    """Return the clicks on each list of whole days, had it been shown: with the log's luck."""
    clicks = np.empty(len(lists))
    for day in np.unique(some.day):
        on = some.day == day
        rng = stream(world.seed, 100 + int(day), 5)
        eye, will, _ = rng.random((3, on.sum(), world.shop.slots))
        appeal = world.truth.appeal(some.user[on], lists[on], int(day))
        clicks[on] = ((eye < world.truth.examined) & (will < appeal)).sum(axis=1)
    return clicks


def ab_test(
    world: World, some: Asked, lists: np.ndarray, salt: str = "lists", share: float = 0.5
) -> Estimate:
    """Show a candidate to a share of the users, by a salted hash; return its clicks a list.

    ``some`` are all lists of some days; random ones are left out.
    """
    users = numbered(range(world.shop.users))
    arm = arms(users, salt, {CONTROL: 1 - share, TREATMENT: share})
    here = (arm == TREATMENT)[some.user] & ~some.random
    return mean_over(_outcome(world, some, lists)[here], some.user[here])


def true_clicks(world: World, some: Asked, lists: np.ndarray) -> Estimate:
    """Return the expected clicks a list; its error is that of who happened to come."""
    return mean_over(world.truth.clicks(some.user, lists, some.day), some.user)


# All of them --------------------------------------------------------------------------


def controls(world: World, some: Asked, seed: int = 0) -> dict[str, np.ndarray]:
    """Return lists that every table has: the bestsellers, and lists drawn by chance.

    Bestsellers are the items with the most logged clicks before the first of the days, in stock,
    without the page's own.
    """
    slots = world.shop.slots
    before = world.shown[(world.shown["day"] < some.day.min()) & world.shown["clicked"]]
    count = np.bincount(before["item"], minlength=world.shop.items)
    best, even = np.empty_like(some.lists), np.empty_like(some.lists)
    rng = np.random.default_rng([seed, 9])
    for day in np.unique(some.day):
        rows, stock = np.flatnonzero(some.day == day), world.stock[day]
        own = some.page[rows]
        ranked = np.argsort(-np.where(stock, count, -1), kind="stable")[: slots + 1]
        top = np.tile(ranked, (len(rows), 1))
        # The page's own goes last, and the last is cut off.
        order = np.argsort(top == own[:, None], axis=1, kind="stable")[:, :slots]
        best[rows] = np.take_along_axis(top, order, 1)
        even[rows] = by_chance(rng, stock, own, slots)[0]
    return {"bestsellers": best, "random list": even}


def judge_table(
    world: World,
    candidates: Mapping[str, np.ndarray],
    days: Sequence[int] | None = None,
    model: Model | None = None,
    judges: Sequence[str] = JUDGES,
) -> pd.DataFrame:
    """Let every judge value every candidate, and the controls.

    Parameters
    ----------
    world : World
    candidates : mapping of str to ndarray of int, shape (n, slots)
        A list for each request of the days, in the order of the log.
    days : sequence of int, optional
        By default those of the test.
    model : callable, optional
        Of the judges "dr", "dr cut" and "model"; by default :func:`click_model` of the days before.
    judges : sequence of str
        Of :data:`JUDGES`.

    Returns
    -------
    DataFrame
        ``candidate``, ``judge``, ``value``, ``se`` (over users), ``low``, ``high``.

    Raises
    ------
    ValueError
        If a judge or a day is unknown or lists are not allowed.
    """
    if unknown := sorted({*judges} - {*JUDGES}):
        raise ValueError(f"no judge has the name {unknown}: choose among {JUDGES}.")
    days = world.split.test if days is None else days
    if not {*days} <= {*range(1, world.shop.days)}:
        raise ValueError(f"lists of the days 1 to {world.shop.days - 1} can be judged.")
    some, found = asked(world.shown, days), []
    first = int(some.day.min())
    if model is None and {"dr", "dr cut", "model"} & {*judges}:
        model = click_model(Nights(cleaned(world)), first)
    before = world.shown[world.shown["day"] < first]
    # One list more for each item, so that what was never shown has a share too.
    count = np.bincount(before["item"], minlength=world.shop.items) + 1
    share = world.shop.slots * count / count.sum()
    random = before.loc[before["random"], "clicked"]
    look = look_curve(random.to_numpy().reshape(-1, world.shop.slots))
    expects = cache(lambda: model(some.where(some.random), some.lists[some.random]))
    for name, candidate in {**controls(world, some), **candidates}.items():
        lists = lists_of(world, candidate, some)
        ask = _judges(world, some, lists, look, share, model, expects, salt=name)
        found += [(name, judge, *ask[judge]()[:4]) for judge in judges]
    return pd.DataFrame(found, columns=["candidate", "judge", "value", "se", "low", "high"])


def _judges(
    world: World,
    some: Asked,
    lists: np.ndarray,
    look: np.ndarray,
    share: np.ndarray,
    model: Model | None,
    expects: Callable[[], np.ndarray],
    salt: str,
) -> dict[str, Callable[[], Estimate]]:
    """Return the judges of a candidate's lists, to be asked by name."""
    drawn, own = some.where(some.random), lists[some.random]

    @cache
    def named() -> np.ndarray:
        return model(drawn, own)

    def by_chance_slice(how: str, **given: float) -> Estimate:
        part = random_slice(drawn.lists, own, look, drawn.chance)
        if how == "dr":
            given |= {"expected": expects(), "named": named()}
        return slate_value(part, drawn.clicked, how, drawn.user, **given)

    logged = some.lists, some.clicked, lists, some.user
    return {
        "recall": partial(logged_recall, *logged),
        "ndcg": partial(logged_ndcg, *logged),
        "weighted recall": partial(logged_recall, *logged, share),
        "ips": partial(by_chance_slice, "ips"),
        "snips": partial(by_chance_slice, "snips"),
        "dr": partial(by_chance_slice, "dr"),
        "dr cut": partial(by_chance_slice, "dr", most=CUT),
        "model": lambda: mean_over(named() @ look, drawn.user),
        "ab": partial(ab_test, world, some, lists, salt),
        "truth": partial(true_clicks, world, some, lists),
    }
