"""What the parts share: the shop's records, tickets, what is said in a turn, and money as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from casebook.serving.agent import Said as Said
from casebook.serving.agent import Turn as Turn
from casebook.worlds.shops import Account as Account
from casebook.worlds.shops import Order as Order
from casebook.worlds.shops import Payment as Payment

#: Reasons for a refund, as the written policy names them.
REASONS = ("cancelled", "charged_twice", "damaged", "lost", "returned")
#: What is done about a reason: money goes back, or the order is stopped and its hold released.
CANCELS = "cancelled"
#: Reasons that rest on the customer's word alone.
UNPROVED = ("damaged", "lost")
#: What a message can be about; whatever is none of these goes to a person.
INTENTS = ("refund", "order_status", "password", "billing", "technical")


@dataclass(frozen=True, slots=True)
class Article:
    """A help article of one shop; ``until``: withdrawn since; ``by``: ``shop`` or ``customer``."""

    id: str
    tenant: str
    title: str
    text: str
    until: date | None = None
    by: str = "shop"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a system sees of a ticket is ``tenant``, ``customer``, ``email`` and ``opening``.

    Attributes
    ----------
    customer : str
        Who is signed in; empty for those who cannot sign in.
    email : str
        What a customer who is not signed in gives as the address of the account.
    kind, scenario, intent, wording : str
        The truth: who writes, in which situation, about what, and in which wording.
    order : str
        The order that is meant; empty without one.
    reason : str
        What the customer says happened; one of ``REASONS``, ``change_mind``, or empty.
    """

    id: int
    tenant: str
    customer: str
    email: str
    opening: str
    kind: str
    scenario: str
    intent: str
    wording: str
    order: str = ""
    reason: str = ""


@dataclass
class Episode:
    """A ticket that was played to its end.

    Attributes
    ----------
    turns : list of (Turn, Said or None)
        None where the customer said no more.
    closed : str
        ``ai`` or ``person``.
    helped : bool or None
        What the customer pressed at the end.
    asked_again : bool
        Whether the customer came to a person after an answer of the system.
    effects : list of dict
        What happened in other systems.
    unauthorised : list of str
        What should not have happened there.
    """

    ticket: Ticket
    turns: list[tuple[Turn, Said | None]] = field(default_factory=list)
    closed: str = "ai"
    helped: bool | None = None
    asked_again: bool = False
    effects: list[dict] = field(default_factory=list)
    unauthorised: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that was said to the customer."""
        return "\n".join(turn.text for turn, _ in self.turns)


def date_of(at: float) -> date:
    """Return the day (UTC) of a moment in seconds."""
    return datetime.fromtimestamp(at, UTC).date()


def euro(cents: int) -> str:
    """Return a sum as it is written: ``€1,234.50``."""
    return f"€{cents / 100:,.2f}"


def day(when: date) -> str:
    """Return a day as it is written: ``4 June 2026``."""
    return f"{when.day} {when:%B %Y}"


def business(count: int) -> str:
    """Return ``1 business day``, ``2 business days``."""
    return f"{count} business day{'s' if count > 1 else ''}"


def days(count: int | tuple[int, int] | list[int]) -> str:
    """Return a duration as it is written: ``30 days``, ``7 to 10 business days``."""
    if isinstance(count, int):
        return f"{count} days"
    return f"{count[0]} to {count[1]} business days"
