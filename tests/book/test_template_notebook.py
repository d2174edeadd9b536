"""The fillable notebook asks what the template's page asks, and its code cell runs (a second)."""

from __future__ import annotations

import copy
import re

import nbformat
import pytest

from casebook.project import require_checkout

BOOK = require_checkout() / "book"
NOTEBOOK = BOOK / "_static" / "downloads" / "use_case_analysis.ipynb"
PAGE = (BOOK / "template.md").read_text(encoding="utf-8")


def words(text: str) -> str:
    """Return a text without table bars, ticks, line breaks and links into the glossary."""
    text = re.sub(r"\[([^\]]+)\]\(glossary\.md#[\w-]+\)", r"\1", text)
    return " ".join(re.sub(r"[|#]|-{3,}|- \[ \]|:(?= )", " ", text).split())


def parts() -> dict[str, str]:
    """Return the page's eight parts and its checklist by the id of their cell."""
    body = PAGE.partition("## The eight parts\n")[2].partition("## A worked example")[0]
    body, _, checklist = body.partition("## Checklist\n")
    found = {f"part-{p[0]}": p for p in re.split(r"^### ", body, flags=re.M)[1:]}
    return found | {"checklist": "Checklist " + checklist.partition("|---|---|\n")[2]}


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """Return where the notebook differs from the page."""
    cells = {cell.id: cell for cell in notebook.cells}
    found = [f"{name} is missing" for name in parts() if name not in cells]
    for name, text in parts().items():
        if name in cells and words(cells[name].source) != words(text):
            found.append(f"{name} differs from the page")
        if name in cells and name.replace("part", "answer") not in cells:
            found.append(f"{name} has no place for an answer")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        if cell.outputs or cell.execution_count:
            found.append(f"{cell.id} has an output")
        try:
            exec(compile(cell.source, cell.id, "exec"), {})
        except Exception as error:
            found.append(f"{cell.id}: {error!r}")
    return found if code else [*found, "no code cell"]


def test_the_notebook_asks_what_the_page_asks():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert len(parts()) == 9
    assert faults(notebook) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("part-3", "fall-back", "plan B", "part-3 differs"),
        ("checklist", "ten times", "a hundred times", "checklist differs"),
        ("arithmetic", "/ 86_400", "/ 0", "ZeroDivisionError"),
    ],
)
def test_a_planted_difference_is_found(name, old, new, complaint):
    notebook = copy.deepcopy(nbformat.read(NOTEBOOK, as_version=4))
    cell = next(cell for cell in notebook.cells if cell.id == name)
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    assert any(complaint in fault for fault in faults(notebook))
