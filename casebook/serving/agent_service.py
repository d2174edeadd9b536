"""Everything behind an agent's routes in one folder: books, tickets, audit and budgets.

A system says who a customer is, which books it has and how a conversation begins; what it opens is
closed together, its events are written down masked, and each conversation spends the tokens of both
its customer and the customer's tenant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from casebook.serving.agent import Conversation, Parts
from casebook.serving.agent_app import Tickets, app_of
from casebook.serving.allowance import Allowance, Purses
from casebook.serving.bearer import Bearer
from casebook.serving.log import Log, Table
from casebook.serving.privacy import masked
from casebook.serving.proposals import Proposals

AUDIT = {
    "steps": Table({"what": "text", "at": "float", "owner": "text", "content": "json", "id": "text",
                    "who": "text", "rules": "text"}),
    "turns": Table({"what": "text", "ticket": "text", "state": "text", "why": "text"}),
    "events": Table({"what": "text", "more": "json"}),
}  # fmt: skip


class AgentService(ABC):
    """A service; a subclass has books, accounts and conversations.

    Parameters
    ----------
    parts : Parts
        Without a budget.
    folder : Path
        Of its files, for their owner alone.
    clock : callable
        Seconds since 1970.
    tokens, own_tokens : int
        Of a tenant and of a customer, each for a day.

    Raises
    ------
    RuntimeError
        If the audit knows effects that the books do not: they are an older copy, and would have
        them done again.
    """

    #: Seconds between two looks at what is open.
    sweep_seconds = 60.0

    def __init__(
        self,
        parts: Parts,
        folder: Path,
        clock: Callable[[], float],
        tokens: int,
        own_tokens: int,
    ) -> None:
        self.clock, self.audit = clock, Log(folder / "audit.db", AUDIT)
        step = lambda **row: self.audit.append("steps", row)  # noqa: E731
        self.books = self.open_books(path=str(folder / "books.db"), audit=step)
        gone = self.books.unknown(row["id"] for row in self.audit.find("steps", what="doing"))
        if gone:
            self.books.close(), self.audit.close()
            raise RuntimeError(f"The books do not know {', '.join(gone)}: restore a newer copy.")
        path = str(folder / "tokens.db")
        self.tenants, self.own = Allowance(path, tokens), Allowance(path, own_tokens)
        self.parts = replace(parts, log=self.note)
        self.tickets = Tickets(
            self.begun, self.books, lambda **row: self.audit.append("turns", masked(row)),
            str(folder / "tickets.db"), clock, self.may, self.consent, self.came,
        )  # fmt: skip

    @abstractmethod
    def open_books(self, **how: Any) -> Proposals:
        """Return the books; ``how`` has ``path`` and ``audit``."""

    @abstractmethod
    def tenant(self, user: str) -> str:
        """Return whose customer a user is.

        Raises
        ------
        Problem
            For those who are no customer.
        """

    @abstractmethod
    def talk(self, user: str, parts: Parts) -> Conversation:
        """Return a new conversation with a customer."""

    @abstractmethod
    def staff(self, user: str) -> str:
        """Return the name of somebody of the staff; empty for everybody else."""

    @abstractmethod
    def may(self, who: str, user: str) -> bool:
        """Say whether one of the staff may read and answer a customer's tickets."""

    @abstractmethod
    def consent(self, user: str) -> bool:
        """Say whether a customer's texts may be kept when a ticket is at its end."""

    @abstractmethod
    def came(self, proposal: str) -> tuple[str, bool] | None:
        """Return what is told of an outcome, and whether a person is needed; None without one."""

    def begun(self, user: str) -> Conversation:
        """Return a new conversation, on the budgets of customer and tenant."""
        purses = Purses({user: self.own, self.tenant(user): self.tenants}, self.clock)
        return self.talk(user, replace(self.parts, budget=purses))

    def note(self, **row: Any) -> None:
        """Write down what a conversation does; a log that is full stops no conversation."""
        with suppress(Exception):
            what = row.pop("what")
            self.audit.append("events", {"what": what, "more": masked(row)})

    def swept(self) -> AgentService:
        """Do what a stop has left open, and go on doing so by a timer; return itself."""
        self.tickets.sweep()
        self.tickets.every(self.sweep_seconds)
        return self

    def close(self) -> None:
        """Close what was opened."""
        for one in (self.tickets, self.books, self.audit, self.tenants, self.own):
            one.close()

    def app(self, bearer: Bearer) -> Any:
        """Return the routes."""
        return app_of(self.tickets, bearer, self.staff, self.close)
