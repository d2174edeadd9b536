"""How pages are found: descriptions, addresses, card and sitemap; the search from disk.

Everything stands in the built files themselves; opening a page asks nothing of
another host.
"""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from bs4 import BeautifulSoup
from sphinx.application import Sphinx

from casebook.page.figures import COLOURS, INK
from casebook.project import settings

DESCRIPTION_LENGTHS = (60, 160)
CARD = "_static/social-card.png"
#: Pixels: what link previews expect.
CARD_SIZE = (1200, 630)
#: A page from disk may not read another one, so its search shows titles without excerpts.
SEARCH = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== 'file:';"
#: The small picture of browser tabs and bookmarks.
ICON = "book/_static/favicon.svg"
CARD_ALT = "The ML Systems Casebook: a forecast between its baseline and what was possible"


def public_address() -> str:
    """Return where the book is published, with a closing slash.

    That is ``book`` in ``[tool.casebook]``, or else the GitHub Pages of the repository.

    Raises
    ------
    ValueError
        If the repository is not one on GitHub, of the form ``owner/name``.
    """
    if book := settings().get("book"):
        return book.rstrip("/") + "/"
    repository = urlsplit(settings()["repository"])
    parts = repository.path.strip("/").split("/")
    if repository.netloc != "github.com" or len(parts) != 2:
        raise ValueError(
            f"[tool.casebook] repository is {settings()['repository']!r}, which is no address of "
            "GitHub: set `book` there to the address of the published book."
        )
    owner, name = parts
    return f"https://{owner.lower()}.github.io/{name}/"


def description(body: str) -> str:
    """Return the first whole sentences of a page, at most 160 characters, without markup.

    Parameters
    ----------
    body : str
        HTML of the page's article.

    Returns
    -------
    str
        Empty if no paragraph is long enough. A single sentence that is too long is cut
        at a word.
    """
    least, most = DESCRIPTION_LENGTHS
    for paragraph in BeautifulSoup(body, "html.parser").find_all("p"):
        text = " ".join(paragraph.get_text().split())
        if len(text) < least or paragraph.select_one(".math"):
            continue
        kept = ""
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9“\"])", text):
            if len(kept) + len(sentence) + 1 > most:
                break
            kept = f"{kept} {sentence}".strip()
        if len(kept) >= least:
            return kept
        return text if len(text) <= most else text[: most - 1].rsplit(" ", 1)[0] + " …"
    return ""


def tags(title: str, about: str, url: str, site: str, root: bool) -> str:
    """Return the meta elements of a page: description, Open Graph, card.

    Parameters
    ----------
    title, about : str
        Title and description, plain text.
    url : str
        Its public address.
    site : str
        Name of the book.
    root : bool
        Whether it is the title page.
    """
    width, height = map(str, CARD_SIZE)
    graph = {
        "og:title": title,
        "og:description": about,
        "og:type": "website" if root else "article",
        "og:url": url,
        "og:site_name": site,
        "og:image": public_address() + CARD,
        "og:image:width": width,
        "og:image:height": height,
        "og:image:alt": CARD_ALT,
    }
    lines = [f'<meta name="description" content="{html.escape(about)}">']
    lines += [
        f'<meta property="{name}" content="{html.escape(content)}">'
        for name, content in graph.items()
    ]
    lines.append('<meta name="twitter:card" content="summary_large_image">')
    return "\n".join(lines) + "\n"


def card(title: str, subtitle: str) -> bytes:
    """Return the picture of link previews as PNG, in the colours of the course's figures."""
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(CARD_SIZE[0] / 100, CARD_SIZE[1] / 100), dpi=100, facecolor="white")
    ax = figure.add_axes((0.06, 0.08, 0.88, 0.4))
    ax.set_axis_off()
    t = np.linspace(0, 4, 200)
    truth = 0.35 * t + 0.5 * np.sin(2 * np.pi * t)
    past = t <= 3
    ax.plot(t[past], truth[past], color=INK, linewidth=4)
    ahead = ~past
    lines = (
        ("baseline", truth[ahead] - 0.7, "orange", ":"),
        ("model", truth[ahead] - 0.15, "blue", "-"),
        ("oracle", truth[ahead], "green", "--"),
    )
    for name, values, colour, style in lines:
        ax.plot(t[ahead], values, style, color=COLOURS[colour], linewidth=4, label=name)
    ax.axvline(3, color=INK, alpha=0.25, linewidth=2)
    legend = {"ncols": 3, "frameon": False, "fontsize": 20, "labelcolor": INK}
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.95), **legend)
    figure.text(0.06, 0.79, title, fontsize=44, fontweight="bold", color=INK)
    figure.text(0.06, 0.66, subtitle, fontsize=23, color=INK)
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    buffer.seek(0)
    image = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def sitemap(names: list[str]) -> str:
    """Return the sitemap of the given pages."""
    base = public_address()
    entries = "".join(f"<url><loc>{escape(f'{base}{n}.html')}</loc></url>\n" for n in names)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}</urlset>\n'
    )


def robots() -> str:
    """Return ``robots.txt``: everything may be read, and here is the sitemap."""
    return f"User-agent: *\nAllow: /\n\nSitemap: {public_address()}sitemap.xml\n"


def _configure(app: Sphinx, config) -> None:
    config.html_baseurl = public_address()  # Sphinx writes the canonical address from it
    config.project = config.html_title  # Jupyter Book sets the title alone
    config.html_favicon = ICON


def _page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    if pagename == "search":
        app.add_js_file(None, body=SEARCH)
    body = context.get("body")
    if app.builder.name != "html" or not body or not (about := description(body)):
        return
    title = BeautifulSoup(context["title"], "html.parser").get_text()
    url = f"{public_address()}{pagename}.html"
    root = pagename == app.config.root_doc
    context["metatags"] = context.get("metatags", "") + tags(
        title, about, url, app.config.project, root
    )


def _without_formulas(app: Sphinx, pagename: str, template: str, context: dict, doctree) -> None:
    """Take MathJax (two megabytes) off a page that has no formula; the title page got it."""
    if 'class="math' in (context.get("body") or "") or "script_files" not in context:
        return
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "mathjax" not in str(getattr(script, "filename", "") or "")
        and "window.MathJax" not in str(getattr(script, "attributes", {}).get("body", ""))
    ]


def _finished(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    (folder / "sitemap.xml").write_text(sitemap(sorted(app.env.found_docs)), encoding="utf-8")
    (folder / "robots.txt").write_text(robots(), encoding="utf-8")
    subtitle = "Case studies in ML system design that you can run"
    (folder / CARD).write_bytes(card(app.config.project, subtitle))


def setup(app: Sphinx) -> dict:
    """Register the extension."""
    app.connect("config-inited", _configure)
    app.connect("html-page-context", _page)
    app.connect("html-page-context", _without_formulas, priority=950)  # after Sphinx added it
    app.connect("build-finished", _finished)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
