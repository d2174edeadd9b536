"""The payment provider of the shops: it keeps to idempotency keys, and its books are the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class Provider:
    """Pays refunds out.

    Parameters
    ----------
    clock : callable
        Seconds.
    keeps_keys : bool
        Whether a key that was seen is answered with what was done then, as it should be.

    Attributes
    ----------
    payouts : list of dict
        ``key``, ``order``, ``cents``, ``at``: money that has left.
    """

    def __init__(self, clock: Callable[[], float], keeps_keys: bool = True) -> None:
        self._clock, self._keeps_keys = clock, keeps_keys
        self.payouts: list[dict[str, Any]] = []

    def refund(self, key: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Pay, or answer what was paid under this key."""
        done = [one for one in self.payouts if one["key"] == key and self._keeps_keys]
        if not done:
            told = {"order": request["order"], "cents": request["cents"]}
            self.payouts.append({"key": key, "at": self._clock()} | told)
        return {"key": key, "state": "paid"}
