"""Where a parcel is: the tracking system asked within a budget, and only its fields repeated.

A sentence about a parcel is made of the fields of an answer, in words of our own: the tracking
system's free text reaches no customer. An answer whose fields are not what such fields can be
(another parcel's number, a code that is not known, a scan from the future, a depot with a link in
it) counts as none, and a call that fails in any way costs its time and no more. Where there is no
answer within the budget, the customer is told so and offered a person; nothing is invented.

Seconds are virtual, as the system reports them (``waited``): no clock stops a call that hangs, so a
client of a real system needs time-outs of its own, shorter than the budget.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.world import (
    STATUS_TEXTS,
    BadNumber,
    Status,
    TrackingAPI,
    TrackingRateLimited,
    UnknownNumber,
)
from casebook.cases.support_rag_chatbot.world.tracking import WAIT, plain_number
from casebook.retrieval.chunks import as_utc, moment

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
#: A scan lies at most so far ahead of the question (a parcel can be announced in the morning and
#: asked for at night), and so far behind it; a delivery is planned for at most so long after it.
AHEAD, BEHIND, PLANNED = (pd.Timedelta(days=n) for n in (0.5, 400, 90))
DELIVERED = "Z9"
_DEPOT = re.compile(r"depot [0-9]{2}")


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


def _in_utc(time: object) -> object:
    """Return a time in UTC without a zone; anything else, and a missing time, as it is."""
    return as_utc(time) if isinstance(time, pd.Timestamp) else time


def odd(status: object, number: str, at: object) -> str:
    """Return what in an answer of the tracking system cannot be; empty if nothing is.

    Parameters
    ----------
    status : Status
        As it came; it may be anything.
    number : str
        That was asked for.
    at : Timestamp
        When; in UTC where a time has no zone, as in the answer.

    Returns
    -------
    str
    """
    if not isinstance(status, Status):
        return "no status"
    if not all(isinstance(said, str) for said in (status.number, status.code, status.depot)):
        return "a field that is no text"
    if status.number != plain_number(number):
        return "another number"
    if status.code not in STATUS_TEXTS["en"]:
        return "an unknown code"
    if status.depot and not _DEPOT.fullmatch(status.depot):
        return "no depot"
    now, scanned, planned = as_utc(at), _in_utc(status.scanned_at), _in_utc(status.eta)
    if not isinstance(scanned, pd.Timestamp):
        return "no time of the scan"
    if not now - BEHIND <= scanned <= now + AHEAD:
        return "a scan of another time"
    if not isinstance(planned, pd.Timestamp | type(pd.NaT)):
        return "no day of delivery"
    if planned is not pd.NaT and not scanned.normalize() <= planned <= now + PLANNED:
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
        Seconds. Another call is made only where its time-out fits in; any other error costs
        little and is tried again, as is an answer that cannot be; a 429 is not.

    Returns
    -------
    Tracked
        Never an invented status: without an answer the outcome is ``timeout`` or ``garbled``.

    Raises
    ------
    ValueError
        Without a time. Nothing that the tracking system does is raised.
    """
    at = moment(at)
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
        except TimeoutError as error:
            wait, outcome = getattr(error, "waited", WAIT), "timeout"
            seconds += wait
        except TrackingRateLimited:
            break
        except Exception:  # a lost connection, a reply that its client cannot read
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
    status = replace(status, scanned_at=_in_utc(status.scanned_at), eta=_in_utc(status.eta))
    hours = int((as_utc(at) - status.scanned_at) / pd.Timedelta(hours=1))
    planned = "" if pd.isna(status.eta) or status.code == DELIVERED else f"{status.eta:%Y-%m-%d}"
    text = say["status"].format(
        number=status.number,
        text=STATUS_TEXTS[language][status.code],
        depot=say["depot"].format(depot=status.depot) if status.depot else "",
        scanned=f"{status.scanned_at:%Y-%m-%d %H:%M}",
        eta=say["eta"].format(eta=planned) if planned else "",
    )
    if hours > OLD_AFTER.get(status.code, np.inf):
        return Tracked("old", text + say["old"].format(hours=hours), seconds, calls, status)
    return Tracked("status", text, seconds, calls, status)
