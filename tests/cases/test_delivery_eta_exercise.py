"""Exercise 04: a world for each student, edges, and what a near answer is told."""

from __future__ import annotations

import numpy as np
import pytest
from exercise_kit import chapters_world, message  # noqa: F401

from casebook.cases.delivery_eta import questions
from casebook.cases.delivery_eta.world import SEED


@pytest.mark.parametrize("seed", range(12))
def test_the_exact_margin_is_the_41st_score_for_every_student(seed):
    scope, right = questions.q1.scope(seed), questions.q1.expected(seed)
    assert (scope["scores"] <= right["margin"]).sum() == 41
    assert right["coverage"] == pytest.approx(41 / 45)
    assert right["margin"] > np.quantile(scope["scores"], 0.9) * 1.01


@pytest.mark.parametrize("seed", [SEED, *range(8)])
def test_one_margin_holds_on_average_and_fails_the_island(seed):
    scope, right = questions.q2.scope(seed), questions.q2.expected(seed)
    later, common = scope["later"], scope["common"]
    assert 0.77 < (scope["score"](later) <= common).mean() < 0.85
    assert right["worst"] == scope["share"](later, common)["island"] < 0.6
    own = scope["score"](later) <= later["pair"].map(right["margins"])
    assert own.groupby(later["pair"]).mean().between(0.75, 0.92).all()


@pytest.mark.parametrize("seed", range(12))
def test_delivered_parcels_are_faster_than_all_of_them(seed):
    right = questions.q3.expected(seed)
    assert right["naive"] < right["survival"]
    assert -1.2 < right["bias_days"] < -0.15


def test_the_cut_at_eighteen_hours_counts_scans_known_at_that_very_moment():
    scans = questions.given("scans")
    known = scans.index[scans["known"] <= questions.NOW][-1]
    scans.loc[known, "known"] = questions.NOW
    table = questions.features(scans, questions.NOW)
    of_parcel = scans[scans["parcel"] == scans.loc[known, "parcel"]]
    last = of_parcel.loc[of_parcel["known"] <= questions.NOW, "stage"].max()
    assert table.loc[scans.loc[known, "parcel"], "last_stage"] == last


def test_a_column_that_is_biased_is_not_called_a_leak():
    differ = questions.q4.expected()["differ"]
    told = message(questions.q4, {"last_stage", "hours_silent"}, differ)
    assert "`pair_delivered` was possible" in told
    both = message(questions.q4, {"last_stage", "hours_silent", "scans"}, differ)
    assert both.endswith("And that is not all that is to be mended in your set.")


@pytest.mark.parametrize("seed", [SEED, *range(12)])
def test_the_rule_is_right_for_a_price_a_day_and_wrong_for_a_fee(seed):
    scope, right = questions.q5.scope(seed), questions.q5.expected(seed)
    assert right["promise"] == scope["at"](0.8)
    formula = scope["at"](questions.APOLOGY / (questions.APOLOGY + questions.EARLY))
    assert scope["flat"](scope["days"], right["promise_flat"]) < scope["flat"](
        scope["days"], formula
    )
    assert right["promise_flat"] < right["promise"] < formula
