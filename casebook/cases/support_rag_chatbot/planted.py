"""What the check of claims catches: faults planted into every section, and true rewordings.

:func:`tried` plants one fault of each kind into one sentence of each section in force, and says the
sentence in other words; :func:`casebook.retrieval.planted.caught` gives the share that the rules
refuse, with intervals from resampled articles. A claim is held against its own section, as if the
model had cited it, and against three sections of its article, as where a model cites nothing and
the best one is taken.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.answer import quoted
from casebook.cases.support_rag_chatbot.evaluation import NOW
from casebook.cases.support_rag_chatbot.languages import as_articles
from casebook.retrieval.chunks import Chunker, read_articles, sentence_spans
from casebook.retrieval.planted import Words, faults, rewordings

#: Sentences of other articles from which a foreign one and a wrong number are drawn.
ELSEWHERE = 12


@cache
def words() -> dict[str, Words]:
    """Return the domain's words by language, from ``planted.toml``."""
    with open(Path(__file__).with_name("planted.toml"), "rb") as file:
        lists = tomllib.load(file)
    return {code: Words(**{k: tuple(v) for k, v in one.items()}) for code, one in lists.items()}


def sections(at: object = NOW) -> pd.DataFrame:
    """Return the sections in force: ``article``, ``language``, ``title``, ``text``, ``sentences``.

    ``text`` is what a model is given, in one line without its heading. A section without a sentence
    of four words is left out.
    """
    rows = []
    for article in read_articles(as_articles(world.knowledge_base(at))):
        for chunk in Chunker()(article):
            text = quoted(chunk)
            said = [text[a:b] for a, b in sentence_spans(text)]
            said = [one for one in said if len(one.split()) >= 4 and not one.endswith("?")]
            if said:
                rows.append((article.article_id, article.language, article.title, text, said))
    return pd.DataFrame(rows, columns=["article", "language", "title", "text", "sentences"])


def tried(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Plant faults into one drawn sentence of each section, and say it in other words.

    Parameters
    ----------
    table : DataFrame
        Of :func:`sections`.
    seed : int

    Returns
    -------
    DataFrame
        ``article``, ``language``, ``kind``, ``true``, ``claim``, ``own`` (the section with its
        title) and ``three`` (it and up to two others of the article).
    """
    rng, rows = np.random.default_rng(seed), []
    by_language = dict(list(table.groupby("language")))
    for row in table.itertuples():
        others = by_language[row.language]
        others = others[others["article"] != row.article]["sentences"]
        drawn = rng.choice(len(others), min(ELSEWHERE, len(others)), replace=False)
        elsewhere = [s[rng.integers(len(s))] for s in others.iloc[drawn]]
        place = int(rng.integers(len(row.sentences)))
        one, rest = row.sentences[place], row.sentences[:place] + row.sentences[place + 1 :]
        following = row.sentences[place + 1] if place + 1 < len(row.sentences) else None
        said = words()[row.language]
        same = table[(table["article"] == row.article) & (table["language"] == row.language)]
        three = [row.text, *(text for text in same["text"] if text != row.text)][:3]
        held = tuple(f"{row.title}. {text}" for text in three)
        planted = faults(one, row.language, said, rest, rng, elsewhere)
        true = rewordings(one, following, row.language, said, rng)
        for is_true, claims in ((False, planted), (True, true)):
            rows += [
                (row.article, row.language, kind, is_true, claim, held[0], held)
                for kind, claim in claims.items()
            ]
    columns = ["article", "language", "kind", "true", "claim", "own", "three"]
    return pd.DataFrame(rows, columns=columns)
