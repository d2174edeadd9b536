"""Exercise 07: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exercise_kit import chapters_world  # noqa: F401

from casebook.cases.subscription_churn import exercise_data, questions
from casebook.evaluate.uplift import radcliffe
from casebook.exercises.collisions import collisions

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
    changes, history = exercise_data.changes(seed), exercise_data.history(seed)
    first, last = exercise_data.NIGHT - exercise_data.WINDOW, exercise_data.NIGHT
    assert {first, first + 1, last} <= set(changes["recorded"])
    assert (
        changes["booked"] == changes["recorded"] // exercise_data.MONTH * exercise_data.MONTH
    ).all()
    assert changes["subscriber"].duplicated().any()
    stayed = ~history["called"] & (history["left"] - history["night"] > exercise_data.MONTH)
    last_day = ~history["called"] & (history["left"] - history["night"] == exercise_data.MONTH)
    assert stayed.any() and last_day.any() and (history["night"] + exercise_data.MONTH == 140).any()


@pytest.mark.parametrize("seed", [2026, *range(12)])
def test_the_highest_risk_is_not_worth_a_call_and_sleepers_are_harmed(seed):
    groups = exercise_data.groups(seed)
    worth = groups["effect"] * groups["value"] - exercise_data.COST
    assert worth[groups["risk"].idxmax()] < 0 > worth["asleep"]
    assert groups["size"][worth > 0].sum() > exercise_data.CALLS


def test_the_curve_in_the_question_is_the_toolboxs():
    trial = exercise_data.trial(5)
    curve = radcliffe(trial["score"], trial["cancelled"], trial["drawn"])["prevented"]
    rows = trial.sort_values("score", ascending=False)
    mine = exercise_data.in_order(rows)
    both = (rows["drawn"].cumsum() > 0) & ((~rows["drawn"]).cumsum() > 0)
    assert np.allclose(curve[both.to_numpy()], mine[both.to_numpy()])


@pytest.mark.parametrize("seed", [2026, *range(8)])
def test_the_usual_mistake_is_told_apart_by_far(seed):
    of_rows = questions.q1.scope(seed)["of_rows"]
    right, sums = (q.expected(seed) for q in (questions.q1, questions.q3))
    assert abs((of_rows("booked") - of_rows("recorded")) / right["too_good"] - 1) > 0.03
    assert sums["naive"] < 0 < sums["prevented"] < 0.9 * sums["normalised"]


def test_a_total_of_the_readers_own_calls_follows_from_them():
    groups, q5 = exercise_data.groups(2026), replace(questions.q5, _tried=set(), _opened=[])
    worth = groups["effect"] * groups["value"] - exercise_data.COST
    by_effect = exercise_data.called_first(groups, groups["effect"])
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
    found = q6.outcome(usable, lambda rows, today: made(exercise_data.learn(rows, today)))
    assert (found.status, told in found.message) == (status, True)
    assert len(found.hints) == (status == "wrong" and change != "without labels")
