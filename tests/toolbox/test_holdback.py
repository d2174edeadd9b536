"""A hold-out tells what a list was worth, later, and a drift of the risk from one of the effect."""

from __future__ import annotations

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
    expected = {says, "risk and effect"} if says == "risk" else {says}
    assert sum(s in expected for s in said) >= 17, said


def test_false_alarms_are_rare():
    said = [verdict(readings(3, seed=100 + seed)) for seed in range(300)]
    assert np.mean([s != "nothing" for s in said]) < 0.03


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
    assert verdict([]) == "nothing"


def test_a_larger_hold_out_sees_sooner():
    months = [months_to_see(0.12, 0.04, 0.5, 4_000, share) for share in (0.05, 0.1, 0.2)]
    assert months == sorted(months, reverse=True) and months[0] > 2 * months[-1]
