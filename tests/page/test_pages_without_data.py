"""The pages of chapter 00 and of one other case, which the commit chooses, without public data.

Where no public data are, these are the pages of the book.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import checks
import pytest
import rotation
import testrunner
from bs4 import BeautifulSoup
from small_book import copy_book, run
from visits import AXE, HTML, ROOT
from without_data import present

from casebook.author.execute import executed, stored

FIRST = "chapters/00_how_a_case_works"
#: What a page never shows a reader: a folder of a machine, or a hash.
PRIVATE = re.compile(r"(?<![\w/.:-])/(?:home|root|tmp|usr|work|Users|content)/|\b[0-9a-f]{40,}\b")


OFF = {"CASEBOOK_REAL_DATA": "off"}


def chapters() -> list[str]:
    """Return the chapters of the book, the guide's first."""
    every = [f"chapters/{name}" for name in testrunner.case_names(ROOT)]
    return sorted(name for name in every if (ROOT / f"{name}.ipynb").is_file())


def key(name: str) -> str:
    """Return the key of a page without data: of what its notebook shows and of how it is drawn."""
    made = stored(ROOT, name, OFF) or executed(ROOT, name, OFF, who="pages without data")
    files = rotation.held(ROOT, ["casebook/book", "casebook/page", "book/_static", "_config.yml"])
    return rotation.key_of(made.key, AXE, Path(checks.__file__), Path(__file__), *files)


def built(chosen: list[str]) -> list[str]:
    """Return the chapters to build: the guide if it has changed, and the one whose turn it is."""
    if rotation.everything():
        return chosen
    others = [name for name in chosen if name != FIRST]
    turn = [rotation.chosen(others, "without-data")] if others else []
    first = [FIRST] if rotation.due("without-data", FIRST, key(FIRST), chosen) else []
    return [*first, *turn]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Build the small book as on a machine that has no public data; return its pages' folder.

    What has been executed in that mode already is taken from the store, and a later key finds it.
    """
    for chapter in built(chapters()):
        key(chapter)
    root = copy_book(tmp_path_factory.mktemp("without") / "casebook", built(chapters()))
    if (ROOT / "_build" / "executed").is_dir():
        shutil.copytree(ROOT / "_build" / "executed", root / "_build" / "executed")
    result = run(root, "casebook.book", **OFF)
    assert result.returncode == 0, result.stdout + result.stderr
    return root / "_build" / "html"


def private_words(page: Path) -> list[str]:
    """Return the paths and hashes in the text of a built page."""
    return private(BeautifulSoup(page.read_text(), "html.parser").find("article").get_text())


def private(text: str) -> list[str]:
    """Return the paths and hashes in the text of a page."""
    return PRIVATE.findall(text)


def test_the_small_book_has_the_pages_that_are_looked_at(request):
    """The first of these tests: what builds them all is the book's, and no case's."""
    if not present():
        pytest.skip("the book itself was built without public data")
    folder = request.getfixturevalue("html") / "chapters"
    assert {page.stem for page in folder.glob("[0-9]*.html")} == {
        Path(chapter).stem for chapter in built(chapters())
    }


@pytest.mark.parametrize("chapter", chapters())
def test_a_page_without_data_is_whole_at_each_width_and_names_no_path(visit, request, chapter):
    if not present():  # the book itself was built without them, and its pages are looked at
        assert private_words(HTML / f"{chapter}.html") == []
        return
    if chapter not in built(chapters()):
        pytest.skip(f"without data, {chapter}: {rotation.LEFT_OUT}")
    page = request.getfixturevalue("html") / f"{chapter}.html"
    assert checks.look(visit(page).page, AXE.read_text()) == {}
    assert private_words(page) == []
    rotation.passed("without-data", chapter, key(chapter))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the file is not in /root/.cache/course/a.csv", 1),
        ("sha256 " + "79262e8ee3beae8c7e91dac59ea9857314ae1c01" * 2, 1),
        ("GET /parcels/{id}/eta answers 200; see /docs", 0),
        ("https://example.org/home/page", 0),
    ],
)
def test_a_path_and_a_hash_are_found(text, found):
    assert len(private(text)) == found
