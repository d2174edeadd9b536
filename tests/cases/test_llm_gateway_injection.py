"""Case 20: detectors of attacks, families that are left out, thresholds, shuffled labels."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.cases.llm_gateway import injection
from casebook.cases.llm_gateway.artifacts import attack_texts, request_texts, stored
from casebook.cases.llm_gateway.world.attacks import corpus

LIGHT = ("logistic", 10.0, "vectors")


def test_all_texts_of_the_case_have_a_vector():
    held = stored()
    assert all(text in held for text in [*request_texts(), *attack_texts()])


def test_no_family_and_no_written_text_is_on_both_sides():
    texts, seen = corpus(), []
    for family, train, test in injection.left_out(0):
        assert not (train & test).any()
        keys = texts["kind"] + texts["family"]
        assert not set(keys[train]) & set(keys[test])
        assert not set(texts["origin"][train]) & set(texts["origin"][test])
        assert set(texts["family"][test & (texts["kind"] == "attack")]) == {family}
        seen.append(family)
    assert len(seen) == len(set(seen)) == 9


def test_harmless_traffic_is_weighed_by_how_often_it_comes():
    kinds = np.array(["attack", "harmless", "harmless", "ordinary"])
    np.testing.assert_allclose(injection.weights(kinds), [0, 0.025, 0.025, 0.95])


def test_recall_at_a_weighted_rate_by_hand():
    """Of 100 ordinary texts one may be flagged, if no neighbour is."""
    bad = np.array([True, True] + [False] * 100)
    weight = np.r_[0, 0, np.full(100, 0.01)]
    score = np.r_[0.9, 0.5, 0.7, np.full(99, 0.1)]
    assert injection._weighted_recall(bad, score, weight) == pytest.approx(1.0)
    score[3] = 0.8
    assert injection._weighted_recall(bad, score, weight) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def learned():
    _, train, test = next(iter(injection.left_out(0)))
    texts = corpus()[train]
    return texts, corpus()[test], *injection.learn(LIGHT, texts, stored())


def test_a_detector_tells_attacks_that_it_read_from_ordinary_requests(learned):
    texts, _, detector, threshold = learned
    flags = detector.scores(texts["text"]) > threshold
    assert flags[texts["kind"] == "attack"].mean() > 0.5
    assert flags[texts["kind"] == "ordinary"].mean() < 0.02


def test_shuffled_labels_detect_nothing(learned):
    texts, judged, *_ = learned
    bad = (texts["kind"] == "attack").to_numpy()
    bad = bad[np.random.default_rng(1).permutation(len(bad))]
    detector, threshold = injection.learn(LIGHT, texts, stored(), labels=bad)
    flags = detector.scores(judged["text"]) > threshold
    assert flags[judged["kind"] == "attack"].mean() < 0.15


def test_one_kind_of_text_is_nothing_to_learn_from():
    with pytest.raises(ValueError, match="one kind"):
        injection.Detector(*LIGHT, stored()).fit(["a", "b"], np.zeros(2, bool), np.ones(2))


def test_the_guards_flags_are_those_of_the_service():
    said = injection.guarded()
    assert len(said) == len(corpus())
    assert (said["guard, no forms"] <= said["guard"]).all()
    assert not said.loc[(corpus()["kind"] == "ordinary").to_numpy(), "guard"].any()


def test_the_table_of_families_has_a_row_for_each_and_the_guard_needs_no_learning():
    table = injection.detected((0,), ("guard",))
    assert len(table) == 9
    truth = injection.guarded()["guard"][(corpus()["kind"] == "attack").to_numpy()]
    by = truth.groupby(corpus()["family"][truth.index]).mean()
    np.testing.assert_allclose(table.set_index("family")["recall"], by)
