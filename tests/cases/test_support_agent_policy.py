"""Case 17, policy and books: the engine against the written policy, races, time-outs, the audit."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from casebook.cases.support_agent import ladder
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.policy import RULES, Asked, Past, decide
from casebook.cases.support_agent.records import REASONS
from casebook.cases.support_agent.world import truth
from casebook.cases.support_agent.world.shop import TODAY, open_shop, without
from casebook.serving.approvals import NotAllowed
from casebook.worlds.unreliable import Unreliable

SHOP = open_shop(3, 240)
TERMS = ladder.terms()


def due_order(reason="damaged", alone=True, shop=SHOP):
    """Return an order that is due for a reason, with or without a person."""
    for order in shop.orders.values():
        cents = truth.owed(shop, order, reason)
        if cents and bool(truth.person_needed(shop, order, cents, reason)) is not alone:
            return order, cents
    raise AssertionError(reason)


def content(which, much, why="damaged", **changes):
    told = {"customer": which.customer, "tenant": which.tenant, "order": which.id}
    return told | {"cents": much, "reason": why} | changes


def asked(which, much, why="damaged", **changes):
    return Asked(**content(which, much, why, **changes))


def verdict(ledger, *given, **changes):
    return ledger.decide(content(*given, **changes))


# The engine and the written policy ---------------------------------------------------------


def test_engine_and_written_policy_agree_on_every_order_and_reason():
    ledger, _ = ladder.ledger_of(SHOP)
    kinds = {}
    for order in SHOP.orders.values():
        for reason in REASONS:
            cents = truth.owed(SHOP, order, reason)
            found = verdict(ledger, order, cents or 100, reason)
            if not cents:
                assert found.kind == "no" and found.rules == ("not_due",)
            else:
                why = truth.person_needed(SHOP, order, cents, reason)
                assert found.kind == ("person" if why else "do"), (order, reason, why)
                assert len(found.rules) == len(why)
                assert verdict(ledger, order, cents + 1, reason).rules == ("too_much",)
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
    assert min(kinds[kind] for kind in ("no", "person", "do")) > 20


def test_engine_and_written_policy_agree_on_what_was_paid_before():
    order, cents = due_order()
    facts = ladder.ledger_of(SHOP)[0].facts(asked(order, cents))
    other = next(o for o in SHOP.orders.values() if o.tenant == order.tenant and o is not order)
    for paid, times in (
        (cents // 3, 1),
        (cents // 3, 2),
        (900, 3),
        (TERMS[order.tenant].day_cents, 1),
    ):
        for which in (order, other):
            told = {"order": which.id, "cents": paid, "reason": "lost"}
            past = [
                Past(which.customer, which.tenant, which.id, paid, "lost", by_person=False)
            ] * times
            small = asked(order, 100)
            found = decide(small, replace(facts, past=past), TERMS[order.tenant])
            left = cents - (which is order) * paid * times
            why = truth.person_needed(SHOP, order, 100, "damaged", [told] * times)
            expected = "no" if left < 100 else "person" if why else "do"
            assert found.kind == expected, (paid, times, found)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"customer": "C9"}, "not_yours"),
        ({"customer": ""}, "not_yours"),
        ({"tenant": "loom"}, "not_yours"),
        ({"order": "99999"}, "not_yours"),
        ({"cents": 0}, "no_sum"),
        ({"cents": -100}, "no_sum"),
        ({"cents": 10.0}, "no_sum"),
        ({"cents": True}, "no_sum"),
        ({"reason": "change_mind"}, "not_due"),
    ],
)
def test_what_is_refused_and_by_which_rule(changes, rule):
    hearth = {k: o for k, o in SHOP.orders.items() if o.tenant == "hearth"}
    order, cents = due_order(shop=replace(SHOP, orders=hearth))
    found = verdict(ladder.ledger_of(SHOP)[0], order, cents, **changes)
    assert (found.kind, found.rules) == ("no", (rule,))
    assert order.customer not in found.say and "C9" not in found.say


def test_each_rule_can_be_the_one_that_speaks():
    """What no rule decides alone would be dead: leave each out, and something changes."""
    spoke = set()
    base, cents = due_order()
    facts = ladder.ledger_of(SHOP)[0].facts(asked(base, cents))
    terms = TERMS[base.tenant]
    mine = Past(base.customer, base.tenant, "other", 100, "returned", by_person=False)
    scenes = [
        (asked(base, cents, customer="C9"), facts),
        (asked(base, 0), facts),
        (asked(base, cents, "lost"), facts),
        (asked(base, cents + 1), facts),
        (asked(base, cents), replace(facts, account=replace(facts.account, blocked=True))),
        (asked(base, cents), replace(facts, order=replace(base, dispute=True))),
        (asked(base, terms.alone_cents + 1), replace(facts, order=replace(base, cents=10**6))),
        (asked(base, cents), replace(facts, past=[replace(mine, cents=terms.month_cents)])),
        (asked(base, cents), replace(facts, past=[mine] * terms.month_count)),
        (asked(base, cents), replace(facts, claims=terms.claims)),
        (asked(base, cents), replace(facts, past=[replace(mine, customer="x", cents=10**7)])),
    ]
    for given, known in scenes:
        found = decide(given, known, terms)
        assert len(found.rules) == 1, found
        spoke |= set(found.rules)
    assert spoke == {rule.__name__ for rules in RULES.values() for rule in rules}


# Steps -----------------------------------------------------------------------------------


def proposed(ledger, order, cents, reason="damaged"):
    owner = f"{order.tenant}/{order.customer}"
    found, ident = ledger.propose(owner, content(order, cents, reason))
    assert ident, found
    return owner, ident


def test_a_refund_is_proposed_confirmed_and_paid_and_the_audit_has_each_step_before_it():
    order, cents = due_order()
    rows = []
    ledger, bank = ladder.ledger_of(
        SHOP, audit=lambda **row: rows.append((row["what"], len(bank.done)))
    )
    owner, ident = proposed(ledger, order, cents)
    assert bank.done == []
    assert ledger.confirm(owner, ident, True)[0] == "done"
    assert [(one["order"], one["cents"]) for one in bank.done] == [(order.id, cents)]
    assert rows == [("propose", 0), ("doing", 0)]
    assert ledger.confirm(owner, ident, True) == ("done", "This was answered before.")
    assert len(bank.done) == 1
    again, _ = ledger.propose(owner, content(order, cents))
    assert again.kind == "no"


def test_if_the_audit_cannot_be_written_nothing_happens():
    order, cents = due_order()

    def fails(**row):
        if row["what"] == "doing":
            raise OSError("disk full")

    ledger, bank = ladder.ledger_of(SHOP, audit=fails)
    owner, ident = proposed(ledger, order, cents)
    with pytest.raises(OSError, match="disk full"):
        ledger.confirm(owner, ident, True)
    assert bank.done == [] and ledger.row(ident)["state"] == "proposed" and not ledger.once.open()


def test_a_no_somebody_elses_yes_and_a_late_one_pay_nothing():
    order, cents = due_order()
    ledger, bank = ladder.ledger_of(SHOP)
    owner, ident = proposed(ledger, order, cents)
    assert ledger.confirm("hearth/C9", ident, True)[0] == "refused"
    assert ledger.confirm(owner, "nothing", True)[0] == "refused"
    assert ledger.confirm(owner, ident, False)[0] == "declined"
    assert ledger.confirm(owner, ident, True)[0] == "declined"
    owner, ident = proposed(ledger, order, cents)
    ledger.clock = lambda: 10_000.0
    assert ledger.confirm(owner, ident, True)[0] == "expired" and bank.done == []


def test_of_two_that_are_due_once_one_is_paid_also_at_the_same_time(tmp_path):
    order, cents = due_order()
    ledger, bank = ladder.ledger_of(SHOP, path=str(tmp_path / "books.db"))
    ids = [proposed(ledger, order, cents) for _ in range(8)]
    states, gate = [], threading.Barrier(8)

    def confirm(owner, ident):
        gate.wait()
        states.append(ledger.confirm(owner, ident, True)[0])

    threads = [threading.Thread(target=confirm, args=one) for one in ids]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(states) == ["done"] + ["refused"] * 7 and len(bank.done) == 1


def test_a_large_one_waits_for_a_person_of_the_staff_who_may_not_allow_what_is_not_due():
    order, cents = due_order(alone=False)
    ledger, bank = ladder.ledger_of(SHOP)
    owner, ident = proposed(ledger, order, cents)
    assert ledger.confirm(owner, ident, True)[0] == "queued" and bank.done == []
    with pytest.raises(NotAllowed):
        ledger.allow(ident, owner, True)
    with pytest.raises(NotAllowed):
        ledger.allow("nothing", "pat", True)
    assert ledger.approvals.waiting()[0]["what"]["cents"] == cents
    changed = SHOP.payments | {order.id: [*SHOP.payments[order.id], refund_of(order)]}
    ledger.shop, before = replace(SHOP, payments=changed), ledger.shop
    assert ledger.allow(ident, "pat", True) == "refused" and bank.done == []
    ledger.shop = before
    owner, ident = proposed(ledger, order, cents)
    ledger.confirm(owner, ident, True)
    assert ledger.allow(ident, "pat", True) == "done" and len(bank.done) == 1
    with pytest.raises(NotAllowed):
        ledger.allow(ident, "pat", True)
    assert ledger.row(ident)["by_person"] == 1


def refund_of(order):
    from casebook.cases.support_agent.records import Payment

    return Payment(f"{order.id}-X", order.id, "refunded", order.cents, TODAY, "damaged")


@pytest.mark.parametrize("fault", ["before", "after", "late", "twice"])
def test_whatever_the_provider_does_a_refund_is_paid_once(fault):
    order, cents = due_order()
    wraps = []
    wrap = lambda call: wraps.append(Unreliable(call, [fault, fault])) or wraps[-1]  # noqa: E731
    ledger, bank = ladder.ledger_of(SHOP, wrap=wrap)
    owner, ident = proposed(ledger, order, cents)
    state, _ = ledger.confirm(owner, ident, True)
    assert state == ("done" if fault == "twice" else "doing")
    for _ in range(3):
        ledger.recover()
    wraps[0].flush()
    assert len(bank.done) == 1 and ledger.row(ident)["state"] == "done"


def test_links_go_to_the_address_on_file_and_not_too_often():
    account = next(iter(SHOP.accounts.values()))
    ledger, _ = ladder.ledger_of(SHOP)
    ledger.reset(account.tenant, "nobody@example.com")
    ledger.reset("volt", account.email)
    assert ledger.mails() == []
    for _ in range(9):
        ledger.reset(account.tenant, account.email)
    assert ledger.mails() == [account.id] * TERMS[account.tenant].resets_a_day


def test_books_survive_a_restart(tmp_path):
    order, cents = due_order()
    path = str(tmp_path / "books.db")
    ledger, bank = ladder.ledger_of(SHOP, path=path, wrap=lambda call: Unreliable(call, ["after"]))
    owner, ident = proposed(ledger, order, cents)
    assert ledger.confirm(owner, ident, True)[0] == "doing"
    ledger.close()
    again = Ledger(SHOP, TERMS, bank, truth.STAFF, float, TODAY, path=path)
    assert again.once.open() == [ident] and again.recover() == [ident]
    assert again.row(ident)["state"] == "done" and len(bank.done) == 1


def test_no_sum_is_due_twice_for_two_reasons():
    order, cents = due_order("damaged")
    both = without(SHOP, order.id, returned=order.delivered, category="kitchen")
    ledger, bank = ladder.ledger_of(both)
    for reason in ("damaged", "returned"):
        owner = f"{order.tenant}/{order.customer}"
        _, ident = ledger.propose(owner, content(order, cents, reason))
        if ident:
            ledger.confirm(owner, ident, True)
    assert len(bank.done) == 1
