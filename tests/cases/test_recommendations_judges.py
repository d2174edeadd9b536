"""Case 09: what each judge of lists measures, and that a judge with a wrong chance fails."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.recommendations import judges
from casebook.cases.recommendations.candidates import allowed
from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.judges import (
    JUDGES,
    ab_test,
    controls,
    judge_table,
    lists_of,
    true_clicks,
)
from casebook.cases.recommendations.nights import cleaned
from casebook.cases.recommendations.rankers import Asked, Nights, asked
from casebook.cases.recommendations.world import World, simulate
from casebook.evaluate.slates import verdicts
from casebook.retrieval.factors import top

DAYS, SEEDS = range(28, 42), range(1, 6)
SIZE = {"users": 1_000, "items": 300}
#: Every other list is random: the slice says so much that its judges must be right.
HALF = Shop(**SIZE, random_share=0.5)


@cache
def world(seed: int = 1) -> World:
    return simulate(seed, **SIZE)


@cache
def half(seed: int) -> World:
    return simulate(seed, shop=HALF)


def chance_from_scratch(made: World, rows: pd.DataFrame) -> np.ndarray:
    """One over the items in stock on the day, without the page's own."""
    day, seed = rows["day"].to_numpy(), rows["seed_item"].to_numpy()
    own = (seed >= 0) & made.stock[day, np.maximum(seed, 0)]
    return 1 / (made.stock[day].sum(axis=1) - own)


@cache
def fitting(seed: int, which: str = "half") -> np.ndarray:
    """Lists by what fits each user on average: good ones, which only the truth could make."""
    made = {"half": half, "world": world}[which](seed)
    some, items = asked(made.shown, DAYS), np.arange(made.shop.items)
    odds = made.truth.log_odds(some.user, np.tile(items, (len(some.user), 1)), 28, memory=False)
    return top(allowed(odds, made.stock[some.day], some.page), 10)


@cache
def table() -> pd.DataFrame:
    return judge_table(world(), {"fitting": fitting(1, "world")}, DAYS)


def truth_as_model(made: World):
    """Return a model that knows what fits each user on average, for the doubly robust judge."""

    def expects(some: Asked, lists: np.ndarray) -> np.ndarray:
        return made.truth.appeal(some.user, lists, 28, memory=False)

    return expects


def wrong_by(made: World, factor: float) -> World:
    """Return a world whose log holds a wrong chance."""
    played = [replace(p, chance=np.minimum(p.chance * factor, 1.0)) for p in made.played]
    return replace(made, played=tuple(played))


# The chance ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_logged_chance_is_that_computed_from_scratch(seed):
    made = world(seed)
    rows = made.shown[made.shown["random"]]
    assert np.allclose(chance_from_scratch(made, rows), rows["chance"], rtol=1e-12)
    # And by a loop over the stock, for some of them.
    for _, row in rows.iloc[::2_500].iterrows():
        stocked = set(np.flatnonzero(made.stock[row["day"]])) - {row["seed_item"]}
        assert row["chance"] == pytest.approx(1 / len(stocked))


def test_items_come_as_often_as_their_chances_say():
    """Over all lists the random slice shows each item as often as the sum of its chances."""
    made = half(1)
    heads = made.shown[made.shown["random"] & (made.shown["slot"] == 0)]
    count = np.bincount(made.shown["item"][made.shown["random"]], minlength=300)
    able = made.stock[heads["day"]].astype(float)
    pages = heads["seed_item"].to_numpy()
    able[np.flatnonzero(pages >= 0), pages[pages >= 0]] = 0
    expected = 10 * heads["chance"].to_numpy() @ able
    z = (count - expected)[expected > 30] / np.sqrt(expected[expected > 30])
    assert abs(z.mean()) < 0.1
    assert 0.85 < z.std() < 1.1
    # With the page's own item counted in, or every item of the shop, the sums would be off.
    stocked = 10 * (1 / made.stock[heads["day"]].sum(axis=1)) @ able
    assert stocked.sum() < 0.999 * count.sum()
    assert expected.sum() == pytest.approx(count.sum(), rel=1e-9)


@pytest.mark.parametrize("factor", [10.0, 0.1], ids=["of a list, not a slot", "ten times too low"])
def test_a_judge_with_a_wrong_chance_is_stopped(factor):
    judged = {"judges": ["ips", "truth"], "candidates": {"fitting": fitting(1)}, "days": DAYS}
    assert len(judge_table(half(1), **judged)) == 6
    with pytest.raises(ValueError, match="which is 1 for right chances"):
        judge_table(wrong_by(half(1), factor), **judged)


# Each judge against the truth ---------------------------------------------------------


@cache
def errors(factor: float = 1.0) -> pd.DataFrame:
    """Return standardised errors of the judges of the slice, a row for each seed and candidate."""
    rows = []
    for seed in SEEDS:
        made, names = wrong_by(half(seed), factor), ("ips", "snips", "dr", "truth")
        model = truth_as_model(made)
        found = judge_table(made, {"fitting": fitting(seed)}, DAYS, model, names)
        found = found[found["candidate"] != "random list"]
        wide = found.pivot(index="candidate", columns="judge", values=["value", "se"])
        off = wide["value"].sub(wide["value"]["truth"], axis=0) / wide["se"]
        rows.append(off.drop(columns="truth"))
    return pd.concat(rows)


def test_judges_of_the_slice_are_right_on_average():
    """Over five shops with half of the lists random, for a good and for a plain candidate."""
    z = errors()
    assert len(z) == 10
    assert z.mean().abs().max() < 1.1
    assert np.sqrt(np.square(z).mean()).between(0.5, 1.7).all()


def test_a_judge_with_a_wrong_chance_misses_the_truth():
    """Planted: each chance 1.4 times too high, which no guard of the weights can see."""
    assert (errors()["ips"].abs() < 1.96).sum() >= 8
    assert (errors(1.4)["ips"].abs() < 1.96).sum() <= 6
    assert errors(1.4)["ips"].mean() < -1.5


def test_the_test_of_half_of_the_users_finds_the_truth():
    z = []
    for seed in SEEDS:
        made = world(seed)
        some, lists = asked(made.shown, DAYS), fitting(seed, "world")
        truth = true_clicks(made, some.where(~some.random), lists[~some.random]).value
        found = ab_test(made, some, lists)
        other = np.where(some.random[:, None], lists[:, ::-1], lists)
        assert ab_test(made, some, other) == found  # what chance shows is no part of it
        z.append((found.value - truth) / found.se)
        own = some.clicked[~some.random].sum(axis=1).mean()
        assert found.low > own and 0.4 < found.effective / len({*some.user}) < 0.6
    assert np.abs(z).max() < 3.5


def test_a_test_of_the_shops_own_lists_shows_what_was_logged():
    """The same lists with the same luck: the clicks of the log, to the last one."""
    made = world()
    some = asked(made.shown, [30, 31])
    clicks = judges._outcome(made, some, some.lists)
    assert np.array_equal(clicks, some.clicked.sum(axis=1))


# Logged clicks mislead ----------------------------------------------------------------


def test_logged_recall_prefers_what_the_shop_showed():
    wide = table().pivot(index="candidate", columns="judge", values="value")
    assert wide.loc["bestsellers", "recall"] > wide.loc["fitting", "recall"]
    assert wide.loc["bestsellers", "ndcg"] > wide.loc["fitting", "ndcg"]
    assert wide.loc["fitting", "truth"] > 1.5 * wide.loc["bestsellers", "truth"]
    assert wide.loc["fitting", "weighted recall"] > wide.loc["bestsellers", "weighted recall"]
    assert wide.loc["random list", "truth"] < wide.loc["bestsellers", "truth"]


def test_verdicts_name_and_price_each_judge():
    found = verdicts(table(), always=["random list", "fitting"])
    assert found.loc["truth", "named"] == "fitting"
    assert found.loc["truth", "loss"] == 0
    assert found.loc["recall", "named"] == "bestsellers"
    assert not found.loc["recall", "right"]
    assert found.loc["always random list", "loss"] == found["loss"].max() > 0.3
    assert found.loc["ab", "right"]
    assert found.loc["always fitting", "right"]  # a control that cannot be beaten here
    with pytest.raises(ValueError, match="needs the truth"):
        verdicts(table(), always=["nobody"])


def test_the_table_has_a_row_for_each_candidate_and_judge():
    found = table()
    assert len(found) == 3 * len(JUDGES)
    assert not found.duplicated(["candidate", "judge"]).any()
    assert found[["value", "se", "low", "high"]].notna().all().all()
    shares = found[found["judge"].isin(["recall", "ndcg", "weighted recall"])]
    assert shares["value"].between(0, 1).all()
    few = judge_table(world(), {}, [40], judges=["recall", "truth"])
    assert {*few["candidate"]} == {"bestsellers", "random list"}


# Bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda lists, made: lists[:-1], "a row for each"),
        (lambda lists, made: lists + 0.5, "float64"),
        (lambda lists, made: lists + 9_999, "numbered from 0"),
        (lambda lists, made: np.repeat(lists[:, :5], 2, axis=1), "twice in a list"),
        (lambda lists, made: lists * 0 + np.flatnonzero(~made.stock[28])[:10], "sold out"),
    ],
)
def test_lists_that_may_not_be_judged_are_refused(fault, says):
    made = world()
    some = asked(made.shown, [28])
    good = controls(made, some)["bestsellers"]
    assert np.array_equal(lists_of(made, good, some), good)
    with pytest.raises(ValueError, match=says):
        lists_of(made, fault(good, made), some)


def test_the_pages_own_item_is_refused():
    made = world()
    some = asked(made.shown, [28])
    lists = controls(made, some)["bestsellers"]
    row = np.flatnonzero((some.page >= 0) & made.stock[28][some.page])[0]
    assert some.page[row] not in lists[row]
    lists[row, 3] = some.page[row]
    with pytest.raises(ValueError, match="the page's own"):
        lists_of(made, lists, some)


def test_days_and_judges_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="days 1 to 41"):
        judge_table(world(), {}, [50])
    with pytest.raises(ValueError, match="no judge"):
        judge_table(world(), {}, judges=["oracle"])


def test_the_click_model_alone_is_a_judge_of_its_own():
    """It knows what is good, and less of a pair than the ranker that ships."""
    wide = table().pivot(index="candidate", columns="judge", values="value")
    assert wide.loc["fitting", "model"] > wide.loc["random list", "model"]
    assert (wide["model"] > 0).all() and not np.allclose(wide["model"], wide["dr"])
    some = asked(half(1).shown, [30])
    made = judges.click_model(Nights(cleaned(half(1))), 28)(some, some.lists)
    assert made.shape == some.lists.shape and ((made > 0) & (made < 1)).all()
    assert made[some.clicked].mean() > 1.2 * made[~some.clicked].mean()
    assert not {"ease", "together", "session", "again", "affinity"} & {*judges.SIMPLE}


def test_the_click_model_learns_from_earlier_lists_that_chance_drew_alone():
    """Clicks on the shop's own lists, and those of the test, do not change it."""
    log = cleaned(world())
    some = asked(log.shown, [30])
    shown = log.shown.copy()
    own = ~shown["random"] & (shown["day"] >= 7)
    shown.loc[own | (shown["day"] >= 28), "clicked"] ^= True
    nights = Nights(log)
    before = judges.click_model(nights, 28)(some, some.lists)
    nights.log = replace(log, shown=shown)  # what midnights know stays
    assert np.array_equal(judges.click_model(nights, 28)(some, some.lists), before)
    shown.loc[shown["random"] & (shown["day"] < 28), "clicked"] ^= True
    assert not np.allclose(judges.click_model(nights, 28)(some, some.lists), before)


def test_weights_are_right_exactly_if_looks_and_chances_are():
    """What IPS expects, over all draws and clicks, is the truth: without any luck."""

    def expected(look: np.ndarray) -> float:
        some = asked(half(1).shown, DAYS)
        drawn, own = some.where(some.random), fitting(1)[some.random]
        truth = half(1).truth
        # An item stands in each slot with one chance, and its weight is its look over the chance.
        appeal, looks = truth.appeal(drawn.user, own, drawn.day), truth.examined.sum()
        value = (appeal @ look).mean() * looks / look.sum()
        return value / truth.clicks(drawn.user, own, drawn.day).mean()

    assert expected(half(1).truth.examined) == pytest.approx(1, abs=1e-9)
    before = half(1).shown[(half(1).shown["day"] < 28) & half(1).shown["random"]]
    look = judges.look_curve(before["clicked"].to_numpy().reshape(-1, 10))
    assert expected(look) == pytest.approx(1, abs=0.01)
    assert abs(expected(np.ones(10)) - 1) > 0.02  # looks that do not fall: planted
