"""What a page must do, as functions that return what is wrong with it."""

from __future__ import annotations

from playwright.sync_api import Page

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


def sideways(page: Page) -> list[str]:
    """Return whether the page scrolls sideways."""
    return page.evaluate(_SIDEWAYS)


def images(page: Page) -> list[str]:
    """Return images of the article without a text, with a file's name as text, or broken."""
    page.evaluate("document.querySelectorAll('img').forEach((i) => { i.loading = 'eager'; })")
    page.wait_for_load_state("load")
    page.wait_for_timeout(200)
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
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
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
