"""What the contract asks of declared questions, on the committed ones and on planted breaches."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest
import rotation
import tiny
from tiny import ROOT, code

from casebook.author import contract, exercises, files
from casebook.exercises import asked, verdicts
from casebook.exercises.asked import Asked
from casebook.exercises.collisions import collision_faults

DECLARED = [
    path
    for path in files.notebooks("solutions", root=ROOT)
    if all(isinstance(q, Asked) for q in exercises.questions(path.stem).values())
]
SEEDS = (1, 2, 3, 4, 5)
#: The first question keeps the contract, each other one breaks it in its own way.
QUESTIONS = """\
import pandas as pd
from casebook.exercises.asked import Exercise, Number, Part, Slip
from casebook.exercises.grading import student_seed

def world(seed=None):
    return pd.Series([1.0, 2.0, 4.0, 5.0]) * (student_seed(1) if seed is None else seed)

exercise = Exercise("00_declared", 1, {"trips": world})
fixed = Exercise("00_declared", 1, {"trips": lambda seed: world(1)})

class Lenient(Number):
    def read(self, answer, name, right, scope):
        return float(answer) if isinstance(answer, (int, float)) else 0.0

def ask(n, exercise=exercise, kind=Number(), also=("sum(trips)",), more=(), **given):
    slips = [Slip("trips.mean()", "This is the mean."), Slip("trips.max()", "This is the largest.")]
    part = Part(f"x{n}", "trips.sum()", [*slips, *more], "{value:g} is not it.", kind, also)
    return exercise.asked(n, f"`x{n}`", [part], shows="Yes.", **{"hints": ("Add.",), **given})

q1 = ask(1)
q2 = ask(2, also=("trips.sum() + 1",))
q3 = ask(3, more=[Slip("trips.mean() * 4", "This is four times the mean.")])
q4 = ask(4, kind=Lenient())
q5 = ask(5, more=[Slip("trips.min() + extra", "This is the smallest.")])
q6 = ask(6, fixed)
exercise.given["extra"] = lambda seed: 0.25
"""


def cell(name: str, source: str):
    """Return a code cell with the name by which answers and checks are found."""
    made = code(name, source)
    made.metadata.nbgrader = {"grade_id": name}
    return made


def write(folder, alias="exercise_00", shown="extra = 0.5", names=None, more=""):
    """Write a solution of the planted questions."""
    cells = [code("set-up", f"import declared as {alias}\ntrips = {alias}.world()\n{shown}")]
    for n in range(1, 7):
        name = (names or {}).get(n, f"x{n}")
        answer = f"{name} = ...\n### BEGIN SOLUTION\n{name} = trips.sum()\n### END SOLUTION"
        cells.append(cell(f"answer-{n}", answer))
        cells.append(cell(f"check-{n}", f"{alias}.q{n}.check({name}{more if n == 3 else ''})"))
    return tiny.add(folder, "00_declared.ipynb", *cells)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a folder with the planted questions, importable here and in its kernels."""
    folder = tmp_path_factory.mktemp("declared")
    (folder / "declared.py").write_text(QUESTIONS, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("declared", folder / "declared.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "declared", module)
        patch.setitem(sys.modules, "casebook.cases.declared.questions", module)
        yield folder


@pytest.fixture(scope="module")
def breaches(planted):
    path = write(planted)
    path.parent.joinpath("declared.py").write_text(QUESTIONS, encoding="utf-8")
    return contract.solution_faults(path)


# The committed exercises.


def test_the_first_exercises_are_declared():
    assert {"00_how_a_case_works", "01_demand_forecasting"} <= {path.stem for path in DECLARED}


def turn(what: str, path: Path):
    """Skip what has passed with the same cells, what they reach, this contract and these seeds."""
    key = rotation.notebook_key(f"solutions/{path.stem}", Path(contract.__file__), str(SEEDS))
    return rotation.turn(what, path.stem, key, among=[one.stem for one in DECLARED])


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.stem)
def test_the_contract_holds_for_five_students(path):
    with turn("seeds", path):
        assert contract.seed_faults(path, SEEDS) == []


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.stem)
def test_students_get_worlds_of_their_own(path):
    with turn("worlds", path):
        first, second = (exercises.expected(path.stem, seed) for seed in SEEDS[:2])
        assert first.keys() == second.keys()
        assert any(str(first[name]) != str(second[name]) for name in first)


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.stem)
def test_names_are_unique_and_hide_nothing(path):
    assert contract.name_faults(path) == []


@pytest.mark.parametrize(
    ("stem", "cell", "functions"),
    [
        ("00_how_a_case_works", "candidates", ["around", "candidates"]),
        ("01_demand_forecasting", "cleanups", ["cleanups"]),
        ("01_demand_forecasting", "staff-cost", ["staff_cost"]),
    ],
)
def test_the_check_uses_its_own_copy_of_what_the_reader_sees(stem, cell, functions):
    module = importlib.import_module(f"casebook.cases.{stem[3:]}.questions")
    notebook = files.read(ROOT / "solutions" / f"{stem}.ipynb")
    [shown] = [c.source for c in notebook.cells if c.id == cell]
    own = "\n\n\n".join(inspect.getsource(getattr(module, name)).strip() for name in functions)
    assert own in shown


# Planted breaches.


@pytest.mark.parametrize(
    "breach",
    [
        "question 2, right answer 1 is judged 'wrong': '13 is not it.'",
        "question 3, `x3`: 'trips.sum()' and 'trips.mean() * 4' give the same and the reader is "
        "not told so",
        "question 3, wrong answer 3 is judged 'right'",
        "question 4, `x4 = None` opens a hint",
        # The reader's `extra` is not the course's, and no reason is found by accident.
        "question 5, wrong answer 3: expected the reason 'This is the smallest.', got "
        "'1.5 is not it.'",
    ],
)
def test_a_breach_is_found(breaches, breach):
    assert f"00_declared: {breach}" in breaches


@pytest.mark.parametrize("number", [1, 6])
def test_a_question_that_keeps_the_contract_has_no_faults(breaches, number):
    assert [fault for fault in breaches if f"question {number}" in fault] == []


def test_a_check_that_knows_the_chapters_world_only_is_found(planted):
    found = contract.seed_faults(write(planted, shown="extra = 0.25"), [1, 2])
    assert not [fault for fault in found if "seed 1: question 6" in fault]
    assert any("seed 2: question 6, right answer 1 is judged" in fault for fault in found)
    assert not [fault for fault in found if "question 1," in fault]


def test_slips_that_cannot_be_told_apart_are_found_unless_the_reader_is_told(planted, monkeypatch):
    declared = sys.modules["declared"]
    twins = declared.ask(1, more=[asked.Slip("trips.median()", "This is the median.")])
    assert collision_faults(twins) == []
    monkeypatch.setattr(verdicts, "either", lambda says: says[0])
    [fault] = collision_faults(twins)
    assert "'trips.mean()' and 'trips.median()' give the same" in fault


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"more": ", trips"}, "the check of question 3 takes ('x3', 'trips'), not ('x3',)"),
        ({"shown": "import numpy as x3"}, "question 3: the answer `x3` hides the notebook's own"),
        ({"shown": "for x3 in []: pass"}, "question 3: the answer `x3` hides the notebook's own"),
        ({"shown": "def x3(): pass"}, "question 3: the answer `x3` hides the notebook's own"),
        (
            {"alias": "questions"},
            "the questions are named ['questions'], a name that an answer may take",
        ),
    ],
)
def test_names_that_collide_are_found(planted, changes, fault):
    assert contract.name_faults(write(planted, **changes)) == [f"00_declared: {fault}"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("x1", "`x1` is asked by the questions 1 and 2"),
        ("trips", "question 2: the answer `trips` hides the notebook's own"),
    ],
)
def test_an_answer_with_a_name_that_is_taken_is_found(planted, name, fault):
    found = contract.name_faults(write(planted, names={2: name}))
    assert f"00_declared: {fault}" in found


@pytest.mark.parametrize(
    ("hint", "fault"),
    [
        ("Add {DAYS} of them.", "shows {DAYS} as it stands"),
        ("Divide by {total:.2f}.", "shows {total:.2f} as it stands"),
        ("Give `trips.sum() / DAYS`.", "uses `DAYS`, which the notebook does not define"),
        ("Add `DAYS`.", "uses `DAYS`, which the notebook does not define"),
    ],
)
def test_a_hint_in_names_that_only_the_check_knows_is_found(planted, monkeypatch, hint, fault):
    declared = sys.modules["declared"]
    own = {"setup": "DAYS, total = 7, trips.sum()", "hints": ("Add.", hint)}
    monkeypatch.setattr(declared, "q1", declared.ask(1, **own))
    assert contract.hint_faults(write(planted)) == [f"question 1, hint 2 {fault}"]
    assert contract.hint_faults(write(planted, shown="extra, DAYS = 0.5, 7"))[:1] == (
        [f"question 1, hint 2 {fault}"] if "shows" in fault else []
    )


@pytest.mark.parametrize(
    "hint",
    ["`DAYS = 7`, then `trips.sum() / DAYS`.", "Use `{1, 2}`, `x1` or `sum(trips)`, as f(x)."],
)
def test_a_hint_in_the_readers_names_has_no_fault(planted, monkeypatch, hint):
    declared = sys.modules["declared"]
    monkeypatch.setattr(declared, "q1", declared.ask(1, setup="DAYS = 7", hints=(hint,)))
    assert contract.hint_faults(write(planted)) == []


def test_a_slip_that_gives_the_right_answer_in_one_world_is_right_there(planted):
    declared = sys.modules["declared"]
    chance = declared.ask(1, more=[asked.Slip("24.0", "This is twenty-four.")])
    names = {"trips": declared.world(2), "extra": 0.25}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASEBOOK_STUDENT_SEED", "2")
        assert chance.outcome(24.0).status == "right"
        assert list(contract._seed_faults(chance, names)) == []
    [fault] = [f for f in contract._seed_faults(chance, names) if "wrong answer 3" not in f][:1]
    assert "the expected answer" not in fault


def test_names_of_a_comprehension_or_a_function_hide_nothing(planted):
    shown = "z = [x3 for x3 in range(3)]\ndef f(x2):\n    x1 = x2\n    return x1"
    assert contract.name_faults(write(planted, shown=shown)) == []


def test_expected_answers_of_questions_that_are_not_declared_are_refused(monkeypatch):
    monkeypatch.setattr(exercises, "questions", lambda stem: {1: object()})
    with pytest.raises(ValueError, match=r"The answers to the questions \[1\] of 00_x"):
        exercises.expected("00_x")
