"""The checks of a page find planted faults, on the page of chapter 00 and on its bare frame."""

from __future__ import annotations

from functools import cache

import checks
import pytest
import visits
from bs4 import BeautifulSoup
from pace import TooBusy
from visits import AXE, HTML

from casebook.book.mend import mend

CHAPTER = "chapters/00_how_a_case_works"
ALL = "*"


@cache
def frame(holds: str) -> str:
    """Return the chapter's page with an article that holds its title and, say, one formula.

    It loads in a fifth of the time: of the rest nothing is typeset and nothing is drawn. With
    `ALL` it is the page as it is.
    """
    content = (HTML / f"{CHAPTER}.html").read_text()
    if holds == ALL:
        return content
    page = BeautifulSoup(content, "html.parser")
    article = page.select_one("article.bd-article")
    kept = [article.h1.extract(), *([article.select_one(holds).extract()] if holds else [])]
    article.clear()
    article.extend(kept)
    return mend(str(page))  # takes out the scripts for which there is no use now


@pytest.fixture
def planted(load, tmp_path):
    """Open the frame of the chapter's page with a change to its HTML."""

    def open_with(body: str, holds: str = "", **options):
        page = frame(holds)
        base = f'<base href="{(HTML / CHAPTER).as_uri()}.html">'
        page = page.replace("<head>", f"<head>{base}", 1)
        marker = '<article class="bd-article"'
        assert marker in page
        place = page.index(">", page.index(marker)) + 1
        file = tmp_path / "planted.html"
        file.write_text(page[:place] + body + page[place:])
        return load(file, **options)

    return open_with


def test_gate_offsite_request(planted):
    seen = planted(body='<img alt="a b c" src="https://example.org/pixel.png">')
    assert seen.offsite == ["https://example.org/pixel.png"]


def test_gate_missing_file_and_page_error(planted):
    seen = planted(body='<script src="not-there.js"></script><script>missing()</script>')
    assert any("not-there.js" in url for url in seen.failed)
    assert any("missing" in error for error in seen.errors)


def test_gate_formula_that_is_not_typeset(planted):
    seen = planted(body='<span class="math" id="raw">no delimiters</span>', holds=".math")
    assert seen.page.locator("mjx-container").count() == 1
    assert checks.undrawn(seen.page) == ["formula: no delimiters"]


def test_gate_diagram_that_does_not_draw(planted):
    empty = '<div class="casebook-plotly" aria-label="empty"></div>'
    seen = planted(body=empty, holds=".casebook-plotly")
    assert seen.page.locator(".casebook-plot svg").count()
    assert checks.undrawn(seen.page) == ["plotly: empty"]


def test_gate_wcag(planted):
    seen = planted(body='<p style="color:#bbb;background:#fff">pale text</p><button></button>')
    found = checks.axe(seen.page, AXE.read_text())
    assert {line.split(":")[0] for line in found} == {"color-contrast", "button-name"}


def test_a_fold_that_fades_in_is_measured_at_rest(planted):
    seen = planted(
        body="<style>@keyframes in { from { opacity: 0.3 } } p { animation: in 60s }</style>"
        "<details><summary>Fold</summary><p>text in the page's own ink</p></details>"
    )
    assert checks.axe(seen.page, AXE.read_text()) == []


def test_one_load_finds_what_is_wrong_only_in_the_dark_and_only_on_a_phone(planted):
    """Four faults, each of which shows in one look only, and nothing else is reported."""
    seen = planted(
        body="<style>[data-theme=dark] #pale { color: #333 } "
        "@media (max-width: 400px) { #wide { width: 900px } } "
        "@media print { #folded > p { display: none } }</style>"
        "<p id='pale'>pale in the dark</p><div id='wide'>.</div>"
        "<details id='folded'><summary>An answer</summary><p>that stays in the book</p></details>"
        "<script>new MutationObserver(() => late()).observe(document.documentElement, "
        "{ attributeFilter: ['data-theme'] })</script>",
        holds=ALL,
    )
    found = checks.all_faults(seen, AXE.read_text())
    assert set(found) == {
        "axe, dark, 1280",
        "sideways, light, 390",
        "on_paper, print",
        "errors",
    }
    assert any("#pale" in fault for fault in found["axe, dark, 1280"])
    assert found["on_paper, print"] == ["stays folded: An answer"]
    assert all("late is not defined" in error for error in found["errors"])


def test_gate_code_that_keeps_to_the_line_and_scrolls(planted):
    code = '<div class="highlight" style="width:300px"><pre>{}</pre></div>'
    seen = planted(body=code.format("x" * 100) + code.format("y" * 101))
    (found,) = checks.wide_code(seen.page)
    assert "with 100 columns: xxx" in found


def test_gate_diagram_that_does_not_fit_a_screen(planted):
    steps = "-->".join(f"S{i}[Step {i}]" for i in range(30))
    high = f'<pre class="mermaid">flowchart TB\n{steps}</pre>'
    seen = planted(body=high, holds="pre.mermaid")
    (found,) = checks.high_diagrams(seen.page)
    assert "px high" in found


def test_gate_figure_that_is_cut_or_says_nothing(planted):
    title = '<figcaption class="casebook-title" style="white-space:nowrap">{}</figcaption>'
    seen = planted(
        body='<figure class="casebook-figure"></figure>'
        f'<figure class="casebook-figure">{title.format("Long " * 30)}</figure>'
        f'<figure class="casebook-figure">{title.format("Short")}'
        '<img alt="Cut" src="x.svg" style="width:512px;height:9px;max-width:none"></figure>',
        width=390,
    )
    found = [fault.split(":")[0] for fault in checks.cut_figures(seen.page)]
    assert found == ["no conclusion", "conclusion out of view", "cut"]


def test_gate_box_that_scrolls_without_showing_it(planted):
    wide = '<div style="width:900px">{}</div>'
    seen = planted(
        body=f"<pre>{wide.format('marked by the page')}</pre>"
        f'<div style="overflow-x:auto">{wide.format("unmarked")}</div>',
        width=390,
    )
    (found,) = [f for f in checks.unmarked_scrolling(seen.page) if "marked" in f]
    assert "unmarked" in found


def test_the_mark_of_a_scrolling_box_follows_it(planted):
    """At the left end there is more to the right, at the right end to the left."""
    page = planted(body=f'<pre id="box">{"x" * 300}</pre>', width=390).page
    box = page.locator("#box")
    page.wait_for_selector('#box[data-more="right"]')
    for to, more in ((100, "left right"), (10_000, "left")):
        box.evaluate("(box, to) => { box.scrollLeft = to; }", to)
        page.wait_for_selector(f'#box[data-more="{more}"]')
        assert "gradient" in box.evaluate("(box) => getComputedStyle(box).maskImage")
    assert box.get_attribute("tabindex") == "0"


def test_an_unbroken_address_does_not_widen_a_phones_page(planted):
    """Without real data a note names a file and its hash: words of 80 letters."""
    word = "/a/cache/folder/" + "0123456789abcdef" * 8
    seen = planted(
        body=f"<p>Not run here: {word}</p><ul><li><code>{word}</code></li></ul>"
        '<div class="pst-scrollable-table-container">'
        f"<table><tr><td>{word}</td></tr></table></div>",
        width=390,
    )
    assert checks.sideways(seen.page) == []
    box = seen.page.locator(".bd-article p").first.bounding_box()
    assert box["x"] + box["width"] <= 390


def test_a_choice_with_a_long_option_does_not_widen_a_phones_page(planted):
    """A select is as wide as its longest option, unless the style stops it."""
    choice = "<label class='casebook-choice'>Show <select><option>{}</select></label>"
    choice = choice.format("three answers, at most one per cent, " * 4)
    seen = planted(body=choice, width=390)
    assert checks.sideways(seen.page) == []
    freed = "<style>.casebook-choice select { max-width: none !important }</style>"
    assert checks.sideways(planted(body=choice + freed, width=390).page)


def test_gate_numbers_and_intervals(planted):
    seen = planted(
        body="<table><tbody><tr><th>a</th><td>1,200</td></tr><tr><th>b</th><td>-3.5%</td></tr>"
        "</tbody></table><p style='width:6.5rem'>from [.12, .30]</p>"
        "<p style='width:6.5rem'>from [.13,&nbsp;.30]</p>"
    )
    assert checks.left_numbers(seen.page) == ["numbers to the left: 1,200,-3.5%"]
    assert checks.broken_intervals(seen.page) == ["over two lines: [.12, .30]"]


def test_gate_formula_that_does_not_stand_out(planted):
    seen = planted(body="<mjx-container style='color:#bbb'>x</mjx-container>")
    (found,) = checks.pale_formulas(seen.page)
    assert found.startswith("contrast")


def test_gate_paper(planted):
    seen = planted(
        body="<style>@media print { #kept > p { display: none } #low::after { height: 1rem } "
        "#torn { break-inside: auto } }</style>"
        "<h2 id='torn'>Torn</h2><h3 id='low'>Low</h3><h3>Kept with its text</h3>"
        "<details id='kept'><summary>Kept</summary><p>an answer</p></details>"
        "<details><summary>Opens</summary><p>another</p></details>"
        "<div class='cell_input'></div>"
    )
    alone = [f"a page may end after a heading: {heading}" for heading in ("Torn", "Low")]
    assert checks.on_paper(seen.page) == ["stays folded: Kept", *alone, "empty box: cell_input"]
    assert not seen.page.get_by_text("another", exact=True).is_visible(), (
        "the screen shows it folded again"
    )


@pytest.mark.parametrize(
    ("style", "fault"),
    [
        (".tag_hide-cell > details.hide > .cell_input", "folded code is printed: Show the result"),
        (".cell > details.hide > summary", "a bar is printed: Show the result"),
    ],
)
def test_gate_of_a_folded_cell_only_the_result_is_printed(planted, style, fault):
    """The same page without the planted style, which undoes the book's, has no fault."""
    fold = (
        "<div class='cell container tag_hide-cell'>"
        "<details class='hide above-input'><summary>Show the result</summary>"
        "<div class='cell_input' style='break-inside: avoid'><p>claim()</p></div>"
        "<div class='cell_output'><p>It falls.</p></div></details></div>"
    )
    undo = f"<style>@media print {{ .bd-article {style} {{ display: block !important }} }}</style>"
    assert checks.on_paper(planted(body=fold).page) == []
    assert checks.on_paper(planted(body=undo + fold).page) == [fault]


@pytest.mark.parametrize(
    ("style", "fault"),
    [
        ("> .cell_output { animation: in 1s !important }", "fades in: Says"),
        (".highlight { break-inside: avoid !important }", "begins on a new page: Says"),
    ],
)
def test_gate_a_result_that_is_missing_on_paper_or_leaves_half_a_page(planted, style, fault):
    fold = (
        "<div class='cell'><details class='hide admonition'><summary>Says</summary>"
        "<div class='cell_output'><div class='highlight'><pre>Right.</pre></div></div>"
        "</details></div>"
    )
    undo = f"<style>@media print {{ .bd-article details.hide {style} }}</style>"
    assert checks.on_paper(planted(body=fold).page) == []
    assert checks.on_paper(planted(body=undo + fold).page) == [fault]


def test_gate_a_figure_that_the_paper_cuts(planted):
    drawn = (
        "<div class='casebook-plot'><div class='svg-container'>"
        "<svg class='main-svg' width='800' height='400'></svg></div></div>"
    )
    undo = "<style>.casebook-plot svg.main-svg { min-width: 800px }</style>"
    page = planted(body=drawn).page
    assert checks.on_paper(page) == []
    assert page.locator("svg.main-svg[viewBox]").count() == 0, "the screen has it as it was"
    assert checks.on_paper(planted(body=undo + drawn).page) == [
        "a figure is cut at the edge of the paper"
    ]


def test_printing_opens_answers_and_closes_them_again(planted):
    """For browsers whose style sheets cannot open a fold."""
    page = planted(
        body="<details id='fold'><summary>Opens</summary><p>an answer</p></details>",
        holds=".tag_hide-input",
    ).page
    assert page.locator(".tag_hide-input > details").count() == 1
    for event, opened in (("beforeprint", True), ("afterprint", False)):
        page.evaluate("(event) => window.dispatchEvent(new Event(event))", event)
        assert page.locator("#fold").evaluate("(fold) => fold.open") is opened
        assert page.locator(".tag_hide-input > details[open]").count() == 0


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<script src="vendor/plotly/p.js"></script>', "vendor/plotly/ is superfluous"),
        ('<span class="math"></span>', "vendor/mathjax/ is missing"),
        ('<script src="scripts/fontawesome.js"></script>', "scripts/fontawesome.js is superfluous"),
    ],
)
def test_gate_scripts(body, fault):
    assert checks.superfluous_and_missing(BeautifulSoup(body, "html.parser")) == [fault]


def test_a_page_that_does_not_load_in_time_is_no_verdict_about_it(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "LOADING", 0.2)
    page = tmp_path / "never.html"
    page.write_text('<!doctype html><title>never</title><pre class="mermaid">not drawn</pre>')
    with pytest.raises(TooBusy, match=r"never\.html, loaded and drawn, did not come within"):
        visit(page)


def test_gate_sideways(planted):
    seen = planted(body='<div style="width:900px">wide</div>', width=390)
    assert checks.sideways(seen.page)


def test_gate_images(planted):
    seen = planted(body='<img src="_static/none.png"><img alt="plot_1.png" src="_static/none.png">')
    found = checks.images(seen.page)
    assert any(fault.startswith("no alternative text") for fault in found)
    assert any(fault.startswith("a file name") for fault in found)
    assert any(fault.startswith("broken") for fault in found)
