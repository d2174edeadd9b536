"""Guardrails as tests of non-inferiority."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.experiments import effect_of
from casebook.evaluate.guardrails import guard


@pytest.mark.parametrize(
    ("better", "change", "state"),
    [
        ("down", 0.0, "safe"),
        ("down", 0.045, "unclear"),
        ("down", 0.2, "harmed"),
        ("up", -0.2, "harmed"),
    ],
)
def test_a_guardrail_is_safe_only_if_harm_beyond_its_margin_is_excluded(better, change, state):
    found = guard("x", effect_of(1.0, 0.01, 1.0 + change, 0.01), better, 0.05)
    assert found.state == state
    assert found.worst == pytest.approx(
        abs(change) + 1.645 * np.hypot(0.01 * (1 + change), 0.01), abs=1e-3
    )


def test_a_guardrail_says_how_many_users_would_settle_it():
    found = guard("x", effect_of(1.0, 0.005, 1.0218, 0.005), "down", 0.03)
    assert found.state == "unclear"
    assert found.needed > 1  # what is unclear is never settled by fewer users
    rng, se = np.random.default_rng(0), found.needed**-0.5 * np.hypot(0.005, 0.005 * 1.0218)
    seen = rng.normal(0.0218, se, 20_000)  # tests of that size, if the harm is the one we saw
    assert (seen + 1.645 * se < 0.03).mean() == pytest.approx(0.80, abs=0.02)
    beyond = guard("x", effect_of(1.0, 0.005, 1.031, 0.005), "down", 0.03)
    assert beyond.state == "unclear"
    assert beyond.needed == np.inf


def test_several_looks_ask_for_more():
    seen = effect_of(1.0, 0.01, 1.02, 0.01)
    assert guard("x", seen, "down", 0.05).state == "safe"
    often = guard("x", seen, "down", 0.05, errors=2.8)
    assert (often.state, often.worst > 0.05) == ("unclear", True)
