"""A help centre: three indexes of the same articles, six rankings, one list of articles.

Passages are searched by words and vectors, single sentences by vectors, character n-grams by words;
the question is asked as it is, of articles in all languages, and translated, of those in the pivot
language. What is found is read in the customer's language where the article is there.

Examples
--------
>>> import tempfile
>>> from casebook.retrieval.dense import Hashed
>>> row = ("a", 1, "en", "Storage", "We keep a parcel for 7 days.", pd.Timestamp("2026-01-01"))
>>> names = ["article_id", "version", "language", "title", "text", "valid_from"]
>>> articles = pd.DataFrame([row], columns=names).assign(valid_to=pd.NaT, tags="")
>>> with tempfile.TemporaryDirectory() as folder:
...     with Centre.build(Path(folder), articles, Hashed(32)) as centre:
...         centre.search(Query("how long is a parcel kept", "en"), "2026-06-01")[0].key
('a', 'en', 1)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.retrieval.chunks import Chunker, moment, sentence_spans
from casebook.retrieval.dense import Embedder, EmbedderDown
from casebook.retrieval.index import Changes, Index, Passage
from casebook.retrieval.weights import scaled as scaled_scores

#: The language into which questions are translated, and which answers where the customer's does
#: not have the article.
PIVOT = "en"


#: Rankings that are added up. ``own``: the question as asked, of articles in all languages;
#: ``en``: translated, of the English ones.
SIGNALS = ("dense_own", "dense_en", "sentences_en", "words_own", "grams_own", "words_en")


#: What tells a version of an article from all others.
KEY = ["article_id", "language", "version"]


#: The indexes of a help centre, in the order in which an update writes them.
FILES = ("passages.db", "sentences.db", "grams.db")


#: Passages of a ranking.
DEPTH = 100
#: The same weight for each.
EVEN = dict.fromkeys(SIGNALS, 1.0)


@dataclass(frozen=True)
class Hit:
    """An article that was found.

    Attributes
    ----------
    article_id, language, version, title, tags
        In the customer's language where there is one.
    score : float
        Weighted sum of the signals.
    signals : mapping of str to float
        From 0 to 1 by ranking; and under ``raw_<name>`` the cosine or BM25 score.
    """

    article_id: str
    language: str
    version: int
    title: str
    tags: str
    score: float
    signals: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str, int]:
        """Article, language and version."""
        return self.article_id, self.language, self.version


@dataclass(frozen=True)
class Query:
    """A question that stands alone, with its language.

    Attributes
    ----------
    text : str
    language : str
    number : str
        With which the tags of an article must begin (its number), or empty.
    """

    text: str
    language: str
    number: str = ""

    @property
    def english(self) -> str:
        """The question in the pivot language; whoever can translate overrides it."""
        return self.text


class Centre:
    """The articles, searchable: three indexes of the same articles, of which the first decides.

    ``passages`` (sections; words and vectors) decides which version is in force at a time, and what
    it says. What ``sentences`` (vectors of single sentences) and ``grams`` (character n-grams) find
    is dropped unless they hold the same version with the same text: an update that is cut off
    between two files returns nothing stale. :meth:`lagging` lists what it left, and the next write
    of any article, or :meth:`repair`, brings the two in line. Where the embedder is down, words
    alone find and read.

    Parameters
    ----------
    passages, sentences, grams : Index
    weights : mapping of str to float
    """

    def __init__(
        self,
        passages: Index,
        sentences: Index,
        grams: Index,
        weights: Mapping[str, float] = EVEN,
    ) -> None:
        self.passages, self.sentences, self.grams = passages, sentences, grams
        self.weights = dict(weights)
        self._lag: tuple[tuple, list[tuple[str, str, int]]] = ((), [])

    @classmethod
    def build(cls, folder: Path, articles: pd.DataFrame, embedder: Embedder) -> Centre:
        """Make the three indexes in a folder.

        Parameters
        ----------
        folder : Path
        articles : DataFrame
            See :func:`~casebook.retrieval.chunks.read_articles`.
        embedder : Embedder
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        passages, sentences, grams = (folder / name for name in FILES)
        return cls(
            Index.build(passages, articles, embedder),
            Index.build(sentences, articles, embedder, Chunker("sentences", 1)),
            Index.build(grams, articles, analyser="ngrams"),
        )

    @classmethod
    def open(cls, folder: Path, embedder: Embedder) -> Centre:
        """Open the three indexes of a folder, once each was found as it was written.

        Raises
        ------
        FileNotFoundError
            If one of them is not there.
        IndexFault
            If one is damaged, or was built with another embedder.
        """
        passages, sentences, grams = (Path(folder) / name for name in FILES)
        return cls(
            Index.open(passages, embedder), Index.open(sentences, embedder), Index.open(grams)
        )

    def close(self) -> None:
        """Let go of the files."""
        for index in (self.grams, self.sentences, self.passages):
            index.close()

    def __enter__(self) -> Centre:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, articles: pd.DataFrame) -> Changes:
        """Add or replace versions of articles; returns what changed in the deciding index."""
        self.repair()
        changes = self.passages.update(articles)
        self.sentences.update(articles)
        self.grams.update(articles)
        return changes

    def delete(self, article_ids: Iterable[str]) -> Changes:
        """Remove articles with all versions and languages."""
        ids = [article_ids] if isinstance(article_ids, str) else list(article_ids)
        self.repair()
        changes = self.passages.delete(ids)
        self.sentences.delete(ids)
        self.grams.delete(ids)
        return changes

    def repair(self) -> list[tuple[str, str, int]]:
        """Make the other two files say what the deciding one says; returns what lagged.

        A write that was cut off is finished by it, whatever is written next: versions are copied
        out of ``passages``, and what it does not hold any more is removed.
        """
        behind = self.lagging()
        if behind:
            ids = sorted({article_id for article_id, *_ in behind})
            whole = self.passages.stored(ids)
            for index in (self.sentences, self.grams):
                index.delete(ids)
                index.update(whole)
        return behind

    def _stamps(self) -> list[dict[tuple[str, str, int], str]]:
        """Return for each index the hash of every version that it holds."""
        files = (self.passages, self.sentences, self.grams)
        tables = (index.articles().set_index(KEY)["hash"] for index in files)
        return [table.to_dict() for table in tables]

    def lagging(self) -> list[tuple[str, str, int]]:
        """Return the versions that do not say the same in all three indexes: for an alarm."""
        state = tuple(index.state() for index in (self.passages, self.sentences, self.grams))
        if self._lag[0] != state:
            stamps = self._stamps()
            keys = sorted(set().union(*stamps))
            behind = [k for k in keys if len({held.get(k, "") for held in stamps}) > 1]
            self._lag = state, behind
        return list(self._lag[1])

    def in_force(self, at: object) -> pd.DataFrame:
        """Return the versions in force at a time: rows of :meth:`Index.articles`."""
        time, table = moment(at), self.passages.articles()
        ends = table["ends"].fillna(pd.Timestamp.max)
        return table[(table["valid_from"] <= time) & (time < ends)]

    # Searching

    def _found(self, query: Query, at: object) -> dict[str, list[Passage]]:
        """Ask the three indexes in the six ways."""

        def where(frame: pd.DataFrame, pivot: bool = False) -> np.ndarray:
            keep = np.ones(len(frame), bool)
            if pivot:
                keep &= (frame["language"] == PIVOT).to_numpy()
            if query.number:
                keep &= frame["tags"].str.startswith(f"{query.number} ").to_numpy()
            return keep

        def english(frame: pd.DataFrame) -> np.ndarray:
            return where(frame, pivot=True)

        def near(index: Index, text: str, **asked: object) -> list[Passage]:
            try:
                return index.search(text, how="dense", **asked)
            except EmbedderDown:  # words have to do
                return []

        own = {"k": DEPTH, "at": at, "where": where, "language": query.language}
        en = {"k": DEPTH, "at": at, "where": english, "language": PIVOT}
        return {
            "dense_own": near(self.passages, query.text, **own),
            "dense_en": near(self.passages, query.english, **en),
            "sentences_en": near(self.sentences, query.english, **en),
            "words_own": self.passages.search(query.text, how="lexical", **own),
            "grams_own": self.grams.search(query.text, how="lexical", **own),
            "words_en": self.passages.search(query.english, how="lexical", **en),
        }

    def signals(self, query: Query, at: object) -> dict[str, dict[str, float]]:
        """Return the best score of each article in each ranking.

        Parameters
        ----------
        query : Query
        at : Timestamp

        Returns
        -------
        dict of str to dict of str to float
            By name of :data:`SIGNALS` and ``article_id``: cosines and BM25 scores, of articles of
            which some language is in force.
        """
        keys = set(self.in_force(at)[KEY].itertuples(index=False, name=None))
        behind = keys & set(self.lagging())
        scores: dict[str, dict[str, float]] = {}
        for name, passages in self._found(query, at).items():
            best = scores.setdefault(name, {})
            agreed = keys - behind if name in ("sentences_en", "grams_own") else keys
            for p in passages:
                if (p.article_id, p.language, p.version) in agreed:
                    best[p.article_id] = max(best.get(p.article_id, -1.0), p.score)
        return scores

    def search(
        self,
        query: Query,
        at: object,
        k: int = 10,
        weights: Mapping[str, float] | None = None,
        scores: Mapping[str, Mapping[str, float]] | None = None,
    ) -> list[Hit]:
        """Return the articles that answer a question best, at a time.

        Parameters
        ----------
        query : Query
        at : Timestamp
        k : int
        weights : mapping of str to float, optional
            By name of :data:`SIGNALS`.
        scores : mapping, optional
            Of :meth:`signals` for the same question and time, where they are at hand.

        Returns
        -------
        list of Hit
            One for each article, in the customer's language, else in English, else in any.
        """
        raw = self.signals(query, at) if scores is None else scores
        scaled = {name: scaled_scores(values) for name, values in raw.items()}
        siblings = self._siblings(at, query.language)
        chosen = self.weights if weights is None else weights
        total: dict[str, float] = {}
        for name, weight in chosen.items():
            for article, value in scaled[name].items():
                total[article] = total.get(article, 0.0) + weight * value
        best = sorted((a for a in total if a in siblings), key=lambda a: (-total[a], a))[:k]
        return [
            Hit(*siblings[a], round(total[a], 6), _signals(a, scaled, raw)) for a in best
        ]  # fmt: skip

    def _siblings(self, at: object, language: str) -> dict[str, tuple]:
        """Return for each article the version in force that a customer should read."""
        order = {language: 0, PIVOT: 1}
        table = self.in_force(at).assign(tags="")
        table["order"] = table["language"].map(order).fillna(2)
        table = table.sort_values(["article_id", "order", "language"]).drop_duplicates("article_id")
        columns = ["article_id", "language", "version", "title", "tags"]
        return {row[0]: row for row in table[columns].itertuples(index=False, name=None)}

    def read(self, hit: Hit, at: object) -> list[tuple[Passage, list[Passage]]]:
        """Return the sections of an article, each with its sentences, in their order.

        Parameters
        ----------
        hit : Hit
        at : Timestamp
        """

        def where(frame: pd.DataFrame) -> np.ndarray:
            same = frame["article_id"] == hit.article_id
            same &= (frame["language"] == hit.language) & (frame["version"] == hit.version)
            return same.to_numpy()

        asked = {"k": 200, "at": at, "where": where, "language": hit.language, "depth": 200}
        try:
            found = self.passages.search(hit.title, how="dense", **asked)
        except EmbedderDown:  # each section is indexed with the article's title before it
            found = self.passages.search(hit.title, how="lexical", **asked)
        sections = sorted(found, key=lambda passage: passage.start)
        return [(section, _sentences(section)) for section in sections]


def _sentences(section: Passage) -> list[Passage]:
    """Cut a section into its sentences, each a passage of its own."""
    return [
        replace(
            section,
            text=section.text[start:end],
            start=section.start + start,
            end=section.start + end,
        )
        for start, end in sentence_spans(section.text)
    ]


def _signals(article: str, scaled: Mapping, raw: Mapping) -> dict[str, float]:
    found = {name: values.get(article, 0.0) for name, values in scaled.items()}
    return found | {f"raw_{name}": values.get(article, 0.0) for name, values in raw.items()}
