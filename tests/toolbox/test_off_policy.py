"""What another policy would have earned: by hand, over many logs, and where the log is silent."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from casebook.evaluate import effects, holdback, off_policy, uplift
from casebook.evaluate.off_policy import (
    clustered,
    dr,
    effective_size,
    ips,
    last_places_by_chance,
    snips,
    weights,
)
from casebook.features import mood

ACTIONS = 3


def log(seed: int, n: int = 600, shared: float = 0.5):
    """Draw a log of three actions in clusters of three rows, and what a target would do.

    Returns reward, chances of the logged action under log and target, a poor model's values, the
    clusters, and the true value of the target.
    """
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.normal(0, shared, n // 3), 3)
    x = rng.random(n)
    logits = np.column_stack([x, 1 - x, np.full(n, 0.5)])
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    action = (rng.random(n)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
    mean = np.column_stack([x, 2 * x, 1 - x])
    reward = mean[np.arange(n), action] + level + rng.normal(0, 0.5, n)
    target = np.zeros((n, ACTIONS))
    target[np.arange(n), (x > 0.5).astype(int)] = 1.0
    model = mean + 0.3
    rows = np.arange(n)
    return {
        "rewards": reward,
        "logged": chance[rows, action],
        "target": target[rows, action],
        "expected": model[rows, action],
        "under_target": (target * model).sum(axis=1),
        "clusters": np.repeat(np.arange(n // 3), 3),
    }, 0.125 + 0.75  # E[x; x < .5] + E[2x; x > .5]


ESTIMATORS = {
    "ips": lambda row: ips(row["rewards"], row["logged"], row["target"], row["clusters"]),
    "snips": lambda row: snips(row["rewards"], row["logged"], row["target"], row["clusters"]),
    "dr": lambda row: dr(**row),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_value_is_found_and_its_interval_covers(name):
    found = [(ESTIMATORS[name](row), truth) for row, truth in (log(seed) for seed in range(200))]
    values = np.array([estimate.value for estimate, _ in found])
    truth = found[0][1]
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / np.sqrt(200))
    assert np.mean([estimate.se for estimate, _ in found]) == pytest.approx(values.std(), rel=0.12)
    assert 0.91 <= np.mean([estimate.covers(truth) for estimate, _ in found]) <= 0.99


def test_rows_of_one_cluster_taken_for_independent_make_too_narrow_an_interval():
    row, _ = log(0, shared=3.0)
    alone = ips(row["rewards"], row["logged"], row["target"])
    assert alone.se < 0.9 * ESTIMATORS["ips"](row).se


def test_a_model_narrows_and_a_constant_does_not_bias():
    row, truth = log(1)
    assert dr(**row).se < ESTIMATORS["ips"](row).se
    wild = row | {"expected": row["expected"] * 0 + 9, "under_target": row["under_target"] * 0 + 9}
    assert abs(dr(**wild).value - truth) < 4 * dr(**wild).se
    zero = row | {"expected": np.zeros(600), "under_target": np.zeros(600)}
    assert dr(**zero).value == pytest.approx(ESTIMATORS["ips"](row).value)
    shifted = row | {"rewards": row["rewards"] + 100}
    assert ESTIMATORS["snips"](shifted).value == pytest.approx(ESTIMATORS["snips"](row).value + 100)


def test_weights_by_hand():
    assert weights([0.5, 0.25], [1.0, 0.5]).tolist() == [2, 2]
    assert weights([0.5, 0.01], [1.0, 1.0], most=10).tolist() == [2, 10]
    assert effective_size(np.ones(7)) == 7
    assert ips([1.0, 0.0], [0.01, 0.5], [1.0, 1.0], most=10).value == 5


@pytest.mark.parametrize(
    ("logged", "target", "says"),
    [
        ([0.5, 0.0], [1, 1], "had a chance"),
        ([0.5, np.nan], [1, 1], "had a chance"),
        ([0.5, 1.2], [1, 1], "had a chance"),
        ([0.5, 0.5], [1, -0.1], "within 0 and 1"),
        ([0.5, 0.5], [0, 0], "says nothing"),
        ([0.5, 0.5], [1], "one for each row"),
    ],
)
def test_chances_that_cannot_be_are_refused(logged, target, says):
    with pytest.raises(ValueError, match=says):
        weights(logged, target)


def test_a_list_by_scores_is_the_difference_of_two_policies():
    """Calling a list less calling nobody: the same by a policy's value and by effect scores."""
    rng = np.random.default_rng(2)
    n = 400
    chance, lost = rng.uniform(0.2, 0.6, n), rng.random(n) < 0.3
    drawn, value = rng.random(n) < chance, rng.uniform(1, 5, n)
    listed = np.zeros(n, bool)
    listed[:80] = True
    rewards = -value * lost - 0.4 * drawn
    logged = np.where(drawn, chance, 1 - chance)
    by_list = ips(rewards, logged, drawn == listed).value
    by_nobody = ips(rewards, logged, ~drawn).value
    scores = uplift.ips_scores(lost, drawn, chance)
    found = uplift.list_value(np.flatnonzero(listed), scores, value, 0.0, np.arange(n))
    cost = 0.4 * (drawn / chance)[listed].sum()
    assert n * (by_list - by_nobody) == pytest.approx(found.value - cost)


def test_an_interval_needs_two_clusters():
    with pytest.raises(ValueError, match="clusters"):
        clustered([1.0, 2.0], [7, 7])


@pytest.mark.parametrize(("share", "sure"), [(0.25, 150), (0.0, 200), (1.0, 0)])
def test_the_last_places_are_filled_by_chance(share, sure):
    gains = np.linspace(1, 0, 1_000)
    chosen, chance = last_places_by_chance(gains, share, 200, np.random.default_rng(0))
    places = 200 - sure
    assert (chance == 1).sum() == sure and chosen[:sure].all()
    assert ((chance > 0) & (chance < 1)).sum() == 4 * places
    assert chance.sum() == pytest.approx(200) and abs(chosen.sum() - 200) < 50
    if not places:
        assert set(np.flatnonzero(chosen)) == set(uplift.choose(gains, 200))
    few, _ = last_places_by_chance([3.0, 2.0], 0.5, 4, np.random.default_rng(0))
    assert few.all()


@pytest.mark.parametrize("module", [effects, holdback, mood, off_policy, uplift])
def test_the_examples_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
