"""What the found passages say: lines that state what was asked, their values, and who is right.

A line is *on topic* when it states the asked thing of the asked team, whatever value it gives
(:func:`evidence`, a logistic head over features of question and line). The lines on topic are
statements of one fact by several documents; where their values differ, the sources contradict each
other, and :func:`settled` says which value holds by a policy that is chosen on the validation
facts. All of this reads texts; the world's truth only grades it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.library import Library
from casebook.retrieval.dense import query_vectors
from casebook.retrieval.follow_up import Names
from casebook.retrieval.text import words as terms_of
from casebook.retrieval.values import KINDS, dated, hedged, same, value_of

#: What the head reads of a question and a line.
FEATURES = (
    *("near", "named", "placed", "other", "near_named", "near_placed", "lead"),
    *("asks", "valued", "scope", "rank", "fits"),
)
#: Probability from which a line is on topic, where none was chosen.
ON_TOPIC = 0.5
#: Ways to settle a contradiction.
POLICIES = ("surest", "newest version", "newest text", "majority", "in force")
#: Names of sites, by which a rule is told from its copy for one site.
SITES = Names(["site north", "site harbour", "site hill"])


@dataclass(frozen=True, slots=True)
class Statement:
    """A line that states what was asked.

    Attributes
    ----------
    value : str
    document : str
    version : int
    title, source : str
    quote : str
        The anchor: text of the document.
    start : int
        Character at which it begins.
    since : datetime64[s]
        Day from which it holds: a date that it names, else the day on which the text last changed.
    hearsay : bool
        Whether its writer has only heard it.
    sure : float
        Probability that the line is on topic.
    """

    value: str
    document: str
    version: int
    title: str
    source: str
    quote: str
    start: int
    since: np.datetime64
    hearsay: bool
    sure: float

    @property
    def text_of(self) -> tuple[str, int]:
        """The text that it stands in: document and version, as rights are asked about it."""
        return self.document, self.version


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
        :data:`FEATURES`; ``fits`` is 0 until :meth:`Kinds.fit` fills it in.
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
    table["near"] = library._line_vectors[table["vector"].to_numpy(int)] @ vector
    own = table["near"].where((table["named"] | table["placed"]) & ~table["asks"])
    table["lead"] = table["near"] - (own.max() if own.notna().any() else 0.0)
    for name in ("named", "placed"):
        table[f"near_{name}"] = table["near"] * table[name]
    return table.drop(columns="vector").assign(fits=0.0).astype(dict.fromkeys(FEATURES, float))


@dataclass(frozen=True)
class Kinds:
    """Which kind of value a question asks for, by its words: naive Bayes, learned from examples.

    Attributes
    ----------
    counts : mapping of str to mapping of str to int
        Kind → word → questions.
    """

    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, examples: Iterable[tuple[str, str]]) -> Kinds:
        """Learn from questions, without names of teams, and the kinds of their answers."""
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        for question, kind in examples:
            counts[kind].update({"": 1} | dict.fromkeys(terms_of(question, "en"), 1))
        return cls({kind: dict(found) for kind, found in counts.items()})

    def fit(self, lines: pd.DataFrame, question: str) -> pd.Series:
        """Return how well the kind of each line's value fits a question."""
        return lines["kind"].map(self(question)).astype(float)

    def __call__(self, question: str) -> dict[str, float]:
        """Return the probability of each kind; '' has none."""
        terms, scores = set(terms_of(question, "en")), {}
        for kind, found in self.counts.items():
            seen = found.get("", 0)
            shares = [(found.get(term, 0) + 0.1) / (seen + 1) for term in terms]
            scores[kind] = float(np.log(shares).sum() + np.log(seen + 0.5))
        most = max(scores.values())
        weights = {kind: np.exp(score - most) for kind, score in scores.items()}
        return {kind: float(w / sum(weights.values())) for kind, w in weights.items()} | {"": 0.0}


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


def settled(
    said: Sequence[Statement], policy: str, now: np.datetime64, modified: Mapping[str, object] = {}
) -> Statement | None:
    """Return the statement that holds, by one of :data:`POLICIES`; None where there is none.

    Parameters
    ----------
    said : sequence of Statement
        The surest first.
    policy : str
        ``surest``: the first. ``newest version``, ``newest text``: of the document whose version
        (in ``modified``) or text is the newest. ``majority``: the value of most documents, then the
        newest. ``in force``: the latest day from which one holds, hearsay left out as long as there
        is anything else, and days to come too.
    now : datetime64[s]
    modified : mapping of str to datetime64[s], optional
        Of documents.

    Raises
    ------
    ValueError
        On another policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r}: give one of {', '.join(POLICIES)}.")
    if not said or policy == "surest":
        return said[0] if said else None
    if policy == "newest version":
        return max(said, key=lambda one: modified.get(one.document, one.since))
    if policy == "majority":
        votes = [sum(same(one.value, other.value) for other in said) for one in said]
        said = [one for one, n in zip(said, votes, strict=True) if n == max(votes)]
    if policy == "in force":
        said = [one for one in said if not one.hearsay] or said
        said = [one for one in said if one.since <= now] or said
    return max(said, key=lambda one: one.since)


def contradictions(said: Sequence[Statement], held: Statement) -> list[Statement]:
    """Return the newest statement of each value other than the one that holds, the newest first."""
    found: list[Statement] = []
    for one in sorted(said, key=lambda one: one.since, reverse=True):
        if not any(same(one.value, other.value) for other in (held, *found)):
            found.append(one)
    return found
