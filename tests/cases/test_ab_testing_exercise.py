"""Exercise 10: what its text tells of each student's world, edges, defensible routes, parts."""

from __future__ import annotations

import numpy as np
import pytest
from exercise_kit import chapters_world, message  # noqa: F401
from scipy import stats

from casebook.cases.ab_testing import questions

SEEDS = (questions.SEED, *range(12))


# The worlds.


@pytest.mark.parametrize("made", ["counts", "users", "ideas", "truth", "daily", "guardrails"])
def test_a_student_has_other_numbers_and_the_same_ones_again(made):
    function = getattr(questions, made)
    assert function(3).equals(function(3))
    assert not function(3).equals(function(4))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_platform_breaks_the_split_and_tv_cannot_tell(seed):
    counts, planned = questions.counts(seed), questions.PLANNED
    p = {name: stats.chisquare(row, planned * row.sum()).pvalue for name, row in counts.iterrows()}
    faulty = questions.q1.expected(seed)["segment"]
    assert p.pop(faulty) < 1e-10
    assert min(p.values()) > 0.01
    share = counts["B"] / counts.sum(axis=1)
    assert share.drop(faulty).idxmin() == "TV"
    total = counts.sum()
    assert stats.chisquare(total, planned * total.sum()).pvalue < 0.01
    assert questions.q1.expected(seed)["n_needed"] < total.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_impressions_give_about_half_of_the_interval_of_users(seed):
    scope, half = questions.q2.scope(seed), questions.q2.expected(seed)["half"]
    naive = scope["half_of"](scope["binomial"])
    assert 0.4 < naive / half < 0.7


def test_the_interval_of_users_covers_and_that_of_impressions_does_not():
    inside = {"delta": 0, "binomial": 0}
    for seed in range(60):
        scope = questions.q2.scope(1_000 + seed)
        miss = abs(scope["difference"](scope["rate"]) - 0.01)  # what the world adds to each rate
        for name in inside:
            inside[name] += miss < scope["half_of"](scope[name])
    assert inside["delta"] > 51 > inside["binomial"]


@pytest.mark.parametrize("seed", SEEDS)
def test_looking_every_day_alarms_four_times_too_often(seed):
    aa, ab = questions.paths(seed)
    assert 0.19 < (np.abs(aa) > 1.96).any(axis=1).mean() < 0.25
    assert 0.77 < (np.abs(ab[:, -1]) > 1.96).mean() < 0.83
    assert 2.5 < questions.q3.expected(seed)["bound"] < 2.75


def test_shrinking_is_right_on_average_and_the_claims_are_not():
    claimed, promised, true = [], [], []
    for seed in range(40):
        right = questions.q4.expected(seed)
        won = right["shrunk"].index[
            questions.ideas(seed)["effect"] / questions.ideas(seed)["se"] > 1.96
        ]
        claimed.append(questions.ideas(seed)["effect"][won].sum())
        promised.append(right["promised"])
        true.append(questions.truth(seed)[won].sum())
    assert np.mean(claimed) > 1.2 * np.mean(true)
    assert abs(np.mean(promised) / np.mean(true) - 1) < 0.06


def test_a_switchback_carries_over_for_two_hours_and_averages_to_its_effect():
    gaps = {"settled": [], "all": []}
    for seed in range(300):
        new, minutes = questions.switchback(12, seed)
        for name, hours in {"settled": minutes[:, questions.CARRY_OVER :], "all": minutes}.items():
            gaps[name].append(hours[new == 1].mean() - hours[new == 0].mean())
    assert abs(np.mean(gaps["settled"]) + 2.0) < 0.1
    assert np.mean(gaps["all"]) > -1.85


def test_six_and_twelve_hours_are_about_equal_and_the_others_are_worse():
    errors = questions.design_errors()
    best = min(errors.values())
    assert max(errors[6], errors[12]) < 1.09 * best
    assert min(errors[3], errors[24]) > 1.1 * best


@pytest.mark.parametrize("seed", SEEDS)
def test_the_decision_is_to_hold_for_each_student(seed):
    right = questions.q6.expected(seed)
    assert right["unproven"] == {"posts written"}
    table = questions.guardrails(seed)
    significant = table.index[table["change"] + 1.96 * table["se"] < 0]
    assert set(significant) == {"revenue", "sessions"}
    assert 0.65 < right["lasting"] < 1.05
    assert right["worth"] > 0


# Defensible routes and edges.


def test_a_bootstrap_over_users_is_accepted():
    right, users = questions.q2.expected(), questions.users(questions.SEED)
    rng, gaps = np.random.default_rng(5), []
    arms = [own[["clicks", "impressions"]].to_numpy() for _, own in users.groupby("arm")]
    for _ in range(800):
        sums = [own[rng.integers(len(own), size=len(own))].sum(axis=0) for own in arms]
        gaps.append(sums[1][0] / sums[1][1] - sums[0][0] / sums[0][1])
    half = 1.96 * np.std(gaps)
    assert questions.q2.outcome(right["effect"], half, ...).status == "right"


@pytest.mark.parametrize(("share", "status"), [(0.05, "right"), (0.04, "wrong"), (0.06, "wrong")])
def test_the_bound_is_judged_by_the_alarms_that_it_gives(share, status):
    peak = np.abs(questions.paths(questions.SEED)[0]).max(axis=1)
    ever = questions.q3.expected()["ever"]
    bound = np.quantile(peak, 1 - share, method="higher")
    assert questions.q3.outcome(ever, bound, ...).status == status


def test_another_estimate_of_tau_carries_through_the_question():
    ideas = questions.ideas(questions.SEED)
    w = 1 / ideas["se"] ** 2
    centre = (w * ideas["effect"]).sum() / w.sum()
    spread = (w * (ideas["effect"] - centre) ** 2).sum() - len(w) + 1
    tau2 = spread / (w.sum() - (w**2).sum() / w.sum())
    shrunk = ideas["effect"] * tau2 / (tau2 + ideas["se"] ** 2)
    promised = shrunk[ideas["effect"] / ideas["se"] > 1.96].sum()
    assert questions.q4.outcome(tau2, shrunk.to_numpy(), promised).status == "right"


def test_a_wrong_tau_is_named_once_and_what_follows_from_it_is_said_to():
    ideas = questions.ideas(questions.SEED)
    tau2 = ideas["effect"].var()
    shrunk = ideas["effect"] * tau2 / (tau2 + ideas["se"] ** 2)
    said = message(questions.q4, tau2, shrunk, 1.0)
    assert "variance of the *estimates*" in said
    assert "`shrunk` follows from your `tau2`" in said


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_day_alone_is_not_what_lasts(seed, monkeypatch):
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    right, daily = questions.q6.expected(seed), questions.daily(seed)
    last = float(daily["effect"].iloc[-1])
    told = message(questions.q6, last, right["worth"], right["unproven"])
    assert "the last day alone" in told
