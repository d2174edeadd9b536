"""The policy engine: what may be paid, by rules on the records and terms that are data.

:func:`decide` sees no text of a conversation. It takes what is asked (order, sum, reason), who is
signed in, the shop's records and what this server has paid before, and answers ``do``, ``person``
or ``no``, with the names of the rules that spoke. The strictest rule wins.

Each rule is a few lines and has a name, so that a log says which one spoke, a test can take one
out, and a reader can hold it against the sentence of the written policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from functools import partial
from typing import Any

from casebook.cases.support_agent.records import UNPROVED, Account, Order, Payment, day, days, euro
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


@dataclass(frozen=True, kw_only=True)
class Past(Asked):
    """A refund of this server that was confirmed: paid, on its way or waiting for a person."""

    by_person: bool
    today: bool = True


@dataclass(frozen=True)
class Facts:
    """What the shop knows, read by the server in the transaction of the decision.

    ``order`` and ``account`` are None if there is no such order, ``payments`` are the order's;
    ``claims`` counts refunds for damages and losses in the records of the last 365 days; ``past``
    are all customers' refunds of the last 30 days.
    """

    order: Order | None
    account: Account | None
    payments: Sequence[Payment]
    claims: int
    past: Sequence[Past]
    today: date


Rule = Callable[[Asked, Facts, Terms], bool]


def due(facts: Facts, reason: str, terms: Terms) -> int:
    """Return the cents of an order that its records support for a reason."""
    order = facts.order
    took = sum(p.cents for p in facts.payments if p.kind == "captured")
    double = [p.cents for p in facts.payments if p.reason == "charged_twice"]
    gone = sum(p.cents for p in facts.payments if p.kind == "refunded") - sum(double)
    if reason == "charged_twice":
        return max(took - order.cents - sum(double), 0)
    return max(order.cents - gone, 0) if proved(order, reason, terms, facts.today) else 0


def proved(order: Order, reason: str, terms: Terms, today: date) -> bool:
    """Say whether the records, and not the customer, support a reason."""
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


def _own(asked: Asked, facts: Facts) -> list[Past]:
    """Return what this customer was paid without a person."""
    return [p for p in facts.past if p.customer == asked.customer and not p.by_person]


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


def not_due(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The records do not support the reason."""
    return due(facts, asked.reason, terms) == 0


def too_much(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """With what was paid or promised for this order before, it is more than is due."""
    before = _sum(one for one in facts.past if one.order == asked.order)
    return asked.cents + before > due(facts, asked.reason, terms)


def blocked(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The account is one that only a person may deal with."""
    return facts.account is None or facts.account.blocked


def disputed(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The customer's bank was asked to take the money back: it could be paid twice."""
    return facts.order.dispute


def large_sum(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """All refunds of this order together are beyond what is paid without a person."""
    same = (one for one in _own(asked, facts) if one.order == asked.order)
    return _sum(same) + asked.cents > terms.alone_cents


def large_month(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """All refunds of this customer in 30 days together are beyond it."""
    return _sum(_own(asked, facts)) + asked.cents > terms.month_cents


def many_refunds(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """This customer was refunded often enough without a person in 30 days."""
    return len(_own(asked, facts)) >= terms.month_count


def many_claims(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """This customer's word was believed often enough in a year."""
    here = sum(one.reason in UNPROVED for one in _own(asked, facts))
    return asked.reason in UNPROVED and facts.claims + here >= terms.claims


def day_is_full(asked: Asked, facts: Facts, terms: Terms) -> bool:
    """The shop has paid its money of the day without a person."""
    here = (p for p in facts.past if p.tenant == asked.tenant and p.today and not p.by_person)
    return _sum(here) + asked.cents > terms.day_cents


#: By what they decide; within a kind in this order.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "no": (not_yours, no_sum, not_due, too_much),
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
    if rule != "not_due":
        most = euro(due(facts, asked.reason, terms))
        return f"No more than {most} can be refunded for this order."
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
        case "cancelled":
            within = f"returned within {days(terms.return_days)} of delivery"
            return f"The order has been shipped and cannot be cancelled; it can be {within}."
        case "charged_twice":
            return "Our books show one charge for this order."
    return "The records do not support a refund."
