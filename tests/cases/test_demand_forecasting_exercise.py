"""Exercise 01: edges, either-or reasons, parts, and a world for each student."""

from __future__ import annotations

import numpy as np
import pandas as pd
from demand_forecasting_shared import world
from exercise_kit import chapters_world, message  # noqa: F401
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting import exercise_data, questions
from casebook.cases.demand_forecasting.world import KEYS, SEED
from casebook.data import snapshot

STUDENT = 11


# The world.


def test_without_a_seed_the_world_is_the_chapters_and_a_later_seed_is_not_overlooked(monkeypatch):
    before = exercise_data.truth()
    assert_frame_equal(before, world().truth)
    assert_frame_equal(exercise_data.reports(), snapshot(exercise_data.CASE, "reports.parquet"))
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(STUDENT))
    assert not exercise_data.truth()["y"].equals(before["y"])


def test_a_student_has_the_same_network_and_breaks_and_other_parcels():
    chapters, own = (
        exercise_data.truth(seed).set_index(KEYS).sort_index() for seed in (SEED, STUDENT)
    )
    assert own.index.equals(chapters.index)
    assert np.allclose(own[["base", "jump"]], chapters[["base", "jump"]])
    large = chapters["base"] > 100
    assert (own["y"] != chapters["y"])[large].mean() > 0.9
    assert abs(own["y"].sum() / chapters["y"].sum() - 1) < 0.05
    depots = own["shock"][large].groupby(level="ds").std()
    assert 0.03 < depots.mean() < 0.15
    # What the text tells of France stays for each student.
    here = chapters.index.get_level_values("unique_id").str.startswith("FR/FR1/r1")
    weeks = [frame["shock"][here].reset_index(0, drop=True) for frame in (chapters, own)]
    assert np.allclose(*(week[exercise_data.TOLD[1]] for week in weeks))
    assert not np.allclose(*(week["2023"] for week in weeks))


def test_a_students_feed_has_the_chapters_faults():
    chapters, own = exercise_data.reports(SEED), exercise_data.reports(STUDENT)
    assert own.dtypes.equals(chapters.dtypes)
    assert_frame_equal(own[[*KEYS, "received"]], chapters[[*KEYS, "received"]])
    unit = snapshot(exercise_data.CASE, "faults.parquet").query("fault == 'wrong unit'")[KEYS]
    sums = [feed.merge(unit)["y"].sum() for feed in (own, exercise_data.truth(STUDENT))]
    assert abs(100 * sums[0] / sums[1] - 1) < 0.05


def test_the_variances_of_each_student_have_a_solution():
    for seed in (SEED, *range(20)):
        a, b, total = exercise_data.variances(seed)
        assert -0.5 < (total - a - b) / (2 * (a * b) ** 0.5) < -0.1
    assert list(exercise_data.variances(SEED)) == [3_600, 1_600, 4_000]


# The questions.

NETWORK = [[1, 0], [1, 1], [0, 1]]


def test_the_equation_may_be_given_as_a_column_or_a_row_and_each_part_earns_its_share():
    for c in ([[1], [-1], [1]], [[1, -1, 1]], np.array([2.0, -2, 2]), pd.Series([-1, 1, -1])):
        assert questions.q1.outcome(NETWORK, c).status == "right"
    # Nearly right is not told to give 0 instead of 0.
    assert "gives 0.1 for it" in message(questions.q1, NETWORK, [1, -1, 1.00025])
    outcome = questions.q1.outcome(NETWORK, [1, 1, 1])
    assert outcome.earned == 0.5
    assert outcome.message.startswith("`S` is right. With one sign for all three")


def test_the_origin_itself_is_not_history():
    scope = questions.q3.scope()
    y, mae = scope["y"], scope["mae"]
    value = mae / y[y.index <= scope["origin"]].diff(7).abs().mean()
    assert abs(value / questions.q3.expected()["mase"] - 1) < 0.001
    assert "One day too many is in the scale" in message(questions.q3, value)


def test_a_wrong_constant_is_told_what_it_is():
    right = list(questions.q5.expected().values())
    sparse = questions.q5.scope()["sparse"]
    rmse = message(questions.q5, 100, *right[1:], "RMSE")
    score = (np.abs(sparse - 100)[sparse > 0] / sparse[sparse > 0]).mean()
    assert f"A forecast of 100 every day scores {score:.3g}" in rmse
    assert rmse.startswith("`best_smape`, `best_wape` and `best_rmse` are right.")
    # Where a day without parcels costs everything, zero is exactly zero.
    assert "Near is not enough" in message(questions.q5, right[0], 1e-6, *right[2:], ...)
    beside = message(questions.q5, *right[:3], round(right[3] + 0.01, 2), ...)
    assert "is one step beside the best" in beside
    loss = float(np.sqrt(((sparse - right[3]) ** 2).mean()))
    assert "the metric's value at its best" in message(questions.q5, *right[:3], loss, ...)
    for metric in ("rmse", " RMSE"):
        assert "You predicted it: “RMSE”" in questions.q5.outcome(*right, metric).message


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
