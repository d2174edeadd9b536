"""Results of a case that a front-matter page quotes are those of its recorded tables.

A page names the table, the rows and the column, and shows the mean::

    The plan costs 5,816 euro a day.
    <!-- recorded: staffing model=direct_bottom_up order=quantile | euros = 5,816 -->

Blanks in a value are written ``_``; ``100 * WAPE`` shows a share in per cent. As in the chapter,
the page's own world is left out of a mean. Costs under a second.
"""

from __future__ import annotations

import re

import pandas as pd
import pytest
from test_page_arithmetic import stands_in

from casebook.author import files
from casebook.author.content import slug
from casebook.cases.demand_forecasting.world import CHAPTER, SEED
from casebook.project import require_checkout

ROOT = require_checkout()
TABLES = ROOT / "data" / "01_demand_forecasting" / "benchmarks"
PAGES = ("costs.md", "answers.md")
_LINE = re.compile(
    r"^<!-- recorded: (?P<table>\w+)(?P<rows>( \w+=[\w.]+)*)"
    r" \| (?P<scale>100 \* )?(?P<column>\w+) = (?P<given>[\d,]+\.?\d*) -->$"
)


def value(table: str, rows: str, column: str) -> float:
    """Return the mean of a column over the rows of fresh worlds that have the values named."""
    frame = pd.read_csv(TABLES / f"{table}.csv")
    frame = frame[frame["seed"] != SEED]
    for condition in rows.split():
        name, _, wanted = condition.partition("=")
        frame = frame[frame[name].astype(str).str.replace(" ", "_") == wanted]
    if frame.empty:
        raise ValueError(f"{table}.csv has no row with {rows}")
    return float(frame[column].mean())


def faults(text: str) -> list[str]:
    """Return what a page quotes wrongly."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip().splitlines()
        prose = "\n".join(line for line in lines if not line.startswith("<!--"))
        for line in lines:
            if not line.startswith("<!-- recorded:"):
                continue
            match = _LINE.match(line)
            if not match:
                found.append(f"not of the form `table rows | column = number`: {line}")
                continue
            try:
                right = value(match["table"], match["rows"], match["column"])
            except (ValueError, KeyError, FileNotFoundError) as error:
                found.append(f"{line}: {error!r}")
                continue
            right *= 100 if match["scale"] else 1
            given = match["given"]
            decimals = len(given.partition(".")[2])
            if abs(right - float(given.replace(",", ""))) > 0.5 * 10.0**-decimals + 1e-9:
                found.append(f"{line}: recorded is {right:.6g}")
            if not stands_in(given, prose):
                found.append(f"{given} does not stand in the paragraph: {prose[:60]}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_quoted_results_are_the_recorded_ones(page):
    text = (ROOT / "book" / page).read_text(encoding="utf-8")
    assert "<!-- recorded:" in text
    assert faults(text) == []


GOOD = (
    "The plan costs 5,869 euro a day.\n"
    "<!-- recorded: staffing model=direct_bottom_up order=quantile | euros = 5,869 -->"
)


def printed(name: str) -> str:
    """Return the claim that a cell of the chapter printed when it was recorded."""
    chapter = files.read(ROOT / "chapters" / f"{CHAPTER}.ipynb")
    cell = next(cell for cell in chapter.cells if cell.id == name)
    return "".join(cell.outputs[0].data["text/markdown"])


def not_in_the_memo(page: str) -> list[str]:
    """Return the plans that a page quotes and the chapter's memo does not print."""
    said = printed("memo")
    quoted = re.findall(
        r"recorded: (?:rules_)?staffing (?!model=oracle).* \| euros = ([\d,]+)", page
    )
    assert quoted
    return [number for number in quoted if not stands_in(number, said)]


def test_the_plans_of_the_answers_are_those_of_the_chapters_memo():
    """The same worlds, and the rules by their quantile: one set of numbers in the book."""
    page = (ROOT / "book" / "answers.md").read_text(encoding="utf-8")
    assert not_in_the_memo(page) == []
    rules = value("staffing", "model=rules order=quantile", "euros")
    planted = "<!-- recorded: staffing model=rules order=quantile | euros = {:,.0f} -->"
    assert not_in_the_memo(page + planted.format(rules)) == [f"{rules:,.0f}"]


def alarm(said: str) -> tuple[str, str]:
    """Return how two pages tell what the chapter's claim on its drift alarm says."""
    found = re.search(r"fires in (\d) of (\d) countries, after ([\d, ]+) days, not in", said)
    words = ["three", "four", "five", "six", "seven", "eight", "nine"]
    spelled = dict(zip("3456789", words, strict=True))
    fired, every, slowest = (spelled[n] for n in (found[1], found[2], found[3].split(", ")[-1]))
    return (
        f"at most {slowest} days in {fired} of {every} countries",
        f"at most {slowest} in {fired} countries. In the sixth it never does",
    )


def test_the_delay_of_the_alarm_is_the_chapters():
    pages = [(ROOT / "book" / name).read_text("utf-8") for name in ("method.md", "answers.md")]
    said = printed("drift-claim")
    assert all(told in page for told, page in zip(alarm(said), pages, strict=True))
    slower = said.replace(" days, not", ", 8 days, not")
    assert not any(told in page for told, page in zip(alarm(slower), pages, strict=True))


def to_the_top(text: str) -> list[str]:
    """Return the links into a full chapter that do not lead to one of its headings."""
    return re.findall(r"\]\((?:\.\./)+chapters/(?!00_)\w+\.ipynb\)", text)


def dead(text: str) -> list[str]:
    """Return the links of a page to headings that a chapter does not have."""
    found = []
    for name, anchor in re.findall(r"(chapters/\w+\.ipynb)#([\w-]+)", text):
        cells = files.read(ROOT / name).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        if anchor not in {slug(line) for line in re.findall(r"^#+ (.+)$", prose, flags=re.M)}:
            found.append(f"{name}#{anchor}")
    return found


@pytest.mark.parametrize("page", ["method.md", "costs.md", "answers.md", "template.md"])
def test_a_heading_that_a_page_links_to_is_there(page):
    """The build finds it too, half an hour later."""
    text = (ROOT / "book" / page).read_text(encoding="utf-8")
    assert dead(text) == []
    assert dead(re.sub(r"(\.ipynb#)", r"\1no-", text, count=1)) != []


@pytest.mark.parametrize("page", ["method.md", "costs.md", "answers.md", "template.md"])
def test_what_a_page_says_of_a_chapter_leads_to_its_heading(page):
    text = (ROOT / "book" / page).read_text(encoding="utf-8")
    assert to_the_top(text) == []
    heading = re.search(r"(chapters/(?!00_)\w+\.ipynb)#[\w-]+", text)
    assert to_the_top(text.replace(heading[0], heading[1])) != []


def test_a_right_quotation_passes():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("order=quantile", "order=point", "recorded is 6334.57"),
        ("costs 5,869", "costs 5,816", "does not stand"),
        ("euros =", "dollars =", "KeyError"),
        ("order=quantile", "order=guess", "has no row"),
        ("recorded: staffing", "recorded: staff", "FileNotFoundError"),
        ("| euros", "euros", "not of the form"),
    ],
)
def test_a_planted_fault_is_found(old, new, complaint):
    assert old in GOOD
    assert any(complaint in fault for fault in faults(GOOD.replace(old, new)))
