"""Case 12's protocol: weeks and splits by hand, metrics against naive versions and scikit-learn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud.protocol import (
    CLIP,
    Week,
    ap_at_prevalence,
    average_precision,
    calibration_error,
    card_precision,
    card_precision_by_day,
    handbook_split,
    recall_at_fpr,
    scores,
    skill,
    top_calibration,
    weeks,
    world_split,
)
from casebook.cases.card_fraud.world import simulate

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2018-06-01")


@pytest.fixture(scope="module")
def world():
    return simulate(seed=3, n_customers=300, days=100)


@pytest.fixture
def rows():
    """2,000 rows with ties among the scores, 5 % fraud that scores higher."""
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.05).astype(int)
    p = np.round(np.clip(rng.beta(1, 20, 2000) + 0.3 * y * rng.random(2000), 0, 1), 2)
    return y, p


# Weeks --------------------------------------------------------------------------------


def test_the_handbooks_published_week():
    last = weeks("2018-06-10", "2018-08-15")[-1]
    day = pd.Timestamp
    assert last == Week(
        "2018-08-08",
        day("2018-07-25"),
        day("2018-08-01"),
        day("2018-08-08"),
        day("2018-08-08"),
        day("2018-08-15"),
    )


def test_weeks_step_back_as_far_as_the_data_go():
    found = weeks("2018-06-10", "2018-08-15")
    assert [w.name for w in found] == [
        *("2018-06-27", "2018-07-04", "2018-07-11", "2018-07-18"),
        *("2018-07-25", "2018-08-01", "2018-08-08"),
    ]
    exact = weeks("2018-06-13", "2018-08-15")
    assert len(exact) == 7 and exact[0].train_from == pd.Timestamp("2018-06-13")
    assert len(weeks("2018-06-14", "2018-08-15")) == 6


def test_a_week_waits_and_tests_do_not_overlap():
    found = weeks("2025-07-01", "2025-12-28", train=28, wait=30, test=7)
    for week in found:
        assert week.test_from - week.train_to == 30 * DAY
        assert week.train_to - week.train_from == 28 * DAY
        assert week.known_at == week.test_from
    for before, after in pairwise(found):
        assert before.test_to == after.test_from


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": 0}, "train is 0 days"),
        ({"wait": -1}, "wait is -1 days"),
        ({"test": float("nan")}, "test is nan days"),
        ({"step": 0}, "step is 0 days"),
        ({"train": 70}, "do not fit between 2018-06-10 and 2018-08-15"),
    ],
)
def test_weeks_refuse(given, message):
    with pytest.raises(ValueError, match=message):
        weeks("2018-06-10", "2018-08-15", **given)


# The Handbook's split -----------------------------------------------------------------


def table(*rows):
    """Rows of (day, customer, is_fraud), at noon."""
    days, customers, frauds = zip(*rows, strict=True)
    time = [START + day * DAY + pd.Timedelta(hours=12) for day in days]
    return pd.DataFrame({"time": time, "customer": customers, "is_fraud": frauds})


def test_known_cards_leave_the_test_as_their_frauds_become_known():
    """Training on days 0-6, test on days 14-20: a fraud of day f is known on day f + 8."""
    frame = table(
        (0, 1, 0),
        (3, 2, 1),  # a fraud of the training
        (6, 3, 1),  # of its last day: known on day 14
        (7, 4, 1),  # of the first day of waiting: known on day 15
        (12, 5, 1),  # known on day 20
        (13, 6, 1),  # known on day 21: after the test
        (14, 7, 1),  # of the test itself
        *((day, customer, 0) for day in (14, 15, 19, 20) for customer in range(1, 8)),
    )
    train, test = handbook_split(frame, weeks(START, START + 21 * DAY)[0])
    assert train.tolist() == [True] * 3 + [False] * (len(frame) - 3)
    in_test = frame[test]
    there = {
        day: set(part["customer"])
        for day, part in in_test.groupby((in_test["time"] - START) // DAY)
    }
    assert there == {14: {1, 4, 5, 6, 7}, 15: {1, 5, 6, 7}, 19: {1, 5, 6, 7}, 20: {1, 6, 7}}
    assert in_test["is_fraud"].sum() == 1


def naive_split(frame, week):
    """The same, day by day with sets."""
    day = (frame["time"].dt.normalize() - week.train_from) // DAY
    fraud = frame["is_fraud"] == 1
    length = (week.train_to - week.train_from) // DAY
    wait = (week.test_from - week.train_to) // DAY
    known = set(frame.loc[fraud & (day >= 0) & (day < length), "customer"])
    test = np.zeros(len(frame), bool)
    for today in range(length + wait, length + wait + (week.test_to - week.test_from) // DAY):
        known |= set(frame.loc[fraud & (day == today - wait - 1), "customer"])
        test |= ((day == today) & ~frame["customer"].isin(known)).to_numpy()
    return ((day >= 0) & (day < length)).to_numpy(), test


@pytest.mark.parametrize("wait", [0, 1, 7])
def test_the_split_equals_the_naive_one(wait):
    rng = np.random.default_rng(wait)
    frame = pd.DataFrame(
        {
            "time": np.sort(START + pd.to_timedelta(rng.random(5000) * 45, unit="D")),
            "customer": rng.integers(0, 150, 5000),
            "is_fraud": (rng.random(5000) < 0.02).astype(int),
        }
    )
    for week in weeks(START, START + 45 * DAY, wait=wait):
        for ours, naive in zip(handbook_split(frame, week), naive_split(frame, week), strict=True):
            np.testing.assert_array_equal(ours, naive)
        assert 0 < handbook_split(frame, week)[1].sum() < 7 * 5000 / 45


def test_the_split_refuses():
    frame = table((0, 1, 0), (14, 1, 0))
    week = weeks(START, START + 21 * DAY)[0]
    with pytest.raises(ValueError, match=r"no column \['customer'\]"):
        handbook_split(frame.drop(columns="customer"), week)
    with pytest.raises(ValueError, match="no row of the frame is in the test span of 2018-06-15"):
        handbook_split(frame[:1], week)
    with pytest.raises(ValueError, match=r"waits 7\.5 days"):
        handbook_split(frame, weeks(START, START + 22 * DAY, wait=7.5)[0])


# The world's split --------------------------------------------------------------------


def test_labels_are_those_known_when_the_test_begins(world):
    week = weeks(world.start, world.end, train=28, wait=14)[-1]
    labels, test = world_split(world, week)
    full = world.labels.set_index("transaction").loc[labels.index]
    expected = full["chargeback"] & (full["known"] <= week.known_at)
    assert (labels == expected).all()
    late = full["chargeback"] & (full["known"] > week.known_at)
    assert late.any() and (labels[late] == 0).all()
    at = world.transactions.set_index("transaction")["received"]
    assert at[labels.index].between(week.train_from, week.train_to, inclusive="left").all()
    assert at[test.index].between(week.test_from, week.test_to, inclusive="left").all()


def test_the_test_is_judged_by_the_truth_and_counts_a_retry_once(world):
    week = weeks(world.start, world.end, train=28, wait=14)[-1]
    _, test = world_split(world, week)
    truth = world.truth.set_index("transaction")
    assert (test["y"] == truth.loc[test.index, "is_fraud"]).all()
    table = world.transactions
    spans = (table["received"] >= week.test_from) & (table["received"] < week.test_to)
    requests = table.set_index("transaction").loc[test.index, "request"]
    assert not requests.duplicated().any()
    assert len(test) < spans.sum()
    assert set(requests) == set(table.loc[spans, "request"])


def test_a_longer_wait_for_labels_leaves_young_rows_out(world):
    week = weeks(world.start, world.end, train=28, wait=0)[-1]
    ripe, _ = world_split(world, week, wait=20)
    all_rows, _ = world_split(world, week)
    at = world.transactions.set_index("transaction")["received"]
    genuine = ripe.index[ripe == 0]
    assert (at[genuine] <= week.known_at - 20 * DAY).all()
    assert len(ripe) < 0.5 * len(all_rows)


def test_the_worlds_split_refuses_a_week_without_rows(world):
    week = weeks("2024-01-01", "2024-03-01")[-1]
    with pytest.raises(ValueError, match="no row of the world is in the train span of 2024-02-23"):
        world_split(world, week)


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
    y, p = rows
    constant = np.full(len(y), y.mean())
    assert calibration_error(y, constant) < 1e-12 < calibration_error(y, p)
    table = top_calibration(y, constant, (0.01, 0.1))
    np.testing.assert_allclose(table["observed"], table["predicted"])
    assert skill(y, constant, prevalence=y.mean()) == pytest.approx(0)


def test_calibration_error_equals_the_naive_one(rows):
    y, p = rows
    bins = np.minimum((p * 10).astype(int), 9)
    naive = sum(
        (bins == b).mean() * abs(p[bins == b].mean() - y[bins == b].mean()) for b in set(bins)
    )
    assert calibration_error(y, p) == pytest.approx(naive)


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
        calibration_error,
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
    for metric in (calibration_error, top_calibration):
        with pytest.raises(ValueError, match="are no probabilities"):
            metric(y, p + 1)
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
