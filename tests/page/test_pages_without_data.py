"""The pages of chapter 00 and of one other case, which the commit chooses, without public data."""

from __future__ import annotations

import re
import shutil

import checks
import pytest
import rotation
import testrunner
from bs4 import BeautifulSoup
from small_book import copy_book, run
from visits import AXE, ROOT

FIRST = "chapters/00_how_a_case_works"
#: What a page never shows a reader: a folder of a machine, or a hash.
PRIVATE = re.compile(r"(?<![\w/.:-])/(?:home|root|tmp|usr|work|Users|content)/|\b[0-9a-f]{40,}\b")


def chapters() -> list[str]:
    """Return the chapters to build."""
    others = [f"chapters/{name}" for name in testrunner.case_names(ROOT)]
    others = [name for name in others if name != FIRST and (ROOT / f"{name}.ipynb").is_file()]
    if rotation.everything():
        return [FIRST, *others]
    return [FIRST, rotation.chosen(others, "without-data")] if others else [FIRST]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Build the small book as on a machine that has no public data; return its pages' folder.

    What the runner has executed in that mode already is taken from its store.
    """
    root = copy_book(tmp_path_factory.mktemp("without") / "casebook", chapters())
    if (ROOT / "_build" / "executed").is_dir():
        shutil.copytree(ROOT / "_build" / "executed", root / "_build" / "executed")
    result = run(root, "casebook.book", CASEBOOK_REAL_DATA="off")
    assert result.returncode == 0, result.stdout + result.stderr
    return root / "_build" / "html"


def private(text: str) -> list[str]:
    """Return the paths and hashes in the text of a page."""
    return PRIVATE.findall(text)


@pytest.mark.parametrize("chapter", chapters())
def test_a_page_without_data_is_whole_at_each_width_and_names_no_path(visit, html, chapter):
    page = html / f"{chapter}.html"
    assert checks.look(visit(page).page, AXE.read_text()) == {}
    text = BeautifulSoup(page.read_text(), "html.parser").find("article").get_text()
    assert private(text) == []


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
