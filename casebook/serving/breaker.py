"""A circuit breaker: a model that is slow, absent, crashing or talking nonsense is left alone.

:class:`Breaker` asks a model in a thread of its own and waits no longer than a budget. After too
many failures it opens: the model is not asked at all until a cool-off has passed, then one probe
at a time finds out whether it is well again. What is answered instead is the caller's business.

The states are those of Nygard, *Release It!* (2nd edition, 2018, chapter 5).

Examples
--------
>>> breaker = Breaker(budget_ms=5000, failures=2, cool_off=60)
>>> breaker.ask(lambda basket: len(basket) / 10, ["tea", "milk"]).value
0.2
>>> [breaker.ask(lambda basket: 1 / 0, []).why for _ in range(3)]
['error', 'error', 'breaker open']
>>> breaker.close()
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

#: Why there is no answer of the model.
WHYS = ("breaker open", "timeout", "error", "nonsense", "absent", "busy")
#: Errors by which ``accept`` refuses a value.
REFUSED = (TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Answer:
    """What came of asking the model.

    Attributes
    ----------
    value : object
        What the model returned, as ``accept`` passed it on; None without a usable answer.
    why : str
        Empty when the model answered, else one of ``WHYS``.
    detail : str
        For the log: the exception or the value that was refused.
    ms : float
        Milliseconds that asking took.
    """

    value: Any
    why: str = ""
    detail: str = ""
    ms: float = 0.0


def something(value: object) -> object:
    """Accept anything but None."""
    if value is None:
        raise ValueError("the model returned None")
    return value


def guarded(
    breaker: Breaker | None, call: Callable[[Any], Any], x: Any, accept: Callable[[Any], Any]
) -> Answer:
    """Ask through a breaker; without one directly, and then an error is raised, not answered.

    Examples
    --------
    >>> guarded(None, sum, [1, 2], something).value
    3
    >>> guarded(Breaker(5000), sum, ["a"], something).why
    'error'
    """
    return breaker.ask(call, x, accept) if breaker else Answer(accept(call(x)))


class Breaker:
    """Ask a model within a budget, and not at all while it fails.

    Closed, it asks; when ``failures`` of the last ``window`` calls failed it opens. Open, it does
    not ask; after ``cool_off`` seconds it is half-open and lets one call at a time through.
    ``probes`` successes in a row close it, one failure opens it again.

    A thread cannot be ended from outside. A call that exceeds the budget is abandoned and its
    thread is used again when it returns; there are never more than ``threads``. Once all of them
    hang, each answer is ``busy`` at once: restart the process then (``snapshot()["hung"]``). A
    model that holds the interpreter's lock for long has to live in another process.

    Parameters
    ----------
    budget_ms : float
        How long a call may take.
    failures, window : int
        So many failures among so many last calls open it. Equal numbers: only failures in a row.
    cool_off : float
        Seconds from opening to the first probe.
    probes : int
        Successes in a row that close it.
    threads : int
        Most threads, the hung ones included.
    clock : callable
        Seconds, for the cool-off.

    Raises
    ------
    ValueError
        When a number is out of range.
    """

    def __init__(
        self,
        budget_ms: float = 30.0,
        failures: int = 5,
        cool_off: float = 5.0,
        *,
        window: int = 20,
        probes: int = 2,
        threads: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < budget_ms < math.inf:
            raise ValueError(f"budget_ms is {budget_ms}: give milliseconds above 0.")
        if not 1 <= failures <= window:
            raise ValueError(
                f"failures is {failures}, window {window}: give 1 or more failures, "
                "and a window that can hold them."
            )
        if cool_off < 0 or probes < 1 or threads < 1:
            raise ValueError(
                f"cool_off {cool_off}, probes {probes}, threads {threads}: "
                "the first must be 0 or more, the others 1 or more."
            )
        self.budget_ms, self.failures, self.cool_off = budget_ms, failures, cool_off
        self.probes = probes
        self._clock = clock
        self._lock = threading.Lock()
        self._pool = _Pool(threads)
        self._recent: deque[bool] = deque(maxlen=window)
        self._state, self._since, self._generation = "closed", clock(), 0
        self._opened, self._last = 0, ""
        self._probing, self._successes = False, 0

    @property
    def state(self) -> str:
        """``"closed"``, ``"open"`` or ``"half-open"``."""
        return self._state

    def snapshot(self) -> dict[str, object]:
        """Return what the health page shows.

        Returns
        -------
        dict
            ``state``; ``failed`` and ``asked`` (of the window's calls); ``opened`` (times);
            ``hung`` (threads that work on an abandoned call) and ``threads`` (the most);
            ``last`` (what failed last); ``budget_ms``.
        """
        with self._lock:
            return {
                "state": self._state,
                "failed": sum(self._recent),
                "asked": len(self._recent),
                "opened": self._opened,
                "hung": self._pool.hung,
                "threads": self._pool.most,
                "last": self._last,
                "budget_ms": self.budget_ms,
            }

    def ask(
        self,
        model: Callable[[Any], Any] | None,
        question: Any,
        accept: Callable[[Any], Any] = something,
    ) -> Answer:
        """Ask the model, if the breaker lets the call through.

        Parameters
        ----------
        model : callable or None
            Takes the question; None counts as a failure, so that one that is loaded later is
            probed.
        question : object
            The model gets a shallow copy: a call that was abandoned cannot change the entries of
            the caller's mapping or array.
        accept : callable
            Takes what the model returned and returns the value of the answer. It raises one of
            ``REFUSED`` for nonsense, which is a failure. By default only None is nonsense.

        Returns
        -------
        Answer
            With a value that was accepted or with the reason why there is none. It comes within
            the budget, apart from what the operating system takes to wake a thread.
        """
        start = time.perf_counter()
        generation = self._admit()
        if generation is None:
            return Answer(None, why="breaker open", ms=_since(start))
        value, why, detail = None, "error", "interrupted"
        try:
            value, why, detail = self._call(model, copy.copy(question), accept)
        finally:
            self._record(generation, why, detail)
        return Answer(value, why, detail, _since(start))

    def close(self) -> None:
        """End the idle threads; a hung one ends when its call returns."""
        self._pool.close()

    def _call(
        self, model: Callable[[Any], Any] | None, question: Any, accept: Callable[[Any], Any]
    ) -> tuple[Any, str, str]:
        """Return the value, why it is none, and a detail."""
        if model is None:
            return None, "absent", "no model is loaded"
        call = _Call(model, question)
        if not self._pool.start(call):
            return None, "busy", "every thread hangs in an earlier call"
        if not call.wait(self.budget_ms / 1000):
            return None, "timeout", f"no answer within {self.budget_ms:g} ms"
        if call.error is not None:
            return None, "error", f"{type(call.error).__name__}: {call.error}"[:200]
        try:
            return accept(call.value), "", ""
        except REFUSED:
            return None, "nonsense", repr(call.value)[:200]

    def _admit(self) -> int | None:
        """Return the generation that a call belongs to, or None when it must not be made."""
        with self._lock:
            if self._state == "open" and self._clock() - self._since >= self.cool_off:
                self._turn("half-open")
            if self._state == "open" or (self._state == "half-open" and self._probing):
                return None
            self._probing = self._state == "half-open"
            return self._generation

    def _record(self, generation: int, why: str, detail: str) -> None:
        with self._lock:
            if why:
                self._last = f"{why}: {detail}"
            if generation != self._generation:
                return  # it was asked before the state changed, and says nothing about now
            if self._state == "half-open":
                self._probing = False
                self._successes += 1
                if why:
                    self._turn("open")
                elif self._successes >= self.probes:
                    self._turn("closed")
                return
            self._recent.append(bool(why))
            if sum(self._recent) >= self.failures:
                self._turn("open")

    def _turn(self, state: str) -> None:
        self._opened += state == "open"
        self._state, self._since = state, self._clock()
        self._generation += 1
        self._probing, self._successes = False, 0
        if state == "closed":
            self._recent.clear()


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


# Threads ---------------------------------------------------------------------------------------


@dataclass
class _Call:
    """One call of the model, from the thread that waits to the thread that works."""

    model: Callable[[Any], Any]
    question: Any
    value: object = None
    error: BaseException | None = None
    abandoned: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> bool:
        self.abandoned = not self.done.wait(seconds)
        return not self.abandoned


class _Pool:
    """Daemon threads that are made when needed, up to a number, and used again."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue] = []
        self._running: dict[int, _Call] = {}
        self._made, self._closed = 0, False

    @property
    def hung(self) -> int:
        """How many threads work on a call that nobody waits for."""
        with self._lock:
            return sum(call.abandoned for call in self._running.values())

    def start(self, call: _Call) -> bool:
        """Give the call to a thread; False when there is none to be had."""
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                queue = self._idle.pop()
            elif self._made < self.most:
                self._made += 1
                queue = SimpleQueue()
                name = f"model-{self._made}"
                threading.Thread(target=self._work, args=(queue,), name=name, daemon=True).start()
            else:
                return False
            self._running[id(queue)] = call
        queue.put(call)
        return True

    def _work(self, queue: SimpleQueue) -> None:
        while (call := queue.get()) is not None:
            try:
                call.value = call.model(call.question)
            except BaseException as error:  # a model that calls exit() must not end its thread
                call.error = error
            with self._lock:  # idle before the caller wakes: its next call finds this thread
                del self._running[id(queue)]
                self._idle.append(queue)
                closed = self._closed
            call.done.set()
            if closed:
                return

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for queue in self._idle:
                queue.put(None)
            self._idle.clear()
