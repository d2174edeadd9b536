"""Worlds for the students of a class: the roster, refused seeds, and nbgrader's round trip."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import sys

import pytest
import tiny
from nbgrader.api import Gradebook
from tiny import ROOT, code

from casebook.author import assignment, contract, exercises, files
from casebook.author.__main__ import main
from casebook.author.assignment import Refused, Student
from casebook.author.submissions import SEED_ID
from casebook.exercises.grading import STUDENT_SEED

CASE, PLANTED = "00_how_a_case_works", "98_planted"
#: The first question draws a world; the second, if it is asked, knows none, or is not declared.
QUESTIONS = """\
import pandas as pd
from casebook.exercises.asked import Exercise, Part, Slip
from casebook.exercises.grading import Question, WrongAnswer

SEED = 7
exercise = Exercise("98_planted", SEED, {"trips": lambda seed: pd.Series([1.0, 2.0, 6.0]) * WORLD})

def ask(n):
    slips = [Slip("trips.mean()", "This is the mean."), Slip("trips.max()", "This is the largest.")]
    part = Part(f"x{n}", "trips.sum()", slips, "{value:g} is not it.")
    return exercise.asked(n, f"`x{n}`", [part], shows="Yes.", hints=("Add.",))

q1 = ask(1)
"""
UNDECLARED = (
    'q2 = Question(2, "`x2`", lambda x: "Yes.", ("Add.",), (WrongAnswer("x2 = 3", "no"),) * 2)\n'
)


@pytest.fixture
def planted(checkout, monkeypatch):
    """Return what makes a checkout with one exercise; nbgrader and the contract are left out."""

    def make(world: str = "seed", more: str = "", bad: tuple[int, ...] = ()):
        path = checkout / "questions.py"
        path.write_text(QUESTIONS.replace("WORLD", world) + more, encoding="utf-8")
        name = "casebook.cases.planted.questions"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, name, module)
        answer = code("answer-1", "x1 = ...\n### BEGIN SOLUTION\nx1 = 9\n### END SOLUTION")
        check = code("check-1", "exercise_98.q1.check(x1)")
        for cell, solution in ((answer, True), (check, False)):
            cell.metadata.nbgrader = {
                "grade_id": cell.id,
                "schema_version": 3,
                "task": False,
                "solution": solution,
                "grade": not solution,
                "locked": not solution,
            }
        check.metadata.nbgrader["points"] = 1
        tiny.add(checkout, f"solutions/{PLANTED}.ipynb", answer, check)
        monkeypatch.setattr(
            contract,
            "seed_faults",
            lambda path, seeds: [
                f"{path.stem}, seed {s}: question 1 fails" for s in seeds if s in bad
            ],
        )
        monkeypatch.setattr(assignment, "_generate", lambda *given: None)
        return checkout

    return make


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Seeds and roster -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [("20", 20), ("11,12", [11, 12]), ("11 12, 13", [11, 12, 13]), ("4711,", [4711])],
)
def test_seeds_are_a_number_of_students_or_a_list(text, meant):
    assert assignment.asked_seeds(text) == meant


@pytest.mark.parametrize("text", ["many", "-3", "1.5", "0", "5000", "11,11", "٣"])
def test_other_seeds_are_refused(text):
    with pytest.raises(Refused, match="SEEDS"):
        assignment.asked_seeds(text)


def test_a_class_draws_the_same_seeds_each_time_and_another_class_others():
    def first(name):
        drawn = assignment.drawn_seeds(name)
        return [next(drawn) for _ in range(50)]

    assert first("autumn") == first("autumn")
    assert len(set(first("autumn"))) == 50
    assert not set(first("autumn")) & set(first("spring"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("student,seed\nanna,\n", "line 2"),
        ("student,seed\nan na,4\n", "line 2"),
        ("student,seed\nanna,4\nben,x\n", "line 3"),
        ("student,seed\nanna,4\nanna,5\n", "the student anna is there twice"),
        ("student,seed\nanna,4\nben,4\n", "the seed 4 is there twice"),
    ],
)
def test_a_roster_that_cannot_be_used_is_refused(tmp_path, text, reason):
    path = tmp_path / "seeds.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=reason):
        assignment.read_roster(path)


# Making it ------------------------------------------------------------------------------


def test_a_class_gets_a_roster_a_key_and_a_notebook_for_each_student(planted):
    root = planted()
    said = list(assignment.make(root, "autumn", "3"))
    folder = root / "classes" / "autumn"
    roster = assignment.read_roster(folder / "seeds.csv")
    assert [one.student for one in roster] == ["student-01", "student-02", "student-03"]
    assert [one.seed for one in roster] == [int(line.split()[2]) for line in said[:3]]
    for row, one in zip(rows(folder / "expected.csv"), roster, strict=True):
        assert row == {
            "student": one.student,
            "seed": str(one.seed),
            "exercise": PLANTED,
            "question": "1",
            "part": "x1",
            "expected": str(9 * one.seed),
        }
        handout = files.read(folder / "handout" / one.student / PLANTED / f"{PLANTED}.ipynb")
        assert handout.cells[1].id == SEED_ID
        assert f'os.environ["{STUDENT_SEED}"] = "{one.seed}"' in handout.cells[1].source
        assert "= 9" not in files.text(handout)  # no solution


def test_the_roster_grows_and_keeps_names_and_seeds(planted):
    root = planted()
    path = root / "classes" / "autumn" / "seeds.csv"
    list(assignment.make(root, "autumn", "2"))
    first = path.read_text(encoding="utf-8").replace("student-01", "anna")
    path.write_text(first, encoding="utf-8")
    list(assignment.make(root, "autumn", "3"))
    assert path.read_text(encoding="utf-8").startswith(first)
    list(assignment.make(root, "autumn", "42,"))
    assert assignment.read_roster(path)[-1].seed == 42
    before = path.read_text(encoding="utf-8")
    list(assignment.make(root, "autumn", ""))
    assert path.read_text(encoding="utf-8") == before
    assert {row["student"] for row in rows(path.with_name("expected.csv"))} >= {"anna"}


def test_a_drawn_seed_on_which_the_contract_fails_is_left_out(planted):
    drawn = assignment.drawn_seeds("autumn")
    good, bad, third = (next(drawn) for _ in range(3))
    root = planted(bad=(bad,))
    said = list(assignment.make(root, "autumn", "2"))
    assert f"left out    seed {bad}: {PLANTED}: question 1 fails" in said
    roster = assignment.read_roster(root / "classes" / "autumn" / "seeds.csv")
    assert [one.seed for one in roster] == [good, third]


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ("11,12", "seed 12 is refused: 98_planted: question 1 fails"),
        ("11,7", "seed 7 is refused: 98_planted: it is the world of the chapter"),
        ("", "Say how many students there are"),
    ],
)
def test_a_seed_that_does_not_hold_is_refused_and_nothing_is_written(planted, seeds, reason):
    root = planted(bad=(12,))
    with pytest.raises(Refused, match=reason):
        list(assignment.make(root, "autumn", seeds))
    assert not (root / "classes").exists()


def test_a_seed_of_the_roster_that_no_longer_holds_names_its_student(planted):
    root = planted()
    list(assignment.make(root, "autumn", "11,12"))
    planted(bad=(12,))
    list(assignment.make(root, "autumn", ""))  # with the same code it is not tried again
    tiny.plant(root / "solutions" / f"{PLANTED}.ipynb", "check-1", source="exercise_98.q1.check(9)")
    with pytest.raises(Refused, match=r"student-02 needs another seed in seeds\.csv"):
        list(assignment.make(root, "autumn", ""))


def test_too_few_seeds_that_hold_are_an_error(planted):
    drawn = assignment.drawn_seeds("autumn")
    root = planted(bad=tuple(next(drawn) for _ in range(20)))
    with pytest.raises(Refused, match="8 seeds were tried and too few hold; the last one: 98_pl"):
        list(assignment.make(root, "autumn", "1"))


def test_an_exercise_without_a_world_for_each_student_says_so(planted, capsys):
    root = planted(more=UNDECLARED)
    assert main(["--root", str(root), "assignment", "autumn", "--seeds", "2"]) == 1
    assert capsys.readouterr().out == (
        "not made    98_planted draws no world by a seed yet: question 2 knows the chapter's world "
        "only.\n"
    )


def test_questions_that_take_the_seed_and_do_not_use_it_are_found(planted):
    root = planted(world="2")
    with pytest.raises(Refused, match="98_planted: the seed changes no answer"):
        list(assignment.make(root, "autumn", "2"))
    assert not (root / "classes").exists()


@pytest.mark.parametrize("name", ["", "../x", "two words", ".hidden"])
def test_a_class_of_another_name_is_refused(planted, name):
    with pytest.raises(Refused, match="CLASS is"):
        list(assignment.make(planted(), name, "2"))


def test_an_exercise_that_is_not_there_is_refused(planted):
    with pytest.raises(Refused, match="No notebook '55'"):
        list(assignment.make(planted(), "autumn", "2", "55"))


def test_what_is_the_same_for_all_is_named():
    def row(student, expected):
        place = {"exercise": "e", "question": 2, "part": "x"}
        return place | {"student": student, "expected": expected}

    assert assignment.same_for_all([row("a", "1"), row("b", "1")]) == ["`x` of e, question 2"]
    assert assignment.same_for_all([row("a", "1"), row("b", "2")]) == []
    assert assignment.same_for_all([row("a", "1")]) == []


def test_git_ignores_what_a_class_holds():
    done = tiny.shell("git", "check-ignore", "classes/autumn/expected.csv", cwd=ROOT)
    assert done.returncode == 0


# nbgrader's round trip on two seeds -----------------------------------------------------

ANSWERS = {
    1: "guess = 'above'\npooled_wape = {pooled_wape}",
    2: "leaks = {{'{leaks}'}}",
    3: "multiplier = {multiplier}",
}
FIRST, SECOND = Student("first", 1), Student("second", 2)
#: Other students of the second world, and one whom the roster does not know.
COPIER, FORGER, STRANGER = "copier", "forger", "stranger"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Return the folder of a class whose submissions have been graded in one call."""
    root = tiny.checkout(tmp_path_factory.mktemp("class") / "checkout", "solutions")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    folder = root / "classes" / "test"
    folder.mkdir(parents=True)
    roster = "".join(f"{one.student},{one.seed}\n" for one in (FIRST, SECOND))
    (folder / "seeds.csv").write_text(f"student,seed\n{roster}", encoding="utf-8")
    list(assignment.make(root, "test", "", "00"))
    key = {
        one.student: {
            row["part"]: row["expected"].replace(", ", "', '")
            for row in rows(folder / "expected.csv")
            if row["student"] == one.student
        }
        for one in (FIRST, SECOND)
    }
    with (folder / "seeds.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{name},{SECOND.seed}\n" for name in (COPIER, FORGER))
    own, theirs = key["second"], key["first"]
    hand_in(folder, "first", "first", theirs)
    hand_in(folder, "second", "second", own | {"multiplier": "1.0"})
    hand_in(folder, COPIER, "second", theirs)
    chosen = f"import os\nos.environ['{STUDENT_SEED}'] = '{FIRST.seed}'\n"
    hand_in(folder, FORGER, "first", theirs, before=chosen)
    hand_in(folder, STRANGER, "first", theirs)
    done = tiny.run("nbgrader", "autograde", CASE, cwd=folder, PYTHONPATH=str(ROOT))
    return folder, done


def hand_in(folder, student: str, handout: str, answers: dict[str, str], before: str = ""):
    """Fill the handout of one student with answers, and hand it in as another's."""
    notebook = files.read(folder / "handout" / handout / CASE / f"{CASE}.ipynb")
    for number, index in exercises.answer_cells(notebook).items():
        notebook.cells[index].source = before + ANSWERS[number].format(**answers)
    path = folder / "submitted" / student / CASE / f"{CASE}.ipynb"
    path.parent.mkdir(parents=True)
    files.write(notebook, path)


def points(folder, student: str) -> list[float]:
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        submission = book.find_submission(CASE, student)
        grades = {g.name: g.auto_score for n in submission.notebooks for g in n.grades}
    return [grades[f"check-{number}"] for number in (1, 2, 3)]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize(
    ("student", "earned"),
    [("first", [1, 1, 1]), ("second", [1, 1, 0]), (COPIER, [0, 1, 0]), (FORGER, [0, 1, 0])],
    ids=["all right", "one wrong", "answers of another", "and the seed of another"],
)
def test_a_student_is_graded_in_the_world_of_the_roster(graded, student, earned):
    """The leaks of question 2 are the same in every world; `make assignment` says so."""
    assert points(graded[0], student) == earned


def test_a_student_whom_the_roster_does_not_know_is_named_and_the_others_are_graded(graded):
    folder, done = graded
    assert done.returncode != 0
    assert "'stranger' is not in" in done.stdout
    there = {path.parent.parent.name for path in folder.glob(f"autograded/*/{CASE}/*.ipynb")}
    assert there == {"first", "second", COPIER, FORGER}


def test_without_the_roster_another_student_s_notebook_would_pass(graded):
    """The planted fault: a configuration that believes the seed in the notebook."""
    folder = shutil.copytree(graded[0], graded[0].with_name("believing"))
    config = folder / "nbgrader_config.py"
    lines = config.read_text(encoding="utf-8").splitlines()
    believing = [line for line in lines if "sanitize_preprocessors" not in line]
    assert len(believing) == len(lines) - 1
    config.write_text("\n".join(believing), encoding="utf-8")
    command = ("autograde", CASE, "--student", FORGER, "--force")
    done = tiny.run("nbgrader", *command, cwd=folder, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout
    assert points(folder, FORGER) == [1, 1, 1]
