"""Search in several languages with an embedder that reads English.

MiniLM reads German and Spanish badly. Three remedies run offline: character n-grams, which need no
language; a glossary that translates the question word by word
(:mod:`~casebook.cases.support_rag_chatbot.glossary`); and a *pivot*: the translated question is
asked of the English articles, and what is found is answered from the same article in the
customer's language. The search itself is :class:`casebook.retrieval.centre.Centre`. An embedder
that reads the languages is measured, and asked live, in
:mod:`~casebook.cases.support_rag_chatbot.typed`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from casebook.cases.support_rag_chatbot.glossary import translated
from casebook.retrieval import centre as retrieval
from casebook.retrieval.centre import PIVOT
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.index import Index, Passage
from casebook.retrieval.text import words

#: Weights, tuned on the tuning questions (``learning.tuned_weights``).
WEIGHTS = {
    "dense_own": 0.15,
    "dense_en": 0.5,
    "sentences_en": 0.3,
    "words_own": 0.15,
    "grams_own": 0.3,
    "words_en": 0.15,
}
#: The rankings of systems that are compared, by name; all weights are tuned alike
#: (``learning.tuned_weights``).
SYSTEMS: dict[str, dict[str, float]] = {
    "words": {"words_own": 1.0},
    "character n-grams": {"grams_own": 1.0},
    "vectors": {"dense_own": 1.0},
    "vectors, glossary": {"dense_en": 1.0},
    "vectors + words": {"dense_own": 0.5, "words_own": 0.2},
    "all, no glossary": {"dense_own": 0.4, "words_own": 0.05, "grams_own": 0.2},
    "all": WEIGHTS,
}


#: A last day from which on there is none.
_LAST = pd.Timestamp.max.floor("D") - pd.Timedelta(days=1)


def as_articles(knowledge: pd.DataFrame) -> pd.DataFrame:
    """Turn the world's articles into those of an index.

    Parameters
    ----------
    knowledge : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.world.knowledge_base`; ``valid_to`` is the
        last day.

    Returns
    -------
    DataFrame
        Valid until the day after, or without end where there is none; ``tags`` holds the article's
        number and its readers.
    """
    table = knowledge[["article_id", "version", "language", "title", "text", "valid_from"]]
    return table.assign(
        valid_to=knowledge["valid_to"].where(knowledge["valid_to"] < _LAST) + pd.Timedelta(days=1),
        tags=knowledge["number"] + " " + knowledge["audience"],
    )


class Query(retrieval.Query):
    """A masked question that stands alone; an article number in it (``KB-1044``) is looked up."""

    @property
    def english(self) -> str:
        """The question in English, by the glossary."""
        return translated(self.text, self.language)


class HelpCentre(retrieval.Centre):
    """The carrier's articles, searchable; the rankings are added up with the tuned weights."""

    def __init__(
        self,
        passages: Index,
        sentences: Index,
        grams: Index,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        super().__init__(passages, sentences, grams, weights)


# Texts for the artifact --------------------------------------------------------------


def article_texts(articles: pd.DataFrame) -> list[str]:
    """Return all that an index of articles, and a reader of them, has embedded.

    Parameters
    ----------
    articles : DataFrame
        See :func:`as_articles`.

    Returns
    -------
    list of str
        Sections, sentences, sentences translated, titles.
    """
    from casebook.retrieval.chunks import read_articles

    found: list[str] = []
    for article in read_articles(articles):
        found += [chunk.indexed for chunk in Chunker()(article)]
        for chunk in Chunker("sentences", 1)(article):
            found += [chunk.indexed, translated(chunk.indexed, article.language)]
        found.append(article.title)
    return sorted(set(found))


def sentence_texts(sentence: Passage) -> tuple[str, str]:
    """Return a sentence as it is indexed (behind title and heading), and that in English."""
    heading = "" if sentence.text.startswith("#") else sentence.heading
    text = "\n".join(part for part in (sentence.title, heading, sentence.text) if part)
    return text, translated(text, sentence.language)


def overlap(query: Query, english: str) -> float:
    """Return the share of the translated question's words that an English text holds."""
    asked, said = set(words(query.english, PIVOT)), set(words(english, PIVOT))
    return len(asked & said) / len(asked) if asked else 0.0
