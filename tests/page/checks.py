"""What a page must do, as functions that return what is wrong with it.

`look` puts them together: a page is loaded once, then its theme and its width change, and every
check sees it as often as it can differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bs4 import BeautifulSoup
from pace import waiting
from playwright.sync_api import Page
from visits import Visit

from casebook.book.mend import DRAWN_BY

#: The width of a laptop's window without its scroll bar, for what must not scroll sideways there.
WITHOUT_SCROLL_BAR = 1264
#: Columns that ruff allows a line of code.
COLUMNS = 100
#: Height of the screen that a diagram must fit, in px.
SCREEN = 900
#: Seconds that drawing a page again takes at most on a quiet machine.
DRAWING = 20
#: Elements that stand out of the window sideways and are not in a box that scrolls.
_SIDEWAYS = """
() => {
  const limit = document.documentElement.clientWidth + 1;
  return document.documentElement.scrollWidth <= limit ? [] :
    [`the page is ${document.documentElement.scrollWidth} px wide in a window of ${limit - 1}`];
}
"""
_IMAGES = """
() => [...document.querySelectorAll('.bd-article img')].flatMap((image) => {
  const alt = (image.getAttribute('alt') || '').trim();
  const faults = [];
  if (alt.split(/\\s+/).length < 3) faults.push(`no alternative text: ${image.src}`);
  if (/\\.(svg|png|jpe?g|webp)$/i.test(alt)) faults.push(`a file name as alternative text: ${alt}`);
  if (image.offsetParent !== null && image.complete && !image.naturalWidth) faults.push(`broken: ${image.src}`);
  return faults;
})
"""
_WIDE_CODE = """
(columns) => [...document.querySelectorAll('.bd-article .highlight pre')].flatMap((box) => {
  const longest = Math.max(...box.textContent.split('\\n').map((line) => line.length));
  const over = box.scrollWidth - box.clientWidth;
  return longest <= columns && over > 0
    ? [`${over} px too wide with ${longest} columns: ${box.textContent.trim().slice(0, 60)}`] : [];
})
"""
_HIGH_DIAGRAMS = """
(screen) => [...document.querySelectorAll('.mermaid-drawn svg')].flatMap((svg) => {
  const height = Math.round(svg.getBoundingClientRect().height);
  return height > screen ? [`${height} px high: ${svg.textContent.trim().slice(-60)}`] : [];
})
"""
_CUT_FIGURES = """
() => [...document.querySelectorAll('.casebook-figure, .casebook-plotly')].flatMap((figure) => {
  const seen = (e) => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && box.left >= 0 && box.right <= document.documentElement.clientWidth + 1;
  };
  const name = (figure.querySelector('img') || figure).getAttribute('alt') || figure.ariaLabel;
  const faults = [];
  const title = figure.querySelector('.casebook-title');
  if (!title || !title.textContent.trim()) faults.push(`no conclusion: ${name}`);
  else if (!seen(title) || title.scrollWidth > title.clientWidth + 1)
    faults.push(`conclusion out of view: ${title.textContent.trim()}`);
  for (const drawn of figure.querySelectorAll('img, .casebook-plot'))
    if (drawn.checkVisibility() && !seen(drawn)) faults.push(`cut: ${name}`);
  return faults;
})
"""
_UNMARKED = """
() => [...document.querySelectorAll('.bd-article *')].flatMap((box) => {
  const style = getComputedStyle(box);
  const hidden = box.scrollWidth - box.clientWidth;
  if (hidden <= 1 || !/auto|scroll/.test(style.overflowX) || !box.clientWidth) return [];
  return style.maskImage === 'none' ? [`${box.tagName} hides ${hidden} px: ${box.textContent.trim().slice(0, 60)}`] : [];
})
"""
_LEFT_NUMBERS = """
() => [...document.querySelectorAll('.bd-article table')].flatMap((table) => {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  const width = Math.max(0, ...rows.map((row) => row.cells.length));
  if (rows.some((row) => row.cells.length !== width)) return [];
  return [...Array(width).keys()].flatMap((column) => {
    const cells = rows.map((row) => row.cells[column]);
    const said = cells.filter((cell) => cell.textContent.trim());
    const number = (cell) => /^[+−-]?[\\d.,]*\\d%?$/.test(cell.textContent.trim());
    const left = said.filter((cell) => !['right', 'end'].includes(getComputedStyle(cell).textAlign));
    return said.length && said.every(number) && left.length
      ? [`numbers to the left: ${said.slice(0, 3).map((cell) => cell.textContent.trim())}`] : [];
  });
})
"""
_BROKEN_INTERVALS = """
() => {
  const faults = [];
  const texts = document.createTreeWalker(document.querySelector('.bd-article'), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (text.parentElement.closest('pre, script, style, mjx-container')) continue;
    for (const found of text.data.matchAll(/\\[[+−-]?[\\d.,]+\\s?%?,\\s+[+−-]?[\\d.,]+\\s?%?\\]/g)) {
      const range = document.createRange();
      range.setStart(text, found.index);
      range.setEnd(text, found.index + found[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1)
        faults.push(`over two lines: ${found[0]}`);
    }
  }
  return faults;
}
"""
_PALE_FORMULAS = """
() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3)
    .map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('.bd-article mjx-container')].flatMap((formula) => {
    const [a, b] = [light(getComputedStyle(formula).color), light(ground(formula))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return contrast < 4.5 ? [`contrast ${contrast.toFixed(1)}: ${formula.parentElement.textContent.slice(0, 60)}`] : [];
  });
}
"""
_ON_PAPER = """
() => {
  const faults = [];
  for (const fold of document.querySelectorAll('.bd-article details')) {
    const say = (fold.querySelector('summary') || fold).textContent.trim().slice(0, 60);
    if (fold.matches('.tag_hide-input > details.hide')) {
      if (fold.checkVisibility()) faults.push(`folded code is printed: ${say}`);
      continue;
    }
    if (fold.matches('.cell > details.hide')) {
      if (fold.querySelector('summary').checkVisibility()) faults.push(`a bar is printed: ${say}`);
      for (const code of fold.querySelectorAll(':scope > .cell_input'))
        if (code.checkVisibility()) faults.push(`folded code is printed: ${say}`);
      for (const result of fold.querySelectorAll(':scope > .cell_output')) {
        if (!result.checkVisibility()) faults.push(`stays folded: ${say}`);
        if (getComputedStyle(result).animationName !== 'none') faults.push(`fades in: ${say}`);
        for (const box of [fold, ...result.querySelectorAll('div[class*=highlight]')])
          if (getComputedStyle(box).breakInside === 'avoid') faults.push(`begins on a new page: ${say}`);
      }
      continue;
    }
    for (const part of fold.children)
      if (part.tagName !== 'SUMMARY' && part.textContent.trim() && !part.checkVisibility()) faults.push(`stays folded: ${say}`);
  }
  for (const heading of document.querySelectorAll('.bd-article :is(h2, h3, h4)')) {
    if (!heading.checkVisibility()) continue;
    const room = parseFloat(getComputedStyle(heading, '::after').height);
    if (getComputedStyle(heading).breakInside !== 'avoid' || !(room >= 72))
      faults.push(`a page may end after a heading: ${heading.textContent.trim().slice(0, 60)}`);
  }
  // Paper is narrower than the screen, and what was drawn for the screen is not drawn again.
  window.dispatchEvent(new Event('beforeprint'));
  for (const plot of document.querySelectorAll('.bd-article .casebook-plot')) {
    const before = plot.style.width;
    plot.style.width = '300px';
    for (const svg of plot.querySelectorAll('svg.main-svg'))
      if (svg.getBoundingClientRect().width > 301 || !svg.hasAttribute('viewBox')) faults.push('a figure is cut at the edge of the paper');
    plot.style.width = before;
  }
  window.dispatchEvent(new Event('afterprint'));
  for (const box of document.querySelectorAll('.bd-article .cell_input, .bd-article pre')) {
    if (!box.checkVisibility()) continue;
    if (!box.innerText.trim()) faults.push(`empty box: ${box.className || box.tagName}`);
    if (box.matches('pre') && box.scrollWidth > box.clientWidth + 1) faults.push(`cut: ${box.textContent.trim().slice(0, 60)}`);
    if (box.matches('.cell_input') && getComputedStyle(box).breakInside !== 'avoid') faults.push('a frame may begin on the page before its code');
  }
  return faults;
}
"""


def sideways(page: Page) -> list[str]:
    """Return whether the page scrolls sideways."""
    return page.evaluate(_SIDEWAYS)


def images(page: Page) -> list[str]:
    """Return images of the article without a text, with a file's name as text, or broken."""
    page.evaluate("document.querySelectorAll('img').forEach((i) => { i.loading = 'eager'; })")
    with waiting("the page's images", DRAWING) as seconds:
        page.wait_for_function(
            "[...document.images].every((image) => image.complete)", timeout=seconds * 1000
        )
    return page.evaluate(_IMAGES)


def axe(page: Page, source: str) -> list[str]:
    """Return axe-core's violations of WCAG rules, everything unfolded and at rest.

    A fold fades in. Measured on the way, its text is pale: which tokens are
    reported would depend on how busy the machine is.
    """
    page.evaluate(
        """
        () => new Promise((settled) => {
          document.querySelectorAll('details').forEach((fold) => { fold.open = true; });
          requestAnimationFrame(() => {
            for (const animation of document.getAnimations())
              if (Number.isFinite(animation.effect.getComputedTiming().endTime)) animation.finish();
            requestAnimationFrame(settled);
          });
        })
        """
    )
    page.evaluate(source)
    # Without preload axe asks for no file itself, which a page opened from disk may not.
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")
    return [
        f"{violation['id']}: {node['target'][0]}: {node['html'][:120]}"
        for violation in found["violations"]
        if any(tag.startswith("wcag") for tag in violation["tags"])
        for node in violation["nodes"]
    ]


def undrawn(page: Page) -> list[str]:
    """Return formulas that are not typeset and diagrams and figures that are not drawn."""
    return page.evaluate(
        """
        () => {
          const faults = [];
          for (const math of document.querySelectorAll('.bd-article .math'))
            if (!math.querySelector('mjx-container svg')) faults.push(`formula: ${math.textContent.trim().slice(0, 60)}`);
          for (const block of document.querySelectorAll('pre.mermaid'))
            faults.push(`diagram: ${block.textContent.trim().slice(0, 60)}`);
          for (const drawn of document.querySelectorAll('.mermaid-drawn'))
            if (drawn.querySelectorAll('svg .node').length < 2) faults.push('diagram without nodes');
          for (const figure of document.querySelectorAll('.casebook-plotly'))
            if (!figure.querySelector('.casebook-plot svg .trace, .casebook-plot svg .plot')) faults.push(`plotly: ${figure.ariaLabel}`);
          return faults;
        }
        """
    )


def wide_code(page: Page) -> list[str]:
    """Return boxes of code that keep to the line length and scroll sideways all the same."""
    return page.evaluate(_WIDE_CODE, COLUMNS)


def high_diagrams(page: Page) -> list[str]:
    """Return diagrams that do not fit one screen."""
    return page.evaluate(_HIGH_DIAGRAMS, SCREEN)


def cut_figures(page: Page) -> list[str]:
    """Return figures that are cut, or whose conclusion cannot be read without scrolling."""
    return page.evaluate(_CUT_FIGURES)


def unmarked_scrolling(page: Page) -> list[str]:
    """Return boxes that scroll sideways and do not show it."""
    return page.evaluate(_UNMARKED)


def left_numbers(page: Page) -> list[str]:
    """Return columns of numbers that are not set to the right."""
    return page.evaluate(_LEFT_NUMBERS)


def broken_intervals(page: Page) -> list[str]:
    """Return intervals such as [0.12, 0.30] that stand on two lines."""
    return page.evaluate(_BROKEN_INTERVALS)


def pale_formulas(page: Page) -> list[str]:
    """Return formulas that do not stand out from their ground (axe does not measure drawings)."""
    return page.evaluate(_PALE_FORMULAS)


def on_paper(page: Page) -> list[str]:
    """Return what printing would lose or add: answers that stay folded, empty boxes, cut code."""
    page.emulate_media(media="print")
    faults = page.evaluate(_ON_PAPER)
    page.emulate_media(media="screen")
    return faults


def restyle(page: Page, theme: str, width: int) -> None:
    """Give a loaded page another theme and width and wait until it has drawn itself again."""
    page.set_viewport_size({"width": width, "height": SCREEN})
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    with waiting(f"the drawing of the page in {theme} at {width} px", DRAWING) as seconds:
        page.wait_for_function(
            """
            ([theme, phone]) => {
              const drawn = document.documentElement.dataset.casebookDrawn;
              return drawn === undefined || drawn === (phone ? `${theme} phone` : theme);
            }
            """,
            arg=[theme, width <= 600],
            timeout=seconds * 1000,
        )
    # Two frames: what watches sizes has seen the new ones.
    page.evaluate("() => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")


def _each_look(page: Page, axe_source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each check's name with what it finds; folds are closed until the paper was seen."""

    def see(name: str, *checks: Callable[[Page], list[str]]) -> Iterator[tuple[str, list[str]]]:
        for check in checks:
            yield f"{check.__name__}, {name}", check(page)

    yield from see("light, 1280", images, undrawn, high_diagrams, left_numbers)
    yield from see("print", on_paper)
    yield "axe, light, 1280", axe(page, axe_source)  # opens every fold
    yield from see("light, 1280", broken_intervals, pale_formulas)
    restyle(page, "light", WITHOUT_SCROLL_BAR)
    yield from see("light, 1280 less a scroll bar", wide_code)
    restyle(page, "light", 768)
    yield from see("light, 768", sideways)
    # For the phone and for the dark every drawing is made anew: once each, in this order.
    restyle(page, "light", 390)
    yield from see(
        "light, 390", sideways, undrawn, cut_figures, unmarked_scrolling, broken_intervals
    )
    restyle(page, "dark", 1280)
    yield from see("dark, 1280", undrawn, pale_formulas)
    yield "axe, dark, 1280", axe(page, axe_source)


def look(page: Page, axe_source: str) -> dict[str, list[str]]:
    """Return all that is wrong with a loaded page, by check, theme and width.

    Parameters
    ----------
    page : Page
        Loaded, light, 1,280 px wide.
    axe_source : str
        The script of axe-core.
    """
    return {name: faults for name, faults in _each_look(page, axe_source) if faults}


def all_faults(seen: Visit, axe_source: str) -> dict[str, list[str]]:
    """Return all that is wrong with an open page, by check; the network's faults come last."""
    faults = look(seen.page, axe_source)
    watched = {"asked of other hosts": seen.offsite, "failed": seen.failed, "errors": seen.errors}
    return faults | {name: found for name, found in watched.items() if found}


def superfluous_and_missing(page: BeautifulSoup) -> list[str]:
    """Return large scripts that draw nothing on a page, and those that something waits for."""
    faults = []
    for part, drawn in DRAWN_BY.items():
        here = any(part in script["src"] for script in page.select("script[src]"))
        used = drawn is not None and page.select_one(drawn) is not None
        if here != used:
            faults.append(f"{part} is {'superfluous' if here else 'missing'}")
    return faults
