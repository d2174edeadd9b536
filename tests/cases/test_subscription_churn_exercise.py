"""Exercise 07: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exercise_kit import chapters_world  # noqa: F401

from casebook.cases.subscription_churn import question_worlds as worlds
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
    assert replace(question, _tried=set()).outcome(*right, *more).status == "right"
    assert not collisions(question, seed)


def test_students_have_other_numbers():
    for question in QUESTIONS[:5]:
        name = question.parts[0].name
        answers = [np.asarray(question.expected(seed)[name], float) for seed in (None, 1, 2)]
        assert not np.allclose(answers[0], answers[1]) or not np.allclose(answers[0], answers[2])


@pytest.mark.parametrize("seed", [2026, *range(12)])
def test_every_edge_that_the_text_states_has_a_row(seed):
    changes, history = worlds.changes(seed), worlds.history(seed)
    first, last = worlds.NIGHT - worlds.WINDOW, worlds.NIGHT
    assert {first, first + 1, last} <= set(changes["recorded"])
    assert (changes["booked"] == changes["recorded"] // worlds.MONTH * worlds.MONTH).all()
    assert changes["subscriber"].duplicated().any()
    stayed = ~history["called"] & (history["left"] - history["night"] > worlds.MONTH)
    last_day = ~history["called"] & (history["left"] - history["night"] == worlds.MONTH)
    assert stayed.any() and last_day.any() and (history["night"] + worlds.MONTH == 140).any()


@pytest.mark.parametrize("seed", [2026, *range(12)])
def test_the_highest_risk_is_not_worth_a_call_and_sleepers_are_harmed(seed):
    groups = worlds.groups(seed)
    worth = groups["effect"] * groups["value"] - worlds.COST
    assert worth[groups["risk"].idxmax()] < 0 > worth["asleep"]
    assert groups["size"][worth > 0].sum() > worlds.CALLS


def test_the_curve_in_the_question_is_the_toolboxs():
    trial = worlds.trial(5)
    curve = radcliffe(trial["score"], trial["cancelled"], trial["drawn"])["prevented"]
    rows = trial.sort_values("score", ascending=False)
    mine = worlds.prevented(rows["drawn"].to_numpy(), rows["cancelled"].to_numpy())
    both = (rows["drawn"].cumsum() > 0) & ((~rows["drawn"]).cumsum() > 0)
    assert np.allclose(curve[both.to_numpy()], mine[both.to_numpy()])
