"""The weekly script: a bare Python installs the course by a chapter's own cell and runs it."""

from __future__ import annotations

import re
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from casebook.project import require_checkout

SCRIPT = require_checkout() / ".ci" / "colab"


def run(colab, *notebooks) -> tuple[int, str]:
    """Return exit code and output, without colours."""
    env = {**colab.env, "PYTHON": str(colab.python), "PRELOAD": ""}  # no index is asked here
    done = subprocess.run(
        [str(SCRIPT), *map(str, notebooks)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    return done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


@pytest.fixture(scope="module")
def plain(make_colab):
    """Return a Colab with nothing of the course, in which the first test installs it."""
    return make_colab()


@pytest.fixture
def planted(chapter, tmp_path):
    """Return a function that writes the chapter's set-up cell and a line of code."""

    def write(code: str):
        cells = [next(c for c in chapter.cells if c.id == "colab-set-up"), new_code_cell(code)]
        path = tmp_path / "planted.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata=chapter.metadata), path)
        return path

    return write


def test_the_course_is_installed_by_the_set_up_cell(plain, planted):
    assert not list(plain.python.parent.parent.rglob("casebook"))
    code = "import casebook, sys; assert casebook.__file__.startswith(sys.prefix), casebook"
    returned, log = run(plain, planted(code))
    assert returned == 0, log
    assert "on Colab" in log


def test_the_script_restarts_where_the_set_up_cell_asks_for_it(make_colab, planted):
    """Once: afterwards the kernel uses what was installed."""
    path = planted("import numpy; numpy.ones(3).sum()")
    returned, log = run(make_colab(old=True), path, path)
    assert returned == 0, log
    assert log.count("restarted") == 1 and log.count("on Colab") == 2


def test_gate_a_cell_that_fails_ends_the_script(plain, planted):
    returned, log = run(plain, planted("raise RuntimeError('planted')"))
    assert returned != 0
    assert "RuntimeError: planted" in log
