"""The tracking system is down: parcels asked for in three ways, and what customers hear."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.tracker import ERROR_SECONDS, Tracked, told, track
from casebook.cases.support_rag_chatbot.world import (
    STATUS_TEXTS,
    Faults,
    Status,
    TrackingAPI,
    TrackingError,
    TrackingTimeout,
    UnknownNumber,
    check_digit,
)

#: Asks the tracking system for a number at a time, in a language.
Way = Callable[[TrackingAPI, str, pd.Timestamp, str], Tracked]


#: When the parcels of the drill are asked for; the second is the outage.
PHASES = {
    "calm": ("2026-07-01 08:30", "2026-07-01 10:30"),
    "outage": ("2026-07-01 12:00", "2026-07-01 16:00"),
    "recovered": ("2026-07-01 17:00", "2026-07-01 19:00"),
}


_SCANNED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


def retry_until_answered(
    api: TrackingAPI, number: str, at: pd.Timestamp, language: str, most: int = 500
) -> Tracked:
    """Ask until there is an answer, however long the customer waits: what not to do.

    Parameters
    ----------
    api, number, at, language
        See :func:`~casebook.cases.support_rag_chatbot.conversation.track`.
    most : int
        Calls after which the drill itself gives up.
    """
    seconds = 0.0
    for calls in range(1, most + 1):
        try:
            status = api.status(number, at + pd.Timedelta(seconds=seconds), language)
        except UnknownNumber:
            return Tracked("unknown", "", seconds, calls)
        except TrackingTimeout as error:
            seconds += error.waited
        except TrackingError:
            seconds += ERROR_SECONDS
        else:
            return told(status, at, language, seconds, calls)
    return Tracked("timeout", "", seconds, most)


class LastKnown:
    """Where no answer comes, say the last known status as if it were today's: what not to do."""

    def __init__(self) -> None:
        self._seen: dict[str, Status] = {}

    def __call__(
        self, api: TrackingAPI, number: str, at: pd.Timestamp, language: str
    ) -> Tracked:  # fmt: skip
        """Ask within the budget; without an answer, repeat the one before."""
        found = track(api, number, at, language)
        if found.status is not None:
            self._seen[number] = found.status
        elif found.outcome == "timeout" and number in self._seen:
            known = self._seen[number]
            text = f"{number}: {STATUS_TEXTS[language][known.code]}."
            return Tracked("status", text, found.seconds, found.calls, known)
        return found


#: Ways to meet an outage, each made anew for a drill.
WAYS: dict[str, Callable[[], Way]] = {
    "budget, then say so": lambda: track,
    "retry until answered": lambda: retry_until_answered,
    "last known status": LastKnown,
}


def tracking_numbers(n: int, seed: int = 0) -> list[str]:
    """Draw n different tracking numbers with the right check digit."""
    serials = np.random.default_rng(seed).choice(90_000_000, n, replace=False) + 10_000_000
    return [f"EC{serial}{check_digit(str(serial))}XA" for serial in serials]


def told_fault(
    told: Tracked, truth: TrackingAPI, number: str, at: pd.Timestamp, language: str
) -> str:
    """Return what is wrong with what a customer was told about a parcel, by its true history.

    The text alone is judged, as the customer reads it.

    Parameters
    ----------
    told : Tracked
    truth : TrackingAPI
    number : str
    at : Timestamp
    language : str

    Returns
    -------
    str
        Empty if nothing is. ``invented``: no such thing has happened to the parcel, or not at the
        time that is said, or it is no status at all. ``silently old``: it has since moved on, and
        no time is given. ``dated``: it has moved on, and the time of the scan is given. ``wrong
        depot``.
    """
    said = {code for code, text in STATUS_TEXTS[language].items() if text in told.text}
    if not said:
        return "invented" if told.outcome in ("status", "old") else ""
    history = truth.true_history(number)
    past = [event for event in history if event.at <= at] or [history[0]]
    scans = _SCANNED.findall(told.text)
    meant = [
        event
        for event in past
        if event.code in said and (not scans or f"{event.at:%Y-%m-%d %H:%M}" in scans)
    ]
    if not meant:
        return "invented"
    if meant[-1].code != past[-1].code:
        return "dated" if scans else "silently old"
    depots = set(re.findall(r"depot \d\d", told.text))
    return "wrong depot" if depots - {meant[-1].depot} else ""


def tracking_drill(
    n: int = 200, ways: Mapping[str, Callable[[], Way]] = WAYS, seed: int = 0
) -> pd.DataFrame:
    """Ask for the same parcels before, in and after an outage, in several ways.

    Each way has a tracking system of its own with the same faults, so that it meets the same
    answers. Time is virtual: nothing waits.

    Parameters
    ----------
    n : int
        Parcels; each is asked for once in each of :data:`PHASES`, in one of the three languages.
    ways : mapping of str to callable
        Each makes a :data:`Way`.
    seed : int
        Of numbers, moments and languages.

    Returns
    -------
    DataFrame
        By ``phase`` and ``way``: ``asked``; ``told`` a status, ``no_answer`` (told that tracking
        does not respond, and offered a person), ``unknown``; of those told, by
        :func:`told_fault`: ``invented``, ``silently_old``, ``dated`` and ``wrong_depot``;
        ``calls`` of the tracking system; ``wait_p50``, ``wait_p95`` and ``wait_max`` in seconds.

    Raises
    ------
    ValueError
        If there is no parcel to ask for.
    """
    if n < 1:
        raise ValueError(f"{n} parcels: a drill needs one at least.")
    rng, numbers = np.random.default_rng(seed), tracking_numbers(n, seed)
    languages = rng.choice(list(STATUS_TEXTS), n)
    times = {}
    for phase, ends in PHASES.items():
        start, end = map(pd.Timestamp, ends)
        times[phase] = [(start + share * (end - start)).floor("s") for share in rng.random(n)]
    faults, noon = Faults.outage(*PHASES["outage"]), pd.Timestamp(PHASES["outage"][0])
    truth, rows = TrackingAPI(faults=Faults.none(), asked=noon), []
    for name, make in ways.items():
        api, way = TrackingAPI(faults=faults, asked=noon), make()
        for phase, moments in times.items():
            before, heard, wrong = api.calls.total(), [], Counter()
            for number, at, language in zip(numbers, moments, map(str, languages), strict=True):
                heard.append(way(api, number, at, language))
                wrong[told_fault(heard[-1], truth, number, at, language)] += 1
            row = _counted(heard, wrong) | {"calls": api.calls.total() - before}
            rows.append({"phase": phase, "way": name} | row)
    rows.sort(key=lambda row: list(PHASES).index(row["phase"]))
    return pd.DataFrame(rows)


def _counted(heard: Sequence[Tracked], wrong: Mapping[str, int]) -> dict[str, float]:
    """Count what customers heard, and how long they waited."""
    outcomes = Counter(each.outcome for each in heard)
    waits = np.array([each.seconds for each in heard])
    return {
        "asked": len(heard),
        "told": outcomes["status"] + outcomes["old"],
        "no_answer": outcomes["timeout"] + outcomes["garbled"],
        "unknown": outcomes["unknown"],
        "invented": wrong["invented"],
        "silently_old": wrong["silently old"],
        "dated": wrong["dated"],
        "wrong_depot": wrong["wrong depot"],
        **{f"wait_p{q}": float(np.percentile(waits, q)) for q in (50, 95)},
        "wait_max": float(waits.max()),
    }
