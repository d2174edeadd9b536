"""The tracking system: where a parcel is, from an interface that has faults of its own.

A number has the form of the Universal Postal Union's S10: two letters, eight digits, a check digit,
the country. Country ``XA`` is left to users by ISO 3166, so no number here is a real one.

What the interface says can be late or wrong; what is so say :meth:`TrackingAPI.true_status` and
:meth:`TrackingAPI.true_history`. A parcel's history hangs on the seed and its number, a fault on
the seed, the number and how often that number was asked for: two programs that ask the same get the
same answers, whatever else they ask.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from .content import TODAY

#: Seed of the world.
SEED = 1603
#: Weights of the eight digits (UPU standard S10).
WEIGHTS = (8, 6, 4, 2, 3, 5, 9, 7)
DEPOTS = tuple(f"depot {n:02d}" for n in range(1, 25))
#: What a status code means, for customers.
STATUS_TEXTS = {
    "en": {
        "A1": "announced by the sender",
        "T2": "in transit",
        "T7": "delayed",
        "H3": "held until the import charges are paid",
        "H5": "held by customs until papers arrive",
        "D4": "out for delivery",
        "Z9": "delivered",
    },
    "de": {
        "A1": "vom Absender angekündigt",
        "T2": "unterwegs",
        "T7": "verzögert",
        "H3": "angehalten, bis die Einfuhrabgaben bezahlt sind",
        "H5": "vom Zoll angehalten, bis Unterlagen eintreffen",
        "D4": "in Zustellung",
        "Z9": "zugestellt",
    },
    "es": {
        "A1": "anunciado por el remitente",
        "T2": "en camino",
        "T7": "con retraso",
        "H3": "retenido hasta el pago de los gastos de importación",
        "H5": "retenido en la aduana hasta recibir documentos",
        "D4": "en reparto",
        "Z9": "entregado",
    },
}
#: Shares of parcels: from abroad, delayed, with nobody at home on the first visit.
ABROAD, DELAYED, NOBODY_HOME = 0.25, 0.12, 0.12
#: Of parcels from abroad: held for charges, held for papers.
HELD_CHARGES, HELD_PAPERS = 0.25, 0.12
#: How many days after its announcement a parcel is asked for, at home and from abroad.
ASKED_AFTER = {"home": (0.1, 3.2), "abroad": (0.5, 11.0)}
#: Working days that are promised, at home and from abroad; Saturday is one.
PROMISED = {"home": 2, "abroad": 10}
#: A time-out is followed by another one with this probability: a retry helps less than it seems.
STREAK = 0.6
#: Share of calls that time out within an outage.
OUTAGE = 0.9
#: Seconds that a call waits before it gives up.
WAIT = 3.0
#: A stale answer is older by a lognormal number of hours: median and log sd.
STALE_HOURS = (9.0, 0.6)
RETRY_AFTER = 20
_NUMBER = re.compile(r"[A-Z]{2}\d{9}[A-Z]{2}")
_HOUR = pd.Timedelta(hours=1)
_DAY = pd.Timedelta(days=1)


class TrackingError(RuntimeError):
    """The tracking system gives no status."""


class BadNumber(TrackingError, ValueError):
    """Not a tracking number, or its check digit does not fit; nothing was asked."""


class UnknownNumber(TrackingError, LookupError):
    """404: there is no such parcel, and no later call will find it."""


class TrackingServerError(TrackingError):
    """500: a call failed; another one may not."""


class TrackingRateLimited(TrackingError):
    """429: too many calls; ``retry_after`` says for how many seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TrackingTimeout(TrackingError, TimeoutError):
    """No answer came. ``waited`` are the seconds that a caller would have lost; nothing slept."""

    def __init__(self, message: str, waited: float) -> None:
        super().__init__(message)
        self.waited = waited


def check_digit(serial: str) -> int:
    """Return the check digit of a serial number (UPU standard S10).

    Parameters
    ----------
    serial : str
        Eight digits.

    Returns
    -------
    int
        11 minus the weighted sum modulo 11; 0 for 10, and 5 for 11.

    Raises
    ------
    ValueError
        If there are not eight digits.
    """
    if not re.fullmatch(r"[0-9]{8}", serial):
        raise ValueError(f"A serial number has eight digits, not {serial!r}.")
    total = sum(int(d) * w for d, w in zip(serial, WEIGHTS, strict=True))
    return {10: 0, 11: 5}.get(11 - total % 11, 11 - total % 11)


def plain_number(text: str) -> str:
    """Return a number as it is printed: in capitals, without spaces, dots and hyphens."""
    return re.sub(r"[\s.\-‐‑–]", "", text).upper()


def is_tracking_number(text: str) -> bool:
    """Say whether a text is one tracking number with the right check digit, however it is spaced.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool
    """
    number = plain_number(text)
    return bool(_NUMBER.fullmatch(number)) and check_digit(number[2:10]) == int(number[10])


@dataclass(frozen=True)
class Faults:
    """How often the tracking system errs, as a share of calls (``unknown``: of numbers).

    Attributes
    ----------
    timeout, error, rate_limit : float
        No answer, 500, 429.
    stale : float
        An answer of some hours ago; ``scanned_at`` is old, ``served_at`` is now.
    wrong_depot : float
        A parcel that is with a depot is said to be with another one. One answer does not show it,
        a second one contradicts it.
    unknown : float
        Numbers that no call finds.
    outages : tuple of (Timestamp, Timestamp)
        From the first until before the second :data:`OUTAGE` of the calls time out.
    """

    timeout: float = 0.01
    error: float = 0.01
    rate_limit: float = 0.0
    stale: float = 0.03
    wrong_depot: float = 0.01
    unknown: float = 0.04
    outages: tuple[tuple[pd.Timestamp, pd.Timestamp], ...] = ()

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if name != "outages" and not 0 <= share <= 1:
                raise ValueError(f"The fault {name} is a share from 0 to 1, not {share}.")

    @classmethod
    def none(cls) -> Faults:
        """Return a system without faults."""
        return cls(timeout=0, error=0, rate_limit=0, stale=0, wrong_depot=0, unknown=0)

    @classmethod
    def outage(cls, start: object, end: object) -> Faults:
        """Return the usual faults, and an outage between two moments."""
        return replace(cls(), outages=((pd.Timestamp(start), pd.Timestamp(end)),))


@dataclass(frozen=True)
class Status:
    """What the tracking system answers.

    Attributes
    ----------
    number : str
    code : str
        A1, T2, T7, H3, H5, D4 or Z9.
    text : str
        What that means, in the language asked for.
    depot : str
        Where the parcel was scanned; empty before the first scan.
    scanned_at : Timestamp
        Of the event that is reported.
    eta : Timestamp
        Day of delivery as planned at that event; NaT when it is delivered, delayed or held.
    served_at : Timestamp
        When the answer was given.
    """

    number: str
    code: str
    text: str
    depot: str
    scanned_at: pd.Timestamp
    eta: pd.Timestamp
    served_at: pd.Timestamp


@dataclass(frozen=True)
class Event:
    """One line of a parcel's history: ``at``, ``code``, ``depot``, ``eta``."""

    at: pd.Timestamp
    code: str
    depot: str
    eta: pd.Timestamp


def _working_day(day: pd.Timestamp) -> pd.Timestamp:
    """Return the day, or Monday when it is a Sunday."""
    return day + _DAY if day.dayofweek == 6 else day


def _in_working_days(day: pd.Timestamp, n: int) -> pd.Timestamp:
    for _ in range(n):
        day = _working_day(day + _DAY)
    return day


def _round_begins(day: pd.Timestamp, rng: np.random.Generator) -> pd.Timestamp:
    """Return when a parcel goes out for delivery on a day."""
    return day.normalize() + pd.Timedelta(hours=8, minutes=float(rng.uniform(0, 75)))


def _history(rng: np.random.Generator, asked: pd.Timestamp) -> tuple[Event, ...]:
    """Draw all that happens to a parcel that somebody asks for at a moment."""
    where = "abroad" if rng.random() < ABROAD else "home"
    announced = asked - _DAY * rng.uniform(*ASKED_AFTER[where])
    promised = _in_working_days(announced.normalize(), PROMISED[where])
    route = rng.choice(DEPOTS, size=4 if where == "abroad" else rng.integers(2, 4), replace=False)
    now = announced + _HOUR * rng.uniform(2, 24)
    events = [Event(announced, "A1", "", promised), Event(now, "T2", str(route[0]), promised)]

    def add(code: str, depot: str, hours: tuple[float, float], eta: pd.Timestamp) -> None:
        nonlocal now, promised
        now += _HOUR * rng.uniform(*hours)
        if eta is promised and now.normalize() >= promised:
            eta = promised = _in_working_days(now.normalize(), 1)
        events.append(Event(now, code, str(depot), eta))

    late = rng.random() < DELAYED
    # Between depots: a night at home, days on the way from abroad.
    leg = (20, 60) if where == "abroad" else (7, 16)
    for k, depot in enumerate(route[1:]):
        add("T2", depot, leg, promised)
        held = rng.random() if where == "abroad" and k == 0 else 1.0
        if held < HELD_CHARGES + HELD_PAPERS:
            code, days = ("H3", (24, 160)) if held < HELD_CHARGES else ("H5", (48, 260))
            add(code, depot, (1, 12), pd.NaT)
            promised = max(promised, _in_working_days((now + _HOUR * days[1]).normalize(), 2))
            add("T2", depot, days, promised)
        if late and k == 0:
            add("T7", depot, (4, 20), pd.NaT)
            promised = _in_working_days(promised, 3)
            add("T2", depot, (16, 72), promised)
    start = _round_begins(_working_day(now.normalize() + _DAY), rng)
    if rng.random() < NOBODY_HOME:
        events.append(Event(start, "D4", str(route[-1]), start.normalize()))
        start = _round_begins(_working_day(start.normalize() + _DAY), rng)
    events.append(Event(start, "D4", str(route[-1]), start.normalize()))
    events.append(Event(start + _HOUR * rng.uniform(0.5, 9), "Z9", str(route[-1]), pd.NaT))
    return tuple(replace(e, at=e.at.floor("s")) for e in events)


class TrackingAPI:
    """The tracking system of the carrier.

    Parameters
    ----------
    seed : int
    faults : Faults
    clock : callable, optional
        Returns the time at which a call without ``at`` is made; by default noon of
        :data:`~casebook.cases.support_rag_chatbot.world.content.TODAY`.
    asked : Timestamp-like, optional
        About when the customers ask: a parcel is announced some days before. By default noon of
        the same day.

    Attributes
    ----------
    calls : collections.Counter
        Calls of each number so far; numbers that are refused before a call are not counted.
    """

    def __init__(
        self,
        seed: int = SEED,
        faults: Faults | None = None,
        clock: Callable[[], object] | None = None,
        asked: object = None,
    ) -> None:
        noon = TODAY + 12 * _HOUR
        self.seed, self.faults = seed, faults or Faults()
        self.clock = clock or (lambda: noon)
        self.asked = noon if asked is None else pd.Timestamp(asked)
        self.calls: Counter[str] = Counter()
        self._histories: dict[str, tuple[Event, ...]] = {}
        self._timed_out: dict[str, bool] = {}

    def _rng(self, what: str, number: str, call: int = 0) -> np.random.Generator:
        key = f"{self.seed}/{what}/{number}/{self.asked.isoformat()}/{call}"
        digest = hashlib.sha256(key.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))

    def _plain(self, number: str) -> str:
        plain = plain_number(number)
        if not _NUMBER.fullmatch(plain):
            raise BadNumber(
                f"{number!r} is no tracking number: two letters, nine digits, two letters."
            )
        if not is_tracking_number(plain):
            raise BadNumber(f"The check digit of {plain} does not fit; ask for the number again.")
        return plain

    def is_unknown(self, number: str) -> bool:
        """Say whether no call finds a number (truth)."""
        rng = self._rng("unknown", self._plain(number))
        return bool(rng.random() < self.faults.unknown)

    def true_history(self, number: str) -> tuple[Event, ...]:
        """Return all that happens to a parcel, the future included (truth)."""
        plain = self._plain(number)
        if plain not in self._histories:
            self._histories[plain] = _history(self._rng("history", plain), self.asked)
        return self._histories[plain]

    def true_status(self, number: str, at: object = None, language: str = "en") -> Status:
        """Return how it stands with a parcel at a moment (truth); before the first event, that."""
        plain, now = self._plain(number), self._now(at)
        return self._status(plain, self._event(plain, now), now, language)

    def status(self, number: str, at: object = None, language: str = "en") -> Status:
        """Ask for a parcel.

        Parameters
        ----------
        number : str
            With or without spaces, in any case.
        at : Timestamp-like, optional
            When; by default what the clock says.
        language : str
            Of the status text: en, de or es.

        Returns
        -------
        Status

        Raises
        ------
        BadNumber
            Before any call, if the form or the check digit is wrong.
        UnknownNumber
            If there is no such parcel.
        TrackingTimeout, TrackingServerError, TrackingRateLimited
            By the faults.
        """
        plain, now = self._plain(number), self._now(at)
        if language not in STATUS_TEXTS:
            raise ValueError(f"No status texts in {language!r}; there are {list(STATUS_TEXTS)}.")
        self.calls[plain] += 1
        limited, timeout, error, stale, depot = self._rng("call", plain, self.calls[plain]).random(
            5
        )
        if limited < self.faults.rate_limit:
            raise TrackingRateLimited(f"429: ask again in {RETRY_AFTER} s.", RETRY_AFTER)
        self._timed_out[plain] = timeout < self._timeout_rate(plain, now)
        if self._timed_out[plain]:
            raise TrackingTimeout(f"No answer about {plain} within {WAIT:g} s.", WAIT)
        if error < self.faults.error:
            raise TrackingServerError("500: internal error of the tracking system.")
        if self.is_unknown(plain):
            raise UnknownNumber(f"404: there is no parcel {plain}.")
        event = self._event(plain, now)
        if stale < self.faults.stale:
            event = self._event(plain, now - _HOUR * self._age(plain))
        if event.depot and depot < self.faults.wrong_depot:
            others = [d for d in DEPOTS if d != event.depot]
            event = replace(
                event, depot=str(self._rng("depot", plain, self.calls[plain]).choice(others))
            )
        return self._status(plain, event, now, language)

    def _now(self, at: object) -> pd.Timestamp:
        return pd.Timestamp(self.clock() if at is None else at)

    def _timeout_rate(self, number: str, now: pd.Timestamp) -> float:
        """Return the probability of a time-out: a chain of two states with the faults' share."""
        if any(start <= now < end for start, end in self.faults.outages):
            return OUTAGE
        share = self.faults.timeout
        if number not in self._timed_out or share in (0, 1):
            return share
        if self._timed_out[number]:
            return max(STREAK, share)
        return share * (1 - max(STREAK, share)) / (1 - share)

    def _age(self, number: str) -> float:
        median, sd = STALE_HOURS
        return float(self._rng("stale", number, self.calls[number]).lognormal(np.log(median), sd))

    def _event(self, number: str, at: pd.Timestamp) -> Event:
        history = self.true_history(number)
        return next((e for e in reversed(history) if e.at <= at), history[0])

    @staticmethod
    def _status(number: str, event: Event, now: pd.Timestamp, language: str) -> Status:
        text = STATUS_TEXTS[language][event.code]
        return Status(number, event.code, text, event.depot, event.at, event.eta, now)
