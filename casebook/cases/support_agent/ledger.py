"""The shops' books of refunds: the steps of the toolbox, and the policy on what the records say.

:class:`casebook.serving.proposals.Proposals` has the steps from a proposal to money, each in one
transaction; here is what it decides by: the records of the order, and what these books hold. A
refund comes back in the shop's feed under its own number, and then counts once.
Links for passwords are counted here too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date
from itertools import chain
from typing import Any

from casebook.cases.support_agent.policy import DAY, YEAR, Asked, Facts, Past, Terms, decide
from casebook.cases.support_agent.records import CANCELS, UNPROVED, date_of
from casebook.serving.proposals import Proposals, Verdict

SECONDS = 86_400.0
TABLES = (
    "CREATE TABLE IF NOT EXISTS mails (account TEXT, at REAL) STRICT",
    *(
        f"CREATE INDEX IF NOT EXISTS by_{name} ON proposals (json_extract(content, '$.{name}'), at)"
        for name in ("order", "customer", "tenant")
    ),
)


class Ledger(Proposals):
    """All that may move money or send mail.

    ``terms`` are by shop; ``pay`` is the payment provider (key and request → answer); ``staff`` has
    names with whom each is (``tenants``, own customer ``accounts``); the rest as of
    :class:`~casebook.serving.proposals.Proposals`. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        shop: Any,
        terms: Mapping[str, Terms],
        pay: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        staff: Collection[str],
        clock: Callable[[], float],
        **more: Any,
    ) -> None:
        super().__init__(pay, staff, clock, **more)
        self.shop, self.terms = shop, terms
        for line in TABLES:
            self._db.execute(line)

    @property
    def today(self) -> date:
        """The day of the clock."""
        return date_of(self.clock())

    def seconds(self, content: Mapping[str, Any]) -> tuple[float, float]:
        """Return how long this shop's proposals hold, and what waits for a person."""
        own = self.terms[content["tenant"]]
        return 60.0 * own.confirm_minutes, 60.0 * own.approval_minutes

    def may(self, who: str, by: str, content: Mapping[str, Any]) -> bool:
        """Say whether somebody works for this shop, and is not the customer who asks."""
        one = self.staff[who]
        return content["tenant"] in one.tenants and content["customer"] not in one.accounts

    def request(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what goes out: a refund, or the order is stopped and its hold released."""
        effect = "cancel" if row["content"]["reason"] == CANCELS else "refund"
        return {**row["content"], "effect": effect}

    def decide(self, content: Mapping[str, Any], but: str = "") -> Verdict:
        """Return what the policy says of a refund now."""
        asked = Asked(**content)
        return decide(asked, self.facts(asked, but), self.terms[asked.tenant])

    def facts(self, asked: Asked, but: str = "") -> Facts:
        """Return what the shop knows about a refund, as of this moment."""
        shop, order = self.shop, self.shop.orders.get(asked.order)
        account = None if order is None else shop.accounts.get(order.customer)
        payments = () if order is None else tuple(shop.payments[order.id])
        own = (p for one in shop.of(asked.customer) for p in shop.payments[one.id])
        claims = sum(p.reason in UNPROVED and (self.today - p.day).days < YEAR for p in own)
        return Facts(order, account, payments, claims, self.past(asked, but), self.today)

    def past(self, asked: Asked, but: str = "") -> list[Past]:
        """Return what is spoken for: of this order ever, this customer's year, the shop's day."""
        now = self.clock()
        rows = chain(
            self.held(but=but, order=asked.order),
            self.held(now - YEAR * SECONDS, but, customer=asked.customer),
            self.held(now - DAY * SECONDS, but, tenant=asked.tenant),
        )
        return [self._past(row, now) for row in {row["id"]: row for row in rows}.values()]

    def _past(self, row: Mapping[str, Any], now: float) -> Past:
        records = self.shop.payments.get(row["content"]["order"], ())
        return Past(
            **row["content"],
            by_person=bool(row["by_person"]) or row["state"] == "queued",
            age=(now - row["at"]) / SECONDS,
            known=any(one.id == row["id"] for one in records),
        )

    def reset(self, tenant: str, email: str) -> None:
        """Mail a link to the address on file of an account, if there is one, and not too often."""
        own = ((a.tenant, a.email, a.id) for a in self.shop.accounts.values())
        account = next((a for t, e, a in own if (t, e) == (tenant, email)), None)
        if account is None:
            return
        with self.deciding():
            query, now = "SELECT COUNT(*) FROM mails WHERE account = ? AND at > ?", self.clock()
            (sent,) = self._db.execute(query, (account, now - SECONDS)).fetchone()
            if sent < self.terms[tenant].resets_a_day:
                self.audit(what="reset", at=now, owner=account, content={}, id="", who="", rules="")
                self._db.execute("INSERT INTO mails VALUES (?, ?)", (account, now))

    def mails(self) -> list[tuple[str, float]]:
        """Return the accounts to whose addresses a link was mailed, and when."""
        with self.deciding():
            return self._db.execute("SELECT account, at FROM mails").fetchall()


def effects(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what was done: refunds, orders cancelled, what is queued, links that were mailed."""
    done = [
        {"kind": "queue" if one["state"] == "queued" else ledger.request(one)["effect"]}
        | one["content"]
        for one in ledger.held()
    ]
    return done + [{"kind": "reset"} for _ in ledger.mails()]
