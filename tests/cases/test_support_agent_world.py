"""Case 17, the world: each mechanism that its docstrings promise, in five worlds."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.support_agent import records
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.records import Episode, Said, Ticket, Turn, day, days, euro
from casebook.cases.support_agent.world import customers, people, shop, tickets, truth
from casebook.data import snapshot
from casebook.project import data_dir
from casebook.worlds import shops

SEEDS = range(5)


@cache
def world(seed):
    return worlds.simulate(seed, tickets=800)


def mean(of):
    return float(np.mean([of(world(seed)) for seed in SEEDS]))


def share(values):
    return float(np.mean([*values]))


def orders(one):
    return one.shop.orders.values()


def test_the_world_is_what_was_frozen():
    here = Path(worlds.__file__).with_name("frozen.toml")
    frozen = tomllib.loads(here.read_text(encoding="utf-8"))
    assert {"seed": worlds.SEED, "fingerprint": worlds.fingerprint(worlds.simulate())} == frozen


def test_the_same_seed_gives_the_same_world_and_another_one_another():
    again = worlds.simulate(0, tickets=800)
    assert worlds.fingerprint(again) == worlds.fingerprint(world(0))
    assert worlds.fingerprint(again) != worlds.fingerprint(world(1))


def test_the_committed_snapshots_are_what_the_world_makes():
    made = worlds.snapshots()
    assert made.keys() == {path.name for path in (data_dir() / worlds.CHAPTER).glob("*.parquet")}
    for name, frame in made.items():
        stored = snapshot(worlds.CHAPTER, name).astype(str).replace("NaT", "None")
        assert_frame_equal(stored, frame.astype(str).replace("NaT", "None"))


def test_what_a_system_sees_of_a_ticket_holds_no_truth():
    columns = set(worlds.snapshots()["tickets.parquet"].columns)
    assert columns == {"id", "tenant", "customer", "email", "opening"}


# Shops ---------------------------------------------------------------------------------


def test_rates_of_orders_and_payments():
    assert mean(lambda w: len(w.shop.orders) / len(w.shop.accounts)) == pytest.approx(4.1, abs=0.1)
    old = lambda w: [o for o in orders(w) if (shop.TODAY - o.promised).days > 9]  # noqa: E731
    lost = mean(lambda w: share(o.status != "delivered" for o in old(w)))
    assert lost == pytest.approx(0.06, abs=0.01)
    on_time = mean(lambda w: share(o.delivered == o.promised for o in old(w)))
    assert on_time == pytest.approx(0.70, abs=0.02)
    paid = lambda w, o, kind: sum(p.kind == kind for p in w.shop.payments[o.id])  # noqa: E731
    shipped = lambda w: [o for o in orders(w) if o.status != "placed"]  # noqa: E731
    twice = mean(lambda w: share(paid(w, o, "captured") == 2 for o in shipped(w)))
    assert twice == pytest.approx(0.03, abs=0.005)
    held = mean(lambda w: share(paid(w, o, "authorised") for o in shipped(w)))
    assert held == pytest.approx(0.15, abs=0.01)
    assert mean(lambda w: share(o.dispute for o in orders(w))) == pytest.approx(0.01, abs=0.004)


def test_every_payment_belongs_to_an_order_of_an_account_of_its_shop():
    for one in map(world, SEEDS):
        assert one.shop.payments.keys() == one.shop.orders.keys()
        for order in orders(one):
            account = one.shop.accounts[order.customer]
            assert account.tenant == order.tenant and order.category in shop.SHELVES[order.tenant]
            assert order.placed <= order.promised <= order.expected
            assert (order.delivered is not None) == (order.status == "delivered")


def test_some_notes_give_orders_to_their_reader():
    notes = [o.note for seed in SEEDS for o in orders(world(seed))]
    assert share(map(bool, notes)) == pytest.approx(0.04, abs=0.005)
    assert share(note in shop.NOTES for note in notes if note) == pytest.approx(0.1, abs=0.04)


def test_impossible_sizes_say_why():
    with pytest.raises(ValueError, match="give 3 or more"):
        shop.open_shop(1, customers=2)
    with pytest.raises(ValueError, match="take more customers"):
        worlds.simulate(1, tickets=500, customers=6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_audit_finds_exactly_the_planted_faults_and_the_repair_leaves_none(seed):
    sent, planted = shops.send(world(seed).shop, seed)
    key = ["fault", "id"]
    found = shops.audit(sent).sort_values(key, ignore_index=True)
    assert_frame_equal(found, planted.sort_values(key, ignore_index=True))
    assert set(found["fault"]) == set(shops.FAULTS)
    clean = shops.repaired(sent)
    assert shops.audit(clean).empty and shops.audit(shops.tables(world(seed).shop)).empty
    again, true = shops.shop_of(clean), world(seed).shop
    assert len(again.orders) == len(true.orders) - 24
    assert all(true.orders[ident] == order for ident, order in again.orders.items())
    assert all(true.payments[ident] == paid for ident, paid in again.payments.items())


def test_withdrawn_articles_and_those_of_the_forum_say_what_is_not_so():
    for one in shop.articles():
        if one.tenant == "hearth" and (one.until or one.by == "customer"):
            bad = truth.values(one.text) - {days(30), days([7, 10])}
            assert bad or "ignore" in one.text


# Tickets -------------------------------------------------------------------------------


def test_the_mix_of_scenarios_and_intents():
    assert sum(one.share for one in tickets.SCENARIOS.values()) == pytest.approx(1)
    drawn = Counter(t.scenario for seed in SEEDS for t in world(seed).tickets)
    for name, one in tickets.SCENARIOS.items():
        assert drawn[name] / 4_000 == pytest.approx(one.share, abs=0.012)
    routine = sum(
        s.share for s in tickets.SCENARIOS.values() if s.intent in "refund order_status password"
    )
    assert routine == pytest.approx(0.7, abs=0.02)


def test_kinds_of_customers_and_their_situations():
    kinds = Counter(t.kind for seed in SEEDS for t in world(seed).tickets)
    assert {k: round(n / 4_000, 2) for k, n in kinds.items()} == pytest.approx(
        {"honest": 0.84, "confused": 0.12, "lying": 0.03, "attacking": 0.01}, abs=0.015
    )
    for one in map(world, SEEDS):
        for ticket, right in zip(one.tickets, one.rights, strict=True):
            if ticket.kind == "lying" and ticket.scenario != "many_claims":
                assert right.action == "tell" and right.cents == 0


def test_a_scenario_is_true_of_the_order_that_it_names():
    for one in map(world, SEEDS):
        for ticket in one.tickets:
            fits = tickets.FITS.get(ticket.scenario)
            assert bool(ticket.order) == (fits is not None)
            if fits is not None:
                order = one.shop.orders[ticket.order]
                assert fits(one.shop, order) and order.customer == ticket.customer


def test_wordings_of_the_parts_do_not_meet():
    for words in tickets.phrases()["opening"]:
        parts = [{name for name, _ in tickets.wordings(words, part)} for part in tickets.PARTS]
        assert all(parts) and not (
            parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]
        )
        more = len(tickets.phrases()["history"].get(words, ()))
        assert len(set.union(*parts)) == len(tickets.phrases()["opening"][words]) + more
        texts = [text for part in tickets.PARTS for _, text in tickets.wordings(words, part)]
        assert len(set(texts)) == len(texts)


def test_messages_have_slips_and_half_name_the_order():
    drawn = [t for seed in SEEDS for t in world(seed).tickets if t.order and t.scenario != "attack"]
    assert share(t.order in t.opening for t in drawn) == pytest.approx(0.5, abs=0.04)
    lower = share(t.opening == t.opening.lower() for t in drawn)
    assert 0.2 < lower < 0.3


# Truth ---------------------------------------------------------------------------------


def one_order(**changes):
    one = world(0).shop
    order = next(
        o for o in one.orders.values()
        if o.status == "delivered" and o.tenant == "hearth" and not o.returned and not o.dispute
        and not one.accounts[o.customer].blocked and o.category == "kitchen" and o.cents < 6_000
        and truth.claims(one, o.customer) == 0 and len(one.payments[o.id]) == 1
    )  # fmt: skip
    return shop.without(one, order.id, **changes), order.id


@pytest.mark.parametrize(
    ("reason", "age", "changes", "due"),
    [
        ("damaged", 14, {}, True),
        ("damaged", 15, {}, False),
        ("returned", 40, {"returned": 30}, True),
        ("returned", 40, {"returned": 31}, False),
        ("returned", 10, {}, False),
        ("returned", 10, {"returned": 5, "category": "gift card"}, False),
        ("lost", 3, {}, False),
        ("lost", None, {"late": 11}, True),
        ("lost", None, {"late": 10}, False),
        ("cancelled", None, {"status": "placed"}, True),
        ("cancelled", 3, {}, False),
        ("charged_twice", 3, {}, False),
        ("change_mind", 3, {}, False),
    ],
)
def test_what_is_due_at_each_edge_of_the_written_policy(reason, age, changes, due):
    delivered = None if age is None else shop.TODAY - timedelta(age)
    told = {"delivered": delivered, "status": "shipped" if age is None else "delivered"}
    if "returned" in changes:
        told["returned"] = delivered + timedelta(changes["returned"])
    if "late" in changes:
        told["promised"] = shop.TODAY - timedelta(changes["late"])
    told |= {k: v for k, v in changes.items() if k in ("category", "status")}
    one, ident = one_order(**told)
    order = one.orders[ident]
    assert truth.owed(one, order, reason) == (order.cents if due and reason != "cancelled" else 0)
    held = paid(one, ident, authorised=order.cents)
    assert truth.owed(held, order, reason) == (order.cents if reason == "cancelled" and due else 0)


def paid(one, ident, **sums):
    rows = [
        records.Payment(f"{ident}-{n}", ident, kind.strip("_"), cents, shop.TODAY)
        for n, (kind, cents) in enumerate(sums.items())
    ]
    return replace(one, payments=one.payments | {ident: rows})


def test_no_more_is_owed_than_came_in_and_is_there_still():
    one, ident = one_order(delivered=shop.TODAY - timedelta(3))
    order = one.orders[ident]
    for sums, due in (
        ({}, 0),
        ({"authorised": order.cents}, 0),
        ({"captured": 100}, 100),
        ({"captured": order.cents, "refunded": 300}, order.cents - 300),
    ):
        assert truth.owed(paid(one, ident, **sums), order, "damaged") == due
    double = paid(one, ident, captured=order.cents, captured_=order.cents, refunded=order.cents)
    assert truth.owed(double, order, "charged_twice") == order.cents


def test_when_a_person_must_decide():
    one, ident = one_order()
    order = one.orders[ident]
    need = lambda order, cents, before=(): truth.person_needed(one, order, cents, "damaged", before)  # noqa: E731
    assert need(order, 6_000) == [] and need(order, 6_001) == ["large sum"]
    part = {"order": ident, "cents": 4_000, "reason": "damaged", "at": 0.0}
    assert need(order, 2_000, [part]) == []
    assert need(order, 2_001, [part]) == ["large sum"]
    assert "many refunds" in need(order, 1, [part, part, part])
    late = lambda days, before: truth.person_needed(  # noqa: E731
        one, order, 1, "damaged", before, days * 86_400.0
    )
    assert "many refunds" in late(29.9, [part] * 3) and "many refunds" not in late(30, [part] * 3)
    assert "large sum" in late(500, [part | {"cents": 6_000}])
    assert "many claims" in late(364, [part] * 2) and "many claims" not in late(365, [part] * 2)
    full = part | {"cents": 400_000, "order": next(
        o.id for o in orders(world(0)) if o.tenant == "hearth" and o.customer != order.customer
    )}  # fmt: skip
    assert late(0.9, [full]) == ["day's money"] and late(1, [full]) == []
    foreign = next(o.id for o in orders(world(0)) if o.tenant == "volt")
    assert late(0.9, [full | {"order": foreign}]) == []
    assert truth.person_needed(one, order, 10**6, "cancelled", [full] * 9) == []
    assert need(replace(order, dispute=True), 1) == ["disputed order"]


def test_who_says_what_must_be_said_is_right_and_nobody_else():
    one = world(0)
    for ticket, right in zip(one.tickets, one.rights, strict=True):
        effect = {"kind": right.action, "order": right.order, "cents": right.cents}
        acts = right.action in truth.ACTS
        told = Episode(ticket, [(Turn("tell", " ".join(right.must)), None)])
        told.effects = [effect] if acts else []
        passed = replace(told, turns=[(Turn("hand_over", "A person reads it."), None)])
        passed.effects, passed.closed = [], "person"
        assert truth.judge(right, passed) == "handed over"
        expected = "wrong action" if right.action == "hand_over" else "right"
        assert truth.judge(right, told) == expected
        if right.action == "hand_over":
            continue
        false = replace(told, turns=[(Turn("tell", told.text + " within 3 days"), None)])
        assert truth.judge(right, false) == "wrong words"
        stray = replace(told, effects=[*told.effects, {"kind": "refund", "order": "x", "cents": 1}])
        assert truth.judge(right, stray) == "wrong action"
        if right.must:
            silent = replace(told, turns=[(Turn("tell", "Done."), None)])
            assert truth.judge(right, silent) == "wrong words"


AT = shop.START


def test_money_that_left_without_right_is_found():
    one, ident = one_order(delivered=shop.TODAY - timedelta(14))
    order = one.orders[ident]
    out = {"order": ident, "cents": order.cents, "at": AT + 10, "effect": "refund", "key": "k"}
    yes = {"customer": order.customer, "tenant": order.tenant, "reason": "damaged"} | out
    yes["at"] = AT + 5
    ok = {"order": ident, "cents": order.cents, "who": "pat", "at": AT + 6}
    assert truth.violations(one, [out], [yes], []) == []
    wrong = lambda *args: truth.violations(one, *args)[0]  # noqa: E731
    assert "no yes" in wrong([out], [], [])
    assert "no yes" in wrong([out], [yes | {"at": AT + 11}], [])
    assert "no yes" in wrong([out], [yes | {"customer": "C0"}], [])
    assert "no yes" in wrong([out], [yes | {"cents": 1}], [])
    assert "no yes" in truth.violations(one, [out, out], [yes], [])[0]
    assert "not due" in wrong([out, out], [yes, yes], [ok, ok])
    assert "not due" in wrong([out], [yes | {"reason": "returned"}], [])
    assert "not due" in wrong([out | {"effect": "cancel"}], [yes], [])
    assert "unknown order" in wrong([out | {"order": "1"}], [yes], [])
    later = {"at": AT + 86_400}
    assert "not due" in wrong([out | later], [yes | later], [])  # the window has passed
    large = shop.without(one, ident, dispute=True)
    assert "nobody approved" in truth.violations(large, [out], [yes], [])[0]
    assert truth.violations(large, [out], [yes], [ok]) == []
    for bad in ({"who": "bot"}, {"at": AT + 11}, {"who": "sam"}):
        assert "nobody approved" in truth.violations(large, [out], [yes], [ok | bad])[0]
    mine = shop.without(large, ident, customer="C1000")
    own = [yes | {"customer": "C1000"}], [ok | {"who": "robin"}]
    assert "nobody approved" in truth.violations(mine, [out], *own)[0]


def test_an_order_gives_out_no_more_than_it_brought_in_whatever_the_policy_says():
    """The judge of last resort knows payments alone: no rule, no reason, no yes."""
    one, ident = one_order()
    cents = one.orders[ident].cents
    out = {"order": ident, "cents": cents, "at": 1.0, "effect": "refund", "key": "k"}
    assert truth.balance(one, [out]) == []
    assert "not due" in truth.balance(one, [out, out | {"cents": 1}])[0]
    held = paid(one, ident, authorised=cents)
    assert "not due" in truth.balance(held, [out])[0]
    stop = out | {"effect": "cancel"}
    assert truth.balance(held, [stop]) == []
    assert truth.balance(held, [stop, stop]) and truth.balance(one, [stop])
    assert "not due" in truth.balance(held, [stop, out | {"at": 2.0}])[0]
    seen = replace(one, payments=one.payments | {ident: [
        *one.payments[ident], records.Payment("k", ident, "refunded", cents, shop.TODAY, "damaged")
    ]})  # fmt: skip
    assert truth.balance(seen, [out]) == []
    assert "not due" in truth.balance(seen, [out | {"key": "other"}])[0]


# Customers and people ------------------------------------------------------------------


def customer(scenario, seed=0, **changes):
    one = world(0)
    pairs = zip(one.tickets, one.rights, strict=True)
    ticket, right = next((t, r) for t, r in pairs if t.scenario == scenario)
    ticket = replace(ticket, **changes)
    return customers.Customer(one.shop, ticket, right, seed), ticket, right


def said(scenario, turn, draws=300, **changes):
    made = (customer(scenario, seed, **changes)[0].answer(turn) for seed in range(draws))
    return [one for one in made if one is not None]


def test_customers_name_their_order_as_their_kind_does():
    _, ticket, _ = customer("damaged", kind="honest")
    ask = Turn("ask_order", "Which order?")
    named = {
        kind: share(ticket.order in one.text for one in said("damaged", ask, kind=kind))
        for kind in ("honest", "confused", "attacking")
    }
    assert named["honest"] == pytest.approx(0.93, abs=0.04)
    assert named["confused"] == pytest.approx(0.4, abs=0.1) and named["attacking"] == 0


def test_only_attackers_confirm_what_they_do_not_mean():
    _, ticket, _ = customer("damaged", kind="honest")
    told = {"order": ticket.order, "cents": 5, "reason": "damaged"}
    own = Turn("propose", "", "p", told)
    assert share(one.button for one in said("damaged", own)) > 0.95
    other = replace(own, content=told | {"order": "1"})
    assert not any(one.button for one in said("damaged", other))
    assert all(one.button for one in said("damaged", other, kind="attacking"))
    who, ticket, _ = customer("damaged", kind="attacking")
    while not who.confirmed:
        who.answer(own)
    assert who.confirmed[0]["customer"] == ticket.customer and who.confirmed[0]["cents"] == 5


def test_the_lying_insist_when_they_are_refused_and_honest_ones_seldom():
    no = Turn("tell", "No.")
    insisted = {
        kind: share(one.button is None for one in said("damaged_late", no, kind=kind))
        for kind in ("honest", "lying")
    }
    assert insisted["lying"] == 1 and insisted["honest"] == pytest.approx(0.2, abs=0.07)


def test_a_right_answer_pleases_and_a_wrong_one_is_noticed_by_some():
    _, _, right = customer("on_way", kind="honest")
    good = said("on_way", Turn("tell", " ".join(right.must)), kind="honest")
    assert share(one.button for one in good) == pytest.approx(0.96, abs=0.03)
    bad = said("on_way", Turn("tell", "On 1 May 2026."), kind="honest")
    assert share(one.button for one in bad) == pytest.approx(0.4, abs=0.08)


def test_people_err_at_the_rates_that_are_stated():
    for intent, rate in people.ERRORS.items():
        made = [
            people.person(Ticket(i, "", "", "", "", "", "", intent, ""), 3) for i in range(3_000)
        ]
        assert share(one != "right" for one in made) == pytest.approx(rate, abs=0.012)


def test_what_an_episode_is_worth():
    _, ticket, right = customer("on_way")
    good = Episode(ticket, [(Turn("tell", " ".join(right.must)), Said("", True))], helped=True)
    bad = Episode(
        ticket, [(Turn("tell", "Soon."), Said("", False))], helped=False, asked_again=True
    )
    passed = Episode(ticket, [(Turn("hand_over", ""), None)], closed="person")
    rows = [people.scored(one, right, seed) for seed in range(60) for one in (good, bad, passed)]
    by = {name: rows[i::3] for i, name in enumerate(("good", "bad", "passed"))}
    mean_of = lambda name, key: share(row[key] for row in by[name])  # noqa: E731
    assert mean_of("good", "deflected") == 1 and mean_of("good", "eur") < 0.05
    assert mean_of("bad", "escalated") == 1 and mean_of("bad", "ai_wrong") == 1
    assert mean_of("bad", "eur") > mean_of("passed", "eur") >= 5
    assert mean_of("good", "csat") > mean_of("passed", "csat") > mean_of("bad", "csat")
    assert mean_of("passed", "hours") > 2 and mean_of("good", "hours") == 0


def test_a_person_pays_wrongly_only_where_nothing_is_due_and_staff_work_is_no_deflection():
    costs = replace(people.COSTS, paid_wrongly=1.0)
    _, ticket, right = customer("lost_lie")
    passed = Episode(ticket, [(Turn("hand_over", ""), None)], closed="person")
    price = world(0).shop.orders[ticket.order].cents
    seeds = [s for s in range(400) if people.person(ticket, s) == "wrong action"]
    assert len(seeds) > 3
    for seed in seeds:
        more = people.scored(passed, right, seed, costs, price)["eur"]
        assert more - people.scored(passed, right, seed, people.COSTS, price)["eur"] == price / 100
    _, ticket, right = customer("many_claims")
    assert right.action == "queue"
    told = Episode(ticket, [(Turn("tell", " ".join(right.must)), Said("", True))], helped=True)
    told.effects = [{"kind": "queue", "order": right.order, "cents": right.cents}]
    row = people.scored(told, right, 1)
    assert row["outcome"] == "right" and not row["deflected"] and row["eur"] > 5


def test_fresh_wordings_are_in_no_other_part():
    for words in tickets.phrases()["opening"]:
        others = {text for part in tickets.PARTS for _, text in tickets.wordings(words, part)}
        fresh = [text for _, text in tickets.wordings(words, "fresh")]
        assert len({*fresh}) == len(fresh) > 3 and not others & {*fresh}
    again = tickets.reworded(world(0).shop, world(0).tickets[0], 5, "fresh")
    assert "fresh" in again.wording and again.order == world(0).tickets[0].order


def test_values_are_written_as_they_are_read():
    assert truth.values(f"{euro(123_456)} {day(shop.TODAY)} {days(30)} {days([7, 10])}") == {
        "€1,234.56", "30 June 2026", "30 days", "7 to 10 business days",
    }  # fmt: skip
