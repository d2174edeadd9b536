"""The bank's rules, model, policies in the world, and the service put together."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from card_fraud_fakes import causal

from casebook.cases.card_fraud import (
    bank,
    benchmarks,
    decisions,
    deployment,
    models,
    parts,
    rules,
)
from casebook.cases.card_fraud.answers import (
    CAP,
    GUARDRAIL,
    HOLDBACK,
    Answers,
    Cuts,
    cut_within,
    within,
)
from casebook.cases.card_fraud.audit import Audit, event_of
from casebook.cases.card_fraud.policy import (
    StorePolicy,
    between,
    business,
    clairvoyant,
    decide_by,
    friction_by,
)
from casebook.cases.card_fraud.world import cost, simulate
from casebook.evaluate import fraud_costs as costs
from casebook.evaluate.prequential import weeks
from casebook.features import card_payments as features
from casebook.features.definition import skew
from casebook.serving.breaker import Breaker
from casebook.serving.snapshots import restored
from casebook.serving.tokens import Tokens

KEY = b"the key of the tests"
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


def test_the_hardest_rule_that_holds_says_why(here):
    row = here.X.iloc[0].to_dict()
    assert rules.alone(row, {}) == ("allow", "no rule holds")
    both = {**row, "device_customers_24h": 3, "speed": 2000}
    assert rules.alone(both, {}) == ("block", rules.RULES[0].text)
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
    recent = received.loc[here.recent().index]
    assert recent.between(here.week.train_to, here.start, inclusive="left").all()
    full = here.world.labels.set_index("transaction").loc[here.labels.index]
    known = full["known"] <= here.week.known_at
    assert (here.labels == (full["chargeback"] & known)).all()
    assert (full["chargeback"] & ~known).any()
    spans = [(here.labels, "train_from", "train_to"), (here.test, "test_from", "test_to")]
    for rows, start, end in spans:
        moments = (getattr(here.week, name) for name in (start, end))
        assert received[rows.index].between(*moments, inclusive="left").all()


def test_the_test_is_judged_by_the_truth_and_counts_a_retry_once(here):
    truth = here.world.truth.set_index("transaction")
    assert (here.test["y"] == truth.loc[here.test.index, "is_fraud"]).all()
    table = here.world.transactions.set_index("transaction")
    spans = table["received"].between(here.week.test_from, here.week.test_to, inclusive="left")
    requests = table.loc[here.test.index, "request"]
    assert not requests.duplicated().any() and len(here.test) < spans.sum()
    assert set(requests) == set(table.loc[spans, "request"])


def test_a_longer_wait_for_labels_leaves_young_rows_out(here):
    week = weeks(here.world.start, here.world.end, train=28, wait=0)[-1]
    ripe, _ = bank.world_split(here.world, week, wait=20)
    all_rows, _ = bank.world_split(here.world, week)
    at = here.world.transactions.set_index("transaction")["received"]
    assert (at[ripe.index[ripe == 0]] <= week.known_at - 20 * bank.DAY).all()
    assert len(ripe) < 0.5 * len(all_rows)
    empty = weeks("2024-01-01", "2024-03-01")[-1]
    with pytest.raises(ValueError, match="no row of the world is in the train span of 2024-02-23"):
        bank.world_split(here.world, empty)


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


def friction(answer, p) -> float:
    """The share of genuine payments that are not allowed, as probabilities expect it."""
    return float(np.average(np.asarray(answer) != "allow", weights=1 - p))


@pytest.mark.parametrize("by_amount", [False, True])
@pytest.mark.parametrize("tier", ["confirm", "block"])
def test_a_cut_costs_least_of_all_that_keep_the_guardrail(tier, by_amount):
    rng = np.random.default_rng(0)
    p, amount = rng.beta(0.05, 5, 4000), rng.lognormal(3.3, 1, 4000)
    frame = costs.expected_costs(p, amount)
    score = p * amount if by_amount else p

    def paid(cut):
        return np.where(score > cut, frame[tier], frame["allow"]).sum()

    free = cut_within(tier, p, amount, by_amount=by_amount)
    loosest = friction(free(p, amount), p)
    for limit in (loosest / 3, 0.9 * loosest, 2 * loosest):
        best = cut_within(tier, p, amount, limit, by_amount)
        assert friction(best(p, amount), p) <= limit
        tried = [
            Cuts((cut,), (tier,), by_amount)
            for cut in np.quantile(score, 1 - np.geomspace(1e-3, 1, 300))
        ]
        kept = [one.at[0] for one in tried if friction(one(p, amount), p) <= limit]
        assert paid(best.at[0]) <= min(map(paid, kept)) + 1e-9
    # At most means at most: where more does not pay, the limit is not exhausted.
    assert cut_within(tier, p, amount, 2 * loosest, by_amount) == free
    none = cut_within("call", np.full(5, 1e-6), np.full(5, 1.0))
    assert set(none(np.full(5, 1e-6), np.full(5, 1.0))) == {"allow"}


def test_the_guardrail_is_one_of_genuine_payments():
    rng = np.random.default_rng(1)
    p, amount = rng.beta(0.03, 3, 20_000), rng.lognormal(3.3, 1, 20_000)
    policy = within(0.005, Answers(), p, amount)
    answer = policy(p, amount)
    assert 0.0045 < friction(answer, p) <= 0.005
    # Planted: counting frauds as friction would leave room unused.
    assert (answer != "allow").mean() > 0.006


def test_answers_may_differ_by_channel_and_by_who_bears_the_fraud():
    where = np.array(["online", "in person"])
    given = ([0.05, 0.05], [200.0, 200.0], where)
    assert Answers(in_person=("allow", "block"))(*given).tolist() == ["confirm", "block"]
    assert Answers(exempted=True)(*given).tolist() == ["allow", "confirm"]
    assert Answers(exempted=True)([0.05], [501.0], where[:1]).tolist() == ["confirm"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Answers(price=np.nan), "price"),
        (lambda: Answers(price=-1.0), "price"),
        (lambda: Answers(holdback=2.0, key=b"k" * 32), "hold-back"),
        (lambda: Answers(holdback=0.01, key=b"k" * 65), "16 to 64 bytes"),
        (lambda: Answers(exempted=True)([0.1], [60]), "channel"),
        (lambda: Answers(in_person=("allow", "block"))([0.1], [60]), "channel"),
        (lambda: Answers(among=("allow", "confirm")).one(0.9, 60.0, 1), "three answers"),
        (lambda: Cuts((0.5, 0.1), ("confirm", "block")), "do not rise"),
        (lambda: Cuts((0.5,), ("confirm", "block")), "one for each tier"),
        (lambda: Cuts((0.5,), ("confirm",))([np.nan], 60), "missing"),
        (lambda: within(0.01, Answers(), np.ones(3), np.full(3, 60.0)), "genuine"),
        (lambda: within(0.01, Answers(), np.array([]), np.array([])), "genuine"),
    ],
)
def test_a_policy_that_has_no_meaning_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_no_training_is_left():
    world = simulate(seed=1, n_customers=100, days=40)
    with pytest.raises(ValueError, match="leaves no training from day 14 on"):
        bank.setting(world, 30)


# Policies --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(here, model):
    return in_world(here, decide_by(model.score, Answers()))


def test_a_store_that_another_policy_warmed_changes_nothing(here, model, ran):
    shared = {}
    in_world(here, rules.decide, shared=shared)
    policy, world = in_world(here, decide_by(model.score, Answers()), shared=shared)
    pd.testing.assert_frame_equal(world.transactions, ran[1].transactions)
    pd.testing.assert_frame_equal(pd.concat(policy.log), pd.concat(ran[0].log))


def test_the_policy_does_not_look_ahead(here, model):
    policy = StorePolicy(
        decide_by(model.score, Answers()),
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
    differ = skew(seen, whole.loc[seen.index])
    late = ("risk", "frauds", "refused")  # what a day tells reaches the policy at midnight
    for name, count in differ.items():
        assert any(word in name for word in late), (name, count)


def test_a_period_of_a_world_is_cut_everywhere(here, ran):
    _, world = ran
    part = between(world, here.start)
    assert part.transactions["received"].min() >= here.start
    assert part.transactions["transaction"].tolist() == part.truth["transaction"].tolist()
    whole, first = cost(world), cost(between(world, world.start, here.start))
    pd.testing.assert_series_equal(first + cost(part), whole)


def test_who_leaves_because_of_a_judged_day_is_counted(here):
    """Who is blocked on the last judged day leaves at its midnight; the day after is not judged."""
    last = here.world.end - 2 * bank.DAY
    for day, judged in ((last, True), (last + bank.DAY, False)):

        def blocks(batch, history, day=day):
            return ["block" if history.now == day else "allow"] * len(batch)

        world = simulate(blocks, SEED, CUSTOMERS, DAYS)
        assert (cost(benchmarks.judged(world, here.start))["churn"] > 0) == judged


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


def test_every_policy_of_the_study_keeps_its_limit_on_what_it_was_set_on(here, model):
    recent = here.expected(model.score)
    made = benchmarks.policies_of(here, model.score)
    for (name, family, limit), policy in made.items():
        if limit is not None:
            assert friction(policy(*recent), recent[0]) <= limit, name
        assert family in ("", *benchmarks.FAMILIES)


# The service -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(here, model):
    return deployment.deploy(here, model)


def opened(made, path, **options):
    return deployment.app(str(path / "a.sqlite"), budget_ms=5000, made=made).state.service


@pytest.fixture(scope="module")
def answered(made, tmp_path_factory):
    """Return a service of the bank, what it was sent and what it replied."""
    service = opened(made, tmp_path_factory.mktemp("bank"))
    sent = made.payloads(250)
    return service, sent, [service.decide(json.dumps(one).encode()).body for one in sent]


def check_policy(answers, service, sent, decide) -> None:
    """The service advises what the benchmark's policy does, row by row, and holds back a share."""
    rows = list(service.audit.records())
    X = pd.DataFrame([row.features for row in rows])
    table = pd.DataFrame(sent)
    np.testing.assert_array_equal([row.advised for row in rows], decide(X, table))
    held = answers.held([row.transaction for row in rows], table["amount"])
    assert {row.tier for row in rows if row.holdback} <= {"allow"}
    for row, kept in zip(rows, held, strict=True):
        assert row.tier == ("allow" if kept else row.advised)


def test_page_benchmark_and_service_decide_by_one_function(made, answered, model):
    service, sent, replies = answered
    policy = benchmarks.policies_of(made.here, model.score)[
        benchmarks.WITHIN, "three answers", GUARDRAIL
    ]
    check_policy(service.policy, service, sent, decide_by(model.score, policy))
    assert {reply["source"] for reply in replies} == {"model"}
    assert made.answers.price > 0 and service.policy.holdback == HOLDBACK == 0.01
    assert any(reply["tier"] != "allow" for reply in replies)


def test_a_service_without_the_guardrail_or_the_hold_back_is_found(made, answered, model):
    service, sent, _ = answered
    with pytest.raises(AssertionError):
        check_policy(service.policy, service, sent, decide_by(model.score, Answers()))
    everyone = replace(service.policy, holdback=1.0)
    with pytest.raises(AssertionError):
        check_policy(everyone, service, sent, decide_by(model.score, made.answers))


def test_the_hold_back_is_drawn_by_a_secret_less_for_large_amounts_and_never_beyond_the_cap():
    answers, numbers = Answers(holdback=0.01, key=KEY), np.arange(50_000)
    for amount, share in ((20.0, 0.01), (100.0, 0.005), (CAP, 0.001), (CAP + 1, 0.0)):
        held = answers.held(numbers, np.full(len(numbers), amount))
        assert held.mean() == pytest.approx(share, rel=0.4)
        assert answers.share(amount)[0] == pytest.approx(share)
    held = answers.held(numbers, 20.0)
    other = Answers(holdback=0.01, key=b"another key of tests").held(numbers, 20.0)
    assert (held & other).sum() < 30  # whoever lacks the key learns nothing from the numbers
    kept = int(numbers[held][0])
    assert answers.one(0.9, 20.0, kept) == ("block", "allow") == answers.one(0.9, 20.0, kept)
    assert answers.one(0.9, 20.0, kept, strict=True) == ("block", "block")
    assert not Answers().held(numbers, 20.0).any()
    with pytest.raises(ValueError, match="give a key of 16 to 64 bytes"):
        Answers(holdback=0.01)


def test_the_service_keeps_the_guardrail_on_what_it_was_set_on(made, model):
    recent = made.here.expected(model.score)
    asked, free = (friction(each(*recent), recent[0]) for each in (made.answers, Answers()))
    assert 0.5 * GUARDRAIL < asked <= GUARDRAIL < free
    late = made.here.test[made.here.test["y"] == 0]  # later weeks, half of them in the wave
    scores = model.score(made.here.X.loc[late.index]), late["amount"]
    asked, free = (np.mean(each(*scores) != "allow") for each in (made.answers, Answers()))
    assert 0 < asked < 0.8 * free


def test_at_an_unknown_terminal_the_model_decides_without_the_guardrails_price(made, answered):
    service, sent, _ = answered
    new = {"terminal": 10**6, "channel": "in person", "entry": "chip", "amount": 20.0}
    for place, more in enumerate(({}, {"entry": "magstripe", "amount": 400.0})):
        number = 10**8 + place
        more = new | more | {"request": number, "transaction": number, "device": None}
        body = service.decide(json.dumps(sent[-1] | more).encode()).body
        assert (body["source"], body["why"]) == ("model", "unknown terminal")
        assert body["tier"] == Answers()(body["probability"], more["amount"])[0]
        row = service.audit.decision(number)
        assert row.features["km_from_last"] == 0 and row.features["amount"] == more["amount"]
    assert service.refused == 0  # the customer's velocity counts them


def check_reasons(contribute, model, X) -> None:
    """Contributions add up to the log odds of the model that decides, but for a constant."""
    rest = [
        bank.log_odds(model.score(X.iloc[[i]]))[0] - contribute(X.iloc[[i]]) for i in range(len(X))
    ]
    np.testing.assert_allclose(rest, rest[0], atol=1e-6)


def test_the_reasons_are_those_of_the_model_that_decides(made, model):
    p = model.score(made.here.X)
    # Log odds are cut where a part is surer than one in a billion, also with a value as usual.
    cut = np.any([part.score(made.here.X) < 1e-7 for part in model.inner], axis=0)
    X = made.here.X[(p > 1e-5) & (p < 0.99) & ~cut].sample(40, random_state=0)
    check_reasons(lambda row: made.contributions(row).sum(), model, X)
    trees = model.inner[1].inner
    with pytest.raises(AssertionError):  # planted: the reasons of the trees alone
        check_reasons(lambda row: trees.predict(row, pred_contrib=True)[0, :-1].sum(), model, X)


def test_no_reason_equals_its_usual_value(made, model):
    X = made.here.X.loc[made.here.test.index]
    for row in X.iloc[np.argsort(-model.score(X))[:60]].to_dict("records"):
        for said in made.score(row)[1]:
            assert not said.startswith("not the case")
            number = re.match(r"(.*?) ?\(usual: (.*)\)$", said)
            if number:
                assert not re.search(rf"(^|: ){re.escape(number[2])}( |$)", number[1]), said


def test_a_start_from_the_snapshot_reads_only_what_came_after(made, tmp_path):
    service = opened(made, tmp_path)
    sent = [json.dumps(one).encode() for one in made.payloads(60)]
    for raw in sent[:40]:
        service.decide(raw)
    service.save()
    for raw in sent[40:50]:
        service.decide(raw)
    service.audit.close()
    assert oct((tmp_path / "a.sqlite.state").stat().st_mode & 0o777) == "0o600"
    again = opened(made, tmp_path)
    whole = made.store(again.tokens)
    assert decisions.rebuild(whole, again.audit).decisions == 50
    event = event_of(again.audit.decision(json.loads(sent[49])["request"]))
    event |= {"transaction": 10**9, "request": 10**9}
    assert again.store.features(event) == whole.features(event)
    raw = bytearray((tmp_path / "a.sqlite.state").read_bytes())
    raw[200] ^= 1  # planted: somebody else's pickle is never opened
    (tmp_path / "a.sqlite.state").write_bytes(raw)
    assert restored(tmp_path / "a.sqlite.state", again.audit, again.tokens, made.layout()) is None
    again.audit.close()


def test_a_snapshot_of_other_master_data_is_not_read(made, tmp_path):
    service = opened(made, tmp_path)
    service.decide(json.dumps(made.payloads(1)[0]).encode())
    service.save()
    service.audit.close()
    world = made.here.world
    newcomer = world.customers.head(1).assign(customer=999_999)
    here = replace(
        made.here, world=replace(world, customers=pd.concat([world.customers, newcomer]))
    )
    again = opened(replace(made, here=here), tmp_path)
    body = again.decide(json.dumps(made.payloads(2)[1] | {"customer": 999_999}).encode()).body
    assert (body["why"], again.refused, again.unknown) == ("", 0, 0)
    again.audit.close()


def test_a_cold_model_is_asked_before_the_first_payment(made, tmp_path):
    asked = []

    def score(row):
        asked.append(row)
        return 0.0, []

    options = {"rules": rules.none, "policy": made.answers, "tokens": Tokens(b"0123456789abcdef")}
    options |= {"store": made.store(Tokens(b"0123456789abcdef")), "breaker": Breaker(budget_ms=40)}
    with Audit(tmp_path / "a.sqlite") as audit:
        decisions.Service(score=score, audit=audit, usual=made.usual.to_dict(), **options)
        assert asked == [made.usual.to_dict()] * parts.WARM_UP
        decisions.Service(
            score=lambda row: 1 / 0, audit=audit, usual={}, **options
        )  # says so later


def test_a_deployment_can_be_handed_to_another_process(made, tmp_path):
    made.save(tmp_path / "bank.pickle")
    again = pickle.loads((tmp_path / "bank.pickle").read_bytes())
    row = made.here.X.iloc[-1].to_dict()
    assert again.score(row) == made.score(row)
