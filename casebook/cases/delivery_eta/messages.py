"""What a message of the log may be: a scan, a parcel's master data, a hub's load report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from casebook.cases.delivery_eta.feed import FIRST, LAST, LONGEST_DEVICE, MOST_ATTEMPT, MOST_ID


def _with_time(sent: Any) -> Any:
    """Refuse a date alone, which would be read as midnight, and a bare number."""
    if not isinstance(sent, datetime) and ":" not in str(sent):
        raise ValueError("send date and time, as 2025-10-07T10:00:00")
    return sent


def _in_time(moment: datetime) -> datetime:
    if moment.tzinfo is not None:
        raise ValueError("send UTC without an offset")
    if not FIRST <= moment <= LAST:
        raise ValueError(f"not between {FIRST:%Y-%m-%d} and {LAST:%Y-%m-%d}")
    return moment.replace(microsecond=0)  # the store keeps whole seconds, in any batch


Moment = Annotated[datetime, BeforeValidator(_with_time), AfterValidator(_in_time)]
Id = Annotated[int, Field(ge=1, le=MOST_ID, strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_DEVICE)]
Stage = Literal[
    "collected", "origin_hub", "departed", "destination_hub", "out", "attempted", "delivered"
]


class Message(BaseModel):
    """A message of the log; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


class Scan(Message):
    """A scanner has seen a parcel."""

    kind: Literal["scan"] = "scan"
    scan_id: Id
    parcel: Id
    stage: Stage
    attempt: Annotated[int, Field(ge=0, le=MOST_ATTEMPT, strict=True)] = 0
    scanned_at: Moment
    received_at: Moment
    device: Name


class Parcel(Message):
    """A parcel is announced, with its route and the carrier's window."""

    kind: Literal["parcel"] = "parcel"
    parcel: Id
    origin: Name
    destination: Name
    origin_hub: Name
    destination_hub: Name
    km: Annotated[float, Field(ge=0, le=5000, allow_inf_nan=False)]
    service: Literal["standard", "express"]
    accepted_at: Moment
    window_low: Moment
    window_high: Moment

    @model_validator(mode="after")
    def _window_ends_after_it_begins(self) -> Parcel:
        if self.window_low > self.window_high:
            raise ValueError("window_high is before window_low")
        return self


class Load(Message):
    """A hub says how long its queue lasts."""

    kind: Literal["load"] = "load"
    hub: Name
    day: Moment
    backlog_hours: Annotated[float, Field(ge=0, le=400, allow_inf_nan=False)]
    published_at: Moment


_ANY = TypeAdapter(Annotated[Scan | Parcel | Load, Field(discriminator="kind")])


def decode(body: str) -> Scan | Parcel | Load:
    """Return the message of an event's body.

    Raises
    ------
    ValueError
        With each field that is wrong, and what would be right.
    """
    from pydantic import ValidationError

    try:
        return _ANY.validate_json(body)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in fault['loc'][1:]) or 'message'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ValueError("; ".join(lines[:5])) from None


def key_of(message: Scan | Parcel | Load) -> str:
    """Return what keeps events in order: the parcel, or the hub."""
    return message.hub if isinstance(message, Load) else str(message.parcel)


def became_known(message: Scan | Parcel | Load) -> datetime:
    """Return when a message became known."""
    if isinstance(message, Scan):
        return message.received_at
    return message.accepted_at if isinstance(message, Parcel) else message.published_at


def _bodies(kind: str, table: pd.DataFrame) -> list[str]:
    """Return the rows of a table as messages."""
    text = table.copy()
    for name in text.select_dtypes("datetime"):
        text[name] = text[name].dt.strftime("%Y-%m-%dT%H:%M:%S")
    return [json.dumps({"kind": kind, **row}) for row in text.to_dict("records")]


def events_of(
    scans: pd.DataFrame, parcels: pd.DataFrame, load: pd.DataFrame
) -> Iterator[tuple[str, str]]:
    """Return a world's feed as events for a log, in the order in which they became known."""
    # At one second a delivery is known before a question is asked, as in the tables.
    last = np.where(scans["stage"] == "delivered", 2, 3)
    parts = [
        (load["published_at"], np.zeros(len(load)), _bodies("load", load), load["hub"]),
        (
            parcels["accepted_at"],
            np.ones(len(parcels)),
            _bodies("parcel", parcels),
            parcels["parcel"],
        ),
        (scans["received_at"], last, _bodies("scan", scans), scans["parcel"]),
    ]
    times = np.concatenate([part[0].to_numpy("datetime64[s]") for part in parts])
    order = np.lexsort([np.concatenate([part[1] for part in parts]), times])
    bodies = [body for part in parts for body in part[2]]
    keys = [str(key) for part in parts for key in part[3]]
    for row in order:
        yield keys[row], bodies[row]
