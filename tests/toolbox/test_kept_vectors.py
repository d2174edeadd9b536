"""Vectors that are kept: each text once, across files and failures, and gone when forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.dense import Hashed
from casebook.retrieval.kept_vectors import BATCH, KeptVectors


class Counting(Hashed):
    """Remembers what it was given; fails at a text."""

    def __init__(self, dimensions=16):
        super().__init__(dimensions)
        self.texts = []

    def encode(self, texts):
        if "bad" in texts:
            return np.full((len(texts), self.dimensions), np.nan)
        self.texts += texts
        return super().encode(texts)


def test_each_text_is_embedded_once_also_in_the_next_process(tmp_path):
    inner, texts = Counting(), ["a", "b", "a", ""]
    kept = KeptVectors(inner, tmp_path / "v.db")
    assert np.allclose(kept.encode(texts), Hashed(16).encode(texts))
    assert inner.texts == ["a", "b", ""] and kept.encode([]).shape == (0, 16)
    kept.close()
    again = KeptVectors(inner, tmp_path / "v.db")
    assert np.allclose(again.encode(texts[::-1]), Hashed(16).encode(texts[::-1]))
    assert len(inner.texts) == 3 and again.counts == {"embedded": 0, "kept": 3}


def test_what_was_embedded_before_a_failure_is_kept(tmp_path):
    inner = Counting()
    kept = KeptVectors(inner, tmp_path / "v.db")
    with pytest.raises(ValueError, match="embedder"):
        kept.encode([*(f"text {n}" for n in range(BATCH)), "bad"])
    assert len(kept) == BATCH
    kept.encode(["text 0"])
    assert len(inner.texts) == BATCH


def test_a_forgotten_vector_is_overwritten_and_another_embedders_file_refused(tmp_path):
    kept = KeptVectors(Hashed(16), tmp_path / "v.db")
    raw = kept.encode(["secret"]).tobytes()
    assert kept.forget(["secret", "never there"]) == 1 and len(kept) == 0
    kept.close()
    assert raw not in (tmp_path / "v.db").read_bytes()
    with pytest.raises(ValueError, match="take another file"):
        KeptVectors(Hashed(32), tmp_path / "v.db")


def test_a_forgotten_vector_is_in_no_file_before_it_is_closed_and_questions_leave_none(tmp_path):
    kept = KeptVectors(Hashed(16), tmp_path / "v.db")
    raw = kept.encode(["secret"]).tobytes()
    assert np.allclose(kept.encode_queries(["secret?"]), Hashed(16).encode(["secret?"]))
    assert len(kept) == 1
    kept.forget(["secret"])
    assert all(raw not in path.read_bytes() for path in tmp_path.iterdir())
