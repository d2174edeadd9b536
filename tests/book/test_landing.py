"""The gallery of the landing page, in a book of tiny chapters (ten seconds)."""

from __future__ import annotations

import io
import shutil
from copy import deepcopy

import pytest
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from casebook.author import files
from casebook.book import drill_prompts, effort, landing
from casebook.book.__main__ import toc_files
from casebook.project import require_checkout

ROOT = require_checkout()
CHAPTERS = [name for name in toc_files(ROOT) if name.startswith("chapters/")]
SVG = (
    '<svg role="img" aria-label="Bars of a &amp; b, the first twice as high" '
    'viewBox="0 0 400 200"><path stroke="currentColor" d="M0 0"/></svg>'
)
FIGURE = f'<div class="casebook-figure">{SVG}</div>'
PLOTLY = '<div class="casebook-plotly"><script type="application/json">{}</script></div>'
CLAIM = "The model closes **69%** of the [gap](x.md) between `a` & b."
COURSE = {
    "figure": "bars",
    "finding": "headline",
    "difficulty": "hard",
    "minutes": {"read": 5, "run": 0.5, "exercise": 40},
}
PAGE = """\
# A course

```{landing} count
```

```{landing} chapters
```

```{landing} start
```

```{landing} preparation
```
"""


def shows(name: str, source: str, **data: str) -> NotebookNode:
    """Return a code cell with one output for each media type."""
    kinds = {"html": "text/html", "markdown": "text/markdown"}
    outputs = [new_output("display_data", data={kinds[k]: text}) for k, text in data.items()]
    return new_code_cell(source, id=name, outputs=outputs)


def tiny(title: str = "Tiny: a case", **course) -> NotebookNode:
    """Return an executed chapter; what is None is left out of its metadata."""
    metadata = {key: value for key, value in (COURSE | course).items() if value is not None}
    return new_notebook(
        metadata={"casebook": NotebookNode(metadata)},
        cells=[
            new_markdown_cell(f"# {title}\n\n" + "word " * 400, id="title"),
            shows("bars", "figures.show(fig, alt='…')", html=FIGURE),
            shows("headline", "claim('{x}', x=1)", markdown=CLAIM),
            shows("lines", "figures.show(fig, alt='…')", html=PLOTLY),
            shows("silent", "claim('{x}', x=1) if False else None"),
            shows("long", "claim('{x}', x=1)", markdown="word " * (landing.MOST_WORDS + 1)),
        ],
    )


def bare(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without its outputs, as it is committed."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return copy


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function that builds a small book of given chapters: page, warnings, folder."""

    def run(**chapters: NotebookNode):
        root = tmp_path / "book of tiny chapters"
        shutil.rmtree(root, ignore_errors=True)
        (root / drill_prompts.FOLDER).mkdir(parents=True)
        (root / "chapters").mkdir()
        (root / "book" / "instructors").mkdir()
        (root / "book" / "instructors" / "index.md").write_text("# Teaching\n")
        shutil.copy(ROOT / drill_prompts.FOLDER / "_index.yml", root / drill_prompts.FOLDER)
        tree = "```{toctree}\n:glob:\nbook/**\nchapters/*\n```\n"
        (root / "index.md").write_text(f"# Index\n\n{tree}")
        (root / "book" / "page.md").write_text(PAGE)
        ran = {f"chapters/{name.lstrip('_')}": chapter for name, chapter in chapters.items()}
        for name in ran:  # what a card shows comes from the executed notebook alone
            (root / f"{name}.md").write_text(f"# {name}\n")
        monkeypatch.setattr(landing, "executed", lambda _, name: ran[name])
        warnings = io.StringIO()
        with docutils_namespace():
            app = Sphinx(
                srcdir=str(root),
                confdir=None,
                outdir=str(root / "_build"),
                doctreedir=str(root / "_build" / "doctrees"),
                buildername="html",
                confoverrides={
                    "extensions": ["myst_parser", "casebook.book.cases", "casebook.book.landing"],
                    "html_theme": "basic",
                },
                status=None,
                warning=warnings,
                freshenv=True,
            )
            app.build()
        page = root / "_build" / "book" / "page.html"
        return BeautifulSoup(page.read_text(), "html.parser"), warnings.getvalue(), page.parent

    return run


def test_a_chapter_has_a_card_with_its_figure_finding_minutes_and_difficulty(build):
    page, warnings, folder = build(_01_demand_forecasting=tiny())
    assert warnings == ""
    (card,) = page.select(".landing-card")
    (link,) = card.select("a")
    assert (link.get_text(), link["href"]) == (
        "Tiny: a case",
        "../chapters/01_demand_forecasting.html",
    )
    assert card.select_one(".landing-part").get_text() == "01 · Forecasting and logistics"
    said = card.select_one(".landing-finding")
    assert said.decode_contents() == (
        "The model closes <strong>69%</strong> of the gap between <code>a</code> &amp; b."
    )
    assert [li.get_text() for li in card.select("li")] == [
        "5 min to read",
        "½ min to run",
        "40 min for the exercise",
        "difficulty: hard",
    ]
    images = card.select("img")
    assert [image["class"] for image in images] == [["only-light"], ["only-dark"]]
    for image, ink in zip(images, (landing.INK, landing.INK_DARK), strict=True):
        assert image["alt"] == "Bars of a & b, the first twice as high"
        assert (image["width"], image["height"], image["loading"]) == ("560", "280", "lazy")
        assert ink in (folder / image["src"]).read_text()


def test_a_chapter_that_joins_the_book_gets_its_card_and_leaves_the_list(build):
    page, _, _ = build(_01_demand_forecasting=tiny())
    count, planned = (page.select_one(f".landing-{x}").get_text() for x in ("count", "planned"))
    assert count == "1 of 22 chapters are here; 21 chapters and 4 capstones are in preparation."
    assert "02 Sales forecasting: Regional and partner sales for finance" in planned
    assert "01 Demand" not in planned

    page, warnings, _ = build(
        _01_demand_forecasting=tiny(), _02_sales_forecasting=tiny("Sales"), _22_own=tiny("My own")
    )
    assert warnings == ""
    assert [h.get_text() for h in page.select(".landing-card h3")] == [
        "Tiny: a case",
        "Sales",
        "My own",
    ]
    assert page.select(".landing-part")[-1].get_text() == "22 · More cases"
    count, planned = (page.select_one(f".landing-{x}").get_text() for x in ("count", "planned"))
    assert count == "3 of 23 chapters are here; 20 chapters and 4 capstones are in preparation."
    assert "02 Sales" not in planned


def test_what_is_in_preparation_is_named_by_part_and_never_a_link(build):
    page, _, _ = build(_01_demand_forecasting=tiny())
    planned = page.select_one(".landing-planned")
    assert planned.select("a") == []
    assert len(planned.select("li")) == 25
    assert [h.get_text() for h in planned.select("h3")] == [
        "Start here",
        "Forecasting and logistics",
        "Growth and marketplaces",
        "Trust and risk",
        "Language-model systems",
        "Platform",
        "Capstones",
    ]
    named = [item.get_text() for item in planned.select("li")]
    assert "04 Delivery ETA: A date that is promised and kept" in named
    assert "A Lead scoring" in named


def test_a_case_whose_title_is_its_name_is_named_once():
    """A hyphen and capitals make no second name."""
    shown = landing.preparation(
        {"Part": ["C_search_ads_relevance"]}, {"C_search_ads_relevance": "Search-ads relevance"}
    )
    assert "<li><b>C Search ads relevance</b></li>" in shown


def test_minutes_are_shown_in_halves():
    assert [effort.amount(value) for value in (0.5, 1, 1.5, 2, 110)] == [
        "½",
        "1",
        "1½",
        "2",
        "110",
    ]


def test_five_ways_to_start(build):
    ways = build(_00_how_a_case_works=tiny())[0].select_one(".landing-ways")
    assert [b.get_text() for b in ways.select("b")] == [
        "Read",
        "JupyterLab",
        "Binder",
        "Colab",
        "Teach",
    ]
    addresses = [a["href"] for a in ways.select("a")]
    assert addresses[0] == "../chapters/00_how_a_case_works.html"
    assert addresses[-1] == "instructors/index.html"
    assert all("00_how_a_case_works.ipynb" in address for address in addresses[1:3])


@pytest.mark.parametrize(
    ("course", "message"),
    [
        ({"figure": None}, "holds no `figure`"),
        ({"finding": None}, "holds no `finding`"),
        ({"finding": "gone"}, "`finding` is 'gone', and no code cell has that id"),
        ({"finding": "title"}, "`finding` is 'title', and no code cell has that id"),
        ({"finding": "silent"}, "the finding 'silent' printed 0 claims"),
        ({"finding": "long"}, "the finding 'long' has 91 words"),
        ({"figure": "lines"}, "the figure 'lines' drew no matplotlib figure"),
        ({"difficulty": "brutal"}, "casebook.difficulty is 'brutal'"),
        ({"minutes": {"run": 1}}, "casebook.minutes are {'run': 1}"),
    ],
)
def test_gate_a_chapter_without_what_a_card_needs_has_none(monkeypatch, course, message):
    monkeypatch.setattr(landing, "executed", lambda root, name: tiny(**course))
    with pytest.raises(landing.NoCard) as error:
        landing.card(ROOT, "01_demand_forecasting", "A part")
    assert str(error.value).startswith("chapters/01_demand_forecasting has no card in the gallery")
    assert message in str(error.value)


def test_gate_a_chapter_without_a_card_is_a_warning_of_the_build(build):
    page, warnings, _ = build(_01_demand_forecasting=tiny(finding=None))
    assert "chapters/01_demand_forecasting has no card" in warnings
    assert "holds no `finding`: the id of the cell that shows it" in warnings
    assert page.select(".landing-card") == []


def test_gate_a_chapter_that_has_not_run_is_a_warning_of_the_build(monkeypatch):
    monkeypatch.setattr(landing, "executed", lambda root, name: None)
    with pytest.raises(landing.NoCard, match="this build has not run it"):
        landing.card(ROOT, "01_demand_forecasting", "A part")


# The chapters as committed


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_names_its_figure_and_finding_and_declares_its_minutes(name):
    notebook = files.read(ROOT / f"{name}.ipynb")
    assert landing.faults(notebook) == []


@pytest.mark.parametrize(
    ("course", "message"),
    [
        ({"figure": None}, "holds no `figure`"),
        ({"finding": "gone"}, "no code cell has that id"),
        ({"finding": "bars"}, "does not call claim("),
        ({"figure": "headline"}, "does not call figures.show("),
        ({"difficulty": None}, "casebook.difficulty is None"),
        ({"minutes": {"read": 5, "run": 0, "exercise": 1}}, "casebook.minutes are"),
        ({"minutes": {"read": 7, "run": 1, "exercise": 1}}, "declare 7 to read; 4"),
    ],
)
def test_gate_what_a_committed_chapter_lacks_is_named(course, message):
    assert landing.faults(bare(tiny())) == []
    found = landing.faults(bare(tiny(**course)))
    assert [fault for fault in found if message in fault] == found != []


def test_gate_a_recorded_finding_that_is_too_long_for_a_card_is_named():
    assert landing.faults(tiny()) == []
    [found] = landing.faults(tiny(finding="long"))
    assert f"has {landing.MOST_WORDS + 1} words" in found
    assert landing.faults(bare(tiny(finding="long"))) == []  # it has not printed anything yet


# Minutes


def chapter(*cells: NotebookNode) -> NotebookNode:
    return new_notebook(cells=list(cells), metadata={"casebook": NotebookNode(COURSE)})


def test_reading_takes_130_words_and_eight_lines_a_minute():
    assert (effort.WORDS_A_MINUTE, effort.LINES_A_MINUTE) == (130, 8)
    prose = new_markdown_cell("word " * 1300)
    code = new_code_cell("x = 1\n\n" * 40)
    assert effort.size(chapter(prose, code)) == (1300, 40)
    needs = effort.of(chapter(prose, code))
    assert (needs.computed, needs.whole) == (15, 5 + 40 + 25 + 10)
    assert effort.of(chapter(prose, code, new_markdown_cell("one"))).computed == 20


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (new_markdown_cell("A b.\n\n<details>\n<summary>c d</summary>\n\ne f g\n\n</details>"), 4),
        (new_markdown_cell("A b.\n\n```mermaid\nflowchart LR\n```\n\n| c | d |\n|---|---|\n"), 4),
        (new_markdown_cell("A b", metadata={"tags": ["remove-cell"]}), 0),
        (new_code_cell("claim('one {x:.1f} two', x=1)", metadata={"tags": ["hide-input"]}), 3),
        (shows("a", "claim('{x}', x=1)", markdown="said by the run"), 4),
        (new_code_cell("claim('a {x}', x=1)", metadata={"tags": ["remove-output"]}), 0),
        (new_code_cell("%pip install x\nprint('no prose')"), 0),
    ],
)
def test_words_are_what_one_sees_without_opening_a_fold(cell, expected):
    assert effort.size(chapter(cell))[0] == expected


@pytest.mark.parametrize("tag", ["hide-input", "hide-cell", "remove-input", "remove-cell"])
def test_folded_code_is_not_counted(tag):
    code = new_code_cell("x = 1", metadata={"tags": [tag]})
    assert effort.size(chapter(code))[1] == 0
    assert effort.size(chapter(new_code_cell("x = 1", metadata={"tags": ["claim"]})))[1] == 1


def test_the_short_route_counts_the_opening_and_its_sections():
    long, brief = "word " * 1290, "word " * 250
    cells = [
        new_markdown_cell("# Title\n\n" + brief),
        new_markdown_cell("## Metrics\n\n" + brief),
        new_markdown_cell("### Below it\n\n" + brief),
        new_markdown_cell("## Evaluation\n\n" + long),
    ]
    assert effort.short(chapter(*cells)) == 10
    assert effort.short(chapter(*cells[:1], cells[3])) == 15, "no section of the route: all of it"


@pytest.mark.parametrize(("read", "faults"), [(8, 0), (10, 0), (12, 0), (7, 1), (13, 1)])
def test_gate_declared_minutes_of_reading_are_near_the_computed(read, faults):
    notebook = chapter(new_markdown_cell("word " * 1000))
    notebook.metadata.casebook = NotebookNode(
        difficulty="easy", minutes={"read": read, "run": 1, "exercise": 40}
    )
    assert effort.of(notebook).computed == 10
    assert len(effort.faults(notebook)) == faults
