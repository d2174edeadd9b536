"""Pages that the build fills: the scoreboard and the timings.

Two directives read what the executed notebooks left behind: scorecards
(``_build/scorecards/*.json``), and what their executions took.
"""

from __future__ import annotations

import html
import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from casebook.author.execute import stored

#: CPU seconds that a notebook may take, by the room it stands in.
BUDGETS = {"chapters": 60.0, "exercises": 12.0}
ARROW = {"lower": "↓", "higher": "↑"}
VERDICT = {"met": "✓ met", "missed": "✗ missed"}
VALUES = ("model", "target", "baseline", "peer", "oracle")
#: The note of a row whose model and target the runs cannot tell apart.
TIE = "level within its interval"
#: Turns the name of a page into its address.
Address = Callable[[str], str]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its HTML, and whether it is a number."""

    content: str
    number: bool = False


def number(value: float | None) -> Cell:
    """Return a value: whole, or with four significant digits, at most four of them decimals."""
    if value is None:
        return Cell("", number=True)
    whole = value % 1 == 0
    places = 0 if whole else min(4, max(0, 3 - math.floor(math.log10(abs(value)))))
    return Cell(f"{value:,.{places}f}", number=True)


def _link(name: str, title: str, address: Address) -> str:
    return f'<a href="{html.escape(address(name))}">{html.escape(title)}</a>'


def _table(label: str, caption: str, head: list[str], rows: list[list[Cell]]) -> str:
    """Return a table of the course's kind; the first cell of a row is its header."""
    kind = [cell.number for cell in rows[0]]
    top = "".join(
        f'<th scope="col"{" class=number" if is_number else ""}>{html.escape(name)}</th>'
        for name, is_number in zip(head, kind, strict=True)
    )
    body = []
    for first, *rest in rows:
        cells = [
            f"<td{' class=number' if cell.number else ''}>{cell.content}</td>" for cell in rest
        ]
        body.append(f'<tr><th scope="row">{first.content}</th>{"".join(cells)}</tr>')
    return (
        '<div class="casebook-table" tabindex="0" role="region" '
        f'aria-label="{html.escape(label)}"><table><caption>{caption}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def title(notebook) -> str:
    """Return the title of a notebook."""
    return notebook.cells[0].source.split("\n", 1)[0].removeprefix("# ").strip()


def read_card(root: Path, stem: str) -> list[dict]:
    """Return the rows of a chapter's scorecard; none where the last build wrote none."""
    path = root / "_build" / "scorecards" / f"{stem}.json"
    if not path.is_file():
        return []
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def _score_row(row: dict) -> list[Cell]:
    metric = f"{row['metric']} ({row['unit']}) {ARROW[row['better']]}"
    tie = row["note"] == TIE
    return [
        Cell(html.escape(metric)),
        Cell(VERDICT[row["verdict"]] + (" (a tie)" if tie else "")),
        *(number(row[key]) for key in VALUES),
        Cell(html.escape(row["data"])),
        Cell("" if tie else html.escape(row["note"])),
    ]


def _met(rows: list[dict]) -> str:
    """Say how many targets were met, and how many of the missed ones are ties."""
    missed = [row for row in rows if row["verdict"] == "missed"]
    ties = sum(row["note"] == TIE for row in missed)
    text = f"{len(rows) - len(missed)} of {len(rows)} targets met"
    if not ties:
        return text
    return f"{text}; {ties} of the {len(missed)} missed {'is a tie' if ties == 1 else 'are ties'}"


def _chapters(count: int) -> str:
    return f"{count} chapter{'s' * (count != 1)}"


def scoreboard(cards: dict[str, tuple[str, list[dict]]], address: Address) -> str:
    """Return the scoreboard.

    Parameters
    ----------
    cards : dict
        For each chapter's page its title and the rows of its scorecard.
    address : callable
        From the name of a page to its address.

    Returns
    -------
    str
        HTML: a sentence over all chapters and a table for each one that has rows.
    """
    rows = [row for _, card in cards.values() for row in card]
    if not rows:
        return "<p>No chapter of this build has written a scorecard.</p>"
    parts = [
        f"<p>In {_chapters(sum(bool(card) for _, card in cards.values()))}: {_met(rows)}. "
        "↓ lower is better, ↑ higher is better.</p>"
    ]
    head = ["metric", "verdict", *VALUES, "data", "note"]
    for name, (heading, card) in cards.items():
        link = _link(name, heading, address)
        if card:
            parts.append(f"<p><strong>{link}</strong></p>")
            label = f"Scorecard of {heading}"
            parts.append(_table(label, _met(card), head, [_score_row(row) for row in card]))
        else:
            parts.append(f"<p>{link}: this build has no scorecard of it.</p>")
    return "\n".join(parts)


@dataclass(frozen=True)
class Timing:
    """What a page's notebook took.

    Attributes
    ----------
    name, title : str
        Page and title.
    cpu_seconds : float or None
        Of its execution, with all processes that it started; None if it was not executed.
    seconds, memory_mb : float or None
        Wall clock and largest memory of the same execution.
    """

    name: str
    title: str
    cpu_seconds: float | None = None
    seconds: float | None = None
    memory_mb: float | None = None

    @property
    def budget(self) -> float:
        """Return the CPU seconds that it may take."""
        return BUDGETS[self.name.split("/")[0]]

    @property
    def verdict(self) -> str:
        """Say whether the budget was kept: by CPU seconds, which no other process lengthens."""
        if self.cpu_seconds is None:
            return "not known"
        return "✓ within" if self.cpu_seconds <= self.budget else "✗ over"


def timings(rows: list[Timing], address: Address) -> str:
    """Return the table of timings: one row for each notebook and their sum."""
    if not rows:
        return "<p>This build has no notebooks.</p>"
    known = [row.cpu_seconds for row in rows if row.cpu_seconds is not None]
    over = sum(row.verdict == "✗ over" for row in rows)
    cells = [
        [
            Cell(_link(row.name, row.title, address)),
            Cell(row.verdict),
            _rounded(row.cpu_seconds, 1),
            _rounded(row.budget, 0),
            _rounded(row.seconds, 1),
            _rounded(row.memory_mb, 0),
        ]
        for row in rows
    ]
    head = ["notebook", "verdict", "CPU s", "budget", "wall s", "MB"]
    return (
        f"<p>{len(known)} of {len(rows)} notebooks took {sum(known):,.0f} CPU seconds in all; "
        f"{over} ran over budget. The machine has {os.cpu_count()} cores and Python "
        f"{platform.python_version()}.</p>\n"
        + _table("Cost of each notebook", "Cost of each notebook", head, cells)
    )


def _rounded(value: float | None, places: int) -> Cell:
    return Cell("" if value is None else f"{value:,.{places}f}", number=True)


def _pages(root: Path) -> dict:
    from casebook.book.__main__ import pages  # it imports the extension

    return pages(root)


def read_cards(root: Path) -> dict[str, tuple[str, list[dict]]]:
    """Return title and scorecard of each chapter in the table of contents."""
    return {
        name: (title(notebook), read_card(root, name.split("/")[1]))
        for name, (_, notebook) in _pages(root).items()
        if name.startswith("chapters/")
    }


def read_timings(root: Path) -> list[Timing]:
    """Return what each notebook of the table of contents took when it was executed."""
    found = []
    for name, (_, notebook) in _pages(root).items():
        done = stored(root, name)
        spent = (done.cpu_seconds, done.seconds, done.memory_mb) if done else ()
        found.append(Timing(name, title(notebook), *spent))
    return found


class _Report(SphinxDirective):
    """A part of a page that is computed at every build."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # what it reads may change while the page does not
        return [nodes.raw("", self.content_of(Path(self.env.srcdir)), format="html")]

    def content_of(self, root: Path) -> str:
        raise NotImplementedError

    def address(self, name: str) -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, name)


class Scoreboard(_Report):
    """``{scoreboard}``: all scorecards."""

    def content_of(self, root: Path) -> str:
        return scoreboard(read_cards(root), self.address)


class Timings(_Report):
    """``{timings}``: what each notebook took, beside its budget."""

    def content_of(self, root: Path) -> str:
        return timings(read_timings(root), self.address)


def setup(app: Sphinx) -> dict:
    """Register the directives."""
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("timings", Timings)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
