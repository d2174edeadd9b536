"""How long a chapter takes: what its notebook says of itself, and what its words and code say.

A chapter declares its minutes and its difficulty (:mod:`casebook.author.minutes`). The minutes
of reading that it declares must be near those computed from the words and the lines of code
that the page shows without opening a fold.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from nbformat import NotebookNode

from casebook.author import files, minutes

#: Pace of somebody who works through technical text, and through code to understand it.
WORDS_A_MINUTE, LINES_A_MINUTE = 130, 8
#: Minutes are shown in steps of this many.
STEP = 5
#: A mock against the clock, and comparing it with the rubric.
DRILL, COMPARE = 25, 10
#: What one reads of a chapter in about twenty minutes, besides its opening.
SHORT_ROUTE = (
    "The design in five minutes",
    "Business problem",
    "Metrics",
    "Problem formulation",
    "Baseline",
    "Architecture",
    "Scorecard",
    "Interview",
)
_FOLDED_CODE = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
_FOLDED_OUTPUT = {"hide-output", "hide-cell", "remove-output", "remove-cell"}
#: The declared minutes of reading may differ from the computed ones by this share.
DECLARED_WITHIN = 0.2
_WORD = re.compile(r"\w+(?:['’.,-]\w+)*")


@dataclass(frozen=True)
class Effort:
    """What a chapter asks of its reader.

    Attributes
    ----------
    words, lines : int
        Words of prose and lines of code that are seen without opening a fold.
    read, run, exercise : float
        Minutes, as the chapter declares them.
    difficulty : str
        As the chapter declares it.
    short : int
        Minutes of reading its opening and the sections of `SHORT_ROUTE`.
    """

    words: int
    lines: int
    read: float
    run: float
    exercise: float
    difficulty: str
    short: int = 0

    @property
    def computed(self) -> int:
        """Return the minutes of reading from words and lines, as a multiple of five."""
        return minutes_of(self.words, self.lines)

    @property
    def whole(self) -> float:
        """Return the minutes of reading, exercise, drill and comparing together."""
        return self.read + self.exercise + DRILL + COMPARE


def minutes_of(words: int, lines: int) -> int:
    """Return the minutes that words and lines of code take to read, as a multiple of five."""
    return max(STEP, STEP * math.ceil((words / WORDS_A_MINUTE + lines / LINES_A_MINUTE) / STEP))


@lru_cache(maxsize=8192)
def _words(markdown: str) -> int:
    """Count the words of Markdown outside of diagrams and closed folds.

    Several pages of a build ask for the same chapters.
    """
    page = MarkdownIt("commonmark").enable("table").render(markdown)
    soup = BeautifulSoup(page, "html.parser")
    for fold in soup.find_all("details"):
        for child in [c for c in fold.contents if getattr(c, "name", None) != "summary"]:
            child.extract()
    for block in soup.find_all("pre"):
        block.extract()
    return len(_WORD.findall(soup.get_text(" ")))


def _claims(source: str) -> Iterator[str]:
    """Yield the sentences of the claims in a cell, with a digit for each field."""
    try:
        tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.M))
    except SyntaxError:
        return
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "claim":
            for value in call.args[:1]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield re.sub(r"\{[^}]*\}", "0", value.value)


def _said(cell: NotebookNode) -> int:
    """Count the words that a code cell prints as prose: as stored, or else as written."""
    stored = [
        "".join(output.data["text/markdown"])
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    return sum(_words(text) for text in stored or _claims(cell.source))


def size(notebook: NotebookNode) -> tuple[int, int]:
    """Return the words of prose and the lines of code that a notebook shows unopened.

    Sentences that claims print count as prose. Tables and figures that code makes count
    as nothing.
    """
    words = lines = 0
    for cell in notebook.cells:
        tags = set(files.tags(cell))
        if cell.cell_type == "markdown":
            words += 0 if tags & {"hide-cell", "remove-cell"} else _words(cell.source)
            continue
        if not tags & _FOLDED_OUTPUT:
            words += _said(cell)
        if not tags & _FOLDED_CODE:
            lines += sum(1 for line in cell.source.split("\n") if line.strip())
    return words, lines


def short(notebook: NotebookNode) -> int:
    """Return the minutes of the short route; of the whole chapter if it has no such section."""
    kept, section, found = [], None, False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section = cell.source.split("\n", 1)[0].removeprefix("## ").strip()
        found |= section in SHORT_ROUTE
        if section is None or section in SHORT_ROUTE:
            kept.append(cell)
    return minutes_of(*size(NotebookNode(cells=kept) if found else notebook))


def of(notebook: NotebookNode) -> Effort:
    """Return the effort of a chapter.

    Raises
    ------
    ValueError
        If its metadata do not hold difficulty and minutes.
    """
    declared = minutes.declared(notebook)
    difficulty = notebook.metadata.casebook.difficulty
    return Effort(*size(notebook), **declared, difficulty=difficulty, short=short(notebook))


def faults(notebook: NotebookNode) -> list[str]:
    """Return what a chapter declares wrongly of its own effort."""
    try:
        needs = of(notebook)
    except ValueError as error:
        return [str(error)]
    if abs(needs.read - needs.computed) > DECLARED_WITHIN * needs.computed:
        return [
            f"the metadata casebook.minutes declare {needs.read:g} to read; {needs.words:,} words "
            f"and {needs.lines:,} lines of code make {needs.computed}"
        ]
    return []


def amount(value: float) -> str:
    """Return minutes as they are shown: ``90``, ``1½``, ``½``."""
    whole, rest = divmod(value, 1)
    return f"{whole:g}½".removeprefix("0") if rest == 0.5 else f"{value:g}"


def read(root: Path, stem: str) -> Effort:
    """Return the effort of a chapter of a checkout.

    Raises
    ------
    ValueError
        Naming the notebook, if its metadata does not hold difficulty and minutes.
    """
    name = f"chapters/{stem}.ipynb"
    try:
        return of(files.read(root / name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
