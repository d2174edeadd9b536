"""What exercise 16 shows of texts and their vectors, and its checks compute from.

These are frozen, so a student's seed draws what it can: which of the tuning questions are used, and
the parts and folds that they fall into. The chapter's own seed uses every question. Verdicts, a
cache and contacts are drawn in :mod:`casebook.cases.support_rag_chatbot.exercise_logs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation, world
from casebook.cases.support_rag_chatbot.languages import as_articles
from casebook.exercises.grading import student_seed
from casebook.retrieval.chunks import Article, Chunker, read_articles
from casebook.retrieval.lexical import BM25

#: The chapter's seed; the share of the tuning questions that another seed draws.
SEED, DRAWN = 16, 0.85


def own(seed: int | None) -> int:
    """Return a seed that is given, or the student's, or the chapter's."""
    return student_seed(SEED) if seed is None else seed


# The questions and how well each article fits.


@dataclass(frozen=True)
class Desk:
    """Tuning questions that reach the help centre, and how well each English article fits.

    Attributes
    ----------
    rows : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.evaluation.asked`, from 0.
    articles : tuple of Article
        Those in English that are in force on the day of the questions.
    words, vectors, fit : ndarray, shape (questions, articles)
        BM25 score and cosine of an article's best section, the question put into English by the
        glossary; and the sum of both with the best sentence's cosine, each from 0 to 1.
    """

    rows: pd.DataFrame
    articles: tuple[Article, ...]
    words: np.ndarray
    vectors: np.ndarray
    fit: np.ndarray

    @property
    def names(self) -> np.ndarray:
        """Article ids, in the order of the columns."""
        return np.array([article.article_id for article in self.articles], object)


def _best(scores: np.ndarray, owner: Sequence[int], n: int) -> np.ndarray:
    """Return the best score of each owner's columns, shape (rows, n)."""
    table = np.full((len(scores), n), -np.inf)
    for column, place in enumerate(owner):
        np.maximum(table[:, place], scores[:, column], out=table[:, place])
    return table


def _from_0_to_1(scores: np.ndarray) -> np.ndarray:
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    return (scores - low) / np.where(high > low, high - low, 1)


@cache
def _whole_desk() -> Desk:
    table = evaluation.asked()
    rows = evaluation.to_articles(table[table["split"] == "tune"]).reset_index(drop=True)
    page = world.knowledge_base(evaluation.NOW)
    articles = read_articles(as_articles(page[page["language"] == "en"]))
    model = evaluation.embedder()
    queries = [query.english for query in rows["query"]]
    asked, scores = model.encode(queries), {}
    for name, cut in (("sections", Chunker()), ("sentences", Chunker("sentences", 1))):
        chunks = [(i, chunk) for i, article in enumerate(articles) for chunk in cut(article)]
        owner, texts = [i for i, _ in chunks], [chunk.indexed for _, chunk in chunks]
        scores[name] = _best(asked @ model.encode(texts).T, owner, len(articles))
        if name == "sections":
            lexical = BM25(texts)
            found = np.array([lexical.scores(query) for query in queries])
            scores["words"] = _best(found, owner, len(articles))
    parts = {"sections": 0.5, "sentences": 0.3, "words": 0.2}
    fit = sum(weight * _from_0_to_1(scores[name]) for name, weight in parts.items())
    return Desk(rows, tuple(articles), scores["words"], scores["sections"], fit)


@cache
def _desk(seed: int) -> Desk:
    whole = _whole_desk()
    if seed == SEED:
        return whole
    drawn = np.random.default_rng([16, seed]).random(len(whole.rows)) < DRAWN
    rows = whole.rows[drawn].reset_index(drop=True)
    scores = (table[drawn] for table in (whole.words, whole.vectors, whole.fit))
    return Desk(rows, whole.articles, *scores)


def desk(seed: int | None = None) -> Desk:
    """Return the exercise's part of the world; the test questions are not in it.

    Parameters
    ----------
    seed : int, optional
        By default the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    return _desk(own(seed))


@cache
def _relevant() -> dict[str, frozenset[str]]:
    """Return the articles that answer each question."""
    judged = evaluation.relevance()
    judged = judged[judged["doc_id"].isin(_whole_desk().names)]
    return judged.groupby("query_id")["doc_id"].agg(frozenset).to_dict()


def _is_right(ids: Sequence[str], first: Sequence[str]) -> np.ndarray:
    return np.array(
        [name in _relevant().get(i, frozenset()) for i, name in zip(ids, first, strict=True)]
    )


# Question 1: two runs.

KEYS = ["query_id", "doc_id"]
#: Documents of a list.
DEPTH = 10


def english(seed: int | None = None) -> pd.DataFrame:
    """Return the judgements of the English questions: ``query_id``, ``doc_id``, ``relevance``."""
    rows = desk(seed).rows
    ids = rows.loc[(rows["language"] == "en") & rows["answerable"], "id"]
    found = [(i, name, 1) for i in ids for name in sorted(_relevant().get(i, ()))]
    return pd.DataFrame(found, columns=[*KEYS, "relevance"])


def runs(depth: int = DEPTH, seed: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what words and vectors find for the English questions.

    Parameters
    ----------
    depth : int
        Documents that are kept of each list.
    seed : int, optional

    Returns
    -------
    words, vectors : DataFrame
        Runs: ``query_id``, ``doc_id``, ``rank`` from 1, ``score``.
    """
    here = desk(seed)
    rows = here.rows[here.rows["id"].isin(english(seed)["query_id"])]
    words, vectors = (
        evaluation.run_of(scores[rows.index], list(rows["id"]), here.names, depth)
        for scores in (here.words, here.vectors)
    )
    return words, vectors


def hidden_runs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two small runs: rows in no order, lists of other lengths, a question in one only."""
    rng = np.random.default_rng(16)
    parts = []
    for top, sizes in ((12.0, {"q1": 5, "q2": 3, "q3": 2}), (0.8, {"q1": 4, "q2": 7, "q4": 3})):
        rows = []
        for query, size in sizes.items():
            docs = rng.permutation([f"d{i}" for i in range(8)])[:size]
            rows += [(query, d, r, top / (r + 1)) for r, d in enumerate(docs, 1)]
        frame = pd.DataFrame(rows, columns=[*KEYS, "rank", "score"])
        order = rng.permutation(len(frame))
        parts.append(frame.iloc[order].set_axis(order + 100))
    return parts[0], parts[1]


# Question 2: answers and their margins.

#: Euro for a contact that is answered rightly, answered wrongly (for carrier and customer
#: together) or handed to a person.
RIGHT, WRONG, PERSON = 0.30, 7.50, 4.50


def cheapest(table: pd.DataFrame, wrong: float = WRONG) -> float:
    """Return the margin from which to answer that has the lowest bill.

    Parameters
    ----------
    table : DataFrame
        Of :func:`answered`.
    wrong : float
        Euro for a wrong answer.

    Returns
    -------
    float
        One that occurs; 0 if it is cheapest to answer everything, 2 to hand all over.
    """
    cuts = np.array([0.0, *np.unique(table["margin"]), 2.0])
    given = table["margin"].to_numpy() >= cuts[:, None]
    bills = np.where(given, np.where(table["right"], RIGHT, wrong), PERSON).mean(axis=1)
    return float(cuts[bills.argmin()])


@cache
def _answered(seed: int) -> pd.DataFrame:
    here = _desk(seed)
    ordered = np.sort(here.fit, axis=1)
    table = pd.DataFrame(
        {
            "part": "",
            "margin": (ordered[:, -1] - ordered[:, -2]).round(4),
            "right": _is_right(here.rows["id"], here.names[here.fit.argmax(axis=1)]),
        },
        index=pd.Index(here.rows["id"], name="question"),
    )
    groups, rng = sorted(set(here.rows["group"])), np.random.default_rng([2, seed])
    while True:  # until the parts disagree: a threshold from the wrong rows is then another one
        place = {name: i for i, name in enumerate(groups)}
        table["part"] = np.where(here.rows["group"].map(place) % 2, "judge", "choose")
        parts = [table, *(table[table["part"] == part] for part in ("choose", "judge"))]
        if len({cheapest(part) for part in parts}) == 3:
            return table
        groups = list(rng.permutation(groups))


def answered(seed: int | None = None) -> pd.DataFrame:
    """Return what the exercise's bot would answer: the article that fits best.

    Returns
    -------
    DataFrame
        Index ``question``: ``part`` (choose or judge: whole groups of topics in either),
        ``margin`` (how far the best article is ahead of the second, 0 to 1; no probability),
        ``right``. Questions that no article answers are among them.
    """
    return _answered(own(seed)).copy()


# Question 4: the size of a passage.

#: Ways to cut: words in a window, and those that are in the next one too.
CUTS = ((20, 0), (20, 10), (40, 0), (40, 20), (80, 0), (80, 40))
#: Passages that are found for a question.
FOUND = 16


@cache
def _windows(size: int, overlap: int) -> pd.DataFrame:
    cut = Chunker("words", size, overlap)
    rows = [
        (article.article_id, chunk.start, chunk.end, len(chunk.text.split()), chunk.text)
        for article in _whole_desk().articles
        for chunk in cut(article)
    ]
    return pd.DataFrame(rows, columns=["article", "start", "end", "words", "text"])


def windows(size: int, overlap: int) -> pd.DataFrame:
    """Return all passages of the index: ``article``, ``start``, ``end``, ``words``."""
    return _windows(size, overlap).drop(columns="text")


def _spotted() -> pd.DataFrame:
    """Return the English questions whose answer is one sentence of an article."""
    rows = _whole_desk().rows
    there = rows["answer_article"].str.startswith("en/") & (rows["answer_fact"] != "")
    return rows[(rows["language"] == "en") & rows["answerable"] & there]


def sentences(seed: int | None = None) -> pd.DataFrame:
    """Return where the sentence is that answers a question.

    Returns
    -------
    DataFrame
        Index ``question``: ``article``, ``start``, ``end`` (characters of its text).
    """
    known = world.truth(evaluation.NOW).facts.set_index(["article", "fact"])
    page = world.knowledge_base().set_index("id")["article_id"]
    rows = _spotted()
    rows = rows[rows["id"].isin(desk(seed).rows["id"])]
    places = known.loc[list(zip(rows["answer_article"], rows["answer_fact"], strict=True))]
    return pd.DataFrame(
        {
            "article": rows["answer_article"].map(page).to_numpy(),
            "start": places["start"].to_numpy(),
            "end": places["end"].to_numpy(),
        },
        index=pd.Index(rows["id"], name="question"),
    )


@cache
def _ranked(size: int, overlap: int) -> pd.DataFrame:
    here, table = _whole_desk(), _windows(size, overlap)
    lexical = BM25(list(table["text"]))
    place = {name: i for i, name in enumerate(here.names)}
    owner = table["article"].map(place).to_numpy()
    close_to = _from_0_to_1(here.vectors)
    parts = []
    for row in _spotted().itertuples():
        words = lexical.scores(row.query.english)
        scores = words / max(words.max(), 1e-9) + close_to[row.Index, owner]
        best = np.argsort(-scores, kind="stable")[:FOUND]
        found = table.iloc[best].drop(columns="text").assign(question=row.id)
        parts.append(found.assign(rank=np.arange(1, len(best) + 1)))
    columns = ["question", "rank", "article", "start", "end", "words"]
    return pd.concat(parts, ignore_index=True)[columns]


def ranked(size: int, overlap: int, seed: int | None = None) -> pd.DataFrame:
    """Return the passages that the exercise's bot finds, if articles are cut into windows.

    A passage is ranked by its words (BM25) and by how close its article is to the question.

    Parameters
    ----------
    size, overlap : int
        Words of a window, and of them those that are in the next one too.
    seed : int, optional

    Returns
    -------
    DataFrame
        ``question``, ``rank`` (1 to 16), ``article``, ``start``, ``end`` (characters), ``words``.
    """
    table = _ranked(size, overlap)
    return table[table["question"].isin(desk(seed).rows["id"])].reset_index(drop=True)


# Question 5: a memory that leaks.

#: Weight of the memory beside the fit of an article.
REMEMBERED = 1.0


def past(seed: int | None = None) -> pd.DataFrame:
    """Return answered questions of the past, in all languages.

    Returns
    -------
    DataFrame
        Index ``question``: ``topic``, ``group`` (of topics), ``voice`` (who writes), ``kind``, and
        ``fold``, which a colleague has drawn at random: 0 to 4.
    """
    seed = own(seed)
    rows = desk(seed).rows
    rows = rows[rows["id"].isin(_relevant())]
    table = rows.set_index(rows["id"].rename("question"))[["topic", "group", "voice", "kind"]]
    return table.assign(fold=np.random.default_rng([5, seed]).permutation(len(table)) % 5)


def relevant(seed: int | None = None) -> pd.DataFrame:
    """Return which articles answer the questions of :func:`past`: ``question``, ``article``."""
    rows = [
        (question, name) for question in past(seed).index for name in sorted(_relevant()[question])
    ]
    return pd.DataFrame(rows, columns=["question", "article"])


@cache
def _alike() -> tuple[np.ndarray, dict[str, int]]:
    """Return the cosines of all questions with each other, and the row of each."""
    rows = _whole_desk().rows
    vectors = evaluation.embedder().encode([query.english for query in rows["query"]])
    return vectors @ vectors.T, {name: i for i, name in enumerate(rows["id"])}


def first_right(training: Sequence[str], test: Sequence[str]) -> pd.Series:
    """Let a bot with a memory learn from questions, and say which others it answers rightly.

    An article scores by its fit to the question, plus the cosine of the question to the nearest
    training question that the article answered.

    Parameters
    ----------
    training, test : sequence of str
        Questions of :func:`past`; an empty training is a bot without a memory.

    Returns
    -------
    Series of bool
        Index of the test questions: whether the article that is put first answers.

    Raises
    ------
    ValueError
        If a question is on both sides.
    """
    training, test = list(training), list(test)
    if both := set(training) & set(test):
        raise ValueError(f"{len(both)} questions are in the training and in the test.")
    here, (alike, row) = _whole_desk(), _alike()
    tested = [row[i] for i in test]
    near = alike[np.ix_(tested, [row[i] for i in training])]
    column = {name: j for j, name in enumerate(here.names)}
    memory = np.zeros((len(test), len(column)))
    for i, question in enumerate(training):
        for name in _relevant()[question]:
            np.maximum(memory[:, column[name]], near[:, i], out=memory[:, column[name]])
    first = here.names[(here.fit[tested] + REMEMBERED * memory).argmax(axis=1)]
    return pd.Series(_is_right(test, first), pd.Index(test, name="question"))
