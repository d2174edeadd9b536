"""A hold-out tells what a list was worth, later, and a drift of the risk from one of the effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from casebook.evaluate.holdback import (
    Listed,
    chosen_and_held,
    held_out,
    months_to_see,
    read,
    table,
    verdict,
)

MONTH = 28


def readings(months: int, risk: float = 1.0, effect: float = 1.0, seed: int = 0, n: int = 4_000):
    """Return the readings of months in which risk and effect are some times the predicted ones."""
    rng, found = np.random.default_rng(seed), []
    for month in range(months):
        expected = rng.uniform(0.05, 0.2, n)
        saves = 0.4 * expected
        held = rng.random(n) < 0.2
        chance = risk * expected - np.where(held, 0, effect * saves)
        cancelled = rng.random(n) < chance
        night = MONTH * month
        found.append(read(Listed(night, held, expected, saves), cancelled, night + MONTH))
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "nothing"),
        ({"risk": 1.6, "effect": 1.6}, "risk"),
        ({"effect": -0.5}, "effect"),
        ({"risk": 1.8, "effect": -1.0}, "risk and effect"),
    ],
)
def test_a_drift_of_the_risk_is_told_from_a_drift_of_the_effect(change, says):
    said = [verdict(readings(3, seed=seed, **change)) for seed in range(20)]
    assert said.count(says) >= 17, said


def test_false_alarms_are_rare():
    said = [verdict(readings(3, seed=100 + seed)) for seed in range(300)]
    assert np.mean([s != "nothing" for s in said]) < 0.03


def test_all_months_are_added_up_and_divided_by_the_root_of_their_number():
    (one,) = readings(1)
    for z, months, says in ((2.0, 3, "risk"), (2.0, 2, "nothing"), (1.0, 12, "risk")):
        assert verdict([replace(one, risk_z=z, effect_z=0.0)] * months) == says


def test_precision_is_known_four_weeks_later_and_not_before():
    listed = Listed(0, np.array([True, True, False, False]), np.full(4, 0.5), np.full(4, 0.1))
    found = read(listed, [True, False, False, False], MONTH)
    assert found.precision.mean == 0.5 and found.called.mean == 0 and found.effect == 0.5
    with pytest.raises(ValueError, match="day 28, not on day 27"):
        read(listed, [True, False, False, False], MONTH - 1)
    nobody = Listed(0, np.zeros(4, bool), np.full(4, 0.5), np.full(4, 0.1))
    with pytest.raises(ValueError, match="nothing to compare"):
        read(nobody, [True, False, False, False], MONTH)
    shown = table([found])
    assert shown.loc[0, "prevented"] == 50 and shown.loc[0, "low"] < 50 < shown.loc[0, "high"]
    assert verdict([]) == verdict([found]) == "not enough"


@pytest.mark.parametrize(("n", "share"), [(200, 0.05), (400, 0.05), (4_000, 0.05)])
def test_a_small_hold_out_says_so_and_alarms_falsely_less_than_once_in_a_hundred(n, share):
    rng, said = np.random.default_rng(5), []
    for _ in range(400):
        found = []
        for month in range(3):
            held = np.arange(n) < share * n
            lost = rng.random(n) < np.where(held, 0.09, 0.06)
            listed = Listed(MONTH * month, held, np.full(n, 0.09), np.full(n, 0.03))
            found.append(read(listed, lost, MONTH * (month + 1)))
        said += [verdict(found[:1]), verdict(found)]
    assert np.mean([s not in ("nothing", "not enough") for s in said]) < 0.01
    assert ("nothing" in said) == (n == 4_000) and "not enough" in said


def test_what_cannot_be_read_is_refused():
    held, told = np.arange(4_000) < 200, np.full(4_000, 0.09)
    with pytest.raises(ValueError, match="losses have not been loaded"):
        read(Listed(0, held, told, told / 3), np.zeros(4_000, bool), MONTH)
    spoilt = np.where(np.arange(4_000) == 7, np.nan, told)
    for risk, effect in ((spoilt, told), (told, spoilt)):
        with pytest.raises(ValueError, match="is no number"):
            read(Listed(0, held, risk, effect), held, MONTH)


def test_a_larger_hold_out_sees_sooner():
    months = [months_to_see(0.12, 0.04, 0.5, 4_000, share) for share in (0.05, 0.1, 0.2)]
    assert months == sorted(months, reverse=True) and months[0] > 2 * months[-1]


# The prediction's own error --------------------------------------------------------------


def with_a_wrong_factor(seed: int, error: float, told: float, lost: float = 0.0):
    """Return six months whose predictions share an error; some of the effect may be lost."""
    rng, found, n = np.random.default_rng(seed), [], 4_000
    factor = 1 + error * rng.standard_normal()
    held = np.arange(n) % 5 == 0
    for month in range(6):
        gone = rng.random(n) < np.where(held, 0.12, 0.12 - 0.06 * (1 - lost))
        predicted = np.full(n, 0.12), np.full(n, 0.06 * factor)
        listed = Listed(MONTH * month, held, *predicted, error=told)
        found.append(read(listed, gone, MONTH * (month + 1)))
    return found


def test_a_verdict_that_knows_the_error_of_its_prediction_raises_no_false_alarm():
    said = {
        told: [verdict(with_a_wrong_factor(seed, 0.3, told)) for seed in range(60)]
        for told in (0.0, 0.3)
    }
    assert np.mean([s == "effect" for s in said[0.0]]) > 0.15
    assert np.mean([s == "effect" for s in said[0.3]]) < 0.05


def test_what_is_left_of_the_error_decides_what_can_be_seen():
    seen = {
        error: [verdict(with_a_wrong_factor(s, error, error, lost=0.8)) for s in range(30)]
        for error in (0.0, 0.1, 0.4)
    }
    shares = {error: np.mean([s == "effect" for s in said]) for error, said in seen.items()}
    assert shares[0.0] > 0.9 and shares[0.1] > 0.8 and shares[0.4] < 0.2
    assert months_to_see(0.12, 0.06, 0.8, 4_000, 0.2, error=0.4) == np.inf
    assert months_to_see(0.12, 0.06, 0.8, 4_000, 0.2, error=0.1) <= 6


@pytest.mark.parametrize("error", [np.nan, np.inf, -0.1])
def test_an_error_that_is_none_is_refused(error):
    held, told = np.arange(4_000) < 200, np.full(4_000, 0.09)
    with pytest.raises(ValueError, match="or its error, is no number"):
        read(Listed(0, held, told, told / 3, error), held, MONTH)


# Who is held out -------------------------------------------------------------------------


def test_the_hold_out_is_the_same_all_month_and_another_one_next_month():
    rows = np.arange(20_000)
    first = held_out(rows, 5, 0.1)
    assert np.array_equal(first, held_out(rows[::-1], 5, 0.1)[::-1])
    assert (first & held_out(rows, 6, 0.1)).mean() == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_cannot_be_held_out_is_refused(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        held_out(np.arange(3), 0, share)


def test_the_held_out_are_those_who_rank_among_the_chosen():
    gains = np.array([9.0, 8.0, 7.0, 6.0, 5.0, -1.0])
    held = np.array([False, True, False, True, False, False])
    off = np.array([True, False, False, False, False, False])
    chosen, peers = chosen_and_held(gains, off, held, capacity=2)
    assert chosen.tolist() == [2, 4] and peers.tolist() == [1, 3]
    chosen, peers = chosen_and_held(gains, off, held, capacity=1)
    assert chosen.tolist() == [2] and peers.tolist() == [1]
    nobody = chosen_and_held(gains, np.ones(6, bool), held, capacity=2)
    assert [len(part) for part in nobody] == [0, 0]
