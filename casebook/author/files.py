"""Which notebooks there are, and how they are read and written."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from casebook.project import require_checkout

FOLDERS = ("chapters", "solutions", "exercises")
NAME = re.compile(r"^(\d\d|[A-D])_[a-z0-9_]+$")
CHECK_TAG = "nbval-check-output"
SERIAL_TAG = "serial"


def notebooks(*folders: str, root: Path | None = None) -> list[Path]:
    """Return the notebooks of the given rooms (all three by default), sorted."""
    root = root or require_checkout()
    return [p for f in folders or FOLDERS for p in sorted((root / f).glob("*.ipynb"))]


def find(which: str, *folders: str, root: Path | None = None) -> list[Path]:
    """Return the notebooks whose name starts with ``which`` (``01``).

    Raises
    ------
    FileNotFoundError
        If there is none, with the names there are.
    """
    found = [p for p in notebooks(*folders, root=root) if p.stem.split("_")[0] == which]
    if not found:
        names = sorted({p.stem for p in notebooks(*folders, root=root)})
        raise FileNotFoundError(f"No notebook {which!r}. There are: {', '.join(names) or 'none'}.")
    return found


def read(path: Path) -> NotebookNode:
    """Read a notebook in the current format.

    Raises
    ------
    ValueError
        If it is no valid notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise ValueError(f"{path} is not a readable notebook: {error}") from error


def text(notebook: NotebookNode) -> str:
    """Return the notebook as it is written to disk."""
    return nbformat.writes(notebook, version=4) + "\n"


def write(notebook: NotebookNode, path: Path) -> bool:
    """Write a notebook if that changes the file; say whether it did."""
    content = text(notebook)
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    path.write_text(content, encoding="utf-8")
    return True


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def is_serial(notebook: NotebookNode) -> bool:
    """Say whether a notebook has timed cells and must run alone."""
    return any(SERIAL_TAG in tags(cell) for cell in notebook.cells)
