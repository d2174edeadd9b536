"""Sequential tests: exact crossing probabilities, published bounds, and what draws show."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.sequential import (
    Paths,
    alarms,
    always_valid_interval,
    always_valid_p,
    arrivals,
    bounds,
    crossing,
    daily_paths,
    inflation,
)

VALUES = np.exp(np.random.default_rng(0).normal(0, 1, 20_000))


def walks(runs: int, looks: int, drift: float = 0.0, seed: int = 0) -> Paths:
    """Return estimates of normal values: z of look k has mean ``drift`` times the root of k."""
    n = np.arange(1, looks + 1)
    steps = np.random.default_rng(seed).normal(drift / np.sqrt(looks), 1, (runs, looks))
    return Paths(steps.cumsum(axis=1) / n, np.broadcast_to(1 / np.sqrt(n), (runs, looks)))


@pytest.mark.parametrize(
    ("looks", "published"), [(1, 0.05), (2, 0.083), (5, 0.142), (10, 0.193), (20, 0.248)]
)
def test_peeking_costs_what_armitage_and_others_computed(looks, published):
    assert crossing([1.959964] * looks)[-1] == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(("looks", "published"), [(2, 1.977), (5, 2.040), (10, 2.087)])
def test_bounds_are_those_that_obrien_and_fleming_published(looks, published):
    limits = bounds(looks)
    assert limits[-1] == pytest.approx(published, abs=1e-3)
    assert limits[0] == pytest.approx(published * np.sqrt(looks), abs=3e-3)
    assert crossing(limits)[-1] == pytest.approx(0.05, abs=1e-6)


def test_pocock_has_one_bound_for_all_looks():
    assert bounds(5, 0.05, 0.0) == pytest.approx([2.413] * 5, abs=1e-3)


def test_bounds_follow_the_information_and_not_the_number_of_the_look():
    times = (0.38, 0.6, 0.9, 1.0)
    limits = np.array(bounds(times))
    assert limits * np.sqrt(times) == pytest.approx(np.full(4, limits[-1]))
    assert crossing(limits, times)[-1] == pytest.approx(0.05, abs=1e-6)
    # bounds of equal steps, used at these times, do not spend what was promised
    assert crossing(bounds(4), times)[-1] < 0.047
    for wrong in ((), 0, (0.2, 0.8)):
        with pytest.raises(ValueError, match="plan one at least"):
            bounds(wrong)


@pytest.mark.parametrize(
    ("rule", "looks", "published"),
    [
        ("fixed", 1, 1.0),
        ("obrien_fleming", 1, 1.0),
        ("obrien_fleming", 5, 1.028),
        ("obrien_fleming", 10, 1.040),
        ("pocock", 5, 1.229),
    ],
)
def test_looking_needs_as_many_more_users_as_jennison_and_turnbull_published(
    rule, looks, published
):
    assert inflation(rule, looks) == pytest.approx(published, abs=1e-3)


def test_with_so_many_more_users_each_rule_has_the_power_of_the_plan():
    looks = 14
    for rule, low, high in (("obrien_fleming", 0.78, 0.82), ("always_valid", 0.80, 0.86)):
        drift = 2.8016 * inflation(rule, looks) ** 0.5
        paths = walks(4_000, looks, drift, seed=4)
        tau = drift / looks**0.5  # the effect itself, in the unit of one step
        assert low < (alarms(paths, rule, tau=tau) >= 0).mean() < high
        small = walks(4_000, looks, 2.8016, seed=4)
        assert rule == "obrien_fleming" or (alarms(small, rule, tau=tau) >= 0).mean() < 0.6


def test_exact_probabilities_are_those_of_draws_with_and_without_an_effect():
    limits = np.array([2.8, 2.3, 2.1, 2.0])
    for drift in (0.0, 2.5):
        drawn = (np.abs(walks(40_000, 4, drift).z) >= limits).any(axis=1).mean()
        assert crossing(limits, drift=drift)[-1] == pytest.approx(drawn, abs=0.008)
    uneven = crossing([2.0, 2.0], [0.2, 1.0])[-1]
    assert uneven > crossing([2.0, 2.0], [0.9, 1.0])[-1]
    with pytest.raises(ValueError, match="rise from above 0"):
        crossing([2.0, 2.0], [1.0, 0.5])


def test_each_rule_keeps_its_promise_and_peeking_breaks_it():
    paths = walks(6_000, 20)
    rate = {
        rule: (alarms(paths, rule, tau=0.3) >= 0).mean()
        for rule in ("naive", "bonferroni", "obrien_fleming", "pocock", "always_valid", "end")
    }
    assert rate["naive"] == pytest.approx(0.248, abs=0.02)
    for rule in ("obrien_fleming", "pocock", "end"):
        assert rate[rule] == pytest.approx(0.05, abs=0.011)
    assert rate["bonferroni"] < 0.03
    assert 0 < rate["always_valid"] <= 0.05
    with pytest.raises(ValueError, match="one of naive"):
        alarms(paths, "often")


def test_always_valid_holds_at_a_thousand_looks_where_naive_is_lost():
    paths = walks(1_500, 1_000, seed=3)
    assert (alarms(paths, "always_valid", tau=0.1) >= 0).mean() <= 0.05
    assert (alarms(paths, "naive") >= 0).mean() > 0.45


def test_a_look_without_a_number_is_passed_over():
    effect, se = [np.nan, 0.03, np.nan, 0.05], [np.nan, 0.01, np.nan, 0.01]
    p = always_valid_p(effect, se, 0.02)
    assert np.isnan(p[0])
    assert p[1] == p[2] > p[3] > 0


def test_bounds_follow_the_information_that_is_given():
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(4_000, 4)) * np.sqrt(np.diff([0, 0.1, 0.3, 0.9, 1.0]))
    times = np.array([0.1, 0.3, 0.9, 1.0])
    paths = Paths(steps.cumsum(axis=1) / np.sqrt(times), np.ones((4_000, 4)))
    own = alarms(paths, "obrien_fleming", information=tuple(times)) >= 0
    assert own.mean() == pytest.approx(0.05, abs=0.012)
    equal = alarms(paths, "obrien_fleming") >= 0
    assert equal.mean() < own.mean()


def test_always_valid_p_never_rises_and_agrees_with_its_interval():
    paths = walks(200, 50, drift=3.0)
    p = always_valid_p(paths.effect, paths.se, 0.2)
    assert (np.diff(p, axis=1) <= 0).all()
    alone = always_valid_p(paths.effect[:, -1:], paths.se[:, -1:], 0.2)[:, 0]
    ends = [
        always_valid_interval(e, s, 0.2)
        for e, s in zip(paths.effect[:, -1], paths.se[:, -1], strict=True)
    ]
    outside = np.array([not low <= 0 <= high for low, high in ends])
    assert (outside == (alone < 0.05)).all()
    assert outside.any()


def test_an_alarm_names_the_look_at_which_it_came():
    paths = Paths(np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]), np.ones((2, 3)))
    assert alarms(paths, "naive").tolist() == [1, -1]
    assert alarms(paths, "naive", looks=[0, 2]).tolist() == [-1, -1]


def test_paths_of_real_users_have_no_effect_on_average_and_the_lift_that_was_given():
    none, some = (arrivals(VALUES, 400, 4, 2_000, lift, seed=1) for lift in (0.0, 0.1))
    assert abs(none.effect[:, -1].mean()) < 0.01
    assert some.effect[:, -1].mean() == pytest.approx(0.1, abs=0.01)
    assert none.effect[:, -1].std() == pytest.approx(none.se[:, -1].mean(), rel=0.1)


def test_days_of_one_log_give_a_t_test_of_the_sums_so_far():
    rng = np.random.default_rng(2)
    day = rng.integers(0, 3, 3_000)
    daily = np.where(np.arange(3) >= day[:, None], rng.exponential(1, (3_000, 3)), 0.0)
    paths = daily_paths(daily, day, 600, seed=1)
    assert paths.z[:, -1].std() == pytest.approx(1, abs=0.1)
    assert paths.z[:, 0].std() == pytest.approx(1, abs=0.1)
    labels = np.random.default_rng(1).integers(0, 2, (250, 3_000), dtype=np.int8)[0] == 1
    total = daily.sum(axis=1)
    gain = total[labels].mean() - total[~labels].mean()
    assert paths.effect[0, -1] == pytest.approx(gain / total.mean())


def test_later_days_of_the_same_users_are_less_than_equal_steps_of_information():
    rng = np.random.default_rng(3)
    level = rng.lognormal(0, 1, (4_000, 1))
    daily = level * rng.exponential(1, (4_000, 5))
    paths = daily_paths(daily, np.zeros(4_000, int), 300, seed=1)
    seen = paths.information
    assert seen[-1] == 1
    assert seen[0] > 0.4  # of equal steps it would be a fifth
    walk = walks(20_000, 4)
    assert walk.information == pytest.approx((0.25, 0.5, 0.75, 1.0), abs=0.02)
    for sure, told in ((walk, walk.information), (paths, seen)):
        level = (alarms(sure, "obrien_fleming", information=told) >= 0).mean()
        assert level == pytest.approx(0.05, abs=0.006 if sure is walk else 0.03)
    lifted = daily_paths(daily, np.zeros(4_000, int), 300, seed=1, lift=0.2)
    assert (lifted.effect - paths.effect).mean() == pytest.approx(0.2, abs=0.01)
