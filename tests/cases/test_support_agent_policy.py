"""Case 17, policy and books: the engine against the written policy, races, time-outs, the audit."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from casebook.cases.support_agent import ladder
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.policy import RULES, Asked, Past, decide
from casebook.cases.support_agent.records import REASONS, Payment
from casebook.cases.support_agent.world import truth
from casebook.cases.support_agent.world.shop import START, TODAY, open_shop, without
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
                assert found.kind == "no" and found.rules == ("too_much",)
            else:
                why = truth.person_needed(SHOP, order, cents, reason)
                assert found.kind == ("person" if why else "do"), (order, reason, why)
                assert len(found.rules) == len(why)
                assert verdict(ledger, order, cents + 1, reason).rules == ("too_much",)
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
    assert min(kinds[kind] for kind in ("no", "person", "do")) > 20


@pytest.mark.parametrize("age", [0, 0.9, 1, 29.9, 30, 364.9, 365, 900])
def test_engine_and_written_policy_agree_on_what_was_paid_before(age):
    """Of the order for ever, of the customer for a month or a year, of the shop for a day."""
    order, cents = due_order()
    facts = ladder.ledger_of(SHOP)[0].facts(asked(order, cents))
    others = [o for o in SHOP.orders.values() if o is not order]
    theirs = next(o for o in others if o.tenant == order.tenant and o.customer != order.customer)
    foreign = next(o for o in others if o.tenant != order.tenant)
    mine = next(o for o in others if o.customer == order.customer)
    day = TERMS[order.tenant].day_cents
    kinds = set()
    for paid, times in ((cents // 3, 1), (cents // 3, 2), (900, 3), (day, 1)):
        for which in (order, mine, theirs, foreign):
            told = {"order": which.id, "cents": paid, "reason": "lost", "at": 0.0}
            past = [
                Past(which.customer, which.tenant, which.id, paid, "lost", by_person=False, age=age)
            ] * times
            small = asked(order, 100)
            found = decide(small, replace(facts, past=past), TERMS[order.tenant])
            left = cents - (which is order) * paid * times
            at = age * 86_400.0
            why = truth.person_needed(SHOP, order, 100, "damaged", [told] * times, at)
            expected = "no" if left < 100 else "person" if why else "do"
            assert found.kind == expected, (paid, times, found)
            kinds.add(expected)
    assert kinds >= {"no", "do"}


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
        ({"reason": "change_mind"}, "too_much"),
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
    hold, _ = due_order("cancelled")
    whole = asked(hold, hold.cents, "cancelled")
    rich = replace(facts, order=replace(base, cents=10**6))
    rich = replace(rich, payments=[replace(facts.payments[0], cents=10**6)])
    scenes = [
        (asked(base, cents, customer="C9"), facts),
        (asked(base, 0), facts),
        (asked(base, cents + 1), facts),
        (asked(hold, hold.cents - 1, "cancelled"), ladder.ledger_of(SHOP)[0].facts(whole)),
        (asked(base, cents), replace(facts, account=replace(facts.account, blocked=True))),
        (asked(base, cents), replace(facts, order=replace(base, dispute=True))),
        (asked(base, terms.alone_cents + 1), rich),
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
    assert rows == [("propose", 0), ("doing", 0), ("done", 1)]
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
    ledger.clock = lambda: START + 10_000.0
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
    most = TERMS[account.tenant].resets_a_day
    assert [one for one, _ in ledger.mails()] == [account.id] * most
    ledger.clock = lambda: START + 90_000
    ledger.reset(account.tenant, account.email)
    assert len(ledger.mails()) == most + 1


def test_books_survive_a_restart(tmp_path):
    order, cents = due_order()
    path = str(tmp_path / "books.db")
    ledger, bank = ladder.ledger_of(SHOP, path=path, wrap=lambda call: Unreliable(call, ["after"]))
    owner, ident = proposed(ledger, order, cents)
    assert ledger.confirm(owner, ident, True)[0] == "doing"
    ledger.close()
    again = Ledger(SHOP, TERMS, bank, truth.STAFF, lambda: START + 99.0, path=path)
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


# Money ---------------------------------------------------------------------------------------


class Day:
    """A clock that stands until it is set: days after the world's."""

    days = 0.0

    def __call__(self):
        return START + self.days * 86_400.0


def book(shop=SHOP, **more):
    clock = Day()
    ledger, bank = ladder.ledger_of(shop, clock=clock, **more)
    return ledger, bank, clock


def refund(ledger, order, cents, reason="damaged"):
    found, ident = ledger.propose(f"{order.tenant}/{order.customer}", content(order, cents, reason))
    if not ident:
        return found.say
    return ledger.confirm(f"{order.tenant}/{order.customer}", ident, True)[0]


@pytest.mark.parametrize("reason", ["returned", "lost", "charged_twice"])
def test_an_order_is_paid_once_however_much_time_passes(reason):
    order, cents = due_order(reason)
    ledger, bank, clock = book()
    assert refund(ledger, order, cents, reason) == "done"
    for clock.days in (29.0, 31.0, 400.0, 4_000.0):
        assert "No more than €0.00" in refund(ledger, order, cents, reason)
    assert [one["cents"] for one in bank.done] == [cents]


def test_what_was_sent_without_an_answer_is_reserved_for_ever():
    order, cents = due_order("returned")
    ledger, bank, clock = book(wrap=lambda call: Unreliable(call, ["before"]))
    ledger.once._look = None
    assert refund(ledger, order, cents, "returned") == "doing"
    clock.days = 400.0
    assert ledger.recover() == [] and len(ledger.stuck()) == 1
    assert "No more than €0.00" in refund(ledger, order, cents, "returned") and bank.done == []


def test_a_refund_that_the_feed_brings_back_counts_once():
    order, cents = due_order("returned")
    ledger, _, clock = book()
    assert refund(ledger, order, cents - 100, "returned") == "done"
    ident = ledger.rows()[-1]["id"]
    fed = [*SHOP.payments[order.id], Payment(ident, order.id, "refunded", cents - 100, TODAY, "")]
    ledger.shop = replace(SHOP, payments=SHOP.payments | {order.id: fed})
    clock.days = 5.0
    assert "No more than €1.00" in refund(ledger, order, 101, "returned")
    assert refund(ledger, order, 100, "returned") == "done"


def test_two_debts_of_an_order_are_counted_apart_and_never_above_what_came_in():
    order, price = due_order("returned")
    second = replace(SHOP.payments[order.id][-1], id="second", kind="captured", cents=price)
    double = [*SHOP.payments[order.id], second]
    ledger, bank, _ = book(replace(SHOP, payments=SHOP.payments | {order.id: double}))
    terms = ledger.terms[order.tenant]
    ledger.terms = {order.tenant: replace(terms, alone_cents=10**6, month_cents=10**6)}
    assert refund(ledger, order, price, "charged_twice") == "done"
    assert "No more than €0.00" in refund(ledger, order, price, "charged_twice")
    assert refund(ledger, order, price, "returned") == "done"
    assert "No more than €0.00" in refund(ledger, order, 1, "returned")
    assert sum(one["cents"] for one in bank.done) == 2 * price


def test_an_order_that_is_not_charged_is_cancelled_and_pays_nothing():
    order, cents = due_order("cancelled")
    ledger, bank, _ = book()
    assert "cancelled as a whole" in refund(ledger, order, cents - 1, "cancelled")
    assert refund(ledger, order, cents, "cancelled") == "done"
    assert bank.done[0]["effect"] == "cancel" and truth.balance(SHOP, bank.done) == []
    for reason in ("cancelled", "damaged", "charged_twice"):
        refund(ledger, order, cents, reason)
    assert len(bank.done) == 1
    charged = replace(SHOP.payments[order.id][0], kind="captured")
    ledger, bank, _ = book(replace(SHOP, payments=SHOP.payments | {order.id: [charged]}))
    assert "colleague" in refund(ledger, order, cents, "cancelled") and bank.done == []


def test_cancelling_uses_no_limit_up():
    order, cents = due_order("cancelled")
    ledger, _, _ = book()
    terms = replace(ledger.terms[order.tenant], alone_cents=1, month_count=0, day_cents=0)
    ledger.terms = ledger.terms | {order.tenant: terms}
    assert refund(ledger, order, cents, "cancelled") == "done"


def test_windows_follow_the_clock():
    order, cents = due_order("damaged")
    ledger, bank, clock = book()
    clock.days = 400.0
    assert "damage can be reported" in refund(ledger, order, cents) and bank.done == []
    early = next(
        o for o in SHOP.orders.values()
        if o.status == "shipped" and SHOP.paid(o.id, "captured") and not o.dispute
        and not truth.owed(SHOP, o, "lost") and not truth.claims(SHOP, o.customer)
        and not SHOP.accounts[o.customer].blocked and o.cents <= TERMS[o.tenant].alone_cents
    )  # fmt: skip
    clock.days = 0.0
    assert "counts as lost from" in refund(ledger, early, early.cents, "lost")
    clock.days = 60.0
    assert refund(ledger, early, early.cents, "lost") == "done"


def test_a_refund_counts_from_the_yes_and_not_from_the_proposal():
    order, cents = due_order("returned")
    ledger, _, clock = book()
    owner, ident = proposed(ledger, order, cents, "returned")
    clock.days = 0.01
    ledger.confirm(owner, ident, True)
    clock.days = 1.005
    (past,) = ledger.past(asked(order, cents, "returned"))
    assert past.age == pytest.approx(0.995)


def test_what_waits_for_a_person_uses_no_limit_of_the_engine_up():
    order, cents = due_order("returned", alone=False)
    ledger, _, _ = book()
    assert refund(ledger, order, cents, "returned") == "queued"
    (past,) = ledger.past(asked(order, cents, "returned"))
    assert past.by_person
    ident = ledger.rows()[-1]["id"]
    assert ledger.allow(ident, "pat", True) == "done"
    assert ledger.past(asked(order, cents, "returned"))[0].by_person


def test_what_waits_may_be_allowed_for_days_and_not_for_minutes():
    order, cents = due_order("returned", alone=False)
    ledger, bank, clock = book()
    assert refund(ledger, order, cents, "returned") == "queued"
    clock.days = 0.9
    assert ledger.allow(ledger.rows()[-1]["id"], "pat", True) == "done" and len(bank.done) == 1


def test_a_provider_that_refuses_is_not_told_as_paid():
    order, cents = due_order("returned")
    ledger, bank, _ = book()
    bank.refuses = lambda request: "account closed"
    assert refund(ledger, order, cents, "returned") == "failed" and bank.done == []
    bank.refuses = lambda request: ""
    assert refund(ledger, order, cents, "returned") == "done"


def test_after_a_day_a_refund_is_looked_up_and_never_sent_again():
    order, cents = due_order("returned")
    ledger, bank, clock = book(wrap=lambda call: Unreliable(call, ["after"]))
    assert refund(ledger, order, cents, "returned") == "doing" and len(bank.done) == 1
    clock.days = 3.0
    assert len(ledger.recover()) == 1 and len(bank.done) == 1
    assert ledger.rows()[-1]["state"] == "done"


def test_staff_decide_for_their_shops_and_never_for_themselves():
    name, one = next((n, s) for n, s in truth.STAFF.items() if s.accounts)
    order, cents = due_order("returned", alone=False)
    own = next(c for c in one.accounts if SHOP.accounts[c].tenant in one.tenants)
    tenant = SHOP.accounts[own].tenant
    ledger, _, _ = book(without(SHOP, order.id, customer=own, tenant=tenant, category="x"))
    mine = ledger.shop.orders[order.id]
    dear = replace(ledger.terms[tenant], alone_cents=1, return_days=60)
    ledger.terms = ledger.terms | {tenant: dear}
    assert refund(ledger, mine, cents, "returned") == "queued"
    ident = ledger.rows()[-1]["id"]
    assert ledger.waiting(name) == [] and len(ledger.waiting("pat")) == 1
    with pytest.raises(NotAllowed, match="colleague"):
        ledger.allow(ident, name, True)
    stranger = next(n for n, s in truth.STAFF.items() if tenant not in s.tenants)
    with pytest.raises(NotAllowed, match="colleague"):
        ledger.allow(ident, stranger, True)
    assert ledger.allow(ident, "pat", True) == "done"
