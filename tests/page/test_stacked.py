"""Wide tables on a phone: a row is a stack, and no column is out of view."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from visits import HTML, ROOT

from casebook.book.mend import mend

CHAPTER = "chapters/01_demand_forecasting"
CSS = (ROOT / "book" / "_static" / "casebook.css").as_uri()
#: Of each cell of the stacked tables in sight: its right edge and whether it has any height.
EDGES = """() => [...document.querySelectorAll("table.stacks")]
  .filter((table) => table.checkVisibility())
  .map((table) => [...table.querySelectorAll("tbody td:not(:empty)")].map((cell) => {
    const box = cell.getBoundingClientRect();
    return [box.right, box.height, getComputedStyle(cell, "::before").content];
  }))"""


def a_table(columns: int, cell: str = "0.123") -> str:
    """Return a table as a result is shown, with the caption that it has there."""
    head = "".join(f'<th scope="col">Column {k}</th>' for k in range(columns))
    body = '<th scope="row">a row</th>' + f"<td>{cell}</td>" * (columns - 2) + "<td>last</td>"
    rows = f"<thead><tr>{head}</tr></thead><tbody><tr>{body}</tr></tbody>"
    return f'<div class="casebook-table"><table><caption>c</caption>{rows}</table></div>'


def page_of(*tables: str) -> str:
    link = f'<link rel="stylesheet" href="{CSS}">'
    article = f'<article class="bd-article">{"".join(tables)}</article>'
    return mend(f"<html><head>{link}</head><body>{article}</body></html>")


@pytest.mark.parametrize(
    ("table", "stacks"),
    [
        (a_table(4), False),
        (a_table(5), True),
        (a_table(7).replace("last", "7"), False),
        (a_table(8).replace("last", "7"), True),
        (a_table(9).replace("<td>last", '<td colspan="2">last').replace("<td>", "", 1), False),
    ],
    ids=["narrow", "words", "numbers", "many numbers", "spanning"],
)
def test_a_wide_table_is_marked_with_the_names_of_its_columns(table, stacks):
    found = BeautifulSoup(page_of(table), "html.parser").table
    assert ("stacks" in found.get("class", [])) == stacks
    labels = [cell.get("data-label") for cell in found.select("tbody td")]
    wanted = [f"Column {k + 1}" for k in range(len(labels))] if stacks else [None] * len(labels)
    assert labels == wanted


def edges(page) -> list[list]:
    return page.evaluate(EDGES)


def test_a_stacked_table_keeps_its_last_column_in_view_and_another_does_not(visit, tmp_path):
    file = tmp_path / "wide.html"
    file.write_text(page_of(a_table(9, "a longer result")))
    (cells,) = edges(visit(file, width=390).page)
    assert all(right <= 390 and height > 0 for right, height, _ in cells)
    assert [name for *_, name in cells] == [f'"Column {k}"' for k in range(1, 9)]
    (wide,) = edges(visit(file, width=1280).page)
    assert {name for *_, name in wide} == {"none"}
    file.write_text(file.read_text().replace("max-width: 600px", "").replace(CSS, "none.css"))
    (cells,) = edges(visit(file, width=390).page)
    assert max(right for right, *_ in cells) > 390, "without the style its end is out of view"


def test_scorecard_and_roadmap_of_the_chapter_are_whole_on_a_phone(visit):
    tables = edges(visit(HTML / f"{CHAPTER}.html", width=390).page)
    names = [{name for *_, name in cells} for cells in tables]
    assert any('"verdict"' in found for found in names)
    assert any('"gate to the next"' in found for found in names)
    assert all(right <= 390 and height > 0 for cells in tables for right, height, _ in cells)
