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

#: ``before``: no answer, nothing done; ``after``: done, no answer; ``late``: no answer, done when
#: the next call comes; ``twice``: the request arrives two times.
FAULTS = ("ok", "before", "after", "late", "twice")


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
        self._waiting: list[tuple[tuple, dict]] = []
        self.met: Counter[str] = Counter()

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call, under the next fault of the plan.

        Raises
        ------
        NoAnswer
            Under ``before``, ``after`` and ``late``.
        ValueError
            If the plan names another fault.
        """
        self.flush()
        fault = next(self._plan)
        if fault not in FAULTS:
            raise ValueError(f"fault {fault!r}: give one of {', '.join(FAULTS)}.")
        self.met[fault] += 1
        if fault == "late":
            self._waiting.append((given, named))
        elif fault == "twice":
            self._call(*given, **named)
        answer = self._call(*given, **named) if fault in ("ok", "after", "twice") else None
        if fault in ("before", "after", "late"):
            raise NoAnswer("no answer in time")
        return answer

    def flush(self) -> None:
        """Let the late requests arrive."""
        waiting, self._waiting = self._waiting, []
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

    Attributes
    ----------
    done : list of dict
        The requests that had an effect, each with ``key`` and ``at``.

    Examples
    --------
    >>> bank = Keyed(lambda: 0.0)
    >>> [bank("k1", {"cents": 5})["state"] for _ in range(2)], len(bank.done)
    (['done', 'done'], 1)
    """

    def __init__(self, clock: Callable[[], float], keeps_keys: bool = True) -> None:
        self._clock, self._keeps_keys = clock, keeps_keys
        self.done: list[dict[str, Any]] = []

    def __call__(self, key: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what is asked, or answer what was done under this key."""
        if not self._keeps_keys or all(one["key"] != key for one in self.done):
            self.done.append({**request, "key": key, "at": self._clock()})
        return {"key": key, "state": "done"}


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
