"""Indices of vectors: recall against exact search, bytes against arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from casebook.retrieval.ann import (
    Index,
    Settings,
    arithmetic,
    clustered,
    measure,
    recall,
    unit,
)

FLAT = Settings("flat")
HNSW = Settings("hnsw", links=16, search=64)
CODES = Settings("ivfpq", cells=8, code=8, probes=4)


@pytest.fixture(scope="module")
def vectors():
    return clustered(1_500, 32, groups=40, seed=1)


@pytest.fixture(scope="module")
def queries():
    return clustered(1_560, 32, groups=40, seed=1)[1_500:]


def test_the_flat_index_is_exact(vectors, queries):
    items, scores = Index(vectors, FLAT).search(queries, 10)
    cosine = queries @ vectors.T
    assert (items == np.argsort(-cosine, axis=1)[:, :10]).mean() > 0.999
    assert scores == pytest.approx(np.sort(cosine, axis=1)[:, ::-1][:, :10], abs=1e-5)
    # Its queries and its vectors are brought to length 1.
    again = Index(3 * vectors, FLAT).search(0.1 * queries, 10)[0]
    assert (again == items).mean() > 0.999


def test_a_graph_finds_nearly_all_and_codes_fewer_until_they_are_compared_again(vectors, queries):
    exact = Index(vectors, FLAT).search(queries, 50)[0]
    found = {
        settings: recall(Index(vectors, settings).search(queries, 50)[0], exact).mean()
        for settings in (HNSW, CODES, Settings("ivfpq", cells=8, code=8, probes=8, rescored=8))
    }
    graph, codes, rescored = found.values()
    assert graph > 0.95 > codes
    assert rescored > 0.99


@pytest.mark.parametrize("settings", [FLAT, HNSW, CODES], ids=lambda s: s.kind)
def test_measured_bytes_are_those_that_were_computed(vectors, settings):
    parts = arithmetic(settings, *vectors.shape)
    assert Index(vectors, settings).bytes == pytest.approx(parts["total"], rel=0.01, abs=300)
    assert parts["total"] == sum(v for k, v in parts.items() if k != "total")


def test_arithmetic_without_the_links_is_wrong_and_found(vectors):
    parts = arithmetic(HNSW, *vectors.shape)
    assert Index(vectors, HNSW).bytes > 1.5 * parts["vectors"]
    codes = arithmetic(CODES, *vectors.shape)
    assert Index(vectors, CODES).bytes > 1.5 * codes["codes"]


def test_ten_million_vectors():
    flat = arithmetic(FLAT, 10_000_000, 128)["total"]
    assert flat == 5.12e9
    codes = arithmetic(Settings("ivfpq", cells=4096, code=32), 10_000_000, 128)["total"]
    graph = arithmetic(Settings("hnsw", links=32), 10_000_000, 128)["total"]
    assert codes < flat / 10 and graph > 1.5 * flat


def test_the_same_index_twice(vectors, queries):
    for settings in (HNSW, CODES):
        one, two = (Index(vectors, settings).search(queries, 20)[0] for _ in range(2))
        assert (one == two).all()


def test_a_measurement_has_its_parts(vectors, queries):
    row = measure(vectors, queries[:20], HNSW, k=20)
    assert row["recall"] > 0.9 and row["n"] == 1_500
    assert 0 < row["p50"] <= row["p95"] and row["bytes"] == pytest.approx(row["computed"], rel=0.01)
    assert row["beside"] == 0
    again = measure(vectors, queries[:20], replace(CODES, rescored=4), k=20)
    assert again["beside"] == 4 * vectors.size and again["bytes"] < again["beside"]


def test_what_does_not_fit_is_refused(vectors):
    spoiled = vectors.copy()
    spoiled[3, 2] = np.nan
    for call, says in (
        (lambda: Settings("annoy"), "there is no index"),
        (lambda: Index(spoiled, FLAT), "finite"),
        (lambda: unit([1.0, 2.0]), "table"),
        (lambda: Index(vectors[:100], CODES), "fewer cells"),
        (lambda: Index(vectors, Settings("ivfpq", cells=8, code=7)), "fewer cells"),
        (lambda: Index(vectors, FLAT).search(vectors[:1], 1_501), "k = 1501"),
        (lambda: Index(vectors, FLAT).search(vectors[:1, :4], 2), "queries of 4"),
        (lambda: recall([[1]], [[1, 2]]), "differ"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_a_vector_of_zeros_stays_and_is_near_to_nothing():
    vectors = unit(np.vstack([np.zeros(4), np.eye(4)]))
    assert not vectors[0].any()
    items, scores = Index(vectors, FLAT).search(np.eye(4)[:1], 1)
    assert items.tolist() == [[1]] and scores[0, 0] == 1
