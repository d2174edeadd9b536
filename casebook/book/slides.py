"""Slides of the chapters, made from the executed chapters themselves: ``make slides``.

Nothing is written twice. Each heading opens a slide, and a section without a text of its
own stands above its first idea. Of each paragraph a slide holds the sentence that can be
read alone, with the diagrams, formulas, tables and lists, and the whole text becomes
speaker notes. What a cell displayed or printed joins the slide before it, until that
holds one big thing (a diagram, a formula, a table, a figure). Of code only short
functions are shown, never what displays, and of folded cells nothing. Questions of the
interview and the quiz are shown without their answers; poll and exercise come from the session plan
(:mod:`casebook.book.session`). A cell's ``slideshow`` metadata (``slide_type``:
``skip``, ``slide``, ``subslide``) overrides this.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from casebook.author import files
from casebook.author.execute import stored
from casebook.author.files import tags
from casebook.book.session import Task, tasks
from casebook.project import require_checkout

TEMPLATES = Path(__file__).parent / "templates"
#: Code or print of more lines, and more sentences of one cell, are not shown on a slide.
MOST_LINES, MOST_SENTENCES = 12, 3
#: Characters of a printed line that a slide is wide enough for.
WIDEST = 100
#: Characters of a claim, and of all text beside a figure, which must stay large.
MOST_OF_A_CLAIM, MOST_BESIDE_A_FIGURE = 420, 300
#: A sentence of fewer words is shown with the next one.
LEAST_WORDS = 6
CODE_HIDDEN = {"remove-input", "hide-input", "hide-cell", "claim"}
#: Blocks that a slide shows whole; of a paragraph it shows one sentence.
WHOLE = {"math", "fence", "table_open", "bullet_list_open", "ordered_list_open"}
#: Calls that only show something: code with one of them is never on a slide.
DISPLAY = re.compile(
    r"\b(claim|not_run|display|print|show_lines|show_source|show|table|axes)\(|\b(fig|ax|figures|card)\."
)
NOT_RUN = "Not run here"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z*\"“$`\[])")
_LEAD = re.compile(r"\*\*(?P<lead>[^*]+[.?!:])\*\*\s+(?=\S)")
#: What points back to a sentence that is not on the slide.
_POINTS_BACK = re.compile(
    r"[*_\[]*(That|This|These|Those|It|They|He|She|Both|Neither|Such|Its|Their|So|But|And|Or|Hence|"
    r"Thus|Then|Therefore|Yet|Also|Otherwise|The same|The former|The latter|The second|The other)\b"
)


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
    asks : bool
        It asks the room: nothing may join it, and its heading is its own alone.
    """

    kind: str
    cells: list[NotebookNode] = field(default_factory=list)
    full: bool = False
    asks: bool = False

    def holds_figure(self) -> bool:
        """Say whether a figure or a diagram must be large on it."""
        return any(
            "```mermaid" in cell.source
            or any(_is_figure(output) for output in cell.get("outputs", []))
            for cell in self.cells
        )

    def says_nothing(self) -> bool:
        """Say whether it is a heading alone, perhaps with notes."""
        seen = [c for c in self.cells if c.metadata.get("slideshow", {}).get("slide_type") is None]
        return all(
            cell.cell_type == "markdown" and re.fullmatch(r"#+ .*", cell.source) for cell in seen
        )

    def characters(self) -> int:
        """Return how much text stands on it, without headings, notes and diagrams."""
        return sum(_length(cell) for cell in self.cells)


def _is_figure(output: NotebookNode) -> bool:
    return bool(re.search(r"casebook-(figure|plotly)", output.data.get("text/html", "")))


def _length(cell: NotebookNode) -> int:
    if cell.metadata.get("slideshow", {}).get("slide_type") == "notes":
        return 0
    texts = [o.data.get("text/markdown", "") for o in cell.get("outputs", [])]
    texts += [o.data["text/plain"] for o in cell.get("outputs", []) if [*o.data] == ["text/plain"]]
    if cell.cell_type == "markdown":
        texts.append(re.sub(r"^```.*?^```|^#.*?$", "", cell.source, flags=re.M | re.S))
    return sum(map(len, texts))


def _blocks(source: str) -> list[tuple[str, str]]:
    """Return the top-level blocks of Markdown as (token type, text), display formulas apart."""
    lines, found = source.split("\n"), []
    for token in MarkdownIt().enable("table").parse(source):
        if token.level == 0 and token.map and token.nesting >= 0:
            text = "\n".join(lines[slice(*token.map)]).strip()
            kind = "math" if text.startswith("$$") else token.type
            found.append((kind, text))
    return found


def _sentences(paragraph: str) -> list[str]:
    """Split a paragraph, never within emphasis."""
    found: list[str] = []
    for part in _SENTENCE.split(" ".join(paragraph.split())):
        if found and (found[-1].count("**") % 2 or found[-1].count("*") % 2):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def stands_alone(sentence: str) -> bool:
    """Say whether a sentence can be read without the one before it."""
    return len(sentence.split()) >= LEAST_WORDS and not _POINTS_BACK.match(sentence)


def key_sentence(paragraph: str) -> str:
    """Return what a slide shows of a paragraph.

    Parameters
    ----------
    paragraph : str
        Markdown.

    Returns
    -------
    str
        A bold lead and the first sentence after it. Without a lead the first sentence that
        does not point back. Where it is too short to say anything, with the next one (and
        with as many as it takes). Empty where no sentence can be read alone.
    """
    paragraph = " ".join(paragraph.split())
    lead = _LEAD.match(paragraph)
    prefix = lead[0] if lead else ""
    sentences = _sentences(paragraph[len(prefix) :])
    for i, sentence in enumerate(sentences):
        if not prefix and _POINTS_BACK.match(sentence):
            continue
        for part in sentences[i + 1 :]:
            if len(sentence.split()) >= LEAST_WORDS:
                break
            sentence += f" {part}"
        if prefix or len(sentence.split()) >= LEAST_WORDS or sentence.startswith("**"):
            return prefix + sentence
    return ""


def _shortened(text: str, most: int) -> str:
    """Return the first sentences of a text that have at most so many characters, one at least."""
    if "\n" in text.strip():
        return text
    kept = ""
    for sentence in _sentences(text):
        if kept and len(kept) + len(sentence) > most:
            break
        kept = f"{kept} {sentence}".strip()
    return kept


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
        a second slide under the same heading. Of a quiz the options are shown, of other
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
            if option := re.search(r"<summary>([A-Z]\. .*?)</summary>", text):
                found[-1] = ([*parts, f"* {option.group(1)}"], True)
            folded = text.rfind("<details") > text.rfind("</details>") or (
                folded and "</details>" not in text
            )
        elif folded:
            continue
        elif kind in WHOLE:
            found[-1] = ([*parts, text], full or kind in ("math", "fence", "table_open"))
        elif kind == "paragraph_open" and len(parts) <= MOST_SENTENCES:
            parts += [sentence] if (sentence := key_sentence(text)) else []
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
        asks = bool(re.search(r"^\* [A-Z]\. ", text, flags=re.M))
        kind = wanted or ("slide" if headed else "subslide")
        made.append(Slide(kind, [shown], full, asks=asks))
    if made:
        made[0].cells += _notes(cell)
    return made


def functions(source: str) -> str:
    """Return the short functions and classes of a cell's code that do not display anything.

    Parameters
    ----------
    source : str
        Code of a cell.

    Returns
    -------
    str
        Empty if there are none, or if they are too long for a slide.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic of IPython
        return ""
    kept = [
        text
        for node in body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not DISPLAY.search(text := ast.get_source_segment(source, node) or "")
    ]
    shown = "\n\n".join(kept)
    return shown if len(shown.splitlines()) <= MOST_LINES else ""


def _results(cell: NotebookNode) -> list[NotebookNode]:
    """Return what a cell displayed, and before it what it printed, where a slide can hold that."""
    said = "".join(o.text for o in cell.outputs if o.get("name") == "stdout").rstrip()
    lines = said.splitlines()
    shown = [o for o in cell.outputs if o.output_type == "display_data"]
    if 0 < len(lines) <= MOST_LINES and max(map(len, lines)) <= WIDEST:
        shown.insert(0, new_output("display_data", data={"text/plain": said}))
    return shown


def _shown(cell: NotebookNode) -> list[NotebookNode]:
    """Return what a slide shows of a code cell: its functions, then each result."""
    code = "" if CODE_HIDDEN & set(tags(cell)) else functions(cell.source)
    shown = []
    for i, output in enumerate(_results(cell)):
        said = output.data.get("text/markdown", "")
        if NOT_RUN in said:
            continue
        if heading := re.match(r"\s*(#+ .*)\n", said):
            shown.append(new_markdown_cell(heading[1], id=f"{cell.id}-head-{i}"))
            said = output.data["text/markdown"] = said[heading.end() :]
        if "<details" in said:
            part = new_markdown_cell(said)
        else:
            part = new_code_cell("", outputs=[output])
            if said:
                output.data["text/markdown"] = _shortened(said, MOST_OF_A_CLAIM)
        part.id = f"{cell.id}-out-{i}"
        shown.append(part)
        if part.cell_type == "code" and said and output.data["text/markdown"] != said:
            shown += _notes(new_markdown_cell(said, id=part.id))
    if code:
        shown.insert(0, new_code_cell(code, id=f"{cell.id}-code"))
    return shown


def _joined(made: list[Slide]) -> list[Slide]:
    """Let text without a heading stand on the slide before it, and all below a bare heading."""
    kept: list[Slide] = []
    for slide in made:
        only_text = all(cell.cell_type == "markdown" for cell in slide.cells)
        headed = slide.cells[0].source.startswith("#")
        open_before = bool(kept) and not kept[-1].asks
        joins = open_before and only_text and not headed
        joins = joins and (not slide.full or kept[-1].says_nothing())
        if (
            joins
            and slide.kind == "subslide"
            and not (kept[-1].holds_figure() and _crowded(kept[-1], slide.characters()))
        ):
            kept[-1].cells += slide.cells
        else:
            kept.append(slide)
    return kept


def _opened(made: list[Slide]) -> list[Slide]:
    """Let a section that says nothing itself stand above its first idea; drop other headings."""
    kept: list[Slide] = []
    for slide in made:
        text = slide.cells[0].source
        if slide.says_nothing() and not text.startswith("## "):
            continue
        section = kept[-1] if kept and kept[-1].says_nothing() else None
        if section is not None and text.startswith("### "):
            slide.cells[0].source = f"{section.cells[0].source}\n\n{text}"
            kept[-1] = Slide("slide", slide.cells, slide.full, slide.asks)
        else:
            kept.append(slide)
    return [slide for slide in kept if not slide.says_nothing()]


def _crowded(slide: Slide, more: int) -> bool:
    return slide.characters() + more > MOST_BESIDE_A_FIGURE


def _add(made: list[Slide], part: NotebookNode, wanted: str | None) -> None:
    """Put one result on the last slide, or on a new one."""
    big = bool(part.source) or any("text/html" in o.data for o in part.outputs)
    figure = any(_is_figure(output) for output in part.outputs)
    last = made[-1] if made else None
    crowded = last is not None and (
        (figure and _crowded(last, 0)) or (last.holds_figure() and _crowded(last, _length(part)))
    )
    if wanted or last is None or last.asks or (big and last.full) or crowded:
        made.append(Slide(wanted or "subslide"))
    made[-1].cells.append(part)
    made[-1].full = made[-1].full or big


def _task_slides(task: Task, name: str) -> list[Slide]:
    made = []
    for i, text in enumerate(task.shown):
        cell = new_markdown_cell(text, id=f"{name}-{i}")
        notes = _notes(new_markdown_cell(task.notes, id=cell.id))
        made.append(Slide("slide", [cell, *notes], full=True, asks=True))
    return made


def _place(made: list[Slide]) -> int:
    """Return where a task goes: before the heading of the cell that follows it, if there is one."""
    last = made[-1] if made else None
    opens = (
        last is not None
        and not last.asks
        and all(cell.cell_type == "markdown" for cell in last.cells)
        and last.cells[0].source.startswith("### ")
    )
    return len(made) - opens


def _heading(slide: Slide, section: str) -> str:
    """Return a slide's heading where it has none: the bold lead of its text, or its section."""
    first = slide.cells[0]
    if slide.asks:
        return "Quiz"
    if first.cell_type == "markdown" and (lead := _LEAD.match(first.source)):
        first.source = first.source[lead.end() :]
        own = lead["lead"].rstrip(".:")
        return f"{section} · {own}" if section else own
    return section


def _headed(made: list[Slide]) -> list[Slide]:
    """Give every slide a heading."""
    section = ""
    for i, slide in enumerate(made):
        first = slide.cells[0]
        if first.cell_type == "markdown" and first.source.startswith("#"):
            own = re.match(r"(?:#.*\n\n)*#+ (.*)", first.source)[1]
            section = section if slide.asks else own
        else:
            heading = _heading(slide, section)
            slide.cells.insert(0, new_markdown_cell(f"### {heading}", id=f"heading-{i}"))
    return made


def slides(executed: NotebookNode, wished: Sequence[Task] = ()) -> NotebookNode:
    """Return the notebook whose cells are the slides of an executed chapter.

    Parameters
    ----------
    executed : NotebookNode
        With outputs; changed.
    wished : sequence of Task
        Poll and exercise of the session plan.

    Returns
    -------
    NotebookNode
        Each cell with a ``slide_type``, for nbconvert.

    Raises
    ------
    ValueError
        If a task has no place: none of the cells that it comes before is in the chapter.
    """
    made: list[Slide] = []
    ids = [cell.id for cell in executed.cells]
    places: dict[str, list[Task]] = {}
    for task in wished:
        place = next((name for name in task.before if name in ids), None)
        if place is None:
            raise ValueError(
                f"The session plan's {task.shown[-1].splitlines()[0]!r} has no place: the chapter "
                f"has none of the cells {', '.join(task.before) or '(none named)'}."
            )
        places.setdefault(place, []).append(task)
    for cell in executed.cells:
        for i, task in enumerate(places.get(cell.id, [])):
            place = _place(made)
            made[place:place] = _task_slides(task, f"task-{cell.id}-{i}")
        wanted = cell.metadata.get("slideshow", {}).get("slide_type")
        if wanted == "skip" or {"remove-cell", "hide-cell"} & set(tags(cell)):
            continue
        if cell.cell_type == "markdown":
            made += _text_slides(cell, wanted)
            continue
        for part in _shown(cell):
            if part.metadata.get("slideshow"):
                made[-1].cells.append(part)
            elif part.cell_type == "markdown":
                made += _text_slides(part, wanted)
            else:
                _add(made, part, wanted)
    cells = []
    for slide in _headed(_opened(_joined([slide for slide in made if slide.cells]))):
        for place, cell in enumerate(slide.cells):
            kind = cell.metadata.get("slideshow", {}).get("slide_type")
            if kind != "notes":
                kind = "-" if place else slide.kind
            cell.metadata["slideshow"] = {"slide_type": kind}
            cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells, metadata=executed.metadata)


def export(executed: NotebookNode, title: str, wished: Sequence[Task] = ()) -> str:
    """Return the slides of an executed chapter as a page that needs no network.

    Parameters
    ----------
    executed : NotebookNode
        With outputs; changed.
    title : str
        Of the page.
    wished : sequence of Task
        Poll and exercise of the session plan.

    Returns
    -------
    str
        HTML for ``_build/html/slides/``.
    """
    notebook = slides(executed, wished)
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
        (folder / f"{path.stem}.html").write_text(
            export(done.notebook, title, tasks(root, path.stem)), encoding="utf-8"
        )
        print(f"slides    {folder / path.stem}.html")
    return 0


if __name__ == "__main__":
    sys.exit(build(require_checkout()))
