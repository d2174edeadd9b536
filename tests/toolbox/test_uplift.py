"""Curves of a ranking by effect: by hand, by a trial, and against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.uplift import (
    auuc,
    by_capacity,
    by_decile,
    choose,
    gains,
    ips_scores,
    list_value,
    over_random,
    qini,
    radcliffe,
)


def trial(seed: int, n: int = 2_000):
    """Return a trial: effects that rise with the score, who was drawn, who cancelled, accounts."""
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    effect = 0.4 * (score - 0.3)
    chance = np.where(rng.random(n) < 0.5, 0.5, 0.2)
    drawn = rng.random(n) < chance
    lost = rng.random(n) < 0.4 - effect * drawn
    return score, effect, ips_scores(lost, drawn, chance), rng.integers(n // 4, size=n)


def test_gains_of_four_subscribers():
    effects = np.array([0.4, 0.2, 0.0, -0.2])
    curve = gains(effects, effects, points=4)
    assert curve["gain"].tolist() == pytest.approx([0, 0.1, 0.15, 0.15, 0.1])
    assert auuc(effects, effects, points=4) == pytest.approx(0.1125)
    assert qini(effects, effects) == pytest.approx(1.0)
    assert qini(-effects, effects) == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="equal"):
        qini([1, 2], [0.1, 0.1])


def test_radcliffe_by_hand_and_equal_to_the_gains_where_arms_are_balanced():
    score, drawn = np.arange(6, 0, -1), np.array([True, False, True, False, True, False])
    cancelled = np.array([0, 1, 0, 0, 1, 0], bool)
    curve = radcliffe(score, cancelled, drawn)
    assert curve["prevented"].tolist() == pytest.approx([0, 1, 2, 1, 0.5, 0])
    scores = ips_scores(cancelled, drawn, np.full(6, 0.5))
    pairs = gains(score, scores, points=3)["gain"].to_numpy() * 6 / 2
    assert pairs.tolist() == pytest.approx([0, 1, 1, 0])


def test_the_value_of_a_list_by_hand_counts_each_call_and_each_account():
    """Scores x value less the cost: 0.5 x 100 - 32, 0.2 x 200 - 32, -0.1 x 300 - 32."""
    scores, value = [0.5, 0.2, -0.1, 9.0], [100, 200, 300, 400]
    found = list_value([0, 1, 2], scores, value, 32.0, ["a", "b", "c", "d"])
    assert found.value == pytest.approx(18 + 8 - 62)
    rng = np.random.default_rng(4)
    shared = np.repeat(rng.normal(size=200), 5)  # colleagues share their fate
    whole, split = (
        list_value(np.arange(1_000), shared, np.ones(1_000), 0.0, groups).se
        for groups in (np.arange(1_000) // 5, np.arange(1_000))
    )
    assert whole == pytest.approx(np.sqrt(5) * split, rel=0.05)


def test_value_by_capacity():
    table = by_capacity([3, 1, 2], [100, 10, 50], cost=32, capacities=[0, 1, 2, 3, 9])
    assert table["euro"].tolist() == [0, 68, 86, 64, 64]


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_chance_that_decides_nothing_is_refused(chance):
    with pytest.raises(ValueError, match="possible"):
        ips_scores([0], [True], [chance])


@pytest.mark.parametrize("what", ["list", "area"])
def test_intervals_cover_as_often_as_they_say(what):
    hits = []
    for seed in range(120):
        score, effect, scores, account = trial(seed)
        top = np.flatnonzero(score > 0.6)
        if what == "list":
            found = list_value(top, scores, np.ones(2_000), 0.0, account)
            truth = effect[top].sum()
        else:
            found = over_random(score, scores, account)
            truth = over_random(score, effect, account).value
        hits.append(found.covers(truth))
    assert 0.89 <= np.mean(hits) <= 1.0


def test_the_area_over_a_random_order_is_that_of_the_curve():
    score, effect, _, account = trial(0)
    area = auuc(score, effect, points=2_000) - effect.mean() / 2
    assert over_random(score, effect, account).value == pytest.approx(area, abs=1e-9)


def test_deciles_tell_a_calibrated_effect_from_an_exaggerated_one():
    _, effect, scores, account = trial(3, 40_000)
    table = by_decile(effect, scores, account)
    assert (table["predicted"].diff().dropna() < 0).all() and len(table) == 10
    covered = (table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])
    assert covered.sum() >= 8
    wild = by_decile(3 * effect, scores, account)
    assert wild["effect"].equals(table["effect"])
    off = (wild["low"] > wild["predicted"]) | (wild["predicted"] > wild["high"])
    assert off.sum() >= 5


@pytest.mark.parametrize(
    ("gains", "options", "chosen"),
    [
        ([3, 9, 5], {"capacity": 2}, [1, 2]),
        ([3, -9, 5], {"capacity": 3}, [2, 0]),
        ([3, -9, 5], {"capacity": 3, "least": -np.inf}, [2, 0, 1]),
        ([3, 9, 5], {"capacity": 2, "blocked": [False, True, False]}, [2, 0]),
        ([np.nan, 1, np.inf], {"capacity": 3}, [1]),
        ([5, 5, 5], {"capacity": 2}, [0, 1]),
        ([1, 2], {"capacity": 0}, []),
        ([], {"capacity": 5}, []),
    ],
)
def test_who_is_chosen(gains, options, chosen):
    assert choose(np.array(gains, float), **options).tolist() == chosen


def test_a_choice_with_broken_input_is_refused():
    with pytest.raises(ValueError, match="one each"):
        choose(np.ones(3), 2, blocked=[True])
    with pytest.raises(ValueError, match="negative"):
        choose(np.ones(3), capacity=-1)
