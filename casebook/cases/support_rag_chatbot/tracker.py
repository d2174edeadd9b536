"""Where a parcel is: the tracking system asked within a budget, and only its fields repeated.

A sentence about a parcel is made of the fields of an answer, in words of our own: the tracking
system's free text reaches no customer. An answer whose fields are not what such fields can be
(another parcel's number, a code that is not known, a scan from the future, a depot with a link in
it) counts as none. Where there is no answer within the budget, the customer is told so and offered
a person; nothing is invented.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.world import (
    STATUS_TEXTS,
    BadNumber,
    Status,
    TrackingAPI,
    TrackingError,
    TrackingRateLimited,
    TrackingTimeout,
    UnknownNumber,
)
from casebook.cases.support_rag_chatbot.world.tracking import plain_number

#: What the bot says besides quotes, by language and occasion.
SAYS: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("replies.toml").read_text(encoding="utf-8")
)
#: Seconds that a customer is kept waiting for the tracking system, and those of one failed call.
TRACKING_BUDGET, ERROR_SECONDS = 6.0, 0.3
#: Calls of one question.
MOST_CALLS = 3
#: Hours after which a status is called old, by code.
OLD_AFTER = {"A1": 48, "T2": 36, "D4": 12, "T7": 72, "H3": 240, "H5": 240}
#: A scan lies at most so far ahead of the question (clocks differ), and so far behind it; a
#: delivery is planned for at most so long after it.
AHEAD, BEHIND, PLANNED = (pd.Timedelta(days=n) for n in (1, 400, 90))
_DEPOT = re.compile(r"depot \d\d")


@dataclass(frozen=True)
class Tracked:
    """What came of asking the tracking system.

    Attributes
    ----------
    outcome : {"status", "old", "timeout", "unknown", "bad_number", "garbled"}
    text : str
        For the customer; made of the answer's fields.
    seconds : float
        That the customer waited.
    calls : int
    status : Status, optional
    """

    outcome: str
    text: str
    seconds: float
    calls: int
    status: Status | None = None


def odd(status: Status, number: str, at: object) -> str:
    """Return what in an answer of the tracking system cannot be; empty if nothing is.

    Parameters
    ----------
    status : Status
    number : str
        That was asked for.
    at : Timestamp
        When.
    """
    now = pd.Timestamp(at)
    if status.number != plain_number(number):
        return "another number"
    if status.code not in STATUS_TEXTS["en"]:
        return "an unknown code"
    if status.depot and not _DEPOT.fullmatch(status.depot):
        return "no depot"
    if not isinstance(status.scanned_at, pd.Timestamp) or status.scanned_at is pd.NaT:
        return "no time of the scan"
    if not now - BEHIND <= status.scanned_at <= now + AHEAD:
        return "a scan of another time"
    planned = status.eta
    if not isinstance(planned, pd.Timestamp | type(pd.NaT)):
        return "no day of delivery"
    if planned is not pd.NaT and not status.scanned_at - AHEAD <= planned <= now + PLANNED:
        return "a delivery at another time"
    return ""


def track(
    api: TrackingAPI, number: str, at: object, language: str, budget: float = TRACKING_BUDGET
) -> Tracked:
    """Ask for a parcel, within a budget of time.

    Parameters
    ----------
    api : TrackingAPI
    number : str
    at : Timestamp
    language : str
    budget : float
        Seconds. Another call is made only where its time-out fits in; a server error costs
        little and is tried again, as is an answer that cannot be; a 429 is not.

    Returns
    -------
    Tracked
        Never an invented status: without an answer the outcome is ``timeout`` or ``garbled``.
    """
    say, seconds, calls, wait, outcome = SAYS[language], 0.0, 0, 0.0, "timeout"
    while seconds + wait <= budget and calls < MOST_CALLS:
        calls += 1
        try:
            status = api.status(number, at, language)
        except BadNumber:
            text = say["number"].format(number=number)
            return Tracked("bad_number", text, seconds, calls - 1)
        except UnknownNumber:
            return Tracked("unknown", say["unknown"].format(number=number), seconds, calls)
        except TrackingTimeout as error:
            wait, outcome = error.waited, "timeout"
            seconds += error.waited
        except TrackingRateLimited:
            break
        except TrackingError:
            seconds, outcome = seconds + ERROR_SECONDS, "timeout"
        else:
            if not odd(status, number, at):
                return told(status, at, language, seconds, calls)
            seconds, outcome = seconds + ERROR_SECONDS, "garbled"
    return Tracked(outcome, say["timeout"].format(number=number), seconds, calls)


def told(
    status: Status, at: object, language: str, seconds: float = 0.0, calls: int = 1
) -> Tracked:
    """Say what an answer of the tracking system says, in our words for its code.

    Parameters
    ----------
    status : Status
    at : Timestamp
        When it was asked for.
    language : str
    seconds : float
    calls : int
    """
    say = SAYS[language]
    hours = int((pd.Timestamp(at) - status.scanned_at) / pd.Timedelta(hours=1))
    text = say["status"].format(
        number=status.number,
        text=STATUS_TEXTS[language][status.code],
        depot=say["depot"].format(depot=status.depot) if status.depot else "",
        scanned=f"{status.scanned_at:%Y-%m-%d %H:%M}",
        eta="" if pd.isna(status.eta) else say["eta"].format(eta=f"{status.eta:%Y-%m-%d}"),
    )
    if hours > OLD_AFTER.get(status.code, np.inf):
        return Tracked("old", text + say["old"].format(hours=hours), seconds, calls, status)
    return Tracked("status", text, seconds, calls, status)
