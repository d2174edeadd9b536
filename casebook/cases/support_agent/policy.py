"""The policy engine: what may be paid, by rules on the records and terms that are data.

:func:`decide` sees no text of a conversation. It takes what is asked (order, sum, reason), who is
signed in, the shop's records and what this server has paid before, and answers ``do``, ``person``
or ``no``, with the names of the rules that spoke. The strictest rule wins.

Money: never more goes back for an order than came in (captured less refunded), and what this server
has paid or has on its way counts for the order for ever. Limits of a customer and of a shop have
windows. An order that was only authorised is *cancelled*: stopped, and its hold released.

Each rule is a few lines and has a name, so that a log says which one spoke, a test can take one
out, and a reader can hold it against the sentence of the written policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from functools import partial
from typing import Any

from casebook.cases.support_agent.records import (
    CANCELS,
    UNPROVED,
    Account,
    Order,
    Payment,
    day,
    days,
    euro,
)
from casebook.serving.proposals import Verdict, strictest


@dataclass(frozen=True)
class Terms:
    """The written policy of one shop; see ``world/policy.toml``."""

    return_days: int
    damage_days: int
    lost_days: int
    alone_cents: int
    month_cents: int
    month_count: int
    claims: int
    day_cents: int
    pays_in: Sequence[int]
    hold_days: int
    approval_days: int
    confirm_minutes: int
    approval_minutes: int
    resets_a_day: int
    no_return: Sequence[str]

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Terms:
        """Return the terms of a written policy; whatever is no limit (a name) is left out."""
        return cls(**{one.name: written[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class Asked:
    """A refund that is asked for, and who is signed in."""

    customer: str
    tenant: str
    order: str
    cents: int
    reason: str


#: Days in which refunds count: for a customer's month, a shop's day, a customer's claims.
MONTH, DAY, YEAR = 30.0, 1.0, 365.0


@dataclass(frozen=True, kw_only=True)
class Past(Asked):
    """What this server was asked for and a customer confirmed: done, on its way or waiting.

    ``age`` in days; ``known``: the shop's records have it already.
    """

    by_person: bool
    age: float = 0.0
    known: bool = False


@dataclass(frozen=True)
class Facts:
    """What the shop knows, read by the server in the transaction of the decision.

    ``order`` and ``account`` are None if there is no such order, ``payments`` are the order's;
    ``claims`` counts refunds for damages and losses in the records of the last 365 days; ``past``
    is of this order for ever, of this customer for a year, of this shop for a day.
    """

    order: Order | None
    account: Account | None
    payments: Sequence[Payment]
    claims: int
    past: Sequence[Past]
    today: date


Rule = Callable[[Asked, Facts, Terms], bool]


def _paid(facts: Facts, kind: str) -> int:
    return sum(p.cents for p in facts.payments if p.kind == kind)


def due(facts: Facts, reason: str, terms: Terms) -> int:
    """Return the cents of an order that its records support for a reason.

    A second charge and the order itself are two debts; what was refunded counts against its own.
    """
    order, took = facts.order, _paid(facts, "captured")
    if not proved(order, reason, terms, facts.today) and reason != "charged_twice":
        return 0
    if reason == CANCELS:
        return 0 if took else _paid(facts, "authorised")
    double = sum(p.cents for p in facts.payments if p.reason == "charged_twice")
    gone = _paid(facts, "refunded")
    owed = took - order.cents - double
    if reason != "charged_twice":
        owed = order.cents - (gone - double)
    return max(min(owed, took - gone), 0)


def left(asked: Asked, facts: Facts, terms: Terms) -> int:
    """Return what is due less what this server has paid or promised for the order."""
    mine = [p for p in facts.past if p.order == asked.order and not p.known]
    if CANCELS in {asked.reason, *(p.reason for p in mine)} and mine:
        return 0  # a stopped order is owed nothing, and one that was paid back is not stopped
    twice = asked.reason == "charged_twice"
    same = sum(p.cents for p in mine if (p.reason == "charged_twice") == twice)
    all_of_it = _paid(facts, "captured") - _paid(facts, "refunded") - sum(p.cents for p in mine)
    own = due(facts, asked.reason, terms) - same
    return max(own if asked.reason == CANCELS else min(own, all_of_it), 0)


def proved(order: Order, reason: str, terms: Terms, today: date) -> bool:
    """Say whether the records, and not the customer, support a reason for the order's price."""
    here = order.delivered
    match reason:
        case "cancelled":
            return order.status == "placed"
        case "lost":
            overdue = (today - order.promised).days
            return order.status == "shipped" and here is None and overdue > terms.lost_days
        case "damaged":
            return here is not None and (today - here).days in range(terms.damage_days + 1)
        case "returned":
            if here is None or order.returned is None or order.category in terms.no_return:
                return False
            return (order.returned - here).days <= terms.return_days
    return False


def _own(asked: Asked, facts: Facts, age: float = float("inf")) -> list[Past]:
    """Return what this customer was paid without a person, up to an age."""
    own = (p for p in facts.past if p.customer == asked.customer and not p.by_person)
    return [p for p in own if p.age < age and p.reason != CANCELS]


def _sum(past: Iterable[Past]) -> int:
    return sum(one.cents for one in past)


def not_yours(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The order is not one of whoever is signed in, in this shop."""
    order = facts.order
    if order is None or not asked.customer:
        return True
    return (order.customer, order.tenant) != (asked.customer, asked.tenant)


def no_sum(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The sum is no whole number of cents above zero."""
    return type(asked.cents) is not int or asked.cents < 1


def too_much(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """It is more than the records support, less what was paid or promised for this order."""
    return asked.cents > left(asked, facts, terms)


def part_of_it(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """An order is cancelled as a whole, or not."""
    return asked.reason == CANCELS and asked.cents != left(asked, facts, terms)


def blocked(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The account is one that only a person may deal with."""
    return facts.account is None or facts.account.blocked


def disputed(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The customer's bank was asked to take the money back: it could be paid twice."""
    return facts.order.dispute


def large_sum(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """All refunds of this order together are beyond what is paid without a person."""
    same = (one for one in _own(asked, facts) if one.order == asked.order)
    return _moves(asked) and _sum(same) + asked.cents > terms.alone_cents


def large_month(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """All refunds of this customer in 30 days together are beyond it."""
    return _moves(asked) and _sum(_own(asked, facts, MONTH)) + asked.cents > terms.month_cents


def many_refunds(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """This customer was refunded often enough without a person in 30 days."""
    return _moves(asked) and len(_own(asked, facts, MONTH)) >= terms.month_count


def many_claims(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """This customer's word was believed often enough in a year."""
    here = sum(one.reason in UNPROVED and not one.known for one in _own(asked, facts, YEAR))
    return asked.reason in UNPROVED and facts.claims + here >= terms.claims


def day_is_full(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The shop has paid its money of the day without a person."""
    here = [p for p in facts.past if p.tenant == asked.tenant and p.age < DAY and not p.by_person]
    spent = _sum(p for p in here if p.reason != CANCELS)
    return _moves(asked) and spent + asked.cents > terms.day_cents


def _moves(asked: Asked) -> bool:
    """Say whether money leaves the shop: a hold that is released is no payment."""
    return asked.reason != CANCELS


#: By what they decide; within a kind in this order.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "no": (not_yours, no_sum, too_much, part_of_it),
    "person": (
        *(blocked, disputed, large_sum, large_month, many_refunds, many_claims, day_is_full),
    ),
}


def decide(
    asked: Asked, facts: Facts, terms: Terms, rules: Mapping[str, Sequence[Rule]] = RULES
) -> Verdict:
    """Return what may be done: ``do`` (pay), ``person`` or ``no``."""
    say = partial(refusal, asked, facts, terms)
    return strictest(rules, asked, facts, terms, say=say)


def refusal(asked: Asked, facts: Facts, terms: Terms, rule: str) -> str:
    """Return what a customer is told of a refusal: the shop's numbers, and nobody else's data."""
    order = facts.order
    if rule == "not_yours" or order is None:
        return "I cannot find this order in your account."
    if due(facts, asked.reason, terms):
        rest = euro(left(asked, facts, terms))
        if asked.reason == CANCELS:
            return f"An order is cancelled as a whole; of this one {rest} is held."
        return f"No more than {rest} can be refunded for this order."
    match asked.reason:
        case "lost" if order.delivered:
            return f"The carrier scanned this parcel at your door on {day(order.delivered)}."
        case "lost":
            from_then = order.promised + timedelta(terms.lost_days + 1)
            return f"This parcel counts as lost from {day(from_then)} on; then we refund it."
        case "damaged" if order.delivered:
            return f"A damage can be reported within {days(terms.damage_days)} of delivery."
        case "returned" if order.category in terms.no_return:
            return f"Items of the kind {order.category} cannot be returned."
        case "returned" if order.returned is None:
            return "A return is refunded once our warehouse has scanned it; it has not yet."
        case "returned":
            return f"A return has to reach us within {days(terms.return_days)} of delivery."
        case "cancelled" if order.status == "placed":
            return "This order is charged already; a colleague has to stop it."
        case "cancelled":
            within = f"returned within {days(terms.return_days)} of delivery"
            return f"The order has been shipped and cannot be cancelled; it can be {within}."
        case "charged_twice":
            return "Our books show one charge for this order."
    return "The records do not support a refund."
