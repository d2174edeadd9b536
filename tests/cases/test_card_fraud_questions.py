"""Exercise 12: what its checks say beyond its slips, and what each question needs.

That each slip gets its own reason, in the worlds of five students, the contract tests.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import (
    exercise_data,
    questions,
    questions_of_evidence,
)
from casebook.cases.card_fraud.world.constants import SEED
from casebook.exercises.code import run
from casebook.exercises.collisions import collisions
from casebook.exercises.grading import BLANK
from casebook.features import card_payments as features

ANSWERS = {number: getattr(questions, f"q{number}") for number in range(1, 8)}


def said(number: int, **changed: object):
    """Return the outcome of a question whose other parts are right."""
    asked = ANSWERS[number]
    answers = {**asked.expected(), **changed}
    return asked.outcome(*(answers.get(name, BLANK) for name in asked.names))


def value(number: int, code: str) -> object:
    """Return what code gives among the names of a question."""
    return run(code, dict(ANSWERS[number].scope()))


# What each question needs.


@pytest.mark.parametrize("number", [1, 4, 7])
def test_no_world_is_drawn_for_a_question_that_needs_none(number, monkeypatch):
    def drawn(*_):
        raise AssertionError("the large world was drawn")

    monkeypatch.setattr(exercise_data, "setting", drawn)
    assert ANSWERS[number].expected(SEED + 1)
    with pytest.raises(AssertionError, match="the large world was drawn"):
        ANSWERS[6].scope(SEED + 1)


# Question 2.


@pytest.mark.parametrize("name", ["repaired_under", "repaired_smote"])
@pytest.mark.parametrize("digits", [3, 4])
def test_rounded_probabilities_are_told_so(name, digits):
    rounded = ANSWERS[2].expected()[name].round(digits)
    assert "rounded too much" in said(2, **{name: rounded}).message


# Question 3.


@pytest.mark.parametrize("code", ["S / (S + missed)", "100 * k / (100 * k + missed)"])
def test_both_estimates_of_the_recall_are_right(code):
    assert said(3, recall=value(3, code)).status == "right"


def test_the_wide_interval_belongs_to_the_weight_of_a_hundred_alone():
    wide = value(3, "(R_100 - wide(R_100), R_100 + wide(R_100))")
    assert said(3, recall=value(3, "R_100"), interval=wide).status == "right"
    outcome = said(3, interval=value(3, "(R - wide(R), R + wide(R))"))
    assert "wider than the evidence" in outcome.message


def test_the_numbers_of_the_success_line_agree():
    message = said(3).message
    stopped, missed, recall = (value(3, name) for name in ("S", "missed", "R"))
    assert f"about {stopped:,.0f} were fraud, and {missed:,} frauds were missed" in message
    assert f"recall {stopped / (stopped + missed):.1%}," in message
    assert recall == stopped / (stopped + missed)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """The narrow interval over 4,000 draws of the hold-back; the same without √ covers less."""
    truth = exercise_data.quarter(truth=True)
    blocked, fraud = truth["advised"] == "block", truth["fraud"] == 1
    stopped, missed = int((blocked & fraud).sum()), int((~blocked & fraud).sum())
    rng = np.random.default_rng(0)
    k = rng.binomial(stopped, exercise_data.HELD, 4_000)
    n = k + rng.binomial(int(blocked.sum()) - stopped, exercise_data.HELD, 4_000)
    recall = blocked.sum() * k / n / (blocked.sum() * k / n + missed)
    half = 1.96 * recall * (1 - recall) * np.sqrt((1 - k / n) / k)
    off = np.abs(recall - stopped / (stopped + missed))
    assert 0.93 < np.mean(off < half) < 0.97
    assert np.mean(off < 0.7 * half) < 0.9


# Question 4.


@pytest.mark.parametrize("leaks", [pd.Series([1.0, 2.0]), 3])
def test_what_leaks_is_one_name(leaks):
    message = said(4, leaks=leaks).message
    assert '"terminal_fraud_rate_7d"' in message and "a set of names" not in message


def test_the_names_to_choose_from_are_those_that_are_proposed():
    assert list(value(4, "proposed")) == list(questions_of_evidence.PROPOSED)


@pytest.mark.parametrize("seed", [SEED, 4])
def test_the_right_answer_is_the_stores(seed):
    events, known, world = exercise_data.small(seed)
    store = features.batch(events, world.terminals, world.customers, known)["terminal_risk_7d"]
    right = ANSWERS[4].expected(seed)["repaired"]
    np.testing.assert_allclose(right, store, rtol=1e-6)
    if seed == SEED:
        assert said(4, repaired=store).status == "right"


EDGES = {"risk(low=1)", "risk(high=1)", "risk(by_now='<')"}


def test_without_the_added_rows_the_edges_could_not_be_told(monkeypatch):
    monkeypatch.setattr(exercise_data, "_with_edges", lambda events, known: (events, known))
    exercise_data.small.__wrapped__.cache_clear()
    asked = questions.q4
    monkeypatch.setattr(asked, "_scopes", {})
    try:
        same = {c.codes[1] for c in collisions(asked, SEED) if c.codes[0] == "risk()"}
    finally:
        exercise_data.small.__wrapped__.cache_clear()
    assert same >= EDGES


def test_an_array_is_as_good_as_a_series():
    assert said(4, repaired=np.asarray(ANSWERS[4].expected()["repaired"])).status == "right"
    right = ANSWERS[2].expected()
    arrays = {name: np.asarray(right[name]) for name in ("repaired_under", "repaired_smote")}
    assert said(2, **arrays).status == "right"


# Question 5.


def test_a_price_just_below_the_right_one_is_told_with_enough_digits():
    right = ANSWERS[5].expected()["price"]
    below = right - 2e-5
    message = said(5, price=below).message
    assert "above the guardrail" in message
    shown = float(message.split("At ")[1].split(" euro")[0])
    assert value(5, f"friction({shown})") > 0.01 >= value(5, f"friction({right})")


def test_a_price_that_weighs_payments_as_the_chapter_does_has_its_own_reason():
    price = value(5, "weighed()")
    message = said(5, price=price, extra=value(5, "bill(weighed()) - bill(0)")).message
    assert "weighed by 1 − p" in message and "`extra` follows from your `price`" in message
    assert "weighed by 1 − p" in said(5, price=np.ceil(100 * price) / 100).message


# Question 6.


def test_labels_of_a_day_later_have_the_reason_of_those_of_some_hours_later():
    late = value(6, "ap(part(known_on(85), 14, 63))")
    assert "the first moment of day 84" in said(6, ap_then=late).message


def test_the_verdict_on_days_or_labels_is_left_open_where_hours_move_more():
    larger = ANSWERS[6].scope()["larger"]
    assert "Six hours more of labels move it by +0.020" in larger(-0.034, -0.018, 0.020)
    assert "Six hours" not in larger(-0.26, -0.03, 0.0)
    assert "these weeks do not settle" in said(6, highest="random").message


def test_the_order_of_the_training_rows_does_not_matter():
    part = value(6, "part(today, 14, 63)")
    mixed = value(6, "ap(part(today, 14, 63).sample(frac=1, random_state=1))")
    assert mixed == said_ap(part)
    assert said_ap(part.head(40_000)) != mixed


def said_ap(training: pd.Series) -> float:
    return ANSWERS[6].scope()["ap"](training)


def test_labels_by_position_are_refused():
    training = value(6, "part(today, 14, 63)")
    with pytest.raises(ValueError, match="by transaction, as `today` is"):
        exercise_data.average_precision(training.reset_index(drop=True), training)
    with pytest.raises(TypeError, match=r"`test` should be a Series .* it is a str"):
        exercise_data.average_precision(training, "today")


# Question 7.


@pytest.mark.parametrize(
    ("days", "reasons"),
    [
        (2**2 * 0.24 / 0.0025 / 31.104, ("2 for 1.96", "a recall of one half")),
        (1.96**2 * 0.24 / 0.01 / 31.104, ("ten points", "at the peak all day")),
    ],
)
def test_mistakes_that_give_the_same_days_are_both_named(days, reasons):
    message = said(7, days=days).message
    assert message.count("Either: ") == 1 and all(reason in message for reason in reasons)


def test_each_student_has_numbers_of_machines_that_tell_the_mistakes_apart():
    assert len({ANSWERS[7].expected(seed)["machines"] for seed in range(1, 8)}) > 2
    for seed in range(1, 8):
        scope = ANSWERS[7].scope(seed)
        counts = [scope["needed"], scope["needed"] + 1, *scope["confused"].values()]
        assert len(set(counts)) == len(counts)
