"""The glossary: ``book/glossary.yml`` holds it, ``book/glossary.md`` is written from it.

The page is committed, so that a link to a term leads to its definition in the book, in
JupyterLab and in a repository viewer alike. ``python -m casebook.book.reference`` writes it.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import jsonschema
from docutils import nodes

from casebook.author.content import slug
from casebook.book import cases, drill_prompts
from casebook.book.reading import read_yaml

SOURCE = Path("book") / "glossary.yml"
PAGE = Path("book") / "glossary.md"
#: Whom a term concerns, as it is written in the file and on the page.
ROLES = ("ML", "DS", "LLM", "platform")
#: Words of a definition: fewer explain nothing, more belong into a chapter.
LEAST_WORDS, MOST_WORDS = 4, 75
MOST_SENTENCES = 4

_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["term", "roles", "see", "text"],
    "properties": {
        "term": {"type": "string", "minLength": 2},
        "also": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        "roles": {"type": "array", "minItems": 1, "items": {"enum": list(ROLES)}},
        "see": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        "text": {"type": "string", "minLength": 1},
    },
}

_HEAD = """\
---
tocdepth: 2
---

<!-- Written from book/glossary.yml by `python -m casebook.book.reference`: edit that file. -->

# Glossary

Every term of the book in one to three sentences, each with the place where it is used or
explained. Each concept has one *owner*, the chapter that explains it; a chapter that is named
without a link is in preparation.

An entry ends with the roles that meet the term first: **ML** engineers, data scientists (**DS**),
**LLM** engineers, or those who run the **platform**. To find a term, use the search of the book or
that of your browser; an entry also lists the other names of its term.
"""


def read(root: Path) -> dict:
    """Return ``terms`` (a list of entries) and ``sources`` (names that must be covered)."""
    return read_yaml(root / SOURCE)


def order(term: str) -> str:
    """Return what terms are sorted by: letters and digits, without case."""
    return re.sub(r"[^a-z0-9]", "", term.casefold())


def plain(name: str) -> str:
    """Return a name as it is compared: lower case, one blank between words."""
    return re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()


def names(entry: dict) -> list[str]:
    """Return the term and its other names."""
    return [entry["term"], *entry.get("also", [])]


def faults(glossary: dict, known: dict[str, str]) -> list[str]:
    """Return what is wrong with a glossary; an empty list when nothing is.

    Parameters
    ----------
    glossary : dict
        As `read` returns it.
    known : dict of str
        Cases by number or letter, as `casebook.book.cases.stems` returns them.
    """
    found, seen = [], {}
    validator = jsonschema.Draft202012Validator(_SCHEMA)
    entries = glossary["terms"]
    for entry in entries:
        where = entry.get("term", "?")
        if broken := list(validator.iter_errors(entry)):
            found += [f"{where}: {error.message}" for error in broken]
            continue
        text = entry["text"].strip()
        words = len(text.split())
        if not LEAST_WORDS <= words <= MOST_WORDS:
            found.append(f"{where}: {words} words ({LEAST_WORDS} to {MOST_WORDS})")
        if len(re.findall(r"[.?!](?:\s|$)", text)) > MOST_SENTENCES:
            found.append(f"{where}: more than {MOST_SENTENCES} sentences")
        if not re.search(r"[.?!*)]$", text):
            found.append(f"{where}: the definition does not end as a sentence does")
        for name in names(entry):
            if other := seen.get(slug(name)):
                found.append(f"{where}: {name!r} stands in {other} already")
            seen[slug(name)] = where
        for place in entry["see"]:
            head = place.partition("#")[0]
            if (head[0].isdigit() or len(head) == 1) and head not in known:
                found.append(f"{where}: there is no case {head!r}")
    sorted_terms = sorted((e["term"] for e in entries if "term" in e), key=order)
    for entry, right in zip(entries, sorted_terms, strict=True):
        if entry["term"] != right:
            found.append(f"not in alphabetical order: {entry['term']}, where {right} belongs")
            break
    covered = {plain(name) for entry in entries if "term" in entry for name in names(entry)}
    for source, wanted in glossary["sources"].items():
        found += [
            f"{source}: {name!r} has no entry" for name in wanted if plain(name) not in covered
        ]
    return found


def _label(anchor: str) -> str:
    return anchor.replace("-", " ")


def _place(place: str, known: dict[str, str]) -> str:
    """Return the Markdown of one place: a link to what is there, a role for what comes."""
    head, _, anchor = place.partition("#")
    target = f"#{anchor}" if anchor else ""
    if head not in known:
        name = f"{head}: {_label(anchor)}" if anchor else head
        return f"[{name}]({head}.md{target})"
    stem = known[head]
    if anchor:  # a section can only be named once it is there
        name = drill_prompts.chapter_name(stem)
        return f"[{name}: {_label(anchor)}](../{cases.page(stem)}.ipynb{target})"
    return f"{{owner}}`{head}`"


def _entry(entry: dict, known: dict[str, str]) -> str:
    is_case = [place.partition("#")[0] in known for place in entry["see"]]
    owner = is_case.index(True) if any(is_case) else None
    also = [place for k, place in enumerate(entry["see"]) if k != owner]
    parts = []
    if others := entry.get("also"):
        anchored = [f'<a id="{slug(other)}"></a>{other}' for other in others]
        parts.append(f"*Also:* {', '.join(anchored)}.")
    if owner is not None:
        parts.append(f"*Owner:* {_place(entry['see'][owner], known)}.")
    if also:
        parts.append(f"*See* {', '.join(_place(place, known) for place in also)}.")
    parts.append(f"**{', '.join(entry['roles'])}**")
    term = entry["term"]
    # Sphinx gives a heading an id of its own making; a link from elsewhere uses the slug.
    anchor = "" if nodes.make_id(term) == slug(term) else f'<a id="{slug(term)}"></a>'
    return f"### {term}\n\n{anchor}{entry['text'].strip()}\\\n{' '.join(parts)}\n"


def page(root: Path) -> str:
    """Return the Markdown of the page.

    Raises
    ------
    ValueError
        With every fault of the glossary.
    """
    glossary, known = read(root), cases.stems(root)
    if wrong := faults(glossary, known):
        raise ValueError(f"{SOURCE} has faults:\n" + "\n".join(wrong))
    parts = [_HEAD]
    for letter, group in groupby(glossary["terms"], key=lambda e: order(e["term"])[0].upper()):
        parts.append(f"## {letter if letter.isalpha() else '0–9'}\n")
        parts += [_entry(entry, known) for entry in group]
    return "\n".join(parts)
