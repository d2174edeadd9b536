"""One world after the other: the ladder, its rules, its sources, its splits, by the truth.

Shops are of 2,500 users and 800 items; true clicks are those that a drawn share of the test's
requests expects. All settings did best of nine trials on the worlds of :data:`CHOSEN_ON`; those
of :data:`SEEDS` were first drawn when all of this was frozen. What would be new next time is
another world: intervals are t intervals over worlds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from casebook.cases.recommendations import ladder, rankers
from casebook.cases.recommendations.candidates import allowed, merged, proposed, scored
from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.nights import cleaned
from casebook.cases.recommendations.rankers import Asked, Nights, asked, of_lists
from casebook.cases.recommendations.recommend import Parts, fitted, for_days
from casebook.cases.recommendations.rules import NONE, Rules
from casebook.cases.recommendations.world import World
from casebook.cases.recommendations.world import simulate as simulate_world
from casebook.evaluate.ranking import coverage, gini, ndcg_at, recall_at, relevant, shown
from casebook.retrieval.factors import top
from casebook.retrieval.splits import scorer

SEEDS, CHOSEN_ON = tuple(range(31, 46)), (1, 2)
SHOP = Shop(users=2_500, items=800)
#: Requests of the test's days that are judged.
REQUESTS = 1_000
#: Rungs in the order of the ladder; ``shown`` is the shop's own policy.
SHOWN, ORACLE, SHIPPED = "shown", "oracle", "shipped"
RUNGS = (SHOWN, *ladder.RUNGS, "trees", "pointwise", "logistic", SHIPPED, ORACLE)
#: Each rule alone, on top of the ranker's list.
ALONE: Mapping[str, Rules] = {
    "none": NONE,
    "sold-out items too": replace(NONE, stock=False),
    "brand cap": replace(NONE, cap=Rules().cap),
    "margin": replace(NONE, margin=Rules().margin),
    "campaign": replace(NONE, campaign=Rules().campaign),
    "recently viewed": replace(NONE, seen=Rules().seen),
    "diversity": replace(NONE, diversity=Rules().diversity),
    "all": Rules(),
}


@dataclass(frozen=True)
class Setting:
    """A world, and the requests of its test.

    Attributes
    ----------
    world : World
    nights : Nights
    test : Asked
    """

    world: World
    nights: Nights
    test: Asked

    @cached_property
    def parts(self) -> Parts:
        """What is fitted before the test, without rules."""
        return fitted(self.nights, self.world.split.validate_until, NONE)

    @cached_property
    def best(self) -> np.ndarray:
        """The lists of the oracle, who knows what each user would click on the day."""
        made, test = np.empty_like(self.test.lists), self.test
        every = np.arange(self.world.shop.items)
        for row in range(len(made)):
            user, day = test.user[[row]], int(test.day[row])
            odds = self.world.truth.log_odds(user, every[None], day)
            made[row] = top(allowed(odds, self.world.stock[day], test.page[[row]]), 10)
        return made

    def clicks(self, lists: np.ndarray) -> float:
        """Return the true expected clicks a list."""
        return float(self.world.truth.clicks(self.test.user, lists, self.test.day).mean())


def simulate(seed: int, shop: Shop = SHOP, requests: int = REQUESTS) -> Setting:
    """Simulate a world and draw requests of its test."""
    world = simulate_world(seed, shop=shop)
    test = asked(world.shown, world.split.test)
    many = min(requests, len(test.user))
    rows = np.sort(np.random.default_rng(seed).choice(len(test.user), many, replace=False))
    return Setting(world, Nights(cleaned(world)), test.where(rows))


setting = lru_cache(maxsize=1)(simulate)


def lists_by(here: Setting, names: Sequence[str] = RUNGS) -> dict[str, np.ndarray]:
    """Return the lists of the named rungs for the requests of the test."""
    fits, stock, made = ladder.Fits(here.nights), here.world.stock, {}
    for name in names:
        if name in ladder.RUNGS:
            made[name] = ladder.lists(fits, name, here.test, stock)
        elif name == SHOWN:
            made[name] = here.test.lists
        elif name == ORACLE:
            made[name] = here.best
        elif name in ("trees", "pointwise"):
            parts = fitted(here.nights, here.world.split.validate_until, NONE, name)
            made[name] = for_days(here.nights, parts, here.test, stock)
        else:
            rules = Rules() if name == SHIPPED else NONE
            made[name] = for_days(here.nights, replace(here.parts, rules=rules), here.test, stock)
    return made


def measured(here: Setting, lists: np.ndarray) -> dict[str, float]:
    """Return what is true of lists, and what the log says of them.

    ``clicks`` (true, a list), ``logged_recall``, ``logged_ndcg`` (of clicks on the lists that were
    shown), ``coverage``, ``gini``, ``margin`` (mean), ``sold_out`` (share of items).
    """
    world, test = here.world, here.test
    row, slot = np.nonzero(test.clicked)
    some = np.unique(row)
    wanted = relevant(row, test.lists[row, slot], (len(lists), world.shop.items))[some]
    stocked = world.stock[test.day[:, None], lists]
    return {
        "clicks": here.clicks(lists),
        "logged_recall": float(recall_at(lists[some], wanted, 10).mean()),
        "logged_ndcg": float(ndcg_at(lists[some], wanted, 10).mean()),
        "coverage": coverage(lists, world.shop.items),
        "gini": gini(shown(lists, world.shop.items)),
        "margin": float(world.items["margin"].to_numpy()[lists].mean()),
        "sold_out": float(1 - stocked.mean()),
    }


def ladder_of(seed: int, names: Sequence[str] = RUNGS, shop: Shop = SHOP) -> pd.DataFrame:
    """Run the ladder in one world: ``rung`` and as of :func:`measured`."""
    made = lists_by(setting(seed, shop), names)
    rows = [{"rung": name, **measured(setting(seed, shop), lists)} for name, lists in made.items()]
    return pd.DataFrame(rows)


def rules_of(seed: int, names: Sequence[str] = tuple(ALONE)) -> pd.DataFrame:
    """Price each rule alone: ``rule``, ``broken`` (lists over the cap), as of :func:`measured`."""
    here, rows = setting(seed), []
    for name in names:
        parts = replace(here.parts, rules=ALONE[name])
        lists = for_days(here.nights, parts, here.test, here.world.stock)
        brand = np.sort(here.nights.log.goods.brand[lists], axis=1)
        cap = Rules().cap
        broken = float((brand[:, cap:] == brand[:, :-cap]).any(axis=1).mean())
        rows.append({"rule": name, "broken": broken, **measured(here, lists)})
    return pd.DataFrame(rows)


def proposals(here: Setting) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield, for each day of the test, its requests and what each source proposes for them."""
    for day in np.unique(here.test.day):
        rows = np.flatnonzero(here.test.day == day)
        part, night = here.test.where(rows), here.nights.known(day)
        every = scored(night, here.nights.taste(day), part.user, part.page)
        yield rows, proposed(night, every, part.user, part.page, here.world.stock[day])


def sources_of(seed: int) -> pd.DataFrame:
    """Return what each source finds of the ten items that the oracle would show.

    ``source``, ``proposed`` (mean number), ``recall`` (share found), ``clicks`` (of the best
    ten of its items, chosen by the oracle).
    """
    here, truth = setting(seed), setting(seed).world.truth
    found: dict[str, list] = {}
    for rows, lists in proposals(here):
        user, day = here.test.user[rows], here.test.day[rows]
        for name, items in {**lists, "merged": merged(lists)}.items():
            odds = truth.log_odds(user, np.maximum(items, 0), day)
            best = top(np.where(items >= 0, odds, -np.inf), 10)
            clicks = truth.clicks(user, np.take_along_axis(items, best, axis=1), day)
            hit = (here.best[rows][:, :, None] == items[:, None, :]).any(axis=2).mean(axis=1)
            found.setdefault(name, []).append(np.c_[(items >= 0).sum(axis=1), hit, clicks])
    means = {name: np.concatenate(parts).mean(axis=0) for name, parts in found.items()}
    columns = ["proposed", "recall", "clicks"]
    made = pd.DataFrame.from_dict(means, orient="index", columns=columns)
    return made.rename_axis("source").reset_index()


def split_of(seed: int, names: Sequence[str] = ("item-item", "iALS", "EASE")) -> pd.DataFrame:
    """Hold what is taken out by time and at random: how far the leak flatters.

    Of the users who took something new in the test's days, the same number of items is to be found
    by both splits. ``method``, ``split`` (time, random), ``recall`` at 20.
    """
    here = setting(seed)
    until = here.world.split.validate_until
    end = here.nights.known(here.world.shop.days)
    early, every = here.nights.known(until).taken[:-1], end.taken[:-1]
    late = (every - early).tocoo()
    users = np.unique(late.row)
    wanted = {"time": relevant(late.row, late.col, every.shape)}
    rng, row, column = np.random.default_rng(seed), [], []
    for user, many in zip(*np.unique(late.row, return_counts=True), strict=True):
        own = every.indices[every.indptr[user] : every.indptr[user + 1]]
        column.append(rng.choice(own, many, replace=False))
        row.append(np.full(many, user))
    wanted["random"] = relevant(np.concatenate(row), np.concatenate(column), every.shape)
    train = {"time": early, "random": (every - wanted["random"].astype(float)).tocsr()}
    train["random"].eliminate_zeros()
    rows = []
    for kind, taken in train.items():
        for name in names:
            given = {k: v for k, v in ladder.CHOSEN[name].items() if k != "page"}
            lists = top(scorer(name, taken, given)(taken[users]), 20, without=taken[users])
            found = recall_at(lists, wanted[kind][users], 20).mean()
            rows.append({"method": name, "split": kind, "recall": float(found)})
    return pd.DataFrame(rows)


# Trials ----------------------------------------------------------------------------------


def trials(seeds: Sequence[int] = CHOSEN_ON, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Try nine settings of each retriever and ranker on the choice worlds, by the truth.

    Returns
    -------
    DataFrame
        ``method``, ``settings`` (JSON), ``seed``, ``clicks``.
    """
    rows = []
    grids = {**ladder.TRIALS, **rankers.TRIALS}
    for seed in seeds:
        here = simulate(seed)
        until = here.world.split.validate_until
        some = asked(here.world.shown, range(until - 14, until))
        x = of_lists(here.nights, some)
        for name, grid in grids.items():
            for settings in grid if names is None or name in names else ():
                if name in ladder.TRIALS:
                    fits = ladder.Fits(here.nights, {name: settings})
                    lists = ladder.lists(fits, name, here.test, here.world.stock)
                else:
                    parts = replace(here.parts, rank=rankers.LEARNERS[name](x, some, settings))
                    lists = for_days(here.nights, parts, here.test, here.world.stock)
                row = {"method": name, "settings": json.dumps(settings), "seed": seed}
                rows.append(row | {"clicks": here.clicks(lists)})
    return pd.DataFrame(rows)


def best_of(table: pd.DataFrame) -> dict[str, Settings]:
    """Return of each method the settings with the highest mean over the worlds."""
    mean = table.groupby(["method", "settings"], as_index=False)["clicks"].mean()
    best = mean.loc[mean.groupby("method")["clicks"].idxmax()]
    pairs = zip(best["method"], best["settings"], strict=True)
    return {name: json.loads(text) for name, text in pairs}


Settings = ladder.Settings


def at(**changed: float) -> Shop:
    """Return the studies' shop with some constants at another value."""
    return replace(SHOP, **changed)
