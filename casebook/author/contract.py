"""The exercise contract: what a solution, its stub, and each wrong and right answer must do.

A declared question (:mod:`casebook.exercises.asked`) must also tell its slips apart, take no
hint for an answer in the wrong form, and keep all this in the world of every student's seed.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pandas as pd
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from casebook.author.execute import CELL_TIMEOUT
from casebook.author.exercises import REASONING_TAG, answer_cells, check_cells, questions
from casebook.author.files import read, tags
from casebook.author.launch import COLAB_ID
from casebook.exercises.asked import Asked
from casebook.exercises.code import run as run_code
from casebook.exercises.collisions import collisions
from casebook.exercises.grading import BLANK, OUTCOME_MIME, STUDENT_SEED, Question

#: Runs code in the notebook's kernel and returns the cell with its outputs.
Run = Callable[[str], NotebookNode]
#: What a kernel displays before each check whose outcome is wanted.
BEGINS = "application/vnd.casebook.begins"


def _outcome(cell: NotebookNode) -> dict:
    """Return the outcome that a check cell displayed; an empty one if none."""
    for output in cell.get("outputs", []):
        if output.output_type == "display_data" and OUTCOME_MIME in output.data:
            return dict(output.data[OUTCOME_MIME])
    return {"status": "no outcome shown", "message": "", "hints": 0}


def solution_faults(path: Path) -> list[str]:
    """Run a solution once and try every wrong and every other right answer before its own.

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
    found += hint_faults(path)
    number_of = {index: number for number, index in answers.items()}
    last = {index: number for number, index in checks.items()}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel():

        def run(source: str) -> NotebookNode:
            notebook.cells.append(new_code_cell(source))  # nbclient finds a cell by its index
            client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
            return notebook.cells.pop()

        for index, cell in list(enumerate(notebook.cells)):
            if (number := number_of.get(index)) is not None:
                found += _answer_faults(asked[number], notebook.cells[checks[number]].source, run)
            client.execute_cell(cell, index)
            if (number := last.get(index)) is not None and _outcome(cell)["status"] != "right":
                found.append(
                    f"question {number}: the solution's own answer is not right: {_outcome(cell)}"
                )
    return [f"{path.stem}: {fault}" for fault in found]


def _answer_faults(question: Question, check: str, run: Run) -> list[str]:
    """Return what is wrong with how the answers to one question are judged."""
    found, begins, instead = [], "", ""
    if isinstance(question, Asked):
        found += _form_faults(question, check, run) + _collision_faults(check, run)
        # What is right is computed once: each answer to be tried begins with it.
        begins, instead = question.right_code, "globals().update(_right_answers)\n"
        kept = ", ".join(f"{part.name}={part.name}" for part in question.parts)
        run(f"{begins}_right_answers = dict({kept})")
    wrong = [instead + answer.code.removeprefix(begins) for answer in question.wrong_answers]
    right = [instead + code.removeprefix(begins) for code in question.right_answers]
    found += _wrong_answer_faults(question, _outcomes(run, wrong, check, times=2))
    return found + _right_answer_faults(question, _outcomes(run, right, check))


def _collision_faults(check: str, run: Run) -> list[str]:
    """Return the collisions that the kernel finds, where the check has drawn its world."""
    module = "__import__('casebook.exercises.collisions').exercises.collisions"
    question = _called(check).removesuffix(".check")
    faults = f"{module}.collision_faults({question})"
    cell = run(f"print(__import__('json').dumps({faults}))")
    return json.loads("".join(o.text for o in cell.outputs if o.get("name") == "stdout"))


def _outcomes(run: Run, answers: Iterable[str], check: str, times: int = 1) -> list[dict]:
    """Return the outcome of each check of each answer, all of them in one cell.

    A cell takes longer to send than what most answers do in it.
    """
    begins = f"get_ipython().display_pub.publish({{{BEGINS!r}: ''}})\n{check}\n"
    each: list[list[NotebookNode]] = []
    for output in run("\n".join(f"{answer}\n{begins * times}" for answer in answers)).outputs:
        if output.output_type == "display_data" and BEGINS in output.data:
            each.append([])
        elif each:
            each[-1].append(output)
    return [_outcome(NotebookNode(outputs=outputs)) for outputs in each]


def _wrong_answer_faults(question: Question, outcomes: Iterable[dict]) -> list[str]:
    """Judge the outcomes of the wrong answers, each checked twice."""
    found, reasons = [], set()
    pairs = zip(*[iter(outcomes)] * 2, strict=True)
    for count, (wrong, (outcome, again)) in enumerate(
        zip(question.wrong_answers, pairs, strict=True), 1
    ):
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
        if again["hints"] != outcome["hints"]:
            found.append(f"{where}: the same answer again unlocked another hint")
    # Each slip of a declared question has its own reason, see `collision_faults`.
    if not isinstance(question, Asked) and len(reasons) < len(question.wrong_answers):
        found.append(f"question {question.number}: two wrong answers get the same reason")
    return found


def _right_answer_faults(question: Question, outcomes: Iterable[dict]) -> list[str]:
    return [
        f"question {question.number}, right answer {count} is judged "
        f"{outcome['status']!r}: {outcome['message']!r}"
        for count, (_, outcome) in enumerate(zip(question.right_answers, outcomes, strict=True), 1)
        if outcome["status"] != "right"
    ]


def _form_faults(question: Asked, check: str, run: Run) -> list[str]:
    """Return where an answer in the wrong form is not refused, or opens a hint."""
    found = []
    blank = "".join(f"{name} = ...\n" for name in question.names)
    answers = [
        f"{part.name} = {wrong}"
        for part in question.parts
        for wrong in ("None", "'0.5'", "object()")
    ]
    outcomes = _outcomes(run, (blank + answer for answer in answers), check)
    for answer, outcome in zip(answers, outcomes, strict=True):
        where = f"question {question.number}, `{answer}`"
        if outcome["status"] != "wrong":
            found.append(f"{where} is judged {outcome['status']!r}")
        elif outcome["hints"]:
            found.append(f"{where} opens a hint")
    return found


def seed_faults(path: Path, seeds: Iterable[int]) -> list[str]:
    """Try the right and wrong answers of a solution in the worlds of several students.

    The cells that an exercise shows run in this process, once for each seed.

    Parameters
    ----------
    path : Path
        A notebook in ``solutions/`` whose questions are all declared.
    seeds : iterable of int

    Returns
    -------
    list of str
        What breaks the contract, with its seed; empty when all holds.
    """
    notebook, asked = read(path), questions(path.stem)
    skipped = {*answer_cells(notebook).values(), *check_cells(notebook).values()}
    shown = [
        cell.source
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
        and index not in skipped
        and cell.id != COLAB_ID
        and REASONING_TAG not in tags(cell)
    ]
    found = []
    for seed in seeds:
        with _student(seed):
            names: dict[str, object] = {}
            with redirect_stdout(io.StringIO()):  # tables and sentences are not looked at
                for source in shown:
                    run_code(source, names)
            for question in asked.values():
                found += [f"{path.stem}, seed {seed}: {f}" for f in _seed_faults(question, names)]
    return found


def _seed_faults(question: Asked, names: Mapping[str, object]) -> Iterator[str]:
    answered = dict(names)
    run_code(question.right_code, answered)

    def judged(code: str):
        scope = dict(answered)
        run_code(code.removeprefix(question.right_code), scope)
        return question.outcome(*(scope.get(name, BLANK) for name in question.names))

    right = tuple(question.expected().get(name, BLANK) for name in question.names)
    for what, outcome in (
        ("the expected answer", question.outcome(*right)),
        *((f"right answer {n}", judged(c)) for n, c in enumerate(question.right_answers, 1)),
    ):
        if outcome.status != "right":
            yield f"question {question.number}, {what} is judged wrong: {outcome.message!r}"
    # In a world where a slip happens to give the right answer, it is right.
    by_chance = {c.reasons[0] for c in collisions(question) if len(c.reasons) == 1}
    for count, wrong in enumerate(question.wrong_answers, 1):
        outcome = judged(wrong.code)
        if outcome.status == "right" and wrong.reason in by_chance:
            continue
        if outcome.status != "wrong" or wrong.reason not in outcome.message:
            yield (
                f"question {question.number}, wrong answer {count}: expected the reason "
                f"{wrong.reason!r}, got {outcome.message!r}"
            )


@contextmanager
def _student(seed: int) -> Iterator[None]:
    before = os.environ.get(STUDENT_SEED)
    os.environ[STUDENT_SEED] = str(seed)
    try:
        yield
    finally:
        os.environ.pop(STUDENT_SEED)
        if before is not None:
            os.environ[STUDENT_SEED] = before


def name_faults(path: Path) -> list[str]:
    """Return the answers' names that two questions share or that hide what later cells need.

    A check must receive the answers and nothing else: whatever it needs beside them could have
    been edited.

    Parameters
    ----------
    path : Path
        A notebook in ``solutions/`` whose questions are all declared.

    Returns
    -------
    list of str
        Empty when all holds.
    """
    notebook = read(path)
    answers, checks = answer_cells(notebook), check_cells(notebook)
    shown: set[str] = set()
    found, owners = [], {}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or index in checks.values() or cell.id == COLAB_ID:
            continue
        if index not in answers.values() and REASONING_TAG not in tags(cell):
            shown |= _assigned(cell.source)
    for number, index in answers.items():
        stub = notebook.cells[index].source.partition("### BEGIN SOLUTION")[0]
        for name in sorted(_assigned(stub)):
            if name in owners:
                found.append(f"`{name}` is asked by the questions {owners[name]} and {number}")
            if name in shown:
                found.append(f"question {number}: the answer `{name}` hides the notebook's own")
            owners.setdefault(name, number)
    for number, question in questions(path.stem).items():
        taken = _arguments(notebook.cells[checks[number]].source)
        if taken != question.names:
            found.append(f"the check of question {number} takes {taken}, not {question.names}")
    alias = {_called(notebook.cells[i].source).split(".")[0] for i in checks.values()}
    if alias != {f"exercise_{path.stem.split('_')[0]}"}:
        found.append(f"the questions are named {sorted(alias)}, a name that an answer may take")
    return [f"{path.stem}: {fault}" for fault in found]


def hint_faults(path: Path) -> list[str]:
    """Return what hints say in names that only the check knows.

    A hint is shown as it stands: nobody fills in a template, and its code meets the reader's
    notebook, which has what its cells define and the columns of the tables that it shows.

    Parameters
    ----------
    path : Path
        A notebook in ``solutions/``.

    Returns
    -------
    list of str
        Without the notebook's name; empty when all holds.
    """
    notebook = read(path)
    own = {*answer_cells(notebook).values(), *check_cells(notebook).values()}
    shown: set[str] = set()
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and index not in own and cell.id != COLAB_ID:
            shown |= set() if REASONING_TAG in tags(cell) else _assigned(cell.source)
    found = []
    for number, question in questions(path.stem).items():
        where = f"question {number}, hint"
        for count, hint in enumerate(question.hints, 1):
            raw = re.findall(r"\{[A-Za-z_]\w*(?:[.(\[:][^{}]*)?\}", hint)
            found += [f"{where} {count} shows {field} as it stands" for field in raw]
        if isinstance(question, Asked):
            found += [f"{where} {told}" for told in _only_the_check_knows(question, shown)]
    return found


def _only_the_check_knows(question: Asked, shown: set[str]) -> Iterator[str]:
    """Yield the names in a question's hints that its setup defines and the notebook does not.

    One letter is a symbol of a formula and no name.
    """
    checks = _assigned(question.setup)
    known = {*shown, *question.exercise.given, *question.names}
    for count, hint in enumerate(question.hints, 1):
        pieces = [piece for code in re.findall(r"`([^`]+)`", hint) if (piece := _parsed(code))]
        known |= {name for code in pieces for name in _assigned(ast.unparse(code))}
        used = {node.id for code in pieces for node in ast.walk(code) if isinstance(node, ast.Name)}
        unknown = sorted(name for name in (used & checks) - known if len(name) > 1)
        if unknown:  # only then is a world drawn
            tables = [one for one in question.scope().values() if isinstance(one, pd.DataFrame)]
            known |= {str(column) for table in tables for column in table}
        for name in (name for name in unknown if name not in known):
            yield f"{count} uses `{name}`, which the notebook does not define"


def _parsed(code: str) -> ast.Module | None:
    """Return a piece of a hint as code, if it is some."""
    try:
        return ast.parse(code)
    except SyntaxError:
        return None


def _called(check: str) -> str:
    """Return what a check calls: ``exercise_01.q1.check``."""
    calls = (node for node in ast.walk(ast.parse(check)) if isinstance(node, ast.Call))
    return next((ast.unparse(call.func) for call in calls), "")


def _arguments(check: str) -> tuple[str, ...]:
    """Return what a check receives: the answers, and nothing that the reader may have edited."""
    call = next(node for node in ast.walk(ast.parse(check)) if isinstance(node, ast.Call))
    return tuple(ast.unparse(argument) for argument in call.args)


def _assigned(source: str) -> set[str]:
    """Return the names that a cell imports, defines or assigns for the cells after it."""
    found, open_nodes = set(), [*ast.parse(source).body]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, _OWN_SCOPE):
            open_nodes += ast.iter_child_nodes(node)
    return found


#: What is assigned inside of these is gone behind them.
_OWN_SCOPE = (
    *(ast.FunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


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
