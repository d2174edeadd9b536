"""How long to wait on this machine, and what to say when the time is over.

A clock tells how busy a machine is, not whether the product works. Tests therefore judge CPU
seconds (`cpu_seconds`), and where they must wait for another process they wait for

    patience(10)          # ten seconds of a quiet machine, in seconds of this one

and, when even that is over, raise `too_busy(what, seconds)` instead of failing an assertion::

    with waiting("the first answer of the server", 10) as timeout:
        httpx.get(url, timeout=timeout)
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from queue import Empty

import psutil

#: CPU seconds of the loop below on the machine for which the tests' times were chosen.
REFERENCE = 0.1
#: A machine that is slower than this is not waited for any longer.
MOST = 30.0
#: From here on the machine is called busy.
BUSY = 2.0
#: Seconds for which a measurement is used again.
FRESH = 10.0


class TooBusy(Exception):
    """Something did not end in its time, which says nothing about whether it works."""


def loop_seconds() -> float:
    """Return the seconds by the clock that a fixed loop takes now."""
    started = time.perf_counter()
    sum(number * number for number in range(1_000_000))
    return time.perf_counter() - started


def strain(loop: Callable[[], float] = loop_seconds) -> float:
    """Return how many times slower than a quiet machine this one is now: 1 to `MOST`.

    The clock of a loop holds both reasons: a slower processor needs more CPU seconds for it, and
    a busy machine lets it run for a part of the time only.
    """
    return min(max(loop() / REFERENCE, 1.0), MOST)


@lru_cache(maxsize=1)
def _strain_in(period: int) -> float:
    return strain()


def patience(seconds: float, now: float | None = None) -> float:
    """Return how long to wait for what takes at most ``seconds`` on a quiet machine.

    Parameters
    ----------
    seconds : float
        On a quiet machine, generously chosen: waiting costs nothing while all is well.
    now : float, optional
        The strain, if it was measured already. Otherwise it is measured at most every ten seconds.
    """
    return seconds * (now or _strain_in(int(time.monotonic() / FRESH)))


def too_busy(what: str, seconds: float, loop: Callable[[], float] = loop_seconds) -> TooBusy:
    """Return the error to raise when something did not end in its time.

    The strain is measured again, so that the message says whether the machine explains it.

    Parameters
    ----------
    what : str
        What was waited for: "the first answer of the server".
    seconds : float
        How long was waited.
    """
    now = strain(loop)
    found = f"{what} did not come within {seconds:.0f} s on a machine {now:.1f} times slower than"
    if now >= BUSY:
        return TooBusy(f"machine too busy: {found} a quiet one. Run it again on a quieter machine.")
    return TooBusy(
        f"no end: {found} a quiet one, which does not explain it. It hangs, or the time is too "
        "short for it."
    )


def _is_timeout(error: BaseException) -> bool:
    """Say whether an error is a time that ran out, in the ways of the libraries in use."""
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired | Empty):
        return True
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)


@contextmanager
def waiting(what: str, seconds: float) -> Iterator[float]:
    """Give the time to wait; a time-out inside becomes `TooBusy`.

    Parameters
    ----------
    what : str
        What is waited for, for the message.
    seconds : float
        As for `patience`.
    """
    scaled = patience(seconds)
    try:
        yield scaled
    except Exception as error:
        if _is_timeout(error):
            raise too_busy(what, scaled) from error
        raise


def until(happened: Callable[[], object], what: str, seconds: float, step: float = 0.02) -> object:
    """Ask again and again until the answer is true, and return it.

    Raises
    ------
    TooBusy
        If it is not true in ``seconds`` of a quiet machine.
    """
    with waiting(what, seconds) as scaled:
        end = time.monotonic() + scaled
        while not (answer := happened()):
            if time.monotonic() > end:
                raise TimeoutError(what)
            time.sleep(step)
        return answer


def cpu_seconds(process: int | psutil.Process | None = None) -> float:
    """Return the CPU seconds of a process and of everything that it started.

    Children that have ended count once their parent has waited for them.

    Parameters
    ----------
    process : int or psutil.Process, optional
        By default this one.
    """
    top = process if isinstance(process, psutil.Process) else psutil.Process(process)
    total = 0.0
    for one in [top, *top.children(recursive=True)]:
        try:
            total += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:  # it ended meanwhile, and its parent has its seconds
            continue
    return total
