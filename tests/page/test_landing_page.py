"""The landing page in a real browser: cards by keyboard, on a phone, on paper, in both themes."""

from __future__ import annotations

from pathlib import Path

import checks
import pytest
from visits import HTML, ROOT, arrive

from casebook.book import landing
from casebook.book.__main__ import toc_files

PAGE = "book/index"
CHAPTERS = sorted(name for name in toc_files(ROOT) if name.startswith("chapters/"))
#: Bytes that the page may fetch, of files of its own kind and in all.
MOST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def landing_page(open_visits):
    """Return the page, light and on a wide window, open for all tests that only read it."""
    return open_visits()(PAGE).page


def test_every_chapter_of_the_book_has_a_card_in_the_order_of_the_book(landing_page):
    page = landing_page
    links = page.locator(".landing-card h3 a")
    found = [link.get_attribute("href") for link in links.all()]
    assert found == [f"../{name}.html" for name in CHAPTERS]
    assert all(page.locator(".landing-finding").nth(i).inner_text() for i in range(len(found)))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_of_the_book_is_read_as_it_ran(chapter):
    notebook = landing.executed(ROOT, chapter)
    assert landing.picture(notebook)[0].startswith("<svg")
    assert landing.finding(notebook)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_card_shows_the_picture_of_its_theme_alone(landing_page, load, theme):
    page = landing_page if theme == "light" else load(PAGE, theme=theme).page
    shown = page.locator(".landing-picture img:visible")
    assert shown.count() == len(CHAPTERS)
    for image in shown.all():
        assert image.get_attribute("src").endswith(f"-{theme}.svg")
        assert len(image.get_attribute("alt").split()) >= 6
        image.scroll_into_view_if_needed()
        page.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=image.element_handle())


def test_a_card_is_one_stop_of_the_keyboard_and_shows_that_it_has_the_focus(load):
    page = load(PAGE).page
    card = page.locator(".landing-card").first
    assert card.locator("a, button, [tabindex]").count() == 1
    outline = "e => getComputedStyle(e).outlineStyle"
    assert card.evaluate(outline) == "none"
    card.locator("a").focus()
    assert card.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    arrive(page, f"**/{CHAPTERS[0]}.html")


def test_a_click_anywhere_on_a_card_opens_its_chapter(load):
    page = load(PAGE).page
    finding = page.locator(".landing-finding").first
    finding.scroll_into_view_if_needed()
    box = finding.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    arrive(page, f"**/{CHAPTERS[0]}.html")


@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1280, 2)])
def test_cards_stand_below_each_other_on_a_phone(landing_page, load, width, columns):
    page = landing_page if width == 1280 else load(PAGE, width=width).page
    left = {round(card.bounding_box()["x"]) for card in page.locator(".landing-card").all()}
    assert len(left) == columns
    assert checks.sideways(page) == []


def test_on_paper_no_card_is_broken_and_every_picture_is_light(landing_page):
    page = landing_page
    page.emulate_media(media="print")
    broken = "e => getComputedStyle(e).breakInside"
    assert {card.evaluate(broken) for card in page.locator(".landing-card").all()} == {"avoid"}
    assert page.locator(".landing-picture img.only-dark:visible").count() == 0
    page.emulate_media(media="screen")


def test_what_is_in_preparation_cannot_be_clicked(landing_page):
    page = landing_page
    assert page.locator(".landing-planned").count() == 1
    assert page.locator(".landing-planned :is(a, button)").count() == 0


def weight(seen) -> int:
    """Return the bytes of the files that a page has fetched, itself included."""
    paths = {url.removeprefix("file://").partition("?")[0] for url in seen.fetched}
    return sum(Path(path).stat().st_size for path in paths)


def test_the_page_fetches_little(visit):
    seen = visit(PAGE)
    assert seen.page.locator("script[src*='mathjax']").count() == 0
    assert 100_000 < weight(seen) < MOST_BYTES
    seen.page.add_script_tag(url=(HTML / "_static/vendor/mathjax/tex-svg.js").as_uri())
    assert weight(seen) > MOST_BYTES
