"""Exercise 07: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from casebook.cases.subscription_churn import questions
from casebook.exercises.asked import collisions

QUESTIONS = [getattr(questions, f"q{k}") for k in range(1, 7)]


@pytest.fixture(autouse=True)
def chapters_world(monkeypatch):
    monkeypatch.delenv("CASEBOOK_STUDENT_SEED", raising=False)


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 11, 77, 123])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"q{q.number}")
def test_right_is_right_and_mistakes_are_apart(question, seed, monkeypatch):
    if seed is not None:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    right = [question.expected(seed)[part.name] for part in question.parts]
    more = [...] if question.prediction else []
    assert replace(question, _tried=set()).outcome(*right, *more).status == "right"
    assert not collisions(question, seed)


def test_students_have_other_numbers():
    for question in QUESTIONS[:5]:
        name = question.parts[0].name
        answers = [np.asarray(question.expected(seed)[name], float) for seed in (None, 1, 2)]
        assert not np.allclose(answers[0], answers[1]) or not np.allclose(answers[0], answers[2])


def test_the_curve_in_the_question_is_the_chapters():
    from casebook.cases.subscription_churn.evaluation import radcliffe

    trial = questions.trial(5)
    curve = radcliffe(trial["score"], trial["cancelled"], trial["drawn"])["prevented"]
    rows = trial.sort_values("score", ascending=False)
    mine = questions.prevented(rows["drawn"].to_numpy(), rows["cancelled"].to_numpy())
    both = (rows["drawn"].cumsum() > 0) & ((~rows["drawn"]).cumsum() > 0)
    assert np.allclose(curve[both.to_numpy()], mine[both.to_numpy()])
