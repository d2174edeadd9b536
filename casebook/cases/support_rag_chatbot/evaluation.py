"""What the chatbot is worth: rankings, answers, abstention.

Everything is learned on the tuning questions and reported on the test questions, whose topics the
tuning questions do not touch. Of the test questions, :func:`asked` marks those that were read when
the glossary and the masks were written.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.answer import EVIDENCE, Answerer
from casebook.cases.support_rag_chatbot.conversation import (
    HEAD,
    SHOWN,
    near_pair,
    query_of,
    rewrite,
)
from casebook.cases.support_rag_chatbot.glossary import unread
from casebook.cases.support_rag_chatbot.languages import (
    SYSTEMS,
    HelpCentre,
    Query,
    as_articles,
)
from casebook.cases.support_rag_chatbot.understand import TRACKING_NUMBER
from casebook.cases.support_rag_chatbot.world.content import own_content
from casebook.evaluate.abstain import auroc, probability
from casebook.evaluate.intervals import by_cluster
from casebook.recorded.artifacts import artifact
from casebook.retrieval.centre import SIGNALS, Hit
from casebook.retrieval.chunks import sentence_spans
from casebook.retrieval.classify import LanguageModel
from casebook.retrieval.dense import Cached, Embedder
from casebook.retrieval.evaluate import per_query
from casebook.retrieval.fusion import rerank_by
from casebook.retrieval.lexical import FaqSearch
from casebook.retrieval.weights import scaled
from casebook.serving.privacy import mask

CASE = "16_support_rag_chatbot"
#: The artifacts that hold the vectors of the world's texts.
VECTORS = tuple(f"world_vectors_{part}.parquet" for part in range(4))
#: When the questions are asked.
NOW = world.TODAY + pd.Timedelta(hours=12)


# The questions -----------------------------------------------------------------------


@cache
def _groups() -> dict[str, str]:
    return {name: topic["group"] for name, topic in own_content().plan["topics"].items()}


@cache
def subjects() -> dict[str, str]:
    """Return what questions without an article are about, where several ask the same."""
    held = tomllib.loads(Path(__file__).with_name("subjects.toml").read_text(encoding="utf-8"))
    return {i: name for part in held.values() for name, ids in part.items() for i in ids}


def asked() -> pd.DataFrame:
    """Return the questions with what the system makes of them, and the truth to score by.

    Returns
    -------
    DataFrame
        The world's columns of questions and truth; ``turns`` (masked), ``query``, ``group`` (of
        topics; of a question without an article its subject), ``cluster`` (its subject or topic:
        what intervals resample), ``heard`` (its subject is asked in a tuning question too),
        ``unread``.
    """
    table = world.questions().merge(world.truth().questions, left_on="id", right_on="question")
    table["turns"] = [tuple(mask(turn).text for turn in turns) for turns in table["turns"]]
    pairs = zip(table["turns"], table["language"], strict=True)
    table["query"] = [query_of(rewrite(turns), code) for turns, code in pairs]
    groups, subject = table["topic"].map(_groups()), table["id"].map(subjects())
    by_topic = table["topic"].notna() & (table["route"] != "tracking")
    table["group"] = subject.fillna(groups).fillna(table["id"])
    table["cluster"] = subject.fillna(table["topic"].where(by_topic, table["id"]))
    table["heard"] = subject.isin(subject[table["split"] == "tune"].dropna())
    table["unread"] = unread(groups.where(by_topic, table["id"]))
    return table


def relevance(at: object = NOW) -> pd.DataFrame:
    """Return the judgements by article: those of grade 2, as ``article_id``.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``relevance`` (1).
    """
    grades = world.truth(at).relevance.query("grade == 2")
    names = world.knowledge_base().set_index("id")["article_id"]
    frame = pd.DataFrame(
        {"query_id": grades["question"], "doc_id": grades["article"].map(names), "relevance": 1}
    )
    return frame.drop_duplicates(ignore_index=True)


def world_texts() -> list[str]:
    """Return every text of the world that is embedded: articles, sentences, questions.

    Questions are masked and stand alone, as asked and in English.
    """
    from casebook.cases.support_rag_chatbot.languages import article_texts

    texts = set(article_texts(as_articles(world.knowledge_base())))
    for query in asked()["query"]:
        texts |= {query.text, query.english}
    return sorted(texts)


def embedder() -> Embedder:
    """Return MiniLM's vectors of the world's texts, from the artifacts."""
    return Cached(pd.concat([artifact(CASE, file) for file in VECTORS], ignore_index=True))


# Rankings ----------------------------------------------------------------------------

Signals = Mapping[Query, Mapping[str, Mapping[str, float]]]


def gather(centre: HelpCentre, queries: Sequence[Query], at: object = NOW) -> Signals:
    """Search for every query once, in all ways; see :meth:`HelpCentre.signals`."""
    return {query: centre.signals(query, at) for query in dict.fromkeys(queries)}


def matrices(
    signals: Signals, queries: Sequence[Query], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the scaled signals of queries, shape (queries, articles) each.

    Parameters
    ----------
    signals : mapping
    queries : sequence of Query
    names : sequence of str
        Article ids, in the order of the columns.
    """
    place = {name: i for i, name in enumerate(names)}
    found = {name: np.zeros((len(queries), len(names))) for name in SIGNALS}
    for row, query in enumerate(queries):
        for name in SIGNALS:
            for article, value in scaled(signals[query][name]).items():
                found[name][row, place[article]] = value
    return found


def run_of(
    scores: np.ndarray, ids: Sequence[str], names: Sequence[str], depth: int = 50
) -> pd.DataFrame:
    """Lay out a matrix of scores as a run."""
    rows, columns = np.nonzero(scores > 0)
    frame = pd.DataFrame(
        {
            "query_id": np.asarray(ids, object)[rows],
            "doc_id": np.asarray(names, object)[columns],
            "score": scores[rows, columns],
        }
    )
    return rerank_by(frame, depth=depth)


def article_names(at: object = NOW) -> list[str]:
    """Return the ids of the articles that are in force in some language."""
    return sorted(world.knowledge_base(at)["article_id"].unique())


def runs(
    table: pd.DataFrame, signals: Signals, systems: Mapping[str, Mapping[str, float]] = SYSTEMS
) -> dict[str, pd.DataFrame]:
    """Rank the articles for the answerable questions of a table, by several systems.

    Parameters
    ----------
    table : DataFrame
        Of :func:`asked`.
    signals : mapping
    systems : mapping of str to weights

    Returns
    -------
    dict of str to DataFrame
        Runs; ``FAQ search`` is the baseline.
    """
    judged = table[table["answerable"]]
    names, queries = article_names(), list(judged["query"])
    signal = matrices(signals, queries, names)
    found = {"FAQ search": faq_run(judged)}
    for system, weights in systems.items():
        scores = sum(weight * signal[name] for name, weight in weights.items())
        found[system] = run_of(scores, judged["id"], names)
    return found


def first_titles(
    rows: pd.DataFrame, signals: Signals, weights: Mapping[str, float], k: int = SHOWN
) -> pd.Series:
    """Return the first articles of a weighted ranking for each question, as a tuple."""
    names = article_names()
    signal = matrices(signals, list(rows["query"]), names)
    scores = sum(weight * signal[name] for name, weight in weights.items())
    found = run_of(scores, rows["id"], names, k).groupby("query_id")["doc_id"].agg(tuple)
    return rows["id"].map(found)


def faq_run(table: pd.DataFrame, at: object = NOW) -> pd.DataFrame:
    """Rank by the baseline: the search box of an FAQ page, in the customer's language."""
    parts = []
    for language, rows in table.groupby("language"):
        page = world.knowledge_base(at)
        page = page[page["language"] == language].reset_index(drop=True)
        search = FaqSearch(page["title"], page["text"], language)
        scores = np.array([search.scores(turns[-1], language) for turns in rows["turns"]])
        parts.append(run_of(scores, rows["id"], list(page["article_id"])))
    return pd.concat(parts, ignore_index=True)


def by_group(
    found: Mapping[str, pd.DataFrame], table: pd.DataFrame, by: str, k: int = 10
) -> pd.DataFrame:
    """Score runs by kind or language of the questions.

    Parameters
    ----------
    found : mapping of str to DataFrame
        Runs.
    table : DataFrame
        Of :func:`asked`.
    by : str
        Column of the table.
    k : int

    Returns
    -------
    DataFrame
        ``model``, ``by``, ``ndcg``, ``recall``, ``questions``.
    """
    judged = relevance()
    judged = judged[judged["query_id"].isin(table["id"])]
    group = table.set_index("id")[by]
    parts = []
    for name, run in found.items():
        scored = per_query(run[run["query_id"].isin(judged["query_id"])], judged, k)
        means = scored.groupby(group.reindex(scored.index))[["ndcg", "recall"]]
        part = means.mean().assign(questions=means.size())
        parts.append(part.rename_axis(by).reset_index().assign(model=name))
    return pd.concat(parts, ignore_index=True)[["model", by, "ndcg", "recall", "questions"]]


# Answers -----------------------------------------------------------------------------


def hits_of(
    centre: HelpCentre, query: Query, signals: Signals, at: object = NOW, k: int = 10
) -> list[Hit]:
    """Return what is found for a query whose signals are at hand."""
    return centre.search(query, at, k, scores=signals[query])


@dataclass(frozen=True)
class Label:
    """What an answer is worth by the truth.

    Attributes
    ----------
    kind : str
        Of the world's kinds of answer: ``right``, ``right_other_language``, ``partial`` (the
        right article, another section; or an article of grade 1), ``wrong``, ``stale``.
    relevant : bool
        The cited article is of grade 2, as in :func:`relevance`.
    """

    kind: str
    relevant: bool


class Labels:
    """Compare answers with the truth of a day.

    Parameters
    ----------
    at : date-like
    """

    def __init__(self, at: object = NOW) -> None:
        known = world.truth(at)
        articles = world.knowledge_base()
        keys = zip(articles["article_id"], articles["language"], articles["version"], strict=True)
        self._id = dict(zip(keys, articles["id"], strict=True))
        self._in_force = set(world.knowledge_base(at)["id"])
        self._grade = known.relevance.set_index(["question", "article"])["grade"].to_dict()
        self._fact = known.questions.set_index("question")["answer_fact"].to_dict()
        self._language = known.questions.set_index("question")["language_of_answer"].to_dict()
        facts = known.facts
        places = zip(facts["start"], facts["end"], strict=True)
        names = zip(facts["article"], facts["fact"], strict=True)
        self._place = dict(zip(names, places, strict=True))

    def __call__(self, question: str, key: tuple[str, str, int], start: int, end: int) -> Label:
        """Label one citation: article, language and version, and its characters."""
        article = self._id[key]
        if article not in self._in_force:
            return Label("stale", False)
        grade = self._grade.get((question, article), 0)
        if not grade:
            return Label("wrong", False)
        fact = self._fact[question]
        place = self._place.get((article, fact)) if fact else (start, end)
        says = place is not None and place[0] < end and start < place[1]
        if not says:
            return Label("partial", grade == 2)
        if key[1] != self._language[question]:
            return Label("right_other_language", grade == 2)
        return Label("right" if grade == 2 else "partial", grade == 2)


def answers(
    table: pd.DataFrame,
    signals: Signals,
    centre: HelpCentre,
    answerer: Answerer,
    at: object = NOW,
) -> pd.DataFrame:
    """Answer questions from the help centre, whatever the confidence.

    Returns
    -------
    DataFrame
        ``id``, ``said`` (the answer), ``article_id``, ``cited_language``, ``version``,
        ``start``, ``end``, ``faults``, ``pair`` (two articles for different readers), ``shown``
        (the first three articles), ``label`` (:class:`Label`'s kind; empty without one),
        ``relevant``, and the evidence.
    """
    label, rows = Labels(at), []
    for question, query in zip(table["id"], table["query"], strict=True):
        hits = hits_of(centre, query, signals, at)
        answer = answerer(query, hits, at)
        row = {"id": question, "said": answer.text, "faults": "; ".join(answer.faults)}
        row["pair"] = near_pair(hits) is not None
        row["shown"] = tuple(hit.article_id for hit in hits[:SHOWN])
        row |= {"label": "", "relevant": False} | dict(answer.evidence)
        if answer.citations:
            c = answer.citations[0]
            said = label(question, (c.article_id, c.language, c.version), c.start, c.end)
            row |= {"article_id": c.article_id, "cited_language": c.language}
            row |= {"version": c.version, "start": c.start, "end": c.end}
            row |= {"label": said.kind, "relevant": said.relevant}
        rows.append(row)
    return pd.DataFrame(rows)


def to_articles(table: pd.DataFrame) -> pd.DataFrame:
    """Return the questions that reach the help centre: no tracking, no attacks."""
    return table[(table["route"] != "tracking") & (table["kind"] != "injection")]


#: Kinds of answer that are right, in whatever language.
RIGHT = ("right", "right_other_language")


def is_right(label: pd.Series) -> np.ndarray:
    """Say which answers are right, in whatever language."""
    return label.isin(RIGHT).to_numpy()


# Abstention --------------------------------------------------------------------------


def confidences(table: pd.DataFrame, answered: pd.DataFrame) -> pd.DataFrame:
    """Return questions with their answers and the three probabilities of the system.

    Parameters
    ----------
    table : DataFrame
        Of :func:`with_scope`.
    answered : DataFrame
        Of :func:`answers`.
    """
    from casebook.cases.support_rag_chatbot import learned

    rows = table.merge(answered, on="id")
    heads = {"right": "RIGHT", "answerable_p": "ANSWERABLE", "off_topic": "OFF_TOPIC"}
    heads |= {"answerable_words": "ANSWERABLE_WORDS", "answerable_evidence": "ANSWERABLE_EVIDENCE"}
    records = rows[list(HEAD)].to_dict("records")
    for column, name in heads.items():
        model = getattr(learned, name)
        # What weighs nothing may be missing: where nothing is found, there are words all the same.
        kept = {n: mean for n, mean in model["mean"].items() if model["weight"][n]}
        rows[column] = [probability(record, model | {"mean": kept}) for record in records]
    return rows


def abstention(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how well the system knows what it cannot answer.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`confidences`, of test questions that reach the help centre. Unanswerable ones
        whose subject was tuned on are left out.

    Returns
    -------
    DataFrame
        ``what``, ``score``, ``auroc``, ``low``, ``high``, ``positive``, ``negative`` (questions).
    """
    yes, off = rows["answerable"].to_numpy(), (rows["kind"] == "off_topic").to_numpy()
    unanswerable = ((rows["kind"] == "unanswerable") & ~rows["heard"]).to_numpy()
    answerable, right = rows["answerable_p"].to_numpy(), rows["right"].to_numpy()
    words, searched = (rows[f"answerable_{what}"].to_numpy() for what in ("words", "evidence"))
    topics = rows["cluster"].to_numpy(object)
    cosine = rows[[name for name in EVIDENCE if name.startswith("raw_")]].max(axis=1)
    studies = [
        ("answerable, not unanswerable", "answerable", yes | unanswerable, yes, answerable),
        ("answerable, not unanswerable", "best cosine", yes | unanswerable, yes, cosine),
        ("answerable, not unanswerable", "question words", yes | unanswerable, yes, words),
        ("answerable, not unanswerable", "search and reader", yes | unanswerable, yes, searched),
        ("answerable, neither", "answerable", np.ones(len(rows), bool), yes, answerable),
        ("ours, not off topic", "off topic", yes | unanswerable | off, ~off, -rows["off_topic"]),
        ("the answer is right", "right", np.ones(len(rows), bool), is_right(rows["label"]), right),
    ]
    table = [
        (
            what,
            name,
            *auroc(np.asarray(score)[of], good[of], topics[of]),
            good[of].sum(),
            (~good[of]).sum(),
        )
        for what, name, of, good, score in studies
    ]
    columns = ["what", "score", "auroc", "low", "high", "positive", "negative"]
    return pd.DataFrame(table, columns=columns)


def answer_quality(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return what given answers are worth, at thresholds on the confidence.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`confidences`.
    thresholds : mapping of str to float

    Returns
    -------
    DataFrame
        ``threshold`` (its name), ``from``, ``answered`` (questions), ``coverage``;
        ``faithful`` (share whose words stand in what is cited), ``relevant_source`` (cited
        article is relevant) and ``right`` with ends of their 95 % intervals; ``stale``.
    """
    table = []
    for name, threshold in thresholds.items():
        given = rows[(rows["right"] >= threshold) & (rows["said"] != "")]
        table.append(
            {
                "threshold": name,
                "from": threshold,
                "answered": len(given),
                "coverage": len(given) / len(rows),
                "faithful": float((given["faults"] == "").mean()) if len(given) else np.nan,
                **_interval("relevant_source", given["relevant"].to_numpy(bool), given),
                **_interval("right", is_right(given["label"]), given),
                "stale": int((given["label"] == "stale").sum()),
            }
        )
    return pd.DataFrame(table)


def _interval(name: str, good: np.ndarray, given: pd.DataFrame) -> dict[str, float]:
    names = name, f"{name}_low", f"{name}_high"
    if given["cluster"].nunique() < 2:
        return dict.fromkeys(names, np.nan)
    return dict(zip(names, by_cluster(good, given["cluster"]), strict=True))


def language_model(at: object = NOW) -> LanguageModel:
    """Learn the languages from the sentences of the articles in force; no question is used."""
    page = world.knowledge_base(at)
    pairs = [
        (text[start:end], code)
        for text, code in zip(page["text"], page["language"], strict=True)
        for start, end in sentence_spans(text)
    ]
    return LanguageModel(without=TRACKING_NUMBER).fit(*map(list, zip(*pairs, strict=True)))
