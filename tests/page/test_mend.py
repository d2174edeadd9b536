"""What the book changes in its pages: titles of figures, scripts, columns of numbers, intervals."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from casebook.book.ext import title_and_drawing
from casebook.book.mend import mend
from casebook.page import figures


def parsed(article: str, head: str = "") -> BeautifulSoup:
    """Return a page with this article, mended."""
    page = f'<html><head>{head}</head><body><article class="bd-article">{article}</article></body>'
    return BeautifulSoup(mend(page), "html.parser")


def column(table: BeautifulSoup) -> list[bool]:
    """Return for the last cell of each row whether it is marked as a number."""
    return ["number" in row.find_all(["td", "th"])[-1].get("class", []) for row in table("tr")]


def drawing(title: str) -> str:
    """Return a figure of the house style as SVG."""
    figure, ax = figures.axes(title, "x", "y")
    ax.plot([0, 1], [0, 1])
    return figures._svg(figure)


def height(svg: str) -> float:
    """Return the height of the drawing's view box."""
    return float(BeautifulSoup(svg, "html.parser").svg["viewbox"].split()[3])


@pytest.mark.parametrize("title", ["One line", "A long finding that says much " * 4])
def test_the_title_leaves_the_drawing_and_becomes_text(title):
    whole = drawing(title)
    words, rest = title_and_drawing(whole)
    assert words == title.strip()
    assert "DejaVuSans-Bold" in whole
    assert "DejaVuSans-Bold" not in rest
    assert height(rest) < height(whole) - 10, "the room of the title is cut off"
    assert rest.count("<g id=") == whole.count("<g id=") - 1, "nothing else is taken"


def test_other_bold_text_keeps_its_letters():
    figure, ax = figures.axes("Title", "x", "y")
    ax.text(0.5, 0.5, "Title", weight="bold")
    words, rest = title_and_drawing(figures._svg(figure))
    assert words == "Title"
    page = BeautifulSoup(rest, "html.parser")
    used = {use["xlink:href"][1:] for use in page("use") if use.get("xlink:href")}
    assert used <= {part["id"] for part in page(id=True)}


def test_a_drawing_without_title_stays_as_it_is():
    whole = drawing("")
    assert title_and_drawing(whole) == ("", whole)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (("1,200", "-3.5", "–"), True),
        (("40 ms", "1.5 s", ""), True),
        (("2 %", "12.5%", ".3"), True),
        (("1,200", "about 3", "4"), False),
        (("", "–", "—"), False),
        (("2025-11-01", "2025-11-02", "2025-11-03"), False),
    ],
)
def test_columns_of_numbers_are_marked(cells, numbers):
    rows = "".join(f"<tr><td>name</td><td>{cell}</td></tr>" for cell in cells)
    table = f"<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>{rows}</tbody></table>"
    assert column(parsed(table).table) == [numbers] * 4


def test_a_stated_alignment_stays():
    table = '<table><tbody><tr><td>a</td><td class="text-center">1</td></tr></tbody></table>'
    assert column(parsed(table).table) == [False]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<p>between [.12, .30] it is</p>", "between [.12,\u00a0.30] it is"),
        ("<p>[-0.1,\n0.30]</p>", "[-0.1,\u00a00.30]"),
        ("<p>[2 %, 3 %]</p>", "[2 %,\u00a03 %]"),
        ("<p>[see 1, 2]</p>", "[see 1, 2]"),
        ("<p><code>[1, 2]</code></p>", "[1, 2]"),
        ("<pre>[1, 2]</pre>", "[1, 2]"),
    ],
)
def test_intervals_do_not_break_and_code_stays(text, kept):
    assert parsed(text).get_text().strip() == kept


@pytest.mark.parametrize(
    ("script", "element"),
    [
        ("vendor/mathjax/tex-svg.js", '<span class="math">x</span>'),
        ("vendor/mermaid/mermaid.min.js", '<pre class="mermaid">x</pre>'),
        ("vendor/plotly/plotly.min.js", '<div class="casebook-plotly"></div>'),
    ],
)
def test_a_script_stays_only_where_it_draws(script, element):
    own = '<script src="_static/casebook.js"></script>'
    head = f'<script src="../_static/{script}?v=1"></script>{own}'
    assert len(parsed(element, head)("script")) == 2
    (left,) = parsed("<p>text</p>", head)("script")
    assert left["src"] == "_static/casebook.js"


def test_icons_need_no_script():
    assert (
        parsed("<p>x</p>", '<script src="_static/scripts/fontawesome.js?v=1"></script>')("script")
        == []
    )


def test_mending_twice_changes_nothing_more():
    once = mend(
        '<html><head></head><body><article class="bd-article"><p>[1, 2]</p></article></body>'
    )
    assert mend(once) == once


FOLD = """\
<div class="cell {tag}"><details class="hide"><summary>
<p class="collapsed">Show the code</p><p class="expanded">Hide the code</p></summary>
<div class="cell_input">code</div>{output}</details></div>"""
TABLE = '<div class="cell_output"><div class="casebook-table" aria-label="{}"></div></div>'


@pytest.mark.parametrize(
    ("output", "inside"),
    [
        (
            TABLE.format("WAPE by age, 1.5 years. Recorded here."),
            "the table: WAPE by age, 1.5 years",
        ),
        (TABLE.format("Much " * 30), "the table"),
        ('<div class="cell_output"><svg></svg></div>', "the figure"),
        ('<div class="cell_output"><p>It falls.</p></div>', "the result"),
        ('<div class="cell_output"><p>It falls <em>so:</em> far.</p></div>', "the result"),
        (
            '<div class="cell_output"><p><em>Late buyers:</em> few.</p></div>',
            "the result: late buyers",
        ),
        ('<div class="cell_output"><p><em>WAPE:</em> few.</p></div>', "the result: WAPE"),
        (
            '<div class="cell_output"><p><strong>Post-mortem: of May</strong></p></div>',
            "the result: post-mortem",
        ),
        ('<div class="cell_output"><p><strong>In May</strong></p></div>', "the result"),
        ('<div class="cell_output"><pre>Both files:\n\nb:\n</pre></div>', "the result: both files"),
        ('<div class="cell_output"><pre>a\nb:\n</pre></div>', "the result"),
        ("", "the code"),
    ],
)
def test_the_bar_of_a_folded_cell_says_what_is_in_it(output, inside):
    page = parsed(FOLD.format(tag="tag_hide-cell", output=output))
    assert [p.get_text() for p in page("p")[:2]] == [f"Show {inside}", f"Hide {inside}"]


def test_the_bar_of_folded_code_alone_speaks_of_the_code():
    output = TABLE.format("WAPE by age.")
    page = parsed(FOLD.format(tag="tag_hide-input", output=output))
    assert page.p.get_text() == "Show the code"
