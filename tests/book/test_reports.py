"""Scoreboard and timings: planted values, and what the built pages show."""

from __future__ import annotations

import json

import nbformat
import pytest
from bs4 import BeautifulSoup

from casebook.author.execute import Execution, stored
from casebook.book import __main__ as book
from casebook.book import reports
from casebook.book.reports import Timing
from casebook.project import require_checkout

ROOT = require_checkout()
FIRST, SECOND = "chapters/01_first", "chapters/02_second"


def row(**changes) -> dict:
    """Return a row of a scorecard."""
    values = {"metric": "WAPE", "unit": "share", "better": "lower", "data": "frozen world"}
    values |= {"baseline": 0.1627, "model": 0.08139, "peer": None, "oracle": 0.0334}
    return values | {"target": 0.1, "verdict": "met", "note": ""} | changes


def address(name: str) -> str:
    return f"../{name}.html"


def parsed(content: str) -> BeautifulSoup:
    return BeautifulSoup(content, "html.parser")


def cells(content: str) -> list[list[str]]:
    """Return the text of every row of every table, without the heads."""
    rows = parsed(content).select("tbody tr")
    return [[cell.get_text() for cell in line.find_all(["th", "td"])] for line in rows]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.08139, "0.0814"),
        (0.69, "0.6900"),
        (1.0, "1"),
        (103.0, "103"),
        (136.754, "136.8"),
        (3494.2, "3,494"),
        (1234567.8, "1,234,568"),
        (-12.345, "-12.35"),
        (0.0, "0"),
        (0.00001, "0.0000"),
        (None, ""),
    ],
)
def test_numbers(value, shown):
    assert reports.number(value).content == shown


def test_the_scoreboard_holds_every_row_with_verdict_and_link():
    missed = row(metric="p99 <slow>", unit="ms", model=30.0, verdict="missed", note="one & only")
    higher = row(metric="coverage", better="higher", peer=0.8)
    shown = reports.scoreboard(
        {FIRST: ("The first", [row(), missed]), SECOND: ("The second", [higher])}, address
    )
    rest = ["0.1000", "0.1627", "", "0.0334", "frozen world"]
    assert cells(shown) == [
        ["WAPE (share) ↓", "✓ met", "0.0814", *rest, ""],
        ["p99 <slow> (ms) ↓", "✗ missed", "30", *rest, "one & only"],
        [
            *("coverage (share) ↑", "✓ met", "0.0814", "0.1000", "0.1627", "0.8000", "0.0334"),
            *("frozen world", ""),
        ],
    ]
    page = parsed(shown)
    assert page.p.get_text().startswith("In 2 chapters: 2 of 3 targets met.")
    assert [a["href"] for a in page.find_all("a")] == [address(FIRST), address(SECOND)]
    assert [c.get_text() for c in page.find_all("caption")] == [
        "1 of 2 targets met",
        "1 of 1 targets met",
    ]


def test_a_tie_is_called_a_tie_and_a_missed_one_stays_missed():
    tied = row(verdict="missed", note=reports.TIE)
    card = [row(), tied, row(note=reports.TIE), row(verdict="missed", note="too slow")]
    shown = reports.scoreboard({FIRST: ("The first", card)}, address)
    assert [(line[1], line[-1]) for line in cells(shown)] == [
        ("✓ met", ""),
        ("✗ missed (a tie)", ""),
        ("✓ met (a tie)", ""),
        ("✗ missed", "too slow"),
    ]
    caption = parsed(shown).caption.get_text()
    assert caption == "2 of 4 targets met; 1 of the 2 missed is a tie"


def test_a_chapter_without_a_scorecard_is_named():
    shown = reports.scoreboard({FIRST: ("The first", [row()]), SECOND: ("None", [])}, address)
    assert "None: this build has no scorecard of it." in parsed(shown).get_text()
    assert "In 1 chapter: " in shown
    assert "No chapter" in reports.scoreboard({FIRST: ("The first", [])}, address)


def test_timings_beside_their_budgets():
    rows = [
        Timing(FIRST, "The first", 59.96, 300.0, 1234.5),
        Timing(SECOND, "The second", 60.1, 31.0, 800.0),
        Timing("exercises/01_first", "Exercise", 12.0, 6.25, 300.0),
        Timing("exercises/02_second", "Another"),
    ]
    shown = reports.timings(rows, address)
    assert cells(shown) == [
        ["The first", "✓ within", "60.0", "60", "300.0", "1,234"],
        ["The second", "✗ over", "60.1", "60", "31.0", "800"],
        ["Exercise", "✓ within", "12.0", "12", "6.2", "300"],
        ["Another", "not known", "", "12", "", ""],
    ]
    assert "3 of 4 notebooks took 132 CPU seconds in all; 1 ran over budget." in shown
    assert "no notebooks" in reports.timings([], address)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Return a folder with two chapters, of which one was executed and has a scorecard."""
    notebooks = {}
    for name in (FIRST, SECOND):
        new = [
            nbformat.v4.new_markdown_cell(f"# Title of {name}\n\ntext"),
            nbformat.v4.new_code_cell(f"name = {name!r}", metadata={"tags": ["serial"]}),
        ]
        notebooks[name] = (tmp_path / f"{name}.ipynb", nbformat.v4.new_notebook(cells=new))
    monkeypatch.setattr(book, "pages", lambda root: notebooks)
    done = {FIRST: Execution(notebooks[FIRST][1], 1.5, 2.5, 90.0, "key", cached=True)}
    monkeypatch.setattr(reports, "stored", lambda root, name: done.get(name))
    cards = tmp_path / "_build" / "scorecards"
    cards.mkdir(parents=True)
    (cards / "01_first.json").write_text(json.dumps({"chapter": "01_first", "rows": [row()]}))
    (cards / "99_gone.json").write_text(json.dumps({"chapter": "99_gone", "rows": [row()]}))
    return tmp_path


def test_values_come_from_the_last_build(planted):
    assert reports.read_cards(planted) == {
        FIRST: (f"Title of {FIRST}", [row()]),
        SECOND: (f"Title of {SECOND}", []),
    }
    assert reports.read_timings(planted) == [
        Timing(FIRST, f"Title of {FIRST}", 1.5, 2.5, 90.0),
        Timing(SECOND, f"Title of {SECOND}"),
    ]


# The built pages


def page(name: str) -> str:
    path = ROOT / "_build" / "html" / "book" / f"{name}.html"
    assert path.is_file(), f"{path} is not there: run `make book` first"
    return path.read_text()


def differences(content: str, cards: dict) -> list[str]:
    """Return what the built scoreboard does not show of the scorecards."""
    shown = cells(content)
    found = []
    for name, (_, card) in cards.items():
        if f'href="../{name}.html"' not in content:
            found.append(f"no link to {name}")
        for one in card:
            wanted = [reports.number(one[key]).content for key in reports.VALUES]
            if not any(line[7] == one["data"] and line[2:7] == wanted for line in shown):
                found.append(f"{name}: {one['metric']}")
    return found


def test_the_built_scoreboard_shows_every_scorecard():
    content, cards = page("scoreboard"), reports.read_cards(ROOT)
    assert differences(content, cards) == []
    name = next(iter(cards))
    cards[name][1][0]["model"] += 1  # the planted fault
    assert differences(content, cards) == [f"{name}: {cards[name][1][0]['metric']}"]


def warned(notebook) -> list[str]:
    """Return the cells that print to stderr: a page would show the paths of this machine."""
    return [
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]


def test_no_notebook_of_the_book_prints_a_warning():
    for name in book.pages(ROOT):
        done = stored(ROOT, name)
        assert done is not None, f"{name} was not executed as it is now: run `make book`"
        assert warned(done.notebook) == [], name
    code = nbformat.v4.new_code_cell("x", id="loud")
    code.outputs = [nbformat.v4.new_output("stream", name="stderr", text="/a/path: UserWarning")]
    assert warned(nbformat.v4.new_notebook(cells=[code])) == ["loud"]


def hurried(took: dict[str, tuple[float, float]]) -> list[str]:
    """Return the chapters whose CPU seconds alone are half as long again as the declared run."""
    return [name for name, (declared, cpu) in took.items() if 1.5 * 60 * declared < cpu]


def test_no_chapter_declares_a_shorter_run_than_it_computes():
    took = {}
    for name, (_, notebook) in book.pages(ROOT).items():
        if name.startswith("chapters/"):
            done = stored(ROOT, name)
            assert done is not None, f"{name} was not executed as it is now: run `make book`"
            took[name] = (notebook.metadata.casebook.minutes["run"], done.cpu_seconds)
    assert took and hurried(took) == []
    name = next(iter(took))
    assert hurried(took | {name: (0.5, 46.0)}) == [name]


def test_the_built_timings_show_what_every_notebook_took():
    content = page("timings")
    shown = cells(content)
    assert len(shown) == len(book.pages(ROOT))
    for name, (_, notebook) in book.pages(ROOT).items():
        done = stored(ROOT, name)
        assert done is not None, f"{name} was not executed as it is now: run `make book`"
        line = next(s for s in shown if s[0] == reports.title(notebook))
        assert line[2] == f"{done.cpu_seconds:,.1f}", name
        assert line[4:] == [f"{done.seconds:,.1f}", f"{done.memory_mb:,.0f}"], name
