"""Drills that a service is put through: killed at chosen points, timed stage by stage.

:func:`kill_drill` ends a process in the middle of its work (SIGKILL), again and again, and looks
what the next one finds. :func:`stages` says where the time of a call goes.

Examples
--------
>>> import json
>>> with stages({"write": [(json, "dumps")], "read": [(json, "loads")]}) as watch:
...     _ = json.loads(json.dumps([1, 2]))
>>> sorted(watch.seconds)
['read', 'write']
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import select
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from multiprocessing.connection import Connection
from typing import Any

import pandas as pd

# Killed in the middle --------------------------------------------------------------------------

#: What a work passes when the part begins that is to be killed.
BEGUN = "begun"
#: Where a work is killed: a share of its time, the so-manieth passage of a point, or nowhere.
Point = float | tuple[str, int] | None
#: Tells the drill that a point is passed.
Passed = Callable[[str], None]


@dataclass(frozen=True)
class Kill:
    """A work that was to be killed.

    Attributes
    ----------
    point : float, (str, int) or None
        Where, as it was asked for.
    seconds : float
        How long it lived from :data:`BEGUN` on (from its start if it never passes that).
    killed : bool
        Whether it was killed: not so when it had ended before.
    left : object
        What ``read`` found afterwards.
    """

    point: Point
    seconds: float
    killed: bool
    left: Any


def kill_drill(
    start: Callable[[], Any],
    work: Callable[[Any, Passed], None],
    read: Callable[[Any], Any],
    points: Sequence[Point],
    warm: Callable[[], Any] | None = None,
) -> list[Kill]:
    """Kill a work at each of the points, and read what it has left.

    The drill runs in a fresh process without threads, from which each work is forked. The
    functions are therefore of the top level of a module, or partials of such.

    Parameters
    ----------
    start : callable
        Makes what the work begins with, such as a fresh copy of a folder, and returns it; what
        continues where the last work was killed returns the same again.
    work : callable
        Takes it and ``passed``. It calls ``passed(name)`` at its points, and ``passed(BEGUN)`` when
        it is ready.
    read : callable
        Takes what ``start`` returned and returns what is left, as a value that can be pickled. It
        runs in the drill's process, which the kills do not touch.
    points : sequence of float, (str, int) or None
        A share (0 to 1) of the time that the whole work takes from :data:`BEGUN` on: the work is
        killed from outside at that moment. A name and n: it kills itself when it passes that point
        for the n-th time. None: it works to its end.

    warm : callable, optional
        Called once before all: what it imports, each work does not import again.

    Returns
    -------
    list of Kill
        One for each point. Where a share meets the work depends on the machine.

    Raises
    ------
    ValueError
        If a point is none of these.
    RuntimeError
        If a work fails by itself, or one of the functions; with its traceback.
    """
    for point in points:
        share = isinstance(point, int | float) and 0 <= point <= 1
        named = isinstance(point, tuple) and len(point) == 2 and point[1] >= 1
        if not (point is None or share or named):
            raise ValueError(
                f"point {point!r}: give a share from 0 to 1, a name and a number from 1, or None."
            )
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_drill, args=(start, work, read, tuple(points), warm, there))
    child.start()
    there.close()
    try:
        with here:
            found = here.recv()
    except EOFError:
        found = "The drill's process ended without a result."
    finally:
        child.join()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def _drill(
    start: Callable,
    work: Callable,
    read: Callable,
    points: Sequence[Point],
    warm: Callable | None,
    pipe: Connection,
) -> None:
    """Run the drill in its own process; send the kills, or what went wrong."""
    try:
        if warm is not None:
            warm()
        length = 0.0
        if any(isinstance(point, int | float) for point in points):
            length, _ = _killed(work, start(), None, 0.0)
        kills = []
        for point in points:
            begun = start()
            seconds, killed = _killed(work, begun, point, length)
            kills.append(Kill(point, seconds, killed, read(begun)))
        pipe.send(kills)
    except BaseException:
        pipe.send(traceback.format_exc())


def _killed(work: Callable, begun: Any, point: Point, length: float) -> tuple[float, bool]:
    """Work in a forked process and kill it; return how long it lived, and whether it was killed."""
    reading, writing = os.pipe()
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        _work(work, begun, point, writing)
    os.close(writing)
    said = b""
    with os.fdopen(reading, "rb", buffering=0) as told:
        if isinstance(point, int | float):
            said = told.read(1)  # empty when it ends without having passed BEGUN
            begin = time.perf_counter() if said else begin
            ended, _, _ = select.select([told], [], [], point * length)
            if not ended:
                os.kill(child, signal.SIGKILL)
        while piece := told.read(65536):
            begin = time.perf_counter() if not said else begin
            said += piece
    end = time.perf_counter()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        why = said.removeprefix(b"+").decode(errors="replace")
        raise RuntimeError(f"The work failed by itself (exit code {code}):\n{why}")
    return end - begin, code == -signal.SIGKILL


def _work(work: Callable, begun: Any, point: Point, writing: int) -> None:
    """Work in the forked process, which ends here; a ``+`` says that it has begun."""
    passages, lock = Counter(), threading.Lock()

    def passed(name: str) -> None:
        with lock:  # a work may have threads
            passages[name] += 1
            if name == BEGUN and passages[name] == 1:
                os.write(writing, b"+")
            if isinstance(point, tuple) and (name, passages[name]) == point:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        work(begun, passed)
    except BaseException:
        os.write(writing, traceback.format_exc().encode()[-60_000:])
        os._exit(1)
    os._exit(0)


# Stages ----------------------------------------------------------------------------------------


class Stopwatch:
    """Seconds by stage: of nested calls the outer one is charged only what is its own.

    Attributes
    ----------
    seconds : Counter of str
        Of the stages that ran.
    calls : Counter of str
        How often.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._clock, self._inner = clock, [0.0]

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function with a clock around it."""

        @wraps(call)
        def measured(*given: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            start = self._clock()
            try:
                return call(*given, **named)
            finally:
                took = self._clock() - start
                self.seconds[stage] += took - self._inner.pop()
                self.calls[stage] += 1
                self._inner[-1] += took

        return measured


@contextmanager
def stages(
    places: Mapping[str, Sequence[tuple[Any, str]]],
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Stopwatch]:
    """Put a clock around functions for the length of a block, and take it away again.

    The functions are replaced for the whole process meanwhile: time one thread at a time, and do
    not measure where others are served.

    Parameters
    ----------
    places : mapping of str to sequence of (object, str)
        Stage → the functions that make it up, as the module or class that looks them up and their
        name there. Methods are functions of their class.
    clock : callable
        Seconds.

    Yields
    ------
    Stopwatch

    Raises
    ------
    ValueError
        When there is no such function, or it is a static or class method.
    """
    watch = Stopwatch(clock)
    with ExitStack() as stack:
        for stage, functions in places.items():
            for owner, name in functions:
                stack.enter_context(_clocked(owner, name, watch, stage))
        yield watch


@contextmanager
def _clocked(owner: Any, name: str, watch: Stopwatch, stage: str) -> Iterator[None]:
    """Replace one function by its clocked self for the length of a block."""
    own = vars(owner).get(name)
    call = getattr(owner, name, None)
    unbound = isinstance(inspect.getattr_static(owner, name, None), staticmethod | classmethod)
    if not callable(call) or unbound:
        raise ValueError(
            f"stage {stage}: {owner!r} has no function {name!r} to put a clock around."
        )
    setattr(owner, name, watch.timed(stage, call))
    try:
        yield
    finally:
        if own is None:  # it was inherited
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def stage_table(
    call: Callable[[], Any],
    places: Mapping[str, Sequence[tuple[Any, str]]],
    n: int = 100,
    warm_up: int = 10,
) -> pd.DataFrame:
    """Say where the time of a call goes: its percentiles, stage by stage.

    Of nested functions the outer one is charged what is its own, so that the stages' means add up
    to the call's.

    Parameters
    ----------
    call : callable
        What is timed, one after the other, nothing else running.
    places : mapping of str to sequence of (object, str)
        See :func:`stages`.
    n, warm_up : int
        Counted calls, and calls made before them.

    Returns
    -------
    DataFrame
        A row for each stage that ran, ``rest`` and ``whole``: ``calls`` that ran it, ``p50_ms``,
        ``p95_ms`` and ``p99_ms`` over those, ``mean_ms`` over all calls, ``share`` of the time.

    Raises
    ------
    ValueError
        With n below 100: a p99 needs as many.
    """
    if n < 100 or warm_up < 0:
        raise ValueError(f"n {n}, warm_up {warm_up}: at least 100 calls, no negative warm-up.")
    for _ in range(warm_up):
        call()
    spent = []
    for _ in range(n):
        with stages(places) as watch:
            start = time.perf_counter()
            call()
            whole = time.perf_counter() - start
        spent.append({**watch.seconds, "rest": whole - watch.seconds.total(), "whole": whole})
    table = 1000 * pd.DataFrame(spent)
    table = table[[stage for stage in (*places, "rest", "whole") if stage in table]]
    return pd.DataFrame(
        {
            "stage": table.columns,
            "calls": table.notna().sum().to_numpy(),
            **{f"p{q}_ms": table.quantile(q / 100).to_numpy() for q in (50, 95, 99)},
            "mean_ms": table.fillna(0).mean().to_numpy(),
            "share": (table.sum() / table["whole"].sum()).to_numpy(),
        }
    )
