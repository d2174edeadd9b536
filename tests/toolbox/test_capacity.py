"""What a team can do and what an action costs; terms that no team can have are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from casebook.evaluate.capacity import Terms

TEAM = Terms()


def test_capacity_and_costs():
    assert (TEAM.daily, TEAM.capacity, TEAM.cost) == (200, 4_000, 32.0)
    assert Terms(days=30).capacity == 6_000
    assert TEAM.break_even(3_200, saved=0.2) == pytest.approx(0.05)


@pytest.mark.parametrize("wrong", [{"hourly": np.nan}, {"people": -1}, {"calls_a_day": 0}])
def test_terms_that_no_team_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="cannot have these terms"):
        replace(TEAM, **wrong)
