"""Sphinx extension of the book.

It sets the public address, puts what the executed notebooks showed into their
pages, shows the exercises with folded hints and answers, moves figures out of
the page, and mends what keeps the theme's pages from working offline and for
everyone.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinxcontrib import mermaid

from casebook.author.execute import Execution, executed, stored
from casebook.author.files import FOLDERS
from casebook.author.launch import working
from casebook.book import mend, vendor
from casebook.page.figures import INK
from casebook.project import settings

INK_DARK = "#e6e6e6"
PLOTLY = "vendor/plotly/plotly.min.js"
MERMAID = "vendor/mermaid/mermaid.min.js"
_FIGURE = re.compile(r'<div class="casebook-figure">\s*(<svg.*?</svg>)\s*</div>', flags=re.S)
#: A line of text in a matplotlib figure: its words, its baseline, its outlines.
_LINE = (
    r"\s*<!-- (?P<words>(?:(?!-->).)*) -->\s*"
    r"<g[^>]*translate\([-\d.]+ (?P<y>[-\d.]+)\)[^>]*>(?P<outlines>.*?)</g>"
)
#: A text of one or more lines.
_TEXT = re.compile(
    rf'<g id="text_\d+">(?:{re.sub(r"[?]P<[a-z]+>", "?:", _LINE)})+\s*</g>\s*', flags=re.S
)
BOLD = "DejaVuSans-Bold"


def _page_code() -> str:
    """Return a hash of the code that turns a notebook into its page."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _without_module_script(app: Sphinx) -> None:
    """Keep sphinxcontrib-mermaid's directive, drop its script.

    It is an ES module, which browsers refuse to load for a page opened from
    disk; casebook.js draws with Mermaid's classic script instead.
    """
    listeners = app.events.listeners.get("html-page-context", [])
    listeners[:] = [entry for entry in listeners if entry.handler is not mermaid.install_js]


def _configure(app: Sphinx, config) -> None:
    _without_module_script(app)
    root = Path(app.srcdir)
    vendor.copy(root)
    # It belongs to the environment: when it changes, Sphinx reads every page again.
    config.casebook_page_code = _page_code()
    config.html_theme_options.update(
        repository_url=settings()["repository"],
        repository_branch=settings()["release"],
        use_repository_button=True,
    )


def _is_notebook(app: Sphinx, docname: str) -> bool:
    return docname.split("/")[0] in FOLDERS and Path(app.srcdir, f"{docname}.ipynb").is_file()


def _digest(done: Execution) -> str:
    """Return a hash of what a page is made from: its cells, and the run that filled them."""
    cells = [(c.id, c.cell_type, c.source, dict(c.metadata)) for c in done.notebook.cells]
    text = json.dumps([done.key, cells], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _outdated(app: Sphinx, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Return the notebooks' pages that were made from other cells or from another run."""
    made_from = getattr(env, "casebook_made_from", {})
    found = []
    for docname in env.found_docs - added - changed:
        if _is_notebook(app, docname):
            done = stored(Path(app.srcdir), docname)
            if done is None or made_from.get(docname) != _digest(done):
                found.append(docname)
    return sorted(found)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the executed notebook, or the executed page of an exercise, in the notebook's place."""
    if not _is_notebook(app, docname):
        return
    done = executed(Path(app.srcdir), docname, who="book")
    if not hasattr(app.env, "casebook_made_from"):
        app.env.casebook_made_from = {}
    app.env.casebook_made_from[docname] = _digest(done)
    source[0] = nbformat.writes(done.notebook)


def title_and_drawing(svg: str) -> tuple[str, str]:
    """Take the title off a matplotlib figure: it becomes text of the page.

    Parameters
    ----------
    svg : str
        A figure of :func:`casebook.figures.axes`; its title is what is bold above the axes.

    Returns
    -------
    str, str
        The title as HTML, empty if there is none, and the drawing without it and without the
        room that it took.
    """
    x, y, width, height = map(float, re.search(r'viewBox="([^"]*)"', svg).group(1).split())
    texts = [
        text
        for text in _TEXT.finditer(svg)
        if BOLD in text[0] and float(re.search(_LINE, text[0], re.S)["y"]) < y + height / 4
    ]
    if not texts:
        return "", svg
    lines = [line for text in texts for line in re.finditer(_LINE, text[0], re.S)]
    outlines = "".join(re.findall(r"<defs>.*?</defs>", "".join(t[0] for t in texts), re.S))
    for text in reversed(texts):
        svg = svg[: text.start()] + svg[text.end() :]
    if BOLD in svg:  # other bold text uses the outlines of the title's letters
        svg = svg.replace("</svg>", f"{outlines}</svg>")
    top = max(float(line["y"]) for line in lines) + 1
    svg = re.sub(
        r'viewBox="[^"]*"', f'viewBox="{x:g} {top:g} {width:g} {y + height - top:g}"', svg, count=1
    )
    svg = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', rf'\1 height="{y + height - top:g}pt"', svg)
    return " ".join(line["words"].strip() for line in lines), svg


def _externalise_figures(body: str, pathto, folder: Path) -> str:
    """Write each inline figure as a light and a dark file and put them in its place."""

    def replace(match: re.Match) -> str:
        title, svg = title_and_drawing(match.group(1))
        alt = re.search(r'aria-label="([^"]*)"', svg).group(1)
        size = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', svg)
        width, height = (round(float(v) * 1.35) for v in size.groups())
        name = f"figure-{hashlib.sha256(svg.encode()).hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        images = []
        for theme, ink in (("light", INK), ("dark", INK_DARK)):
            file = folder / f"{name}-{theme}.svg"
            file.write_text(svg.replace("currentColor", ink), encoding="utf-8")
            address = pathto(f"_images/{file.name}", resource=True)
            images.append(
                f'<img class="only-{theme}" src="{address}" alt="{alt}" loading="lazy" '
                f'width="{width}" height="{height}">'
            )
        caption = f'<figcaption class="casebook-title">{title}</figcaption>' if title else ""
        return f'<figure class="casebook-figure">{caption}{"".join(images)}</figure>'

    return _FIGURE.sub(replace, body)


def _page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    body = context.get("body")
    if not body or app.builder.name != "html":
        return
    if "casebook-plotly" in body:
        app.add_js_file(PLOTLY, loading_method="defer", priority=400)
    if 'class="mermaid"' in body:
        app.add_js_file(MERMAID, loading_method="defer", priority=400)
    context["body"] = _externalise_figures(body, context["pathto"], Path(app.outdir) / "_images")
    if not context.get("meta"):
        context["meta"] = {}
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if "url" in button:
                button["url"] = working(button["url"])


def _finished(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        for page in Path(app.outdir).rglob("*.html"):
            if "_static" not in page.parts:
                mend.mend_file(page)


def setup(app: Sphinx) -> dict:
    """Register the extension."""
    app.setup_extension("casebook.book.cases")
    app.setup_extension("casebook.book.drill")
    app.setup_extension("casebook.book.landing")
    app.setup_extension("casebook.book.local_model")
    app.setup_extension("casebook.book.publish")
    app.setup_extension("casebook.book.reports")
    app.setup_extension("casebook.book.routes")
    app.add_config_value("casebook_page_code", "", "env", [str])
    app.connect("config-inited", _configure, priority=1)
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _read)
    app.connect("html-page-context", _page, priority=900)
    app.connect("build-finished", _finished)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
