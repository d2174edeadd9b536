"""The server's books: proposals, confirmations, approvals and refunds, each step under the policy.

The model can *propose*. A proposal is a row that never changes; the customer is shown it in the
server's words and confirms it with a button; then the policy decides again, in one transaction with
the row that reserves the money, so that two refunds at a time cannot pass a limit together. What a
person has to allow waits in a queue. Money leaves by :class:`casebook.serving.once.Once`, under the
number of the proposal.

States: ``proposed`` → ``declined`` | ``expired`` | ``refused`` | ``queued`` → ``refused`` |
``paying`` → ``paid``. An audit row is written before each step takes effect; if it cannot be
written, nothing happens.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

from casebook.cases.support_agent.policy import Asked, Facts, Past, Terms, Verdict, decide
from casebook.cases.support_agent.records import UNPROVED
from casebook.serving.approvals import Approvals, NotAllowed
from casebook.serving.once import Once, Unknown

MONTH = 30 * 86_400.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS refunds (id TEXT PRIMARY KEY, tenant TEXT, customer TEXT, "order" TEXT,
    cents INTEGER, reason TEXT, state TEXT, by_person INTEGER, at REAL) STRICT;
CREATE TABLE IF NOT EXISTS mails (tenant TEXT, customer TEXT, kind TEXT, at REAL) STRICT;
"""
#: States of refunds whose money is spoken for.
HELD = ("queued", "paying", "paid")


class Ledger:
    """All that may move money or send mail.

    Parameters
    ----------
    shop : Shop
        Records of the shops: ``accounts``, ``orders``, ``payments``.
    terms : mapping of str to Terms
        By shop.
    pay : callable
        The payment provider: key and request → answer.
    staff : collection of str
        Who may allow what waits.
    clock : callable
        Seconds.
    today : date
    path : str
        A file of SQLite.
    audit : callable
        Takes what happens as keywords, before it takes effect.
    """

    def __init__(
        self,
        shop: Any,
        terms: Mapping[str, Terms],
        pay: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        staff: Collection[str],
        clock: Callable[[], float],
        today: date,
        path: str = ":memory:",
        audit: Callable[..., object] = lambda **row: None,
        passed: Callable[[str], None] = lambda point: None,
    ) -> None:
        self.shop, self.terms, self.clock, self.today = shop, terms, clock, today
        self.audit, self._lock = audit, threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(SCHEMA)
        self.once = Once(self._db, pay, passed)
        self.approvals = Approvals(self._db, staff, clock)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """Keep everybody else out until what was decided is written."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    # What a model may ask for ---------------------------------------------------------------

    def propose(self, asked: Asked) -> tuple[Verdict, str]:
        """Return what may be done, and the number of a proposal unless it is ``no``."""
        with self._deciding():
            verdict = self.verdict(asked)
            self._note("propose", asked, verdict)
            if verdict.kind == "no":
                return verdict, ""
            count = self._db.execute("SELECT COUNT(*) FROM refunds").fetchone()[0]
            told = json.dumps([asked.customer, asked.order, asked.cents, asked.reason, count])
            ident = hashlib.sha256(told.encode()).hexdigest()[:12]
            row = (ident, asked.tenant, asked.customer, asked.order, asked.cents, asked.reason)
            self._db.execute(
                "INSERT INTO refunds VALUES (?, ?, ?, ?, ?, ?, 'proposed', 0, ?)",
                (*row, self.clock()),
            )
        return verdict, ident

    def reset(self, tenant: str, email: str) -> None:
        """Mail a link to the address on file of an account, if there is one, and not too often."""
        account = next(
            (a for a in self.shop.accounts.values() if (a.tenant, a.email) == (tenant, email)), None
        )
        if account is None:
            return
        with self._deciding():
            since = self.clock() - 86_400
            query = "SELECT COUNT(*) FROM mails WHERE customer = ? AND kind = 'reset' AND at > ?"
            (sent,) = self._db.execute(query, (account.id, since)).fetchone()
            if sent >= self.terms[tenant].resets_a_day:
                return
            self.audit(what="reset", tenant=tenant, customer=account.id, at=self.clock())
            row = (tenant, account.id, "reset", self.clock())
            self._db.execute("INSERT INTO mails VALUES (?, ?, ?, ?)", row)

    # What customers and people do -------------------------------------------------------------

    def confirm(self, customer: str, tenant: str, ident: str, yes: bool) -> tuple[str, str]:
        """Take a customer's yes or no to a proposal; return its state and what may be said.

        It holds for a proposal of this customer, once, and for some minutes.
        """
        with self._deciding():
            row = self.row(ident)
            if row is None or (row["customer"], row["tenant"]) != (customer, tenant):
                return "refused", "There is no such proposal."
            if row["state"] != "proposed":
                return row["state"], "This was answered before."
            asked = self._asked(row)
            if not yes:
                return self._moved(ident, "declined", asked), "Nothing was changed."
            if self.clock() - row["at"] > 60 * self.terms[tenant].confirm_minutes:
                return self._moved(ident, "expired", asked), "This proposal has expired."
            verdict = self.verdict(asked)
            state = {"no": "refused", "person": "queued", "pay": "paying"}[verdict.kind]
            self._moved(ident, state, asked, verdict)
            if state == "queued":
                seconds = 60.0 * self.terms[tenant].approval_minutes
                self.approvals.ask(ident, self.content(row), customer, seconds)
            if state == "paying":
                self.begin(ident, row)
        return self._settled(ident) if state == "paying" else state, verdict.say

    def allow(self, ident: str, who: str, yes: bool) -> str:
        """Take a person's decision about a queued refund; return its state.

        Raises
        ------
        NotAllowed
            See :meth:`casebook.serving.approvals.Approvals.decide`.
        """
        with self._deciding():
            row = self.row(ident)
            if row is None or row["state"] != "queued":
                raise NotAllowed(f"{ident}: nothing waits under this number.")
            self.approvals.decide(ident, who, yes)
            asked = self._asked(row)
            state = "paying" if yes and self._still_due(ident, asked, row) else "refused"
            self._moved(ident, state, asked, who=who)
            if state == "paying":
                self._db.execute("UPDATE refunds SET by_person = 1 WHERE id = ?", (ident,))
                self.begin(ident, row)
        return self._settled(ident) if state == "paying" else state

    def _still_due(self, ident: str, asked: Asked, row: Mapping[str, Any]) -> bool:
        """Say whether what a person allows is still due, and is what was asked for."""
        good = self.verdict(asked, but=ident).kind != "no"
        return good and self.approvals.spend(ident, self.content(row))

    def recover(self) -> list[str]:
        """Ask the provider about refunds that are on their way; return those that are paid now."""
        settled = self.once.recover()
        for ident in settled:
            self._db.execute("UPDATE refunds SET state = 'paid' WHERE id = ?", (ident,))
        return settled

    # Parts ------------------------------------------------------------------------------------

    def facts(self, asked: Asked, but: str = "") -> Facts:
        """Return what the shop knows about a refund, as of this moment."""
        shop, order = self.shop, self.shop.orders.get(asked.order)
        account = None if order is None else shop.accounts.get(order.customer)
        payments = () if order is None else tuple(shop.payments[order.id])
        own = (p for one in shop.of(asked.customer) for p in shop.payments[one.id])
        claims = sum(p.reason in UNPROVED and (self.today - p.day).days < 365 for p in own)
        return Facts(order, account, payments, claims, self.past(asked, but), self.today)

    def past(self, asked: Asked, but: str = "") -> list[Past]:
        """Return the refunds of the last 30 days whose money is spoken for."""
        marks = ", ".join("?" * len(HELD))
        rows = self._db.execute(
            f"SELECT * FROM refunds WHERE tenant = ? AND at > ? AND id <> ? AND state IN ({marks})",
            (asked.tenant, self.clock() - MONTH, but, *HELD),
        )
        return [
            Past(r["customer"], r["tenant"], r["order"], r["cents"], r["reason"], self._person(r))
            for r in rows
        ]

    @staticmethod
    def _person(row: Mapping[str, Any]) -> bool:
        return bool(row["by_person"]) or row["state"] == "queued"

    def verdict(self, asked: Asked, but: str = "") -> Verdict:
        """Return what the policy says now; ``but``: a refund that is not held against itself."""
        return decide(asked, self.facts(asked, but), self.terms[asked.tenant])

    def begin(self, ident: str, row: Mapping[str, Any]) -> None:
        """Write down that a refund will be paid, under the number of its proposal."""
        self.once.begin(ident, self.content(row))

    @staticmethod
    def content(row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is confirmed, allowed and paid."""
        return {name: row[name] for name in ("tenant", "customer", "order", "cents", "reason")}

    def row(self, ident: str) -> sqlite3.Row | None:
        """Return a refund."""
        return self._db.execute("SELECT * FROM refunds WHERE id = ?", (ident,)).fetchone()

    def rows(self, customer: str = "") -> list[dict[str, Any]]:
        """Return the refunds, of one customer or of all, the oldest first."""
        where = "WHERE customer = ?" if customer else ""
        found = self._db.execute(
            f"SELECT * FROM refunds {where} ORDER BY rowid", (customer,) if customer else ()
        )
        return [dict(row) for row in found]

    def mails(self) -> list[dict[str, Any]]:
        """Return the mails that were sent."""
        return [dict(row) for row in self._db.execute("SELECT * FROM mails ORDER BY rowid")]

    @staticmethod
    def _asked(row: Mapping[str, Any]) -> Asked:
        names = ("customer", "tenant", "order", "cents", "reason")
        return Asked(*(row[name] for name in names))

    def _moved(
        self, ident: str, state: str, asked: Asked, verdict: Verdict | None = None, who: str = ""
    ) -> str:
        """Write down a step, then take it."""
        self._note(state, asked, verdict or Verdict(""), ident, who)
        self._db.execute("UPDATE refunds SET state = ? WHERE id = ?", (state, ident))
        return state

    def _note(
        self, what: str, asked: Asked, verdict: Verdict, ident: str = "", who: str = ""
    ) -> None:
        told = {"customer": asked.customer, "tenant": asked.tenant, "order": asked.order}
        told |= {"cents": asked.cents, "reason": asked.reason, "refund": ident, "who": who}
        self.audit(what=what, at=self.clock(), rules=" ".join(verdict.rules), **told)

    def _settled(self, ident: str) -> str:
        """Ask the provider; return ``paid``, or ``paying`` where it does not answer."""
        try:
            self.once.settle(ident)
        except Unknown:
            return "paying"
        self._db.execute("UPDATE refunds SET state = 'paid' WHERE id = ?", (ident,))
        return "paid"
