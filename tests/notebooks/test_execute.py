"""A notebook ends at a cell, by name; what is recorded; which notebooks are found."""

from __future__ import annotations

import contextlib
import pickle

import pytest
import tiny
from tiny import checked, code

from casebook.author import execute as module
from casebook.author import files
from casebook.author.__main__ import main
from casebook.author.execute import NotebookFailed, execute

PATH = "chapters/00_tiny.ipynb"
OPEN_END = "import time\nprint('asleep')\ntime.sleep(60)"


def run(folder, *cells, **env):
    """Execute a small notebook; return it with the seconds that it took."""
    notebook = tiny.notebook(*cells)
    return notebook, execute(notebook, PATH, folder, env or None)


def outputs(notebook, name) -> list[str]:
    """Return what a cell of a notebook has printed."""
    [cell] = [cell for cell in notebook.cells if cell.id == name]
    return [output.text for output in cell.outputs]


# Where a notebook ends.


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise ValueError('no such column')", "ValueError: no such column"),
        ("return 3", "SyntaxError: 'return' outside function"),
        ("import os\nos._exit(1)", "the kernel died (out of memory?)"),
        (OPEN_END, "took longer than 4 s"),
    ],
    ids=["an exception", "no Python", "a dead kernel", "out of time"],
)
def test_the_failing_cell_is_named(tmp_path, monkeypatch, source, error):
    monkeypatch.setattr(module, "CELL_TIMEOUT", 4)
    with pytest.raises(NotebookFailed) as caught:
        run(tmp_path, code("fine", "n = 3"), code("fails", source), code("after", "n"))
    failure = caught.value
    assert (failure.name, failure.cell) == (PATH, "fails")
    assert failure.error.startswith(error)
    assert str(failure) == f"{PATH}, cell 'fails': {failure.error}"


def test_a_failure_passes_through_context_managers_and_processes():
    failure = NotebookFailed(PATH, "fails", "ValueError: no")

    @contextlib.contextmanager
    def around():
        yield

    with pytest.raises(NotebookFailed, match="cell 'fails'"), around():
        raise failure
    assert str(pickle.loads(pickle.dumps(failure))) == str(failure)


def test_a_notebook_without_faults_gets_its_outputs(tmp_path):
    show = "import os\nprint(os.environ['CASEBOOK_TINY'], os.path.basename(os.getcwd()))"
    notebook, seconds = run(tmp_path, code("show", show), CASEBOOK_TINY="yes")
    assert outputs(notebook, "show") == [f"yes {tmp_path.name}\n"]
    assert 0 < seconds < 60
    assert all("execution" not in cell.metadata for cell in notebook.cells)


# Files.


def test_find_lists_the_names_there_are(checkout):
    for path in (PATH, "chapters/01_other.ipynb", "solutions/01_other.ipynb"):
        tiny.add(checkout, path)
    with pytest.raises(FileNotFoundError) as caught:
        files.find("07", root=checkout)
    assert str(caught.value) == "No notebook '07'. There are: 00_tiny, 01_other."
    assert [path.parent.name for path in files.find("01", root=checkout)] == [
        "chapters",
        "solutions",
    ]
    assert files.find("01", "solutions", root=checkout) == [checkout / "solutions/01_other.ipynb"]


def test_find_says_that_there_are_none(checkout):
    with pytest.raises(FileNotFoundError, match="There are: none"):
        files.find("00", root=checkout)


def test_write_changes_a_file_only_if_it_has_to(tmp_path):
    notebook, path = tiny.notebook(), tmp_path / "tiny.ipynb"
    assert files.write(notebook, path) is True
    before = path.stat()
    assert files.write(notebook, path) is False
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    notebook.cells[0].source = "# Other"
    assert files.write(notebook, path) is True
    assert files.read(path) == notebook


@pytest.mark.parametrize("content", ["", "{", '{"cells": 3}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "broken.ipynb"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.ipynb is not a readable notebook"):
        files.read(path)


# Recording.


def test_record_stores_the_outputs_of_checked_cells_only(checkout, capfd):
    cells = [code("quiet", "n = 3\nprint('seen')"), checked("shown", "print(n)", shows="2\n")]
    path = tiny.add(checkout, PATH, *cells)
    assert main(["--root", str(checkout), "record", "00"]) == 0
    assert capfd.readouterr().out.startswith(f"recorded    {PATH}  ")
    notebook = files.read(path)
    assert (outputs(notebook, "quiet"), outputs(notebook, "shown")) == ([], ["3\n"])
    recorded = path.read_bytes()
    assert main(["--root", str(checkout), "record", "00"]) == 0
    assert path.read_bytes() == recorded
    assert main(["--root", str(checkout), "check"]) == 0


def test_record_stores_nothing_of_a_notebook_that_fails(checkout, capfd):
    cells = [checked("shown", "print(3)", shows="2\n"), code("fails", "1 / 0")]
    path = tiny.add(checkout, PATH, *cells)
    before = path.read_bytes()
    assert main(["--root", str(checkout), "record", "00"]) == 1
    failure = f"failed      {PATH}, cell 'fails': ZeroDivisionError: division by zero\n"
    assert capfd.readouterr().out == failure
    assert path.read_bytes() == before


def test_record_keeps_an_edit_that_was_made_meanwhile(checkout, capfd):
    edit = "from pathlib import Path\npath = Path('00_tiny.ipynb')\n"
    edit += "_ = path.write_text(path.read_text().replace('# Tiny', '# Edited'))"
    path = tiny.add(checkout, PATH, code("edit", edit))
    assert main(["--root", str(checkout), "record", "00"]) == 1
    assert capfd.readouterr().out.startswith(f"not stored  {PATH} was edited")
    assert "# Edited" in files.read(path).cells[0].source


def test_record_generates_the_exercise(checkout):
    path = "solutions/00_tiny.ipynb"
    tiny.add(checkout, path, code("n", "n = 3"))
    assert main(["--root", str(checkout), "record", "00"]) == 0
    assert (checkout / "exercises" / "00_tiny.ipynb").is_file()
