"""What a session plan asks of a room: its poll and its exercise, for the slides.

Both are read from ``book/instructors/<chapter>.md``: nothing is written twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from nbformat import NotebookNode

from casebook.author import files

_NAME = re.compile(r"`([a-z][a-z0-9-]*)`")


@dataclass(frozen=True)
class Task:
    """Something that the room does, on a slide of its own.

    Attributes
    ----------
    shown : tuple of str
        Markdown of its slides, headings included.
    notes : str
        Markdown for the speaker alone.
    before : tuple of str
        Ids of cells; the slides come before the first of them that is there.
    """

    shown: tuple[str, ...]
    notes: str
    before: tuple[str, ...]


def _section(plan: str, heading: str, path: Path) -> str:
    parts = re.split(rf"^## {re.escape(heading)}$", plan, flags=re.M)
    if len(parts) != 2:
        raise ValueError(f"{path.name} has {len(parts) - 1} sections '## {heading}', not one.")
    return re.split(r"^## ", parts[1], flags=re.M)[0].strip()


def _rows(markdown: str) -> list[list[str]]:
    """Return the cells of the first table's body, as they are written."""
    rows: list[list[str]] = []
    inside = False
    for token in MarkdownIt().enable("table").parse(markdown):
        if token.type == "tbody_open":
            inside = True
        elif token.type == "tbody_close":
            break
        elif inside and token.type == "tr_open":
            rows.append([])
        elif inside and token.type == "inline":
            rows[-1].append(token.content)
    return rows


def _poll(plan: str, path: Path) -> Task:
    text = _section(plan, "The poll", path)
    question = re.match(r"\*([^*]+)\*", text)
    answers = [row[0] for row in _rows(text)]
    if not question or len(answers) < 2:
        raise ValueError(f"The poll of {path.name} needs *its question* and a table of answers.")
    asked = " ".join(question[1].split())
    options = "\n".join(f"* {chr(65 + i)}. {answer}" for i, answer in enumerate(answers))
    before = tuple(_NAME.findall(text.partition("\n|")[0]))
    return Task((f"## Poll\n\n**{asked}**\n\n{options}",), text, before)


def _question(exercise: NotebookNode, number: str, path: Path) -> tuple[str, str, str]:
    """Return a question of the exercise: its title, its situation and what it asks for."""
    cells = [cell.source for cell in exercise.cells if cell.cell_type == "markdown"]
    starts = [i for i, source in enumerate(cells) if source.startswith(f"## Question {number}:")]
    if len(starts) != 1:
        raise ValueError(f"{path.name} sends pairs to question {number}, which is not there.")
    title, _, situation = cells[starts[0]].partition("\n")
    asked = cells[starts[0] + 1] if len(cells) > starts[0] + 1 else ""
    asked = "" if asked.startswith("## ") else asked.strip()
    return title.partition(":")[2].strip().capitalize(), situation.strip(), asked


def _exercise(plan: str, exercise: NotebookNode, path: Path) -> Task:
    rows = _rows(_section(plan, "The ninety minutes", path))
    places = [i for i, row in enumerate(rows) if "**Exercise" in row[1]]
    number = re.search(r"Question (\d+)", rows[places[0]][-1]) if len(places) == 1 else None
    if number is None:
        raise ValueError(
            f"{path.name}: one row of the ninety minutes must be an **Exercise** and name its "
            "question (Question 2)."
        )
    row, later = rows[places[0]], rows[places[0] + 1 :]
    title, situation, asked = _question(exercise, number[1], path)
    heading = re.sub(r"\*\*", "", row[1])
    where = f"Question {number[1]} of `exercises/{path.stem}.ipynb`"
    shown = (f"## {title}\n\n{situation}", f"## {heading}\n\n{asked}\n\n*{where}*")
    before = tuple(name for after in later for name in _NAME.findall(after[-1]))
    return Task(shown if situation else shown[1:], row[-1], before)


def tasks(root: Path, stem: str) -> list[Task]:
    """Return the poll and the exercise of a chapter's session plan.

    Parameters
    ----------
    root : Path
        The checkout.
    stem : str
        Of the chapter, such as ``01_demand_forecasting``.

    Returns
    -------
    list of Task
        Empty without a plan.

    Raises
    ------
    ValueError
        If the plan has no poll, no exercise, or names a question that is not there.
    """
    path = root / "book" / "instructors" / f"{stem}.md"
    if not path.is_file():
        return []
    plan = path.read_text(encoding="utf-8")
    exercise = files.read(root / "exercises" / f"{stem}.ipynb")
    return [_poll(plan, path), _exercise(plan, exercise, path)]
