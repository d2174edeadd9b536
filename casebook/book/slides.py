"""Slides of the chapters, made from the executed chapters themselves: ``make slides``.

Nothing is written twice. Each heading opens a slide; of the text the first
sentence of each paragraph stands on it, with its diagrams, formulas, tables and
lists, and the whole text becomes speaker notes. What a cell printed joins the
slide before it, until that holds one big thing (a diagram, a formula, a table,
a figure); a cell's code is shown when it is short. A cell's ``slideshow``
metadata (``slide_type``: ``skip``, ``slide``, ``subslide``) overrides this.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from casebook.author import files
from casebook.author.execute import stored
from casebook.author.files import tags
from casebook.project import require_checkout

TEMPLATES = Path(__file__).parent / "templates"
#: Code of more lines, and more sentences of one cell, are not shown on a slide.
MOST_LINES, MOST_SENTENCES = 9, 3
CODE_HIDDEN = {"remove-input", "hide-input", "hide-cell", "claim"}
#: Blocks that a slide shows whole; of a paragraph it shows the first sentence.
WHOLE = {"math", "fence", "table_open", "bullet_list_open", "ordered_list_open"}
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z*\"“$`])")


@dataclass
class Slide:
    """One slide while it is put together.

    Attributes
    ----------
    kind : str
        ``slide`` (a new column) or ``subslide`` (below the one before).
    cells : list of NotebookNode
        What stands on it, notes included.
    full : bool
        It holds a big thing already.
    """

    kind: str
    cells: list[NotebookNode] = field(default_factory=list)
    full: bool = False


def _blocks(source: str) -> list[tuple[str, str]]:
    """Return the top-level blocks of Markdown as (token type, text), display formulas apart."""
    lines, found = source.split("\n"), []
    for token in MarkdownIt().enable("table").parse(source):
        if token.level == 0 and token.map and token.nesting >= 0:
            text = "\n".join(lines[slice(*token.map)]).strip()
            kind = "math" if text.startswith("$$") else token.type
            found.append((kind, text))
    return found


def _first_sentence(paragraph: str) -> str:
    sentence = _SENTENCE.split(" ".join(paragraph.split()))[0]
    whole = sentence.count("**") % 2 == 0 and sentence.count("*") % 2 == 0
    return sentence if whole else paragraph


def digest(source: str) -> list[tuple[str, bool]]:
    """Return the slides of a Markdown cell.

    Parameters
    ----------
    source : str
        Markdown of one cell.

    Returns
    -------
    list of (str, bool)
        For each heading (the first may be missing): the Markdown of its slide, and
        whether it holds a big thing; what follows a big thing and is shown whole opens
        a second slide under the same heading. Of a quiz the options stand on it, of other
        folded text nothing.
    """
    found: list[tuple[list[str], bool]] = [([], False)]
    folded = False
    heading = ""
    for kind, text in _blocks(source):
        if kind == "heading_open":
            heading = text
        elif kind in WHOLE and found[-1][1] and not folded:
            found.append(([heading] if heading else [], False))
        parts, full = found[-1]
        if kind == "heading_open":
            found.append(([text], False))
        elif kind == "html_block":
            folded = folded and "</details>" not in text
            if option := re.search(r"<summary>([A-Z]\. .*?)</summary>", text):
                parts.append(f"* {option.group(1)}")
            folded = folded or ("<details" in text and "</details>" not in text)
        elif folded:
            continue
        elif kind in WHOLE:
            found[-1] = ([*parts, text], full or kind in ("math", "fence", "table_open"))
        elif kind == "paragraph_open" and len(parts) <= MOST_SENTENCES:
            parts.append(_first_sentence(text))
    return [("\n\n".join(parts), full) for parts, full in found if parts]


def _notes(cell: NotebookNode) -> list[NotebookNode]:
    """Return the whole text of a Markdown cell as speaker notes."""
    text = re.sub(r"^(`{3,}).*?^\1|^\$\$.*?^\$\$", "", cell.source, flags=re.M | re.S)
    text = re.sub(r"</?(details|summary)>", "", text).strip()
    note = new_markdown_cell(text, metadata={"slideshow": {"slide_type": "notes"}})
    note.id = f"{cell.id}-notes"
    return [note] if text else []


def _text_slides(cell: NotebookNode, wanted: str | None) -> list[Slide]:
    made = []
    for i, (text, full) in enumerate(digest(cell.source)):
        shown = new_markdown_cell(text)
        shown.id = f"{cell.id}-{i}"
        headed = text.startswith(("# ", "## "))
        made.append(Slide(wanted or ("slide" if headed else "subslide"), [shown], full))
    if made:
        made[0].cells += _notes(cell)
    return made


def _shown(cell: NotebookNode) -> NotebookNode | None:
    """Return a code cell with what a slide shows of it, or None."""
    cell.outputs = [
        output
        for output in cell.outputs
        if output.output_type == "display_data"
        and not output.data.get("text/markdown", "").startswith("<details>")
    ]
    if CODE_HIDDEN & set(tags(cell)) or len(cell.source.splitlines()) > MOST_LINES:
        cell.source = ""
    return cell if cell.outputs else None


def _joined(made: list[Slide]) -> list[Slide]:
    """Let text without a heading and without a result stand on the slide before it."""
    kept: list[Slide] = []
    for slide in made:
        only_text = all(cell.cell_type == "markdown" for cell in slide.cells)
        headed = slide.cells[0].source.startswith("#")
        if kept and only_text and not headed and not slide.full and slide.kind == "subslide":
            kept[-1].cells += slide.cells
        else:
            kept.append(slide)
    return kept


def slides(executed: NotebookNode) -> NotebookNode:
    """Return the notebook whose cells are the slides of an executed chapter.

    Parameters
    ----------
    executed : NotebookNode
        With outputs; changed.

    Returns
    -------
    NotebookNode
        Each cell with a ``slide_type``, for nbconvert.
    """
    made: list[Slide] = []
    for cell in executed.cells:
        wanted = cell.metadata.get("slideshow", {}).get("slide_type")
        if wanted == "skip" or "remove-cell" in tags(cell):
            continue
        if cell.cell_type == "markdown":
            made += _text_slides(cell, wanted)
        elif (shown := _shown(cell)) is not None:
            big = any("text/html" in output.data for output in shown.outputs) or shown.source
            if wanted or not made or (big and made[-1].full):
                made.append(Slide(wanted or "subslide"))
            made[-1].cells.append(shown)
            made[-1].full = made[-1].full or bool(big)
    cells = []
    for slide in _joined(made):
        for place, cell in enumerate(slide.cells):
            kind = cell.metadata.get("slideshow", {}).get("slide_type")
            if kind != "notes":
                kind = "-" if place else slide.kind
            cell.metadata["slideshow"] = {"slide_type": kind}
            cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=executed.metadata)


def export(executed: NotebookNode, title: str) -> str:
    """Return the slides of an executed chapter as a page that needs no network.

    Parameters
    ----------
    executed : NotebookNode
        With outputs; changed.
    title : str
        Of the page.

    Returns
    -------
    str
        HTML for ``_build/html/slides/``.
    """
    notebook = slides(executed)
    plotly = any("casebook-plotly" in str(cell.get("outputs", "")) for cell in notebook.cells)
    exporter = SlidesExporter(extra_template_basedirs=[str(TEMPLATES)], template_name="slides")
    resources = {
        "casebook_static": "../_static",
        "casebook_title": title,
        "casebook_plotly": plotly,
    }
    html, _ = exporter.from_notebook_node(notebook, resources=resources)
    return html


def build(root: Path) -> int:
    """Write the slides of every chapter beside the built book; return the exit code."""
    folder = root / "_build" / "html" / "slides"
    folder.mkdir(parents=True, exist_ok=True)
    for path in files.notebooks("chapters", root=root):
        done = stored(root, f"chapters/{path.stem}")
        if done is None:
            print(f"failed    {path.stem} has not been executed as it is now: run `make book`")
            return 1
        title = done.notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        (folder / f"{path.stem}.html").write_text(export(done.notebook, title), encoding="utf-8")
        print(f"slides    {folder / path.stem}.html")
    return 0


if __name__ == "__main__":
    sys.exit(build(require_checkout()))
