"""Calls of another system that fails as real ones do: no answer, two answers, a late one.

A caller that hears nothing cannot know whether the other side has worked. :class:`Unreliable` puts
such faults around a call, by a plan or drawn at stated rates.

Examples
--------
>>> done = []
>>> pay = Unreliable(lambda key: done.append(key) or f"paid {key}", ["after", "twice", "ok"])
>>> try:
...     pay("a")
... except NoAnswer as error:
...     print(error, done)
no answer in time ['a']
>>> pay("b"), done
('paid b', ['a', 'b', 'b'])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import numpy as np

#: ``before``: no answer, nothing done; ``after``: done, no answer; ``late``: no answer, done just
#: before the next call; ``later``: just after it; ``twice``: the request arrives two times.
FAULTS = ("ok", "before", "after", "late", "later", "twice")


class NoAnswer(TimeoutError):
    """The other system did not answer in time: whether it has worked is unknown."""


class Unreliable:
    """A call with faults.

    Parameters
    ----------
    call : callable
    plan : iterable of str
        One of :data:`FAULTS` for each call, in order; ``ok`` for all after its end.

    Attributes
    ----------
    met : Counter of str
        The faults that were met.
    """

    def __init__(self, call: Callable[..., Any], plan: Iterable[str] = ()) -> None:
        self._call, self._plan = call, chain(plan, repeat("ok"))
        self._waiting: dict[str, list[tuple[tuple, dict]]] = {"late": [], "later": []}
        self.met: Counter[str] = Counter()

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call, under the next fault of the plan.

        Raises
        ------
        NoAnswer
            Under ``before``, ``after``, ``late`` and ``later``.
        ValueError
            If the plan names another fault.
        """
        fault = next(self._plan)
        if fault not in FAULTS:
            raise ValueError(f"fault {fault!r}: give one of {', '.join(FAULTS)}.")
        self.met[fault] += 1
        self._arrive("late")
        answer = None
        for _ in range({"ok": 1, "after": 1, "twice": 2}.get(fault, 0)):
            answer = self._call(*given, **named)
        self._arrive("later")
        if fault in self._waiting:
            self._waiting[fault].append((given, named))
        if answer is None or fault == "after":
            raise NoAnswer("no answer in time")
        return answer

    def flush(self) -> None:
        """Let the late requests arrive."""
        for when in self._waiting:
            self._arrive(when)

    def _arrive(self, when: str) -> None:
        waiting, self._waiting[when] = self._waiting[when], []
        for given, named in waiting:
            self._call(*given, **named)


class Keyed:
    """Another system that keeps to idempotency keys; its books are the truth.

    Parameters
    ----------
    clock : callable
        Seconds.
    keeps_keys : bool
        Whether a key that was seen is answered with what was done then, as it should be.
    keeps : float
        Seconds for which it is; after them the key is new again, as at real providers.
    refuses : callable, optional
        Takes a request, says why it is refused; empty if it is not. A refusal is kept, too.

    Attributes
    ----------
    done : list of dict
        The requests that had an effect, each with ``key`` and ``at``.

    Examples
    --------
    >>> now = [0.0]
    >>> bank = Keyed(lambda: now[0])
    >>> [bank("k1", {"cents": 5})["state"] for _ in range(2)], len(bank.done)
    (['done', 'done'], 1)
    >>> now[0] = 100_000.0
    >>> bank.look("k1")["state"], bank.look("k2"), bank("k1", {"cents": 5})["state"], len(bank.done)
    ('done', None, 'done', 2)
    """

    def __init__(
        self,
        clock: Callable[[], float],
        keeps_keys: bool = True,
        keeps: float = 86_400.0,
        refuses: Callable[[Mapping[str, Any]], str] = lambda request: "",
    ) -> None:
        self._clock, self._keeps, self.refuses = clock, keeps if keeps_keys else 0.0, refuses
        self.done: list[dict[str, Any]] = []
        self._seen: dict[str, tuple[float, dict[str, Any], dict[str, Any]]] = {}

    def __call__(self, key: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what is asked, or answer what was answered under this key.

        Raises
        ------
        ValueError
            If the key stands for another request.
        """
        now = self._clock()
        at, kept, answer = self._seen.get(key, (float("-inf"), {}, {}))
        if now - at < self._keeps:
            if kept != request:
                raise ValueError(f"key {key!r} was used for another request.")
            return dict(answer)
        answer = {"key": key, "state": "done"}
        if why := self.refuses(request):
            answer |= {"state": "failed", "why": why}
        else:
            self.done.append({**request, "key": key, "at": now})
        self._seen[key] = (now, dict(request), answer)
        return dict(answer)

    def look(self, key: str) -> dict[str, Any] | None:
        """Find an effect by the key that is stored with it, however old; None without one."""
        found = any(one["key"] == key for one in self.done)
        return {"key": key, "state": "done"} if found else None


def drawn(rates: Mapping[str, float], seed: int) -> Iterator[str]:
    """Yield faults for ever, each with its rate; ``ok`` has the rest.

    Raises
    ------
    ValueError
        If a fault is unknown, or the rates are no shares.

    Examples
    --------
    >>> from itertools import islice
    >>> sorted(set(islice(drawn({"twice": 0.5}, seed=1), 20)))
    ['ok', 'twice']
    """
    total = sum(rates.values())
    if set(rates) - set(FAULTS[1:]) or min(rates.values(), default=0) < 0 or total > 1:
        raise ValueError(f"rates {dict(rates)}: give shares of {', '.join(FAULTS[1:])}.")
    rng, names = np.random.default_rng([seed, 7]), [*rates, "ok"]
    shares = [*rates.values(), 1 - total]
    while True:
        yield str(rng.choice(names, p=shares))
