"""What the found passages say: lines that state what was asked, their values, and who is right.

A line is a *candidate* when it is about the asked team and is no question. It is *on topic* when it
states the asked thing, whatever value it gives (:func:`evidence`, a logistic head over features of
question and line). A value that no rule sees can be quoted, not answered. The lines on topic are
statements of one fact by several
documents (:mod:`casebook.retrieval.statements` settles what they say). All of this reads texts; the
world's truth only grades it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.library import Leaf, Library
from casebook.cases.knowledge_assistant.sights import View
from casebook.retrieval.dense import query_vectors
from casebook.retrieval.follow_up import Names
from casebook.retrieval.lines import Line
from casebook.retrieval.statements import Statement
from casebook.retrieval.values import asked_kinds, dated, hedged, kind_of

#: What the head reads of a question and a line.
FEATURES = (
    *("near", "usual", "lead", "ahead", "valued", "fits", "named", "other", "listed"),
    *("hearsay", "scope", "rank"),
)
#: Probability from which a line is on topic, where none was chosen.
ON_TOPIC = 0.5
#: How much of its nearness to any question is taken from a line's nearness to this one.
USUAL = 0.5
#: Names of sites, by which a rule is told from its copy for one site.
SITES = Names(["site north", "site harbour", "site hill"])


def evidence(
    library: Library,
    user: str,
    question: str,
    passages: pd.DataFrame,
    usual: Sequence[float] = (),
) -> pd.DataFrame:
    """Return the candidates among the lines of passages, with what speaks for each.

    Parameters
    ----------
    library : Library
    user : str
    question : str
        That stands by itself.
    passages : DataFrame
        As of :meth:`.Library.ranked`.
    usual : sequence of float
        Mean vector of questions. A line that is near to any question says little about this one.

    Returns
    -------
    DataFrame
        A row a line: ``document``, ``line`` (its number), ``kind`` of its value, and
        :data:`FEATURES`: cosine with the question (``near``) and with ``usual``, both compared with
        the best of the question (``lead``, ``ahead``), whether the kind is one that is asked for
        (``fits``: 1, -1, or 0 where nothing tells), whether the line names the team or
        stands where it is talked about, other teams that it names.
    """
    view = library.view(user)
    asked, site = {*view.of(question)}, SITES.subjects(question)
    kinds, rows = asked_kinds(question), []
    for rank, one in enumerate(passages.itertuples(index=False)):
        leaf, chunk = library.leaves[one.document], library.chunks[one.row]
        title = leaf.document.title
        for n, line in enumerate(leaf.lines):
            if not chunk.start <= line.start < chunk.end or line.text.endswith("?"):
                continue
            named = {*view.of(line.text)}
            about = named or {*view.of(line.place)} or {*view.of(title)}
            if asked and not asked & about:
                continue
            kind = kind_of(view.value(line.text))
            sites = SITES.subjects(line.text) or SITES.subjects(title)
            told = bool(named & asked), len(named - asked), line.listed, hedged(line.text)
            scope = float(sites == site) if site or sites else 0.5
            fits = (1.0 if kind in kinds else -1.0) if kind and kinds else 0.0
            vector = leaf.rows[n]
            rows.append((one.document, n, kind, vector, fits, *told, scope, 1 / (1 + rank)))
    names = ["document", "line", "kind", "vector", "fits", "named", "other", "listed", "hearsay"]
    table = pd.DataFrame(rows, columns=[*names, "scope", "rank"])
    vectors = library.line_vectors(table.pop("vector").to_numpy(int))
    table["near"] = vectors @ query_vectors(library.embedder, [view.names.masked(question)])[0]
    table["usual"] = vectors @ np.array(usual, np.float32) if len(usual) else 0.0
    more = table["near"] - USUAL * table["usual"]
    table["lead"], table["ahead"] = table["near"] - table["near"].max(), more - more.max()
    return table.assign(valued=table["kind"] != "").astype(dict.fromkeys(FEATURES, float))


def surest(lines: pd.DataFrame, head: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Return the probability that each line is on topic, by :func:`~.abstain.probability`."""
    z = np.full(len(lines), head["weight"]["intercept"])
    for name, mean in head["mean"].items():
        z += head["weight"][name] * (lines[name].to_numpy() - mean) / head["sd"][name]
    return 1 / (1 + np.exp(-z))


def statements(
    library: Library,
    user: str,
    lines: pd.DataFrame,
    least: float = ON_TOPIC,
    valued: bool = True,
) -> list[Statement]:
    """Return what lines state, the surest first: at most one of each document.

    Parameters
    ----------
    library : Library
    user : str
    lines : DataFrame
        As of :func:`evidence`, with ``sure``.
    least : float
        Of ``sure``.
    valued : bool
        Whether lines in which no value is seen are left out.
    """
    view = library.view(user)
    if valued:
        lines = lines[lines["kind"] != ""]
    lines = lines[lines["sure"] >= least].sort_values("sure", ascending=False, kind="stable")
    leaves, lines = library.leaves, lines.drop_duplicates("document")
    rows = zip(lines["document"], lines["line"], lines["sure"], strict=True)
    return [statement(leaves[name], leaves[name].lines[n], view, float(p)) for name, n, p in rows]


def statement(leaf: Leaf, line: Line, view: View, sure: float) -> Statement:
    """Return what a line states; its value is '' where none is seen."""
    doc, day, value = leaf.document, dated(line.text), view.value(line.text)
    told = doc.id, doc.version, doc.title, doc.source, line.quote, line.start
    since = leaf.changed if day is None else day
    return Statement(value, *told, since, hedged(line.text), sure)
