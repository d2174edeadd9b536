"""What search engines and link previews read of the built book."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from casebook.book import publish
from casebook.book.__main__ import toc_files
from casebook.project import require_checkout

ROOT = require_checkout()
HTML = ROOT / "_build" / "html"
PAGES = toc_files(ROOT)
SITE = yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
GRAPH = ("title", "description", "type", "url", "site_name", "image", "image:alt")


def address(monkeypatch, **settings: str) -> str:
    monkeypatch.setattr(publish, "settings", lambda: settings)
    return publish.public_address()


def test_the_public_address(monkeypatch):
    github = "https://github.com/Some-Owner/name/"
    assert address(monkeypatch, repository=github) == "https://some-owner.github.io/name/"
    own = "https://book.example.org"
    assert address(monkeypatch, repository=github, book=own) == f"{own}/"
    for wrong in ("https://example.org/a/b", "https://github.com/owner"):
        with pytest.raises(ValueError, match="set `book` there"):
            address(monkeypatch, repository=wrong)


LONG = "A sentence of exactly so many words that it says something about the page."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"<p>{LONG} Another one.</p>", f"{LONG} Another one."),
        (f"<p>{LONG} {LONG} {LONG}</p>", f"{LONG} {LONG}"),
        (f"<h1>No</h1><p>Too short.</p><p>{LONG}</p>", LONG),
        (f"<p>A <b>bold</b>\n <code>x &lt; y</code>. {LONG}</p>", f"A bold x < y. {LONG}"),
        (f'<p>{LONG} <span class="math">x</span></p><p>{LONG}</p>', LONG),
        ("<p>Short one here.</p>", ""),
    ],
)
def test_descriptions_are_whole_sentences(body, expected):
    assert publish.description(body) == expected


@pytest.mark.parametrize("body", [f"<p>{'word ' * 60}</p>", f"<p>Short. {'word ' * 60}</p>"])
def test_a_sentence_that_is_too_long_ends_at_a_word(body):
    found = publish.description(body)
    assert found.endswith("word …")
    assert 140 <= len(found) <= publish.DESCRIPTION_LENGTHS[1]


def test_tags_are_escaped():
    shown = publish.tags('A "quoted" <title>', "x & y", "https://e.org/", "Book", root=False)
    page = BeautifulSoup(shown, "html.parser")
    assert page.find("meta", property="og:title")["content"] == 'A "quoted" <title>'
    assert page.find("meta", {"name": "description"})["content"] == "x & y"
    assert not page.find("title")


def test_the_card_is_small_and_the_same_every_time():
    one = publish.card("The title", "The subtitle")
    assert one == publish.card("The title", "The subtitle") != publish.card("Another", "")
    assert len(one) <= 40_000
    assert Image.open(io.BytesIO(one)).size == publish.CARD_SIZE


# The built book


def content(page: BeautifulSoup, found: list[str], **attributes: str) -> str:
    """Return the content of one meta element; note where there is not just one."""
    elements = page.find_all("meta", attributes)
    what = next(iter(attributes.values()))
    if len(elements) != 1:
        found.append(f"{len(elements)} times {what}")
        return ""
    return elements[0]["content"]


def faults(pages: dict[str, str]) -> list[str]:
    """Return what is wrong with the heads of the given pages."""
    found, every = [], {"description": Counter(), "og:title": Counter(), "canonical": Counter()}
    least, most = publish.DESCRIPTION_LENGTHS
    for name, text in pages.items():
        page, here = BeautifulSoup(text, "html.parser"), []
        about = content(page, here, name="description")
        graph = {key: content(page, here, property=f"og:{key}") for key in GRAPH}
        if not least <= len(about) <= most:
            here.append(f"a description of {len(about)} characters")
        if re.search(r"[<>]|\\\(|\$|\*\*|`", about):
            here.append("markup in the description")
        if graph["description"] != about:
            here.append("another description for previews")
        canonical = [link["href"] for link in page.find_all("link", rel="canonical")]
        if canonical != [f"{publish.public_address()}{name}.html"]:
            here.append(f"the canonical address is {canonical}")
        if graph["url"] != "".join(canonical):
            here.append("another address for previews")
        image = graph["image"].removeprefix(publish.public_address())
        if not (HTML / image).is_file():
            here.append(f"the picture {image!r} is not there")
        heading = page.find("h1").find(string=True, recursive=False)
        if graph["site_name"] != SITE:
            here.append(f"the site is called {graph['site_name']!r}")
        icons = [link["href"] for link in page.find_all("link", rel="icon")]
        if [(HTML / name).parent.joinpath(icon).is_file() for icon in icons] != [True]:
            here.append(f"the icons are {icons}")
        if bool(page.find("script", src=re.compile("mathjax"))) != bool(page.select(".math")):
            here.append("MathJax without a formula, or a formula without MathJax")
        if graph["title"] != str(heading).strip():
            here.append(f"the title {graph['title']!r} is not that of the page")
        found += [f"{name}: {fault}" for fault in here]
        for key, value in (("description", about), ("og:title", graph["title"])):
            every[key][value] += 1
    found += [
        f"{number} pages with the {key} {value!r}"
        for key, values in every.items()
        for value, number in values.items()
        if number > 1
    ]
    return found


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    assert (HTML / f"{PAGES[0]}.html").is_file(), "no book is there: run `make book` first"
    return {name: (HTML / f"{name}.html").read_text() for name in PAGES}


def test_every_page_has_its_description_preview_and_address(pages):
    assert faults(pages) == []


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"),
    [
        (r'<meta content="[^"]*" name="description"/>', "", "0 times description"),
        (r'<meta content="[^"]*" name="description"/>', r"\g<0>\g<0>", "2 times description"),
        (r'content="[^"]*" name="description"', 'content="Short" name="description"', "of 5 char"),
        (r'(content="[^"]{20})([^"]*" name="description")', r"\1 `code`\2", "markup in the desc"),
        (r'(content="[^"]{20})([^"]*" property="og:desc)', r"\1 more \2", "another description"),
        (r'<link href="[^"]*" rel="canonical"/>', "", "the canonical address is []"),
        (r'(<link href="[^"]*)(" rel="canonical"/>)', r"\1x\2", "another address for previews"),
        (r'social-card.png" property="og:image"', 'gone.png" property="og:image"', "is not there"),
        (r'content="[^"]*" property="og:title"', 'content="X" property="og:title"', "title 'X'"),
        (
            r'content="[^"]*" property="og:site_name"',
            'content="Project name not set" property="og:site_name"',
            "the site is called 'Project name not set'",
        ),
        (r'<link href="[^"]*" rel="icon"/>', "", "the icons are []"),
        (r'favicon.svg" rel="icon"', 'gone.svg" rel="icon"', "gone.svg"),
        (r"</head>", '<script src="mathjax/tex-svg.js"></script></head>', "MathJax without"),
    ],
)
def test_gate_planted_faults(pages, pattern, replacement, expected):
    formula = 'class="math' in pages[PAGES[1]]
    name = PAGES[0] if "MathJax" in expected and formula else PAGES[1]
    changed = re.sub(pattern, replacement, pages[name], count=1, flags=re.S)
    assert changed != pages[name]
    assert any(expected in fault for fault in faults({name: changed}))


def test_gate_two_pages_with_one_description(pages):
    twice = dict.fromkeys(PAGES[:2], pages[PAGES[0]])
    assert any(fault.startswith("2 pages with the description") for fault in faults(twice))


def test_the_icon_is_a_small_drawing():
    icon = (HTML / "_static" / "favicon.svg").read_bytes()
    assert len(icon) < 1_000
    assert ElementTree.fromstring(icon).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_sitemap_lists_every_page_and_nothing_else():
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    tree = ElementTree.fromstring((HTML / "sitemap.xml").read_text())
    listed = [place.text for place in tree.iter(f"{space}loc")]
    base = publish.public_address()
    assert sorted(listed) == sorted(f"{base}{name}.html" for name in PAGES)
    assert all((HTML / place.removeprefix(base)).is_file() for place in listed)


def test_robots_may_read_everything_and_find_the_sitemap():
    lines = (HTML / "robots.txt").read_text().splitlines()
    assert lines == [
        "User-agent: *",
        "Allow: /",
        "",
        f"Sitemap: {publish.public_address()}sitemap.xml",
    ]


def test_the_card_is_the_built_one():
    built = (HTML / publish.CARD).read_bytes()
    assert Image.open(io.BytesIO(built)).size == publish.CARD_SIZE
    assert len(built) <= 40_000
