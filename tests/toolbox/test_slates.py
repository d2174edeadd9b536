"""Lists judged by logged clicks and by a random slice, against a truth that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.slates import (
    by_chance,
    fit_appeal,
    logged_ndcg,
    logged_recall,
    look_curve,
    mean_over,
    places,
    random_slice,
    slate_value,
    verdicts,
)

ITEMS, SLOTS = 40, 5
LOOK = 0.8 ** np.arange(SLOTS)
APPEAL = np.linspace(0.02, 0.4, ITEMS)
CANDIDATE = np.array([39, 30, 20, 35, 10])
TRUTH = float(APPEAL[CANDIDATE] @ LOOK)


def drawn(seed: int, n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Return random slates and the clicks on them."""
    rng = np.random.default_rng(seed)
    shown = rng.random((n, ITEMS)).argsort(axis=1)[:, :SLOTS]
    return shown, rng.random(shown.shape) < LOOK * APPEAL[shown]


def slice_of(shown: np.ndarray, factor: float = 1.0):
    lists = np.tile(CANDIDATE, (len(shown), 1))
    return random_slice(shown, lists, LOOK, np.full(len(shown), factor / ITEMS))


@pytest.mark.parametrize("how", ["ips", "snips", "dr"])
def test_estimates_are_right_and_their_intervals_cover(how):
    z = []
    for seed in range(40):
        shown, clicked = drawn(seed, 1_500)
        model = {"expected": 0.7 * APPEAL[shown], "named": 0.7 * APPEAL[[CANDIDATE] * len(shown)]}
        found = slate_value(slice_of(shown), clicked, how, **(model if how == "dr" else {}))
        z.append((found.value - TRUTH) / found.se)
    assert abs(np.mean(z)) < 0.5
    assert 0.75 < np.std(z) < 1.3


def test_items_tell_in_whatever_slot_they_were():
    """Counting matches in the same slot alone has far the larger error."""
    shown, clicked = drawn(1)
    whole = slate_value(slice_of(shown), clicked, "ips")
    same = (shown == CANDIDATE) * ITEMS * clicked
    alone = same.sum(axis=1)
    assert alone.mean() == pytest.approx(TRUTH, abs=4 * alone.std() / np.sqrt(len(alone)))
    assert whole.se < 0.7 * alone.std() / np.sqrt(len(alone))


def test_a_model_lowers_the_error_and_a_cut_leaves_its_bias():
    shown, clicked = drawn(2)
    named = np.tile(2 * APPEAL[CANDIDATE], (len(shown), 1))
    wrong = {"expected": 2 * APPEAL[shown], "named": named}
    right = {name: value / 2 for name, value in wrong.items()}
    plain = slate_value(slice_of(shown), clicked, "ips")
    assert slate_value(slice_of(shown), clicked, "dr", **right).se < plain.se
    cut = slate_value(slice_of(shown), clicked, "dr", **wrong, most=2.0)
    assert cut.se < 0.7 * plain.se
    assert cut.value > TRUTH + 5 * cut.se


@pytest.mark.parametrize("factor", [SLOTS, 1 / SLOTS], ids=["of the slate", "too low"])
def test_a_wrong_chance_is_stopped(factor):
    shown, _ = drawn(3)
    with pytest.raises(ValueError, match="1 for right chances"):
        slice_of(shown, factor)


def test_a_chance_that_is_off_by_less_misses_the_truth():
    covered = {1.0: 0, 1.35: 0}
    for seed in range(20):
        shown, clicked = drawn(seed, 3_000)
        for factor in covered:
            covered[factor] += slate_value(slice_of(shown, factor), clicked, "ips").covers(TRUTH)
    assert covered[1.0] >= 17
    assert covered[1.35] <= 6


def test_clusters_widen_what_depends_on_each_other():
    shown, clicked = drawn(4, 500)
    thrice = np.repeat(shown, 3, axis=0), np.repeat(clicked, 3, axis=0)
    once = slate_value(slice_of(shown), clicked, "ips")
    own = np.repeat(np.arange(500), 3)
    assert slate_value(slice_of(thrice[0]), thrice[1], "ips", own).se == pytest.approx(once.se)
    assert slate_value(slice_of(thrice[0]), thrice[1], "ips").se < 0.7 * once.se


def test_the_curve_over_slots_is_found_on_random_slates_alone():
    found = [look_curve(drawn(seed)[1])[1] for seed in range(10)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)
    best_first = np.sort(drawn(1)[0], axis=1)[:, ::-1]
    clicked = np.random.default_rng(0).random(best_first.shape) < LOOK * APPEAL[best_first]
    assert look_curve(clicked)[1] < 0.72
    with pytest.raises(ValueError, match="needs 20"):
        look_curve(np.zeros((50, 5)))


def test_chance_is_one_over_what_may_be_drawn():
    """Drawn 40,000 times, each item stands in each slot as often as the logged chance says."""
    stock = np.ones(25, bool)
    stock[[3, 8]] = False
    for seed_item, allowed in ((-1, 23), (5, 22), (3, 23)):
        asked = np.full(40_000, seed_item)
        lists, chance = by_chance(np.random.default_rng(1), stock, asked, 10)
        assert np.allclose(chance, 1 / allowed)
        assert not np.isin(lists, [3, 8, *([seed_item] if seed_item >= 0 else [])]).any()
        for slot in (0, 9):
            count = np.bincount(lists[:, slot], minlength=25)[stock]
            count = count[count > 0]
            z = (count - 40_000 / allowed) / np.sqrt(40_000 / allowed)
            assert len(count) == allowed and np.abs(z).max() < 4.5


def test_verdicts_name_the_highest_and_say_what_is_lost():
    value = {"truth": [1.0, 3.0, 2.0], "recall": [9.0, 1.0, 2.0], "test": [0.5, 2.9, 2.1]}
    rows = [("abc"[i], judge, own[i]) for judge, own in value.items() for i in range(3)]
    table = pd.DataFrame(rows, columns=["candidate", "judge", "value"])
    found = verdicts(table, always=["c"])
    assert found["named"].to_dict() == {"recall": "a", "test": "b", "truth": "b", "always c": "c"}
    assert found["loss"].to_dict() == {"recall": 2, "test": 0, "truth": 0, "always c": 1}
    assert found["right"].tolist() == [judge in ("test", "truth") for judge in found.index]
    for wrong in (table[table["judge"] != "truth"], table[table["candidate"] != "c"]):
        with pytest.raises(ValueError, match="needs the truth"):
            verdicts(wrong, always=["c"])


def test_recall_and_ndcg_by_hand():
    shown, clicked = (
        np.array([[5, 7, 1], [9, 2, 3], [4, 5, 6]]),
        np.array([[1, 1, 0], [1, 0, 0]] * 2),
    )
    clicked, users = clicked[[0, 1, 1]] * [[1], [1], [0]], [1, 2, 3]
    lists = np.array([[5, 0, 2], [1, 9, 2], [4, 5, 6]])
    assert places(shown, lists).tolist() == [[0, -1, -1], [1, 2, -1], [0, 1, 2]]
    assert logged_recall(shown, clicked, lists, users).value == pytest.approx(2 / 3)
    share = np.full(10, 0.5)
    share[7] = 0.1
    weighted = logged_recall(shown, clicked, lists, users, share).value
    assert weighted == pytest.approx((2 + 2) / (2 + 10 + 2))
    third = 1 / np.log2(3)
    assert logged_ndcg(shown, clicked, lists, users).value == pytest.approx(
        (1 / (1 + third) + third) / 2
    )


def test_appeal_is_found_where_looks_multiply_it():
    """Two thirds of the first slots' clicks: looks taken for granted give appeals too low."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30_000, SLOTS, 2))
    appeal = 1 / (1 + np.exp(-(1.5 * x[..., 0] - 0.5)))
    clicked = rng.random(appeal.shape) < LOOK * appeal
    found = fit_appeal(x, clicked, LOOK)
    assert found.slope == pytest.approx([1.5, 0], abs=0.05)
    assert found.level == pytest.approx(-0.5, abs=0.05)
    assert found(x[:2]).shape == (2, SLOTS)
    wrong = fit_appeal(x, clicked, np.ones(SLOTS))
    assert wrong(x).mean() < 0.8 * appeal.mean() < 0.85 * found(x).mean()
    assert abs(fit_appeal(x, clicked, LOOK, 1e6).slope).max() < 0.1


def test_means_over_clusters():
    once = mean_over([1, 0, 1, 1], [1, 2, 3, 4])
    twice = mean_over([1, 0, 1, 1] * 2, [1, 2, 3, 4] * 2)
    assert once.value == twice.value == 0.75
    assert once.se == pytest.approx(twice.se)
    assert mean_over([1, 0], [1, 2], [3, 1]).value == 0.75


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: places([[1, 2]], [[1, 2], [3, 4]]), "a list for each"),
        (lambda: random_slice(np.zeros((0, 5)), np.zeros((0, 5)), LOOK, []), "needs some"),
        (lambda: slate_value(slice_of(drawn(1)[0]), drawn(1)[1], "dm"), "choose ips"),
        (lambda: slate_value(slice_of(drawn(1)[0]), drawn(1)[1], "dr"), "needs expected"),
        (lambda: fit_appeal(np.zeros((4, 3)), np.zeros((4, 3)), LOOK), "for each slot"),
        (lambda: fit_appeal(np.zeros((4, 5, 1)), np.zeros((4, 5)), LOOK), "nothing to learn"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
