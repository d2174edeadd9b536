"""The round trip of an instructor: a solution becomes an assignment, submissions get scores."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import tiny
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.validator import Validator
from tiny import ROOT, code
from traitlets.config import Config, PyFileConfigLoader

from casebook.author import exercises, files
from casebook.author.launch import BADGES_ID

#: nbgrader's own models warn while it saves a submission.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
CASE = "00_how_a_case_works"
TINY = "00_tiny"
#: Its first check shows what it finds, as in Lab; the second is one of the course's.
QUESTION = """\
from casebook.exercises.grading import Question, Wrong, WrongAnswer


def judge(answer):
    if answer != 4:
        raise Wrong("no")
    return "Four."


q2 = Question(2, "`x2`", judge, ("Add.",), (WrongAnswer("x2 = 3", "no"),) * 2)"""


@dataclass
class Course:
    """A course directory of nbgrader with one assignment."""

    root: Path
    assignment: str

    @property
    def config(self) -> Config:
        """Return the committed configuration, for a course directory of the test's own."""
        config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()
        config.CourseDirectory.root = str(self.root)
        config.Exchange.root = str(self.root / "exchange")
        return config

    @property
    def release(self) -> Path:
        return self.root / "release" / self.assignment / f"{self.assignment}.ipynb"

    def run(self, command: str, *arguments: str) -> None:
        """Run a command of nbgrader's API; it must succeed.

        ``"autograde", "*", False`` grades all who have not been graded.
        """
        done = getattr(NbGraderAPI(config=self.config), command)(self.assignment, *arguments)
        assert done["success"], done["log"]

    def generate(self, source: Path) -> Course:
        folder = self.root / "source" / self.assignment
        folder.mkdir(parents=True)
        (self.root / "exchange").mkdir()
        shutil.copy(source, folder / f"{self.assignment}.ipynb")
        self.run("generate_assignment")
        return self

    def hand_in(self, student: str, notebook) -> None:
        folder = self.root / "submitted" / student / self.assignment
        folder.mkdir(parents=True)
        files.write(notebook, folder / f"{self.assignment}.ipynb")

    def graded(self) -> set[str]:
        """Return the students whose notebooks were graded to the end."""
        folders = (self.root / "autograded").glob(f"*/{self.assignment}/{self.assignment}.ipynb")
        return {path.parent.parent.name for path in folders}

    def needs_no_hand(self, student: str) -> bool:
        """Say whether every point of a submission was given by a check."""
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}") as book:
            return not book.find_submission(self.assignment, student).needs_manual_grade

    def grade(self, student: str, notebook) -> dict[str, float]:
        """Hand in a notebook and return the points of each check."""
        self.hand_in(student, notebook)
        self.run("autograde", student)
        return self.points(student)

    def points(self, student: str) -> dict[str, float]:
        """Return the points of each check of a graded submission."""
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}") as book:
            submission = book.find_submission(self.assignment, student)
            grades = {g.name: g.auto_score for n in submission.notebooks for g in n.grades}
            assert submission.score == sum(grades.values())
            assert submission.max_score == len(grades)
        return grades

    def errors(self, student: str) -> list[str]:
        """Return what the cells of a graded submission raised."""
        path = self.root / "autograded" / student / self.assignment / f"{self.assignment}.ipynb"
        outputs = [out for cell in files.read(path).cells for out in cell.get("outputs", [])]
        return [f"{out.ename}: {out.evalue}" for out in outputs if out.output_type == "error"]


def make_course(root: Path, assignment: str, source: Path) -> Course:
    return Course(root, assignment).generate(source)


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    """Return a course whose assignment is generated from the committed solution."""
    source = ROOT / "solutions" / f"{CASE}.ipynb"
    return make_course(tmp_path_factory.mktemp("course"), CASE, source)


@pytest.fixture
def untouched():
    """Return the committed exercise, as a student opens it."""
    return files.read(ROOT / "exercises" / f"{CASE}.ipynb")


@pytest.fixture
def answers() -> dict[int, str]:
    """Return the right answers: what the solution has in place of the stubs."""
    solution = files.read(ROOT / "solutions" / f"{CASE}.ipynb")
    cells = exercises.answer_cells(solution)
    return {number: solution.cells[index].source for number, index in cells.items()}


def answered(notebook, answers: dict[int, str]):
    """Return a submission: an exercise with answers in some of its answer cells."""
    for number, index in exercises.answer_cells(notebook).items():
        if number in answers:
            notebook.cells[index].source = answers[number]
    return notebook


# The assignment.


def test_the_assignment_is_the_committed_exercise(course, untouched):
    release = files.read(course.release)
    nbformat.validate(release)
    MetadataValidator().validate_nb(release)

    def essence(notebook):
        return [
            (cell.id, cell.source, cell.metadata.get("nbgrader"))
            for cell in notebook.cells
            if cell.id != BADGES_ID  # it names the file where it stands
        ]

    assert essence(release) == essence(untouched)


def test_validating_the_assignment_names_the_open_checks_only(course, untouched):
    found = Validator(config=course.config).validate(str(course.release))
    checks = exercises.check_cells(untouched)
    assert found.keys() == {"failed"}
    assert [fault["source"] for fault in found["failed"]] == [
        untouched.cells[index].source for index in checks.values()
    ]
    assert all("not attempted" in fault["raw_error"] for fault in found["failed"])


# Submissions.


def test_an_untouched_submission_earns_nothing(course, untouched):
    grades = course.grade("untouched", untouched)
    assert grades == {f"check-{number}": 0 for number in exercises.check_cells(untouched)}
    raised = course.errors("untouched")
    assert len(raised) == len(grades)
    for number, error in enumerate(raised, 1):
        assert error.startswith(f"NotRight: Question {number}, not attempted: ")


def test_each_right_answer_earns_its_point(course, untouched, answers):
    wrong = exercises.questions(CASE)[2].wrong_answers[0]
    half = course.grade("half", answered(untouched, {1: answers[1], 2: wrong.code}))
    assert half == {"check-1": 1, "check-2": 0, "check-3": 0}
    raised = course.errors("half")
    assert [error.split(": ")[1] for error in raised] == [
        "Question 2, wrong",
        "Question 3, not attempted",
    ]
    assert wrong.reason in raised[0]


def test_a_right_submission_earns_everything(course, untouched, answers):
    grades = course.grade("right", answered(untouched, answers))
    assert grades == {f"check-{number}": 1 for number in answers}
    assert course.errors("right") == []


def test_nothing_of_the_grading_stays_in_this_process():
    assert "NBGRADER_EXECUTION" not in os.environ


# A planted fault: a check that only shows what it finds.


@pytest.fixture(scope="module")
def tiny_course(tmp_path_factory) -> Course:
    """Return a course whose first check prints, and whose second is one of the course's."""
    cells = [code("question", QUESTION)]
    for number, check in {1: "print(x1 == 4)", 2: "q2.check(x2)"}.items():
        answer = f"x{number} = ...\n### BEGIN SOLUTION\nx{number} = 4\n### END SOLUTION"
        for name, source, flags in (
            ("answer", answer, {"solution": True, "grade": False, "locked": False}),
            ("check", check, {"solution": False, "grade": True, "locked": True, "points": 1}),
        ):
            cell = code(f"{name}-{number}", source)
            cell.metadata.nbgrader = {"schema_version": 3, "task": False} | flags
            cell.metadata.nbgrader.grade_id = cell.id
            cells.append(cell)
    folder = tmp_path_factory.mktemp("tiny")
    return make_course(folder / "course", TINY, tiny.add(folder, f"{TINY}.ipynb", *cells))


def test_a_check_that_only_prints_gives_full_credit_for_nothing(tiny_course):
    grades = tiny_course.grade("untouched", files.read(tiny_course.release))
    assert grades == {"check-1": 1, "check-2": 0}


def test_a_check_that_the_student_changed_is_replaced_and_named(tiny_course):
    notebook = files.read(tiny_course.release)
    check = notebook.cells[exercises.check_cells(notebook)[2]]
    check.source = "print('right')"
    assert tiny_course.grade("forger", notebook)["check-2"] == 0
    submitted = tiny_course.root / "submitted" / "forger" / TINY / f"{TINY}.ipynb"
    found = Validator(config=tiny_course.config).validate(str(submitted))
    assert [fault["source"] for fault in found["changed"]] == ["print('right')"]


# What students do to their notebooks; the next student is graded all the same.


def cell_of(notebook, name: str):
    """Return the cell of a grade id."""
    [cell] = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name]
    return cell


def damaged(course: Course, *deleted: str, copied: str | None = None, right: bool = True):
    """Return a submission with right answers, without some cells or with one of them twice."""
    notebook = files.read(course.release)
    if right:
        for number in (1, 2):
            cell_of(notebook, f"answer-{number}").source = f"x{number} = 4"
    if copied:
        twin = copy.deepcopy(cell_of(notebook, copied))
        twin.id = "twin"
        notebook.cells.insert(notebook.cells.index(cell_of(notebook, copied)) + 1, twin)
    for name in deleted:
        notebook.cells.remove(cell_of(notebook, name))
    return notebook


@pytest.mark.parametrize(
    ("student", "deleted", "copied", "points"),
    [
        ("copied-answer", (), "answer-2", 1),
        ("copied-check", (), "check-2", 1),
        ("deleted-check", ("check-2",), None, 1),
        ("deleted-answer", ("answer-2",), None, 0),
        ("deleted-both", ("answer-2", "check-2"), None, 0),
        ("deleted-first", ("answer-1", "check-1"), None, 1),
        ("deleted-all", ("answer-1", "check-1", "answer-2", "check-2"), None, 0),
    ],
)
def test_a_damaged_submission_is_graded(tiny_course, student, deleted, copied, points):
    notebook = damaged(tiny_course, *deleted, copied=copied)
    assert tiny_course.grade(student, notebook)["check-2"] == points
    assert tiny_course.needs_no_hand(student)


def test_a_class_is_graded_to_its_last_student(tiny_course):
    """One call for all, as an instructor makes it; the first students' notebooks are damaged."""
    for student, notebook in (
        ("a-copier", damaged(tiny_course, copied="answer-2")),
        ("b-deleter", damaged(tiny_course, "answer-2", "check-2")),
        ("c-right", damaged(tiny_course)),
    ):
        tiny_course.hand_in(student, notebook)
    tiny_course.run("autograde", "*", False)
    points = {s: tiny_course.points(s)["check-2"] for s in ("a-copier", "b-deleter", "c-right")}
    assert points == {"a-copier": 1, "b-deleter": 0, "c-right": 1}


def test_without_the_repair_a_copied_cell_ends_the_grading(tiny_course):
    """The planted fault: nbgrader's own steps; they stop before the next student."""
    tiny_course.hand_in("y-copier", damaged(tiny_course, copied="answer-2"))
    tiny_course.hand_in("z-later", damaged(tiny_course))
    config = tiny_course.config
    del config.Autograde["sanitize_preprocessors"]
    del config.OverwriteCells["add_missing_cells"]
    done = NbGraderAPI(config=config).autograde(TINY, "*", False)
    assert not done["success"]
    assert "z-later" not in tiny_course.graded()
    tiny_course.run("autograde", "*", False)
    assert {"y-copier", "z-later"} <= tiny_course.graded()


def test_without_the_setting_a_deleted_check_needs_a_hand(tiny_course):
    """The planted fault: missing cells are not put back."""
    tiny_course.hand_in("unset", damaged(tiny_course, "check-2"))
    config = tiny_course.config
    config.OverwriteCells.add_missing_cells = False
    assert NbGraderAPI(config=config).autograde(TINY, "unset")["success"]
    assert not tiny_course.needs_no_hand("unset")
