"""How pages of ``book/`` name cases: a link when the case is in the book, words when it is not.

Two roles take the number of a chapter or the letter of a capstone. ``{case}`12``` marks a
case that is not published as *in preparation*; ``{owner}`12``` leaves the mark out, for pages
that say once what a name without a link means. No page has to be edited when a case joins.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from casebook.book import drill

#: Words of a file's name that are not written in lower case.
_WRITTEN = {"ab": "A/B", "aml": "AML", "eta": "ETA", "llm": "LLM", "rag": "RAG"}
GUIDE = "00_how_a_case_works"


def stems(root: Path) -> dict[str, str]:
    """Return the name of every case by its number or letter, in the order of the book."""
    names = [GUIDE, *drill.chapters(drill.read_index(root))]
    return {name.partition("_")[0]: name for name in names}


def written(stem: str) -> str:
    """Return how a case is written: ``chapter 07, subscription churn``.

    Parameters
    ----------
    stem : str
        The name of its files.
    """
    words = [_WRITTEN.get(word, word) for word in stem.split("_")[1:]]
    return f"{drill.chapter_name(stem)}, {' '.join(words)}"


def page(stem: str) -> str:
    """Return the document of a case: capstones stand in ``exercises/``."""
    return f"{'chapters' if stem[0].isdigit() else 'exercises'}/{stem}"


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
        if page(stem) not in self.env.found_docs:
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
