"""Metrics of what is rare: against naive versions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.rare import (
    CLIP,
    ap_at_prevalence,
    average_precision,
    card_precision,
    card_precision_by_day,
    precision_gain,
    precision_of_weights,
    recall_at_fpr,
    scores,
    skill,
    thinned_test,
    top_calibration,
)

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2018-06-01")


@pytest.fixture
def rows():
    """2,000 rows with ties among the scores, 5 % fraud that scores higher."""
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.05).astype(int)
    p = np.round(np.clip(rng.beta(1, 20, 2000) + 0.3 * y * rng.random(2000), 0, 1), 2)
    return y, p


# Ranking ------------------------------------------------------------------------------


def test_average_precision_by_hand():
    assert average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == pytest.approx((1 + 2 / 3) / 2)


def test_ap_at_its_own_prevalence_is_the_average_precision(rows):
    y, p = rows
    assert ap_at_prevalence(y, p, y.mean()) == pytest.approx(average_precision(y, p))


def test_ap_at_prevalence_equals_copies_of_the_genuine_rows(rows):
    y, p = rows
    copies = np.where(y == 1, 1, 7)
    more_y, more_p = np.repeat(y, copies), np.repeat(p, copies)
    expected = average_precision(more_y, more_p)
    assert ap_at_prevalence(y, p, more_y.mean()) == pytest.approx(expected)
    assert expected < average_precision(y, p)


def naive_card_precision(frame, k):
    found, shares = set(), []
    for _, today in frame.groupby(frame["time"].dt.date):
        best = {}
        for card, score, y in zip(today["card"], today["score"], today["y"], strict=True):
            if card not in found:
                old = best.get(card, (-np.inf, 0))
                best[card] = (max(old[0], score), max(old[1], y))
        top = sorted(best, key=lambda card: (-best[card][0], card))[:k]
        hits = [card for card in top if best[card][1] == 1]
        found.update(hits)
        shares.append(len(hits) / k)
    return np.mean(shares)


@pytest.fixture
def days():
    rng = np.random.default_rng(5)
    n = 4000
    y = (rng.random(n) < 0.03).astype(int)
    return pd.DataFrame(
        {
            "time": START + pd.to_timedelta(rng.random(n) * 7, unit="D"),
            "card": rng.integers(0, 400, n),
            "y": y,
            "score": np.round(rng.random(n) + 0.5 * y, 2),
        }
    )


@pytest.mark.parametrize("k", [1, 10, 100])
def test_card_precision_equals_the_naive_one(days, k):
    assert card_precision(days, k) == pytest.approx(naive_card_precision(days, k))


def test_a_card_counts_once_a_day_and_leaves_when_found():
    noon = START + pd.Timedelta(hours=12)
    frame = pd.DataFrame(
        {
            "time": [noon, noon, noon, noon + DAY, noon + DAY, noon + DAY],
            "card": [1, 1, 2, 1, 2, 3],
            "y": [1, 0, 0, 1, 0, 1],
            "score": [0.9, 0.8, 0.7, 0.9, 0.5, 0.1],
        }
    )
    assert card_precision_by_day(frame, 2).tolist() == [0.5, 0.5]  # card 1 leaves, 3 is found
    assert card_precision(frame.assign(score=0.0), 1) == 0.5  # card 1 by its number, then 2


def test_a_perfect_score_is_limited_by_the_cards_there_are(days):
    perfect = card_precision(days.assign(score=days["y"]), 100)
    assert card_precision(days, 100) < perfect < 1


def test_card_precision_refuses(days):
    with pytest.raises(ValueError, match="cards left to look at, fewer than k = 390"):
        card_precision(days, 390)
    with pytest.raises(ValueError, match=r"k is 0"):
        card_precision(days, 0)
    with pytest.raises(ValueError, match=r"no column \['score'\]"):
        card_precision(days.drop(columns="score"))
    with pytest.raises(ValueError, match="1 of 4000 scores are missing"):
        card_precision(days.assign(score=days["score"].where(days.index != 7)))


def test_recall_at_fpr_between_thresholds():
    """Four genuine, two fraud: the ROC goes (0,0) (0,.5) (.25,.5) (.25,1) and on."""
    y, p = [1, 0, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert recall_at_fpr(y, p, 0) == 0.5
    assert recall_at_fpr(y, p, 0.2) == 0.5
    assert recall_at_fpr(y, p, 0.25) == 1
    assert recall_at_fpr(y, p, 1) == 1
    assert recall_at_fpr([1, 0, 0, 1], [0.5] * 4, 0.3) == pytest.approx(0.3)  # a line through ties


def test_recall_at_fpr_equals_the_expectation_over_broken_ties(rows):
    y, p = rows
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        order = np.lexsort((rng.random(len(y)), -p))
        genuine = np.cumsum(y[order] == 0)
        last = np.searchsorted(genuine, 0.05 * (y == 0).sum(), side="right")
        found.append(y[order][:last].sum() / y.sum())
    assert recall_at_fpr(y, p, 0.05) == pytest.approx(np.mean(found), abs=0.01)


# Probabilities ------------------------------------------------------------------------


def test_skill_against_scikit_learn(rows):
    from sklearn.metrics import brier_score_loss, log_loss

    y, p = rows
    base = np.full(len(y), 0.04)
    expected = 1 - brier_score_loss(y, p) / brier_score_loss(y, base)
    assert skill(y, p, prevalence=0.04) == pytest.approx(expected)
    clipped = np.clip(p, CLIP, 1 - CLIP)
    expected = 1 - log_loss(y, clipped) / log_loss(y, base)
    assert skill(y, p, "log", prevalence=0.04) == pytest.approx(expected)


def test_skill_of_the_constant_is_zero_and_of_the_truth_one(rows):
    y, _ = rows
    for kind in ("brier", "log"):
        assert skill(y, np.full(len(y), 0.03), kind, prevalence=0.03) == pytest.approx(0)
        assert skill(y, y, kind, prevalence=0.03) == pytest.approx(1, abs=1e-4)


def test_a_constant_passes_calibration_and_fails_skill(rows):
    y, _ = rows
    constant = np.full(len(y), y.mean())
    table = top_calibration(y, constant, (0.01, 0.1))
    np.testing.assert_allclose(table["observed"], table["predicted"])
    assert skill(y, constant, prevalence=y.mean()) == pytest.approx(0)


def test_top_calibration_counts_every_row_once(rows):
    y, p = rows
    table = top_calibration(y, p, (0.005, 0.05))
    assert table["top"].tolist() == [0.005, 0.05, 1]
    assert table["rows"].tolist() == [10, 90, 1900]
    assert table["frauds"].sum() == pytest.approx(y.sum())
    assert (table["predicted"] * table["rows"]).sum() == pytest.approx(p.sum())
    assert table["predicted"].is_monotonic_decreasing
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()


def test_top_calibration_without_ties_is_a_slice():
    rng = np.random.default_rng(2)
    p = rng.random(1000)
    y = (rng.random(1000) < p).astype(int)
    table = top_calibration(y, p, (0.01, 0.1))
    order = np.argsort(-p)
    assert table["observed"].tolist() == pytest.approx(
        [y[order[:10]].mean(), y[order[10:100]].mean(), y[order[100:]].mean()]
    )


def test_top_calibration_does_not_hang_on_the_order_of_ties(rows):
    y, p = rows
    order = np.random.default_rng(4).permutation(len(y))
    pd.testing.assert_frame_equal(top_calibration(y, p), top_calibration(y[order], p[order]))


def test_the_interval_is_statsmodels_wilson():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    rng = np.random.default_rng(2)
    p = rng.random(1000)
    y = (rng.random(1000) < p).astype(int)
    row = top_calibration(y, p, (0.1,)).iloc[0]
    low, high = proportion.proportion_confint(row["frauds"], row["rows"], method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("shares", "message"),
    [((), "must rise"), ((0.1, 0.1), "must rise"), ((0.5, 1.0), "must rise")],
)
def test_top_calibration_refuses_shares(rows, shares, message):
    with pytest.raises(ValueError, match=message):
        top_calibration(*rows, shares)


def test_top_calibration_refuses_too_few_rows():
    with pytest.raises(ValueError, match="4 rows are too few"):
        top_calibration([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], (0.01, 0.1))


# Bad input ----------------------------------------------------------------------------

BAD = [
    ([0, 1], [0.1], "labels have shape"),
    ([0, 1], [0.1, np.nan], "1 of 2 scores are missing"),
    ([0, np.nan], [0.1, 0.2], "1 of 2 labels are missing"),
    ([0, 2], [0.1, 0.2], "other than 0 and 1"),
    ([1, 1], [0.1, 0.2], "all 2 labels are the same"),
    ([], [], "all 0 labels are the same"),
]


@pytest.mark.parametrize(("y", "p", "message"), BAD)
@pytest.mark.parametrize(
    "metric",
    [
        average_precision,
        recall_at_fpr,
        top_calibration,
        lambda y, p: skill(y, p, prevalence=0.1),
        lambda y, p: ap_at_prevalence(y, p, 0.1),
    ],
)
def test_metrics_refuse(metric, y, p, message):
    with pytest.raises(ValueError, match=message):
        metric(y, p)


def test_metrics_refuse_wrong_settings(rows):
    y, p = rows
    with pytest.raises(ValueError, match="are no probabilities"):
        top_calibration(y, p + 1)
    with pytest.raises(ValueError, match="are no probabilities"):
        skill(y, p - 1, prevalence=0.1)
    with pytest.raises(ValueError, match="prevalence is 0"):
        skill(y, p, prevalence=0)
    with pytest.raises(ValueError, match="kind is 'mse'"):
        skill(y, p, "mse", prevalence=0.1)
    with pytest.raises(TypeError, match="prevalence"):
        skill(y, p)
    with pytest.raises(ValueError, match=r"fpr is 1\.5"):
        recall_at_fpr(y, p, 1.5)
    with pytest.raises(ValueError, match="prevalence is 1"):
        ap_at_prevalence(y, p, 1)


# A week's scores ----------------------------------------------------------------------


def test_scores_hold_all_metrics(days):
    test = days.assign(score=days["score"] / 1.5)
    found = scores(test, prevalence=0.03, k=10, cost=lambda rows: rows["y"] * 2.0)
    assert found["AP"] == average_precision(test["y"], test["score"])
    assert found["card precision"] == card_precision(test, 10)
    assert found["recall"] == recall_at_fpr(test["y"], test["score"])
    assert found["brier skill"] == skill(test["y"], test["score"], prevalence=0.03)
    assert found["log skill"] == skill(test["y"], test["score"], "log", prevalence=0.03)
    assert found["cost"] == pytest.approx(2 * test["y"].mean())


def test_a_score_that_is_no_probability_has_no_skill(days):
    found = scores(days.assign(score=days["score"] * 100), k=10)
    assert np.isnan([found["brier skill"], found["log skill"], found["cost"]]).all()
    with pytest.raises(ValueError, match="one each is due"):
        scores(days, k=10, cost=lambda rows: 1.0)


# Thinned tests ------------------------------------------------------------------------


def test_thinning_flatters_and_the_correction_takes_it_back():
    rng = np.random.default_rng(0)
    y = (rng.random(40_000) < 0.01).astype(int)
    score = rng.normal(size=40_000) + 2.5 * y
    table = thinned_test(y, score, (1.0, 0.1, 0.03))
    full = average_precision(y, score)
    assert table["AP"].is_monotonic_increasing and table["AP"].iloc[-1] > full + 0.3
    np.testing.assert_allclose(table["corrected"], full, atol=0.03)
    assert ((table["low"] <= full + 1e-9) & (full <= table["high"] + 1e-9)).all()
    widths = (table["high"] - table["low"]).tolist()
    assert widths == sorted(widths) and widths[0] == 0
    assert table["fraud"].tolist() == pytest.approx([0.01, 0.092, 0.25], abs=0.01)
    with pytest.raises(ValueError, match=r"at most 1: \[0, 2\]"):
        thinned_test(y, score, (0, 2, 1))


def test_average_precision_of_weights_is_that_of_the_library_and_its_gain_has_an_interval():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    y, days = rng.random(2_000) < 0.05, np.repeat(np.arange(20), 100)
    score, weight = rng.normal(y * 2.0), rng.integers(0, 3, 2_000)
    for one in (score, score.round(1), np.zeros(2_000)):
        wanted = average_precision_score(y, one, sample_weight=weight)
        assert precision_of_weights(y, one)(weight) == pytest.approx(wanted, rel=1e-9)
        assert precision_of_weights(y, one)(weight / 1e6) == pytest.approx(wanted, rel=1e-9)
    same = precision_gain(y, score, score, days)
    assert same == (0, 0, 0)
    worse = precision_gain(y, rng.normal(size=2_000), score, days)
    assert worse.low < worse.mean < worse.high < 0
    assert worse.mean == pytest.approx(
        -precision_gain(y, score, np.zeros(2_000), days).mean, abs=0.05
    )
    few = np.zeros(2_000, bool)
    few[5] = True  # most draws have none: they are drawn again
    assert precision_gain(few, score, -score, days, draws=20).low > -1
