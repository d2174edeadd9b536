"""What stands in the bank's systems in place of a card number, and the key it is made with."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

#: Digits in a row that may be a card number are not told back.
_DIGITS = re.compile(r"\d(?:[ -]?\d){11,}")


class Tokens:
    """Card number → token: the same for the same card and key, and no way back without the key.

    Parameters
    ----------
    key : bytes
        16 or more, kept where the audit is not.

    Examples
    --------
    >>> tokens = Tokens(b"a key that is long enough")
    >>> tokens(4111111111111111) == tokens(4111111111111111) != tokens(4111111111111112)
    True
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError(f"a key of {len(key)} bytes can be guessed: give 16 or more.")
        self._key = key

    def __call__(self, card: int) -> int:
        """Return the token, a whole number below 2**53."""
        return int(self.sign(b"card %d" % card)[:13], 16)

    def sign(self, what: bytes) -> str:
        """Return the HMAC-SHA256 of what only the key's owner can have written."""
        return hmac.new(self._key, what, hashlib.sha256).hexdigest()

    def signed(self, what: bytes, signature: str) -> bool:
        """Say whether a signature is of this."""
        return hmac.compare_digest(self.sign(what), signature)


def key_at(path: Path | str) -> bytes:
    """Return the key in a file, readable by its owner alone; a new one where there is none.

    A new one is whole on disk before it has its name. A bank keeps it in a module of its own,
    which never hands it out.
    """
    path = Path(path)
    if not path.exists():
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(os.urandom(32).hex().encode())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another start was quicker: its key counts
                os.link(part, path)
        finally:
            os.unlink(part)
    return bytes.fromhex(path.read_text("ascii"))


def without_numbers(text: str) -> str:
    """Return a text in which what may be a card number is crossed out.

    >>> without_numbers("customer is 4111-1111 1111 1111, 12 days")
    'customer is [number], 12 days'
    """
    return _DIGITS.sub("[number]", text)
