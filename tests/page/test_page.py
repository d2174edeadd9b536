"""Every page of the built book, as a reader with no network sees it."""

from __future__ import annotations

import re
from pathlib import Path

import checks
import pytest
import rotation
from bs4 import BeautifulSoup
from visits import AXE, HTML, ROOT, without_results

from casebook.book.__main__ import toc_files

CHAPTER = "chapters/00_how_a_case_works"
EXERCISE = "exercises/00_how_a_case_works"
ROOMS_OF_NOTEBOOKS = ("chapters/", "exercises/")


def page_key(name: str) -> str:
    """Return the key of a page as it is built, with its styles, scripts and figures.

    What its cells printed differs by the seconds that they took: the key of the execution stands
    for it.
    """
    own = without_results((HTML / f"{name}.html").read_text())
    files = [path for path in (HTML / "_static").rglob("*") if path.suffix in (".css", ".js")]
    files += [(HTML / name).parent / file for file in re.findall(r'src="([^":?]+)', own)]
    there = sorted({path.resolve() for path in files if path.is_file()})
    parts = [own, AXE, Path(checks.__file__), *there]
    if name.startswith(ROOMS_OF_NOTEBOOKS):
        return rotation.notebook_key(name, *parts)
    return rotation.key_of(*parts)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("</nav>", "<p>A new chapter</p></nav>", True),
        ("</article>", "<p>A new paragraph</p></article>", False),
        ('class="cell_output docutils container">', "<p>0.1 s</p>", True),
    ],
)
def test_gate_a_page_that_changed_is_due_and_seconds_or_a_new_chapter_change_no_other(
    monkeypatch, tmp_path, old, new, same
):
    before = page_key(CHAPTER)
    html = (HTML / f"{CHAPTER}.html").read_text()
    (tmp_path / "chapters").mkdir()
    (tmp_path / "_static").symlink_to(HTML / "_static")
    start = html.index('bd-docs-nav"' if "nav" in old else "<article")
    head, found, tail = html[start:].partition(old)
    planted = html[:start] + head + (found + new if "class" in old else new) + tail
    assert found and planted != html
    (tmp_path / f"{CHAPTER}.html").write_text(planted)
    monkeypatch.setitem(globals(), "HTML", tmp_path)
    assert (page_key(CHAPTER) == before) is same


def test_the_page_is_whole_in_each_theme_at_each_width_and_on_paper(load, name):
    """One load: the failure lists everything that is wrong with the page."""
    with rotation.turn("page", name, page_key(name), among=toc_files(ROOT)):
        assert checks.all_faults(load(name), AXE.read_text()) == {}


def test_scripts_are_there_where_they_draw_and_nowhere_else(name):
    page = BeautifulSoup((HTML / f"{name}.html").read_text(), "html.parser")
    assert checks.superfluous_and_missing(page) == []


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
