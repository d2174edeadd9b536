"""Where a reader opens a notebook: a clean copy of the checkout, an environment, a Colab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from casebook.project import require_checkout

CHAPTER = "00_how_a_case_works"
#: Settings of the calling session that a reader's machine would not have.
FOREIGN = ("CASEBOOK_", "COV_", "IPYTHON", "JUPYTER", "NBGRADER_", "PIP_", "PYTEST", "PYTHON")


def clean_environment(**values: str | Path) -> dict[str, str]:
    """Return the environment variables of a machine that knows nothing of this session."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and name != "VIRTUAL_ENV"
    }
    return kept | {name: str(value) for name, value in values.items()}


def copy_checkout(target: Path) -> Path:
    """Copy what git tracks or would track, and nothing else, into a new folder."""
    root = require_checkout()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (source := root / name).is_file():  # a deleted file stays listed until the commit
            goal = target / name
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, goal)
    return target


def bare_python(folder: Path, third_party: Path) -> Path:
    """Make an environment with the course's third-party packages and without the course."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, env=clean_environment())
    python = folder / "bin" / "python"
    (site_packages(python) / "third_party.pth").write_text(f"{third_party}\n", encoding="utf-8")
    return python


def site_packages(python: Path) -> Path:
    """Return the folder in which the environment of ``python`` installs."""
    (folder,) = python.parent.parent.glob("lib/python*/site-packages")
    return folder


@dataclass(frozen=True)
class Run:
    """A notebook that was executed elsewhere.

    Attributes
    ----------
    code : int
        Exit code; 0 when every cell ran.
    log : str
        What the command printed.
    notebook : NotebookNode or None
        With its outputs; None when a cell failed.
    """

    code: int
    log: str
    notebook: NotebookNode | None


@dataclass(frozen=True)
class Colab:
    """A stand-in for a fresh Colab runtime.

    Attributes
    ----------
    python : Path
        Its interpreter.
    content : Path
        Its working directory (``/content`` on Colab).
    env : dict
        Its environment variables.
    """

    python: Path
    content: Path
    env: dict[str, str]

    def run(self, notebook: NotebookNode, name: str) -> Run:
        """Execute a notebook from its first cell to its last."""
        source, result = self.content / f"{name}.ipynb", self.content / f"{name}-run.ipynb"
        nbformat.write(notebook, source)
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute"]
        command += ["--ExecutePreprocessor.timeout=240", "--output", result.name, str(source)]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=400, cwd=self.content
        )
        executed = nbformat.read(result, as_version=4) if result.is_file() else None
        log = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)  # without colours
        return Run(done.returncode, log, executed)
