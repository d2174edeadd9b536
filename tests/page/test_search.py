"""The search of the book, opened from disk with the network cut, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import rotation
from visits import HTML, ROOT, arrive, without_results

from casebook.book.__main__ import toc_files

CASE, FORECASTING = "chapters/00_how_a_case_works", "chapters/01_demand_forecasting"
#: Phrases as they stand in the text, and the page that they must lead to.
PHRASES = {
    "a village counts like a capital": CASE,
    "Next summer will be like last summer": CASE,
    "the cheapest plan is not the best guess": FORECASTING,
    "it draws a prompt, keeps the cadence": "book/drill",
    "A missed target stays on the board": "book/scoreboard",
    "All absolute errors together over all actual values together": "book/glossary",
    "The Foundations of Cost-Sensitive Learning": "book/bibliography",
    "quick answers from recent data": "book/patterns",
    "the machine is small and is deleted when idle": "book/paths",
    "so a copied answer is wrong": "book/instructors/index",
}


@pytest.fixture(scope="module")
def start(open_visits):
    """Return a visit of the first page; each search starts on the page where the last one ended."""
    return open_visits()("book/index")


def search(seen, words: str):
    """Type words into the search field of an open page; return the addresses found."""
    page, before = seen.page, seen.page.url
    page.keyboard.press("Control+K")
    field = page.locator("input[type=search]:visible").first
    field.fill(words)
    field.press("Enter")
    arrive(page, lambda url: "/search.html?q=" in url and url != before)
    page.wait_for_function(
        "/found \\d+ page|did not match/.test(document.querySelector('#search-results').innerText)"
    )
    links = page.locator("#search-results ul.search > li > a")
    return [link.get_attribute("href") for link in links.all()]


def text(name: str) -> str:
    """Return the words of a built page."""
    page = re.sub(r"<[^>]+>", "", (HTML / f"{name}.html").read_text())
    return " ".join(page.split())


def search_key(wanted: str) -> str:
    """Return the key of a search: its page, which others there are, and the scripts that read."""
    scripts = sorted((HTML / "_static").glob("*.js"))
    own = without_results((HTML / f"{wanted}.html").read_text())
    form = without_results((HTML / "search.html").read_text())
    return rotation.key_of(own, form, *toc_files(ROOT), Path(__file__), *scripts)


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_leads_to_its_page(request, phrase):
    wanted = PHRASES[phrase]
    assert phrase in text(wanted), "the phrase is no longer on the page: choose another one"
    with rotation.turn("search", phrase, search_key(wanted), among=[*PHRASES]):
        start = request.getfixturevalue("start")
        found = search(start, phrase)
        assert wanted in [address.split(".html")[0] for address in found]
        assert (start.offsite, start.errors, start.failed) == ([], [], [])


@pytest.mark.parametrize(
    ("words", "anchor"), [("ablation study", "ablation-study"), ("WAPE", "wape")]
)
def test_a_term_leads_to_its_entry(start, words, anchor):
    assert f"book/glossary.html#{anchor}" in search(start, words)


def test_a_result_opens_its_page(visit):
    seen = visit("book/drill")
    search(seen, "a village counts like a capital")
    seen.page.locator("#search-results ul.search > li > a").first.click()
    arrive(seen.page, f"**/{CASE}.html*")
    assert seen.offsite == []


def test_nonsense_finds_nothing(start):
    """Also the planted fault of the test above: a phrase that is nowhere leads nowhere."""
    assert search(start, "zyxquorv blandifrotz") == []
    assert "did not match any documents" in start.page.inner_text("#search-results")
    assert (start.offsite, start.errors, start.failed) == ([], [], [])
