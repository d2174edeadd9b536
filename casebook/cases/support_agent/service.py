"""The shipped agent over HTTP: one gate, one planner, one policy, the same as on the page.

The routes are :mod:`casebook.serving.agent_app`'s. Here the parts are put together: books and audit
in files, a budget of tokens for each shop and day, texts kept only of customers who agreed to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from casebook.cases.support_agent import ladder
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.agent import Support
from casebook.cases.support_agent.desk import Desk, Session
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.world.truth import STAFF
from casebook.serving.agent import Parts
from casebook.serving.agent_app import Tickets, app_of
from casebook.serving.allowance import Allowance
from casebook.serving.bearer import Bearer, Ring
from casebook.serving.log import Log, Table
from casebook.serving.privacy import masked
from casebook.worlds.unreliable import Keyed

#: Tokens of a shop and day.
TOKENS = 200_000_000
AUDIT = {
    "steps": Table({"what": "text", "at": "float", "owner": "text", "content": "json", "id": "text",
                    "who": "text", "rules": "text"}),
    "turns": Table({"what": "text", "ticket": "text", "state": "text", "why": "text"}),
}  # fmt: skip


def tickets_of(
    shop: Any,
    parts: Parts,
    folder: Path,
    pay: Callable[..., Any],
    clock: Callable[[], float] = time.time,
    tokens: int = TOKENS,
) -> Tickets:
    """Return the conversations of all shops, with books, audit and budgets in a folder.

    Users are ``user:c1007`` for customer C1007; people of the staff are ``user:pat``.
    """
    log = Log(folder / "audit.db", AUDIT)
    step = lambda **row: log.append("steps", row)  # noqa: E731
    path = str(folder / "books.db")
    books = Ledger(shop, ladder.terms(), pay, STAFF, clock, worlds.TODAY, path=path, audit=step)
    books.recover()
    budget = Allowance(str(folder / "tokens.db"), tokens)

    def talk(user: str) -> Support:
        account = shop.accounts.get(user.removeprefix("user:").upper())
        tenant = account.tenant if account else next(iter(ladder.terms()))
        session = Session(tenant, account.id if account else "")
        spend = lambda count: budget.reserve(tenant, count, clock())  # noqa: E731
        return Support(replace(parts, spend=spend), Desk(books, session))

    made = Tickets(talk, books, lambda **row: log.append("turns", masked(row)))
    made.audit = log
    return made


def staff(user: str) -> str:
    """Return the name of somebody of the staff; empty for everybody else."""
    name = user.removeprefix("user:")
    return name if name in STAFF else ""


def make_app(folder: str, key: str = "", seed: int = worlds.SEED, customers: int = 900) -> Any:
    """Return the service with a payment provider of its own; for a server in another process."""
    ring = Ring("k1", bytes.fromhex(key) if key else os.urandom(32))
    shop = worlds.open_shop(seed, customers)
    parts = ladder.rungs(ladder.learned())[-1].parts()
    tickets = tickets_of(shop, parts, Path(folder), Keyed(time.time))
    return app_of(tickets, Bearer(ring, time.time), staff)
