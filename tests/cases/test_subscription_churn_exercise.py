"""Exercise 07: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exercise_kit import chapters_world  # noqa: F401

from casebook.cases.subscription_churn import questions
from casebook.evaluate.uplift import radcliffe
from casebook.exercises.asked import collisions

QUESTIONS = [getattr(questions, f"q{k}") for k in range(1, 7)]


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 11, 77, 123])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"q{q.number}")
def test_right_is_right_and_mistakes_are_apart(question, seed, monkeypatch):
    if seed is not None:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    right = [question.expected(seed)[part.name] for part in question.parts]
    more = [...] if question.prediction else []
    assert replace(question, _tried=set(), _opened=[]).outcome(*right, *more).status == "right"
    assert not collisions(question, seed)


def test_students_have_other_numbers():
    for question in QUESTIONS[:5]:
        name = question.parts[0].name
        answers = [np.asarray(question.expected(seed)[name], float) for seed in (None, 1, 2)]
        assert not np.allclose(answers[0], answers[1]) or not np.allclose(answers[0], answers[2])


@pytest.mark.parametrize("seed", [2026, *range(12)])
def test_every_edge_that_the_text_states_has_a_row(seed):
    changes, history = questions.changes(seed), questions.history(seed)
    first, last = questions.NIGHT - questions.WINDOW, questions.NIGHT
    assert {first, first + 1, last} <= set(changes["recorded"])
    assert (changes["booked"] == changes["recorded"] // questions.MONTH * questions.MONTH).all()
    assert changes["subscriber"].duplicated().any()
    stayed = ~history["called"] & (history["left"] - history["night"] > questions.MONTH)
    last_day = ~history["called"] & (history["left"] - history["night"] == questions.MONTH)
    assert stayed.any() and last_day.any() and (history["night"] + questions.MONTH == 140).any()


@pytest.mark.parametrize("seed", [2026, *range(12)])
def test_the_highest_risk_is_not_worth_a_call_and_sleepers_are_harmed(seed):
    groups = questions.groups(seed)
    worth = groups["effect"] * groups["value"] - questions.COST
    assert worth[groups["risk"].idxmax()] < 0 > worth["asleep"]
    assert groups["size"][worth > 0].sum() > questions.CALLS


def test_the_curve_in_the_question_is_the_toolboxs():
    trial = questions.trial(5)
    curve = radcliffe(trial["score"], trial["cancelled"], trial["drawn"])["prevented"]
    rows = trial.sort_values("score", ascending=False)
    mine = questions.in_order(rows)
    both = (rows["drawn"].cumsum() > 0) & ((~rows["drawn"]).cumsum() > 0)
    assert np.allclose(curve[both.to_numpy()], mine[both.to_numpy()])


@pytest.mark.parametrize("seed", [2026, *range(8)])
def test_the_usual_mistake_is_told_apart_by_far(seed):
    of_rows = questions.q1.scope(seed)["of_rows"]
    right, sums = (q.expected(seed) for q in (questions.q1, questions.q3))
    assert abs((of_rows("booked") - of_rows("recorded")) / right["too_good"] - 1) > 0.03
    assert sums["naive"] < 0 < sums["prevented"] < 0.9 * sums["normalised"]


def test_a_total_of_the_readers_own_calls_follows_from_them():
    groups, q5 = questions.groups(2026), replace(questions.q5, _tried=set(), _opened=[])
    worth = groups["effect"] * groups["value"] - questions.COST
    by_effect = questions.called_first(groups, groups["effect"])
    message = q5.outcome(by_effect, (by_effect * worth).sum(), ..., ...).message
    assert "`euro` follows from your `calls`" in message


_ROWS = {
    "in another order": (lambda labels: labels[::-1], "right", ""),
    "as objects": (lambda labels: labels.astype(object), "right", ""),
    "numbered anew": (lambda labels: labels.reset_index(drop=True), "wrong", "lost their rows"),
    "beside other rows": (lambda labels: labels.set_axis(labels.index[::-1]), "wrong", "of row"),
    "without labels": (lambda labels: labels.to_numpy(), "wrong", "a Series with its index"),
    "with one too few": (lambda labels: labels.iloc[1:], "wrong", "Your rows are [1,"),
}


@pytest.mark.parametrize("change", _ROWS)
def test_labels_belong_to_their_rows(change):
    made, status, told = _ROWS[change]
    q6 = replace(questions.q6, _tried=set(), _opened=[])
    usable = q6.expected(2026)["usable"]
    found = q6.outcome(usable, lambda rows, today: made(questions.learn(rows, today)))
    assert (found.status, told in found.message) == (status, True)
    assert len(found.hints) == (status == "wrong" and change != "without labels")
