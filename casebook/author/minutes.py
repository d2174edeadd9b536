"""How long a case takes: declared once, in the chapter's metadata, and said in its notebooks.

``casebook.minutes`` has ``read``, ``run`` and ``exercise``; ``casebook.difficulty`` is one of
``easy``, ``medium``, ``hard``. The line **Time:** of the chapter and of its exercise must agree.
"""

from __future__ import annotations

import re
from pathlib import Path

from nbformat import NotebookNode

from casebook.author import files

KEYS = ("read", "run", "exercise")
DIFFICULTIES = ("easy", "medium", "hard")
CHAPTER_LINE = re.compile(r"\*\*Time:\*\* (\d+) minutes to read, (.+?) to run\.")
EXERCISE_LINE = re.compile(r"\*\*Time:\*\* (\d+) minutes\b")
#: How a chapter says the minutes of its run.
RUN = {
    0.5: "half a minute",
    1: "one minute",
    1.5: "a minute and a half",
    2: "two minutes",
    3: "three minutes",
}


def declared(chapter: NotebookNode) -> dict[str, float]:
    """Return the minutes that a chapter declares.

    Parameters
    ----------
    chapter : NotebookNode
        Not changed.

    Raises
    ------
    ValueError
        If they are missing or no positive numbers, or the difficulty is unknown.
    """
    course = chapter.metadata.get("casebook", {})
    minutes = course.get("minutes", {})
    if set(minutes) != set(KEYS) or not all(
        isinstance(value, int | float) and value > 0 for value in minutes.values()
    ):
        raise ValueError(
            f"the metadata casebook.minutes are {dict(minutes)}; give {', '.join(KEYS)} in minutes"
        )
    if course.get("difficulty") not in DIFFICULTIES:
        raise ValueError(
            f"the metadata casebook.difficulty is {course.get('difficulty')!r}; "
            f"give one of {', '.join(DIFFICULTIES)}"
        )
    return dict(minutes)


def _said(notebook: NotebookNode, line: re.Pattern) -> re.Match | None:
    """Return the line of the title cell that tells the time."""
    return line.search(notebook.cells[0].source) if notebook.cells else None


def _is_begun(chapter: NotebookNode) -> bool:
    """Say whether a chapter neither tells nor declares minutes yet."""
    source = chapter.cells[0].source if chapter.cells else ""
    tells = "**Time:**" in source and "**Time:** …" not in source
    return not tells and "minutes" not in chapter.metadata.get("casebook", {})


def faults(root: Path) -> list[str]:
    """Return where a notebook tells other minutes than its chapter declares, one line each.

    Parameters
    ----------
    root : Path
        The checkout.
    """
    found = []
    for path in files.notebooks("chapters", root=root):
        chapter, name = files.read(path), f"chapters/{path.name}"
        if _is_begun(chapter):
            continue
        try:
            minutes = declared(chapter)
        except ValueError as error:
            found.append(f"{name}: {error}")
            continue
        read, run = f"{minutes['read']:g}", RUN.get(minutes["run"], f"{minutes['run']:g} minutes")
        said = _said(chapter, CHAPTER_LINE)
        if said is None or said.groups() != (read, run):
            found.append(f"{name}: the first cell must say '{read} minutes to read, {run} to run.'")
        solution = root / "solutions" / path.name
        if solution.is_file():
            said, exercise = _said(files.read(solution), EXERCISE_LINE), f"{minutes['exercise']:g}"
            if said is None or said[1] != exercise:
                found.append(
                    f"solutions/{path.name}: the first cell must say '**Time:** {exercise} minutes'"
                )
    return found
