"""What case 16 records with ``make bench N=16``: the cost of an index, and public collections.

* ``index_cost`` and ``query_latency``: an index of 1,000, 10,000 and 100,000 passages.
* ``retrievers``: word, vector and fused rankings of SciFact and Cranfield, each held against the
  single retriever that is better on the training queries.
* ``real_scifact``: words, vectors and half of each on SciFact, as a page shows them.
* ``support_bank`` and ``support_public``: a bank's help pages, and intents.

These need the public files; they read the dense ranks from the artifacts. The other tables whose
names begin with ``support_`` are those of the chatbot in its world: see
:mod:`~casebook.cases.support_rag_chatbot.studies`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import rankings, written
from casebook.cases.support_rag_chatbot.studies import STUDIES
from casebook.data import real
from casebook.data.texts import Collection, bank_faqs, banking77, clinc150, cranfield, scifact
from casebook.evaluate.abstain import auroc
from casebook.evaluate.intervals import wilson
from casebook.recorded.artifacts import artifact
from casebook.recorded.real import from_real
from casebook.retrieval.classify import IntentModel
from casebook.retrieval.collections import (
    compared,
    fused_runs,
    of_split,
    single_runs,
)
from casebook.retrieval.evaluate import compare, per_query
from casebook.retrieval.fusion import reciprocal_rank_fusion, weighted_fusion
from casebook.retrieval.growth import index_cost, query_latency
from casebook.retrieval.lexical import BM25, run
from casebook.retrieval.text import char_ngrams

CASE = "16_support_rag_chatbot"
COLLECTIONS = ("scifact", "cranfield")
#: A collection, its single rankings and those that use two of them.
Ranked = tuple[Collection, Mapping[str, pd.DataFrame], Mapping[str, pd.DataFrame]]


@cache
def collection(name: str) -> Collection:
    """Read SciFact or Cranfield; raises ``RealDataUnavailable`` without its files."""
    if name == "scifact":
        return scifact(real("scifact"))
    files = ("documents", "queries", "judgements")
    return cranfield(*(real(f"cranfield_{file}") for file in files))


@cache
def ranked(name: str) -> Ranked:
    """Return a collection with its rankings; those by vectors stand in the artifacts."""
    found = collection(name)
    base = single_runs(found, artifact(CASE, f"{name}_dense.parquet"))
    return found, base, fused_runs(found, base)


def retrievers(names: Sequence[str] = COLLECTIONS) -> pd.DataFrame:
    """Compare all rankings; see :func:`~casebook.retrieval.collections.compared`.

    Returns
    -------
    DataFrame
        ``collection`` and the columns of :func:`~casebook.retrieval.collections.compared`.
    """
    parts = {name: compared(*ranked(name)) for name in names}
    return pd.concat(parts, names=["collection"]).reset_index(0).reset_index(drop=True)


def real_scifact() -> pd.DataFrame:
    """Search SciFact's abstracts by words, by vectors and by half of each, on the test claims.

    Returns
    -------
    DataFrame
        ``model`` (``bm25``, ``dense``: MiniLM, ``both``: their weighted sum), ``ndcg`` (at 10).
    """
    found = collection("scifact")
    documents, claims = found.documents, found.queries.query("split == 'test'")
    dense = of_split(artifact(CASE, "scifact_dense.parquet"), found.queries, "test")
    texts = (documents["title"] + ". " + documents["text"]).tolist()
    bm25 = run(BM25(texts), claims, documents["doc_id"])
    judged = of_split(found.judgements, found.queries, "test")
    ranked = {"bm25": bm25, "dense": dense}
    ranked["both"] = weighted_fusion(bm25, dense, 0.5, "minmax")
    rows = [(name, per_query(one, judged)["ndcg"].mean()) for name, one in ranked.items()]
    return from_real(pd.DataFrame(rows, columns=["model", "ndcg"]), "scifact")


def support_public() -> pd.DataFrame:
    """Score the intent model on BANKING77 and CLINC150, and out-of-scope detection on the latter.

    Returns
    -------
    DataFrame
        ``collection``, ``what``, ``value``, ``low``, ``high``, ``cases``.
    """
    rows = []
    bank = banking77(real("banking77_train"), real("banking77_test"))
    clinc = clinc150(real("clinc150"))
    for name, frame in (("banking77", bank), ("clinc150", clinc)):
        ours = frame[frame["intent"] != "oos"] if name == "clinc150" else frame
        train, test = (ours[ours["split"] == split] for split in ("train", "test"))
        model = IntentModel().fit(list(train["text"]), ["en"] * len(train), list(train["intent"]))
        told = model.probabilities(list(test["text"]), ["en"] * len(test))
        good = np.array(model.classes)[told.argmax(axis=1)] == test["intent"].to_numpy()
        rows.append((name, "intent accuracy", *wilson(good), len(good)))
        sure = told.max(axis=1)
        most = sure >= np.quantile(sure, 0.3)
        rows.append((name, "accuracy at 70 % coverage", *wilson(good[most]), int(most.sum())))
        if name == "clinc150":
            out = frame[(frame["intent"] == "oos") & (frame["split"] == "test")]
            other = model.probabilities(list(out["text"]), ["en"] * len(out)).max(axis=1)
            both = np.concatenate([sure, other])
            ours_there = np.arange(len(both)) < len(sure)
            rows.append(
                (name, "out of scope, AUROC", *auroc(both, ours_there, draws=200), len(both))
            )
    return pd.DataFrame(rows, columns=["collection", "what", "value", "low", "high", "cases"])


def support_bank() -> pd.DataFrame:
    """Find the answers of a bank's help pages by their questions: real support text.

    The two single rankings and their fusion by rank; nothing is tuned. Intervals resample the
    answers that are asked for.

    Returns
    -------
    DataFrame
        ``model``, ``metric`` (``ndcg``, ``recall``, ``mrr`` at 10), ``value``, ``difference`` to
        ``words``, ``low``, ``high``, ``queries``.
    """
    found = bank_faqs(real("bank_faqs"))
    asked = found.queries[found.queries["split"] == "test"]
    judged = found.judgements[found.judgements["query_id"].isin(asked["query_id"])]
    texts, ids = found.documents["text"].tolist(), found.documents["doc_id"]
    runs = {
        "words": run(BM25(texts), asked, ids),
        "character n-grams": run(BM25(texts, analyser=char_ngrams), asked, ids),
    }
    runs["RRF of both"] = reciprocal_rank_fusion(list(runs.values()))
    answer = judged.groupby("query_id")["doc_id"].min()
    table = compare(runs, judged, "words", metrics=("ndcg", "recall", "mrr"), clusters=answer)
    return table.drop(columns=["wins", "losses"])


#: The timing comes first, while nothing else of the run loads the machine.
BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "index_cost": index_cost,
    "query_latency": query_latency,
    "retrievers": retrievers,
    "real_scifact": real_scifact,
    **STUDIES,
    **rankings.STUDIES,
    "support_public": support_public,
    "support_bank": support_bank,
    **written.STUDIES,
}
