"""What a message of the log may be: a scan, a parcel's master data, a hub's load report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from casebook.cases.delivery_eta.feed import FIRST, LAST, LONGEST_DEVICE, MOST_ATTEMPT, MOST_ID
from casebook.serving.messages import Feed, Message, decoder, in_order, moment

Moment = moment(FIRST, LAST)
Id = Annotated[int, Field(ge=1, le=MOST_ID, strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_DEVICE)]
Stage = Literal[
    "collected", "origin_hub", "departed", "destination_hub", "out", "attempted", "delivered"
]


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


decode = decoder(Scan, Parcel, Load)


def key_of(message: Scan | Parcel | Load) -> str:
    """Return what keeps events in order: the parcel, or the hub."""
    return message.hub if isinstance(message, Load) else str(message.parcel)


def became_known(message: Scan | Parcel | Load) -> datetime:
    """Return when a message became known."""
    if isinstance(message, Scan):
        return message.received_at
    return message.accepted_at if isinstance(message, Parcel) else message.published_at


def events_of(
    scans: pd.DataFrame, parcels: pd.DataFrame, load: pd.DataFrame
) -> Iterator[tuple[str, str]]:
    """Return a world's feed as events for a log, in the order in which they became known."""
    # At one second a delivery is known before a question is asked, as in the tables.
    last = np.where(scans["stage"] == "delivered", 2, 3)
    return in_order(
        [
            Feed("load", load, "published_at", "hub", 0),
            Feed("parcel", parcels, "accepted_at", "parcel", 1),
            Feed("scan", scans, "received_at", "parcel", last),
        ]
    )
