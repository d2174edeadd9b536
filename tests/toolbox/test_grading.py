"""Questions: three outcomes, hints for different wrong answers, and nbgrader."""

from __future__ import annotations

import json
import linecache
import os
import re
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from casebook import project
from casebook.exercises import grading
from casebook.exercises.grading import (
    BLANK,
    OUTCOME_MIME,
    NotRight,
    Question,
    Wrong,
    WrongAnswer,
    close,
    number,
)

HINTS = ("Think.", "Divide.", "It is 0.25.")
WRONG_ANSWERS = (WrongAnswer("x = 1", "too large"), WrongAnswer("x = 0", "too small"))


def judge_share(answer):
    value = number(answer, "share")
    if close(value, 0.25):
        return "A quarter of the trips."
    raise Wrong("too large" if value > 0.25 else "too small")


def reject(*answers):
    raise Wrong("no")


def question(judge=judge_share, **changes) -> Question:
    given = {"hints": HINTS, "wrong_answers": WRONG_ANSWERS, **changes}
    return Question(3, "`share`, a number", judge, **given)


def hints_after(*answers) -> int:
    """Return the open hints after wrong answers were given in turn."""
    asked = question(reject)
    return [len(asked.outcome(answer).hints) for answer in answers][-1]


@pytest.fixture
def interactive(monkeypatch):
    monkeypatch.setattr(grading, "_GRADED", False)


@pytest.fixture
def graded(monkeypatch):
    monkeypatch.setattr(grading, "_GRADED", True)


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (BLANK, "not attempted", "asks for `share`, a number"),
        (0.9, "wrong", "too large"),
        (0.1, "wrong", "too small"),
        (0.2501, "right", "A quarter of the trips."),
    ],
)
def test_a_check_has_three_outcomes(answer, status, message):
    outcome = question().outcome(answer)
    assert outcome.status == status
    assert message in outcome.message


def test_an_answer_with_one_part_missing_is_not_attempted():
    assert question(reject).outcome(0.3, BLANK).status == "not attempted"


def test_each_different_wrong_answer_unlocks_one_more_hint():
    asked = question()
    opened = [asked.outcome(answer).hints for answer in (0.9, 0.8, 0.1, 0.7)]
    assert opened == [HINTS[:1], HINTS[:2], HINTS, HINTS]


def test_the_same_wrong_answer_unlocks_nothing_more():
    assert hints_after(0.9, 0.9, 0.9) == 1
    assert hints_after(0.9, 0.8, 0.9) == 2


def test_what_was_not_attempted_unlocks_nothing():
    asked = question()
    assert asked.outcome(BLANK).hints == ()
    assert len(asked.outcome(0.9).hints) == 1


def test_a_right_answer_shows_no_hints():
    asked = question()
    asked.outcome(0.9)
    assert asked.outcome(0.25).hints == ()


EIGHTH_DIGIT = {
    "float": lambda x: x,
    "numpy float": np.float64,
    "list": lambda x: [x, 2.0],
    "dict": lambda x: {"share": x},
    "array": lambda x: np.array([x, 2.0]),
    "series": lambda x: pd.Series([x, 2.0]),
    "frame": lambda x: pd.DataFrame({"share": [x, 2.0], "name": ["a", "b"]}),
}


@pytest.mark.parametrize("kind", EIGHTH_DIGIT)
def test_answers_that_differ_in_the_eighth_digit_are_the_same(kind):
    make = EIGHTH_DIGIT[kind]
    assert hints_after(make(0.9), make(0.9 + 1e-8)) == 1


@pytest.mark.parametrize("kind", EIGHTH_DIGIT)
def test_answers_that_differ_in_the_third_digit_are_different(kind):
    make = EIGHTH_DIGIT[kind]
    assert hints_after(make(0.9), make(0.901)) == 2


@pytest.mark.parametrize(
    "other",
    [
        pd.Series([1, 3], index=["a", "b"]),
        pd.Series([1, 2], index=["a", "c"]),
        pd.Series([1, 2, 2], index=["a", "b", "c"]),
        pd.Series(["1", "2"], index=["a", "b"]).astype(object),
        pd.DataFrame({"n": [1, 2]}, index=["a", "b"]),
    ],
    ids=["number", "label", "length", "text", "table"],
)
def test_tables_that_differ_are_different_answers_whatever_the_type_of_their_numbers(other):
    whole = pd.Series([1, 2], index=["a", "b"])
    assert hints_after(whole, whole.astype(float)) == 1
    assert hints_after(whole, other) == 2


def written(source: str):
    """Return the function ``f`` of a cell that is run anew."""
    names = {"np": np}
    exec(source, names)
    return names["f"]


@pytest.mark.parametrize(
    "source",
    ["f = lambda x: x + 1", "def f(x, k=2):\n    return np.mean(x) * k"],
)
def test_a_function_whose_cell_runs_again_is_the_same_answer(source):
    assert hints_after(written(source), written(source)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f = lambda x: x + 1", "f = lambda x: x + 2"),
        ("f = lambda x: x + 1", "f = lambda x: x - 1"),
        ("f = lambda x: np.mean(x)", "f = lambda x: np.median(x)"),
        ("def f(x, k=1):\n    return x * k", "def f(x, k=2):\n    return x * k"),
        ("f = lambda x: sorted(x, key=lambda v: v)", "f = lambda x: sorted(x, key=lambda v: -v)"),
        ("f = (lambda k: lambda x: x * k)(1)", "f = (lambda k: lambda x: x * k)(2)"),
    ],
    ids=["constant", "operator", "called name", "default", "inner function", "closure"],
)
def test_functions_that_differ_are_different_answers(one, other):
    assert hints_after(written(one), written(other)) == 2


def test_an_answer_that_cannot_be_pickled_is_judged_all_the_same():
    asked = question(reject)
    lock = threading.Lock()
    assert [len(asked.outcome(lock).hints) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [np.array([1.0, 2.0]), pd.Series([1.0, 2.0]), pd.DataFrame({"y": [1.0, 2.0]}), sum],
    ids=lambda a: type(a).__name__,
)
def test_arrays_frames_and_functions_reach_the_judge(answer):
    def judge(given):
        assert given is answer
        return "It came through."

    assert question(judge).outcome(answer).status == "right"


def test_a_judge_that_fails_on_an_answer_calls_it_wrong_and_says_what_is_asked():
    outcome = question(lambda answer: answer + 1).outcome("text")
    assert outcome.status == "wrong"
    assert "TypeError" in outcome.message
    assert "`share`, a number" in outcome.message
    assert outcome.hints == ()


@pytest.mark.parametrize("answer", ["0.17", [0.17], None, float("nan"), np.array([1.0, 2.0])])
def test_an_answer_in_the_wrong_form_costs_no_hint(answer):
    asked = question()
    asked.outcome(0.9)
    outcome = asked.outcome(answer)
    assert outcome.status == "wrong"
    assert "`share`" in outcome.message
    assert outcome.hints == HINTS[:1]


def test_hints_on_request_come_one_at_a_time(interactive, shown):
    asked = question()
    for _ in range(4):
        asked.hint()
    assert [bundle[OUTCOME_MIME]["hints"] for bundle in shown] == [1, 2, 3, 3]
    assert HINTS[0] in shown[0]["text/markdown"]


def test_a_requested_hint_and_a_wrong_answer_open_two():
    asked = question()
    asked.hint()
    assert asked.outcome(0.9).hints == HINTS[:2]


def test_the_solution_shows_answer_and_reasoning(interactive, shown):
    question(stem="00_how_a_case_works").solution()
    text = shown[0]["text/markdown"]
    assert "critical_ratio = MISSING / (MISSING + IDLE)" in text
    assert "Three to one is not two thirds" in text
    assert "pooled_wape" not in text and "###" not in text


@pytest.mark.parametrize(
    "path", sorted(project.solutions_dir().glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_solution_that_speaks_of_cells_below_says_where_they_are(path):
    source = path.read_text(encoding="utf-8")
    numbers = re.findall(r'"answer-(\d+)"', source)
    texts = [grading.reasoning(path, int(number)) for number in numbers]
    assert all(f"solutions/{path.name}" in text for text in texts if "cells below" in text)
    cells = json.loads(source)["cells"]
    code = [
        c for c in cells if c["cell_type"] == "code" and "solution" in c["metadata"].get("tags", [])
    ]
    # Reasoning without code of its own speaks of no cells.
    assert any("cell below" in text or "cells below" in text for text in texts) is bool(code)


def test_without_a_checkout_the_installed_solutions_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "checkout", lambda: None)
    monkeypatch.setattr(project, "_PACKAGE", tmp_path)
    assert project.solutions_dir() == tmp_path / "_solutions"


def test_an_installed_course_carries_the_solutions(tmp_path):
    root, lib = project.require_checkout(), tmp_path / "lib"
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["build_py", "--build-lib", str(lib)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    carried = {path.name for path in (lib / "casebook" / "_solutions").iterdir()}
    assert carried == {path.name for path in (root / "solutions").glob("*.ipynb")}


def test_a_question_without_a_solution_notebook_says_where_its_reasoning_is(interactive, shown):
    question().solution()
    assert "on the exercise's page in the book" in shown[0]["text/markdown"]


def test_the_reasoning_of_an_unknown_question_is_refused():
    path = project.solutions_dir() / "00_how_a_case_works.ipynb"
    with pytest.raises(ValueError, match=r"00_how_a_case_works\.ipynb has no question 9"):
        grading.reasoning(path, 9)


def test_an_error_in_the_readers_code_shows_its_line():
    code = "def f(x):\n    y = x - x\n    return 1 / y\n"
    names = {}
    exec(compile(code, "cell-7", "exec"), names)
    linecache.cache["cell-7"] = (len(code), None, code.splitlines(True), "cell-7")
    outcome = question(lambda f: f(2)).outcome(names["f"])
    assert "ZeroDivisionError" in outcome.message
    assert "in line 3 of the cell, `return 1 / y`" in outcome.message


def test_whether_nbgrader_runs_is_read_once():
    code = (
        "import os; from casebook.exercises import grading\n"
        "os.environ.pop('NBGRADER_EXECUTION')\n"
        "from casebook.cases.how_a_case_works import questions as exercise_00\n"
        "exercise_00.q2.check(...)"
    )
    environment = {**os.environ, "NBGRADER_EXECUTION": "autograde"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "NotRight: Question 2, not attempted" in done.stderr


def test_warnings_of_an_answer_stay_away_from_nbgrader(graded, shown, capsys):
    def judge(answer):
        print("careful", file=sys.stderr)
        return "Right."

    question(judge).check(1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("text", "seed"), [(None, 7), ("", 7), ("12", 12), (" 3 ", 3)])
def test_the_students_seed_takes_the_place_of_the_chapters(monkeypatch, text, seed):
    monkeypatch.delenv(grading.STUDENT_SEED, raising=False)
    if text is not None:
        monkeypatch.setenv(grading.STUDENT_SEED, text)
    assert grading.student_seed(7) == seed


@pytest.mark.parametrize("text", ["-1", "1.5", "one", "²"])
def test_a_seed_that_is_no_whole_number_is_refused(monkeypatch, text):
    monkeypatch.setenv(grading.STUDENT_SEED, text)
    with pytest.raises(ValueError, match=r"CASEBOOK_STUDENT_SEED is .* whole number from 0 on"):
        grading.student_seed(7)


@pytest.mark.parametrize("answer", [BLANK, 0.9])
def test_under_nbgrader_an_answer_that_is_not_right_raises(graded, shown, answer):
    with pytest.raises(NotRight, match=r"Question 3, (wrong|not attempted)"):
        question().check(answer)


def test_under_nbgrader_a_right_answer_raises_nothing(graded, shown):
    question().check(0.25)
    assert shown[0][OUTCOME_MIME]["status"] == "right"


@pytest.mark.parametrize(
    ("answer", "status", "message", "hints"),
    [
        (BLANK, "not attempted", "Nothing here yet", 0),
        (0.9, "wrong", "too large", 1),
        (0.25, "right", "A quarter of the trips.", 0),
    ],
    ids=["not attempted", "wrong", "right"],
)
def test_interactively_a_check_shows_one_line_and_goes_on(
    interactive, shown, answer, status, message, hints
):
    question().check(answer)
    (bundle,) = shown
    first, *more = bundle["text/markdown"].split("\n\n")
    assert f"**Question 3, {status}.** {message}" in first
    assert len(more) == hints
    assert all(hint in line for hint, line in zip(HINTS, more, strict=False))
    assert bundle["text/plain"] == bundle["text/markdown"]
    outcome = bundle[OUTCOME_MIME]
    assert outcome.pop("message").startswith(message)
    assert outcome == {"question": 3, "status": status, "hints": hints}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hints": ()}, "0 hints; give 1 to 3"),
        ({"hints": (*HINTS, "More.")}, "4 hints; give 1 to 3"),
        ({"wrong_answers": WRONG_ANSWERS[:1]}, "at least two wrong answers"),
    ],
)
def test_a_question_without_hints_or_wrong_answers_is_refused(changes, reason):
    with pytest.raises(ValueError, match=f"Question 3 .*{reason}"):
        question(**changes)


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        np.int64(2),
        np.float32(2),
        np.array(2.0),
        np.array([2]),
        pd.Series([2.0], index=["a"]),
        Fraction(2),
        Decimal(2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_number_takes_whatever_holds_one_number(value):
    result = number(value, "share")
    assert (type(result), result) == (float, 2.0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "of type bool"),
        (np.array(True), "of type bool"),
        ("0.25", r"text in quotes \(of type str\): '0.25'"),
        ([0.17], "a list of length 1"),
        (None, "of type NoneType"),
        (1j, "of type complex"),
        (np.array([1.0, 2.0]), r"a ndarray of shape \(2,\)"),
        (pd.DataFrame({"a": [1.0]}), r"a DataFrame of shape \(1, 1\)"),
        (float("nan"), "is nan: look for"),
        (np.float64("inf"), "is inf: look for"),
    ],
)
def test_number_names_what_it_got_instead(value, reason):
    with pytest.raises(Wrong, match=f"`share`.*{reason}"):
        number(value, "share")


@pytest.mark.parametrize(
    ("value", "expected", "result"),
    [
        (100.4, 100, True),
        (100.6, 100, False),
        (-99.6, -100, True),
        (0.03, 0, False),
        (0.0, 0, True),
        (float("nan"), 1, False),
    ],
)
def test_close_is_relative(value, expected, result):
    assert close(value, expected, tolerance=0.005) is result
