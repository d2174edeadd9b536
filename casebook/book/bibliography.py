"""The bibliography: ``book/references.bib`` holds it, ``book/bibliography.md`` is written from it.

Each entry has an anchor, its key, so that a page or a chapter links to
``../book/bibliography.md#elkan2001``. ``python -m casebook.book.reference`` writes the page.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from urllib.parse import urlsplit

from pybtex.database import BibliographyData, Entry, Person, parse_file

SOURCE = Path("book") / "references.bib"
PAGE = Path("book") / "bibliography.md"
#: What an entry of a kind has to say besides title and year, and besides author or editor.
REQUIRED = {
    "article": ("journal", "volume"),
    "inproceedings": ("booktitle",),
    "book": ("publisher",),
    "techreport": ("institution",),
    "misc": ("howpublished",),
}
FIRST_YEAR, LAST_YEAR = 1925, 2026
#: More authors are cut on the page after the first.
MOST_AUTHORS = 6
_DOI = re.compile(r"10\.\d{4,9}/[^\s{}\"]+")
_ARXIV = re.compile(r"\d{4}\.\d{4,5}")
_PAGES = re.compile(r"[A-Z]?\d+(?:--[A-Z]?\d+)?")
_KEY = re.compile(r"[a-z]+\d{4}[a-z]?")

_HEAD = """\
<!-- Written from book/references.bib by `python -m casebook.book.reference`: edit that file. -->

# Bibliography

The sources that the book relies on, in alphabetical order. Each entry says where it was published,
with a DOI, an address or pages, so that you can look it up.
"""


def read(root: Path) -> BibliographyData:
    """Return the entries of a checkout."""
    return parse_file(str(root / SOURCE), "bibtex")


def _plain(text: str) -> str:
    return re.sub(r"[{}]", "", text)


def _surname(person: Person) -> str:
    return _plain(" ".join([*person.prelast_names, *person.last_names]))


def ascii_letters(name: str) -> str:
    """Return a name in lower-case letters without accents: ``Bärtschi`` becomes ``bartschi``."""
    plain = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ł", "l"))
    return re.sub(r"[^a-z]", "", plain.casefold())


def _people(entry: Entry) -> list[Person]:
    return entry.persons.get("author") or entry.persons.get("editor") or []


def isbn_is_valid(isbn: str) -> bool:
    """Return whether the check digit of an ISBN of 13 digits is right."""
    digits = [int(d) for d in isbn if d.isdigit()]
    return len(digits) == 13 and sum(d * (1, 3)[k % 2] for k, d in enumerate(digits)) % 10 == 0


def entry_faults(key: str, entry: Entry) -> list[str]:
    """Return what is wrong with the form of an entry."""
    fields, found = entry.fields, []
    people = _people(entry)
    year = fields.get("year", "")
    missing = [f for f in ("title", "year", *REQUIRED.get(entry.type, ())) if not fields.get(f)]
    if entry.type not in REQUIRED:
        found.append(f"{entry.type!r} is none of {', '.join(REQUIRED)}")
    if not people:
        missing.append("author")
    if missing:
        found.append(f"has no {', '.join(missing)}")
    if year and not (year.isdigit() and FIRST_YEAR <= int(year) <= LAST_YEAR):
        found.append(f"the year {year!r} is no year from {FIRST_YEAR} to {LAST_YEAR}")
    if people and not _KEY.fullmatch(key):
        found.append("the key is not of the form elkan2001")
    elif people and year:
        first = people[0]
        allowed = {ascii_letters(_surname(first)), ascii_letters(" ".join(first.last_names))}
        if not any(key.startswith(f"{name}{year}") for name in allowed):
            found.append(f"the key does not name {_surname(first)} and {year}")
    if (doi := fields.get("doi")) is not None and not _DOI.fullmatch(doi):
        found.append(f"{doi!r} is no DOI")
    if (arxiv := fields.get("eprint")) is not None and not _ARXIV.fullmatch(arxiv):
        found.append(f"{arxiv!r} is no number of arXiv")
    if (isbn := fields.get("isbn")) is not None and not isbn_is_valid(isbn):
        found.append(f"{isbn!r} is no ISBN: its check digit is wrong")
    if (pages := fields.get("pages")) is not None and not _PAGES.fullmatch(pages):
        found.append(f"pages {pages!r} are not of the form 12--34")
    elif pages and "--" in pages:
        first_page, last_page = (int(re.sub(r"\D", "", p)) for p in pages.split("--"))
        if last_page < first_page:
            found.append(f"pages {pages} run backwards")
    if (url := fields.get("url")) is not None:
        parts = urlsplit(url)
        if parts.scheme != "https" or "." not in parts.netloc:
            found.append(f"{url!r} is no address that begins with https")
    if not any(fields.get(f) for f in ("doi", "eprint", "url", "isbn", "pages")):
        found.append(
            "has neither DOI, arXiv number, address, ISBN nor pages: it cannot be looked up"
        )
    return [f"{key}: {fault}" for fault in found]


def faults(data: BibliographyData) -> list[str]:
    """Return what is wrong with a bibliography; an empty list when nothing is."""
    found = [fault for key, entry in data.entries.items() for fault in entry_faults(key, entry)]
    for field in ("doi", "eprint", "isbn", "title"):
        seen: dict[str, str] = {}
        for key, entry in data.entries.items():
            if value := entry.fields.get(field, "").casefold():
                if value in seen:
                    found.append(f"{key}: {field} stands in {seen[value]} already")
                seen[value] = key
    keys = list(data.entries)
    if keys != sorted(keys):
        wrong = next(a for a, b in zip(keys, sorted(keys), strict=True) if a != b)
        found.append(f"not in alphabetical order: {wrong}")
    return found


def _name(person: Person) -> str:
    initials = [
        "-".join(f"{part[0]}." for part in name.split("-"))
        for name in [*person.first_names, *person.middle_names]
    ]
    return " ".join([*initials, _surname(person)])


def _authors(entry: Entry) -> str:
    people = [_name(person) for person in _people(entry)]
    if len(people) > MOST_AUTHORS:
        listed = f"{people[0]} and {len(people) - 1} others"
    elif len(people) > 1:
        listed = f"{', '.join(people[:-1])} and {people[-1]}"
    else:
        listed = people[0]
    return f"{listed} (eds)" if "author" not in entry.persons else listed


def _venue(entry: Entry) -> str:
    fields = {name: _plain(value) for name, value in entry.fields.items()}
    pages = fields.get("pages", "").replace("--", "–")
    match entry.type:
        case "article":
            number = f"({fields['number']})" if "number" in fields else ""
            where = f"*{fields['journal']}* {fields['volume']}{number}"
        case "inproceedings":
            where = f"In *{fields['booktitle']}*"
        case "book":
            edition = f"{fields['edition']} edition, " if "edition" in fields else ""
            where = f"{edition}{fields['publisher']}"
        case "techreport":
            where = f"{fields['institution']}, {fields.get('number', 'report')}"
        case _:
            where = fields["howpublished"]
    return f"{where}, {pages}" if pages else where


def _links(entry: Entry) -> str:
    fields, found = entry.fields, []
    if doi := fields.get("doi"):
        found.append(f"[doi:{doi}](https://doi.org/{doi})")
    if arxiv := fields.get("eprint"):
        found.append(f"[arXiv:{arxiv}](https://arxiv.org/abs/{arxiv})")
    if isbn := fields.get("isbn"):
        found.append(f"ISBN {isbn}")
    if url := fields.get("url"):
        found.append(f"[{urlsplit(url).netloc}]({url})")
    return ", ".join(found)


def line(key: str, entry: Entry) -> str:
    """Return the Markdown of an entry, with its key as the anchor."""
    parts = [f"{_authors(entry)} ({entry.fields['year']})", _plain(entry.fields["title"])]
    stop = "" if parts[1][-1] in "?!" else "."
    links = f" {found}." if (found := _links(entry)) else ""
    return f'- <a id="{key}"></a>{parts[0]}. {parts[1]}{stop} {_venue(entry)}.{links}'


def page(root: Path) -> str:
    """Return the Markdown of the page.

    Raises
    ------
    ValueError
        With every fault of the bibliography.
    """
    data = read(root)
    if wrong := faults(data):
        raise ValueError(f"{SOURCE} has faults:\n" + "\n".join(wrong))
    parts, letter = [_HEAD], ""
    for key, entry in data.entries.items():
        if key[0] != letter:
            letter = key[0]
            parts.append(f"\n## {letter.upper()}\n\n")
        parts.append(line(key, entry) + "\n")
    return "".join(parts)
