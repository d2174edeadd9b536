"""What a client may send to the decision service, and what it is told when it is wrong.

A transaction is read twice: by the standard library, which says where JSON is broken and refuses
what JSON does not know (nan, the same field twice), and by strict Pydantic models, which refuse
what does not belong to a payment. Nothing is converted silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from casebook.cases.card_fraud.channels import MESSAGES
from casebook.cases.card_fraud.world.constants import CATEGORIES, CHANNELS, COUNTRIES, ENTRIES
from casebook.serving.log import canonical, sha256
from casebook.serving.tokens import without_numbers
from casebook.strict_json import unique

#: The largest integer that every JSON client keeps exactly (RFC 8259, section 6).
LARGEST = 2**53 - 1
#: The outcome of a confirmation, and what the card-holder's bank may send later.
CONFIRMATIONS = ("confirmed", "denied", "abandoned")
REPORTS = (*CONFIRMATIONS, "chargeback")
#: Kinds of messages.
KINDS = tuple(MESSAGES)
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


class Problem(Exception):
    """A request that is answered with an error.

    Parameters
    ----------
    status : int
        Of HTTP.
    error : str
        A name that a program can compare.
    what, do : str
        What is wrong, and what the client should do, in words.
    """

    def __init__(self, status: int, error: str, what: str, do: str) -> None:
        super().__init__(f"{status} {error}: {what} {do}")
        self.status, self.error, self.what, self.do = status, error, what, do

    @property
    def body(self) -> dict[str, str]:
        """What the client gets: nothing that may be a card number."""
        what, do = without_numbers(self.what), without_numbers(self.do)
        return {"error": self.error, "what": what, "do": do}


# Fields ----------------------------------------------------------------------------------------


_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


def _moment(text: object) -> datetime:
    """Return a moment in UTC, without an offset and to the millisecond, as the store has it.

    Pydantic alone would also read digits, as seconds since 1970.
    """
    if not isinstance(text, str) or not _DATE_TIME.fullmatch(text):
        raise ValueError("it is no date and time")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no offset, so it may be any zone's")
    if not 2000 <= moment.year <= 2100:
        raise ValueError(f"the year {moment.year} is not between 2000 and 2100")
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _cents(amount: float) -> float:
    if round(amount, 2) != amount:
        raise ValueError("it has more than two decimals")
    return amount


_WHOLE = f"a whole number from 0 to {LARGEST}"
#: Larger than any bank, and too small for a card number.
MOST = 10**12 - 1
_FEW = f"a whole number from 0 to {MOST}"
_TIME = "a text with date, time and offset, as 2025-07-01T08:00:00.000Z"
Number = Annotated[int, Field(ge=0, le=LARGEST, description=_WHOLE)]
Few = Annotated[int, Field(ge=0, le=MOST, description=_FEW)]
Moment = Annotated[datetime, BeforeValidator(_moment), Field(description=_TIME)]


def _one_of(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Payment(_Strict):
    """A payment as a terminal asks for it; the service stamps number and arrival."""

    request: Number
    time: Moment
    customer: Few
    card: Number
    terminal: Few
    category: Annotated[Literal[CATEGORIES], Field(description=_one_of(CATEGORIES))]
    channel: Annotated[Literal[CHANNELS], Field(description=_one_of(CHANNELS))]
    entry: Annotated[Literal[ENTRIES], Field(description=_one_of(ENTRIES))]
    amount: Annotated[
        float,
        AfterValidator(_cents),
        Field(description="a number of euro with at most two decimals"),
    ]
    message: Annotated[Literal[KINDS], Field(description=_one_of(KINDS))] = "purchase"
    refund: Annotated[bool, Field(description="true or false")] = False
    country: Annotated[Literal[COUNTRIES], Field(description=_one_of(COUNTRIES))]
    device: Annotated[Number | None, Field(description=_WHOLE + ", or null")] = None
    ip: Annotated[Number | None, Field(description=_WHOLE + ", or null")] = None

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


class Stamped(Payment):
    """A payment that a gateway in front of the service has numbered and stamped."""

    transaction: Number
    received: Moment


class Report(_Strict):
    """What became of a decision: a confirmation's outcome or a chargeback."""

    request: Number
    outcome: Annotated[Literal[REPORTS], Field(description=_one_of(REPORTS))]
    at: Moment


# Reading ---------------------------------------------------------------------------------------

Model = TypeVar("Model", bound=_Strict)


def parse(raw: bytes, model: type[Model]) -> Model:
    """Read the body of a request.

    Parameters
    ----------
    raw : bytes
        JSON in UTF-8.
    model : type
        :class:`Payment`, :class:`Stamped` or :class:`Report`.

    Raises
    ------
    Problem
        400 when it is no JSON, 422 when it is not what the model asks for.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=unique,
            parse_constant=_no_constant,
            parse_int=_int,
        )
    except (ValueError, RecursionError) as error:
        what = "the body nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise _malformed(what) from None
    if not isinstance(value, dict):
        raise _malformed(f"the body is a JSON {_kind(value)}")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)[:5]
        if found[0]["type"] == "json_invalid":  # half a surrogate, which the library lets through
            raise _malformed(str(found[0]["ctx"]["error"])) from None
        faults = [_fault(fault, model) for fault in found]
        what, do = zip(*faults, strict=True)
        name = "invalid report" if model is Report else "invalid transaction"
        raise Problem(422, name, " ".join(what), " ".join(dict.fromkeys(do))) from None


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


def _malformed(what: str) -> Problem:
    return Problem(400, "malformed JSON", _sentence(what), "Send one JSON object in UTF-8.")


def _int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return {list: "array", str: "string"}.get(type(value), "number")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _fault(fault: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str]:
    """Return what is wrong with a field and what to do, in words."""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    field = model.model_fields.get(name)
    kind, value = fault["type"], fault.get("input")
    if not name:
        return _sentence(
            str(fault["ctx"]["error"])
        ), "A refund is negative, a verification 0, all else above 0."
    if kind == "extra_forbidden":
        return f"{_shown(name)} is no field.", f"Leave it out; {_one_of(model.model_fields)}."
    do = f"Send {name} as {field.description}."
    if kind == "missing":
        return f"{name} is missing.", do
    if kind == "value_error":
        return f"{name} is {_shown(value)}: {fault['ctx']['error']}.", do
    shown = "no such thing" if name == "card" else _shown(value)  # card numbers are not echoed
    return f"{name} is {shown}.", do


# Writing ---------------------------------------------------------------------------------------


def stamp(moment: datetime) -> str:
    """Return a moment in UTC as text, to the millisecond."""
    return moment.isoformat(timespec="milliseconds") + "Z"


def unstamp(text: str) -> datetime:
    """Return the moment that :func:`stamp` wrote."""
    return datetime.fromisoformat(text.removesuffix("Z"))


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
