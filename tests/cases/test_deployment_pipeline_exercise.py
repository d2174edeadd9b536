"""Exercise 21: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from exercise_kit import chapters_world, message  # noqa: F401
from scipy import stats

from casebook.cases.deployment_pipeline import exercise_data as data
from casebook.cases.deployment_pipeline import questions
from casebook.cases.deployment_pipeline.world import SEED
from casebook.exercises.collisions import collisions

QUESTIONS = [getattr(questions, f"q{k}") for k in range(1, 6)]
WORLDS = [SEED, *range(5)]


def fresh(question):
    """Return a question that nobody has tried."""
    return replace(question, _tried=set(), _opened=[])


@cache
def expected(number, seed):
    """Return the right answers of a question in the world of a seed."""
    return QUESTIONS[number - 1].expected(seed)


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 11, 77])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"q{q.number}")
def test_right_is_right_and_mistakes_are_apart(question, seed, monkeypatch):
    if seed is not None:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    question = fresh(question)
    right = [question.expected()[part.name] for part in question.parts]
    assert question.outcome(*right, ...).status == "right"
    assert not collisions(question)


@pytest.mark.parametrize("number", range(1, 6))
def test_students_have_other_numbers(number):
    name = {1: "typical", 2: "per_arm", 3: "drift", 4: "longest", 5: "seen"}[number]
    answers = [np.asarray(expected(number, seed)[name], float) for seed in (SEED, 1, 2)]
    assert not np.allclose(answers[0], answers[1]) and not np.allclose(answers[1], answers[2])


@pytest.mark.parametrize("seed", WORLDS)
def test_the_rule_flags_small_groups_and_overlooks_the_one_that_moved(seed):
    found, sizes = expected(1, seed), data.groups(seed)["group"].value_counts()
    [moved] = found["moved"]
    assert sizes[moved] >= 4_000 and sizes[[*found["flagged"]]].max() < 110
    assert found["flagged"] and moved not in found["flagged"]


def test_the_typical_index_is_the_mean_of_drawn_ones():
    rng = np.random.default_rng(0)
    drawn = [data.psi(rng.normal(size=3_000), rng.normal(size=300)) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(9 * (1 / 3_000 + 1 / 300), rel=0.08)


@pytest.mark.parametrize("seed", WORLDS)
def test_half_an_hour_is_too_short_for_every_students_canary(seed):
    found = expected(2, seed)
    assert 0.3 < found["chance"] < 0.75 and found["minutes"] > 30
    assert 0.5 * found["per_arm"] < found["canary"] < found["per_arm"]


def test_the_sizes_that_the_text_reckons_by_hand():
    assert data.size_of(0.1, 0.2, 0.5) == pytest.approx(155, abs=1)
    assert data.size_of(0.1, 0.2, 0.1) == pytest.approx(105, abs=1)


@pytest.mark.parametrize("seed", WORLDS)
def test_one_stream_is_retrained_one_repaired_and_the_largest_drift_left_alone(seed):
    kinds, found = data.streams(seed).attrs["kinds"], expected(3, seed)
    assert [kinds[name] for name in found["retrain"]] == ["fraud"]
    assert [kinds[name] for name in found["repair"]] == ["cents"]
    drift = found["drift"].rename(kinds)
    assert drift["customers"] > 0.1 > 0.03 > drift["fraud"]
    assert found["surplus"].rename(kinds)["cents"] < -5


@pytest.mark.parametrize("seed", WORLDS)
def test_no_controller_is_in_time_and_few_pods_from_the_start_suffice(seed):
    found, load = expected(4, seed), data.load(seed)
    assert found["longest"] > 2 and found["by_requests"] < found["longest"]
    assert found["least"] in (5, 6) and data.scaled(load, "none", pods=4)[1] > 2


def test_the_step_that_the_text_makes_by_hand():
    assert data.scaled(pd.Series({0: 230.0}), "none")[1] == 1.5
    assert data.scaled(pd.Series({0: 230.0, 10: 10.0}))[0] == 0


@pytest.mark.parametrize("seed", WORLDS)
def test_the_candidate_is_better_on_average_and_harms_the_islands(seed):
    found = expected(5, seed)
    assert found["seen"] < 2 * found["fair"] < 0 and found["fair"] < found["upper"] < 0
    assert (found["worst"], found["verdict"]) == ("islands", "keep")


@pytest.mark.parametrize("seed", WORLDS)
def test_an_interval_that_takes_rows_for_independent_is_told_so(seed, monkeypatch):
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    table, right = data.judged(seed), dict(expected(5, seed))
    own = (table["candidate"] - table["champion"])[table["day"] > data.TRAINED]
    for points in (stats.norm.ppf(0.95), stats.t.ppf(0.95, 13)):
        right["upper"] = own.mean() + points * stats.sem(own)
        said = message(fresh(questions.q5), *right.values(), ...)
        assert "1,680 rows, taken for independent" in said


def test_what_follows_from_a_wrong_canary_is_told_so():
    right = expected(2, SEED)
    wrong = {**right, "canary": right["per_arm"]}
    wrong["minutes"] = right["minutes"] * right["per_arm"] / right["canary"]
    said = message(fresh(questions.q2), *wrong.values(), ...)
    assert "arm of equal size" in said and "`minutes` follows from your `canary`" in said


@pytest.mark.parametrize(
    ("number", "change", "told"),
    [
        (1, {"typical": lambda right: 100 * right}, "In per cent it is right"),
        (3, {"surplus": lambda right: 1.5 * right}, "standard|are not"),
        (4, {"least": lambda right: 4}, "Four pods can do 200"),
        (5, {"verdict": lambda right: "promote"}, "would pay"),
        (5, {"worst": lambda right: "south"}, "mean difference is"),
    ],
)
def test_a_mistake_is_told_its_reason(number, change, told):
    right = dict(expected(number, SEED))
    for name, made in change.items():
        right[name] = made(right[name])
    said = message(fresh(QUESTIONS[number - 1]), *right.values(), ...)
    assert any(piece in said for piece in told.split("|"))


def test_a_poisson_variance_and_other_bins_are_right_too():
    right = dict(expected(3, SEED))
    right["surplus"] = data.doubt(data.streams(SEED), poisson=True)
    assert fresh(questions.q3).outcome(*right.values(), ...).status == "right"


@pytest.mark.parametrize("answer", [None, "A and B", {"Z"}, 3])
def test_a_set_in_another_form_costs_no_hint(answer):
    right = {**expected(3, SEED), "retrain": answer}
    found = fresh(questions.q3).outcome(*right.values(), ...)
    assert found.status != "right" and found.hints == ()
