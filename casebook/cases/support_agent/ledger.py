"""The shops' books of refunds: the steps of the toolbox, and the policy on what the records say.

:class:`casebook.serving.proposals.Proposals` has the steps from a proposal to money, each in one
transaction; here is what it decides by: the records of the order, and all refunds of 30 days whose
money is spoken for. Links for passwords are counted here too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import Any

from casebook.cases.support_agent.policy import Asked, Facts, Past, Terms, decide
from casebook.cases.support_agent.records import UNPROVED
from casebook.serving.proposals import Proposals, Verdict

MONTH, DAY = 30 * 86_400.0, 86_400.0
MAILS = "CREATE TABLE IF NOT EXISTS mails (account TEXT, at REAL) STRICT"


class Ledger(Proposals):
    """All that may move money or send mail.

    ``terms`` are by shop, ``pay`` is the payment provider (key and refund → answer), the rest as of
    :class:`~casebook.serving.proposals.Proposals`.
    """

    def __init__(
        self,
        shop: Any,
        terms: Mapping[str, Terms],
        pay: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        staff: Collection[str],
        clock: Callable[[], float],
        today: date,
        **more: Any,
    ) -> None:
        super().__init__(pay, staff, clock, **more)
        self.shop, self.terms, self.today = shop, terms, today
        self._db.execute(MAILS)

    def seconds(self, content: Mapping[str, Any]) -> tuple[float, float]:
        """Return how long this shop's proposals hold, and what waits for a person."""
        own = self.terms[content["tenant"]]
        return 60.0 * own.confirm_minutes, 60.0 * own.approval_minutes

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
        claims = sum(p.reason in UNPROVED and (self.today - p.day).days < 365 for p in own)
        return Facts(order, account, payments, claims, self.past(but), self.today)

    def past(self, but: str = "") -> list[Past]:
        """Return the refunds of the last 30 days whose money is spoken for."""
        now = self.clock()
        return [
            Past(
                **row["content"],
                by_person=bool(row["by_person"]) or row["state"] == "queued",
                today=now - row["at"] < DAY,
            )
            for row in self.held(now - MONTH, but)
        ]

    def reset(self, tenant: str, email: str) -> None:
        """Mail a link to the address on file of an account, if there is one, and not too often."""
        own = ((a.tenant, a.email, a.id) for a in self.shop.accounts.values())
        account = next((a for t, e, a in own if (t, e) == (tenant, email)), None)
        if account is None:
            return
        with self.deciding():
            query, since = "SELECT COUNT(*) FROM mails WHERE account = ? AND at > ?", self.clock()
            (sent,) = self._db.execute(query, (account, since - DAY)).fetchone()
            if sent < self.terms[tenant].resets_a_day:
                self.audit(
                    what="reset", at=since, owner=account, content={}, id="", who="", rules=""
                )
                self._db.execute("INSERT INTO mails VALUES (?, ?)", (account, since))

    def mails(self) -> list[str]:
        """Return the accounts to whose addresses a link was mailed."""
        return [account for (account,) in self._db.execute("SELECT account FROM mails")]


#: What an effect of a refund is called in an episode, by the state of its row.
EFFECTS = {"done": "refund", "doing": "refund", "queued": "queue"}


def effects(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what was done: refunds, queued ones, links that were mailed."""
    done = [
        {"kind": EFFECTS[one["state"]], **one["content"]}
        for one in ledger.rows()
        if one["state"] in EFFECTS
    ]
    return done + [{"kind": "reset"} for _ in ledger.mails()]
