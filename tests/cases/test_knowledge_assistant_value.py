"""The reckoning by hand, its ranges, and what fifty ratings show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.knowledge_assistant.value import (
    INPUTS,
    OUTCOMES,
    USUAL,
    Shares,
    costs,
    reckoned,
    sensitivity,
    threshold,
    together,
)

GOOD = Shares(0.6, 0.02, 0.38)


def test_one_setting_by_hand():
    told = reckoned(GOOD, USUAL)
    hand = 6 + 0.3 * 10 + 0.03 * 30
    with_it = 0.7 + 0.5 + 0.6 * 0.1 * 6 + 0.38 * hand + 0.02 * 30
    assert told["by hand"] == pytest.approx(hand) and told["with it"] == pytest.approx(with_it)
    euro = 50_000 * 0.5 * 220 * (hand - with_it) * 50 / 60 - 900_000
    assert told["euro a year"] == pytest.approx(euro)
    assert told["roi"] == pytest.approx((euro + 900_000 - 2_400_000) / 2_400_000)
    assert told["months"] == pytest.approx(12 * 1_500_000 / euro)


def test_at_the_break_even_nothing_is_saved():
    even = reckoned(GOOD, USUAL)["break-even wrong"]
    moved = Shares(GOOD.right - (even - GOOD.wrong), even, GOOD.unknown)
    told = reckoned(moved, USUAL)
    assert told["by hand"] == pytest.approx(told["with it"])
    assert told["euro a year"] == pytest.approx(-900_000) and told["months"] == np.inf


def test_quotations_cost_their_reading_and_save_the_search():
    shares = Shares(0.2, 0.02, 0.08, found=0.4, misled=0.1, vain=0.2)
    told = reckoned(shares, USUAL)
    assert told["with it"] == pytest.approx(
        0.2 * 1.8 + 0.02 * 31.2 + 0.08 * 11.1 + 0.4 * 4.68 + 0.1 * 28.68 + 0.2 * 12.6
    )
    assert told["with it"] < told["by hand"] < reckoned(Shares(0, 0, 0, vain=1), USUAL)["with it"]


def test_an_assistant_that_never_knows_costs_time():
    told = reckoned(Shares(0, 0, 1), USUAL)
    assert told["with it"] == pytest.approx(told["by hand"] + 1.2)


def test_inputs_and_shares_are_checked():
    with pytest.raises(ValueError, match="working days"):
        reckoned(GOOD, {name: v for name, v in USUAL.items() if name != "working days"})
    for shares in ((0.5, 0.5, 0.5), (1.1, -0.1, 0)):
        with pytest.raises(ValueError, match="1 in all"):
            Shares(*shares)
    for low_to_high in INPUTS.values():
        value, low, high = low_to_high
        assert low <= value <= high


def test_sensitivity_orders_by_span_and_says_what_flips():
    table = sensitivity(GOOD).set_index("input")
    assert table["span"].is_monotonic_decreasing and len(table) == len(INPUTS)
    row = table.loc["minutes to search by hand"]
    assert row["at_low"] < reckoned(GOOD, USUAL)["euro a year"] < row["at_high"]
    usual = reckoned(GOOD, USUAL)["euro a year"]
    assert table["flips"].equals((table["at_low"] * usual < 0) | (table["at_high"] * usual < 0))


def test_drawn_together_the_uncertainty_of_the_shares_counts():
    one = pd.DataFrame([[0.6, 0.02, 0.38]], columns=["right", "wrong", "unknown"])
    two = pd.DataFrame([[0.7, 0.0, 0.3], [0.5, 0.04, 0.46]], columns=one.columns)
    first, again = together(one, draws=500), together(one, draws=500)
    assert first.equals(again)
    assert together(two, draws=500)["euro a year"].std() > first["euro a year"].std()


def test_an_answer_costs_what_the_minutes_cost():
    told, hand = costs(), 6 + 0.3 * 10 + 0.03 * 30
    minutes = {"right": 1.2, "wrong": 31.2, "unknown": 1.2 + hand, "found": 2.7 + 0.2 * hand}
    minutes |= {"misled": 2.7 + 0.8 * 30 + 0.2 * hand, "vain": 2.7 + hand}
    assert set(minutes) == set(OUTCOMES)
    assert told == pytest.approx({name: value * 50 / 60 for name, value in minutes.items()})
    # An answer with this chance of being right costs as much as none.
    sure = threshold()
    assert sure * told["right"] + (1 - sure) * told["wrong"] == pytest.approx(told["unknown"])
    assert sure == pytest.approx(20.1 / 30)
