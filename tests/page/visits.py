"""A real browser on the built book, opened from disk, with the network cut."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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


def arrive(page: Page, address: str | Callable[[str], bool]) -> None:
    """Wait until a page has gone to an address (a pattern or a condition) and is loaded."""
    with waiting("the page that was gone to", LOADING) as seconds:
        page.wait_for_url(address, timeout=seconds * 1000)


@contextmanager
def visits(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Give a function that opens a page; at the end they are all closed."""
    contexts = []

    def open_page(page: str | Path, theme: str = "light", width: int = 1280) -> Visit:
        path = page if isinstance(page, Path) else HTML / f"{page}.html"
        assert path.is_file(), f"{path} is not there: run `make book` first"
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=False
        )
        contexts.append(context)
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
        with waiting(f"{path.name}, loaded and drawn,", LOADING) as seconds:
            result.page.goto(path.as_uri(), timeout=seconds * 1000)
            for needed, drawn in DRAWN.items():
                if result.page.locator(needed).count():
                    result.page.wait_for_selector(drawn, state="attached", timeout=seconds * 1000)
        return result

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
