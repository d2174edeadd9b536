"""Lines of a document that a reader can quote, each with where it stands.

A line keeps where it stands. A row of a table is read with the heads of its columns, a point of a
slide with the slide's title, a line of chat without its time and speaker: each alone says too
little to be found, and is what a reader is shown.

Examples
--------
>>> table = "| team | fee |\\n| --- | --- |\\n| Hotline | 9 |"
>>> body = f"# Slide 2: Identity\\n- lead time: 3 days\\n{table}"
>>> [(line.place, line.text) for line in lines_of("Review", body)]
[('Slide 2: Identity', 'lead time: 3 days'), ('Slide 2: Identity', 'team: Hotline, fee: 9')]
>>> lines_of("#hotline", "[09:10] user:4: It is 7 days.")[0].quote
'It is 7 days.'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SPOKEN = re.compile(r"^\[\d\d:\d\d\] [\w.:-]+: ")
_POINT = re.compile(r"^[-*] ")
_RULE = re.compile(r"^\|(?:\s*:?-+:?\s*\|)+$")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that can be quoted.

    Attributes
    ----------
    text : str
        As it is read: a row of a table with the heads of its columns.
    place : str
        Heading under which it stands, or the title.
    quote : str
        As it stands in the document; the anchor of a citation.
    start : int
        Character of the body at which the quote begins.
    listed : bool
        Whether it is a point of a list or a row of a table.
    """

    text: str
    place: str
    quote: str
    start: int
    listed: bool = False


def lines_of(title: str, body: str) -> list[Line]:
    """Return the lines of a text that say something, headings and rules left out."""
    found, place, heads, at = [], title, [], 0
    for raw in body.split("\n"):
        start, at = at, at + len(raw) + 1
        spoken = _SPOKEN.match(raw) or _POINT.match(raw)
        quote = raw[spoken.end() :] if spoken else raw
        start += len(raw) - len(quote)
        if raw.startswith("#"):
            place, heads = raw.lstrip("# ").strip() or title, []
        elif raw.startswith("|"):
            cells = [cell.strip() for cell in raw.strip().strip("|").split("|")]
            if not heads:
                heads = cells
            elif not _RULE.match(raw.strip()):
                found.append(Line(_row(heads, cells), place, quote.strip(), start, True))
        elif quote.strip():
            heads = []
            point = raw[:1] in "-*"
            found.append(Line(quote.strip(), place, quote.strip(), start, point))
    return found


def _row(heads: Sequence[str], cells: Sequence[str]) -> str:
    """Return a row of a table as a sentence."""
    return ", ".join(f"{head}: {cell}" for head, cell in zip(heads, cells, strict=False) if cell)
