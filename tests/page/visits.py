"""A real browser on the built book, opened from disk, with the network cut."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from bs4 import BeautifulSoup
from pace import patience, waiting
from playwright.sync_api import Browser, Page, sync_playwright

from casebook.project import require_checkout

ROOT = require_checkout()
HTML = ROOT / "_build" / "html"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
#: Seconds that a page needs at most until it is loaded and drawn, on a quiet machine.
LOADING = 30
#: Seconds that anything else in a page needs at most on a quiet machine.
REACTING = 10
#: Of a window, in px.
HEIGHT = 900
#: What a page has when it is drawn, by what it has to draw.
DRAWN = {
    ".casebook-plotly, pre.mermaid, .mermaid-drawn": "html[data-casebook-drawn]",
    ".math": "mjx-container",
}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def without_results(html: str) -> str:
    """Return a built page without what its cells printed and the list of the book's pages.

    Without the marks of versions on its styles, too: the first build writes fewer of them.
    """
    page = BeautifulSoup(html, "html.parser")
    lists = page.select("nav.bd-docs-nav")
    assert len(lists) == 1, f"{len(lists)} lists of the book's pages"
    for part in [*lists, *page.select(".cell_output")]:
        part.extract()
    return re.sub(r"\?v=\w+", "", str(page))


@dataclass
class Visit:
    """An open page and what went wrong while it was loaded and used."""

    page: Page
    errors: list[str] = field(default_factory=list)
    offsite: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium (the only system package that the tests need)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def new_visit(browser: Browser, theme: str = "light", width: int = 1280) -> Visit:
    """Return an empty page that is watched, with the network cut."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme=theme, offline=False
    )
    context.set_default_timeout(patience(REACTING) * 1000)
    result = Visit(context.new_page())

    def route(route):
        if route.request.url.startswith("file:"):
            return route.continue_()
        result.offsite.append(route.request.url)
        return route.abort("internetdisconnected")

    result.page.route("**/*", route)
    result.page.on("requestfinished", lambda request: result.fetched.append(request.url))
    result.page.on("pageerror", lambda error: result.errors.append(str(error)))
    result.page.on(
        "console",
        lambda message: message.type == "error" and result.errors.append(message.text),
    )
    result.page.on("requestfailed", lambda request: result.failed.append(request.url))
    return result


def address(page: str | Path) -> str:
    """Return the address of a page of the book, or of another file."""
    path = page if isinstance(page, Path) else HTML / f"{page}.html"
    assert path.is_file(), f"{path} is not there: run `make book` first"
    return path.as_uri()


def draw(page: Page, url: str) -> None:
    """Load a page and wait until it is drawn."""
    with waiting(f"{url.rpartition('/')[2]}, loaded and drawn,", LOADING) as seconds:
        page.goto(url, timeout=seconds * 1000)
        for needed, drawn in DRAWN.items():
            if page.locator(needed).count():
                page.wait_for_selector(drawn, state="attached", timeout=seconds * 1000)


def arrive(page: Page, address: str | Callable[[str], bool]) -> None:
    """Wait until a page has gone to an address (a pattern or a condition) and is loaded."""
    with waiting("the page that was gone to", LOADING) as seconds:
        page.wait_for_url(address, timeout=seconds * 1000)


@contextmanager
def visits(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Give a function that opens a page; at the end they are all closed."""
    contexts = []

    def open_page(page: str | Path, theme: str = "light", width: int = 1280) -> Visit:
        url = address(page)
        result = new_visit(browser, theme, width)
        contexts.append(result.page.context)
        draw(result.page, url)
        return result

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()


@contextmanager
def stage(browser: Browser, folder: Path, time: datetime | None = None) -> Iterator[Callable]:
    """Give a function that loads a page, each time in the same window, as if in a new one::

        load("book/drill", "#seed=x&draw=1", scripts={"drill.js": with_a_fault}, width=390)

    A window costs more than what most tests do in it: this is for the many faults that are
    planted in one script. Before each load the storage is emptied, the media are set again, and
    what was watched is forgotten; the page before it is gone.

    Parameters
    ----------
    browser : Browser
    folder : Path
        Where an empty page may be written.
    time : datetime, optional
        What the page's clock shows once it is loaded. It stands still until a test moves it on:
        a busy machine lets no second of it pass.
    """
    blank = folder / "blank.html"
    blank.write_text("<!doctype html><title>Blank</title>")
    seen = new_visit(browser)
    page, replaced = seen.page, {}

    def replace(route):
        for name, body in replaced.items():
            if route.request.url.split("?")[0].endswith(f"/{name}"):
                return route.fulfill(body=body, content_type="text/javascript")
        return route.fallback()

    def leave(dialog) -> None:
        dialog.accept()  # of a page that asks before it is left

    def load(
        page_or_file: str | Path,
        more: str = "",
        theme: str = "light",
        width: int = 1280,
        scripts: Mapping[str, str] = MappingProxyType({}),
    ) -> Visit:
        url = address(page_or_file) + more
        page.set_default_timeout(patience(REACTING) * 1000)
        page.on("dialog", leave)
        page.goto(address(blank))
        page.remove_listener("dialog", leave)
        page.evaluate("localStorage.clear()")
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.emulate_media(media="screen", color_scheme=theme, reduced_motion="no-preference")
        page.mouse.move(0, 0)
        for watched in (seen.errors, seen.offsite, seen.failed, seen.fetched):
            watched.clear()
        replaced.clear()
        replaced.update(scripts)
        if time:
            page.clock.install(time=time - timedelta(hours=1))  # longer than any page loads
        draw(page, url)
        if time:
            page.clock.pause_at(time)
        return seen

    page.route("**/*.js*", replace)
    try:
        yield load
    finally:
        page.context.close()
