"""Toolbox, two towers: what is trained on, by hand. Training itself runs with the artifacts."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.towers import Settings, latest, steps


def test_steps_and_latest_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    user, item = rng.integers(8, size=120), rng.integers(40, size=120)
    before, taken = steps(user, item, many=4)
    expected = []
    for who in range(8):
        own = item[user == who].tolist()
        for place in range(1, len(own)):
            past = own[max(place - 4, 0) : place][::-1]
            expected.append((past + [-1] * (4 - len(past)), own[place]))
    assert [(row.tolist(), one) for row, one in zip(before, taken, strict=True)] == expected
    last = latest(user, item, users=9, many=3)
    for who in range(9):
        own = item[user == who].tolist()[-3:][::-1]
        assert last[who].tolist() == own + [-1] * (3 - len(own))


def test_nothing_was_taken_twice_and_nothing_is_left():
    before, taken = steps(np.array([0, 1, 2]), np.array([5, 6, 7]), many=3)
    assert before.shape == (0, 3) and taken.shape == (0,)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"epochs": 0}, {"rate": 0.0}, {"cold": -0.1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="1 at least"):
        Settings(**wrong)
