"""nbval as a gate: stored outputs are compared with those of the one execution."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import tiny
from nbformat.v4 import new_output
from tiny import checked, code

from casebook.author import __main__ as tool
from casebook.author import execute, files, judge

pytest_plugins = "pytester"

PATH = "chapters/00_tiny.ipynb"
SEEN = [new_output("stream", name="stdout", text="seen\n")]
#: By the id of a cell: what nbval says to it. The plants are made below.
VERDICTS = {
    "agrees": "PASSED",
    "stale": "FAILED",
    "stale-and-untagged": "PASSED",
    "without-its-count": "FAILED",
    "without-an-output": "FAILED",  # nbval alone passes it silently
    "shows-a-table": "PASSED",
    "shows-another-table": "FAILED",
    "as-before": "PASSED",
}
TABLE = "from IPython.display import HTML, display\ndisplay(HTML('<b>{}</b>'))\n7"
#: A notebook that notes each run of it.
NOTE = "with open({!r}, 'a') as log:\n    print({!r}, file=log)"


def planted(root):
    """Write a notebook with every kind of cell; return its path."""
    cells = [checked(name, "print(3)", shows="3\n") for name in VERDICTS]
    path = tiny.add(root, PATH, *cells)
    tiny.plant(path, "stale", source="print(4)")
    tiny.plant(path, "stale-and-untagged", metadata={}, outputs=SEEN)
    tiny.plant(path, "without-its-count", execution_count=None)
    tiny.plant(path, "without-an-output", execution_count=None, outputs=[])
    shown = [
        new_output("display_data", data={"text/html": "<b>1</b>", "text/plain": "<b>"}),
        new_output("execute_result", data={"text/plain": "7"}, execution_count=1),
    ]
    shown[0].data["text/plain"] = "<IPython.core.display.HTML object>"
    tiny.plant(path, "shows-a-table", source=TABLE.format(1), outputs=shown)
    tiny.plant(path, "shows-another-table", source=TABLE.format(2), outputs=shown)
    return path


def said(text: str, path) -> dict[str, str]:
    """Return what nbval said to each cell, by the id of the cell."""
    verdicts = dict(re.findall(r"::Cell (\d+) (PASSED|FAILED|ERROR)", text))
    ids = [cell.id for cell in files.read(path).cells if cell.cell_type == "code"]
    return {name: verdicts.get(str(index)) for index, name in enumerate(ids)}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Judge a notebook with every kind of cell: it is executed once, in a kernel."""
    root = tiny.checkout(tmp_path_factory.mktemp("nbval") / "checkout")
    path = planted(root)
    plugin = ("-p", "casebook.author.judge", "--judge", "-p", "no:cacheprovider")
    done = tiny.run("pytest", *plugin, "-v", path, cwd=root)
    return said(done.stdout, path), done


@pytest.mark.parametrize(("cell", "verdict"), VERDICTS.items())
def test_the_verdict_of_nbval(verdicts, cell, verdict):
    assert verdicts[0][cell] == verdict


def test_it_ends_with_an_error_and_shows_the_difference(verdicts):
    _, done = verdicts
    assert done.returncode == 1
    assert "Cell outputs differ" in done.stdout
    assert "The cell is to be compared and has no stored output" in done.stdout


# What an execution may lack: nothing runs here, the execution is given.


@pytest.fixture
def judged(pytester, monkeypatch):
    """Return a function that judges a notebook of three cells by an execution of it."""
    cells = [checked(name, "print(3)", shows="3\n") for name in ("first", "second", "third")]
    root = tiny.checkout(pytester.path / "checkout")
    path = tiny.add(root, PATH, *cells)

    def run(change=lambda notebook: None) -> tuple[list[str | None], str]:
        notebook = files.read(path)
        change(notebook)
        made = SimpleNamespace(notebook=notebook)
        monkeypatch.setattr(execute, "executed", lambda *_: made)
        options = ("-p", "casebook.author.judge", "--judge", "-p", "no:cacheprovider")
        done = pytester.runpytest_inprocess(*options, "-v", path)
        text = done.stdout.str()
        return [said(text, path)[name] for name in ("first", "second", "third")], text

    return run


def cell_of(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def without(notebook):
    notebook.cells.remove(cell_of(notebook, "second"))


def shows_four(notebook):
    cell_of(notebook, "second").outputs = [new_output("stream", name="stdout", text="4\n")]


def shows_nothing(notebook):
    cell_of(notebook, "second").outputs = []


def of_another_text(notebook):
    cell_of(notebook, "second").source = "print(6 - 3)"


def raised(notebook):
    error = new_output("error", ename="ValueError", evalue="planted", traceback=["planted"])
    cell_of(notebook, "second").outputs.append(error)
    cell_of(notebook, "third").update(outputs=[], execution_count=None)


def test_an_execution_that_agrees_passes(judged):
    assert judged()[0] == ["PASSED"] * 3


def test_marks_that_the_page_leaves_out_are_no_difference(judged):
    def marked(notebook):
        marks = "x = ...\n### BEGIN SOLUTION\nprint(3)\n\n### END SOLUTION"
        cell_of(notebook, "second").source = marks

    assert judged(marked)[0] == ["PASSED"] * 3


@pytest.mark.parametrize(
    ("change", "third", "says"),
    [
        (shows_four, "PASSED", "Cell outputs differ"),
        (shows_nothing, "PASSED", "Missing output fields from running code"),
        (without, "PASSED", "cell 'second' is not in the execution"),
        (of_another_text, "PASSED", "another text of it was executed"),
        (raised, "FAILED", "Cell execution caused an exception"),
    ],
)
def test_a_planted_fault_of_an_execution_fails(judged, change, third, says):
    verdicts, text = judged(change)
    assert verdicts == ["PASSED", "FAILED", third]
    assert says in text


def test_a_cell_after_the_end_of_a_run_was_not_executed(judged):
    assert "cell 'third' was not executed: the run ended before it" in judged(raised)[1]


def test_a_run_that_failed_is_an_error_of_every_cell(judged, monkeypatch):
    def fails(*_):
        raise execute.NotebookFailed("chapters/00_tiny", "second", "ValueError: planted")

    monkeypatch.setattr(judge, "execute", SimpleNamespace(executed=fails))
    verdicts, text = judged()
    assert verdicts == ["ERROR"] * 3
    assert "chapters/00_tiny, cell 'second': ValueError: planted" in text


# The command.


@pytest.fixture
def noting(checkout):
    """Return a checkout with three notebooks that note their runs, and the list of these."""
    log = checkout / "log"
    for name in ("chapters/00_a", "chapters/01_b", "solutions/01_b"):
        cells = [code("note", NOTE.format(str(log), name)), checked("n", "print(3)", "3\n")]
        tiny.add(checkout, f"{name}.ipynb", *cells)
    return checkout, lambda: sorted(log.read_text(encoding="utf-8").splitlines())


def nbval(root, *which):
    """Run the command on a checkout."""
    return tiny.run("casebook.author", "--root", root, "nbval", *which, cwd=root.parent)


def test_a_notebook_without_a_fresh_execution_is_executed_once(noting):
    root, log = noting
    for _ in range(2):
        done = nbval(root)
        assert done.returncode == 0, done.stdout
        assert log() == ["chapters/00_a", "chapters/01_b", "solutions/01_b"]
    tiny.plant(root / "chapters/00_a.ipynb", "n", source="print(4)")
    done = nbval(root, "00")
    assert done.returncode == 1 and "Cell outputs differ" in done.stdout
    assert log().count("chapters/00_a") == 2


def test_one_case_alone(noting):
    root, log = noting
    tiny.plant(root / "chapters/00_a.ipynb", "n", source="print(4)")
    done = nbval(root, "01")
    assert done.returncode == 0, done.stdout
    assert log() == ["chapters/01_b", "solutions/01_b"]
    assert nbval(root, "01", "00").returncode == 1


@pytest.fixture
def started(monkeypatch):
    """Collect the commands that are started instead of starting them."""
    commands = []

    def run(command, **_):
        commands.append(" ".join(map(str, command)))
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(tool.subprocess, "run", run)
    return commands


@pytest.mark.parametrize(("made", "workers"), [(None, "-n 2 --dist loadscope"), (object(), "-n 0")])
def test_two_workers_execute_what_is_not_executed_yet(noting, started, monkeypatch, made, workers):
    monkeypatch.setattr(tool, "stored", lambda *_: made)
    assert tool.command_nbval(noting[0]) == 3
    assert f" --judge {workers} " in started[0]


def test_exercises_are_not_validated_and_no_notebook_is_no_fault(checkout, started):
    tiny.add(checkout, "exercises/00_tiny.ipynb", code("n", "n = 3"))
    assert tool.command_nbval(checkout) == 0
    assert started == []
