"""Results of a case that a front-matter page quotes are those of its recorded tables.

A page names the table, the rows and the column, and shows the mean::

    The plan costs 5,816 euro a day.
    <!-- recorded: staffing model=direct_bottom_up order=quantile | euros = 5,816 -->

Blanks in a value are written ``_``; ``100 * WAPE`` shows a share in per cent. Costs under a second.
"""

from __future__ import annotations

import re

import pandas as pd
import pytest
from test_page_arithmetic import stands_in

from casebook.cases.demand_forecasting.studies import differences
from casebook.project import require_checkout

ROOT = require_checkout()
TABLES = ROOT / "data" / "01_demand_forecasting" / "benchmarks"
PAGES = ("costs.md", "template.md", "answers.md")
_LINE = re.compile(
    r"^<!-- recorded: (?P<table>\w+)(?P<rows>( \w+=[\w.]+)*)"
    r" \| (?P<scale>100 \* )?(?P<column>\w+) = (?P<given>[\d,]+\.?\d*) -->$"
)


def value(table: str, rows: str, column: str) -> float:
    """Return the mean of a column over the rows that have the values named."""
    frame = pd.read_csv(TABLES / f"{table}.csv")
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
    "The plan costs 5,816 euro a day.\n"
    "<!-- recorded: staffing model=direct_bottom_up order=quantile | euros = 5,816 -->"
)


def comparison_of_mint(table: pd.DataFrame) -> str:
    found = differences(table, "direct_mint", "direct_bottom_up").loc["route"]
    change, low, high = (100 * found[name] for name in ("change", "low", "high"))
    return f"WAPE at the routes {change:+.1f} % [{low:+.1f}, {high:+.1f}] over fifteen worlds"


def test_the_comparison_of_mint_is_the_recorded_one():
    table = pd.read_csv(TABLES / "worlds.csv")
    page = (ROOT / "book" / "template.md").read_text(encoding="utf-8")
    assert comparison_of_mint(table) in page
    other = table.assign(WAPE=table["WAPE"].where(table["model"] != "direct_mint", 0.2))
    assert comparison_of_mint(other) not in page


def test_a_right_quotation_passes():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("order=quantile", "order=point", "recorded is 6294.34"),
        ("costs 5,816", "costs 5,817", "does not stand"),
        ("euros =", "dollars =", "KeyError"),
        ("order=quantile", "order=guess", "has no row"),
        ("recorded: staffing", "recorded: staff", "FileNotFoundError"),
        ("| euros", "euros", "not of the form"),
    ],
)
def test_a_planted_fault_is_found(old, new, complaint):
    assert old in GOOD
    assert any(complaint in fault for fault in faults(GOOD.replace(old, new)))
