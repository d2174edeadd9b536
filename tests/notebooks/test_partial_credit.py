"""An answer of two parts earns nothing, half or everything when nbgrader grades it."""

from __future__ import annotations

import pytest
import tiny
from test_nbgrader import make_course
from tiny import code

from casebook.author import exercises, files

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
NAME = "00_parts"
QUESTION = """\
import warnings
from casebook.exercises.asked import Exercise, Part, Slip

slips = [Slip("right + 1", "One too many."), Slip("2 * right", "Twice as many.")]
exercise = Exercise("00_parts", 1, given={})
q1 = exercise.asked(
    1,
    "`a` and `b`",
    [Part("a", "4", slips, "No."), Part("b", "a / 2", slips, "No.")],
    shows="Yes.",
    hints=["Add."],
)"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a course with one question of two parts."""
    answer = "a = ...\nb = ...\n### BEGIN SOLUTION\na, b = 4, 2\n### END SOLUTION"
    cells = [code("question", QUESTION)]
    for name, source, flags in (
        ("answer-1", answer, {"solution": True, "grade": False, "locked": False}),
        ("check-1", "q1.check(a, b)", {"solution": False, "grade": True, "locked": True}),
    ):
        cell = code(name, source)
        cell.metadata.nbgrader = {"schema_version": 3, "task": False, "grade_id": name, **flags}
        cell.metadata.nbgrader |= {"points": 1} if flags["grade"] else {}
        cells.append(cell)
    folder = tmp_path_factory.mktemp("parts")
    return make_course(folder / "course", NAME, tiny.add(folder, f"{NAME}.ipynb", *cells))


@pytest.mark.parametrize(
    ("student", "answer", "points"),
    [
        ("nothing", "a = b = ...", 0),
        ("wrong", "a, b = 5, 4", 0),
        ("one-given", "a, b = 4, ...", 0.5),
        ("one-right", "a, b = 4, 3", 0.5),
        ("all", "a, b = 4, 2", 1),
        # What an answer changes after the import earns nothing.
        ("forger", "import os\nos.environ.pop('NBGRADER_EXECUTION')\na, b = 4, ...", 0.5),
        ("escaper", "import os\nos.environ.pop('NBGRADER_EXECUTION')\na = b = 0", 0),
    ],
)
def test_each_right_part_earns_its_share(course, student, answer, points):
    notebook = files.read(course.release)
    notebook.cells[exercises.answer_cells(notebook)[1]].source = answer
    assert course.grade(student, notebook) == {"check-1": points}
