"""What the template of a new case shows when it runs: ``python -m casebook.author template``.

A case is made in a copy of the checkout and executed there, as its author will execute it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from casebook.author import files
from casebook.author.scaffold import Case

#: A case that the book will never have.
CASE = Case("98_template_case", "A case")
#: What a copy of the checkout leaves out: built, installed, or git's own.
NOT_COPIED = (".*", "_build", "node_modules", "vendor", "__pycache__", "*.egg-info")


def _run(root: Path, *arguments: str) -> None:
    """Run a command of the notebook tools in a copy of the checkout, with its own package."""
    command = [sys.executable, "-m", "casebook.author", *arguments]
    kept = {key: value for key, value in os.environ.items() if key != "CASEBOOK_BUILD_DIR"}
    subprocess.run(command, cwd=root, env={**kept, "PYTHONPATH": str(root)}, check=True)


def text_of(root: Path, case: Case) -> str:
    """Return what an executed case of the template shows, as it is stored.

    Parameters
    ----------
    root : Path
        A checkout in which the case has been executed.
    case : Case
    """
    found: dict = {}
    for template, path in case.paths().items():
        if template.endswith(".ipynb"):
            cells = files.read(root / path).cells
            found[template] = {c.id: c.outputs for c in cells if files.CHECK_TAG in files.tags(c)}
    card = root / "_build" / "scorecards" / f"{case.name}.json"
    found["rows"] = json.loads(card.read_text(encoding="utf-8"))["rows"]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def shown(root: Path) -> str:
    """Run the template in a copy of a checkout; return what its cells show.

    Parameters
    ----------
    root : Path
        The checkout; nothing in it is changed.

    Raises
    ------
    subprocess.CalledProcessError
        If the case is not made, or a notebook fails; the reason has been printed.
    """
    with tempfile.TemporaryDirectory(prefix="casebook-") as scratch:
        copy = Path(scratch, "checkout")
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        _run(copy, "new", CASE.name, CASE.title)
        _run(copy, "record", CASE.number)
        return text_of(copy, CASE)
