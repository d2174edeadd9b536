"""Case 20: decisions by cost, estimates of chances, cascades, and what shuffled grades give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.llm_gateway import routing, studies
from casebook.cases.llm_gateway.artifacts import stored
from casebook.cases.llm_gateway.routing import Bill, Check, Rates, Router, Settings
from casebook.cases.llm_gateway.world.requests import CHEAP, DEFAULT, STRONG, simulate

SMALL = replace(DEFAULT, tenants=40, requests=50)
FAST = Settings(strength=0.01, directions=24)


@pytest.fixture(scope="module")
def world():
    return simulate(7, SMALL)


@pytest.fixture(scope="module")
def test(world):
    return world.part("test")


def one_request(**more) -> pd.DataFrame:
    row = {"text": "Sort it.", "task": "", "tokens_in": 1_000.0, "numbers": 0, "code_marks": 0}
    return pd.DataFrame([row | {"error_euro": 0.02} | more])


# The decision ---------------------------------------------------------------------------


def test_the_strong_model_is_asked_where_its_gain_is_worth_the_price():
    """By hand: 1,000 tokens in, 300 out; 0.0055 euro for the strong, 0.00033 for the cheap one."""
    gain = (0.0055 - 0.00033) / 0.02
    for more, expected in ((1.01, True), (0.99, False)):
        chances = np.array([0.5]), np.array([0.5 + more * gain])
        assert routing.to_strong(chances, one_request())[0] == expected
    assert routing.to_strong((np.array([0.5]), np.array([0.6])), one_request(), 1.0)[0]


def test_no_other_split_costs_less_than_the_oracle_by_what_it_expects(test):
    bill, truth = Bill(test), test.truth.assign(tokens_out=routing.TOKENS_OUT)
    bill.truth = truth
    chances = truth["p_cheap"].to_numpy(), truth["p_strong"].to_numpy()
    best = bill.routed(routing.to_strong(chances, test.requests))["euro"]
    for strong in (np.zeros(len(truth)), np.ones(len(truth)), np.full(len(truth), 0.5)):
        assert (best <= bill.routed(strong)["euro"] + 1e-12).all()


def test_a_bill_adds_prices_and_what_unacceptable_answers_cost(test):
    table, r, t = Bill(test).routed(np.ones(len(test.requests))), test.requests, test.truth
    price = STRONG.euro(r["tokens_in"], t["tokens_out"])
    np.testing.assert_allclose(table["model_euro"], price)
    np.testing.assert_allclose(table["euro"], price + r["error_euro"] * (1 - t["p_strong"]))
    assert routing.summed(table)["euro"] == pytest.approx(1000 * table["euro"].mean())


# Cascades -------------------------------------------------------------------------------


def test_a_cascade_costs_what_drawn_scores_cost(test):
    """The closed form is held against answers and scores that are drawn."""
    rng, check, n = np.random.default_rng(0), Check(power=1.2), 400
    p, p_strong = (test.truth[name].to_numpy() for name in ("p_cheap", "p_strong"))
    chances = np.clip(p + 0.1, 0, 0.99), p_strong
    bound = routing.cascade(chances, test.requests, check)
    ok = rng.random((n, len(p))) < p
    again = rng.normal(check.power * ok) < bound
    good = np.where(again, p_strong, ok)
    tokens = test.requests["tokens_in"].to_numpy(), test.truth["tokens_out"].to_numpy()
    price = CHEAP.euro(*tokens) * (1 + check.price) + again * STRONG.euro(*tokens)
    table = Bill(test).cascaded(chances, check, always=True)
    assert table["acceptable"].mean() == pytest.approx(good.mean(), abs=0.003)
    assert table["model_euro"].mean() == pytest.approx(price.mean(), rel=0.01)


def test_a_check_that_knows_makes_the_cascade_nearly_perfect_and_a_blind_one_no_better(test):
    oracle = test.truth["p_cheap"].to_numpy(), test.truth["p_strong"].to_numpy()
    costs = [
        Bill(test).cascaded(oracle, Check(power, price=0), always=True)["euro"].mean()
        for power in (8, 1, 0.01)
    ]
    routed = Bill(test).routed(routing.to_strong(oracle, test.requests))["euro"].mean()
    assert costs[0] < costs[1] < costs[2]
    assert costs[0] < routed
    assert costs[2] > routed - 1e-4


def test_a_cascade_takes_the_way_that_costs_least_for_each_request(test):
    """By what it believes, none of the three ways costs less; a blind check is never paid for."""
    bill, requests = Bill(test), test.requests
    bill.truth = test.truth.assign(tokens_out=routing.TOKENS_OUT)
    oracle = test.truth["p_cheap"].to_numpy(), test.truth["p_strong"].to_numpy()
    table = bill.cascaded(oracle, Check(power=1.0))
    plain = [bill.routed(np.full(len(requests), at))["euro"] for at in (0, 1)]
    for other in (*plain, bill.cascaded(oracle, Check(power=1.0), always=True)["euro"]):
        assert (table["euro"] <= other + 1e-9).all()
    way = routing.cheapest(oracle, requests, Check(power=1.0))
    assert set(way) == {0, 1, 2}
    blind = Check(power=0.01)
    assert (routing.cheapest(oracle, requests, blind) < 2).all()
    routed = bill.routed(routing.to_strong(oracle, requests))
    pd.testing.assert_frame_equal(bill.cascaded(oracle, blind), routed, check_dtype=False)


# Estimates ------------------------------------------------------------------------------


def test_points_count_what_an_analyst_sees():
    hard = {"task": "calculate", "tokens_in": 3_000.0, "numbers": 20, "code_marks": 1}
    text = "Several pages are missing, unless I misread."
    assert routing.points(one_request(**hard, text=text))[0] == 6
    assert routing.points(one_request(task="classify"))[0] == 0
    assert routing.points(one_request(task="a task that nobody knows"))[0] == 1


def test_rates_are_those_of_the_group_mixed_with_the_mean():
    grades = pd.DataFrame({"cheap_ok": [1, 1, 0, 0], "strong_ok": [1, 1, 1, 0], "g": [0, 0, 1, 1]})
    rates = Rates(lambda rows: rows["g"].to_numpy(), prior=2.0).fit(grades)
    cheap, _ = rates.chances(pd.DataFrame({"g": [0, 1, 7]}))
    np.testing.assert_allclose(cheap, [(2 + 1) / 4, 1 / 4, 0.5])


@pytest.mark.parametrize("settings", [FAST, replace(FAST, learner="trees", strength=20)])
def test_a_router_learns_from_grades_and_nothing_from_shuffled_ones(world, test, settings):
    train = world.part("train").requests
    cheap, _ = Router(settings, stored()).fit(train).chances(test.requests)
    assert np.corrcoef(cheap, test.truth["p_cheap"])[0, 1] > 0.35
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = train.assign(
        cheap_ok=train["cheap_ok"].to_numpy()[order], strong_ok=train["strong_ok"].to_numpy()[order]
    )
    cheap, _ = Router(settings, stored()).fit(shuffled).chances(test.requests)
    assert abs(np.corrcoef(cheap, test.truth["p_cheap"])[0, 1]) < 0.2


def test_a_router_reads_neither_truth_nor_tenant(world, test):
    """Other names and other grades of the test change no estimate."""
    router = Router(FAST, stored()).fit(world.part("train").requests)
    other = test.requests.assign(tenant="somebody", cheap_ok=False, strong_ok=False, error_euro=9.0)
    for a, b in zip(router.chances(test.requests), router.chances(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_router_without_grades_to_learn_from_says_so(world):
    with pytest.raises(ValueError, match="call fit"):
        Router(FAST, stored()).chances(world.requests)
    with pytest.raises(ValueError, match="grade more"):
        Router(FAST, stored()).fit(world.requests.assign(cheap_ok=True))


# Studies --------------------------------------------------------------------------------


def test_the_ladder_has_every_policy_for_known_and_new_families():
    table = studies.ladder((1_101,), constants=SMALL)
    euro = table.pivot(index="policy", columns="families", values="euro")
    assert euro.shape == (15, 3)
    assert euro.notna().all(axis=None)
    routers = [name for name in euro.index if name not in (studies.ALWAYS, *studies.CASCADES)]
    assert (euro.loc["oracle"] <= euro.loc[routers].min() + 0.2).all()
    shares = table.set_index("policy").query("families == 'all'")["strong"]
    assert shares["random split"] == pytest.approx(shares[studies.SHIPPED])


def test_a_share_of_the_gap_by_hand():
    rows = {"error cost alone": 8.0, "rules": 7.0, "oracle": 4.0}
    table = pd.DataFrame([(1, *row) for row in rows.items()], columns=["seed", "policy", "euro"])
    assert studies.closed(table).loc[1].to_dict() == {
        "error cost alone": 0.0,
        "rules": 0.25,
        "oracle": 1.0,
    }


def test_a_frontier_begins_cheap_and_ends_strong():
    table = studies.frontier((1_101,), ("rules", "oracle"), (0.0005, 0.01, 0.03, 9.0))
    ends = table[table["way"] == "ends"]
    oracle = table[(table["policy"] == "oracle") & (table["way"] == "router")]
    assert oracle["strong"].is_monotonic_increasing
    assert oracle["acceptable"].max() >= ends["acceptable"].max()
