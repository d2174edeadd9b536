"""nbval as a gate: stored outputs are compared, and notebooks run where their timings allow."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import tiny
from nbformat.v4 import new_output
from tiny import checked, code

from casebook.author import __main__ as tool
from casebook.author import files

PATH = "chapters/00_tiny.ipynb"
SEEN = [new_output("stream", name="stdout", text="seen\n")]
#: By the id of a cell: what nbval says to it. The plants are made below.
VERDICTS = {
    "agrees": "PASSED",
    "stale": "FAILED",
    "stale-and-untagged": "PASSED",
    "without-its-count": "FAILED",
    "without-an-output": "PASSED",  # silently: casebook.author.normalise finds it
    "fails": "FAILED",
}
#: A notebook that notes by whom it is run; its second cell needs its first.
LOG = """\
import os
worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")"""
NOTE = "with open(os.environ['TINY_LOG'], 'a') as log:\n    print('{}', worker, file=log)"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Run nbval once over a notebook with every kind of cell."""
    root = tiny.checkout(tmp_path_factory.mktemp("nbval") / "checkout")
    cells = [checked(name, "print(3)", shows="3\n") for name in VERDICTS]
    path = tiny.add(root, PATH, *cells)
    tiny.plant(path, "stale", source="print(4)")
    tiny.plant(path, "stale-and-untagged", metadata={}, outputs=SEEN)
    tiny.plant(path, "without-its-count", execution_count=None)
    tiny.plant(path, "without-an-output", execution_count=None, outputs=[])
    tiny.plant(path, "fails", source="print(3)\n1 / 0")
    done = tiny.run("pytest", "--nbval-lax", "-p", "no:cacheprovider", "-v", path, cwd=root)
    said = dict(re.findall(r"::Cell (\d+) (PASSED|FAILED)", done.stdout))
    ids = [cell.id for cell in files.read(path).cells if cell.cell_type == "code"]
    return {name: said.get(str(index)) for index, name in enumerate(ids)}, done


@pytest.mark.parametrize(("cell", "verdict"), VERDICTS.items())
def test_the_verdict_of_nbval(verdicts, cell, verdict):
    assert verdicts[0][cell] == verdict


def test_nbval_ends_with_an_error_and_shows_the_difference(verdicts):
    _, done = verdicts
    assert done.returncode == 1
    assert "Cell outputs differ" in done.stdout


@pytest.fixture
def noting(checkout):
    """Return a checkout with two ordinary notebooks and, first in the alphabet, a serial one."""
    for name in ("00_a_timed", "01_b", "02_c"):
        tags = [files.SERIAL_TAG] if name == "00_a_timed" else []
        cells = [code("log", LOG, tags), code("note", NOTE.format(name))]
        cells.append(checked("shown", "print(worker[0].isalpha())", shows="True\n"))
        tiny.add(checkout, f"chapters/{name}.ipynb", *cells)
    return checkout


def nbval(root):
    """Run the command on a checkout; return it with who ran which notebook."""
    log = root / "log"
    command = ("casebook.author", "--root", root, "nbval")
    done = tiny.run(*command, cwd=root.parent, TINY_LOG=str(log))
    return done, log.read_text(encoding="utf-8").splitlines()


def test_serial_notebooks_run_last_and_alone(noting):
    done, log = nbval(noting)
    assert done.returncode == 0, done.stdout
    assert log[-1] == "00_a_timed alone"
    assert sorted(re.sub(r"gw\d", "a worker", line) for line in log[:-1]) == [
        "01_b a worker",
        "02_c a worker",
    ]


def test_the_command_fails_for_a_stale_output(checkout):
    cells = [code("log", LOG), code("note", NOTE.format("b")), checked("n", "print(4)", "3\n")]
    tiny.add(checkout, "solutions/01_b.ipynb", *cells)
    done, log = nbval(checkout)
    assert done.returncode == 1
    assert "Cell outputs differ" in done.stdout
    assert len(log) == 1


@pytest.fixture
def started(monkeypatch):
    """Collect the commands that are started instead of starting them; ``codes`` are theirs."""
    started = SimpleNamespace(commands=[], codes=[0, 0])

    def run(command, **_):
        started.commands.append(command)
        return SimpleNamespace(returncode=started.codes[len(started.commands) - 1])

    monkeypatch.setattr(tool.subprocess, "run", run)
    return started


def test_cells_of_a_notebook_stay_together_within_the_time_of_a_cell(noting, started):
    assert tool.command_nbval(noting) == 0
    together, serial = started.commands
    assert " -n 2 --dist loadscope " in " ".join(together)
    assert " -n 0 " in " ".join(serial)
    assert f"--nbval-cell-timeout={tool.CELL_TIMEOUT}" in together
    assert f"--nbval-cell-timeout={tool.CELL_TIMEOUT}" in serial


@pytest.mark.parametrize("codes", [[1, 0], [0, 1], [2, 0]])
def test_the_command_fails_when_either_part_fails(noting, started, codes):
    started.codes = codes
    assert tool.command_nbval(noting) == max(codes)


def test_exercises_are_not_validated_and_no_notebook_is_no_fault(checkout, started):
    tiny.add(checkout, "exercises/00_tiny.ipynb", code("n", "n = 3"))
    assert tool.command_nbval(checkout) == 0
    assert started.commands == []
