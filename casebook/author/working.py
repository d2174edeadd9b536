"""Working copies: a reader's answers are written in ``work/``, which git ignores.

The exercises of the checkout are generated, so every command that generates them
could replace what somebody wrote there. Two rules keep answers: `make lab` opens a
copy in ``work/`` that no command writes again, and an exercise with answers in it is
copied there before anything may replace it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from casebook.author import files
from casebook.author.launch import BADGES_ID, COLAB_ID

FOLDER = "work"
#: Keys of a notebook's ``casebook`` metadata: what was generated, what a copy was made from.
GENERATED, COPY_OF = "generated", "copy_of"
NOTE_ID = "changed-exercise"


@dataclass(frozen=True)
class Held:
    """What a command found in an exercise that it is about to replace.

    Attributes
    ----------
    answers : list of str
        Answer cells that are not blank (``answer-1``).
    copy : Path or None
        The copy in ``work/`` that has everything which was written by hand.
    """

    answers: list[str]
    copy: Path | None


def fingerprint(notebook: NotebookNode) -> str:
    """Return 16 hexadecimal digits that stand for the cells; outputs and launch cells are left out.

    Parameters
    ----------
    notebook : NotebookNode
        Not changed.
    """
    cells = [
        [cell.cell_type, cell.source]
        for cell in notebook.cells
        if cell.get("id") not in (BADGES_ID, COLAB_ID)
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def answered(notebook: NotebookNode) -> list[str]:
    """Return the answer cells of an exercise that are not blank.

    nbgrader stores in each cell a checksum of the blank that it generated, so this also
    holds for an exercise of an earlier release.
    """
    from nbgrader.utils import compute_checksum, is_solution

    return [
        cell.metadata.nbgrader.grade_id
        for cell in notebook.cells
        if is_solution(cell) and cell.metadata.nbgrader.get("checksum") != compute_checksum(cell)
    ]


def copies(root: Path, stem: str) -> list[Path]:
    """Return the working copies of an exercise, the first one first."""
    numbered = re.compile(rf"{re.escape(stem)}(?:-(\d+))?\.ipynb")
    found = {
        int(match[1] or 1): path
        for path in (root / FOLDER).glob("*.ipynb")
        if (match := numbered.fullmatch(path.name))
    }
    return [found[number] for number in sorted(found)]


def copy(path: Path, root: Path) -> tuple[Path, bool]:
    """Copy an exercise as it is into ``work/``, unless a copy of it is there.

    Parameters
    ----------
    path : Path
        Notebook in ``exercises/``.
    root : Path
        The checkout.

    Returns
    -------
    path : Path
        The copy.
    made : bool
        Whether it was made now. It never takes the place of another file.

    Raises
    ------
    ValueError
        If it is no readable notebook.
    """
    notebook = files.read(path)
    mark, earlier = fingerprint(notebook), copies(root, path.stem)
    for known in earlier:
        if _copied_from(known) == mark:
            return known, False
    if earlier and not answered(notebook):
        notebook.cells.insert(1, _note(earlier[-1].name))
    notebook.metadata.setdefault("casebook", NotebookNode())[COPY_OF] = mark
    content = files.text(notebook)
    (root / FOLDER).mkdir(exist_ok=True)
    number = 1
    while True:
        name = path.stem + (f"-{number}" if number > 1 else "")
        try:
            with open(root / FOLDER / f"{name}.ipynb", "x", encoding="utf-8", newline="\n") as file:
                file.write(content)
            return root / FOLDER / f"{name}.ipynb", True
        except FileExistsError:
            number += 1


def _copied_from(path: Path) -> str | None:
    """Return the fingerprint of the exercise that a working copy was made from."""
    try:
        return files.read(path).metadata.get("casebook", {}).get(COPY_OF)
    except ValueError:  # damaged by its owner: left alone
        return None


def _note(earlier: str) -> NotebookNode:
    cell = new_markdown_cell(
        f"**The exercise has changed since you began [{earlier}]({earlier}).** Your answers are "
        "in that file. This is the exercise as it is now, with blank answers."
    )
    cell.id = NOTE_ID
    return cell


def secure(path: Path, root: Path) -> Held:
    """Make sure that nothing written by hand is lost when an exercise is replaced.

    Parameters
    ----------
    path : Path
        Notebook in ``exercises/``.
    root : Path
        The checkout.
    """
    notebook = files.read(path)
    generated = notebook.metadata.get("casebook", {}).get(GENERATED)
    answers = answered(notebook)
    by_hand = generated is not None and generated != fingerprint(notebook)
    return Held(answers, copy(path, root)[0] if answers or by_hand else None)


def prepare(root: Path) -> list[str]:
    """Give every exercise a working copy; return a line for each one that was made."""
    said = []
    for path in files.notebooks("exercises", root=root):
        before = copies(root, path.stem)
        made, is_new = copy(path, root)
        if not is_new:
            continue
        line = f"made        {FOLDER}/{made.name}: your copy of exercises/{path.name}"
        if answers := answered(files.read(path)):
            line += f", with the answers that you wrote there ({', '.join(answers)})"
        elif before:
            line += f", which has changed; your answers are in {FOLDER}/{before[-1].name}"
        said.append(line)
    return said
