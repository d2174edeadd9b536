"""Ways through the book: tracks, roles and plans that hold only what is in the book.

Every directive writes Markdown, which the page then reads as if somebody had typed it. A
case that is not in the book is left out and counted; it appears when it joins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from casebook.book import cases, effort
from casebook.book.effort import COMPARE, DRILL, Effort, amount

#: Parts of a chapter that a plan can name, and what each takes.
PARTS: dict[str, Callable[[Effort], float]] = {
    "read": lambda needs: needs.read,
    "exercise": lambda needs: needs.exercise,
    "drill": lambda needs: DRILL + COMPARE,
}
_TASK = re.compile(r"(?P<part>read|exercise|drill) (?P<case>\w+)")
_PAGE = re.compile(r"(?P<what>.+) = (?P<minutes>\d+)")


@dataclass(frozen=True)
class Shelf:
    """The cases of a book: which are there, and what each takes.

    Attributes
    ----------
    names : dict of str to str
        Name of every case by its number or letter.
    there : dict of str to Effort
        What the published chapters take, by number.
    """

    names: dict[str, str]
    there: dict[str, Effort]

    def check(self, numbers: Collection[str]) -> None:
        """Refuse numbers that belong to no case.

        Raises
        ------
        ValueError
            Naming them.
        """
        if unknown := [number for number in numbers if number not in self.names]:
            raise ValueError(
                f"there is no case {', '.join(unknown)}; the cases are {', '.join(self.names)}"
            )


def shelf(root: Path, documents: Collection[str]) -> Shelf:
    """Return the cases of a book, capstones without an effort of their own left out."""
    names = cases.stems(root)
    there = {
        number: effort.read(root, stem)
        for number, stem in names.items()
        if stem[0].isdigit() and cases.is_there(stem, documents)
    }
    return Shelf(names, there)


def hours(minutes: float) -> str:
    """Return minutes as a reader plans them: ``85 minutes``, ``3 hours``, ``4½ hours``."""
    if minutes < 120:
        return f"{minutes:g} minutes"
    halves = round(minutes / 30)
    return f"{halves // 2}{'½' if halves % 2 else ''} hours"


def missing(count: int, what: str = "chapter") -> str:
    """Say how many are in preparation; empty for none."""
    if not count:
        return ""
    verb, plural = ("is", "") if count == 1 else ("are", "s")
    return f"{count} more {what}{plural} {verb} in preparation."


def _table(head: list[str], rows: list[list[str]], right: int = 0) -> list[str]:
    """Return a Markdown table; its last ``right`` columns are aligned to the right."""
    line = ["---"] * (len(head) - right) + ["---:"] * right
    return ["| " + " | ".join(cells) + " |" for cells in (head, line, *rows)]


def efforts(shelf: Shelf) -> list[str]:
    """Return the table of what each published chapter takes."""
    rows = [
        [
            f"{{case}}`{number}`",
            amount(needs.short),
            amount(needs.read),
            amount(needs.exercise),
            amount(needs.whole),
        ]
        for number, needs in shelf.there.items()
    ]
    head = ["chapter", "short", "read", "exercise", "all"]
    return _table(head, rows, right=4)


def track(shelf: Shelf, numbers: list[str]) -> list[str]:
    """Return the published chapters of a track with their minutes, and their sum.

    Raises
    ------
    ValueError
        If a number belongs to no case.
    """
    shelf.check(numbers)
    here = [number for number in numbers if number in shelf.there]
    lines = []
    for place, number in enumerate(here, start=1):
        needs = shelf.there[number]
        lines.append(
            f"{place}. {{case}}`{number}`: {needs.read:g} minutes to read, {needs.exercise:g} for "
            f"the exercise, {DRILL + COMPARE} for a drill and the comparison"
        )
    total = sum(shelf.there[number].whole for number in here)
    said = f"{len(here)} of {len(numbers)} chapters are here, {hours(total)} in all."
    more = missing(len(numbers) - len(here))
    return [*lines, "", f"{said} {more}".strip()]


def roles(shelf: Shelf, lines: list[str]) -> list[str]:
    """Return the table of roles from lines such as ``ML engineer: 12 01 09``.

    Raises
    ------
    ValueError
        If a line has another form, or a number belongs to no case.
    """
    rows = []
    for line in lines:
        role, colon, named = line.partition(":")
        numbers = named.split()
        if not (colon and numbers):
            raise ValueError(f"{line!r} is not of the form `role: 12 01`")
        shelf.check(numbers)
        here = [f"{{case}}`{number}`" for number in numbers if number in shelf.there]
        first, then = (here[0] if here else "none yet"), ", ".join(here[1:])
        rows.append([role.strip(), first, then or "–", str(len(numbers) - len(here))])
    return _table(["role", "first", "then", "in preparation"], rows, right=1)


def _row(shelf: Shelf, tasks: list[str]) -> tuple[list[str], float, int]:
    """Return the words of a row's tasks, their minutes, and how many are left out."""
    words, minutes, left = [], 0, 0
    for task in tasks:
        if found := _TASK.fullmatch(task):
            shelf.check([found["case"]])
            if (needs := shelf.there.get(found["case"])) is None:
                left += 1
                continue
            name = f"{{case}}`{found['case']}`"
            takes = PARTS[found["part"]](needs)
            what = {"read": name, "exercise": f"exercise of {name}", "drill": f"drill on {name}"}
            words.append(f"{what[found['part']]} ({takes:g})")
        elif found := _PAGE.fullmatch(task):
            takes = int(found["minutes"])
            words.append(f"{found['what']} ({takes:g})")
        else:
            raise ValueError(f"{task!r} is neither `read 01` nor `[a page](page.md) = 20`")
        minutes += takes
    return words, minutes, left


def plan(shelf: Shelf, lines: list[str]) -> list[str]:
    """Return the table of a plan from lines such as ``day 1 | read 01; [costs](costs.md) = 40``.

    Raises
    ------
    ValueError
        If a line or a task has another form, or a number belongs to no case.
    """
    rows, total, left_out = [], 0, 0
    for line in lines:
        when, bar, named = (piece.strip() for piece in line.partition("|"))
        if not (bar and named):
            raise ValueError(f"{line!r} is not of the form `when | task; task`")
        words, minutes, left = _row(shelf, [task.strip() for task in named.split(";")])
        total, left_out = total + minutes, left_out + left
        if words:
            rows.append([when, ", ".join(words), f"{minutes:g}"])
    rows.append(["**in all**", "", f"**{total:,g}**"])
    table = _table(["when", "what (minutes)", "minutes"], rows, right=1)
    return [*table, "", missing(left_out, "part")] if left_out else table


class _Route(SphinxDirective):
    """A part of a page that is written from the cases of the book."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # what is in the book may change while the page does not
        given = [line.strip() for line in self.content if line.strip()]
        try:
            lines = self.lines(shelf(Path(self.env.srcdir), self.env.found_docs), given)
        except ValueError as error:
            raise self.error(f"{{{self.name}}}: {error}") from error
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, self.env.docname), self.content_offset, holder)
        return holder.children

    def lines(self, shelf: Shelf, given: list[str]) -> list[str]:
        raise NotImplementedError


class Efforts(_Route):
    """``{efforts}``: what each published chapter takes."""

    def lines(self, shelf: Shelf, given: list[str]) -> list[str]:
        return efforts(shelf)


class Track(_Route):
    """``{track}``: numbers of cases, in order."""

    def lines(self, shelf: Shelf, given: list[str]) -> list[str]:
        return track(shelf, " ".join(given).split())


class Roles(_Route):
    """``{roles}``: one role a line, with the numbers of its cases."""

    def lines(self, shelf: Shelf, given: list[str]) -> list[str]:
        return roles(shelf, given)


class Plan(_Route):
    """``{plan}``: one stretch of time a line, with its tasks."""

    def lines(self, shelf: Shelf, given: list[str]) -> list[str]:
        return plan(shelf, given)


class Minutes(SphinxRole):
    """``{minutes}`read 01```: what a part of a chapter takes, such as ``90 minutes``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.env.note_reread()
        found = _TASK.fullmatch(self.text)
        here = shelf(Path(self.env.srcdir), self.env.found_docs)
        if not found or found["case"] not in here.there:
            message = f"{{minutes}} takes `read 01` with a chapter of the book, not {self.text!r}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        takes = PARTS[found["part"]](here.there[found["case"]])
        return [nodes.Text(f"{takes:g} minutes")], []


def setup(app: Sphinx) -> dict:
    """Register directives and role."""
    for name, directive in (
        ("efforts", Efforts),
        ("track", Track),
        ("roles", Roles),
        ("plan", Plan),
    ):
        app.add_directive(name, directive)
    app.add_role("minutes", Minutes())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
