"""A dry run of a page on a small world: ``python -m casebook.author dry-run 02``.

The session plan of a chapter has a reduced setting, a few lines that follow one of its cells. The
whole page runs with them. Nothing is stored, and a cell that stops is named.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from casebook.author import files
from casebook.author.execute import Spent, measured
from casebook.author.kernels import own_package

_REDUCED = re.compile(
    r"\*\*Reduced setting\.\*\*.*?after `(?P<cell>[a-z0-9-]+)`.*?```python\n(?P<code>.*?)```", re.S
)


def reduced(plan: str) -> tuple[str, str]:
    """Return the cell after which the reduced setting of a session plan runs, and its code.

    Raises
    ------
    ValueError
        If the plan has none.
    """
    found = _REDUCED.search(plan)
    if found is None:
        raise ValueError("has no reduced setting: '**Reduced setting.** … after `cell`', then code")
    return found["cell"], found["code"].rstrip()


def with_setting(chapter: NotebookNode, cell: str, code: str) -> None:
    """Put the code of a reduced setting after a cell of a chapter.

    Raises
    ------
    ValueError
        If there is no such cell.
    """
    ids = [one.id for one in chapter.cells]
    if cell not in ids:
        raise ValueError(f"names the cell `{cell}`, which the chapter does not have")
    chapter.cells.insert(ids.index(cell) + 1, new_code_cell(code, id="reduced-setting"))


def dry_run(root: Path, which: str) -> tuple[str, Spent]:
    """Run a chapter in the reduced setting of its plan; store nothing.

    Parameters
    ----------
    root : Path
        The checkout.
    which : str
        Number of the chapter.

    Returns
    -------
    tuple of str and Spent
        Path of the chapter, and what it took.

    Raises
    ------
    FileNotFoundError
        If there is no such chapter, or it has no plan.
    ValueError
        If its plan has no reduced setting, or names a cell that is not there.
    NotebookFailed
        At the first cell that stops. A sentence that holds in the whole world alone may be it.
    """
    path = files.find(which, "chapters", root=root)[0]
    plan = root / "book" / "instructors" / f"{path.stem}.md"
    chapter, name = files.read(path), f"chapters/{path.name}"
    try:
        with_setting(chapter, *reduced(plan.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"book/instructors/{plan.name} {error}.") from None
    with tempfile.TemporaryDirectory(prefix="casebook-") as scratch:
        env = {**os.environ, **own_package(root), "CASEBOOK_BUILD_DIR": scratch}
        return name, measured(chapter, name, path.parent, env)
