"""Every page of the built book, as a reader with no network sees it."""

from __future__ import annotations

import checks
import pytest
from bs4 import BeautifulSoup
from conftest import AXE, HTML, ROOT

CHAPTER = "chapters/00_how_a_case_works"
EXERCISE = "exercises/00_how_a_case_works"


def test_nothing_is_asked_of_other_hosts_and_nothing_fails(visit, name):
    seen = visit(name)
    assert seen.offsite == []
    assert seen.failed == []
    assert seen.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_formulas_diagrams_and_figures_are_drawn(visit, name, theme):
    assert checks.undrawn(visit(name, theme=theme).page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_wcag_violation(visit, name, theme):
    assert checks.axe(visit(name, theme=theme).page, AXE.read_text()) == []


@pytest.mark.parametrize("width", [390, 768])
def test_no_sideways_scrolling(visit, name, width):
    page = visit(name, width=width).page
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert checks.sideways(page) == []


def test_images_have_a_text(visit, name):
    assert checks.images(visit(name).page) == []


def test_page_weighs_at_most_350_kilobytes(name):
    assert (HTML / f"{name}.html").stat().st_size <= 350_000


def test_page_has_title_language_and_description(name):
    page = BeautifulSoup((HTML / f"{name}.html").read_text(), "html.parser")
    assert page.html["lang"] == "en"
    assert page.title.string.strip()
    assert len(page.find("meta", {"name": "description"})["content"]) >= 60
    assert len(page.find_all("h1")) == 1


def test_the_case_page_holds_one_of_each_thing(visit):
    page = visit(CHAPTER).page
    for what in (
        "mjx-container",
        ".mermaid-drawn svg",
        ".casebook-plot svg",
        ".casebook-figure img",
    ):
        assert page.locator(what).count() >= 1, what


def test_figures_follow_the_theme(visit):
    page = visit(CHAPTER).page
    shown = ".casebook-figure img:visible"
    ink = "getComputedStyle(document.querySelector('.casebook-plot .xtick text')).fill"
    light = page.locator(shown).first.get_attribute("src"), page.evaluate(ink)
    assert light[0].endswith("-light.svg")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{ink} !== '{light[1]}'")
    assert page.locator(shown).first.get_attribute("src").endswith("-dark.svg")
    assert page.locator(shown).count() == page.locator(".casebook-figure").count()


def test_the_choice_of_a_figure_works_with_the_keyboard(visit):
    page = visit(CHAPTER).page
    select = page.locator(".casebook-choice select").first
    lines = ".casebook-plot path.js-line"
    before = page.locator(lines).first.get_attribute("d")
    select.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "([s, d]) => document.querySelector(s).getAttribute('d') !== d", arg=[lines, before]
    )
    assert select.input_value() != "East"


def test_quiz_and_answers_open_and_close(visit):
    page = visit(CHAPTER).page
    for summary in ("A model answer", "B. No, as long as"):
        fold = page.locator("details", has=page.locator("summary", has_text=summary)).last
        body = fold.locator("p").first
        assert not body.is_visible()
        fold.locator("summary").first.click()
        assert body.is_visible()
    assert page.get_by_text("Right. And that is the catch").is_visible()


def test_hints_and_answers_of_an_exercise_are_folded(visit):
    page = visit(EXERCISE).page
    hints = page.locator("summary", has_text="Hint ")
    assert hints.count() >= 6
    assert not page.get_by_text("Take the absolute error of each row").is_visible()
    answer = page.locator("summary", has_text="Show the answer to question 1")
    code = page.locator("details", has=answer).locator("pre").first
    assert not code.is_visible()
    answer.click()
    assert code.is_visible()
    assert "BEGIN SOLUTION" not in page.content()


def test_search_finds_a_chapter_by_a_phrase_from_its_text(visit):
    search = visit(HTML / "search.html").page
    search.goto((HTML / "search.html").as_uri() + "?q=seasonal+naive")
    search.wait_for_selector("#search-results a")
    found = search.locator("#search-results a").all_text_contents()
    assert any("How a case works" in title for title in found)


@pytest.mark.parametrize("notebook", [CHAPTER, EXERCISE], ids=["chapter", "exercise"])
def test_launch_buttons_and_download_point_to_the_notebook(visit, notebook):
    page = visit(notebook).page
    links = page.eval_on_selector_all("a[href]", "all => all.map((a) => a.href)")
    colab = [u for u in links if u.startswith("https://colab.research.google.com/github/")]
    binder = [u for u in links if u.startswith("https://mybinder.org/v2/gh/")]
    assert any(u.endswith(f"{notebook}.ipynb") for u in colab), colab
    assert any(notebook in u and "lab/tree" in u for u in binder), binder
    download = HTML / "_sources" / f"{notebook}.ipynb"
    assert any(u == download.as_uri() for u in links)
    assert download.read_bytes() == (ROOT / f"{notebook}.ipynb").read_bytes()


def test_the_launch_cells_of_a_notebook_do_not_show_in_the_book(visit):
    text = visit(CHAPTER).page.inner_text(".bd-article")
    assert "google.colab" not in text
    assert "Run it:" not in text


# The gates: each check finds a planted fault.


@pytest.fixture
def planted(visit, tmp_path):
    """Open the chapter's page with a change to its HTML."""

    def open_with(body: str = "", head: str = "", name: str = "planted", **options):
        page = (HTML / f"{CHAPTER}.html").read_text()
        base = f'<base href="{(HTML / CHAPTER).as_uri()}.html">'
        page = page.replace("<head>", f"<head>{base}{head}", 1)
        marker = '<article class="bd-article"'
        assert marker in page
        place = page.index(">", page.index(marker)) + 1
        file = tmp_path / f"{name}.html"
        file.write_text(page[:place] + body + page[place:])
        return visit(file, **options)

    return open_with


def test_gate_offsite_request(planted):
    seen = planted(body='<img alt="a b c" src="https://example.org/pixel.png">')
    assert seen.offsite == ["https://example.org/pixel.png"]


def test_gate_missing_file_and_page_error(planted):
    seen = planted(body='<script src="not-there.js"></script><script>missing()</script>')
    assert any("not-there.js" in url for url in seen.failed)
    assert any("missing" in error for error in seen.errors)


def test_gate_formula_that_is_not_typeset(planted):
    seen = planted(body='<span class="math" id="raw">no delimiters</span>')
    assert checks.undrawn(seen.page) == ["formula: no delimiters"]


def test_gate_diagram_that_does_not_draw(planted):
    seen = planted(body='<div class="casebook-plotly" aria-label="empty"></div>')
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


def test_gate_sideways(planted):
    seen = planted(body='<div style="width:900px">wide</div>', width=390)
    assert checks.sideways(seen.page)


def test_gate_images(planted):
    seen = planted(body='<img src="_static/none.png"><img alt="plot_1.png" src="_static/none.png">')
    found = checks.images(seen.page)
    assert any(fault.startswith("no alternative text") for fault in found)
    assert any(fault.startswith("a file name") for fault in found)
    assert any(fault.startswith("broken") for fault in found)
