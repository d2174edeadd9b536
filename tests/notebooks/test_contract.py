"""What a solution, its stub and every wrong answer must do, and planted breaches of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import rotation
import tiny
from nbclient.exceptions import CellExecutionError
from tiny import ROOT, code

from casebook.author import contract, exercises, files, unwritten

#: Seven questions: the first keeps the contract, each other one breaks it in its own way.
QUESTIONS = """\
from casebook.exercises.grading import Question, Wrong, WrongAnswer, number


def judge(answer, *_):
    if number(answer, "x") == 4:
        return "Four."
    raise Wrong("too large" if answer > 4 else "too small")


def lenient(answer):
    return "Four or more." if answer >= 4 else judge(answer)


def terse(answer):
    if answer != 4:
        raise Wrong("no")
    return "Four."


def ask(number, judge=judge, reasons=("too large", "too small")):
    wrong = [WrongAnswer(f"x{number} = {n}", why) for n, why in zip((5, 3), reasons)]
    return Question(number, f"`x{number}`", judge, ("Count.", "Add."), tuple(wrong))


kept = ask(1)
accepts_a_wrong_answer = ask(2, lenient)
gives_another_reason = ask(3, reasons=("too large", "not whole"))
unlocks_twice = ask(4)
gives_one_reason = ask(5, terse, reasons=("no", "no"))
rejects_the_solution = ask(6)
shows_nothing = ask(7)
"""
CHECKS = {
    1: "asked.kept.check(x1)",
    2: "asked.accepts_a_wrong_answer.check(x2)",
    3: "asked.gives_another_reason.check(x3)",
    # What the check adds to the answer is new in each run, and so a new mistake.
    4: "asked.unlocks_twice.check(x4, time.time_ns())",
    5: "asked.gives_one_reason.check(x5)",
    6: "asked.rejects_the_solution.check(x6)",
    7: "assert x7",
}
BREACHES = [
    "question 2, wrong answer 1 is judged 'right'",
    "question 3, wrong answer 2: expected the reason 'not whole', got 'too small'",
    "question 4, wrong answer 1: the same answer again unlocked another hint",
    "question 5: two wrong answers get the same reason",
    "question 6: the solution's own answer is not right: "
    "{'question': 6, 'status': 'wrong', 'message': 'too large', 'hints': 2}",
    "question 7, wrong answer 1 is judged 'no outcome shown'",
]


def cell(name: str, source: str):
    """Return a code cell with the name by which answers and checks are found."""
    made = code(name, source)
    made.metadata.nbgrader = {"grade_id": name}
    return made


def write(folder, answers: dict[int, str], checks: dict[int, str] = CHECKS):
    """Write a notebook with the planted questions; its kernel finds them in its folder."""
    (folder / "planted.py").write_text(QUESTIONS, encoding="utf-8")
    cells = [code("set-up", "import time\nimport planted as asked")]
    for number, answer in answers.items():
        cells.append(cell(f"answer-{number}", f"x{number} = {answer}"))
        cells += [cell(f"check-{number}", checks[number])] if number in checks else []
    return tiny.add(folder, "00_planted.ipynb", *cells)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a folder whose notebook ``00_planted`` has the planted questions."""
    folder = tmp_path_factory.mktemp("planted")
    write(folder, {})
    name = "casebook.cases.planted.questions"
    spec = importlib.util.spec_from_file_location(name, folder / "planted.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)
        yield folder


@pytest.fixture(scope="module")
def breaches(planted):
    """Return what the contract finds in a solution that breaks it in every way."""
    answers = dict.fromkeys(CHECKS, "4") | {6: "5"}
    return contract.solution_faults(write(planted, answers))


# The committed exercises: those that have changed since their last pass, and one by rotation.

NAMES = [path.stem for path in files.notebooks("solutions", root=ROOT)]


def turn(what: str, name: str, *parts: Path):
    """Skip what has passed with the same cells, the same code that they reach and this contract."""
    key = rotation.notebook_key(f"solutions/{name}", Path(contract.__file__), *parts)
    return rotation.turn(what, name, key, among=NAMES)


@pytest.mark.parametrize("path", files.notebooks("solutions", root=ROOT), ids=lambda p: p.stem)
def test_a_solution_keeps_the_contract(path):
    with turn("contract", path.stem):
        assert contract.solution_faults(path) == []


@pytest.mark.parametrize("path", files.notebooks("exercises", root=ROOT), ids=lambda p: p.stem)
def test_an_untouched_exercise_keeps_the_contract(path):
    with turn("stub", path.stem, path):
        assert contract.stub_faults(path) == []


@pytest.mark.parametrize("path", files.notebooks("solutions", root=ROOT), ids=lambda p: p.stem)
def test_an_exercise_has_four_to_eight_questions(path):
    if unwritten.unwritten(ROOT, path.stem):
        pytest.skip(
            "it is still being written: `python -m casebook.author check` says what is left"
        )
    few = 3 if path.stem.startswith("00_") else 4  # case 00 only shows how a case works
    assert few <= len(exercises.questions(path.stem)) <= 8


# Planted breaches.


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_found(breaches, breach):
    assert f"00_planted: {breach}" in breaches


def test_a_question_that_keeps_the_contract_has_no_faults(breaches):
    assert [fault for fault in breaches if "question 1" in fault] == []


@pytest.mark.parametrize(
    ("answers", "checks"),
    [
        (range(1, 7), CHECKS),
        (range(1, 9), CHECKS),
        (range(1, 8), {n: check for n, check in CHECKS.items() if n != 4}),
    ],
    ids=["no answer cell", "one answer cell too many", "no check cell"],
)
def test_questions_without_their_cells_are_found(planted, answers, checks):
    [fault] = contract.solution_faults(write(planted, dict.fromkeys(answers, "4"), checks))
    assert fault.startswith("00_planted: questions [1, 2, 3, 4, 5, 6, 7], answer cells [1, ")
    assert fault.endswith("do not match")


def test_a_stub_that_is_judged_is_found(planted):
    path = write(planted, {1: "...", 3: "4", 4: "5", 7: "..."})
    assert contract.stub_faults(path) == [
        "00_planted: untouched question 3 is judged 'right'",
        "00_planted: untouched question 4 is judged 'wrong'",
        "00_planted: untouched question 7 is judged 'no outcome shown'",
    ]


def test_a_stub_that_does_not_run_to_its_end_is_found(planted):
    path = write(planted, {1: "...", 2: "unknown"})
    with pytest.raises(CellExecutionError, match="name 'unknown' is not defined"):
        contract.stub_faults(path)


def test_a_stub_without_checks_is_found(planted):
    assert contract.stub_faults(write(planted, {})) == ["00_planted: no check cells"]
