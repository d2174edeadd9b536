"""Tables of written answers, on answers whose shares are counted by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.retrieval.answers import at_coverage, costs, summary

TOPICS = {"q1": "storage", "q2": "none", "q3": "holidays"}
RATES = {"core_hour": 0.05, "million_in": 1.0, "million_out": 4.0}


def _row(question, verdict, after, **more):
    row = {"id": question, "model": "small", "prompt": "p/1", "faults": "", "answerable": True}
    row |= {"claims": 2, "supported": 1, "citations": 1, "citations_right": 1, "useful": 1}
    row |= {"invented": 0}
    row |= {"verdict": verdict, "after": after, "let_through": after == "correct"}
    return row | {"prompt_tokens": 200, "completion_tokens": 50, "seconds": 3.6} | more


ROWS = pd.DataFrame(
    [
        _row("q1", "correct", "correct", supported=2, useful=1),
        _row("q2", "wrong", "missing", invented=2, citations=0, citations_right=0, useful=0),
        _row("q3", "missing", "missing", claims=0, supported=0, useful=0, faults="was cut off"),
    ]
)


def test_a_summary_has_an_interval_for_each_share():
    table = summary(ROWS, TOPICS).set_index("what")
    shares = {
        "answers": 2 / 3,
        "claims supported": 3 / 4,
        "relevant source": 1.0,
        "citation backs a claim": 1 / 2,
        "a number invented": 1 / 2,
        "cut off or repeating": 1 / 3,
        "let through": 1 / 2,
        "wrong": 1 / 3,
        "wrong, after the check": 0.0,
        "correct less wrong": 0.0,
        "answerable: correct": 1 / 3,
        "correct less wrong, after the check": 1 / 3,
    }
    assert table["value"][list(shares)].to_dict() == pytest.approx(shares)
    assert table["of"][["answers", "claims supported", "a number invented"]].to_list() == [3, 4, 2]
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_silence_is_right_only_where_nothing_can_be_answered():
    rows = ROWS.assign(answerable=[False, True, True])
    table = summary(rows, TOPICS).set_index("what")["value"]
    assert (table["correct"], table["answerable: correct"]) == (pytest.approx(1 / 3), 0)


def test_a_share_of_nothing_is_missing():
    table = summary(ROWS.assign(citations=0, citations_right=0), TOPICS).set_index("what")
    assert table.loc["relevant source", ["value", "low"]].isna().all()
    nothing = ROWS.assign(citations=0, citations_right=0, answerable=False)
    found = at_coverage(nothing, {"q1": 0.9}, TOPICS, (0.1, 1.0))
    assert found["questions"].to_list() == [0, 3]
    assert found[["relevant_source", "correct"]].isna().all(axis=None)


def test_a_question_without_a_topic_is_its_own():
    own = {question: question for question in ROWS["id"]}
    pd.testing.assert_frame_equal(summary(ROWS, {}), summary(ROWS, own))
    pd.testing.assert_frame_equal(summary(ROWS, {"q1": "q1"}), summary(ROWS, own))


def test_precision_at_a_coverage_takes_the_surest_questions():
    sure = {"q1": 0.9, "q2": 0.5, "q3": 0.1}
    rows = ROWS.assign(citations=1, citations_right=[1, 0, 0], answerable=[True, False, True])
    found = at_coverage(rows, sure, TOPICS, (2 / 3, 1.0))
    assert found["questions"].to_list() == [2, 3]
    assert found["relevant_source"].to_list() == pytest.approx([1 / 2, 1 / 3])
    assert found["correct"].to_list() == pytest.approx([1.0, 1 / 2])
    assert (found["correct_low"] <= found["correct"]).all()


def test_time_and_tokens_have_a_price():
    own = costs(ROWS, **RATES, on_own_machine=["small"]).iloc[0]
    assert own["euro_per_thousand"] == pytest.approx(0.05)
    assert (own["p50"], own["p95"], own["tokens_in"], own["tokens_out"]) == (3.6, 3.6, 200, 50)
    hosted = costs(ROWS, **RATES, on_own_machine=[]).iloc[0]
    assert hosted["euro_per_thousand"] == pytest.approx(0.4)
