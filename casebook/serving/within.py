"""Wait for a call so long and no longer: what hangs holds up neither a check nor a start.

Examples
--------
>>> within(5.0, sum, [1, 2])
3
>>> within(0.01, threading.Event().wait)
Traceback (most recent call last):
...
TimeoutError: not done within 0.01 s
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def within(seconds: float, call: Callable[..., Any], *given: Any) -> Any:
    """Return what a call returns, or raise what it raises.

    A thread cannot be ended from outside: one that hangs is left alone, and ends with the process.

    Parameters
    ----------
    seconds : float
    call : callable
    *given
        Its arguments.

    Raises
    ------
    TimeoutError
        If it is not done by then.
    """
    got: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            got.append((call(*given), None))
        except BaseException as error:  # also exit(): the caller decides
            got.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not got:
        raise TimeoutError(f"not done within {seconds:g} s")
    value, error = got[0]
    if error is not None:
        raise error if isinstance(error, Exception) else RuntimeError(repr(error))
    return value
