"""Which signals find the article, what each is worth as titles, and what is known without it.

Recorded by ``make bench N=16`` beside the tables of
:mod:`~casebook.cases.support_rag_chatbot.studies`; E5 runs on the machine that records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import learning, policies, studies, typed, world
from casebook.cases.support_rag_chatbot.languages import SYSTEMS
from casebook.evaluate.abstain import auroc
from casebook.retrieval.centre import SIGNALS
from casebook.retrieval.evaluate import per_query

#: Signals that need no glossary; all with E5's vectors in the place of MiniLM's own.
OPEN = ("dense_own", "words_own", "grams_own")
E5 = {"E5": OPEN[:1], "E5 + words": OPEN, "E5 + MiniLM, words, glossary": SIGNALS}
#: Names of rankings with MiniLM's vectors, by that of their weights.
MINILM = {
    "vectors": "MiniLM",
    "all, no glossary": "MiniLM + words",
    "all": "MiniLM + words, glossary",
}


@cache
def systems() -> dict[str, tuple[ev.Signals, Mapping[str, float]]]:
    """Return the signals and weights of each ranking; all weights are tuned alike.

    Those with MiniLM's vectors have the weights of :data:`languages.SYSTEMS`. The last of
    :data:`E5` needs both embedders: MiniLM reads translated questions and sentences.
    """
    table, mini = studies.lab().table, studies.lab().signals
    reads = typed.Sections(typed.StoredE5(typed.stored(), typed.MultilingualE5()))
    found = reads.signals(list(table["query"]))
    e5 = {q: mini[q] | {"dense_own": found[q]["dense_own"]} for q in table["query"]}
    rows = table[(table["split"] == "tune") & table["answerable"]]
    held = {new: (mini, SYSTEMS[name]) for name, new in MINILM.items()}
    for name, used in E5.items():
        held[name] = (e5, learning.tuned_weights(rows, e5, used)[0])
    for gone in SIGNALS:
        kept = [name for name in SIGNALS if name != gone]
        held[f"without {gone}"] = (mini, learning.tuned_weights(rows, mini, kept)[0])
    return held


def support_embedders() -> pd.DataFrame:
    """Score rankings with MiniLM's vectors and with E5's, and all signals but one.

    Returns
    -------
    DataFrame
        ``id``, ``language``, ``cluster``, ``unread`` of the answerable test questions, and nDCG@10
        of each of :func:`systems`.
    """
    test = studies.lab().test[studies.lab().test["answerable"]]
    judged = ev.relevance()
    judged = judged[judged["query_id"].isin(test["id"])]
    scores = {
        name: per_query(ev.runs(test, held, {name: weights})[name], judged)["ndcg"]
        for name, (held, weights) in systems().items()
    }
    kept = test.set_index("id")[["language", "cluster", "unread"]]
    return kept.assign(**scores).rename_axis("id").reset_index()


def support_titles() -> pd.DataFrame:
    """Let the first three titles of rankings serve the months of the policies.

    Returns
    -------
    DataFrame
        ``ranking``, the means of :func:`policies.means`, ``gap``, ``low``, ``high`` (from
        :data:`studies.FLOOR`, the titles of word search) and ``more``, ``more_low``, ``more_high``
        (above :data:`studies.SEARCH`, the titles of all signals).
    """
    rows, served = studies.confident(), studies.compared()
    chosen = {name: served[name] for name in (studies.FLOOR, studies.SEARCH, studies.CEILING)}
    for name in ("MiniLM + words", "E5 + words", "E5 + MiniLM, words, glossary"):
        shown = ev.first_titles(rows, *systems()[name])
        chosen[name] = (studies.titles_of(shown), "bot")
    table = studies.serve(chosen)
    found = policies.means(table)
    for name, against in (("gap", ""), ("more", studies.SEARCH)):
        ends = [
            policies.gap_closed(table, p, studies.FLOOR, studies.CEILING, against)
            for p in found.index
        ]
        extra = "" if name == "gap" else f"{name}_"
        found[[name, f"{extra}low", f"{extra}high"]] = ends
    return found.rename_axis("ranking").reset_index()


def withdrawn(rows: pd.DataFrame, signals: ev.Signals) -> ev.Signals:
    """Return the signals of questions without every article that answers them, in part or whole."""
    names = world.knowledge_base().set_index("id")["article_id"]
    grades = world.truth(ev.NOW).relevance.query("grade > 0")
    good = grades["article"].map(names).groupby(grades["question"]).agg(set)
    return {
        query: {
            name: {a: value for a, value in scores.items() if a not in good[question]}
            for name, scores in signals[query].items()
        }
        for question, query in zip(rows["id"], rows["query"], strict=True)
    }


def support_withdrawn() -> pd.DataFrame:
    """Ask answerable test questions again without the articles that answer them: the words stay.

    Returns
    -------
    DataFrame
        ``score``, ``auroc`` (articles there against articles gone; a question with which nothing is
        found counts as the least sure), ``low``, ``high``, ``cases``. Of the words alone it is one
        half: they are the same.
    """
    there = ev.to_articles(studies.confident()).query("answerable")
    lab = studies.lab()
    rows, signals = lab.test, dict(lab.signals)
    rows = rows[rows["id"].isin(there["id"])]
    signals |= withdrawn(rows, signals)
    gone = ev.confidences(rows, ev.answers(rows, signals, lab.centre, lab.answerer))
    both, yes = pd.concat([there, gone]), np.repeat([True, False], [len(there), len(gone)])
    topics = both["cluster"].to_numpy(object)
    scores = {
        "question words": both["answerable_words"],
        "search and reader": both["answerable_evidence"],
        "all evidence": both["answerable_p"],
        "the answer is right": both["right"],
    }
    found = [(n, *auroc(s.fillna(0).to_numpy(), yes, topics), len(both)) for n, s in scores.items()]
    return pd.DataFrame(found, columns=["score", "auroc", "low", "high", "cases"])


STUDIES: dict[str, Callable[[], pd.DataFrame]] = {
    study.__name__: study for study in (support_embedders, support_titles, support_withdrawn)
}
