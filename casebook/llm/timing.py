"""How long a request may take and how often it is made: time-outs, budget, waits, deadline."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from casebook.llm.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from tenacity import Retrying


def _check_seconds(value: object, what: str) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < value < float("inf"):
        raise ConfigurationError(f"{what} is {value!r}: give seconds, a number above 0.")


@dataclass(frozen=True)
class Timeout:
    """How long one attempt may take, in seconds.

    Attributes
    ----------
    connect : float
        To reach the server, for each of its addresses; looking up its name comes on top.
    read : float
        Of silence. A server that does not stream is silent until its whole answer is written.
    attempt : float
        Altogether, from the connection to the last byte, what the reader of a stream spends
        between two pieces included. It also ends an answer that drips.

    Raises
    ------
    ConfigurationError
        If a value is no number above 0, or a part is longer than the attempt.
    """

    connect: float = 5.0
    read: float = 120.0
    attempt: float = 120.0

    def __post_init__(self) -> None:
        for what in ("connect", "read", "attempt"):
            _check_seconds(getattr(self, what), f"The time-out ({what})")
        if max(self.connect, self.read) > self.attempt:
            raise ConfigurationError(
                f"The time-out of an attempt ({self.attempt:g} s) is shorter than that of its "
                f"parts (connect {self.connect:g} s, read {self.read:g} s)."
            )


@dataclass(frozen=True)
class Budget:
    """How often a request may be made, and until when.

    Before attempt n + 1 the client waits a random time between 0 and ``base`` · 2ⁿ⁻¹ seconds, at
    most ``cap`` ("full jitter" [1]_), or what the server asks for in Retry-After if that is
    longer. No attempt starts after ``seconds``: a request takes at most ``seconds`` and one
    attempt.

    Attributes
    ----------
    attempts : int
        At least 1.
    seconds : float
        From the start of the first attempt to the start of the last.
    base, cap : float
        Seconds.

    Raises
    ------
    ConfigurationError
        If a value is out of range.

    References
    ----------
    .. [1] M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 3
    seconds: float = 120.0
    base: float = 0.5
    cap: float = 8.0

    def __post_init__(self) -> None:
        good = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        if not good or self.attempts < 1:
            raise ConfigurationError(f"attempts is {self.attempts!r}: give a count, at least 1.")
        for what in ("seconds", "base", "cap"):
            _check_seconds(getattr(self, what), f"The budget's {what}")


@dataclass(frozen=True)
class Sources:
    """Where the client takes time and chance from; a test puts its own here.

    Attributes
    ----------
    clock, now : callable
        Seconds of a clock that only runs forward, and of the calendar (since 1970, for dates).
    sleep : callable
        Waits so many seconds.
    uniform : callable
        Random number between two bounds.
    """

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, or None if it is no such.

    Parameters
    ----------
    value : str, optional
        Seconds or an HTTP date (RFC 9110, section 10.2.3).
    now : float
        Seconds since 1970.
    """
    from email.utils import parsedate_to_datetime

    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip(), re.ASCII):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def retrying(budget: Budget, sources: Sources) -> Retrying:
    """Return tenacity's loop over the attempts of one request.

    Its errors hold how many attempts were made, in which time, and why there is no further one.
    """
    from tenacity import RetryCallState, Retrying

    start = sources.clock()
    last: list[LLMError] = []

    def again(state: RetryCallState) -> bool:
        error = state.outcome.exception()
        if not isinstance(error, LLMError):
            return False
        error.attempts, error.seconds = state.attempt_number, sources.clock() - start
        last[:] = [error]
        return error.transient

    def wait(state: RetryCallState) -> float:
        if state.attempt_number >= budget.attempts:
            return 0.0
        ceiling = min(budget.cap, budget.base * 2 ** min(state.attempt_number - 1, 64))
        return max(sources.uniform(0.0, ceiling), last[0].retry_after or 0.0)

    def stop(state: RetryCallState) -> bool:
        error, seconds = last[0], state.upcoming_sleep
        if state.attempt_number >= budget.attempts:
            error.gave_up = "" if budget.attempts > 1 else "The budget allows one attempt."
            return True
        left = budget.seconds - error.seconds
        asks = "The server asks to wait" if error.retry_after == seconds else "The next wait is"
        if seconds >= left:
            error.gave_up = (
                f"{asks} {seconds:,.1f} s, and {max(left, 0):,.1f} s of the budget are left."
            )
        return seconds >= left

    def sleep(seconds: float) -> None:
        sources.sleep(seconds)
        if sources.clock() - start >= budget.seconds:
            last[0].gave_up = "The wait used up the budget."
            raise last[0]

    return Retrying(retry=again, wait=wait, stop=stop, sleep=sleep, reraise=True)


class Deadline:
    """The end of an attempt: a socket's own time-out starts again with each byte.

    A thread shuts the connection down when the time is over, which wakes up whoever waits for it.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Learn the connection's socket from httpcore's events."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._shut_down()

    def _cut(self) -> None:
        self.passed = True
        self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # closed by now
                # Not SSLSocket's own method: it takes the encryption away under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
