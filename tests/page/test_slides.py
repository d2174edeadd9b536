"""The slides of each chapter in a real browser, opened from disk, with the network cut."""

from __future__ import annotations

import checks
import pytest
from conftest import HTML, ROOT

from casebook.author.files import notebooks
from casebook.book import slides

CHAPTERS = [path.stem for path in notebooks("chapters", root=ROOT)]
WIDE, HIGH = 1280, 720


@pytest.fixture(scope="module", autouse=True)
def made():
    """Make the slides from the executed chapters."""
    assert slides.build(ROOT) == 0, "run `make book` first"


@pytest.fixture
def deck(visit):
    """Return a function that opens the slides of a chapter."""

    def open_deck(chapter: str):
        seen = visit(HTML / "slides" / f"{chapter}.html")
        seen.page.set_viewport_size({"width": WIDE, "height": HIGH})
        seen.page.wait_for_selector("html[data-slides]", state="attached")
        return seen

    return open_deck


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_slides_ask_no_other_host_and_are_drawn(deck, chapter):
    seen = deck(chapter)
    assert (seen.offsite, seen.failed, seen.errors) == ([], [], [])
    assert checks.undrawn(seen.page) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_slide_fits(deck, chapter):
    page = deck(chapter).page
    assert page.evaluate("Reveal.getTotalSlides()") >= 10
    assert too_large(page) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_speaker_notes_hold_the_text(deck, chapter):
    page = deck(chapter).page
    titled = page.locator("section h2:not(aside h2)").count()
    assert page.locator("aside.notes").count() >= titled >= 5


def too_large(page) -> list[str]:
    """Walk through a deck; return the slides whose content is larger than the slide."""
    found = []
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        width, height, text = page.evaluate(
            "(() => { const s = Reveal.getCurrentSlide();"
            " return [s.scrollWidth, s.scrollHeight, s.innerText.slice(0, 40)]; })()"
        )
        if width > WIDE + 2 or height > HIGH + 2:
            found.append(f"{width} x {height}: {text}")
        page.evaluate("Reveal.next()")
    return found


def test_gate_a_slide_that_is_too_large_is_found(deck):
    page = deck(CHAPTERS[0]).page
    page.evaluate(
        "Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', '<p style=height:900px>x</p>')"
    )
    assert len(too_large(page)) == 1


def test_a_digest_keeps_first_sentences_and_what_is_shown_whole():
    source = (
        "## Title\n\nFirst. Second.\n\n**All of it. Really.** More.\n\n$$\nx = 1\n$$\n\n"
        "<details>\n<summary>A. One</summary>\n\nNot quite.\n\n</details>\n\nLast. One."
    )
    assert slides.digest(source) == [
        (
            "## Title\n\nFirst.\n\n**All of it. Really.** More.\n\n$$\nx = 1\n$$\n\n* A. One",
            True,
        )
    ]


def test_a_second_big_thing_opens_a_second_slide_under_the_same_heading():
    table = "| a |\n|---|\n| 1 |"
    source = f"## Title\n\nFirst.\n\n{table}\n\nBetween.\n\n{table}\n\n* a list"
    assert slides.digest(source) == [
        (f"## Title\n\nFirst.\n\n{table}\n\nBetween.", True),
        (f"## Title\n\n{table}", True),
        ("## Title\n\n* a list", False),
    ]


def test_type_shrinks_until_a_slide_fits(deck):
    page = deck(CHAPTERS[0]).page
    page.evaluate(
        "do Reveal.next(); while (Reveal.getCurrentSlide().querySelector('svg, table, pre'));"
        "Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', '<p>line</p>'.repeat(14));"
        "Reveal.prev(); Reveal.next()"
    )
    assert page.evaluate("Reveal.getCurrentSlide().scrollHeight") <= HIGH
    assert 0.6 <= float(page.evaluate("Reveal.getCurrentSlide().style.fontSize")[:-2]) < 1


def test_slides_of_a_chapter_that_was_not_executed_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(slides, "stored", lambda root, name: None)
    assert slides.build(ROOT) == 1
    assert "make book" in capsys.readouterr().out
