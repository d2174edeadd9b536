"""Case 09: what each judge of lists measures, and that a judge with a wrong chance fails."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.recommendations import judges
from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.judges import (
    JUDGES,
    ab_test,
    chance_from_scratch,
    contexts,
    controls,
    judge_table,
    lists_of,
    slice_of,
    true_clicks,
    verdicts,
)
from casebook.cases.recommendations.world import World, simulate
from casebook.evaluate.off_policy import ips, snips

DAYS = range(28, 42)
SIZE = {"users": 1_500, "items": 400}
#: Every other list is random: the slice says so much that its judges must be right.
HALF = Shop(**SIZE, random_share=0.5)


@cache
def world(seed: int = 1) -> World:
    return simulate(seed, **SIZE)


@cache
def half(seed: int) -> World:
    return simulate(seed, shop=HALF)


def by_score(made: World, asked: pd.DataFrame, score: np.ndarray) -> np.ndarray:
    """Return lists of the best by a score of users and items, (users, items), in stock."""
    lists = np.empty((len(asked), 10), int)
    for day, rows in asked.groupby("day").indices.items():
        part = asked.iloc[rows]
        value = np.where(made.stock[day], score[part["user"]], -np.inf)
        pages = part["seed_item"].to_numpy()
        value[np.flatnonzero(pages >= 0), pages[pages >= 0]] = -np.inf
        lists[rows] = np.argsort(-value, axis=1, kind="stable")[:, :10]
    return lists


@cache
def fitting(seed: int, which: str = "half") -> np.ndarray:
    """Lists by what fits each user on average: good ones, which only the truth could make."""
    made = {"half": half, "world": world}[which](seed)
    users, items = np.arange(made.shop.users), np.arange(made.shop.items)
    odds = made.truth.log_odds(users, np.tile(items, (len(users), 1)), 28, memory=False)
    return by_score(made, contexts(made, DAYS), odds)


@cache
def table() -> pd.DataFrame:
    return judge_table(world(), {"fitting": fitting(1, "world")}, DAYS)


def model_of(made: World, off: float = 0.0) -> judges.Model:
    """Return a model that knows the truth of users, but is off by a factor."""

    def expects(rows: pd.DataFrame) -> np.ndarray:
        user, item = rows["user"].to_numpy(), rows["item"].to_numpy()
        return (1 + off) * made.truth.appeal(user, item, 28, memory=False)

    return expects


# The chance ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 6))
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
    count = np.bincount(made.shown["item"][made.shown["random"]], minlength=400)
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
    made = half(1)
    asked = contexts(made, DAYS)
    rows = judges._impressions(made, asked)
    drawn = rows[rows["random"]]
    look = made.truth.examined
    right = slice_of(rows, fitting(1), look)
    assert np.allclose(right.chance, drawn["chance"])
    with pytest.raises(ValueError, match="which is 1 for right chances"):
        slice_of(rows, fitting(1), look, chance=np.minimum(factor * drawn["chance"], 1))


def test_a_judge_with_a_wrong_chance_misses_the_truth():
    """Planted: the chance among half of the items. The right one covers, the wrong one does not."""
    covered = {1.0: 0, 1.4: 0}
    for seed in range(1, 6):
        made = half(seed)
        asked = contexts(made, DAYS)
        rows = judges._impressions(made, asked)
        truth = true_clicks(made, asked, fitting(seed)).value
        for factor in covered:
            drawn = rows.loc[rows["random"], "chance"] * factor
            part = slice_of(rows, fitting(seed), made.truth.examined, chance=drawn)
            found = ips(*part[1:], part.rows["user"])
            covered[factor] += 10 * found.low < truth < 10 * found.high
    assert covered[1.0] >= 4
    assert covered[1.4] <= 2


# Each judge against the truth ---------------------------------------------------------


def test_judges_of_the_slice_are_right_on_average():
    """Over five shops with half of the lists random, for a good and for a plain candidate."""
    errors = {"ips": [], "snips": [], "dr": []}
    for seed in range(1, 6):
        made = half(seed)
        asked = contexts(made, DAYS)
        rows = judges._impressions(made, asked)
        for lists in (fitting(seed), controls(made, asked)["bestsellers"]):
            truth = true_clicks(made, asked, lists).value
            part = slice_of(rows, lists, made.truth.examined)
            user = part.rows["user"].to_numpy()
            found = {"ips": ips(*part[1:], user), "snips": snips(*part[1:], user)}
            found = {name: judges._times(value, 10) for name, value in found.items()}
            model = model_of(made, off=0.3)
            found["dr"] = judges.doubly_robust(part, asked, lists, made.truth.examined, model)
            for name, value in found.items():
                errors[name].append((value.value - truth) / value.se)
    for name, z in errors.items():
        assert abs(np.mean(z)) < 1.1, name
        assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.7, name


def test_a_good_model_lowers_the_error_and_a_cut_leaves_the_models():
    made = half(1)
    asked = contexts(made, DAYS)
    rows = judges._impressions(made, asked)
    look, lists = made.truth.examined, fitting(1)
    truth = true_clicks(made, asked, lists).value
    part = slice_of(rows, lists, look)
    whole = judges.doubly_robust(part, asked, lists, look, model_of(made))
    cut = judges.doubly_robust(part, asked, lists, look, model_of(made), most=4.0)
    bad = judges.doubly_robust(part, asked, lists, look, model_of(made, off=1.0), most=4.0)
    plain = judges._times(ips(*part[1:], part.rows["user"]), 10)
    assert whole.se < plain.se
    assert cut.se < 0.5 * whole.se
    assert abs(whole.value - truth) < 3 * whole.se
    assert bad.value > truth + 4 * bad.se


def test_the_test_of_half_of_the_users_finds_the_truth():
    z = []
    for seed in range(1, 6):
        made = world(seed)
        asked = contexts(made, DAYS)
        lists = fitting(seed, "world")
        counted = asked[~asked["random"]]
        truth = true_clicks(made, counted, lists[~asked["random"]]).value
        found = ab_test(made, asked, lists)
        z.append((found.value.value - truth) / found.value.se)
        assert found.effect.p < 0.001
        assert found.effect.effect > 0
        assert 0.8 < found.users["treatment"] / found.users["control"] < 1.25
    assert np.abs(z).max() < 3.5


def test_a_test_of_the_shops_own_lists_shows_what_was_logged():
    """The same lists with the same luck: the clicks of the log, to the last one."""
    made = world()
    asked = contexts(made, [30])
    logged = judges._impressions(made, asked)
    lists = logged["item"].to_numpy().reshape(-1, 10)
    clicks = judges._outcome(made, asked, lists)
    assert np.array_equal(clicks, logged.groupby("row")["clicked"].sum())


# Logged clicks mislead ----------------------------------------------------------------


def test_logged_recall_prefers_what_the_shop_showed():
    wide = table().pivot(index="candidate", columns="judge", values="value")
    assert wide.loc["bestsellers", "recall"] > wide.loc["fitting", "recall"]
    assert wide.loc["bestsellers", "ndcg"] > wide.loc["fitting", "ndcg"]
    assert wide.loc["fitting", "truth"] > 1.5 * wide.loc["bestsellers", "truth"]
    assert wide.loc["fitting", "weighted recall"] > wide.loc["bestsellers", "weighted recall"]
    assert wide.loc["random list", "truth"] < wide.loc["bestsellers", "truth"]


def test_verdicts_name_and_price_each_judge():
    found = verdicts(table(), always="random list")
    assert found.loc["truth", "named"] == "fitting"
    assert found.loc["truth", "loss"] == 0
    assert found.loc["recall", "named"] == "bestsellers"
    assert not found.loc["recall", "right"]
    assert found.loc["always random list", "loss"] == found["loss"].max() > 0.3
    assert found.loc["ab", "right"]
    with pytest.raises(ValueError, match="needs the truth"):
        verdicts(table(), always="nobody")


def test_the_table_has_a_row_for_each_candidate_and_judge():
    found = table()
    assert len(found) == 3 * len(JUDGES)
    assert not found.duplicated(["candidate", "judge"]).any()
    assert found[["value", "se", "low", "high"]].notna().all().all()
    logged = found[found["judge"].isin(["recall", "ndcg", "weighted recall"])]
    assert logged["value"].between(0, 1).all()
    few = judge_table(world(), {}, [40], judges=["recall", "truth"])
    assert {*few["candidate"]} == {"bestsellers", "random list"}


def test_recall_and_ndcg_of_a_known_list():
    clicks = pd.DataFrame({"row": [0, 0, 1], "item": [5, 7, 9], "user": [1, 1, 2]})
    lists = np.array([[5, 1, 2, 3, 4, 6, 8, 10, 11, 12], [1, 9, 2, 3, 4, 5, 6, 7, 8, 10]])
    assert judges.recall(clicks, lists).value == pytest.approx(2 / 3)
    first = 1 / (1 + 1 / np.log2(3))
    assert judges.ndcg(clicks, lists).value == pytest.approx((first + 1 / np.log2(3)) / 2)
    share = np.full(13, 0.5)
    share[7] = 0.1
    weighted = judges.weighted_recall(clicks, lists, share).value
    assert weighted == pytest.approx((2 + 2) / (2 + 10 + 2))


def test_errors_are_over_users():
    """Every user twice as often is no news: the error stays."""
    made = world()
    asked = contexts(made, DAYS)
    lists = controls(made, asked)["bestsellers"]
    once = true_clicks(made, asked, lists)
    twice = true_clicks(made, pd.concat([asked, asked]), np.concatenate([lists, lists]))
    assert twice.se == pytest.approx(once.se)


# Bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda lists, made, asked: lists[:-1], "a row for each"),
        (lambda lists, made, asked: lists + 0.5, "float64"),
        (lambda lists, made, asked: lists + 9_999, "numbered from 0"),
        (lambda lists, made, asked: np.repeat(lists[:, :5], 2, axis=1), "twice in a list"),
        (lambda lists, made, asked: lists * 0 + np.flatnonzero(~made.stock[28])[:10], "sold out"),
    ],
)
def test_lists_that_may_not_be_judged_are_refused(fault, says):
    made = world()
    asked = contexts(made, [28])
    good = controls(made, asked)["bestsellers"]
    assert np.array_equal(lists_of(made, lambda rows: good, asked), good)
    with pytest.raises(ValueError, match=says):
        lists_of(made, fault(good, made, asked), asked)


def test_the_pages_own_item_is_refused():
    made = world()
    asked = contexts(made, [28])
    lists = controls(made, asked)["bestsellers"].copy()
    pages = asked["seed_item"].to_numpy()
    row = np.flatnonzero((pages >= 0) & made.stock[28][pages])[0]
    assert pages[row] not in lists[row]
    lists[row, 3] = pages[row]
    with pytest.raises(ValueError, match="the page's own"):
        lists_of(made, lists, asked)


def test_days_and_judges_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="days 0 to 41"):
        contexts(world(), [50])
    with pytest.raises(ValueError, match="no judge"):
        judge_table(world(), {}, judges=["oracle"])
    none = simulate(1, shop=replace(HALF, users=200, random_share=0.0))
    rows = judges._impressions(none, contexts(none, [28]))
    with pytest.raises(ValueError, match="no list is random"):
        slice_of(rows, np.zeros((len(rows) // 10, 10), int), none.truth.examined)
