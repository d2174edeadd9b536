"""The shipped agent over HTTP: one gate, one planner, one policy, the same as on the page.

The routes are :mod:`casebook.serving.agent_app`'s, limits and the timer
:mod:`casebook.serving.tickets`'. Here the parts are put together: books, tickets and audit in files
of their owner alone, budgets of tokens for each customer and each shop, and who may do what. The
words of a ticket that is at its end are kept only of customers whose account says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from casebook.cases.support_agent import ladder
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.agent import Support, came
from casebook.cases.support_agent.desk import Desk, Session
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.world.truth import STAFF
from casebook.serving.agent import Parts
from casebook.serving.agent_app import Tickets, app_of
from casebook.serving.allowance import Allowance, Purses
from casebook.serving.bearer import Bearer, Ring
from casebook.serving.log import Log, Table
from casebook.serving.privacy import masked
from casebook.serving.strict import Problem
from casebook.worlds.unreliable import Keyed

#: Tokens of a shop and of a customer, each for a day; seconds between two looks at what is open.
TOKENS, OWN_TOKENS, SWEEP = 200_000_000, 200_000, 60.0
AUDIT = {
    "steps": Table({"what": "text", "at": "float", "owner": "text", "content": "json", "id": "text",
                    "who": "text", "rules": "text"}),
    "turns": Table({"what": "text", "ticket": "text", "state": "text", "why": "text"}),
    "events": Table({"what": "text", "more": "json"}),
}  # fmt: skip


class Service:
    """Everything behind the routes, in a folder; users are ``user:c1007`` for customer C1007.

    Raises
    ------
    RuntimeError
        If the audit knows refunds that the books do not: they are an older copy, and would pay
        again.
    """

    def __init__(
        self,
        shop: Any,
        parts: Parts,
        folder: Path,
        pay: Callable[..., Any],
        clock: Callable[[], float] | None = None,
        tokens: int = TOKENS,
        own_tokens: int = OWN_TOKENS,
    ) -> None:
        self.shop, self.clock = shop, clock or worlds.clock()
        self.audit = Log(folder / "audit.db", AUDIT)
        self.books = Ledger(
            shop, ladder.terms(), pay, STAFF, self.clock, path=str(folder / "books.db"),
            audit=lambda **row: self.audit.append("steps", row), look=getattr(pay, "look", None),
        )  # fmt: skip
        gone = self.books.unknown(row["id"] for row in self.audit.find("steps", what="doing"))
        if gone:
            self.audit.close()
            raise RuntimeError(f"The books do not know {', '.join(gone)}: restore a newer copy.")
        path = str(folder / "tokens.db")
        self._shops, self._own = Allowance(path, tokens), Allowance(path, own_tokens)
        self.parts = replace(parts, log=self.note)
        self.tickets = Tickets(
            self.talk, self.books, lambda **row: self.audit.append("turns", masked(row)),
            str(folder / "tickets.db"), self.clock, self.may,
            lambda user: self.account(user).consent, partial(came, self.books),
        )  # fmt: skip

    def note(self, **row: Any) -> None:
        """Write down what a conversation does; a log that is full stops no conversation."""
        with suppress(Exception):
            what = row.pop("what")
            self.audit.append("events", {"what": what, "more": masked(row)})

    def account(self, user: str) -> Any:
        """Return whose account it is; a :class:`Problem` for those who have none."""
        if (found := self.shop.accounts.get(user.removeprefix("user:").upper())) is None:
            what = "There is no customer account under this sign-in."
            raise Problem(403, "no account", what, "Sign in as a customer.")
        return found

    def may(self, who: str, user: str) -> bool:
        """Say whether one of the staff may answer a customer: of their shops, not themselves."""
        account = self.account(user)
        return account.tenant in STAFF[who].tenants and account.id not in STAFF[who].accounts

    def talk(self, user: str) -> Support:
        """Return a conversation with a customer, on the budgets of both customer and shop."""
        account = self.account(user)
        purses = Purses({user: self._own, account.tenant: self._shops}, self.clock)
        session = Session(account.tenant, account.id)
        return Support(replace(self.parts, budget=purses), Desk(self.books, session))

    def close(self) -> None:
        """Close what was opened."""
        for one in (self.tickets, self.books, self.audit, self._shops, self._own):
            one.close()

    def app(self, bearer: Bearer) -> Any:
        """Return the routes."""
        return app_of(self.tickets, bearer, staff, self.close)


def staff(user: str) -> str:
    """Return the name of somebody of the staff; empty for everybody else."""
    name = user.removeprefix("user:")
    return name if name in STAFF else ""


def make_app(folder: str, key: str = "", seed: int = worlds.SEED, customers: int = 900) -> Any:
    """Return the service with a payment provider of its own; for a server in another process."""
    ring, clock = Ring("k1", bytes.fromhex(key) if key else os.urandom(32)), worlds.clock()
    shop = worlds.open_shop(seed, customers)
    parts = ladder.rungs(ladder.learned())[-1].parts()
    made = Service(shop, parts, Path(folder), Keyed(clock), clock)
    made.tickets.sweep()
    made.tickets.every(SWEEP)
    return made.app(Bearer(ring, clock))
