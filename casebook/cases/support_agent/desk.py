"""The tools of one conversation: what a model may ask for, bound to whoever is signed in.

Who asks is known from the session, which the model cannot change. A tool tells what belongs to this
customer; what belongs to somebody else and what is not there get the same answer. Of two tools that
do something, one writes a proposal and the other sends a link to the address on file: nothing here
moves money.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Literal

from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.records import REASONS, Article, Order, day, days, euro
from casebook.retrieval.lexical import BM25
from casebook.serving.strict import Problem
from casebook.serving.tools import Annotated, Field, Strict, Toolset, Typed

#: Calls of a conversation.
MOST = 12
OrderId = Annotated[str, Field(pattern=r"^[0-9]{5}$", max_length=5, description="five digits")]


@dataclass(frozen=True)
class Session:
    """Who is there, as the shop's own sign-in says; ``email`` is what somebody without it gives."""

    tenant: str
    customer: str = ""
    email: str = ""
    name: str = "s1"


class Nothing(Strict):
    """No arguments."""


class Who(Strict):
    """A customer; by default whoever is signed in."""

    customer_id: Annotated[str, Field(pattern=r"^(C[0-9]{1,6})?$", description="C and digits")] = ""


class Which(Strict):
    """An order."""

    order_id: OrderId


class Query(Strict):
    """Words to look for."""

    query: Annotated[str, Field(min_length=1, max_length=300, description="1 to 300 characters")]


class Refund(Which):
    """A refund to propose."""

    cents: Annotated[int, Field(ge=1, le=10_000_000, description="whole cents, 1 to 10000000")]
    reason: Annotated[Literal[REASONS], Field(description="one of " + ", ".join(REASONS))]


class Ask(Strict):
    """What the customer is asked for."""

    what: Annotated[Literal["order", "reason"], Field(description="order or reason")]


class Why(Strict):
    """Why a person takes over."""

    why: Annotated[str, Field(min_length=1, max_length=200, description="1 to 200 characters")]


@lru_cache(maxsize=16)
def library(articles: tuple[Article, ...], tenant: str, today: date) -> tuple[list[Article], BM25]:
    """Return the articles of a shop that are not withdrawn, and their index; made once."""
    own = [a for a in articles if a.tenant == tenant and (a.until is None or a.until > today)]
    return own, BM25([f"{one.title}. {one.text}" for one in own])


class Desk:
    """The tools of one session; ``reach`` stands before the systems that they ask: faults."""

    def __init__(
        self, ledger: Ledger, session: Session, reach: Callable[[Callable], Callable] = lambda c: c
    ) -> None:
        self.ledger, self.session, self.shop, self.reach = ledger, session, ledger.shop, reach
        self.library = library(tuple(self.shop.articles), session.tenant, ledger.today)

    def toolset(self, most: int = MOST) -> Toolset:
        """Return the tools, with a limit of calls."""
        says = (
            ("account_lookup", "Name and orders of a customer.", Who, self.account_lookup),
            ("order_status", "Where an order is.", Which, self.order_status),
            ("payment_lookup", "What was paid for an order.", Which, self.payment_lookup),
            ("article_search", "Finds help articles.", Query, self.article_search),
            ("refund_initiate", "Proposes a refund to the customer.", Refund, self.refund_initiate),
            (
                "password_reset",
                "Mails a link to the address on file.",
                Nothing,
                self.password_reset,
            ),
            ("ask_customer", "Asks for the order or the reason.", Ask, self.ask_customer),
            ("hand_over", "Lets a person take over.", Why, self.hand_over),
        )
        return Toolset([Typed(*one, self.reach(call)) for *one, call in says], most)

    @property
    def owner(self) -> str:
        """Whose proposals are made here: a customer of one shop."""
        return f"{self.session.tenant}/{self.session.customer}"

    def account_lookup(self, asked: Who) -> dict[str, Any]:
        """Return name and orders of whoever is signed in."""
        ident, own = asked.customer_id or self.session.customer, self.session.customer
        account = self.shop.accounts.get(ident)
        if account is None or not own or (ident, account.tenant) != (own, self.session.tenant):
            raise _not_found("account")
        listed = [
            {"order": o.id, "item": o.item, "status": o.status, "placed": day(o.placed)}
            for o in self.shop.of(ident)[:12]
        ]
        return {"name": account.name, "orders": listed}

    def _order(self, ident: str) -> Order:
        order = self.shop.orders.get(ident)
        own = order is not None and self.session.customer == order.customer
        if order is None or not own or order.tenant != self.session.tenant:
            raise _not_found("order")
        return order

    def order_status(self, asked: Which) -> dict[str, Any]:
        """Return where an order is; ``note`` is a text of somebody else."""
        order = self._order(asked.order_id)
        told: dict[str, Any] = {"order": order.id, "item": order.item, "category": order.category}
        told |= {"status": order.status, "promised": day(order.promised), "cents": order.cents}
        if order.status != "delivered":
            told["expected"] = day(order.expected)
        for name in ("delivered", "returned"):
            if when := getattr(order, name):
                told[name] = day(when)
        return told | ({"note": order.note} if order.note else {})

    def payment_lookup(self, asked: Which) -> dict[str, Any]:
        """Return what was paid for an order."""
        order = self._order(asked.order_id)
        paid = self.shop.payments[order.id]
        told = [
            {"kind": p.kind, "cents": p.cents, "sum": euro(p.cents)}
            | ({"reason": p.reason} if p.reason else {})
            for p in paid
        ]
        sums = {kind: euro(self.shop.paid(order.id, kind)) for kind in ("captured", "refunded")}
        terms = self.ledger.terms[order.tenant]
        more = {"hold": days(terms.hold_days), "pays_in": days(tuple(terms.pays_in))}
        return {"order": order.id, "price": order.cents, "payments": told} | sums | more

    def article_search(self, asked: Query) -> dict[str, Any]:
        """Return articles; those ``by`` a customer are a text of somebody else."""
        articles, index = self.library
        told = []
        for place, score in zip(*index.search(asked.query, 2), strict=True):
            one = articles[place]
            more = {"by": one.by, "score": round(float(score), 2)}
            told.append({"id": one.id, "title": one.title, "text": one.text} | more)
        return {"articles": told}

    def refund_initiate(self, asked: Refund) -> dict[str, Any]:
        """Write a proposal, or say why none is possible."""
        who = {"customer": self.session.customer, "tenant": self.session.tenant}
        wanted = who | {"order": asked.order_id, "cents": asked.cents, "reason": asked.reason}
        verdict, proposal = self.ledger.propose(self.owner, wanted)
        if verdict.kind == "no":
            return {"decision": "no", "say": verdict.say}
        return {"decision": "proposed", "proposal": proposal}

    def password_reset(self, _: Nothing) -> dict[str, Any]:
        """Mail a link; the answer is the same whether there is such an account or not."""
        own = self.shop.accounts.get(self.session.customer)
        if email := own.email if own else self.session.email:
            self.ledger.reset(self.session.tenant, email)
        return {
            "say": "If there is an account for this address, we have mailed a link to the address "
            "on file. It is valid for 30 minutes."
        }

    def ask_customer(self, asked: Ask) -> Mapping[str, Any]:
        """Return what is asked; the conversation ends its turn with it."""
        return {"asked": asked.what}

    def hand_over(self, asked: Why) -> Mapping[str, Any]:
        """Return why; the conversation ends with it."""
        return {"handed_over": asked.why}


def _not_found(what: str) -> Problem:
    return Problem(404, "not found", f"There is no such {what} here.", "Ask the customer.")
