"""The shipped agent over HTTP: one gate, one planner, one policy, the same as on the page.

What is opened and closed is :mod:`casebook.serving.agent_service`'s, limits and the timer are
:mod:`casebook.serving.tickets`'. The words of a ticket that is at its end are kept only of
customers whose account says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from casebook.cases.support_agent import ladder
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.agent import Support, came
from casebook.cases.support_agent.desk import Desk, Session
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.world.truth import STAFF
from casebook.serving.agent import Parts
from casebook.serving.agent_service import AgentService
from casebook.serving.bearer import Bearer, Ring
from casebook.serving.strict import Problem
from casebook.worlds.unreliable import Keyed

#: Tokens of a shop and of a customer, each for a day.
TOKENS, OWN_TOKENS = 200_000_000, 200_000


class Service(AgentService):
    """The shops' agent; users are ``user:c1007`` for customer C1007, ``user:pat`` for staff."""

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
        self.shop, self.pay = shop, pay
        super().__init__(parts, folder, clock or worlds.clock(), tokens, own_tokens)

    def open_books(self, **how: Any) -> Ledger:
        look = getattr(self.pay, "look", None)
        return Ledger(self.shop, ladder.terms(), self.pay, STAFF, self.clock, look=look, **how)

    def account(self, user: str) -> Any:
        """Return whose account it is; a :class:`Problem` for those who have none."""
        if (found := self.shop.accounts.get(user.removeprefix("user:").upper())) is None:
            what = "There is no customer account under this sign-in."
            raise Problem(403, "no account", what, "Sign in as a customer.")
        return found

    def tenant(self, user: str) -> str:
        return self.account(user).tenant

    def consent(self, user: str) -> bool:
        return self.account(user).consent

    def may(self, who: str, user: str) -> bool:
        """Say whether it is a customer of their shops, and not themselves."""
        account = self.account(user)
        return account.tenant in STAFF[who].tenants and account.id not in STAFF[who].accounts

    def talk(self, user: str, parts: Parts) -> Support:
        account = self.account(user)
        return Support(parts, Desk(self.books, Session(account.tenant, account.id)))

    def staff(self, user: str) -> str:
        name = user.removeprefix("user:")
        return name if name in STAFF else ""

    def came(self, proposal: str) -> tuple[str, bool] | None:
        return came(self.books, proposal)


def make_app(folder: str, key: str = "", seed: int = worlds.SEED, customers: int = 900) -> Any:
    """Return the service with a payment provider of its own; for a server in another process."""
    ring, clock = Ring("k1", bytes.fromhex(key) if key else os.urandom(32)), worlds.clock()
    shop = worlds.open_shop(seed, customers)
    parts = ladder.rungs(ladder.learned())[-1].parts()
    made = Service(shop, parts, Path(folder), Keyed(clock), clock)
    return made.swept().app(Bearer(ring, clock))
