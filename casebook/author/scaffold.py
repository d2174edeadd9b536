"""The start of a new case study: ``make new N=02_sales_forecasting TITLE="…"``."""

from __future__ import annotations

from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from casebook.author import files
from casebook.author.normalise import SECTIONS, normalise

OPENING = """\
# {title}

<!-- An abstract of three sentences: the decision, what is built, what comes out. -->

**Afterwards you can** …

**Time:** … **Before you start:** …
"""
SET_UP = """\
from casebook.data import snapshot
from casebook.page import figures
from casebook.page.claims import claim
from casebook.page.scorecard import Scorecard
"""
NEXT = """\
written     chapters/{name}.ipynb: a heading for each section, and in comments what stands under it
to write    casebook/cases/{module}/world.py: its mechanisms in the docstring, snapshots()
to write    tests/cases/test_{module}_world.py: the world's promises; commit before comparing models
to write    data/{name}/README.md: the data card; `make data` writes the snapshots
to write    casebook/cases/{module}/: modules for what is too long for a cell
to write    solutions/{name}.ipynb and casebook/cases/{module}/questions.py: the exercise
to write    casebook/cases/{module}/benchmarks.py, artifacts.py: what is too slow for the page
to write    book/instructors/{name}.md: the session of 90 minutes
to write    tests/targets.toml: what the scorecard must show
to add      metadata of the chapter, `casebook`: the cells of its `figure` and its `finding`, its
            `difficulty`, and `minutes` (`read`, `run`, `exercise`): the card of the landing page
to add      _toc.yml: chapters/{name} with exercises/{name} below it
`python -m casebook.author check` says what is missing until the chapter is whole.
"""


def chapter(title: str) -> NotebookNode:
    """Return a chapter with every heading and nothing under it but comments.

    Parameters
    ----------
    title : str
        Of the chapter.

    Returns
    -------
    NotebookNode
        Not in order until its sections are written: ``check`` names each empty one.
    """
    opening = new_markdown_cell(OPENING.format(title=title))
    set_up = new_code_cell(SET_UP, metadata={"tags": ["hide-input"]})
    opening.id, set_up.id = "title", "set-up"
    cells = [opening, set_up]
    for heading, what in SECTIONS.items():
        cells.append(new_markdown_cell(f"## {heading}\n\n<!-- {what} -->"))
    return new_notebook(cells=cells, metadata={"casebook": {"group": ""}})


def create(root: Path, name: str, title: str) -> str:
    """Write the chapter of a new case; return what is to be done next.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Of the form ``02_sales_forecasting``.
    title : str
        Of the chapter.

    Raises
    ------
    ValueError
        If the name has another form, its number is taken, or there is no title.
    """
    if not files.NAME.match(name):
        raise ValueError(f"{name!r} is not of the form 02_sales_forecasting.")
    if not title.strip():
        raise ValueError('Give the chapter a title: TITLE="Sales for finance".')
    taken = [p.stem for p in files.notebooks("chapters", root=root)]
    if clash := [stem for stem in taken if stem.split("_")[0] == name.split("_")[0]]:
        raise ValueError(f"The number of {name!r} is taken by {clash[0]}.")
    path = f"chapters/{name}.ipynb"
    files.write(normalise(chapter(title.strip()), path), root / path)
    return NEXT.format(name=name, module=name.split("_", 1)[1])
