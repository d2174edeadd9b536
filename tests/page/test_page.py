"""Every page of the built book, as a reader with no network sees it."""

from __future__ import annotations

from functools import cache

import checks
import pytest
import visits
from bs4 import BeautifulSoup
from pace import TooBusy
from visits import AXE, HTML, ROOT

from casebook.book.mend import DRAWN_BY, mend

CHAPTER = "chapters/00_how_a_case_works"
EXERCISE = "exercises/00_how_a_case_works"
ALL = "*"


def all_faults(seen) -> dict[str, list[str]]:
    """Return all that is wrong with an open page, by check; the network's faults come last."""
    faults = checks.look(seen.page, AXE.read_text())
    watched = {"asked of other hosts": seen.offsite, "failed": seen.failed, "errors": seen.errors}
    return faults | {name: found for name, found in watched.items() if found}


def test_the_page_is_whole_in_each_theme_at_each_width_and_on_paper(load, name):
    """One load: the failure lists everything that is wrong with the page."""
    assert all_faults(load(name)) == {}


def superfluous_and_missing(page: BeautifulSoup) -> list[str]:
    """Return large scripts that draw nothing on a page, and those that something waits for."""
    faults = []
    for part, drawn in DRAWN_BY.items():
        here = any(part in script["src"] for script in page.select("script[src]"))
        used = drawn is not None and page.select_one(drawn) is not None
        if here != used:
            faults.append(f"{part} is {'superfluous' if here else 'missing'}")
    return faults


def test_scripts_are_there_where_they_draw_and_nowhere_else(name):
    page = BeautifulSoup((HTML / f"{name}.html").read_text(), "html.parser")
    assert superfluous_and_missing(page) == []


def test_page_weighs_at_most_350_kilobytes(name):
    assert (HTML / f"{name}.html").stat().st_size <= 350_000


def test_page_has_title_language_and_description(name):
    page = BeautifulSoup((HTML / f"{name}.html").read_text(), "html.parser")
    assert page.html["lang"] == "en"
    assert page.title.string.strip()
    assert len(page.find("meta", {"name": "description"})["content"]) >= 60
    assert len(page.find_all("h1")) == 1


@pytest.fixture(scope="module")
def chapter(open_visits):
    """Return the chapter's page, open for all tests of what is on it and works on it."""
    return open_visits()(CHAPTER).page


@pytest.fixture(scope="module")
def exercise(open_visits):
    """Return the exercise's page, likewise."""
    return open_visits()(EXERCISE).page


def test_the_case_page_holds_one_of_each_thing(chapter):
    page = chapter
    for what in (
        "mjx-container",
        ".mermaid-drawn svg",
        ".casebook-plot svg",
        ".casebook-figure img",
    ):
        assert page.locator(what).count() >= 1, what


def test_figures_follow_the_theme(chapter):
    page = chapter
    shown = ".casebook-figure img:visible"
    ink = "getComputedStyle(document.querySelector('.casebook-plot .xtick text')).fill"
    light = page.locator(shown).first.get_attribute("src"), page.evaluate(ink)
    assert light[0].endswith("-light.svg")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{ink} !== '{light[1]}'")
    assert page.locator(shown).first.get_attribute("src").endswith("-dark.svg")
    assert page.locator(shown).count() == page.locator(".casebook-figure").count()


def test_the_choice_of_a_figure_works_with_the_keyboard(chapter):
    page = chapter
    select = page.locator(".casebook-choice select").first
    lines = ".casebook-plot path.js-line"
    before = page.locator(lines).first.get_attribute("d")
    select.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "([s, d]) => document.querySelector(s).getAttribute('d') !== d", arg=[lines, before]
    )
    assert select.input_value() != "East"


def test_quiz_and_answers_open_and_close(chapter):
    page = chapter
    for summary in ("A model answer", "B. No, as long as"):
        fold = page.locator("details", has=page.locator("summary", has_text=summary)).last
        body = fold.locator("p").first
        assert not body.is_visible()
        fold.locator("summary").first.click()
        assert body.is_visible()
    assert page.get_by_text("Right. Train on the plans").is_visible()


def test_hints_and_answers_of_an_exercise_are_folded(exercise):
    page = exercise
    hints = page.locator("summary", has_text="Hint ")
    assert hints.count() >= 6
    assert not page.get_by_text("Take the absolute error of each row").is_visible()
    answer = page.locator("summary", has_text="Show the answer to question 1")
    code = page.locator("details", has=answer).locator("pre").first
    assert not code.is_visible()
    answer.click()
    assert code.is_visible()
    assert "BEGIN SOLUTION" not in page.content()


def test_search_finds_a_chapter_by_a_phrase_from_its_text(load):
    search = load("search", "?q=seasonal+naive").page
    search.wait_for_selector("#search-results a")
    found = search.locator("#search-results a").all_text_contents()
    assert any("How a case works" in title for title in found)


@pytest.mark.parametrize("notebook", [CHAPTER, EXERCISE], ids=["chapter", "exercise"])
def test_launch_buttons_and_download_point_to_the_notebook(request, notebook):
    page = request.getfixturevalue(notebook.split("/")[0].removesuffix("s"))
    links = page.eval_on_selector_all("a[href]", "all => all.map((a) => a.href)")
    colab = [u for u in links if u.startswith("https://colab.research.google.com/github/")]
    binder = [u for u in links if u.startswith("https://mybinder.org/v2/gh/")]
    assert any(u.endswith(f"{notebook}.ipynb") for u in colab), colab
    opened = notebook.replace("exercises/", "work/")  # a reader's own copy
    assert any(u.endswith(f"lab/tree/{opened}.ipynb") for u in binder), binder
    assert not any("lab/tree/exercises/" in u for u in binder), binder
    download = HTML / "_sources" / f"{notebook}.ipynb"
    assert any(u == download.as_uri() for u in links)
    assert download.read_bytes() == (ROOT / f"{notebook}.ipynb").read_bytes()


def test_the_launch_cells_of_a_notebook_do_not_show_in_the_book(chapter):
    text = chapter.inner_text(".bd-article")
    assert "google.colab" not in text
    assert "Run it:" not in text


# The gates: each check finds a planted fault.


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
    found = all_faults(seen)
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
        body="<style>@media print { #kept > p { display: none } }</style>"
        "<details id='kept'><summary>Kept</summary><p>an answer</p></details>"
        "<details><summary>Opens</summary><p>another</p></details>"
        "<div class='cell_input'></div>"
    )
    assert checks.on_paper(seen.page) == ["stays folded: Kept", "empty box: cell_input"]
    assert not seen.page.get_by_text("another", exact=True).is_visible(), (
        "the screen shows it folded again"
    )


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
    assert superfluous_and_missing(BeautifulSoup(body, "html.parser")) == [fault]


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
