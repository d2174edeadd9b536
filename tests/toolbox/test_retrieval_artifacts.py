"""Case 16: the dense ranks that are stored, their sample, and a reduced run of the benchmarks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import artifacts, benchmarks
from casebook.recorded import artifacts as toolbox
from casebook.recorded.artifacts import artifact
from casebook.retrieval import collections, growth
from casebook.retrieval.collections import (
    DEPTH,
    FILES,
    compare_ranks,
    compare_vectors,
    document_texts,
    find_file,
    of_split,
    shape_faults,
)
from casebook.retrieval.dense import Hashed, nearest, vector_frame
from casebook.retrieval.evaluate import per_query
from casebook.retrieval.growth import Drawn, drawn_articles, measured
from casebook.retrieval.lexical import BM25, run

CASE = benchmarks.CASE
QUERIES = {"scifact": 1109, "cranfield": 225}


@pytest.fixture
def public():
    """Skip the test where the public collections are not here."""
    if not all(find_file(file) for files in FILES.values() for file in files):
        pytest.skip("the public files are not in CASEBOOK_DATA_DIR")


@pytest.mark.parametrize("name", FILES)
def test_each_query_has_its_hundred_ranks(name):
    stored = artifact(CASE, f"{name}_dense.parquet")
    assert list(stored) == ["query_id", "doc_id", "rank", "score"]
    assert len(stored) == QUERIES[name] * DEPTH and shape_faults(name, stored) == []
    assert stored["score"].between(-0.2, 1.001).all()


def test_planted_faults_of_the_shape_are_named():
    stored = artifact(CASE, "cranfield_dense.parquet")
    for plant in (
        stored.drop(index=5),
        stored.assign(doc_id=stored["doc_id"].where(stored.index != 3, stored["doc_id"].iloc[0])),
        stored.assign(score=stored["score"].where(stored.index != 50, 2.0)),
    ):
        assert shape_faults("cranfield", plant) == ["cranfield: query 1 has not 100 ranks in order"]


@pytest.fixture
def small(monkeypatch):
    """A collection of forty texts whose dense ranks another model made."""
    texts = [f"text {i} of {'abcdefgh'[i % 8] * 5}" for i in range(140)]
    documents = pd.DataFrame({"doc_id": [f"d{i}" for i in range(140)], "title": "t", "text": texts})
    queries = pd.DataFrame({"query_id": [f"q{i}" for i in range(6)], "text": texts[:6]})
    found = collections.Collection(documents, queries.assign(split="test"), pd.DataFrame())
    monkeypatch.setattr(collections, "collection", lambda name: found)
    model = Hashed(64)
    places, scores = nearest(
        model.encode(texts[:6]), model.encode(document_texts(documents)), DEPTH
    )
    return pd.DataFrame(
        {
            "query_id": np.repeat(queries["query_id"].to_numpy(), DEPTH),
            "doc_id": documents["doc_id"].to_numpy()[places.ravel()],
            "rank": np.tile(np.arange(1, DEPTH + 1), 6),
            "score": scores.ravel().round(4),
        }
    ), model


def test_a_sample_made_anew_agrees_and_finds_what_is_wrong(small):
    stored, model = small
    how, lines = compare_ranks("cranfield", stored, model.encode, np.random.default_rng(0))
    assert lines == [] and "5 queries" in how
    shifted = stored.assign(score=stored["score"] - 0.02)
    lines = compare_ranks("cranfield", shifted, model.encode, np.random.default_rng(0))[1]
    assert any("the cosine of query" in line for line in lines)
    # The first ranks are left out and others, with the right cosines, stand in for them.
    lacking = stored[stored["rank"] > 30]
    lines = compare_ranks("cranfield", lacking, model.encode, np.random.default_rng(0))[1]
    assert any("is nearer to query" in line for line in lines)


def test_vectors_made_anew_agree_and_find_what_is_wrong():
    texts, model = [f"passage {i} about {'xyz'[i % 3]}" for i in range(30)], Hashed(384)
    stored, rng = vector_frame(texts, model), np.random.default_rng(0)
    stored_by_name = stored.copy()
    assert compare_vectors(stored_by_name, texts, model.encode, rng)[1] == []
    assert compare_vectors(stored, [*texts, "one more"], model.encode, rng)[1] == [
        "1 texts are not in the cache, 0 not needed"
    ]
    turned = stored.assign(codes=np.roll(stored["codes"].to_numpy(), 1))
    assert any("differs" in line for line in compare_vectors(turned, texts, model.encode, rng)[1])


def test_without_public_files_the_check_says_so(monkeypatch):
    monkeypatch.setenv("CASEBOOK_REAL_DATA", "off")
    stored = {file: artifact(CASE, file) for file in artifacts.ARTIFACTS if "dense" in file}
    how, lines = artifacts.recompute(stored, np.random.default_rng(0))
    assert "not here" in how and lines == []
    with pytest.raises(FileNotFoundError, match="`make data` fetches"):
        collections.collection("scifact")


def test_the_artifacts_are_those_of_this_code():
    assert toolbox.faults(CASE) == []


# Targets on public collections, live ---------------------------------------------------


def test_bm25_reaches_its_targets_on_public_collections(public):
    for name, least in (("scifact", 0.66), ("cranfield", 0.355)):
        found = benchmarks.collection(name)
        asked = found.queries if name == "cranfield" else found.queries[lambda q: q.split == "test"]
        texts = document_texts(found.documents)
        ranked = run(BM25(texts), asked, found.documents["doc_id"], 10)
        judged = found.judgements[found.judgements["query_id"].isin(asked["query_id"])]
        assert per_query(ranked, judged)["ndcg"].mean() >= least


def test_fused_rankings_beat_the_single_ones_on_cranfield(public):
    table = benchmarks.retrievers(["cranfield"]).set_index(["queries_of", "model", "metric"])
    assert table["against"].eq("dense").all() or table["against"].eq("bm25").all()
    all_queries = table.loc["all"].xs("ndcg", level="metric")["value"]
    assert all_queries["weighted"] > max(all_queries["bm25"], all_queries["dense"])
    assert all_queries["faq"] < all_queries["bm25"]


def test_learning_uses_the_training_queries_alone(public):
    found = benchmarks.collection("cranfield")
    split = {
        s: set(of_split(found.judgements, found.queries, s)["query_id"]) for s in ("train", "test")
    }
    assert not split["train"] & split["test"]
    assert set(benchmarks.ranked("cranfield")[2]["reranked"]["query_id"]) <= split["test"]


def test_a_small_index_is_measured():
    found = measured(500, queries=100)
    assert found["chunks"] == 500 and 0 < found["build"] < 60
    for how in ("lexical", "dense", "hybrid"):
        assert 0 < found[f"{how}_p50"] <= found[f"{how}_p95"] < 1000
    assert found["update_one"] > 0 and found["memory"] >= 0


def test_drawn_text_has_the_frequencies_of_language():
    frame = drawn_articles(40, np.random.default_rng(0))
    words = pd.Series(" ".join(frame["text"]).split()).value_counts()
    assert words.iloc[:100].sum() / words.sum() == pytest.approx(0.45, abs=0.06)
    assert words.size > 4000 and len(set(growth.vocabulary())) == growth.VOCABULARY
    made = Drawn().encode(["a", "b", "a"])
    assert np.allclose(made[0], made[2]) and abs(made[0] @ made[1]) < 0.2
