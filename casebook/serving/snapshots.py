"""A snapshot of the store, so that a start need not read the whole audit.

It is signed: a pickle that somebody else has written is never opened. Where it does not fit the
audit, the store is rebuilt from the beginning.

Examples
--------
>>> import tempfile
>>> class Audit:
...     def anchor(self): return 2, "digest"
...     def holds(self, sequence, digest): return (sequence, digest) == self.anchor()
>>> tokens = Tokens(b"a key that is long enough")
>>> with tempfile.TemporaryDirectory() as folder:
...     saved(Path(folder) / "state", {"cards": 3}, Audit(), tokens)
...     restored(Path(folder) / "state", Audit(), tokens)
({'cards': 3}, 2)
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Protocol

from casebook.serving.tokens import Tokens


class Anchored(Protocol):
    """A log that says how many rows it has, the last one's hash, and whether a row has a hash."""

    def anchor(self) -> tuple[int, str]: ...

    def holds(self, sequence: int, digest: str) -> bool: ...


def saved(path: Path, store: Any, audit: Anchored, tokens: Tokens) -> None:
    """Write a store that has seen all of the audit; whole or not at all, for its owner alone."""
    count, digest = audit.anchor()
    body = pickle.dumps((count, digest, store))
    part = Path(f"{path}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(tokens.sign(body).encode() + body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def restored(path: Path | None, audit: Anchored, tokens: Tokens) -> tuple[Any, int] | None:
    """Return a store and the row of the audit that it saw last; None where there is none."""
    if path is None or not path.exists():
        return None
    raw = path.read_bytes()
    signature, body = raw[:64], raw[64:]
    if not tokens.signed(body, signature.decode("ascii", errors="replace")):
        return None
    count, digest, store = pickle.loads(body)
    return (store, count) if count == 0 or audit.holds(count, digest) else None
