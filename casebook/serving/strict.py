"""Strict bodies of requests: nothing is converted silently, and whoever errs learns what to send.

A body is read twice: by the standard library, which says where JSON is broken and refuses what JSON
does not know (nan, the same field twice), and by a strict Pydantic model, which refuses what does
not belong to it.

Examples
--------
>>> class Order(Strict):
...     invalid = "invalid order"
...     number: Number
>>> parse(b'{"number": 7}', Order).number
7
>>> try:
...     parse(b'{"number": "7"}', Order)
... except Problem as problem:
...     print(problem.status, problem.what, problem.do)
422 number is "7". Send number as a whole number from 0 to 9007199254740991.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from casebook.serving.tokens import without_numbers
from casebook.strict_json import unique

#: The largest integer that every JSON client keeps exactly (RFC 8259, section 6).
LARGEST = 2**53 - 1


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


@dataclass(frozen=True)
class Reply:
    """What a client gets: a status of HTTP, a body, and whether it was replied before."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


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


def stamp(moment: datetime) -> str:
    """Return a moment in UTC as text, to the millisecond."""
    return moment.isoformat(timespec="milliseconds") + "Z"


def unstamp(text: str) -> datetime:
    """Return the moment that :func:`stamp` wrote."""
    return datetime.fromisoformat(text.removesuffix("Z"))


WHOLE = f"a whole number from 0 to {LARGEST}"
_TIME = "a text with date, time and offset, as 2025-07-01T08:00:00.000Z"
Number = Annotated[int, Field(ge=0, le=LARGEST, description=WHOLE)]
Moment = Annotated[datetime, BeforeValidator(_moment), Field(description=_TIME)]


def one_of(names: Iterable[str]) -> str:
    """Return names as the description of a field."""
    return "one of " + ", ".join(names)


class Strict(BaseModel):
    """A body of which every field is checked, and no other is taken.

    Attributes
    ----------
    invalid : str
        Name of the error when a field is wrong.
    remedy : str
        What to send when the fields do not go together.
    hidden : frozenset of str
        Fields whose values are not told back.
    """

    invalid: ClassVar[str] = "invalid request"
    remedy: ClassVar[str] = ""
    hidden: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


# Reading ---------------------------------------------------------------------------------------

Model = TypeVar("Model", bound=Strict)


def parse(raw: bytes, model: type[Model]) -> Model:
    """Read the body of a request.

    Parameters
    ----------
    raw : bytes
        JSON in UTF-8.
    model : type
        A :class:`Strict`.

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
        raise Problem(422, model.invalid, " ".join(what), " ".join(dict.fromkeys(do))) from None


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


def _fault(fault: Mapping[str, Any], model: type[Strict]) -> tuple[str, str]:
    """Return what is wrong with a field and what to do, in words."""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    field = model.model_fields.get(name)
    kind, value = fault["type"], fault.get("input")
    if not name:
        return _sentence(str(fault["ctx"]["error"])), model.remedy
    if kind == "extra_forbidden":
        return f"{_shown(name)} is no field.", f"Leave it out; {one_of(model.model_fields)}."
    do = f"Send {name} as {field.description}."
    if kind == "missing":
        return f"{name} is missing.", do
    if kind == "value_error":
        return f"{name} is {_shown(value)}: {fault['ctx']['error']}.", do
    shown = "no such thing" if name in model.hidden else _shown(value)
    return f"{name} is {shown}.", do
