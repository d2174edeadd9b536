"""Mends for the pages that the theme writes: offline, accessible.

Each mend is a small function on the parsed page; running them twice changes
nothing more.
"""

from __future__ import annotations

import re
from pathlib import Path

from bs4 import BeautifulSoup, NavigableString, Tag

#: Headings of a page that may have a sign beside them.
MOST_SIGNS = 200
#: Heavy scripts and the elements that they fill; None for what is drawn without the script. The
#: theme loads the search index everywhere, for a search while one types that the book has not on.
DRAWN_BY = {
    "scripts/fontawesome.js": None,
    "vendor/mathjax/": ".math",
    "vendor/mermaid/": "pre.mermaid",
    "vendor/plotly/": ".casebook-plotly",
    "searchindex.js": "#search-results",
    "searchtools.js": "#search-results",
    "language_data.js": "#search-results",
}
_NUMBER = re.compile(
    r"[<>≤≥~≈±]?\s*[+−–-]?\s*[€$]?\s*(?:\d[\d,.\u202f\u00a0]*|\.\d+)(?:\s?[%‰€$kMG]|\s\w{1,7})?"
)
#: Columns from which a table is stacked on a phone: with words beside the first, or of numbers.
WORDY, WIDE = 5, 8
#: Characters of a caption that fit on the bar of a folded cell.
CAPTION = 80
#: What stands in a cell of a numeric column that has no number.
_NOTHING = ("", "–", "—", "-", "n/a")
_BOUND = r"([+−-]?(?:\d[\d,.]*\d|\d|\.\d+)\s?[%‰]?)"
_INTERVAL = re.compile(rf"\[{_BOUND},[ \n]+{_BOUND}\]")


def _head(page: BeautifulSoup) -> None:
    """Say things once: the title as the only h1, one viewport, no THEBE_JS_URL.

    The theme declares the last twice, which is an error, and it names another host.
    """
    for title in page.select("#jb-print-docs-body > h1"):
        title.name = "p"
    for extra in page.find_all("meta", {"name": "viewport"})[1:]:
        extra.decompose()
    for script in page.find_all("script"):
        if script.string and "THEBE_JS_URL" in script.string:
            script.decompose()


def _labels(page: BeautifulSoup) -> None:
    """Let the accessible name of a control contain its visible text, and each have a name."""
    for control in page.select(":is(a, button, label, summary)[aria-label]"):
        visible = " ".join(control.get_text(" ").split())
        if visible and visible.lower() not in control["aria-label"].lower():
            del control["aria-label"]
    for icon in page.select("button[aria-label] > i[title]"):
        del icon["title"]  # Font Awesome makes text of it that the button's name does not hold
    for summary in page.find_all("summary"):
        if not summary.get_text(strip=True) and not summary.get("aria-label"):
            summary["aria-label"] = "Show the sub-pages"
    for image in page.find_all("img"):
        if image.get("alt") is None:
            image["alt"] = ""


def _landmarks(page: BeautifulSoup) -> None:
    """The book's name in the sidebar belongs to a landmark like the rest of the page."""
    for brand in page.select("div.sidebar-primary-item > a.navbar-brand"):
        brand.parent.name = "nav"
        brand.parent["aria-label"] = "Title page"


def _tables(page: BeautifulSoup) -> None:
    """An empty header cell is no header."""
    for cell in page.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"


def _scrolling(page: BeautifulSoup) -> None:
    """What scrolls sideways can be reached with the keyboard."""
    for block in page.select("div.highlight > pre, div.output pre"):
        block["tabindex"] = "0"


def _weight(page: BeautifulSoup) -> None:
    """Leave out what makes a long page heavy and tells nothing.

    Links carry their text without a wrapper, and where there are hundreds of headings, as in
    the glossary, none has a sign beside it that links to itself.
    """
    for wrapper in page.select("a.reference > span.std"):
        wrapper.unwrap()
    signs = page.select("h3 > a.headerlink")
    if len(signs) > MOST_SIGNS:
        for sign in signs:
            sign.decompose()


def _scripts(page: BeautifulSoup) -> None:
    """Load what draws formulas, diagrams, figures and search results only where these are.

    The theme's own script of icons goes everywhere: its style sheet brings the same icons as fonts.
    """
    for script in page.select("script[src]"):
        drawn = next((d for part, d in DRAWN_BY.items() if part in script["src"]), "html")
        if drawn is None or not page.select_one(drawn):
            script.decompose()


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text))


def _own_alignment(cell: Tag) -> bool:
    return any(name.startswith("text-") for name in cell.get("class", []))


def _numeric_columns(page: BeautifulSoup) -> None:
    """Set columns of numbers to the right, as the tables of results are.

    A column counts when each cell of its body is a number with or without a unit, or empty. One
    whose alignment the Markdown states keeps it.
    """
    for table in page.select(".bd-article table:not(.dataframe)"):
        body = [row.find_all(["td", "th"]) for row in table.select("tbody > tr")]
        heads = [row.find_all(["td", "th"]) for row in table.select("thead > tr")]
        if not body or len({len(row) for row in body + heads}) != 1:
            continue  # cells that span several columns
        for column in range(len(body[0])):
            cells = [row[column] for row in body]
            texts = [cell.get_text(" ", strip=True) for cell in cells]
            said = [text for text in texts if text not in _NOTHING]
            if not said or not all(map(_is_number, said)) or any(map(_own_alignment, cells)):
                continue
            for cell in cells + [row[column] for row in heads]:
                if "number" not in cell.get("class", []):
                    cell["class"] = [*cell.get("class", []), "number"]


def _stacked(page: BeautifulSoup) -> None:
    """Let a phone stack the cells of wide tables, each behind the name of its column.

    Wide are tables of so many columns, or of fewer where one but the first holds words. A stacked
    row is drawn as blocks, so that the roles of the table's parts have to be said.
    """
    for table in page.select(".bd-article table:not(.dataframe)"):
        head = [cell for row in table.select("thead > tr") for cell in row.find_all(["td", "th"])]
        body = [row.find_all(["td", "th"], recursive=False) for row in table.select("tbody > tr")]
        if not body or {len(row) for row in body} != {len(head)}:
            continue  # cells that span several columns
        words = any("number" not in cell.get("class", []) for cell in head[1:])
        if len(head) < (WORDY if words else WIDE):
            continue
        table["class"] = [*dict.fromkeys([*table.get("class", []), "stacks"])]
        table["role"] = "table"
        for part in table.select("thead, tbody"):
            part["role"] = "rowgroup"
        for row in table.select("tr"):
            row["role"] = "row"
        for cell in head:
            cell["role"] = "columnheader"
        for row in body:
            for cell, name in zip(row, head, strict=True):
                cell["role"] = "rowheader" if cell.name == "th" else "cell"
                if cell is not row[0]:
                    cell["data-label"] = " ".join(name.get_text(" ").split())


def _intervals(page: BeautifulSoup) -> None:
    """Keep an interval on one line: its bounds are one result."""
    for text in page.find_all(string=_INTERVAL):
        if not text.find_parent(["script", "style", "pre", "code", "title"]):
            text.replace_with(NavigableString(_INTERVAL.sub("[\\1,\u00a0\\2]", text)))


def _lowered(subject: str) -> str:
    """Return a subject with a small first letter, unless it begins with an abbreviation."""
    return subject[:1].lower() + subject[1:] if subject[1:2].islower() else subject


def _subject(fold: Tag) -> str:
    """Return what a folded result says that it is about: in italics or bold, or in a first line."""
    lead = fold.select_one(".cell_output p > :is(em, strong):first-child")
    if lead and not lead.previous_sibling and ":" in lead.get_text():
        return lead.get_text().partition(":")[0]
    printed = fold.select_one(".cell_output pre")
    first = printed.get_text().partition("\n")[0] if printed else ""
    return first[:-1] if first.endswith(":") and len(first) <= CAPTION else ""


def _folds(page: BeautifulSoup) -> None:
    """Let the bar of a folded cell say what is in it: a table by its caption, a figure, a result.

    The theme says of each that it holds code, though a reader opens it for what the code shows. A
    result that begins with its subject and a colon is named by that.
    """
    for fold in page.select(".tag_hide-cell > details.hide"):
        table = fold.select_one(".cell_output .casebook-table[aria-label]")
        if table:
            first = re.split(r"(?<=[^\d])\.(?:\s|$)", table["aria-label"], maxsplit=1)[0]
            inside = f"the table: {first}" if len(first) <= CAPTION else "the table"
        elif fold.select_one(".cell_output :is(img, svg, .casebook-plotly)"):
            inside = "the figure"
        elif fold.select_one(".cell_output"):
            subject = _subject(fold)
            inside = f"the result: {_lowered(subject)}" if subject else "the result"
        else:
            continue
        for name, verb in (("collapsed", "Show"), ("expanded", "Hide")):
            for label in fold.select(f":scope > summary > p.{name}"):
                label.string = f"{verb} {inside}"


#: The end of a page that has been mended; one that Sphinx writes again loses it.
MENDED = "\n<!-- mended -->\n"

MENDS = (
    _head,
    _labels,
    _landmarks,
    _tables,
    _scrolling,
    _weight,
    _scripts,
    _numeric_columns,
    _stacked,
    _intervals,
    _folds,
)


def mend(content: str) -> str:
    """Return a page with every mend applied."""
    page = BeautifulSoup(content, "html.parser")
    for step in MENDS:
        step(page)
    return re.sub(r"\A\s*", "", str(page))


def mend_file(path: Path) -> None:
    """Mend a page on disk, once: what is mended ends with a mark until it is written again."""
    before = path.read_text(encoding="utf-8")
    if not before.endswith(MENDED):
        path.write_text(mend(before) + MENDED, encoding="utf-8")
