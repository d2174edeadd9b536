"""Exercise 18: what every student's world promises, edges, and what near answers are told."""

from __future__ import annotations

import numpy as np
import pytest
from exercise_kit import chapters_world  # noqa: F401

from casebook.cases.knowledge_assistant import exercise_data as data
from casebook.cases.knowledge_assistant import questions
from casebook.exercises.grading import BLANK

STUDENTS = [questions.SEED, *range(12)]


@pytest.fixture(params=STUDENTS)
def student(request, monkeypatch):
    """Each of some students, one after the other."""
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(request.param))
    return request.param


def told(question, **answers):
    """Return what is found and said of some parts, the others answered as the course does."""
    right = question.expected()
    given = {name: answers.get(name, value) for name, value in right.items()}
    outcome = question.outcome(*given.values(), BLANK)
    return outcome.status, outcome.message


def refused(question, says: str, **answers) -> None:
    """Assert that an answer is refused for a reason."""
    status, message = told(question, **answers)
    assert status == "wrong" and says in message, message


def test_what_is_not_given_is_named():
    with pytest.raises(KeyError, match="'audits': give one of timings, requests, audit"):
        questions.given("audits")


def test_question_1_asks_for_weights_and_for_the_walk(student):
    scope, right = questions.q1.scope(), questions.q1.expected()
    found = scope["timings"]["graph_recall"].where(scope["seen"] >= right["crossover"], 1.0)
    assert told(questions.q1)[0] == "right"
    refused(questions.q1, "different shares of users", routed_recall=found.mean())
    refused(questions.q1, "Here everybody multiplies", routed_recall=1.0)
    refused(questions.q1, "one visible passage in a hundred", nothing_left=0.99**50)
    refused(questions.q1, "between 0 and 1", nothing_left=100 * right["nothing_left"])
    refused(questions.q1, "a smaller number", crossover=right["crossover"] * 1.001)


def test_what_follows_from_another_crossover_is_said_to_follow(student):
    """The crossover of who asks for speed alone, and the router that has it."""
    scope = questions.q1.scope()
    table, early = scope["timings"], scope["seen"][scope["swift"]].min()
    walks = scope["seen"] >= early
    spent = np.average(table["graph_ms"].where(walks, table["pre_ms"]), weights=table["users"])
    message = told(questions.q1, crossover=early, routed_ms=spent)[1]
    assert "`routed_ms` follows from your `crossover`" in message


def test_question_2_has_answers_of_exactly_900_seconds(student):
    table = data.requests(student)
    assert (np.diff(table["at"]) >= 20).all() and (table["at"] % 20 == 0).all()
    late = [data.leaked(table, data.ASKED, data.TTL + 1), data.served(table, data.RIGHTS, 901)]
    refused(questions.q2, "At 900 seconds exactly", leaks=len(late[0]))
    refused(questions.q2, "At 900 seconds exactly", hits_by_rights=late[1]["hit"].mean())
    by_all = data.served(table, data.ALL)["hit"].mean()
    refused(questions.q2, "need not be in the key", hits_by_rights=by_all)
    right = questions.q2.expected()["leaks"]
    refused(questions.q2, f"{right + 40} are too many", leaks=right + 40)


def test_question_3_tells_the_bound_of_the_weeks_that_are_given(student):
    right = questions.q3.expected()["weeks_needed"]
    audit = data.audit(student)
    exact = 3 / audit["target"] / audit["each"]
    assert 0.03 < exact % 1 < 0.99
    refused(questions.q3, "by whole weeks", weeks_needed=exact)
    refused(questions.q3, "just above the target", weeks_needed=right - 1)
    refused(questions.q3, f"above the target of {audit['target']:g}", weeks_needed=right - 3)
    refused(questions.q3, "but it was there before", weeks_needed=right + 1)


def test_question_4_counts_copied_groups_alone(student):
    copies, right = data.copies(student), questions.q4.expected()
    cached = right["still_in"] + copies["changes"] * copies["cache"] / 60 / 24
    refused(questions.q4, "This adds the cache", still_in=cached)
    refused(questions.q4, "stored turns", still_in=copies["changes"] * copies["turns"])


def test_question_5_tells_values_from_documents_and_from_rumours(student):
    table = data.statements(student)
    firm = table[~table["rumour"]]
    refused(questions.q5, "say the same", contested=(firm.groupby("fact").size() > 1).sum())
    for own, says in ((table, "A rumour is the last to take effect"), (firm, "other documents")):
        saved, since = (own.sort_values(by, kind="stable").groupby("fact").tail(1) for by in DATES)
        saved, since = (one.reset_index().set_index("fact") for one in (saved, since))
        what = "value" if own is table else "index"
        differ = (saved[what] != since[what].reindex(saved.index)).sum()
        refused(questions.q5, says, saved_again=differ)
    refused(questions.q5, "Give the number", contested=questions.q5.expected()["contested"] / 40)


DATES = ("saved", "since")


@pytest.mark.parametrize("grid", [np.arange(0, 1, 0.05), np.arange(20) * 0.05, np.arange(20) / 20])
def test_question_6_accepts_every_way_to_write_the_thresholds(student, grid):
    """.85 is 0.8500000000000001 in two of the three grids."""
    answers, price = data.answers(student), data.costs(student)
    tried = [data.cost(answers[answers["split"] == "validation"], price, one) for one in grid]
    chosen = grid[int(np.argmin(tried))]
    minutes = data.cost(answers[answers["split"] == "test"], price, chosen)
    strict = data.cost(answers[answers["split"] == "test"], price, np.nextafter(chosen, 1))
    assert minutes == strict
    assert told(questions.q6, threshold=chosen, minutes=minutes)[0] == "right"


def test_question_6_names_the_questions_that_were_left_out(student):
    answers, price = data.answers(student), data.costs(student)
    chosen = questions.q6.expected()["threshold"]
    given = answers[(answers["split"] == "test") & (answers["sure"] >= chosen)]
    answered = np.where(given["right"], price["right"], price["wrong"]).mean()
    refused(questions.q6, "The others cost, too", minutes=answered)
    refused(questions.q6, "both splits together", minutes=data.cost(answers, price, chosen))
