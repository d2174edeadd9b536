"""The exercise contract: what a solution, its stub and each wrong answer must do."""

from __future__ import annotations

import copy
from pathlib import Path

from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from casebook.author.execute import CELL_TIMEOUT
from casebook.author.exercises import answer_cells, check_cells, questions
from casebook.author.files import read
from casebook.exercises.grading import OUTCOME_MIME


def _outcome(cell: NotebookNode) -> dict:
    """Return the outcome that a check cell displayed; an empty one if none."""
    for output in cell.get("outputs", []):
        if output.output_type == "display_data" and OUTCOME_MIME in output.data:
            return dict(output.data[OUTCOME_MIME])
    return {"status": "no outcome shown", "message": "", "hints": 0}


def solution_faults(path: Path) -> list[str]:
    """Run a solution once and try every wrong answer before its own.

    Parameters
    ----------
    path : Path
        A notebook in ``solutions/``.

    Returns
    -------
    list of str
        What breaks the contract; empty when all holds.
    """
    notebook = read(path)
    asked, answers, checks = questions(path.stem), answer_cells(notebook), check_cells(notebook)
    found = []
    if not asked.keys() == answers.keys() == checks.keys():
        return [
            f"{path.stem}: questions {sorted(asked)}, answer cells {sorted(answers)} and check "
            f"cells {sorted(checks)} do not match"
        ]
    number_of = {index: number for number, index in answers.items()}
    last = {index: number for number, index in checks.items()}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel():

        def run(cell: NotebookNode) -> NotebookNode:
            cell = copy.deepcopy(cell)
            notebook.cells.append(cell)  # nbclient finds the cell's place by its index
            client.execute_cell(cell, len(notebook.cells) - 1)
            return notebook.cells.pop()

        for index, cell in list(enumerate(notebook.cells)):
            if (number := number_of.get(index)) is not None:
                check = notebook.cells[checks[number]]
                found += _wrong_answer_faults(asked[number], check, run)
            client.execute_cell(cell, index)
            if (number := last.get(index)) is not None and _outcome(cell)["status"] != "right":
                found.append(
                    f"question {number}: the solution's own answer is not right: {_outcome(cell)}"
                )
    return [f"{path.stem}: {fault}" for fault in found]


def _wrong_answer_faults(question, check: NotebookNode, run) -> list[str]:
    found, reasons = [], set()
    for count, wrong in enumerate(question.wrong_answers, 1):
        run(new_code_cell(wrong.code))
        outcome = _outcome(run(check))
        where = f"question {question.number}, wrong answer {count}"
        if outcome["status"] != "wrong":
            found.append(f"{where} is judged {outcome['status']!r}")
        elif wrong.reason not in outcome["message"]:
            found.append(
                f"{where}: expected the reason {wrong.reason!r}, got {outcome['message']!r}"
            )
        reasons.add(outcome["message"])
        hints = min(count, len(question.hints))
        if outcome["hints"] != hints:
            found.append(f"{where}: {outcome['hints']} hints are open, expected {hints}")
        again = _outcome(run(check))
        if again["hints"] != outcome["hints"]:
            found.append(f"{where}: the same answer again unlocked another hint")
    if len(reasons) < len(question.wrong_answers):
        found.append(f"question {question.number}: two wrong answers get the same reason")
    return found


def stub_faults(path: Path) -> list[str]:
    """Run an untouched exercise to its end: every check says "not attempted".

    Parameters
    ----------
    path : Path
        A notebook in ``exercises/``.

    Returns
    -------
    list of str
        Empty when all holds.
    """
    notebook = read(path)
    checks = check_cells(notebook)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    if not checks:
        return [f"{path.stem}: no check cells"]
    return [
        f"{path.stem}: untouched question {number} is judged {status!r}"
        for number, index in checks.items()
        if (status := _outcome(notebook.cells[index])["status"]) != "not attempted"
    ]
