"""A hold-out tells what a list was worth, later, and a drift of the risk from one of the effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from casebook.evaluate.holdback import Listed, months_to_see, read, table, verdict

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
