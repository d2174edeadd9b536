"""A snapshot of the store, so that a start need not read the whole audit.

It is signed: a pickle that somebody else has written is never opened. Where it does not fit the
audit, the store is rebuilt from the beginning.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from casebook.cases.card_fraud.audit import Audit
from casebook.serving.tokens import Tokens


def saved(path: Path, store: Any, audit: Audit, tokens: Tokens) -> None:
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


def restored(path: Path | None, audit: Audit, tokens: Tokens) -> tuple[Any, int] | None:
    """Return a store and the row of the audit that it saw last; None where there is none."""
    if path is None or not path.exists():
        return None
    raw = path.read_bytes()
    signature, body = raw[:64], raw[64:]
    if not tokens.signed(body, signature.decode("ascii", errors="replace")):
        return None
    count, digest, store = pickle.loads(body)
    return (store, count) if count == 0 or audit.holds(count, digest) else None
