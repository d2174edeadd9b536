"""Exercise 01: edges, either-or reasons, parts, and a world for each student."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting import questions
from casebook.cases.demand_forecasting.world import KEYS, SEED, simulate
from casebook.data import snapshot

STUDENT = 11


@pytest.fixture(autouse=True)
def chapters_world(monkeypatch):
    monkeypatch.delenv("CASEBOOK_STUDENT_SEED", raising=False)


def message(question, *answers) -> str:
    outcome = question.outcome(*answers)
    assert outcome.status == "wrong"
    return outcome.message


# The world.


def test_without_a_seed_the_world_is_the_chapters():
    assert_frame_equal(questions.truth(), simulate().truth)
    assert_frame_equal(questions.reports(), snapshot(questions.CASE, "reports.parquet"))


def test_a_seed_that_is_set_later_is_not_overlooked(monkeypatch):
    before = questions.truth()
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(STUDENT))
    assert not questions.truth()["y"].equals(before["y"])


def test_a_student_has_the_same_network_and_breaks_and_other_parcels():
    chapters, own = (questions.truth(seed).set_index(KEYS).sort_index() for seed in (SEED, STUDENT))
    assert own.index.equals(chapters.index)
    assert np.allclose(own[["base", "jump"]], chapters[["base", "jump"]])
    large = chapters["base"] > 100
    assert (own["y"] != chapters["y"])[large].mean() > 0.9
    assert abs(own["y"].sum() / chapters["y"].sum() - 1) < 0.05
    depots = own["shock"][large].groupby(level="ds").std()
    assert 0.03 < depots.mean() < 0.15


def test_what_the_text_tells_of_france_stays_for_each_student():
    told = questions.TOLD[1]
    weeks = [
        questions.truth(seed)
        .query("unique_id.str.startswith('FR/FR1/r1')")
        .set_index("ds")["shock"]
        for seed in (SEED, STUDENT)
    ]
    assert np.allclose(*(week[told] for week in weeks))
    assert not np.allclose(*(week["2023"] for week in weeks))


def test_a_students_feed_has_the_chapters_faults():
    chapters, own = questions.reports(SEED), questions.reports(STUDENT)
    assert own.dtypes.equals(chapters.dtypes)
    assert_frame_equal(own[[*KEYS, "received"]], chapters[[*KEYS, "received"]])
    unit = snapshot(questions.CASE, "faults.parquet").query("fault == 'wrong unit'")[KEYS]
    sums = [feed.merge(unit)["y"].sum() for feed in (own, questions.truth(STUDENT))]
    assert abs(100 * sums[0] / sums[1] - 1) < 0.05


def test_the_variances_of_each_student_have_a_solution():
    for seed in (SEED, *range(20)):
        a, b, total = questions.variances(seed)
        assert -0.5 < (total - a - b) / (2 * (a * b) ** 0.5) < -0.1
    assert list(questions.variances(SEED)) == [3_600, 1_600, 4_000]


# Question 1.


def test_the_equation_may_be_given_as_a_column_or_a_row():
    S = [[1, 0], [1, 1], [0, 1]]
    for c in ([[1], [-1], [1]], [[1, -1, 1]], np.array([2.0, -2, 2]), pd.Series([-1, 1, -1])):
        assert questions.q1.outcome(S, c).status == "right"


def test_an_equation_that_is_nearly_right_is_not_told_to_give_0_instead_of_0():
    assert "gives 0.1 for it" in message(questions.q1, [[1, 0], [1, 1], [0, 1]], [1, -1, 1.00025])


def test_each_part_of_an_answer_earns_its_share():
    outcome = questions.q1.outcome([[1, 0], [1, 1], [0, 1]], [1, 1, 1])
    assert outcome.earned == 0.5
    assert outcome.message.startswith("`S` is right. With one sign for all three")


# Question 3.


def test_the_origin_itself_is_not_history():
    scope = questions.q3.scope()
    y, mae = scope["y"], scope["mae"]
    value = mae / y[y.index <= scope["origin"]].diff(7).abs().mean()
    assert abs(value / questions.q3.expected()["mase"] - 1) < 0.001
    assert "One day too many is in the scale" in message(questions.q3, value)


# Question 5.


def test_the_score_of_a_constant_is_its_own():
    right = list(questions.q5.expected().values())
    rmse = message(questions.q5, 100, *right[1:], "RMSE")
    sparse = questions.q5.scope()["sparse"]
    score = (np.abs(sparse - 100)[sparse > 0] / sparse[sparse > 0]).mean()
    assert f"A forecast of 100 every day scores {score:.3g}" in rmse
    assert rmse.startswith("`best_smape`, `best_wape` and `best_rmse` are right.")


@pytest.mark.parametrize("metric", ["rmse", " RMSE"])
def test_the_name_of_a_metric_may_be_written_in_small_letters(metric):
    right = questions.q5.expected().values()
    assert "You predicted it: “RMSE”" in questions.q5.outcome(*right, metric).message


def test_zero_is_exactly_zero_where_a_day_without_parcels_costs_everything():
    right = list(questions.q5.expected().values())
    assert "Near is not enough" in message(questions.q5, right[0], 1e-6, *right[2:], ...)


def test_a_neighbour_of_the_best_constant_and_a_loss_are_told_apart_from_it():
    right = list(questions.q5.expected().values())
    beside = message(questions.q5, *right[:3], round(right[3] + 0.01, 2), ...)
    assert "is one step beside the best" in beside
    scope = questions.q5.scope()
    loss = float(np.sqrt(((scope["sparse"] - right[3]) ** 2).mean()))
    assert "the metric's value at its best" in message(questions.q5, *right[:3], loss, ...)


# Question 6.


def test_a_gross_price_reversed_errors_and_a_grid_have_their_reasons():
    pool, right = questions.q6.scope()["past"].sum(axis=1), questions.q6.expected()["margin"]
    told = {
        pool.quantile(0.75): "for the whole price of a missing parcel",
        (-pool).quantile(0.8): "The errors are reversed",
        10 * round(right / 10): "within ten parcels of it",
    }
    for value, says in told.items():
        assert says in message(questions.q6, value, ...)


def test_a_question_does_not_pay_for_what_it_does_not_need():
    assert "past" in questions.q6.scope()
    assert not {"cleaned", "sparse", "y"} & questions.q6.scope().keys()
