"""The bank's rules, model, policies in the world, and the service put together."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import bank, benchmarks, costs, deployment, features, models, rules
from casebook.cases.card_fraud.policy import (
    StorePolicy,
    between,
    business,
    clairvoyant,
    decide_by,
    friction_by,
)
from casebook.cases.card_fraud.world import causal, cost, simulate

SEED, CUSTOMERS, DAYS, START = 7, 300, 70, 50


@pytest.fixture(scope="module")
def here():
    return bank.drawn(SEED, CUSTOMERS, DAYS, START)


@pytest.fixture(scope="module")
def model(here):
    return here.train()


def in_world(here, decide, **options):
    policy = StorePolicy(decide, here.world.terminals, here.world.customers, here.start, **options)
    return policy, simulate(policy, SEED, CUSTOMERS, DAYS)


# Rules -----------------------------------------------------------------------------------------


def test_one_event_and_a_table_get_the_same_answer(here):
    rows = here.X.tail(3000)
    whole = rules.decide(rows)
    assert len(set(whole)) > 1
    for tier, row in zip(whole, rows.to_dict("records"), strict=True):
        assert rules.alone(row, {})[0] == tier


def test_hard_rules_block_or_pass_and_say_why(here):
    row = here.X.iloc[0].to_dict()
    assert rules.hard(row, {}) == ("pass", "")
    assert rules.hard({**row, "device_customers_24h": 3}, {}) == ("block", rules.RULES[0].text)
    assert rules.hard({**row, "speed": 2000}, {})[0] == "pass"
    assert rules.alone({**row, "speed": 2000}, {})[0] == "confirm"


def test_the_report_counts_what_a_rule_is_worth(here):
    fraud = here.world.truth["is_fraud"].to_numpy()
    report = rules.report(here.X, fraud)
    for rule in rules.RULES:
        fires = rule.holds(here.X).to_numpy()
        assert report.loc[rule.name, "alerts"] == fires.sum()
        if fires.any():
            assert report.loc[rule.name, "precision"] == pytest.approx(fraud[fires].mean())


# The model -------------------------------------------------------------------------------------


def test_a_setting_learns_from_the_past_alone(here):
    received = here.world.transactions.set_index("transaction")["received"]
    assert (received.loc[here.labels.index] < here.week.train_to).all()
    assert (received.loc[here.test.index] >= here.start).all()
    recent = received.loc[here.recent().index]
    assert recent.between(here.week.train_to, here.start, inclusive="left").all()
    later = here.world.labels.set_index("transaction")["known"].loc[here.labels.index]
    assert (here.labels[later > here.start] == 0).all()


def test_labels_that_come_later_change_nothing_in_training(here):
    """Planted: chargebacks of after the start vanish; the training must not notice."""
    labels = here.world.labels
    late = labels["chargeback"] & (labels["known"] > here.start)
    assert late.sum() > 5
    spoiled = replace(here.world, labels=labels.assign(chargeback=labels["chargeback"] & ~late))
    again = bank.setting(spoiled, START)
    pd.testing.assert_series_equal(again.labels, here.labels)
    rows = here.labels.index
    pd.testing.assert_frame_equal(again.X.loc[rows], here.X.loc[rows])


def test_the_blend_is_the_mean_in_log_odds(here, model):
    X = here.X.loc[here.test.index[:200]]
    parts = [bank.log_odds(part.score(X)) for part in model.inner]
    np.testing.assert_allclose(bank.log_odds(model.score(X)), np.mean(parts, axis=0), atol=1e-9)
    with pytest.raises(ValueError, match="calibrate first"):
        bank.blend(model, replace(model, probability=False))


def test_the_trees_probability_is_repaired(here):
    trees = here.train(bank.fit_trees)
    X = here.X.loc[here.test.index]
    raw = trees.inner.predict(X)
    np.testing.assert_allclose(trees.score(X), models.repair_probability(raw, bank.KEEP))
    assert raw.mean() > 2 * trees.score(X).mean()


def test_single_thresholds_cost_least_of_all_on_the_same_payments():
    rng = np.random.default_rng(0)
    p, amount = rng.beta(0.05, 5, 4000), rng.lognormal(3.3, 1, 4000)
    frame = costs.expected_costs(p, amount)
    for tier in ("confirm", "block"):

        def paid(cut, tier=tier):
            return np.where(p > cut, frame[tier], frame["allow"]).sum()

        best = bank.single_threshold(p, amount, tier)
        assert paid(best) <= min(paid(cut) for cut in [*np.quantile(p, np.linspace(0, 1, 400)), 1])
    assert bank.single_threshold(np.full(5, 1e-6), np.full(5, 1.0), "call") == 1.0


def test_no_training_is_left():
    world = simulate(seed=1, n_customers=100, days=40)
    with pytest.raises(ValueError, match="leaves no training from day 14 on"):
        bank.setting(world, 30)


# Policies --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(here, model):
    return in_world(here, decide_by(model.score, lambda p, a: costs.tiers(p, a)))


def test_the_policy_does_not_look_ahead(here, model):
    policy = StorePolicy(
        decide_by(model.score, lambda p, a: costs.tiers(p, a)),
        here.world.terminals,
        here.world.customers,
        here.start,
    )
    simulate(causal(policy, every=1), SEED, CUSTOMERS, START + 5)


def test_a_policy_that_looks_ahead_is_found(here):
    def peeking(features, batch):
        biggest = batch["amount"] >= batch["amount"].quantile(0.999)
        return np.where(biggest, "confirm", "allow")

    policy = StorePolicy(peeking, here.world.terminals, here.world.customers, here.start)
    with pytest.raises(ValueError, match="looks ahead"):
        simulate(causal(policy, every=1), SEED, CUSTOMERS, START + 5)


def test_nothing_is_decided_before_the_start_and_something_after(here, ran):
    policy, world = ran
    early = world.transactions["received"] < here.start
    assert (world.transactions.loc[early, "tier"] == "allow").all()
    assert (world.transactions.loc[~early, "tier"] != "allow").sum() > 20
    days = pd.concat(policy.log)
    assert len(days) == (~early).sum() and list(days) == list(features.FEATURES)


def test_the_store_of_the_policy_agrees_with_the_batch_but_for_what_midnight_tells(ran):
    policy, world = ran
    seen = pd.concat(policy.log)
    known = features.evidence(world.transactions, world.labels)
    whole = features.batch(world.transactions, world.terminals, world.customers, known)
    differ = features.mismatch(whole.loc[seen.index], seen)
    late = ("risk", "frauds", "refused")  # what a day tells reaches the policy at midnight
    for name, count in differ.items():
        assert count == 0 or any(word in name for word in late), name


def test_what_is_known_is_selective(here):
    asked = []

    def half(features, batch):
        return np.where(batch["transaction"] % 2 == 0, "block", "confirm")

    def retrain(log, known, now):
        asked.append((log, known, now))
        return half

    _, world = in_world(here, half, retrain=retrain, every=7)
    assert len(asked) == 2
    _, known, now = asked[-1]
    outcome = world.transactions.set_index("transaction")["outcome"].loc[known["transaction"]]
    assert not outcome.isin(["declined", "abandoned"]).any()
    assert known.loc[(outcome == "denied").to_numpy(), "fraud"].all()
    assert (outcome == "denied").any()
    arrived = world.transactions.set_index("transaction")["received"]
    assert (arrived.loc[known["transaction"]] <= now).all()


def test_a_period_of_a_world_is_cut_everywhere(here, ran):
    _, world = ran
    part = between(world, here.start)
    assert part.transactions["received"].min() >= here.start
    assert part.transactions["transaction"].tolist() == part.truth["transaction"].tolist()
    whole, first = cost(world), cost(between(world, world.start, here.start))
    pd.testing.assert_series_equal(first + cost(part), whole)


def test_business_adds_up_and_knowing_everything_is_the_floor(here, ran):
    _, world = ran
    allowed = between(here.world, here.start)
    judged = business(between(world, here.start), allowed)
    assert judged["cost"] == pytest.approx(judged["fraud cost"] + judged["friction cost"])
    assert 0 < judged["friction"] < 0.4 and judged["fraud stopped"] > 0.3
    none = business(allowed, allowed)
    assert (none["friction"], none["fraud stopped"]) == (0, 0)
    knows = simulate(clairvoyant(here.world), SEED, CUSTOMERS, DAYS)
    floor = business(between(knows, here.start), allowed)
    assert floor["friction"] == 0 and floor["fraud stopped"] == 1
    assert floor["cost"] < min(judged["cost"], none["cost"])


def test_friction_by_segment_adds_up(here, ran):
    part = between(ran[1], here.start)
    table = friction_by(part)
    genuine = ~part.truth["is_fraud"].to_numpy() & ~part.transactions["request"].duplicated()
    assert table["transactions"].sum() == genuine.sum()
    asked = part.transactions.loc[genuine, "tier"].isin(["confirm", "call"]).sum()
    assert (table["asked"] * table["transactions"]).sum() == pytest.approx(asked)


def test_the_guardrail_holds_on_what_it_was_set_on(here, model):
    chosen = benchmarks.choices(here, model.score)["tiers, within the guardrail"]
    recent = here.recent()
    amount = bank.amounts(here.world, recent.index)
    assert np.mean(chosen(model.score(recent), amount) != "allow") <= bank.GUARDRAIL


# The service -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(here, model):
    return deployment.deploy(here, model)


def test_the_service_decides_as_the_batch_would(made, tmp_path):
    service = deployment.app(str(tmp_path / "a.sqlite"), budget_ms=5000, made=made).state.service
    sent = made.payloads(120)
    replies = [service.decide(json.dumps(request).encode()).body for request in sent]
    index = [request["transaction"] for request in sent]
    world = made.here.world
    # Until an outcome is reported, the service knows none of these days.
    then = world.transactions[world.transactions["transaction"] <= index[-1]]
    known = features.evidence(world.transactions, world.labels)
    known = known[known["known"] < made.here.start]
    known = known[known["transaction"].isin(then["transaction"])]
    X = features.batch(then, world.terminals, world.customers, known).loc[index]
    by_model = [reply["source"] == "model" for reply in replies]
    assert sum(by_model) > 100
    told = np.array([reply["probability"] or np.nan for reply in replies], float)
    np.testing.assert_allclose(told[by_model], made.model.score(X)[by_model], rtol=1e-6)
    for reply, request in zip(replies, sent, strict=True):
        if reply["source"] == "model":
            assert reply["tier"] == deployment.tier(reply["probability"], request["amount"])
            assert len(reply["reasons"]) <= 3 and all(reply["reasons"])


def test_a_deployment_can_be_handed_to_another_process(made, tmp_path):
    made.save(tmp_path / "bank.pickle")
    again = pickle.loads((tmp_path / "bank.pickle").read_bytes())
    row = made.here.X.iloc[-1].to_dict()
    assert again.score(row) == made.score(row)
