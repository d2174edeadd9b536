"""What no model may see: which articles answer a question on a day, and how."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import pandas as pd

from .content import TODAY, Content, in_force, name_of, own_content


@dataclass(frozen=True)
class Truth:
    """The truth on a day.

    Attributes
    ----------
    relevance : DataFrame
        ``question``, ``article``, ``grade``; what is absent is 0. **2**: gives the right answer to
        this customer in his language (two articles that conflict on another fact may both).
        **1**: says the same of the fact asked for, but in another language or to other customers
        (business, another country); where the whole article is the answer, the same article in
        another language. An article that loses a conflict, or is not in force, has 0. Where no
        article in the customer's language is in force, those of the other languages have 2. Best
        first.
    questions : DataFrame
        ``question``, ``topic`` (None without), ``intent`` (the topic's; tracking, off_topic and
        injection by route and kind), ``route`` (answer, tracking, human, refuse), ``answerable``
        (an article in force holds the answer), ``answer_fact``, ``answer_value`` (as text),
        ``answer`` (the sentence in ``answer_article``, the first of grade 2; these three are empty
        where the whole article is the answer), ``answer_article``, ``language_of_answer`` (the
        customer's).
    entities : DataFrame
        ``question``, ``type``, ``value``, ``turn`` (from 0), ``start``, ``end``: characters of the
        turns joined by a line break. Of the types email, phone, iban, card and address are PII.
    conflicts : DataFrame
        ``article``, ``partner``, ``topic``, ``fact``, ``value``, ``partner_value``, ``right``
        (article, partner), ``why``: pairs that are in force and contradict each other.
    near_duplicates : DataFrame
        ``article``, ``base``, ``topic``, ``fact``, ``value``, ``base_value``: in force, for
        different customers; one row for each fact in which they differ.
    facts : DataFrame
        ``article``, ``fact``, ``value``, ``answer``, ``start``, ``end`` (characters of the
        article's text), of every article ever.
    """

    relevance: pd.DataFrame
    questions: pd.DataFrame
    entities: pd.DataFrame
    conflicts: pd.DataFrame
    near_duplicates: pd.DataFrame
    facts: pd.DataFrame


#: Types of entities that are personal data.
PII = ("email", "phone", "iban", "card", "address")


class _Day:
    """The articles in force on a day, for looking up."""

    def __init__(self, of: Content, at: pd.Timestamp) -> None:
        self.plan = of.plan
        rows = in_force(of.articles, at)
        self.article = {
            (language, name): ident
            for ident, name, language in zip(
                rows["id"], rows["article_id"], rows["language"], strict=True
            )
        }
        self.names = set(rows["article_id"])
        self.topic = rows.groupby("topic")["id"].apply(list).to_dict()
        of_today = of.facts[of.facts["article"].isin(rows["id"])]
        self.value = of_today.set_index(["article", "fact"])["value"].to_dict()
        self.answer = of_today.set_index(["article", "fact"])["answer"].to_dict()

    def says(self, article: str, fact: str | None) -> str | None:
        """Return the value that an article gives for a fact."""
        return self.value.get((article, fact))

    def there(self, name: str) -> str:
        """Return the article itself, or the topic's own before a partner of it is published."""
        base = name.partition("--")[0]
        variants = [c["variant"] for c in self.plan["topics"][base].get("conflicts", [])]
        unpublished = name not in self.names and name.partition("--")[2] in variants
        return base if unpublished else name

    def partners(self, article: str) -> list[str]:
        """Return the articles for the same customers that contradict an article on some fact."""
        language, name = article.partition("/")[0], name_of(article)
        base = name.partition("--")[0]
        conflicts = self.plan["topics"][base].get("conflicts", [])
        sides = [base, *(f"{base}--{conflict['variant']}" for conflict in conflicts)]
        found = [self.article.get((language, side)) for side in sides if name in sides]
        return [ident for ident in found if ident is not None]

    def relevant(self, names: list[str], languages: list[str]) -> list[str]:
        """Return the articles in force in the given languages, best first, none twice."""
        there = [self.there(name) for name in names]
        found = [self.article.get((language, name)) for language in languages for name in there]
        return [ident for ident in dict.fromkeys(found) if ident is not None]


def _grades(question: Any, day: _Day, languages: list[str]) -> list[tuple[str, int]]:
    """Return the graded articles of a question, best first."""
    if not question.relevant:
        return []
    fact = question.answer_fact
    names = list(dict.fromkeys(name_of(article) for article in question.relevant))
    meant = list(dict.fromkeys(article.partition("/")[0] for article in question.relevant))
    best = day.relevant(names, meant) or day.relevant(names, languages)
    if not best:
        return []
    if fact is None:
        same = {article for article in day.article.values() if name_of(article) in names}
    else:
        value = day.says(best[0], fact)
        same = {
            article for article in day.topic[question.topic] if day.says(article, fact) == value
        }
        best = list(dict.fromkeys(best + [a for b in best for a in day.partners(b) if a in same]))
    return [(article, 2) for article in best] + [(a, 1) for a in sorted(same.difference(best))]


def _intent(question: Any, plan: dict[str, Any]) -> str:
    if question.kind in ("off_topic", "injection"):
        return question.kind
    if question.route == "tracking":
        return "tracking"
    return plan["topics"][question.topic]["intent"]


def _questions(of: Content, day: _Day) -> tuple[pd.DataFrame, pd.DataFrame]:
    languages = list(of.plan["languages"])
    relevance, rows = [], []
    for question in of.questions.itertuples():
        graded = _grades(question, day, languages)
        relevance += [(question.id, article, grade) for article, grade in graded]
        first, fact = (graded[0][0] if graded else ""), question.answer_fact
        route = question.route
        if route == "answer" and not graded:
            route = "human"
        rows.append(
            {
                "question": question.id,
                "topic": question.topic,
                "intent": _intent(question, of.plan),
                "route": route,
                "answerable": bool(graded),
                "answer_fact": (fact or "") if graded else "",
                "answer_value": day.value.get((first, fact), ""),
                "answer": day.answer.get((first, fact), ""),
                "answer_article": first,
                "language_of_answer": question.language_of_answer,
            }
        )
    return pd.DataFrame(relevance, columns=["question", "article", "grade"]), pd.DataFrame(rows)


def entities(of: Content) -> pd.DataFrame:
    """Return the entities of all questions with their place; see :class:`Truth`.

    Raises
    ------
    ValueError
        If a value does not stand in the question as often as it is listed.
    """
    rows = []
    for question in of.questions.itertuples():
        joined = "\n".join(question.turns)
        seen: dict[str, int] = {}
        for kind, value in question.entities:
            start = joined.find(value, seen.get(value, 0))
            if start < 0:
                raise ValueError(f"{question.id}: the {kind} {value!r} does not stand in it.")
            seen[value] = start + len(value)
            turn = joined.count("\n", 0, start) if len(question.turns) > 1 else 0
            rows.append((question.id, kind, value, turn, start, start + len(value)))
    return pd.DataFrame(rows, columns=["question", "type", "value", "turn", "start", "end"])


def _conflicts(of: Content, day: _Day) -> pd.DataFrame:
    rows = []
    for topic in of.plan["topics"].values():
        for conflict in topic.get("conflicts", []):
            for language in conflict["languages"]:
                base = day.article.get((language, topic["id"]))
                partner = day.article.get((language, f"{topic['id']}--{conflict['variant']}"))
                if base is None or partner is None:
                    continue
                right = "article" if conflict["right"] == "base" else "partner"
                for fact in conflict["facts"]:
                    values = day.says(base, fact), day.says(partner, fact)
                    rows.append((base, partner, topic["id"], fact, *values, right, conflict["why"]))
    columns = ("article", "partner", "topic", "fact", "value", "partner_value", "right", "why")
    return pd.DataFrame(rows, columns=list(columns))


def _near_duplicates(of: Content, day: _Day) -> pd.DataFrame:
    rows = []
    for row in of.planned.query("role == 'near_duplicate'").itertuples():
        article = day.article.get((row.language, row.article_id))
        base = day.article.get((row.language, row.topic))
        if article is None or base is None:
            continue
        for fact in row.facts:
            value, other = day.says(article, fact), day.says(base, fact)
            if value != other:
                rows.append((article, base, row.topic, fact, value, other))
    columns = ("article", "base", "topic", "fact", "value", "base_value")
    return pd.DataFrame(rows, columns=list(columns))


def truth_of(of: Content, at: object = TODAY) -> Truth:
    """Return the truth about some content on a day; see :func:`truth`."""
    day = _Day(of, pd.Timestamp(at).normalize())
    relevance, rows = _questions(of, day)
    return Truth(
        relevance=relevance,
        questions=rows,
        entities=entities(of),
        conflicts=_conflicts(of, day),
        near_duplicates=_near_duplicates(of, day),
        facts=of.facts.copy(),
    )


@lru_cache(maxsize=64)
def _truth(at: pd.Timestamp) -> Truth:
    return truth_of(own_content(), at)


def truth(at: object = TODAY) -> Truth:
    """Return the truth on a day.

    Who is right in a conflict, and what a question means, are as on :data:`TODAY`; which articles
    are in force, what they say and so what is right are of the day. A question that no article in
    force answers is unanswerable on that day, and its route is a person.

    Parameters
    ----------
    at : date-like

    Returns
    -------
    Truth
        A copy; the caller may change it.
    """
    known = _truth(pd.Timestamp(at).normalize())
    return Truth(**{field.name: getattr(known, field.name).copy() for field in fields(known)})
