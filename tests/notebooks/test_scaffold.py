"""A new case starts with every heading, and is not in order until it has been written."""

from __future__ import annotations

import pytest

from casebook.author import files
from casebook.author.__main__ import main
from casebook.author.normalise import HEADINGS, LEAST_WORDS, faults
from casebook.author.scaffold import create

NAME = "02_sales_forecasting"
PATH = f"chapters/{NAME}.ipynb"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "chapters").mkdir()
    return tmp_path


def written(root):
    """Return the made chapter with some words under each heading."""
    notebook = files.read(root / PATH)
    for cell in notebook.cells:
        if cell.source.startswith("## "):
            cell.source += "\n\n" + "word " * LEAST_WORDS
    return notebook


def test_a_new_chapter_has_every_heading_and_each_is_called_empty(root):
    create(root, NAME, "Sales for finance")
    notebook = files.read(root / PATH)
    assert notebook.cells[0].source.startswith("# Sales for finance\n")
    assert faults(notebook, PATH) == [
        f"the section '## {heading}' is empty: 0 words" for heading in HEADINGS
    ]


def test_a_chapter_whose_sections_are_written_is_in_order(root):
    create(root, NAME, "Sales for finance")
    assert faults(written(root), PATH) == []


@pytest.mark.parametrize(
    "instead",
    [
        "<!-- " + "later " * 40 + "-->",
        "```mermaid\nflowchart LR\naccTitle: a\naccDescr: b\n" + "a-->b\n" * 40 + "```",
    ],
)
def test_comments_and_diagrams_are_no_prose(root, instead):
    create(root, NAME, "Sales for finance")
    notebook = written(root)
    cell = next(c for c in notebook.cells if c.source.startswith("## Roadmap"))
    cell.source = f"## Roadmap\n\n{instead}"
    assert faults(notebook, PATH) == ["the section '## Roadmap' is empty: 0 words"]


def test_it_says_what_else_a_case_needs(root, capsys):
    assert main(["--root", str(root), "new", NAME, "Sales for finance"]) == 0
    said = capsys.readouterr().out
    for room in ("cases/sales_forecasting/world.py", f"solutions/{NAME}.ipynb", f"data/{NAME}/"):
        assert room in said


@pytest.mark.parametrize(
    ("name", "title", "reason"),
    [
        ("sales", "Sales", "is not of the form"),
        (NAME, " ", "Give the chapter a title"),
        ("02_other", "Other", "taken by 02_sales_forecasting"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(root, capsys, name, title, reason):
    create(root, NAME, "Sales for finance")
    before = sorted(p.name for p in (root / "chapters").iterdir())
    assert main(["--root", str(root), "new", name, title]) == 1
    assert reason in capsys.readouterr().out
    assert sorted(p.name for p in (root / "chapters").iterdir()) == before
