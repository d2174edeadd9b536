"""Small notebooks, small checkouts, and the notebook tools as a command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from casebook.author import files
from casebook.author.normalise import normalise
from casebook.project import require_checkout

ROOT = require_checkout()
ROOMS = ("chapters", "solutions", "exercises")
#: What a copy of the checkout leaves out: built, installed, or git's own.
NOT_COPIED = (".*", "_build", "node_modules", "vendor", "__pycache__", "*.egg-info")
#: Settings of the calling session (its pytest, a grader) that a child must not see.
FOREIGN = ("NBGRADER_", "PYTEST_", "COV_", "GIT_DIR", "GIT_INDEX", "GIT_WORK", "GIT_PREFIX")


def prose(name: str, source: str) -> NotebookNode:
    """Return a Markdown cell."""
    return new_markdown_cell(source, id=name)


def code(
    name: str, source: str, tags: Iterable[str] = (), shows: str | None = None
) -> NotebookNode:
    """Return a code cell; ``shows`` is what it has stored as printed."""
    outputs = [] if shows is None else [new_output("stream", name="stdout", text=shows)]
    metadata = {"tags": list(tags)} if tags else {}
    return new_code_cell(source, id=name, metadata=metadata, outputs=outputs)


def checked(name: str, source: str, shows: str | None = None) -> NotebookNode:
    """Return a code cell whose output is compared with what it ``shows``."""
    return code(name, source, [files.CHECK_TAG], shows)


def notebook(*cells: NotebookNode, path: str = "chapters/00_tiny.ipynb") -> NotebookNode:
    """Return a notebook in its committed form: a title, the launch cells, and the given cells."""
    new = new_notebook()
    new.cells = [prose("title", "# Tiny"), *cells]
    return normalise(new, path)


def checkout(root: Path, *rooms: str) -> Path:
    """Make a checkout without notebooks, or with those of the given rooms; without the package."""
    for room in ROOMS:
        (root / room).mkdir(parents=True)
        shutil.copy(ROOT / room / "ruff.toml", root / room)
        if room in rooms:
            for path in files.notebooks(room, root=ROOT):
                shutil.copy(path, root / room)
    for name in ("_toc.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return root


def copy_of_the_checkout(root: Path) -> Path:
    """Copy the whole checkout, with its package, without what is built."""
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*NOT_COPIED))
    shutil.copy(ROOT / ".gitignore", root)
    shutil.copy(ROOT / ".pre-commit-config.yaml", root)
    return root


def text(root: Path, name: str) -> str:
    """Return a file of a checkout."""
    return (root / name).read_text(encoding="utf-8")


def content(root: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a checkout, but for what is built and compiled."""
    names = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    left_out = ("_build/", "__pycache__/")
    kept = {name: path for name, path in names.items() if not any(x in name for x in left_out)}
    return {name: path.read_bytes() for name, path in kept.items()}


def add(root: Path, path: str, *cells: NotebookNode) -> Path:
    """Write a small notebook into a checkout."""
    files.write(notebook(*cells, path=path), root / path)
    return root / path


def plant(path: Path, cell: str, **changes) -> None:
    """Change fields of one cell of a notebook on disk, found by its id."""
    changed = files.read(path)
    next(c for c in changed.cells if c.id == cell).update(changes)
    files.write(changed, path)


def shell(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; standard error goes into the output."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=inherited | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in a process of its own."""
    return shell(sys.executable, "-m", *arguments, cwd=cwd, **env)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a process printed, line by line."""
    return done.stdout.splitlines()
