"""What the found passages say: lines that state what was asked, their values, and who is right.

A line is *on topic* when it states the asked thing of the asked team, whatever value it gives
(:func:`evidence`, a logistic head over features of question and line). The lines on topic are
statements of one fact by several documents (:mod:`casebook.retrieval.statements` settles what they
say). All of this reads texts; the world's truth only grades it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.library import Library
from casebook.retrieval.dense import query_vectors
from casebook.retrieval.follow_up import Names
from casebook.retrieval.statements import Statement
from casebook.retrieval.values import dated, hedged, value_of

#: What the head reads of a question and a line.
FEATURES = (
    *("near", "named", "placed", "other", "near_named", "near_placed", "lead"),
    *("asks", "valued", "scope", "rank", "fits"),
)
#: Probability from which a line is on topic, where none was chosen.
ON_TOPIC = 0.5
#: Names of sites, by which a rule is told from its copy for one site.
SITES = Names(["site north", "site harbour", "site hill"])


def evidence(library: Library, user: str, question: str, passages: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of passages with what speaks for each as a statement of what was asked.

    Parameters
    ----------
    library : Library
    user : str
    question : str
        That stands by itself.
    passages : DataFrame
        As of :meth:`.Library.ranked`.

    Returns
    -------
    DataFrame
        A row a line: ``document``, ``line`` (its number), ``kind`` of its value, and
        :data:`FEATURES`; ``fits`` is 0 until :meth:`.Kinds.fit` fills it in.
    """
    view = library.view(user)
    asked = set(view.of(question))
    site = SITES.subjects(question)
    rows = []
    for rank, one in enumerate(passages.itertuples(index=False)):
        leaf, chunk = library.leaves[one.document], library.chunks[one.row]
        title = leaf.document.title
        for n, line in enumerate(leaf.lines):
            if chunk.start <= line.start < chunk.end:
                named, placed = view.of(line.text), view.of(line.place) or view.of(title)
                hit = bool(asked & {*named}) if asked else True
                inside = not named and bool(asked & {*placed})
                sites = SITES.subjects(line.text) or SITES.subjects(title)
                scope = float(sites == site) if site or sites else 0.5
                told = hit, inside, len({*named} - asked), line.text.endswith("?")
                kind = view.kind(line.text)
                rows.append((one.document, n, leaf.rows[n], *told, kind, scope, 1 / (1 + rank)))
    names = ["document", "line", "vector", "named", "placed", "other", "asks"]
    names += ["kind", "scope", "rank"]
    table = pd.DataFrame(rows, columns=names)
    vector = query_vectors(library.embedder, [view.names.masked(question)])[0]
    table["valued"] = table["kind"] != ""
    table["near"] = library.line_vectors(table["vector"].to_numpy(int)) @ vector
    own = table["near"].where((table["named"] | table["placed"]) & ~table["asks"])
    table["lead"] = table["near"] - (own.max() if own.notna().any() else 0.0)
    for name in ("named", "placed"):
        table[f"near_{name}"] = table["near"] * table[name]
    return table.drop(columns="vector").assign(fits=0.0).astype(dict.fromkeys(FEATURES, float))


def surest(lines: pd.DataFrame, head: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Return the probability that each line is on topic, by :func:`~.abstain.probability`."""
    z = np.full(len(lines), head["weight"]["intercept"])
    for name, mean in head["mean"].items():
        z += head["weight"][name] * (lines[name].to_numpy() - mean) / head["sd"][name]
    return 1 / (1 + np.exp(-z))


def statements(
    library: Library, user: str, lines: pd.DataFrame, least: float = ON_TOPIC
) -> list[Statement]:
    """Return what the lines on topic state, the surest first: at most one of each document."""
    known, found = library.view(user).known, {}
    lines = lines[lines["sure"] >= least].sort_values("sure", ascending=False, kind="stable")
    for one in lines.itertuples():
        leaf = library.leaves[one.document]
        line, doc = leaf.lines[one.line], leaf.document
        value = value_of(line.text, known)
        if value and doc.id not in found:
            day = dated(line.text)
            told = doc.id, doc.version, doc.title, doc.source, line.quote, line.start
            since = leaf.changed if day is None else day
            found[doc.id] = Statement(value, *told, since, hedged(line.text), float(one.sure))
    return [*found.values()]
