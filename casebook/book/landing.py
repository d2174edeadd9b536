"""The gallery of the landing page: what is in the book, and what is in preparation.

A chapter says in its metadata which cell holds its picture and which its finding::

    "casebook": {"figure": "heatmap-figure", "finding": "headline", …}

Both are read from the executed notebook when the book is built, so a card shows what the
run printed and nothing that was typed. A chapter that joins the table of contents has a
card without a change to any page.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup
from docutils import nodes
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from casebook.author.execute import stored
from casebook.author.launch import binder_url, colab_url
from casebook.book import cases, drill_prompts, effort
from casebook.page.figures import INK
from casebook.project import settings

INK_DARK = "#e6e6e6"
#: A card holds no more words of a finding.
MOST_WORDS = 90
#: Widest picture of a card, in CSS pixels.
WIDTH = 560
_FIGURE = re.compile(r'<div class="casebook-figure">\s*(<svg.*?</svg>)\s*</div>', flags=re.S)
_log = logging.getLogger(__name__)


class NoCard(ValueError):
    """A chapter does not say, or its run did not print, what its card needs."""


@dataclass(frozen=True)
class Card:
    """What the gallery shows of one chapter.

    Attributes
    ----------
    stem, title, part : str
        Name of its files, its title, the part of the book.
    finding : str
        HTML of one computed sentence or a few, without links.
    svg, alt : str
        The picture as the notebook drew it, and its alternative text.
    effort : Effort
        Minutes and difficulty.
    """

    stem: str
    title: str
    part: str
    finding: str
    svg: str
    alt: str
    effort: effort.Effort


# What the run printed


def executed(root: Path, name: str) -> NotebookNode | None:
    """Return a notebook of the book with the outputs of its last run; None if it has not run.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Such as ``chapters/01_demand_forecasting``.
    """
    done = stored(root, name)
    return None if done is None else done.notebook


def _cell(notebook: NotebookNode, key: str) -> NotebookNode:
    """Return the cell that the metadata name as ``figure`` or ``finding``."""
    name = notebook.metadata.get("casebook", {}).get(key)
    if not name:
        raise NoCard(f"metadata `casebook` holds no `{key}`: the id of the cell that shows it")
    found = [c for c in notebook.cells if c.get("id") == name and c.cell_type == "code"]
    if not found:
        raise NoCard(f"`{key}` is {name!r}, and no code cell has that id")
    return found[0]


def faults(notebook: NotebookNode) -> list[str]:
    """Return what the card of a chapter lacks: two cells, minutes, difficulty, and few words.

    The words are those that the finding printed when it was recorded; an empty chapter has none.
    """
    found = []
    for key, call in (("figure", "figures.show("), ("finding", "claim(")):
        try:
            cell = _cell(notebook, key)
        except NoCard as error:
            found.append(str(error))
            continue
        if call not in cell.source:
            found.append(f"`{key}` is {cell.id!r}, and that cell does not call {call}…)")
        if key == "finding" and cell.get("outputs"):
            try:
                finding(notebook)
            except NoCard as error:
                found.append(str(error))
    return found + effort.faults(notebook)


def _outputs(cell: NotebookNode, kind: str) -> list[str]:
    """Return the outputs of a cell that are of a media type."""
    data = [output.get("data", {}) for output in cell.get("outputs", [])]
    return ["".join(bundle[kind]) for bundle in data if kind in bundle]


def finding(notebook: NotebookNode) -> str:
    """Return the finding of an executed chapter as HTML within a line, without links.

    Raises
    ------
    NoCard
        If none is named, its cell printed none or several, or it is too long for a card.
    """
    cell = _cell(notebook, "finding")
    said = _outputs(cell, "text/markdown")
    if len(said) != 1:
        raise NoCard(f"the finding {cell.id!r} printed {len(said)} claims; a card holds one")
    if (words := len(said[0].split())) > MOST_WORDS:
        raise NoCard(f"the finding {cell.id!r} has {words} words; a card holds {MOST_WORDS}")
    page = BeautifulSoup(MarkdownIt("commonmark").renderInline(said[0]), "html.parser")
    for link in page.find_all("a"):
        link.unwrap()
    return str(page)


def picture(notebook: NotebookNode) -> tuple[str, str]:
    """Return the picture of an executed chapter as SVG, and its alternative text.

    Raises
    ------
    NoCard
        If none is named, or its cell drew no matplotlib figure.
    """
    cell = _cell(notebook, "figure")
    for output in _outputs(cell, "text/html"):
        if drawn := _FIGURE.search(output):
            label = re.search(r'aria-label="([^"]*)"', drawn[1])
            return drawn[1], html.unescape(label[1])
    raise NoCard(f"the figure {cell.id!r} drew no matplotlib figure, which a card can hold")


def card(root: Path, stem: str, part: str) -> Card:
    """Return the card of a chapter.

    Raises
    ------
    NoCard
        Saying what is missing, and where.
    """
    name = f"chapters/{stem}"
    notebook = executed(root, name)
    if notebook is None:
        raise NoCard(f"{name} has no card in the gallery: this build has not run it")
    try:
        svg, alt = picture(notebook)
        said, needs = finding(notebook), effort.of(notebook)
    except ValueError as error:
        raise NoCard(f"{name} has no card in the gallery: {error}") from error
    title = notebook.cells[0].source.split("\n", 1)[0].removeprefix("# ").strip()
    return Card(stem, title, part, said, svg, alt, needs)


# Which chapters there are


def parts(index: dict) -> dict[str, str]:
    """Return the part of each case: ``Forecasting and logistics``."""
    return {
        stem: part["title"].partition(", ")[2] or part["title"]
        for part in index["parts"]
        for stem in part["chapters"]
    }


@dataclass(frozen=True)
class Inventory:
    """The cases of the book.

    Attributes
    ----------
    here : dict of str to str
        Chapters in the book with their part, in order.
    planned : dict of str to list
        Chapters and capstones in preparation, by part.
    """

    here: dict[str, str]
    planned: dict[str, list[str]]

    @property
    def count(self) -> str:
        """Say how many chapters there are of how many."""
        waiting = [stem for stems in self.planned.values() for stem in stems]
        chapters = sum(stem[0].isdigit() for stem in waiting)
        text = f"{len(self.here)} of {len(self.here) + chapters} chapters are here"
        if not waiting:
            return f"{text}."
        numbers = {"chapter": chapters, "capstone": len(waiting) - chapters}
        kinds = [f"{n} {kind}{'s' * (n > 1)}" for kind, n in numbers.items() if n]
        verb = "is" if len(waiting) == 1 else "are"
        return f"{text}; {' and '.join(kinds)} {verb} in preparation."


def inventory(root: Path, documents) -> Inventory:
    """Return which cases are among the documents of the book, and which are not.

    A chapter that no part lists counts as one more case of the book.
    """
    part_of = {cases.GUIDE: "Start here"} | parts(drill_prompts.read_index(root))
    named = {page.partition("/")[2] for page in documents if page.startswith("chapters/")}
    here = {stem: part_of.get(stem, "More cases") for stem in sorted(named)}
    planned: dict[str, list[str]] = {}
    for stem, part in part_of.items():
        if not cases.is_there(stem, documents):
            planned.setdefault(part, []).append(stem)
    return Inventory(here, planned)


# The page


def _facts(needs: effort.Effort) -> str:
    facts = (
        f"{effort.amount(needs.read)} min to read",
        f"{effort.amount(needs.run)} min to run",
        f"{effort.amount(needs.exercise)} min for the exercise",
        f"difficulty: {needs.difficulty}",
    )
    return f'<ul class="landing-facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>'


def _images(card: Card, place: Callable[[str, str], str]) -> str:
    """Return the picture for both themes; ``place`` stores a file and returns its address."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', card.svg)
    wide, high = (float(value) for value in box.groups())
    size = f'width="{WIDTH}" height="{round(WIDTH * high / wide)}"'
    name = f"card-{card.stem}-{hashlib.sha256(card.svg.encode()).hexdigest()[:12]}"
    return "".join(
        f'<img class="only-{theme}" src="'
        f'{place(f"{name}-{theme}.svg", card.svg.replace("currentColor", ink))}" '
        f'alt="{html.escape(card.alt)}" {size} loading="lazy">'
        for theme, ink in (("light", INK), ("dark", INK_DARK))
    )


def gallery(
    cards: list[Card], address: Callable[[str], str], place: Callable[[str, str], str]
) -> str:
    """Return the cards as a list.

    Parameters
    ----------
    cards : list of Card
        In order.
    address : callable
        From the name of a page to its address.
    place : callable
        Stores a file of the page, given its name and text, and returns its address.
    """
    items = []
    for one in cards:
        number = one.stem.partition("_")[0]
        title = html.escape(one.title)
        items.append(
            '<li class="landing-card">'
            f'<p class="landing-part">{number} · {html.escape(one.part)}</p>'
            f'<h3><a href="{address(f"chapters/{one.stem}")}">{title}</a></h3>'
            f'<div class="landing-picture">{_images(one, place)}</div>'
            f'<p class="landing-finding">{one.finding}</p>{_facts(one.effort)}</li>'
        )
    return f'<ul class="landing-cards">{"".join(items)}</ul>'


def _letters(text: str) -> str:
    """Return the letters of a text without case, to compare names."""
    return re.sub(r"\W", "", text).lower()


def preparation(planned: dict[str, list[str]], titles: dict[str, str]) -> str:
    """Return the cases in preparation by part: names, and no links.

    Parameters
    ----------
    planned : dict of str to list
        Cases by part.
    titles : dict of str to str
        What each is about.
    """
    if not planned:
        return ""
    groups = []
    for part, stems in planned.items():
        items = []
        for stem in stems:
            number, _, name = cases.written(stem).partition(", ")
            name, about = html.escape(name), html.escape(titles.get(stem, name))
            also = "" if _letters(about) == _letters(name) else f": {about}"
            letter = html.escape(number.split()[-1])
            items.append(f"<li><b>{letter} {name[0].upper()}{name[1:]}</b>{also}</li>")
        groups.append(f"<div><h3>{html.escape(part)}</h3><ul>{''.join(items)}</ul></div>")
    return f'<div class="landing-planned">{"".join(groups)}</div>'


def start(address: Callable[[str], str]) -> str:
    """Return the five ways to begin, with the addresses of the published release."""
    guide = f"chapters/{cases.GUIDE}"
    notebook = f"{guide}.ipynb"
    repository = settings()["repository"].rstrip("/")
    ways = (
        ("Read", f'<a href="{address(guide)}">Open the first chapter</a> here, on any screen.'),
        (
            "JupyterLab",
            f"<code>git clone {html.escape(repository)}</code>, then <code>make lab</code>; "
            "it needs Python 3.11 to 3.13.",
        ),
        (
            "Binder",
            f'<a href="{html.escape(binder_url(notebook))}">Open JupyterLab on Binder</a>: '
            "nothing to install, and nothing is kept.",
        ),
        (
            "Colab",
            f'<a href="{html.escape(colab_url(notebook))}">Open the notebook in Colab</a>: '
            "a copy stays in your drive.",
        ),
        (
            "Teach",
            f'<a href="{address("book/instructors/index")}">Take a session plan</a>: '
            "slides, prompts and exercises that are graded automatically.",
        ),
    )
    items = "".join(f"<li><b>{name}</b> <span>{text}</span></li>" for name, text in ways)
    return f'<ul class="landing-ways">{items}</ul>'


class Landing(SphinxDirective):
    """``{landing} count``, ``chapters``, ``preparation`` or ``start``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a chapter that joins the book gets its card
        root = Path(self.env.srcdir)
        found = inventory(root, self.env.found_docs)
        match self.arguments[0]:
            case "count":
                content = f'<p class="landing-count">{found.count}</p>'
            case "chapters":
                content = gallery(self._cards(root, found.here), self._address, self._place)
            case "preparation":
                content = preparation(
                    found.planned, drill_prompts.chapters(drill_prompts.read_index(root))
                )
            case "start":
                content = start(self._address)
            case other:
                known = "count, chapters, preparation and start"
                raise self.error(f"{{landing}} knows {known}, not {other!r}")
        return [nodes.raw("", content, format="html")]

    def _cards(self, root: Path, here: dict[str, str]) -> list[Card]:
        made = []
        for stem, part in here.items():
            try:
                made.append(card(root, stem, part))
            except NoCard as error:
                _log.warning("%s", error, location=self.env.docname, type="casebook")
        return made

    def _address(self, name: str) -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, name)

    def _place(self, name: str, content: str) -> str:
        folder = Path(self.env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
        return "../" * self.env.docname.count("/") + f"_images/{name}"


def _page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    if 'class="landing-' in (context.get("body") or ""):
        app.add_css_file("landing.css")


def setup(app: Sphinx) -> dict:
    """Register the directive and the page's own style."""
    app.add_directive("landing", Landing)
    app.connect("html-page-context", _page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
