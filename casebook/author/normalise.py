"""The committed form of a notebook, and the rules that say so.

``normalise`` changes what can be changed without knowing better (metadata,
outputs, counts, missing names, the launch cells); ``faults`` lists everything
that is not in order, also what only an author can mend.
"""

from __future__ import annotations

import ast
import copy
import re
from itertools import pairwise
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbformat import NotebookNode

from casebook.author.files import CHECK_TAG, NAME, SERIAL_TAG, tags
from casebook.author.launch import BADGES_ID, COLAB_ID, badges, colab_set_up

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_KEYS = ("nbgrader", "slideshow", "tags", "deletable", "editable")
#: Tags with which the book hides or folds a cell's code, and what folds it in JupyterLab and
#: on Colab; both are made of the tags alone.
HIDES_INPUT = {"hide-input", "remove-input", "hide-cell"}
HIDDEN = {"jupyter": {"source_hidden": True}, "cellView": "form"}
#: Calls that only show something.
SHOWS = {
    *("claim", "figures.show", "figures.table"),
    *("figures.show_source", "figures.show_source_in_sight"),
}
#: Every tag that means something; a misspelled one would switch a check off silently.
TAGS = {
    *(CHECK_TAG, SERIAL_TAG, "claim", "solution"),
    *("hide-cell", "hide-input", "hide-output", "remove-cell", "remove-input", "remove-output"),
}
#: The execution count of every cell with a stored output.
COUNT = 1
HEX_ID = re.compile(r"^[0-9a-f]{6,}(-[0-9a-f]+)*$")
GOOD_ID = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
#: What only MyST understands at the start of a line (colon fences, targets) and before
#: inline code (roles).
MYST_LINE = re.compile(r"^(:{3,}\{[\w:-]+\}|\([^()\s]+\)=(?=\s*$))", re.M)
MYST_ROLE = re.compile(r"\{[a-z][\w:-]*\}$")
#: The headings of a chapter, in this order, and what stands under each.
SECTIONS = {
    "The design in five minutes": "The diagram, the metric, the baseline, three risks: what you "
    "would have drawn by minute ten of an interview.",
    "Business problem": "Who decides what, at which scale, what being wrong costs (and which way "
    "costs more), what happens today.",
    "Clarifying questions and requirements": "Questions with their answers and what follows; "
    "functional, non-functional, scale; back-of-envelope numbers, computed.",
    "Metrics": "Business KPI, engineering metric, primary and guardrails, with their formulas.",
    "Data": "The world's mechanisms, an audit that finds its planted faults, leakage hot spots, a "
    "data contract that rejects bad input.",
    "Problem formulation": "Inputs, outputs, label, loss, alternatives; the assumptions about the "
    "data on which each later choice rests, and what you would choose if one changed.",
    "Baseline": "The sacred baseline, measured.",
    "Features": "Definitions, point-in-time correct.",
    "Models": "From the rules of an afternoon to an ensemble, each on the same split with equal, "
    "stated tuning; an ablation.",
    "Evaluation": "Walk-forward or time split, technical and business metrics with intervals, "
    "slices, what the ground truth says; the share of the gap over many worlds.",
    "Does it hold on real data?": "The same functions on a public data set; what carries over.",
    "Architecture": "Components, one concrete case walked through with its real values, a table of "
    "trade-offs.",
    "Production": "Serving with measured percentiles, monitoring and drift, retraining trigger, "
    "a fallback under an injected fault, what changes at ten times the load.",
    "Failure modes and mitigations": "At least two of them demonstrated by running them.",
    "Roadmap": "v0 in a week, v1, v2, v3; the cheapest version that ships; cost, team, time; the "
    "memo: ten computed lines for a product manager; in the wild: three to five public accounts.",
    "Scorecard": "Baseline, model, peer, oracle, target, verdict: computed.",
    "Interview": "At least eight questions in three formats with folded model answers, senior "
    "signals, a quiz, links to the exercise and the drill.",
}
HEADINGS = tuple(SECTIONS)
#: A section with fewer words of its own is empty.
LEAST_WORDS = 25


def _slug(source: str) -> str:
    words = re.findall(r"[a-z0-9]+", source.lower())
    slug = "-".join(words[:5])[:40].strip("-")
    return slug if _named_by_hand(slug) else f"cell-{slug}".strip("-")


def _named_by_hand(name: str) -> bool:
    return bool(GOOD_ID.match(name)) and not HEX_ID.match(name)


def _name_cells(notebook: NotebookNode) -> None:
    kept = {name for cell in notebook.cells if _named_by_hand(name := cell.get("id", ""))}
    seen: set[str] = set()
    for cell in notebook.cells:
        name = cell.get("id", "")
        if name not in kept or name in seen:
            base = name = _slug(cell.source)
            count = 2
            while name in kept | seen:
                name, count = f"{base}-{count}", count + 1
        cell.id = name
        seen.add(name)


def only_shows(cell: NotebookNode) -> bool:
    """Say whether a code cell consists of nothing but calls that show something."""
    if cell.cell_type != "code":
        return False
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:  # a magic of IPython
        return False
    calls = [node.value for node in body if isinstance(node, ast.Expr)]
    shows = [isinstance(c, ast.Call) and ast.unparse(c.func) in SHOWS for c in calls]
    return bool(body) and len(shows) == len(body) and all(shows)


def _hidden(cell: NotebookNode) -> dict:
    """Return the metadata that hides a cell's code where its tags ask for that."""
    return HIDDEN if cell.cell_type == "code" and HIDES_INPUT & set(tags(cell)) else {}


def normalise(notebook: NotebookNode, path: str) -> NotebookNode:
    """Return the notebook in its committed form.

    Parameters
    ----------
    notebook : NotebookNode
        Not changed.
    path : str
        Path in the repository, such as ``chapters/01_demand_forecasting.ipynb``.

    Returns
    -------
    NotebookNode
    """
    notebook = copy.deepcopy(notebook)
    course = dict(notebook.metadata.get("casebook", {}))
    notebook.metadata = NotebookNode(
        casebook=NotebookNode(course),
        kernelspec=NotebookNode(KERNEL),
        language_info=NotebookNode(name="python"),
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    cells = [c for c in notebook.cells if c.get("id") not in (BADGES_ID, COLAB_ID)]
    launch = [badges(path), colab_set_up(course.get("group", ""))]
    notebook.cells = cells[:1] + launch + cells[1:]
    for cell in notebook.cells:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in CELL_KEYS})
        if only_shows(cell) and not HIDES_INPUT & set(tags(cell)):
            cell.metadata["tags"] = [*tags(cell), "hide-input"]
        if "tags" in cell.metadata and not cell.metadata.tags:
            del cell.metadata["tags"]
        cell.metadata.update(nbformat.from_dict(_hidden(cell)))
        # Not splitlines: it also splits at form feeds and the like inside of texts.
        cell.source = "\n".join(line.rstrip() for line in cell.source.split("\n")).rstrip("\n")
        cell.pop("attachments", None) if not cell.get("attachments") else None
        if cell.cell_type != "code":
            continue
        if CHECK_TAG not in tags(cell):
            cell.outputs = []
        # nbval takes an output without a count for one that was never run.
        cell.execution_count = COUNT if cell.outputs else None
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = COUNT
            if "metadata" in output:
                output.metadata = NotebookNode()
    _name_cells(notebook)
    return notebook


def _myst(source: str) -> str | None:
    """Return the first markup that only MyST understands and every other viewer shows raw."""
    for token in MarkdownIt().parse(source):
        if token.type == "fence" and token.info.strip().startswith("{"):
            return token.markup + token.info.split()[0]
        if token.type != "inline":
            continue
        if line := MYST_LINE.search(token.content):
            return line.group(0)
        for before, after in pairwise(token.children):
            role = MYST_ROLE.search(before.content) if before.type == "text" else None
            if role and after.type == "code_inline":
                return f"{role.group(0)}`{after.content}`"
    return None


def _diagram_faults(source: str) -> list[str]:
    """Return what a screen reader would miss of the diagrams in a cell."""
    diagrams = [
        token.content
        for token in MarkdownIt().parse(source)
        if token.type == "fence" and token.info.strip() == "mermaid"
    ]
    return [
        f"a diagram without {key}"
        for diagram in diagrams
        for key in ("accTitle", "accDescr")
        if not re.search(rf"^\s*{key}\s*[:{{]", diagram, flags=re.M)
    ]


def _headings(notebook: NotebookNode) -> list[str]:
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", cell.source, flags=re.M | re.S)
            found += re.findall(r"^## +(.+?)\s*$", prose, flags=re.M)
    return found


def _words_by_heading(notebook: NotebookNode) -> dict[str, int]:
    """Count the words of prose under each heading of the second level."""
    counts: dict[str, int] = {}
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(r"^(`{3,}|~{3,}).*?^\1|<!--.*?-->", "", cell.source, flags=re.M | re.S)
        for line in prose.splitlines():
            if match := re.match(r"## +(.+?)\s*$", line):
                heading = match.group(1)
                counts.setdefault(heading, 0)
            elif heading:
                counts[heading] += len(re.findall(r"\w+", line))
    return counts


def _heading_faults(notebook: NotebookNode) -> list[str]:
    found = _headings(notebook)
    faults = [f"the heading '## {h}' is missing" for h in HEADINGS if h not in found]
    order = [h for h in found if h in HEADINGS]
    if not faults and order != list(HEADINGS):
        faults.append(f"the headings stand in another order or twice: {', '.join(order)}")
    words = _words_by_heading(notebook)
    faults += [
        f"the section '## {heading}' is empty: {words[heading]} words"
        for heading in HEADINGS
        if words.get(heading, LEAST_WORDS) < LEAST_WORDS
    ]
    return faults


def faults(notebook: NotebookNode, path: str) -> list[str]:
    """Return what is not in order in a committed notebook, one line each.

    Parameters
    ----------
    notebook : NotebookNode
        As read from disk.
    path : str
        Path in the repository.

    Returns
    -------
    list of str
        Empty when the notebook is in order.
    """
    found = []
    folder, stem = Path(path).parent.name, Path(path).stem
    if not NAME.match(stem):
        found.append(f"the file name {stem!r} is not of the form 01_some_name")
    title = notebook.cells[0] if notebook.cells else None
    if title is None or title.cell_type != "markdown" or not title.source.startswith("# "):
        found.append("the first cell is not Markdown that starts with a title ('# …')")
    if notebook.metadata.get("kernelspec") != KERNEL:
        found.append(f"the kernel is {notebook.metadata.get('kernelspec')}, not {KERNEL}")
    if extra := sorted(set(notebook.metadata) - {"casebook", "kernelspec", "language_info"}):
        found.append(f"notebook metadata that is not pinned: {', '.join(extra)}")
    expected = [badges(path), colab_set_up(notebook.metadata.get("casebook", {}).get("group", ""))]
    for want, have in zip(expected, [*notebook.cells, None, None, None][1:3], strict=True):
        if have is None or (have.get("id"), have.source) != (want.id, want.source):
            found.append(f"cell {want.id!r} is missing or not as generated")
    ids = [cell.get("id", "") for cell in notebook.cells]
    for i, cell in enumerate(notebook.cells):
        where = f"cell {i} ({ids[i]!r})"
        if not _named_by_hand(ids[i]):
            found.append(f"{where}: the id is not named by hand (words-with-hyphens)")
        if ids.count(ids[i]) > 1:
            found.append(f"{where}: the id stands twice")
        if {k: cell.metadata[k] for k in HIDDEN if k in cell.metadata} != _hidden(cell):
            found.append(
                f"{where}: its tags and what hides its code in JupyterLab and Colab differ"
            )
        if only_shows(cell) and not HIDES_INPUT & set(tags(cell)):
            found.append(f"{where}: code that only shows something, and no tag hide-input")
        if extra := sorted(set(cell.metadata) - {*CELL_KEYS, *HIDDEN}):
            found.append(f"{where}: cell metadata {', '.join(extra)}")
        if unknown := sorted(set(tags(cell)) - TAGS):
            found.append(f"{where}: unknown tags {', '.join(unknown)}")
        if cell.cell_type == "markdown":
            if markup := _myst(cell.source):
                found.append(f"{where}: {markup!r} shows as raw markup outside the book")
            found += [f"{where}: {fault}" for fault in _diagram_faults(cell.source)]
            continue
        checked = CHECK_TAG in tags(cell)
        if cell.execution_count != (COUNT if cell.outputs else None):
            found.append(f"{where}: the execution count {cell.execution_count}")
        if cell.outputs and not checked:
            found.append(f"{where}: outputs, and it is not tagged {CHECK_TAG}")
        if checked and not cell.outputs:
            found.append(
                f"{where}: tagged {CHECK_TAG} without a stored output: nbval checks nothing"
            )
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"{where}: the stored output is an error")
        if re.search(r"^\s*%run\b", cell.source, flags=re.M):
            found.append(f"{where}: %run hides where names come from; import instead")
    if folder == "chapters" and stem[:2].isdigit() and int(stem[:2]) >= 1:
        found += _heading_faults(notebook)
    return found
