"""How pages of ``book/`` name cases: a link when the case is in the book, words when it is not.

Two roles take the number of a chapter or the letter of a capstone. ``{case}`12``` marks a
case that is not published as *in preparation*; ``{owner}`12``` leaves the mark out, for pages
that say once what a name without a link means. No page has to be edited when a case joins.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from casebook.book import drill_prompts
from casebook.book.reading import read_yaml

#: Words of a file's name that are not written in lower case.
_WRITTEN = {"ab": "A/B", "aml": "AML", "eta": "ETA", "llm": "LLM", "rag": "RAG"}
GUIDE = "00_how_a_case_works"


def stems(root: Path) -> dict[str, str]:
    """Return the name of every case by its number or letter, in the order of the book."""
    names = [GUIDE, *drill_prompts.chapters(drill_prompts.read_index(root))]
    return {name.partition("_")[0]: name for name in names}


def written(stem: str) -> str:
    """Return how a case is written: ``chapter 07, subscription churn``.

    Parameters
    ----------
    stem : str
        The name of its files.
    """
    words = [_WRITTEN.get(word, word) for word in stem.split("_")[1:]]
    return f"{drill_prompts.chapter_name(stem)}, {' '.join(words)}"


def page(stem: str) -> str:
    """Return the document of a case: capstones stand in ``exercises/``."""
    return f"{'chapters' if stem[0].isdigit() else 'exercises'}/{stem}"


def is_there(stem: str, documents: Collection[str]) -> bool:
    """Return whether a case is among the documents of the book."""
    return page(stem) in documents


# The case that is nearest to one that is not there


def _patterns(root: Path) -> dict[str, set[str]]:
    """Return the patterns of each case, from the tables of ``book/patterns.md``."""
    found: dict[str, set[str]] = {}
    names = stems(root)
    path = root / "book" / "patterns.md"
    for row in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        pattern = re.match(r"\| \[([^\]]+)\]", row)
        for number in re.findall(r"\{owner\}`(\w+)`", row) if pattern else ():
            found.setdefault(names[number], set()).add(pattern[1].lower())
    return found


def _strings(value: object) -> Iterable[str]:
    """Yield every text in a prompt."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


@dataclass(frozen=True)
class _Term:
    """The names of a term, and what finds any of them as a word."""

    names: tuple[str, ...]
    words: re.Pattern

    def is_in(self, text: str) -> bool:
        # Most texts hold most names nowhere, which is known ten times as fast without the pattern.
        return any(name in text for name in self.names) and bool(self.words.search(text))


def _glossary(root: Path) -> dict[str, _Term]:
    """Return the terms of the glossary."""
    path = root / "book" / "glossary.yml"
    if not path.is_file():
        return {}
    entries = read_yaml(path)["terms"]
    found = {}
    for entry in entries:
        names = tuple(name.lower() for name in (entry["term"], *entry.get("also", [])))
        words = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})s?(?!\w)")
        found[entry["term"]] = _Term(names, words)
    return found


def ideas(root: Path) -> dict[str, set[str]]:
    """Return what each case is about: its part, its patterns, the terms of its prompt."""
    index = drill_prompts.read_index(root)
    prompts, patterns = drill_prompts.read_prompts(root, index), _patterns(root)
    glossary = _glossary(root)
    found = {}
    for part in index["parts"]:
        for stem in part["chapters"]:
            text = "\n".join(_strings(prompts.get(stem, {}))).lower()
            terms = {name for name, term in glossary.items() if term.is_in(text)}
            found[stem] = {part["title"]} | patterns.get(stem, set()) | terms
    return found


def nearest(about: dict[str, set[str]], there: Collection[str]) -> dict[str, str]:
    """Return, for each case that is not there, the chapter that shares most with it.

    An idea that few cases have counts more than one that many have: each counts the
    logarithm of the number of cases for each one that has it, and the sum is divided by
    the root of how much the chapter has, so that a long one has no advantage.

    Parameters
    ----------
    about : dict
        The ideas of each case, in the order of the book.
    there : collection of str
        The chapters of the book. None means that there is nothing to read instead.

    Returns
    -------
    dict
        From the name of a case to that of the chapter. Cases that share nothing with any
        chapter are left out.
    """
    counts = Counter(idea for case in about.values() for idea in case)
    weight = {idea: math.log(len(about) / count) for idea, count in counts.items()}

    def closeness(one: set[str], other: set[str]) -> float:
        return sum(weight[i] for i in one & other) / (sum(weight[i] for i in other) or 1) ** 0.5

    found = {}
    chapters = [stem for stem in about if stem in there]
    for stem, its in about.items():
        if stem in there or not chapters:
            continue
        best = max(chapters, key=lambda other: closeness(its, about[other]))
        if closeness(its, about[best]) > 0:
            found[stem] = best
    return found


class Case(SphinxRole):
    """``{case}`12```: a link to a case, or its name while it is not in the book."""

    note = " (in preparation)"

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        known = stems(Path(self.env.srcdir))
        if self.text not in known:
            names = ", ".join(known)
            message = f"there is no case {self.text!r}; the cases are {names}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        self.env.note_reread()  # a case that joins the book becomes a link
        stem = known[self.text]
        if not is_there(stem, self.env.found_docs):
            return [nodes.Text(written(stem) + self.note)], []
        reference = addnodes.pending_xref(
            refdomain="std", reftype="doc", reftarget=f"/{page(stem)}", refexplicit=True
        )
        reference["refdoc"], reference["refwarn"] = self.env.docname, True
        reference += nodes.inline(text=written(stem))
        return [reference], []


class Owner(Case):
    """``{owner}`12```: the same without the mark."""

    note = ""


def _anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Let Markdown link to an ``id`` in the HTML of a page as to a heading."""
    metadata = app.env.metadata[app.env.docname]
    slugs = dict(metadata.get("myst_slugs", {}))
    for raw in doctree.findall(nodes.raw):
        for name in re.findall(r'\bid="([^"]+)"', raw.astext()):
            slugs.setdefault(name, (None, name, name))
    if slugs:
        metadata["myst_slugs"] = slugs


def setup(app: Sphinx) -> dict:
    """Register the roles and the anchors."""
    app.add_role("case", Case())
    app.add_role("owner", Owner())
    app.connect("doctree-read", _anchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
