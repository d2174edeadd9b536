"""What a reader would stumble over: spelling, links, typed results, long cells, bare claims.

Dead links and missing alternative texts are errors. The rest are warnings: they are
counted for each document, and ``tests/content_baseline.toml`` holds the counts, which
may only shrink.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

from casebook.author import files
from casebook.author.launch import BADGES_ID, COLAB_ID
from casebook.author.normalise import _diagram_faults
from casebook.author.scaffold import MARK
from casebook.page.figures import MIN_ALT_WORDS
from casebook.project import settings

BASELINE = "tests/content_baseline.toml"
BIBLIOGRAPHY = "book/references.bib"
TITLES = "book/bibliography.md"
GLOSSARY = "book/glossary.yml"
#: Checks whose findings are errors, and those whose findings are counted.
ERRORS = ("links", "alt text")
WARNINGS = ("spelling", "typed results", "prose ratio", "cell length", "sources", "terms")
#: Words of prose that a notebook has at least for each line of code.
LEAST_WORDS_A_LINE = 10
#: Lines of a cell that one still reads as a whole.
MOST_LINES = 20
#: A word that stands once is compared with those that stand this often.
OFTEN = 5
#: Letters of a word whose neighbours are seldom words.
LONG = 10
#: A percentage without its space; a name such as recall@1% keeps its own spelling.
_TIGHT_PER_CENT = re.compile(r"(?<![\w.,@])\d[\d.,]*%")
#: Tags of cells whose code a reader does not see before unfolding it.
_FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?\s?%|(?<![\w.])\d[\d,]*\.\d+(?![\w.]*\w)")
#: A level that one chooses, and a version, are no results.
_CHOSEN = re.compile(r"\d+(?:\.\d+)?\s?%\s+(?:confidence |prediction )?interval|Python 3\.\d+")
_CITED = re.compile(
    r"\b([A-Z][\w-]+)(?:\s+(?:and|&)\s+[A-Z][\w-]+|\s+et al\.)?,?\s+\(?((?:19|20)\d\d)\)"
)
#: Names before a year in brackets that are no authors.
_NO_AUTHOR = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
#: What a reader sees of a call: ``claim``'s sentence and these arguments.
_SHOWN = ("alt", "caption", "title", "xlabel", "ylabel")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes
    ----------
    check : str
        One of `ERRORS` or `WARNINGS`.
    document : str
        Path in the repository.
    where : str
        Id of a cell, or empty.
    what : str
        What is wrong and what to do.
    """

    check: str
    document: str
    where: str
    what: str

    def __str__(self) -> str:
        place = f"{self.document}, {self.where}" if self.where else self.document
        return f"{self.check}: {place}: {self.what}"


@dataclass(frozen=True)
class Block:
    """A piece of Markdown or a code cell."""

    where: str
    source: str
    code: bool = False
    folded: bool = False

    @cached_property
    def tokens(self) -> list[Token]:
        """Return the tokens of Markdown."""
        return _parser().parse(self.source)

    @cached_property
    def tree(self) -> ast.Module | None:
        """Return the syntax tree of code; None for what is not plain Python."""
        try:
            return ast.parse(re.sub(r"^\s*[%!].*$", "", self.source, flags=re.M))
        except SyntaxError:
            return None


@dataclass(frozen=True)
class Document:
    """A notebook or a page.

    Attributes
    ----------
    name : str
        Path in the repository.
    blocks : tuple of Block
        Without the cells that the normaliser writes.
    """

    name: str
    blocks: tuple[Block, ...]

    @property
    def prose(self) -> Iterator[Block]:
        """Yield the Markdown."""
        return (block for block in self.blocks if not block.code)

    @property
    def code(self) -> Iterator[Block]:
        """Yield the code."""
        return (block for block in self.blocks if block.code)


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, allow_digits=False)


def read(path: Path, root: Path) -> Document:
    """Read a notebook or a Markdown file."""
    name = path.relative_to(root).as_posix()
    if path.suffix == ".md":
        return Document(name, (Block("", path.read_text(encoding="utf-8")),))
    cells = [c for c in files.read(path).cells if c.get("id") not in (BADGES_ID, COLAB_ID)]
    blocks = (
        Block(c.get("id", ""), c.source, c.cell_type == "code", _FOLDED & set(_tags(c)) != set())
        for c in cells
    )
    return Document(name, tuple(blocks))


def _tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def documents(root: Path) -> list[Document]:
    """Return what is written by hand: chapters, solutions, pages, data cards, the two guides."""
    paths = files.notebooks("chapters", "solutions", root=root)
    for pattern in ("book/**/*.md", "data/*/README.md", "README.md", "CONTRIBUTING.md"):
        paths += sorted(p for p in root.glob(pattern) if "vendor" not in p.parts)
    return [read(path, root) for path in paths]


def _inline(tokens: list[Token], tables: bool = True) -> Iterator[Token]:
    """Yield the tokens within paragraphs, headings and (if wanted) tables."""
    inside = 0
    for token in tokens:
        inside += (token.type == "table_open") - (token.type == "table_close")
        if token.type == "inline" and (tables or not inside):
            yield token


def _text(token: Token) -> str:
    """Return the words of a paragraph, without code, formulas and markup."""
    parts = []
    for child in token.children or []:
        if child.type == "text":
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif child.type in ("code_inline", "math_inline"):
            parts.append(" § ")
    return "".join(parts)


def _shown_texts(tree: ast.Module | None) -> Iterator[str]:
    """Yield the texts of a cell that a reader sees: claims, captions, titles, labels."""
    for call in ast.walk(tree) if tree else ():
        if not isinstance(call, ast.Call):
            continue
        values = [k.value for k in call.keywords if k.arg in _SHOWN]
        if isinstance(call.func, ast.Name) and call.func.id == "claim":
            values += call.args[:1]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield re.sub(r"\{[^}]*\}|`[^`]*`", " § ", value.value)


def _readable(block: Block) -> Iterator[str]:
    """Yield every text of a block that a reader reads as prose."""
    if block.code:
        yield from _shown_texts(block.tree)
        return
    for token in block.tokens:
        if token.type == "inline":
            yield _text(token)
        elif token.type == "html_block":  # the summary of a fold
            yield BeautifulSoup(token.content, "html.parser").get_text(" ")


# Spelling


def word_lists() -> dict:
    """Return the project's word lists: misspelt and American words, and accepted ones."""
    path = Path(__file__).with_name("words.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if word.isascii()]


def _mistyped(word: str, meant: str) -> bool:
    """Say whether one slip of the fingers makes a word of another.

    A slip is two letters swapped or a letter doubled or not; in long words, whose neighbours
    are seldom words too, also one letter wrong, missing or too many. First and last two
    letters are left alone: *model* and *models*, *charge* and *charged* are words.
    """
    if word[0] != meant[0] or word[-2:] != meant[-2:] or abs(len(word) - len(meant)) > 1:
        return False
    short, long = sorted((word, meant), key=len)
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), -1)
    start = len(short) if start < 0 else start
    if len(short) < len(long):
        one_more = short[start:] == long[start + 1 :]
        doubled = long[start] == long[start - 1]
        return one_more and (doubled or len(meant) >= LONG)
    swapped = short[start : start + 2] == long[start : start + 2][::-1]
    if swapped and short[start + 2 :] == long[start + 2 :]:
        return True
    return len(meant) >= LONG and short[start + 1 :] == long[start + 1 :]


def _rare_neighbours(counts: Counter, accepted: set[str]) -> dict[str, str]:
    """Return, for words that stand once, the frequent word that was probably meant."""
    often: dict[tuple, list[str]] = {}
    for word, count in counts.items():
        if count >= OFTEN and len(word) >= 6:
            often.setdefault((word[0], word[-2:]), []).append(word)
    found = {}
    for word, count in counts.items():
        if count == 1 and len(word) >= 6 and word not in accepted:
            near = often.get((word[0], word[-2:]), [])
            if meant := next((w for w in near if _mistyped(word, w)), None):
                found[word] = meant
    return found


def spelling(found: list[Document]) -> Iterator[Finding]:
    """Yield misspelt, American, doubled and probably mistyped words.

    There is no dictionary: a list of common misspellings, and the project's own
    words. A word that stands once and is one slip away from a frequent one is doubtful
    until ``words.toml`` accepts it.
    """
    lists = word_lists()
    wrong, accepted = lists["misspelt"] | lists["american"], set(lists["accepted"])
    texts = [
        (document, block, text)
        for document in found
        if document.name != TITLES  # they are spelled as their authors spelled them
        for block in document.blocks
        for text in _readable(block)
    ]
    counts = Counter(word.lower() for *_, text in texts for word in _words(text))
    doubtful = _rare_neighbours(counts, accepted)
    for document, block, text in texts:
        for word in _words(text):
            if meant := wrong.get(word.lower()):
                yield Finding("spelling", document.name, block.where, f"{word!r}: {meant}?")
            elif word.islower() and (meant := doubtful.get(word)):
                what = f"{word!r}: {meant}? If it is right, words.toml accepts it"
                yield Finding("spelling", document.name, block.where, what)
        for match in re.finditer(r"\b([A-Za-z]{2,})\s+\1\b", text):
            if match[1].lower() not in ("had", "that"):
                yield Finding("spelling", document.name, block.where, f"{match[0]!r} twice")
        for match in _TIGHT_PER_CENT.finditer(text):
            what = f"{match[0]!r}: {match[0][:-1]} %, with a space"
            yield Finding("spelling", document.name, block.where, what)


# Links and alternative texts


def slug(heading: str) -> str:
    """Return the anchor that the book gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(document: Document) -> set[str]:
    """Return everything in a document that a link can point at."""
    found: Counter = Counter()
    names = set()
    for block in document.prose:
        for before, token in zip(block.tokens, block.tokens[1:], strict=False):
            if before.type == "heading_open":
                name = slug("".join(c.content for c in token.children or []))
                names.add(f"{name}-{found[name]}" if found[name] else name)
                found[name] += 1
        names |= set(re.findall(r"\bid=[\"']([^\"']+)", block.source))
        names |= set(re.findall(r"^\(([^()\s]+)\)=\s*$", block.source, flags=re.M))
    return names


def links(block: Block) -> Iterator[str]:
    """Yield the targets of the links and pictures of a piece of Markdown."""
    for token in block.tokens:
        if token.type in ("html_block", "html_inline"):
            yield from _html_links(token.content)
        for child in token.children or []:
            if target := child.attrGet("href") or child.attrGet("src"):
                yield str(target)
            elif child.type == "html_inline":
                yield from _html_links(child.content)


def _html_links(content: str) -> Iterator[str]:
    for tag in BeautifulSoup(content, "html.parser").find_all(True):
        if target := tag.get("href") or tag.get("src"):
            yield str(target)


def dead_links(found: list[Document], root: Path) -> Iterator[Finding]:
    """Yield links within the project that lead nowhere."""
    known: dict[Path, set[str] | None] = {}
    for document in found:
        here = (root / document.name).resolve()
        known[here] = _targets(document)
        for block in document.prose:
            for link in links(block):
                if fault := _link_fault(link, here, root, known):
                    yield Finding("links", document.name, block.where, fault)


def _targets(document: Document) -> set[str] | None:
    """Return the anchors of a document; None where a directive writes some of its own.

    The drill's directive does, and its tests check them.
    """
    own = any("```{drill} prompts" in block.source for block in document.prose)
    return None if own else anchors(document)


def _link_fault(
    link: str, here: Path, root: Path, known: dict[Path, set[str] | None]
) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
    if target != here and not (target.is_relative_to(root) and target.exists()):
        return f"{link!r} leads to no file"
    if not parts.fragment or target.suffix not in (".md", ".ipynb"):
        return None
    if target not in known:
        known[target] = _targets(read(target, root))
    if (there := known[target]) is None or unquote(parts.fragment) in there:
        return None
    return f"{link!r}: no heading has that anchor"


def missing_texts(found: list[Document]) -> Iterator[Finding]:
    """Yield pictures, figures and diagrams without an alternative text."""
    for document in found:
        for block in document.blocks:
            faults = _figure_faults(block) if block.code else _picture_faults(block)
            for fault in faults:
                yield Finding("alt text", document.name, block.where, fault)


def _picture_faults(block: Block) -> Iterator[str]:
    yield from _diagram_faults(block.source)
    for token in block.tokens:
        for child in token.children or []:
            if child.type == "image" and not child.content.strip():
                yield f"the picture {child.attrGet('src')!r} has no text"
        pieces = [token, *(token.children or [])]
        for piece in (p for p in pieces if p.type in ("html_block", "html_inline")):
            for image in BeautifulSoup(piece.content, "html.parser").find_all("img"):
                if image.get("alt") is None:
                    yield f"the picture {image.get('src')!r} has no text"


def _figure_faults(block: Block) -> Iterator[str]:
    for call in ast.walk(block.tree) if block.tree else ():
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        owner = call.func.value
        if call.func.attr != "show" or not isinstance(owner, ast.Name):
            continue
        if owner.id in ("plt", "fig", "figure"):
            yield f"{owner.id}.show() shows no text: use figures.show(figure, alt=…)"
        elif owner.id == "figures":
            given = [k.value for k in call.keywords if k.arg == "alt"] + call.args[1:2]
            if not given:
                yield "figures.show without alt"
            elif isinstance(given[0], ast.Constant):
                words = len(str(given[0].value).split())
                if words < MIN_ALT_WORDS:
                    yield f"an alternative text of {words} words ({MIN_ALT_WORDS} at least)"


# What is counted


def typed_results(found: list[Document]) -> Iterator[Finding]:
    """Yield percentages and decimals that are typed into the prose of a chapter.

    A result is printed by a claim. Tables are left out (requirements and facts), and
    so are code, formulas, levels of intervals and versions.
    """
    for document in found:
        if not document.name.startswith("chapters/"):
            continue
        for block in document.prose:
            for token in _inline(block.tokens, tables=False):
                for number in _NUMBER.findall(_CHOSEN.sub("", _text(token))):
                    what = f"{number.strip()!r} is typed: a result is printed by a claim"
                    yield Finding("typed results", document.name, block.where, what)


def _lines(source: str) -> int:
    return sum(1 for line in source.split("\n") if line.strip())


def prose_ratio(found: list[Document]) -> Iterator[Finding]:
    """Yield notebooks with fewer than ten words for each line of code in sight.

    Code for display is folded away and is not read (`hide-input`, `hide-cell`, `remove-…`).
    Those that are still to be written (`check` says what) are left out.
    """
    for document in found:
        if any(MARK in block.source for block in document.blocks):
            continue
        lines = sum(_lines(block.source) for block in document.code if not block.folded)
        if not lines:
            continue
        words = sum(
            len(_WORD.findall(text)) for block in document.blocks for text in _readable(block)
        )
        if words < LEAST_WORDS_A_LINE * lines:
            what = f"{words / lines:.1f} words for a line of code ({LEAST_WORDS_A_LINE} at least)"
            yield Finding("prose ratio", document.name, "", what)


def long_cells(found: list[Document]) -> Iterator[Finding]:
    """Yield cells of more than twenty lines."""
    for document in found:
        for block in document.code:
            if (lines := _lines(block.source)) > MOST_LINES:
                what = f"{lines} lines: at most {MOST_LINES}, longer code lives in the package"
                yield Finding("cell length", document.name, block.where, what)


def bibliography(root: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Return addresses and (surname, year) of the entries of the bibliography."""
    path = root / BIBLIOGRAPHY
    if not path.is_file():
        return set(), set()
    from pybtex.database import parse_file

    addresses, names = set(), set()
    for entry in parse_file(str(path), "bibtex").entries.values():
        if url := entry.fields.get("url"):
            addresses.add(url.rstrip("/"))
        if doi := entry.fields.get("doi"):
            addresses.add(f"https://doi.org/{doi}")
        if arxiv := entry.fields.get("eprint"):
            addresses.add(f"https://arxiv.org/abs/{arxiv}")
        for person in entry.persons.get("author", []):
            surname = re.sub(r"[{}]", "", " ".join(person.last_names))
            year = entry.fields.get("year", "")
            names |= {(surname, year), (surname.split()[-1], year)}
    return addresses, names


def uncited_sources(found: list[Document], root: Path) -> Iterator[Finding]:
    """Yield addresses and authors with a year that the bibliography does not have."""
    addresses, names = bibliography(root)
    ours = (settings()["repository"].rstrip("/"), "https://mybinder.org", "https://colab.research")
    for document in found:
        for block in document.prose:
            for link in links(block):
                known = link.rstrip("/") in addresses or link.startswith(ours)
                if urlsplit(link).netloc and not known:
                    what = f"{link} is not in {BIBLIOGRAPHY}"
                    yield Finding("sources", document.name, block.where, what)
            for token in _inline(block.tokens):
                for match in _CITED.finditer(_text(token)):
                    if _NO_AUTHOR.fullmatch(match[1]) or match.groups() in names:
                        continue
                    what = f"{match[0]!r} is not in {BIBLIOGRAPHY}"
                    yield Finding("sources", document.name, block.where, what)


def glossary_anchors(root: Path) -> dict[str, set[str]]:
    """Return, for the anchor of each name in the glossary, all anchors of its entry."""
    path = root / GLOSSARY
    if not path.is_file():
        return {}
    import yaml

    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["terms"]
    anchors_of = [{slug(name) for name in [e["term"], *e.get("also", [])]} for e in entries]
    return {anchor: group for group in anchors_of for anchor in group}


def _bold(tokens: list[Token]) -> Iterator[str]:
    """Yield what is set in bold within paragraphs."""
    for token in _inline(tokens, tables=False):
        inside = 0
        parts: list[str] = []
        for child in token.children or []:
            inside += child.type == "strong_open"
            if inside and child.type in ("text", "softbreak"):
                parts.append(child.content or " ")
            if child.type == "strong_close":
                inside -= 1
                yield "".join(parts).strip(" .:,?")
                parts = []


def unlinked_terms(found: list[Document], root: Path) -> Iterator[Finding]:
    """Yield terms of the glossary that a chapter sets in bold, and so explains, without a link.

    One link to the entry anywhere in the chapter is enough.
    """
    entries = glossary_anchors(root)
    for document in found:
        if not document.name.startswith("chapters/"):
            continue
        targets = {link for block in document.prose for link in links(block)}
        linked = {link.partition("#")[2] for link in targets if "glossary.md#" in link}
        for block in document.prose:
            for phrase in _bold(block.tokens):
                anchor = slug(phrase)
                if anchor in entries and not linked & entries[anchor]:
                    linked.add(anchor)
                    what = f"{phrase!r} is explained: link it to ../book/glossary.md#{anchor}"
                    yield Finding("terms", document.name, block.where, what)


def findings(root: Path) -> list[Finding]:
    """Return everything that the checks find in a checkout, errors first."""
    found = documents(root)
    root = root.resolve()
    return [
        *dead_links(found, root),
        *missing_texts(found),
        *spelling(found),
        *typed_results(found),
        *prose_ratio(found),
        *long_cells(found),
        *uncited_sources(found, root),
        *unlinked_terms(found, root),
    ]


# The baseline

Counts = dict[str, dict[str, int]]


def counts(found: list[Finding]) -> Counts:
    """Return the number of warnings by check and document."""
    number = Counter((f.check, f.document) for f in found if f.check in WARNINGS)
    result: Counts = {}
    for check in WARNINGS:
        of_check = {name: n for (c, name), n in sorted(number.items()) if c == check}
        if of_check:
            result[check] = of_check
    return result


def read_baseline(root: Path) -> Counts:
    """Return the counts that were accepted.

    Raises
    ------
    ValueError
        If it names a check that there is not.
    """
    path = root / BASELINE
    baseline = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if unknown := sorted(set(baseline) - set(WARNINGS)):
        raise ValueError(f"{BASELINE} names {', '.join(unknown)}; the checks are {WARNINGS}.")
    return baseline


def grown(now: Counts, baseline: Counts) -> list[str]:
    """Return where there are more warnings than the baseline accepts."""
    return [
        f"{check}: {name}: {number}, accepted {baseline.get(check, {}).get(name, 0)}"
        for check, names in now.items()
        for name, number in names.items()
        if number > baseline.get(check, {}).get(name, 0)
    ]


def shrunk(now: Counts, baseline: Counts) -> list[str]:
    """Return where the baseline may be lowered."""
    return [
        f"{check}: {name}: {now.get(check, {}).get(name, 0)}, accepted {accepted}"
        for check, names in baseline.items()
        for name, accepted in names.items()
        if now.get(check, {}).get(name, 0) < accepted
    ]


def lower(now: Counts, baseline: Counts) -> Counts:
    """Return the baseline with every count that shrank; none is raised, none is added."""
    result: Counts = {}
    for check, names in baseline.items():
        kept = {
            name: number
            for name, accepted in names.items()
            if (number := min(accepted, now.get(check, {}).get(name, 0)))
        }
        if kept:
            result[check] = kept
    return result


def write_baseline(root: Path, baseline: Counts) -> None:
    """Write the accepted counts."""
    lines = [
        "# Warnings that were accepted, by check and document: a count may only shrink.",
        "# `make content` shows them; `python -m casebook.author content --lower` lowers this.",
    ]
    for check in WARNINGS:
        if names := baseline.get(check):
            lines += ["", f'["{check}"]']
            lines += [f'"{name}" = {number}' for name, number in sorted(names.items())]
    (root / BASELINE).write_text("\n".join(lines) + "\n", encoding="utf-8")
