"""From a solution to its exercise, and to its page in the book.

``solutions/NN.ipynb`` is the single source, in nbgrader's format. Cells tagged
``solution`` (the reasoning) are left out of the exercise; the page of the book
folds them.
"""

from __future__ import annotations

import copy
import importlib
import re
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from casebook.author import working
from casebook.author.files import CHECK_TAG, tags
from casebook.author.normalise import normalise
from casebook.exercises.asked import Asked
from casebook.exercises.grading import Question

REASONING_TAG = "solution"
#: The stub and nbgrader's markers: not part of the answer as the book shows it.
_NOT_SHOWN = re.compile(
    r"^[ \t]*((\w+ = )?\.\.\.|### (BEGIN|END) (SOLUTION|HIDDEN TESTS))[ \t]*$\n?", flags=re.M
)
STUB = "# Write your answer in place of the three dots above."


def questions(stem: str) -> dict[int, Question]:
    """Return the questions of an exercise by number.

    Parameters
    ----------
    stem : str
        Name of the notebook (``01_demand_forecasting``); the questions stand in
        ``casebook.cases.demand_forecasting.questions``.

    Raises
    ------
    ValueError
        If two questions share a number or a number is skipped.
    """
    module = importlib.import_module(f"casebook.cases.{stem.split('_', 1)[1]}.questions")
    found = [value for value in vars(module).values() if isinstance(value, Question)]
    numbers = sorted(q.number for q in found)
    if numbers != list(range(1, len(found) + 1)):
        raise ValueError(f"The questions of {stem} are numbered {numbers}; count from 1.")
    return {q.number: q for q in sorted(found, key=lambda q: q.number)}


def expected(stem: str, seed: int | None = None) -> dict[str, object]:
    """Return the right answers of an exercise in the world of a student's seed, by name.

    Parameters
    ----------
    stem : str
        Name of the notebook, such as ``01_demand_forecasting``.
    seed : int, optional
        By default the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.

    Raises
    ------
    ValueError
        If a question is not declared, so that its answer is known in the chapter's world only.
    """
    asked = questions(stem)
    if fixed := [number for number, question in asked.items() if not isinstance(question, Asked)]:
        raise ValueError(f"The answers to the questions {fixed} of {stem} know no other seed.")
    return {k: v for question in asked.values() for k, v in question.expected(seed).items()}


def without_stub(source: str) -> str:
    """Return the source of an answer or a check without stub lines and nbgrader's markers."""
    return _NOT_SHOWN.sub("", source).strip()


def answer_cells(solution: NotebookNode) -> dict[int, int]:
    """Return, for each question, the index of its answer cell (``grade_id`` ``answer-1``)."""
    return _graded(solution, "answer")


def check_cells(solution: NotebookNode) -> dict[int, int]:
    """Return, for each question, the index of its check cell (``grade_id`` ``check-1``)."""
    return _graded(solution, "check")


def _graded(solution: NotebookNode, kind: str) -> dict[int, int]:
    found = {}
    for index, cell in enumerate(solution.cells):
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if grade_id.startswith(f"{kind}-"):
            found[int(grade_id.removeprefix(f"{kind}-"))] = index
    return found


def exercise(solution: NotebookNode, path: str) -> NotebookNode:
    """Generate the exercise of a solution with nbgrader's own preprocessors.

    Parameters
    ----------
    solution : NotebookNode
        Not changed.
    path : str
        Path of the exercise in the repository (its launch links point there).

    Returns
    -------
    NotebookNode
    """
    # Here: nbgrader takes most of a second to import, and only this function needs it.
    from nbgrader import preprocessors as nb
    from traitlets.config import Config

    notebook = copy.deepcopy(solution)
    notebook.cells = [c for c in notebook.cells if REASONING_TAG not in tags(c)]
    for cell in notebook.cells:
        if CHECK_TAG in tags(cell):
            cell.metadata.tags = [t for t in cell.metadata.tags if t != CHECK_TAG]
    config = Config()
    config.ClearSolutions.code_stub = {"python": STUB}
    steps = (
        nb.CheckCellMetadata,
        nb.LockCells,
        nb.ClearSolutions,
        nb.ClearOutput,
        nb.ClearHiddenTests,
        nb.ComputeChecksums,
    )
    resources: dict = {"nbgrader": {}}
    for step in steps:
        notebook, resources = step(parent=None, config=config).preprocess(notebook, resources)
    made = normalise(notebook, path)
    made.metadata.casebook[working.GENERATED] = working.fingerprint(made)
    return made


def page(solution: NotebookNode, stem: str) -> NotebookNode:
    """Return the solution as the page of the book shows it: all but the questions is folded.

    Parameters
    ----------
    solution : NotebookNode
        Not changed.
    stem : str
        Name of the notebook.

    Returns
    -------
    NotebookNode
        A valid notebook that the book executes.
    """
    notebook = copy.deepcopy(solution)
    asked = questions(stem)
    number_of = {index: number for number, index in answer_cells(solution).items()}
    judged = {index: number for number, index in check_cells(solution).items()}
    cells = []
    for index, cell in enumerate(notebook.cells):
        if (number := number_of.get(index)) is not None:
            for count, hint in enumerate(asked[number].hints, 1):
                cells.append(_folded(f"Hint {count}", hint, f"question-{number}-hint-{count}"))
            _tag(cell, "hide-input")
            cell.metadata.mystnb = _prompts(f"the answer to question {number}")
            cell.source = _NOT_SHOWN.sub("", cell.source).strip()
        elif (number := judged.get(index)) is not None:
            _tag(cell, "hide-output")
            cell.metadata.mystnb = _prompts(f"what the check says to answer {number}")
            cell.source = _NOT_SHOWN.sub("", cell.source).strip()
        elif REASONING_TAG in tags(cell) and cell.cell_type == "markdown":
            cell.source = _details("Why", cell.source)
        elif REASONING_TAG in tags(cell):
            _tag(cell, "hide-cell")
            cell.metadata.mystnb = _prompts("the computation")
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _tag(cell: NotebookNode, tag: str) -> None:
    """Add a tag; a notebook in which one stands twice is not valid."""
    cell.metadata.tags = [*dict.fromkeys([*tags(cell), tag])]


def _prompts(what: str) -> dict[str, str]:
    return {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}


def _details(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def _folded(summary: str, body: str, name: str) -> NotebookNode:
    cell = new_markdown_cell(_details(summary, body))
    cell.id = name
    return cell


def exercise_path(solution_path: Path) -> Path:
    """Return where the exercise of a solution stands."""
    return solution_path.parent.parent / "exercises" / solution_path.name
