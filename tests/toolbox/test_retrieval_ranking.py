"""Rankings: BM25 against a formula, embedders, fusion, reranking and their evaluation."""

from __future__ import annotations

import sys
import types

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from casebook.retrieval import dense as vectors
from casebook.retrieval.dense import (
    Cached,
    Embedder,
    Hashed,
    MiniLM,
    NotCached,
    SentenceModel,
    check_vectors,
    from_env,
    nearest,
    pack,
    query_vectors,
    unpack,
    vector_frame,
)
from casebook.retrieval.evaluate import (
    check_run,
    compare,
    first_ranks,
    paired_bootstrap,
    per_query,
    rescues,
)
from casebook.retrieval.fusion import (
    normalised,
    reciprocal_rank_fusion,
    rerank_by,
    side_by_side,
    tune_weight,
    weighted_fusion,
)
from casebook.retrieval.lexical import BM25, FaqSearch, Postings, run, top
from casebook.retrieval.rerank import (
    TEXT_FEATURES,
    PairFeatures,
    Reranker,
    feature_columns,
    unseen,
    with_labels,
)
from casebook.retrieval.text import char_ngrams

TEXTS = [
    "Customs fee for parcels",
    "Deliver a parcel to a neighbour",
    "Opening hours of the depot",
    "Parcel parcel parcel",
]


def ranking(**queries: str) -> pd.DataFrame:
    """Return a run: ``ranking(q="abc")`` finds the documents a, b and c in this order."""
    rows = [
        (query, doc, rank, 1 / rank)
        for query, docs in queries.items()
        for rank, doc in enumerate(docs, start=1)
    ]
    return pd.DataFrame(rows, columns=["query_id", "doc_id", "rank", "score"])


def judged(**queries: str) -> pd.DataFrame:
    rows = [(query, doc, 1) for query, docs in queries.items() for doc in docs]
    return pd.DataFrame(rows, columns=["query_id", "doc_id", "relevance"])


# Words -------------------------------------------------------------------------------


def test_bm25_is_the_formula():
    """Counted by hand: parcel stands in three of four texts, whose mean length is 3."""
    scores = BM25(TEXTS).scores("parcels")
    idf = np.log(1 + (4 - 3 + 0.5) / (3 + 0.5))

    def expected(times, length):
        return idf * times / (times + 1.2 * (0.25 + 0.75 * length / 3))

    made = [expected(1, 3), expected(1, 3), 0, expected(3, 3)]
    np.testing.assert_allclose(scores, made, rtol=1e-5)
    assert list(BM25(TEXTS).search("parcels", 2)[0]) == [3, 0]
    assert BM25(TEXTS).search("zebra", 5)[0].size == 0


def test_bm25_refuses_texts_without_words():
    with pytest.raises(ValueError, match="None of 2 texts holds a term"):
        BM25(["", "the"])


def test_postings_that_came_and_went_score_like_bm25s():
    rng, postings, alive = np.random.default_rng(3), Postings(), {}
    words, n = [f"w{i}" for i in range(30)], 0
    for _ in range(40):
        if alive and rng.random() < 0.4:
            gone = rng.choice(sorted(alive), min(2, len(alive)), replace=False)
            postings.remove(gone.tolist())
            alive = {place: text for place, text in alive.items() if place not in gone}
        else:
            new = [list(rng.choice(words, rng.integers(1, 12))) for _ in range(rng.integers(1, 6))]
            postings.add(n, new)
            alive |= dict(enumerate(new, start=n))
            n += len(new)
        if alive:
            texts = [" ".join(text) for text in alive.values()]
            expected = BM25(texts).scores("w3 w7 w7 w11")
            made = postings.scores(["w3", "w7", "w7", "w11"], n)[list(alive)]
            np.testing.assert_allclose(made, expected, rtol=2e-5, atol=1e-6)
    assert len(postings) == len(alive) > 10
    assert Postings().scores(["w"], 3).tolist() == [0, 0, 0]


def test_top_is_stable_and_bounded():
    scores = np.array([1.0, 3.0, 3.0, 0.0, 2.0])
    assert top(scores, 3).tolist() == [1, 2, 4] and top(scores, 1).tolist() == [1]
    assert top(scores, 99, above=0.0).tolist() == [1, 2, 4, 0]


def test_faq_search_counts_words_of_the_title_twice_as_much():
    search = FaqSearch(["Customs fees", "Opening hours"], ["How to pay", "Customs is open"])
    assert search.search("customs", 2)[0].tolist() == [0, 1]
    assert search.scores("When does customs open?").tolist() == [1.0, 2.0]


def test_a_run_names_documents_and_starts_at_rank_one():
    queries = pd.DataFrame({"query_id": ["x", "y", "z"], "text": ["parcel", "hours", "zebra"]})
    found = run(BM25(TEXTS), queries, list("abcd"), k=2)
    assert found["query_id"].tolist() == ["x", "x", "y"]
    assert found["doc_id"].tolist() == ["d", "a", "c"] and found["rank"].tolist() == [1, 2, 1]
    german = queries.assign(language="de")
    assert len(run(BM25(TEXTS, "de", char_ngrams), german, list("abcd")))


# Vectors -----------------------------------------------------------------------------


def test_hashed_vectors_are_unit_and_the_same_everywhere():
    model = Hashed(32)
    made = model.encode(["parcel", "parcels", "zebra", ""])
    assert isinstance(model, Embedder) and made.dtype == np.float32 and made.shape == (4, 32)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert made[0] @ made[1] > made[0] @ made[2]
    assert model.encode([]).shape == (0, 32)


def test_a_cache_gives_back_vectors_and_says_what_to_run():
    texts = ["one text", "another text", "one text"]
    frame = vector_frame(texts, Hashed(64))
    assert list(frame) == ["hash", "scale", "codes"] and len(frame) == 2
    cached = Cached(frame, "hashed-64", "make artifacts N=99")
    np.testing.assert_allclose(cached.encode(texts), Hashed(64).encode(texts), atol=0.01)
    assert cached.dimensions == 64 and "one text" in cached and "new" not in cached
    with pytest.raises(NotCached, match=r"1 of 2 texts .*'a new text'.*`make artifacts N=99`"):
        cached.encode(["one text", "a new text"])
    live = Cached(frame, "hashed-64", live=Hashed(64))
    np.testing.assert_allclose(live.encode(["a new text"]), Hashed(64).encode(["a new text"]))


def test_a_cache_refuses_what_cannot_be_compared():
    frame = vector_frame(["a"], Hashed(64))
    with pytest.raises(ValueError, match="hashed-8 cannot go with it"):
        Cached(frame, "hashed-64", live=Hashed(8))
    with pytest.raises(ValueError, match="different lengths"):
        Cached(pd.concat([frame, vector_frame(["b"], Hashed(8))]), "hashed-64")
    with pytest.raises(ValueError, match="empty"):
        Cached(frame.iloc[:0], "hashed-64")


def test_a_byte_for_each_number_is_nearly_the_vector():
    made = np.random.default_rng(0).standard_normal((200, 384)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    assert (unpack(*pack(made)) * made).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize(
    ("given", "message"),
    [(np.ones((2, 3)), "of length 1"), (np.eye(3), "shape"), (np.full((2, 3), np.nan), "length 1")],
)
def test_vectors_of_a_wrong_kind_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        check_vectors(given, 2, 3)


def test_nearest_is_exact():
    rng = np.random.default_rng(1)
    queries, documents = rng.standard_normal((3, 8)), rng.standard_normal((50, 8))
    positions, scores = nearest(queries, documents, 5)
    expected = np.sort(queries @ documents.T, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(scores, expected)
    assert positions.shape == (3, 5) and nearest(queries, documents, 99)[0].shape == (3, 50)


def test_the_configured_model_is_taken(monkeypatch):
    """sentence-transformers is not in this environment: a stand-in shows how it is called."""
    monkeypatch.delenv(vectors.VARIABLE, raising=False)
    default = Hashed(8)
    assert from_env(default) is default
    monkeypatch.setattr(vectors, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=vectors.VARIABLE):
        from_env()
    with pytest.raises(ModuleNotFoundError, match="environment of the artifacts"):
        MiniLM()._load()
    monkeypatch.setenv(vectors.VARIABLE, "BAAI/bge-m3")
    with pytest.raises(ModuleNotFoundError, match=r"'BAAI/bge-m3', and sentence-transformers"):
        from_env(default)
    monkeypatch.setattr(vectors, "find_spec", lambda name: object())
    model = from_env(default)
    assert isinstance(model, SentenceModel) and model.name == "BAAI/bge-m3"
    calls = []

    class Fake:
        def __init__(self, name, device):
            calls.append((name, device))

        def encode(self, texts, **options):
            calls.append(options.get("normalize_embeddings"))
            return Hashed(16).encode(texts)

    monkeypatch.setitem(
        sys.modules, "torch", types.SimpleNamespace(set_num_threads=lambda n: calls.append(n))
    )
    monkeypatch.setitem(
        sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Fake)
    )
    assert model.encode(["a", "b"]).shape == (2, 16) and model.dimensions == 16
    assert calls[:3] == [1, ("BAAI/bge-m3", "cpu"), True]
    assert np.array_equal(query_vectors(model, ["a"]), model.encode(["a"]))
    # A model that wants words before a question has a way of its own for it.
    Fake.encode_query = lambda self, texts, **options: Hashed(16).encode([f"? {t}" for t in texts])
    assert np.array_equal(query_vectors(model, ["a"]), model.encode(["? a"]))
    assert query_vectors(model, []).shape == (0, 16)
    monkeypatch.delenv(vectors.VARIABLE)
    assert isinstance(from_env(), MiniLM)


# Evaluation --------------------------------------------------------------------------


def test_metrics_by_hand():
    scored = per_query(ranking(q="xaybz", r="xyz"), judged(q="abc", r="x", s="a"), k=4)
    dcg, ideal = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    expected = {"ndcg": dcg / ideal, "recall": 2 / 3, "mrr": 1 / 2, "precision": 2 / 4}
    assert scored.loc["q"].to_dict() == pytest.approx(expected | {"success": 1})
    expected = {"ndcg": 1, "recall": 1, "mrr": 1, "precision": 0.25, "success": 1}
    assert scored.loc["r"].to_dict() == expected
    late = per_query(ranking(q="xaybz"), judged(q="b"), k=3)
    assert late["success"].tolist() == [0]
    assert (scored.loc["s"] == 0).all()  # not answered: zero, not left out


def test_ndcg_agrees_with_scikit_learn():
    rng, docs = np.random.default_rng(0), [f"d{i}" for i in range(12)]
    for k in (3, 10):
        grades, scores = rng.integers(0, 4, 12), rng.permutation(12)
        grades[0] = 1
        order = [docs[i] for i in np.argsort(-scores)]
        found = pd.DataFrame({"query_id": "q", "doc_id": order, "rank": np.arange(1, 13)})
        truth = pd.DataFrame({"query_id": "q", "doc_id": docs, "relevance": grades})
        mine = per_query(found, truth, k).loc["q", "ndcg"]
        assert mine == pytest.approx(ndcg_score([grades], [scores], k=k))


@pytest.mark.parametrize(
    ("found", "truth", "k", "message"),
    [
        (ranking(q="aa"), judged(q="a"), 10, "repeat a doc_id"),
        (ranking(q="ab").assign(rank=1), judged(q="a"), 10, "repeat a rank"),
        (ranking(q="ab").assign(rank=[0, 1]), judged(q="a"), 10, "start at 1"),
        (ranking(q="a", z="a"), judged(q="a"), 10, "no judgements, such as 'z'"),
        (ranking(q="a"), judged(q="a").assign(relevance=0), 10, "Nothing is relevant"),
        (ranking(q="a"), judged(q="aa"), 10, "judgements repeat"),
        (ranking(q="a"), judged(q="a"), 0, "k is 0"),
        (ranking(q="a").drop(columns="rank"), judged(q="a"), 5, "lacks the columns"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(found, truth, k, message):
    with pytest.raises(ValueError, match=message):
        per_query(found, truth, k)


def test_the_bootstrap_covers_and_is_paired():
    rng, covered = np.random.default_rng(0), 0
    for i in range(200):
        level = rng.normal(size=80)  # queries differ far more than the rankings do
        ids = pd.RangeIndex(80)
        a, b = (
            pd.Series(level + 0.1 + rng.normal(0, 0.2, 80), ids),
            pd.Series(level + rng.normal(0, 0.2, 80), ids),
        )
        gap = paired_bootstrap(a, b.sample(frac=1, random_state=i), draws=500, seed=i)
        covered += gap.low <= 0.1 <= gap.high
        assert gap.high - gap.low < 0.25  # unpaired it would be 0.6
    assert 0.88 <= covered / 200 <= 0.99
    with pytest.raises(ValueError, match="same queries"):
        paired_bootstrap(a, b.iloc[:-1])


def test_a_comparison_and_who_rescues_whom():
    truth = judged(**{f"q{i}": "a" for i in range(4)})
    lexical = ranking(q0="a", q1="a", q2="xyzuva", q3="x")
    dense = ranking(q0="a", q1="xyzuva", q2="a", q3="x")
    table = rescues(lexical, dense, truth, k=5)
    assert table["who"].tolist() == ["both", "lexical only", "dense only", "neither"]
    assert table.loc["q3"].tolist()[:2] == [101, 101] and table.loc["q2", "lexical"] == 6
    assert first_ranks(lexical, truth).tolist() == [1, 1, 6, 101]
    compared = compare({"lexical": lexical, "dense": dense}, truth, "dense", k=5)
    row = compared.set_index(["model", "metric"]).loc[("lexical", "ndcg")]
    assert (row["difference"], row["wins"], row["losses"], row["queries"]) == (0, 1, 1, 4)
    with pytest.raises(KeyError, match="'magic' is not among the runs"):
        compare({"lexical": lexical}, truth, "magic")


# Fusion ------------------------------------------------------------------------------


def test_reciprocal_ranks_by_hand():
    fused = reciprocal_rank_fusion([ranking(q="ab"), ranking(q="bc")], k=60)
    assert fused["doc_id"].tolist() == ["b", "a", "c"]
    assert fused["score"].tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    weighted = reciprocal_rank_fusion([ranking(q="ab"), ranking(q="bc")], [9, 1], depth=2)
    assert weighted["doc_id"].tolist() == ["b", "a"] and weighted["rank"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="1 weights for 2 runs"):
        reciprocal_rank_fusion([ranking(q="a"), ranking(q="a")], [1])
    with pytest.raises(ValueError, match="repeat a doc_id"):
        reciprocal_rank_fusion([ranking(q="aa"), ranking(q="a")])


def test_ranks_alone_matter_to_reciprocal_rank_fusion():
    a, b = ranking(q="abc"), ranking(q="cab")
    louder = a.assign(score=a["score"] * 1000)
    pd.testing.assert_frame_equal(
        reciprocal_rank_fusion([a, b]), reciprocal_rank_fusion([louder, b])
    )


def test_scores_on_a_common_scale():
    found = ranking(q="abc", r="a").assign(score=[4.0, 2.0, 0.0, 7.0])
    assert normalised(found).tolist() == [1, 0.5, 0, 1]
    assert normalised(found, "zscore").tolist() == pytest.approx([1.2247, 0, -1.2247, 0], abs=1e-4)
    with pytest.raises(ValueError, match="'log' is neither"):
        normalised(found, "log")


def test_a_weighted_sum_by_hand_and_at_its_ends():
    lexical = ranking(q="abc").assign(score=[10.0, 6.0, 0.0])
    dense = ranking(q="cbd").assign(score=[0.9, 0.8, 0.4])
    fused = weighted_fusion(lexical, dense, 0.5).set_index("doc_id")["score"]
    assert fused.to_dict() == pytest.approx({"b": 0.7, "a": 0.5, "c": 0.5, "d": 0.0})
    assert weighted_fusion(lexical, dense, 0.0)["doc_id"].tolist()[:2] == ["a", "b"]
    assert weighted_fusion(lexical, dense, 1.0)["doc_id"].tolist()[:2] == ["c", "b"]
    with pytest.raises(ValueError, match="between 0 and 1"):
        weighted_fusion(lexical, dense, 1.5)


def test_the_weight_is_learned_from_the_judged_queries_alone():
    lexical = ranking(q="ab", r="ab").assign(score=[1.0, 0.0] * 2)
    dense = ranking(q="ba", r="ba").assign(score=[1.0, 0.0] * 2)
    for docs, best in (("b", 1.0), ("a", 0.0)):
        curve = tune_weight(lexical, dense, judged(q=docs), [0.0, 1.0])
        assert curve.idxmax() == best and curve.max() == 1.0
    with pytest.raises(ValueError, match="No query of the runs is judged"):
        tune_weight(lexical, dense, judged(x="a"))


def test_runs_side_by_side():
    pairs = side_by_side({"bm25": ranking(q="ab"), "dense": ranking(q="bc")})
    assert pairs["doc_id"].tolist() == ["a", "b", "c"]
    assert pairs["bm25_rank"].tolist() == [1, 2, 3] and pairs["dense_rank"].tolist() == [3, 1, 2]
    assert pairs["bm25_score"].tolist() == [1, 0.5, 0.5]
    assert rerank_by(pairs, "dense_score", depth=1)["doc_id"].tolist() == ["b"]


# Reranking ---------------------------------------------------------------------------


def made_up(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict]:
    """Return documents, queries, judgements and runs: the title tells what is relevant."""
    rng = np.random.default_rng(seed)
    topics = [f"topic{chr(97 + i)}" for i in range(12)]
    rows = [(f"d{i}", topics[i % 12], " ".join(rng.choice(topics, 4))) for i in range(48)]
    documents = pd.DataFrame(rows, columns=["doc_id", "title", "text"])
    asked = [(f"q{i}", topics[rng.integers(12)]) for i in range(n)]
    queries = pd.DataFrame(asked, columns=["query_id", "text"])
    hits = queries.merge(documents, left_on="text", right_on="title")
    truth = hits[["query_id", "doc_id"]].assign(relevance=1)
    found = pd.concat(
        pd.DataFrame({"query_id": q, "doc_id": rng.permutation(documents["doc_id"])[:30]})
        for q in queries["query_id"]
    )
    found["rank"] = found.groupby("query_id").cumcount() + 1
    found["score"] = 1.0 / found["rank"]
    truth = truth[truth["query_id"].isin(found.merge(truth)["query_id"])]
    return documents, queries, truth, {"noise": found}


def test_a_reranker_learns_what_tells_and_the_same_twice():
    documents, queries, truth, runs = made_up(120, 0)
    pairs = PairFeatures(documents)(queries, runs)
    assert set(TEXT_FEATURES) <= set(pairs) and pairs["title_overlap"].isin([0, 1]).all()
    training = set(queries["query_id"][:80])
    labelled = with_labels(pairs, truth)
    known = labelled["query_id"].isin(training)
    columns = feature_columns(labelled)
    assert "relevance" not in columns and "doc_id" not in columns
    model = Reranker(columns, trees=20).fit(labelled[known])
    assert model.gains().index[0] in ("title_overlap", "idf_overlap", "overlap", "ngrams")
    test = truth[~truth["query_id"].isin(training)]
    rest = pairs[pairs["query_id"].isin(test["query_id"])]
    before = per_query(runs["noise"][runs["noise"]["query_id"].isin(test["query_id"])], test)
    after = per_query(model.rerank(rest), test)
    assert after["ndcg"].mean() > before["ndcg"].mean() + 0.3
    again = Reranker(columns, trees=20).fit(labelled[known].sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(model.rerank(rest), again.rerank(rest))


def test_labels_that_are_shuffled_teach_nothing():
    """The planted fault: a reranker that wins on shuffled labels would see the answer."""
    documents, queries, truth, runs = made_up(120, 1)
    pairs = PairFeatures(documents)(queries, runs)
    labelled = with_labels(pairs, truth)
    rng = np.random.default_rng(0)
    labelled["relevance"] = rng.permutation(labelled["relevance"])
    known = labelled["query_id"].isin(queries["query_id"][:80])
    model = Reranker(feature_columns(labelled), trees=20).fit(labelled[known])
    test = truth[~truth["query_id"].isin(queries["query_id"][:80])]
    rest = pairs[pairs["query_id"].isin(test["query_id"])]
    assert per_query(model.rerank(rest), test)["ndcg"].mean() < 0.45


def test_no_feature_tells_documents_apart_by_their_length():
    documents = pd.DataFrame({"doc_id": ["a", "b"], "title": "t", "text": ["w " * 70, "w " * 100]})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["w"]})
    pairs = PairFeatures(documents)(queries, {"x": ranking(q="ab")})
    assert pairs["length"].tolist() == [7, 7]


def test_queries_whose_documents_were_not_trained_on():
    assert unseen(judged(q="ab", r="c", s="d"), judged(t="b", u="d")) == ["r"]


def test_rerankers_refuse_what_cannot_work():
    documents, queries, truth, runs = made_up(10, 2)
    features = PairFeatures(documents)
    with pytest.raises(KeyError, match="have no text"):
        features(queries.iloc[1:], runs)
    with pytest.raises(ValueError, match="repeat a doc_id"):
        PairFeatures(pd.concat([documents, documents]))
    pairs = with_labels(features(queries, runs), truth).assign(relevance=0)
    with pytest.raises(ValueError, match="No candidate is relevant"):
        Reranker(feature_columns(pairs)).fit(pairs)
    for call in (lambda m: m.rerank(pairs), lambda m: m.gains()):
        with pytest.raises(RuntimeError, match="call fit first"):
            call(Reranker(["overlap"]))


@pytest.mark.parametrize("rank", [np.nan, 0, 1.5, -1, np.inf])
def test_a_rank_that_is_none_is_refused(rank):
    run = ranking(q="ab").astype({"rank": float})
    run.loc[1, "rank"] = rank
    with pytest.raises(ValueError, match="whole numbers"):
        check_run(run)


@pytest.mark.parametrize("k", [-1, -61, np.nan])
def test_reciprocal_ranks_divide_by_something(k):
    with pytest.raises(ValueError, match="below 0"):
        reciprocal_rank_fusion([ranking(q="ab"), ranking(q="bc")], k=k)


def test_a_cache_refuses_vectors_that_are_none():
    frame = vector_frame(["a", "b"], Hashed(64))
    for wrong in (np.nan, 0.0, np.inf):
        with pytest.raises(ValueError, match="not of length 1"):
            Cached(frame.assign(scale=[wrong, *frame["scale"][1:]]), "hashed-64")
    with pytest.raises(ValueError, match="not of length 1"):
        Cached(frame.assign(codes=[bytes(64), frame["codes"][1]]), "hashed-64")
    other = frame.head(1).assign(codes=[frame["codes"][1]])
    with pytest.raises(ValueError, match="two vectors for one text"):
        Cached(pd.concat([frame, other]), "hashed-64")
    assert "a" in Cached(pd.concat([frame, frame]), "hashed-64")  # the same one twice is one
