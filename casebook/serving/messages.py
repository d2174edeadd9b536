"""Messages of a log: their fields are checked, and what is wrong with one is said in a line.

A kind of message is a pydantic model. Times are UTC to the second, so that a store that keeps whole
seconds gives the same state however the messages are batched.

Examples
--------
>>> from pydantic import create_model
>>> at = moment(pd.Timestamp("2025-01-01"), pd.Timestamp("2026-01-01"))
>>> decode = decoder(create_model("Sold", __base__=Message, at=(at, ...)))
>>> decode('{"at": "2025-03-01T10:00:00.7"}').at
datetime.datetime(2025, 3, 1, 10, 0)
>>> decode('{"at": "2025-03-01", "shop": 7}')
Traceback (most recent call last):
...
ValueError: at: Value error, send date and time, as 2025-10-07T10:00:00; shop: Extra ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

#: Faults of a message that are told.
TOLD = 5


class Message(BaseModel):
    """A message of the log; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


def _with_time(sent: Any) -> Any:
    """Refuse a date alone, which would be read as midnight, and a bare number."""
    if not isinstance(sent, datetime) and ":" not in str(sent):
        raise ValueError("send date and time, as 2025-10-07T10:00:00")
    return sent


def moment(first: pd.Timestamp, last: pd.Timestamp) -> Any:
    """Return the type of a field that is a time of UTC within bounds; fractions are cut off."""

    def in_time(sent: datetime) -> datetime:
        if sent.tzinfo is not None:
            raise ValueError("send UTC without an offset")
        if not first <= sent <= last:
            raise ValueError(f"not between {first:%Y-%m-%d} and {last:%Y-%m-%d}")
        return sent.replace(microsecond=0)

    return Annotated[datetime, BeforeValidator(_with_time), AfterValidator(in_time)]


def decoder(*kinds: type[Message]) -> Callable[[str], Any]:
    """Return a function from a body to its message.

    Parameters
    ----------
    *kinds : type
        Several need a literal field ``kind`` each, which says what a body is.

    Returns
    -------
    callable
        It raises ``ValueError`` with each field that is wrong, and what would be right.
    """
    several = len(kinds) > 1
    union = reduce(or_, kinds)
    known = TypeAdapter(Annotated[union, Field(discriminator="kind")] if several else union)

    def decode(body: str) -> Any:
        try:
            return known.validate_json(body)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)[:TOLD]
            places = (".".join(map(str, fault["loc"][several:])) or "message" for fault in faults)
            lines = (f"{at}: {fault['msg']}" for at, fault in zip(places, faults, strict=True))
            raise ValueError("; ".join(lines)) from None

    return decode


# From tables ---------------------------------------------------------------------------


class Feed(NamedTuple):
    """A table whose rows are messages of one kind.

    Attributes
    ----------
    kind : str
    table : DataFrame
        A column for each field.
    known : str
        Column of when a row became known.
    key : str
        Column by which events stay in order.
    rank : int or ndarray
        Of rows that became known in one second, the lowest comes first.
    """

    kind: str
    table: pd.DataFrame
    known: str
    key: str
    rank: Any = 0


def bodies(kind: str, table: pd.DataFrame) -> list[str]:
    """Return the rows of a table as bodies of messages, times to the second."""
    text = table.copy()
    for name in text.select_dtypes("datetime"):
        text[name] = text[name].dt.strftime("%Y-%m-%dT%H:%M:%S")
    return [json.dumps({"kind": kind, **row}) for row in text.to_dict("records")]


def in_order(feeds: Sequence[Feed]) -> Iterator[tuple[str, str]]:
    """Return the rows of tables as events for a log, in the order in which they became known."""
    times = [feed.table[feed.known].to_numpy("datetime64[s]") for feed in feeds]
    ranks = [np.broadcast_to(feed.rank, len(feed.table)) for feed in feeds]
    sent = [body for feed in feeds for body in bodies(feed.kind, feed.table)]
    keys = [str(key) for feed in feeds for key in feed.table[feed.key]]
    for row in np.lexsort([np.concatenate(ranks), np.concatenate(times)]):
        yield keys[row], sent[row]
