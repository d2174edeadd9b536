"""From one solution to its exercise, byte by byte, and to its page in the book."""

from __future__ import annotations

import ast
import copy
import re
import sys
from types import ModuleType

import nbformat
import pytest
import tiny
from nbgrader.nbgraderformat import MetadataValidator, ValidationError
from nbgrader.utils import compute_checksum
from tiny import ROOT, code, prose

from casebook.author import exercises, files
from casebook.author.__main__ import main
from casebook.exercises.grading import Question, WrongAnswer

SOLUTIONS = files.notebooks("solutions", root=ROOT)
CASE = "00_how_a_case_works.ipynb"
MARKER = re.compile(r"### (BEGIN|END)")
REGION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", flags=re.S)


def graded(name: str, source: str, tags=(), **metadata):
    """Return a code cell of nbgrader: an answer (``solution=True``) or a check (``grade=True``)."""
    cell = code(name, source, tags)
    flags = {"grade": False, "solution": False, "locked": False, "task": False}
    cell.metadata.nbgrader = flags | {"schema_version": 3, "grade_id": name} | metadata
    return cell


ANSWER = "share = ...\n### BEGIN SOLUTION\npart = count(rows)\nshare = part / 4\n### END SOLUTION"


def tiny_solution(answer=ANSWER, check="tiny.q1.check(share)"):
    """Return a solution with one question and its reasoning."""
    return tiny.notebook(
        prose("question-1", "## Question 1"),
        graded("answer-1", answer, solution=True),
        graded("check-1", check, [files.CHECK_TAG], grade=True, locked=True, points=1),
        prose("why-1", "Because of the parts."),
        code("numbers-1", "print(part)", ["solution"]),
        path="solutions/00_tiny.ipynb",
    )


@pytest.fixture
def solution():
    made = tiny_solution()
    made.cells[-2].metadata.tags = ["solution"]
    return made


@pytest.fixture
def asked(monkeypatch):
    """Let the exercise ``tiny`` have one question with two hints."""
    wrong = (WrongAnswer("share = 1", "too large"), WrongAnswer("share = 0", "too small"))
    module = ModuleType("casebook.cases.tiny.questions")
    module.q1 = Question(1, "a share", str, ("Think.", "Divide."), wrong)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def pair(path):
    """Return a committed solution and its exercise as generated now."""
    solution = files.read(path)
    return solution, exercises.exercise(solution, f"exercises/{path.name}")


def secrets(solution) -> set[str]:
    """Return what no exercise may hold: each line of an answer, and the reasoning."""
    answers = [match for cell in solution.cells for match in REGION.findall(cell.source)]
    lines = {line.strip() for source in answers for line in source.splitlines()}
    reasoning = {c.source for c in solution.cells if exercises.REASONING_TAG in files.tags(c)}
    return {line for line in lines if re.search(r"\w.*\w[^(]*$", line)} | reasoning


def told(solution, exercise) -> set[str]:
    """Return what an exercise tells of its solution."""
    text = "\n".join(cell.source for cell in exercise.cells)
    return {secret for secret in secrets(solution) if secret in text}


# Every committed exercise.


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_committed_exercise_is_what_its_solution_generates(path):
    _, exercise = pair(path)
    committed = exercises.exercise_path(path).read_bytes()
    assert files.text(exercise).encode() == committed


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_an_exercise_tells_nothing_of_its_solution(path):
    solution, exercise = pair(path)
    assert len(secrets(solution)) > len(exercises.questions(path.stem))
    assert told(solution, exercise) == set()
    assert not any(exercises.REASONING_TAG in files.tags(cell) for cell in exercise.cells)
    assert not any(MARKER.search(cell.source) for cell in exercise.cells)
    assert not any(cell.get("outputs") for cell in exercise.cells)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_answer_cell_is_a_stub_of_the_names_that_its_check_takes(path):
    _, exercise = pair(path)
    answers, checks = exercises.answer_cells(exercise), exercises.check_cells(exercise)
    assert list(answers) == list(exercises.questions(path.stem))  # how many: test_contract.py
    for number, index in answers.items():
        *blanks, comment = exercise.cells[index].source.splitlines()
        names = {blank.removesuffix(" = ...") for blank in blanks}
        assert blanks and all(blank.endswith(" = ...") for blank in blanks)
        assert comment == exercises.STUB
        check = ast.parse(exercise.cells[checks[number]].source)
        assert names <= {node.id for node in ast.walk(check) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_metadata_are_what_nbgrader_asks_for(path):
    for notebook in pair(path):
        MetadataValidator().validate_nb(notebook)
    for cell in notebook.cells:
        given = cell.metadata.get("nbgrader")
        if given is None:
            continue
        assert given.checksum == compute_checksum(cell)
        assert cell.metadata.deletable is False
        if given.grade_id.startswith("check-"):
            assert (given.grade, given.locked, given.points) == (True, True, 1)
            assert cell.metadata.editable is False
        else:
            assert (given.solution, given.locked) == (True, False)
            assert cell.metadata.get("editable", True)


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell.metadata.nbgrader.pop("points"),
        lambda cell: cell.metadata.nbgrader.update(grade_id="answer-1"),
        lambda cell: cell.metadata.nbgrader.update(grade_id="check 1"),
        lambda cell: cell.metadata.nbgrader.update(locked="yes"),
    ],
    ids=["no points", "a name that stands twice", "a name with a blank", "no truth value"],
)
def test_nbgrader_finds_a_planted_fault(solution, change):
    [cell] = [cell for cell in solution.cells if cell.id == "check-1"]
    change(cell)
    with pytest.raises(ValidationError):
        MetadataValidator().validate_nb(solution)


# How an exercise is made.


def test_generating_leaves_the_solution_alone(solution, asked):
    before = copy.deepcopy(solution)
    exercises.exercise(solution, "exercises/00_tiny.ipynb")
    exercises.page(solution, "00_tiny")
    assert solution == before


def test_the_exercise_of_a_tiny_solution(solution):
    made = exercises.exercise(solution, "exercises/00_tiny.ipynb")
    assert [cell.source for cell in made.cells[3:]] == [
        "## Question 1",
        f"share = ...\n{exercises.STUB}",
        "tiny.q1.check(share)",
    ]
    assert "exercises/00_tiny.ipynb" in made.cells[1].source


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (code("rest", "part = count(rows)"), "part = count(rows)"),
        (prose("hint", "Text\n\n    print(part)"), "print(part)"),
        (prose("why", "Because of the parts."), "Because of the parts."),
    ],
    ids=["its answer", "code of its reasoning", "prose of its reasoning"],
)
def test_a_line_of_the_solution_in_the_exercise_is_found(solution, cell, line):
    made = exercises.exercise(solution, "exercises/00_tiny.ipynb")
    assert told(solution, made) == set()
    made.cells.append(cell)
    assert told(solution, made) == {line}


def test_hidden_tests_are_left_out():
    made = exercises.exercise(tiny_solution(check=HIDDEN), "exercises/00_tiny.ipynb")
    assert made.cells[5].source == "q1.check(f)"


def test_a_solution_region_without_its_end_is_an_error():
    with pytest.raises(RuntimeError):
        exercises.exercise(tiny_solution(ANSWER[: ANSWER.rindex("\n")]), "exercises/00_tiny.ipynb")


# What `check` says about the folder.


def check(root, capfd) -> tuple[int, list[str]]:
    code = main(["--root", str(root), "check"])
    return code, capfd.readouterr().out.splitlines()


@pytest.fixture
def committed(tmp_path):
    """Return a checkout with the committed solutions and exercises."""
    return tiny.checkout(tmp_path / "committed", "solutions", "exercises")


def test_committed_exercises_are_in_order(committed, capfd):
    count = 2 * len(SOLUTIONS)
    assert check(committed, capfd) == (0, [f"{count} notebooks are in order"])


def test_a_changed_byte_is_found_and_generated_anew(committed, capfd):
    path = committed / "exercises" / CASE
    before = path.read_bytes()
    path.write_bytes(before.replace(b"25 minutes", b"26 minutes"))
    assert path.read_bytes() != before
    fault = f"exercises/{CASE}: not what its solution generates; run `make exercises`"
    assert check(committed, capfd) == (1, [fault])
    assert main(["--root", str(committed), "exercises"]) == 0
    kept = f"kept        work/{CASE} has what was changed by hand in exercises/{CASE}\n"
    assert capfd.readouterr().out == f"{kept}generated   exercises/{CASE}\n"
    assert path.read_bytes() == before


def test_a_missing_exercise_is_found(committed, capfd):
    (committed / "exercises" / CASE).unlink()
    fault = f"exercises/{CASE}: not what its solution generates; run `make exercises`"
    assert check(committed, capfd) == (1, [fault])


def test_an_exercise_without_a_solution_is_found(committed, capfd):
    tiny.add(committed, "exercises/01_tiny.ipynb")
    fault = "exercises/01_tiny.ipynb: an exercise without a solution"
    assert check(committed, capfd) == (1, [fault])


# The page in the book.


def folded(cell) -> bool:
    """Say whether a cell shows nothing but a summary until it is opened."""
    return bool(
        re.fullmatch(r"<details>\n<summary>.+</summary>\n\n.+</details>", cell.source, re.S)
    )


def page_faults(page, asked) -> list[str]:
    """Return what a page shows too early, or of nbgrader's."""
    found = [f"{c.id}: a marker of nbgrader" for c in page.cells if MARKER.search(c.source)]
    for number, index in exercises.answer_cells(page).items():
        answer, hints = page.cells[index], asked[number].hints
        before = page.cells[index - len(hints) : index]
        if any(
            not folded(cell) or f"Hint {i}<" not in cell.source or hint not in cell.source
            for i, (cell, hint) in enumerate(zip(before, hints, strict=True), 1)
        ):
            found.append(f"{answer.id}: hints that are not folded before it")
        if "hide-input" not in files.tags(answer):
            found.append(f"{answer.id}: an open answer")
        if "..." in answer.source:
            found.append(f"{answer.id}: its stub")
    for cell in page.cells:
        if exercises.REASONING_TAG in files.tags(cell):
            hidden = folded(cell) or "hide-cell" in files.tags(cell)
            found += [] if hidden else [f"{cell.id}: open reasoning"]
    return found


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_page_folds_every_hint_and_answer(path):
    solution = files.read(path)
    page = exercises.page(solution, path.stem)
    nbformat.validate(page)
    assert len({cell.id for cell in page.cells}) == len(page.cells)
    assert page_faults(page, exercises.questions(path.stem)) == []
    hints = sum(len(question.hints) for question in exercises.questions(path.stem).values())
    assert len(page.cells) == len(solution.cells) + hints


def test_the_page_shows_the_answer_alone(solution, asked):
    page = exercises.page(solution, "00_tiny")
    assert page_faults(page, {1: asked.q1}) == []
    [answer] = [cell for cell in page.cells if cell.id == "answer-1"]
    assert answer.source == "part = count(rows)\nshare = part / 4"


@pytest.mark.parametrize(
    ("cell", "changes", "fault"),
    [
        (
            "question-1-hint-2",
            {"source": "Divide."},
            "answer-1: hints that are not folded before it",
        ),
        ("question-1-hint-1", {"source": ""}, "answer-1: hints that are not folded before it"),
        ("answer-1", {"source": ANSWER}, "answer-1: a marker of nbgrader"),
        ("answer-1", {"source": "share = ..."}, "answer-1: its stub"),
        ("why-1", {"source": "Because of the parts."}, "why-1: open reasoning"),
    ],
)
def test_a_planted_fault_of_the_page_is_found(solution, asked, cell, changes, fault):
    page = exercises.page(solution, "00_tiny")
    next(c for c in page.cells if c.id == cell).update(changes)
    assert fault in page_faults(page, {1: asked.q1})


FUNCTION = """\
def f(x):
    ...
    ### BEGIN SOLUTION
    return x
    ### END SOLUTION"""
HIDDEN = "q1.check(f)\n### BEGIN HIDDEN TESTS\nassert f\n### END HIDDEN TESTS"


@pytest.mark.parametrize(
    "made", [{"answer": FUNCTION}, {"check": HIDDEN}], ids=["in a function", "hidden tests"]
)
def test_no_marker_of_nbgrader_reaches_the_page(asked, made):
    page = exercises.page(tiny_solution(**made), "00_tiny")
    assert [cell.source for cell in page.cells if MARKER.search(cell.source)] == []


@pytest.mark.parametrize(("numbers", "fits"), [((1, 2), True), ((1, 3), False), ((1, 1), False)])
def test_questions_count_from_one(asked, numbers, fits):
    for name, number in zip(("q1", "q2"), numbers, strict=True):
        setattr(asked, name, Question(number, "x", str, ("Think.",), asked.q1.wrong_answers))
    if fits:
        assert list(exercises.questions("00_tiny")) == [1, 2]
    else:
        with pytest.raises(ValueError, match="count from 1"):
            exercises.questions("00_tiny")
