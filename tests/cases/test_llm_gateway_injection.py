"""Case 20: detectors of attacks, families that are left out, thresholds, shuffled labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.llm_gateway import injection
from casebook.cases.llm_gateway.artifacts import attack_texts, request_texts, stored
from casebook.cases.llm_gateway.world.attacks import corpus
from casebook.retrieval import text_attacks
from casebook.serving.guard import attack

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


def test_a_random_split_judges_each_text_once_and_families_that_were_read():
    texts, judged = corpus(), np.zeros(len(corpus()), int)
    for _, train, test in injection.left_out(0, new_families=False):
        assert set(texts["family"][test]) <= set(texts["family"][train])
        assert not set(texts["origin"][train]) & set(texts["origin"][test])
        judged += test
    assert (judged == 1).all()


def test_harmless_traffic_is_weighed_by_how_often_it_comes():
    kinds = np.array(["attack", "harmless", "harmless", "ordinary"])
    np.testing.assert_allclose(text_attacks.weights(kinds), [0, 0.025, 0.025, 0.95])


def test_recall_at_a_rate_of_the_traffic_by_hand():
    """Of a hundred ordinary requests one may be flagged, if no neighbour is."""
    kinds = ["attack", "attack", "harmless", *["ordinary"] * 95]
    table = pd.DataFrame({"kind": kinds, "detector": "d", "left_out": "f", "flag": False})
    score = np.r_[0.9, 0.5, 0.2, 0.7, np.full(94, 0.1)]
    row = text_attacks.rates(table.assign(score=score, flag=score > 0.6)).iloc[0]
    assert row["recall"] == 0.5
    assert row["false_alarms"] == pytest.approx(0.01)
    assert row["recall_at_1"] == pytest.approx(1.0)
    assert row["auroc"] == 1.0
    score[4] = 0.8
    assert text_attacks.rates(table.assign(score=score)).iloc[0]["recall_at_1"] == pytest.approx(
        0.5
    )


@pytest.fixture(scope="module")
def learned():
    _, train, test = next(iter(injection.left_out(0)))
    texts = corpus()[train]
    return texts, corpus()[test], *text_attacks.learn(LIGHT, texts, stored())


def test_a_detector_tells_attacks_that_it_read_from_ordinary_requests(learned):
    texts, _, detector, threshold = learned
    flags = detector(texts["text"]) > threshold
    assert flags[texts["kind"] == "attack"].mean() > 0.5
    assert flags[texts["kind"] == "ordinary"].mean() < 0.02


def test_a_threshold_is_of_families_that_the_detector_had_not_read(learned):
    """On texts that it has learned from, harmless ones look safer than new ones will."""
    texts, _, detector, threshold = learned
    harmless = texts[texts["kind"] != "attack"]
    share = text_attacks.weights(harmless["kind"].to_numpy())
    flagged = (detector(harmless["text"]) > threshold) @ share / share.sum()
    assert flagged < text_attacks.FALSE_ALARMS / 2


def test_shuffled_labels_detect_nothing(learned):
    texts, judged, *_ = learned
    bad = (texts["kind"] == "attack").to_numpy()
    bad = bad[np.random.default_rng(1).permutation(len(bad))]
    detector, threshold = text_attacks.learn(LIGHT, texts, stored(), labels=bad)
    flags = detector(judged["text"]) > threshold
    assert flags[judged["kind"] == "attack"].mean() < 0.15


def test_one_kind_of_text_is_nothing_to_learn_from():
    with pytest.raises(ValueError, match="one kind"):
        text_attacks.Detector(*LIGHT, stored()).fit(np.eye(2), np.zeros(2, bool), np.ones(2))


@pytest.fixture(scope="module")
def judged() -> pd.DataFrame:
    return injection.judged(0, {"guard": None, "logistic": LIGHT})


def test_a_table_has_a_row_for_each_family_and_the_guard_says_what_the_service_says(judged):
    table = text_attacks.rates(judged)
    assert table.groupby("detector").size().to_dict() == dict.fromkeys(
        ("guard", "logistic", "guard or logistic"), 9
    )
    bad = corpus()[corpus()["kind"] == "attack"]
    truth = bad["text"].map(lambda text: bool(attack(text))).groupby(bad["family"]).mean()
    own = table[table["detector"] == "guard"].set_index("family")
    np.testing.assert_allclose(own["recall"], truth)
    assert (own["on_ordinary"] == 0).all()


def test_either_flags_what_one_of_both_flags(judged):
    wide = judged.pivot(index=["left_out", "text"], columns="detector", values="flag").astype(bool)
    assert (wide["guard or logistic"] == (wide["guard"] | wide["logistic"])).all()
