"""Case 20: what repeats do to a provider in trouble."""

from __future__ import annotations

import pytest

from casebook.cases.llm_gateway.storm import ARMS, Arm, attempts, in_trouble


@pytest.fixture(scope="module")
def found():
    return {(name, at): attempts(arm, at) for name, arm in ARMS.items() for at in (0.0, 70.0)}


def test_repeats_multiply_what_reaches_a_provider_and_a_budget_bounds_it(found):
    down = {name: in_trouble(found[name, 0.0])["asked"] for name in ARMS}
    assert down["three repeats"] == pytest.approx(4.0, rel=0.02)
    assert down["budget"] == pytest.approx(1.1, rel=0.02)
    assert down["budget, breaker"] < 0.05, "an open breaker lets single probes through"


def test_repeats_open_the_breaker_of_a_provider_that_answers_most(found):
    """The budget keeps failures below the half at which the breaker opens."""
    answered = {name: in_trouble(found[name, 70.0])["answered"] for name in ARMS}
    assert answered["budget, breaker"] == pytest.approx(0.7, rel=0.02)
    assert answered["three repeats, breaker"] < 0.4
    asked = {name: in_trouble(found[name, 70.0])["asked"] for name in ARMS}
    assert asked["three repeats"] > 2.2 and asked["budget, breaker"] < 1.15


def test_a_provider_that_is_well_is_asked_once(found):
    for made in found.values():
        assert (made.iloc[:10] == 100).all(axis=None) and (made.iloc[40:] == 100).all(axis=None)


def test_nobody_repeats_without_repeats():
    assert in_trouble(attempts(Arm(0), 0.0))["asked"] == pytest.approx(1.0, rel=0.02)
