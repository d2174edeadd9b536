"""A snapshot of the store, so that a start need not read the whole audit.

It is signed: a pickle that somebody else has written is never opened. Where it does not fit the
audit or the layout of today's store, or cannot be read, the store is rebuilt from the beginning.

Examples
--------
>>> import tempfile
>>> class Audit:
...     def anchor(self): return 2, "digest"
...     def holds(self, sequence, digest): return (sequence, digest) == self.anchor()
>>> tokens = Tokens(b"a key that is long enough")
>>> with tempfile.TemporaryDirectory() as folder:
...     saved(Path(folder) / "state", {"cards": 3}, Audit(), tokens, "layout 1")
...     restored(Path(folder) / "state", Audit(), tokens, "layout 1")
({'cards': 3}, 2)
"""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any, Protocol

from casebook.serving.tokens import Tokens

log = logging.getLogger(__name__)


class Anchored(Protocol):
    """A log that says how many rows it has, the last one's hash, and whether a row has a hash."""

    def anchor(self) -> tuple[int, str]: ...

    def holds(self, sequence: int, digest: str) -> bool: ...


def saved(path: Path, store: Any, audit: Anchored, tokens: Tokens, layout: str) -> None:
    """Write a store that has seen all of the audit; whole or not at all, for its owner alone.

    ``layout`` names the code and the master data that the store was made of.
    """
    body = pickle.dumps((layout, *audit.anchor(), pickle.dumps(store)))
    part = Path(f"{path}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(tokens.sign(body).encode() + body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def restored(
    path: Path | None, audit: Anchored, tokens: Tokens, layout: str
) -> tuple[Any, int] | None:
    """Return a store and the row of the audit that it saw last; None where there is none to read.

    What hinders is logged: no snapshot keeps a service from starting.
    """
    if path is None or not path.exists():
        return None
    try:
        raw = path.read_bytes()
        if not tokens.signed(raw[64:], raw[:64].decode("ascii", errors="replace")):
            raise ValueError("it was not written with this key")
        was, count, digest, store = pickle.loads(raw[64:])
        if was != layout or (count and not audit.holds(count, digest)):
            raise ValueError("its layout or its audit is another")
        return pickle.loads(store), count
    except Exception as error:  # whatever a pickle of older code may raise
        log.warning("snapshot %s is left, the store is rebuilt: %r", path, error)
        return None
