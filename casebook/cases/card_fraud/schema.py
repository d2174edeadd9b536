"""What a client may send to the decision service, and what it is told when it is wrong.

Nothing is converted silently: see :mod:`casebook.serving.strict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from casebook.cases.card_fraud.channels import MESSAGES
from casebook.features.card_payments.words import CATEGORIES, CHANNELS, COUNTRIES, ENTRIES
from casebook.serving.log import canonical, sha256
from casebook.serving.strict import WHOLE, Moment, Number, Problem, Strict, one_of, stamp

#: The outcome of a confirmation, and what the card-holder's bank may send later.
CONFIRMATIONS = ("confirmed", "denied", "abandoned")
REPORTS = (*CONFIRMATIONS, "chargeback")
#: Kinds of messages.
KINDS = tuple(MESSAGES)
#: Where a message can come from, of those that do not come from everywhere.
AT = dict.fromkeys(("3-D Secure", "authenticated", "unauthenticated"), "online")
AT["offline"] = "in person"
#: Fields that belong to an attempt, not to the payment: a retry has others.
STAMPS = ("transaction", "received")


@dataclass(frozen=True)
class Limits:
    """What is absurd.

    Attributes
    ----------
    amount : float
        Largest amount, either sign, in euro.
    body : int
        Bytes of a request.
    reading : float
        Seconds that a client may take to send it.
    lateness : timedelta
        How long after the terminal's ``time`` a transaction may arrive: terminals that were
        offline send hours later.
    ahead : timedelta
        How far the terminal's clock may be ahead: some are set to another time zone.
    disorder : timedelta
        How far a gateway's ``received`` may step back behind a later one that came first, before
        its clock is said to be wrong.
    skew : timedelta
        How far it may be from the service's own clock to be believed at once.
    jump : timedelta
        How far it may be ahead of all before, where what is replayed is older than the clock.
    """

    amount: float = 100_000.0
    body: int = 8192
    reading: float = 5.0
    lateness: timedelta = timedelta(hours=24)
    ahead: timedelta = timedelta(hours=3)
    disorder: timedelta = timedelta(minutes=1)
    skew: timedelta = timedelta(minutes=1)
    jump: timedelta = timedelta(hours=12)


# Fields ----------------------------------------------------------------------------------------


def _cents(amount: float) -> float:
    if round(amount, 2) != amount:
        raise ValueError("it has more than two decimals")
    return amount


#: Larger than any bank, and too small for a card number.
MOST = 10**12 - 1
_FEW = f"a whole number from 0 to {MOST}"
Few = Annotated[int, Field(ge=0, le=MOST, description=_FEW)]


class Payment(Strict):
    """A payment as a terminal asks for it; the service stamps number and arrival."""

    invalid = "invalid transaction"
    remedy = (
        "A refund is negative, a verification 0, all else above 0; who types or stores a card "
        "pays online, a chip and a terminal that was offline are there in person."
    )
    hidden = frozenset({"card"})

    request: Number
    time: Moment
    customer: Few
    card: Number
    terminal: Few
    category: Annotated[Literal[CATEGORIES], Field(description=one_of(CATEGORIES))]
    channel: Annotated[Literal[CHANNELS], Field(description=one_of(CHANNELS))]
    entry: Annotated[Literal[ENTRIES], Field(description=one_of(ENTRIES))]
    amount: Annotated[
        float,
        AfterValidator(_cents),
        Field(description="a number of euro with at most two decimals"),
    ]
    message: Annotated[Literal[KINDS], Field(description=one_of(KINDS))] = "purchase"
    refund: Annotated[bool, Field(description="true or false")] = False
    country: Annotated[Literal[COUNTRIES], Field(description=one_of(COUNTRIES))]
    device: Annotated[Number | None, Field(description=WHOLE + ", or null")] = None
    ip: Annotated[Number | None, Field(description=WHOLE + ", or null")] = None

    @model_validator(mode="after")
    def _sign(self) -> Payment:
        if (self.amount == 0) != (self.message == "verification"):
            raise ValueError("a verification has an amount of 0, and nothing else has")
        if self.message == "reversal" and not self.refund:
            raise ValueError("a reversal gives money back: refund is not true")
        if self.amount < 0 and not self.refund:
            raise ValueError("amount is negative and refund is not true")
        if self.amount > 0 and self.refund:
            raise ValueError("refund is true and amount is positive")
        return self

    @model_validator(mode="after")
    def _place(self) -> Payment:
        online = self.channel == "online"
        if online != (self.entry in ("typed", "stored")):
            raise ValueError(f"entry is {self.entry} and channel is {self.channel}")
        if self.message in AT and online != (AT[self.message] == "online"):
            raise ValueError(f"message is {self.message} and channel is {self.channel}")
        return self


class Stamped(Payment):
    """A payment that a gateway in front of the service has numbered and stamped."""

    transaction: Number
    received: Moment


class Report(Strict):
    """What became of a decision: a confirmation's outcome or a chargeback."""

    invalid = "invalid report"

    request: Number
    outcome: Annotated[Literal[REPORTS], Field(description=one_of(REPORTS))]
    at: Moment


# Limits ----------------------------------------------------------------------------------------


def check_amount(payment: Payment, limits: Limits) -> None:
    """Raise a :class:`Problem` when the amount is absurd."""
    if abs(payment.amount) > limits.amount:
        raise Problem(
            422,
            "invalid transaction",
            f"amount is {payment.amount:,.2f} euro, beyond the limit of {limits.amount:,.2f}.",
            "Check the unit (euro, not cents); larger payments go by bank transfer.",
        )


def check_time(time: datetime, received: datetime, limits: Limits) -> None:
    """Raise a :class:`Problem` when a terminal's clock cannot be right."""
    if time > received + limits.ahead:
        raise Problem(
            422,
            "event from the future",
            f"time is {stamp(time)}, {time - received} after its arrival at {stamp(received)}; "
            f"at most {limits.ahead} is taken for a wrong clock.",
            "Set the terminal's clock, and send the time of the purchase in UTC.",
        )
    if received - time > limits.lateness:
        raise Problem(
            422,
            "event too late",
            f"time is {stamp(time)}, {received - time} before its arrival at {stamp(received)}; "
            f"at most {limits.lateness} is accepted.",
            "Hand it in as a dispute: it is too old to be decided.",
        )


# Writing ---------------------------------------------------------------------------------------


def as_input(payment: BaseModel) -> dict[str, Any]:
    """Return what was sent as JSON-able values, times as text."""
    return {n: stamp(v) if isinstance(v, datetime) else v for n, v in payment}


def fingerprint(sent: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a payment without the stamps of its attempts.

    Spaces, the order of fields and the offset in which a time is written make no difference.
    """
    return sha256(canonical({n: v for n, v in sent.items() if n not in STAMPS}))


def payload(transaction: Mapping[str, Any], *, stamped: bool = False) -> dict[str, Any]:
    """Return a row of the world's transactions as a client sends it.

    Parameters
    ----------
    transaction : mapping
        A row as a dict; the columns that a decision adds are left out.
    stamped : bool
        With number and arrival, as a gateway sends it; without, the service stamps both.

    Returns
    -------
    dict
        JSON-able; times in UTC, ``refund`` from the sign of the amount.
    """
    from pandas import isna

    model = Stamped if stamped else Payment
    sent: dict[str, Any] = {}
    for name in model.model_fields:
        if name in ("refund", "message"):
            sent[name] = bool(transaction["amount"] < 0) if name == "refund" else KINDS[0]
            continue
        value = transaction[name]
        if isinstance(value, datetime):
            sent[name] = stamp(value)
        elif isinstance(value, str):
            sent[name] = str(value)
        elif name == "amount":
            sent[name] = float(value)
        else:
            sent[name] = None if isna(value) else int(value)
    return sent
