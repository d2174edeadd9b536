"""Exercise 00: a world for each student, and what a check says of near and of edited answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.how_a_case_works import questions
from casebook.cases.how_a_case_works.world import SEED, simulate
from casebook.data import snapshot

STUDENT = 11


@pytest.fixture(autouse=True)
def chapters_world(monkeypatch):
    monkeypatch.delenv("CASEBOOK_STUDENT_SEED", raising=False)


def test_without_a_seed_the_world_is_the_chapters():
    observed, campaigns = questions.world()
    assert_frame_equal(observed, snapshot(questions.CASE, "observed.parquet"))
    assert_frame_equal(campaigns, snapshot(questions.CASE, "campaigns.parquet"))


def test_a_students_world_is_drawn_by_the_seed(monkeypatch):
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(STUDENT))
    observed, campaigns = questions.world()
    assert_frame_equal(observed, simulate(STUDENT).observed)
    assert_frame_equal(campaigns, simulate(STUDENT).campaigns)
    assert not observed["y"].equals(questions.world(SEED)[0]["y"])
    right, chapters = (questions.q1.expected(seed)["pooled_wape"] for seed in (None, SEED))
    assert abs(right / chapters - 1) > 0.01
    assert questions.q1.outcome(right, ...).status == "right"
    assert questions.q1.outcome(chapters, ...).status == "wrong"


@pytest.mark.parametrize("answer", ["0.17", [0.17], None, 0.17, float("nan")])
def test_a_form_or_a_rounding_costs_no_hint(answer):
    fresh = replace(questions.q1, _tried=set(), _opened=[])
    outcome = fresh.outcome(answer, ...)
    assert (outcome.status, outcome.hints) == ("wrong", ())


def test_the_leak_is_learned_one_feature_at_a_time():
    outcome = questions.q2.outcome({"lag_1", "campaign"})
    assert outcome.message.startswith("`campaign` is no leak.")
    assert outcome.message.endswith("And that is not all that is to be mended in your set.")


def test_counting_each_worker_once_is_as_good_a_reading():
    best = questions.q3.scope()["best"](questions.q3.scope()["past"], 0.75)
    assert questions.q3.outcome(best).status == "right"
