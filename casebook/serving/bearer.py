"""Signed tokens that say who asks, for a while, under keys that are changed without a gap.

A token is ``payload.signature`` in base64: the user, the second of issue and of expiry, and the
name of the key; the signature is an HMAC over the payload. What is not signed is not even parsed.
A token says who somebody *is*, never what he may see: rights change before a token expires.

:meth:`Ring.rotate` signs with a new key and goes on reading the old one until it is dropped:
at the latest when the last token under it has expired, at once when it was stolen.

Examples
--------
>>> ring = Ring("k1", b"a key of thirty-two bytes or more")
>>> bearer = Bearer(ring, clock=lambda: 1_000, seconds=900)
>>> token = bearer.issue("user:17")
>>> bearer.user(f"Bearer {token}")
'user:17'
>>> ring.rotate("k2", b"another key of thirty-two bytes..")
>>> bearer.user(f"Bearer {token}")
'user:17'
>>> ring.drop("k1")
>>> bearer.user(f"Bearer {token}")
Traceback (most recent call last):
...
casebook.serving.bearer.Refused: not signed by a key that is in force
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable

#: Characters of a token that are read, seconds that two clocks may differ.
LONGEST, SKEW = 1_000, 30
_SUBJECT = re.compile(r"user:[a-z0-9_.-]{1,80}", re.ASCII)
_KEY = re.compile(r"[a-z0-9-]{1,20}", re.ASCII)


class Refused(Exception):
    """A token that is not taken; the text says why, and nothing of what stood in it."""


class Ring:
    """The keys that are in force, by name; one of them signs.

    Parameters
    ----------
    name : str
        Of the key that signs.
    key : bytes
        32 or more, from a store of secrets.
    """

    def __init__(self, name: str, key: bytes) -> None:
        self._lock, self._keys, self.current = threading.Lock(), dict[str, bytes](), ""
        self.rotate(name, key)

    def __repr__(self) -> str:
        return f"Ring({', '.join(sorted(self._keys))}; {self.current} signs)"

    def rotate(self, name: str, key: bytes) -> None:
        """Sign with a new key from now on; the ones before are still read.

        Raises
        ------
        ValueError
            On a key that can be guessed, or a name that is taken or none.
        """
        if len(key) < 32:
            raise ValueError(f"a key of {len(key)} bytes: give 32 or more, drawn at random.")
        if not _KEY.fullmatch(name) or name in self._keys:
            raise ValueError(f"{name[:40]!r} is no name for a key, or is taken: {_KEY.pattern}.")
        with self._lock:
            self._keys[name], self.current = key, name

    def drop(self, name: str) -> None:
        """Read no tokens of a key any more.

        Raises
        ------
        ValueError
            For the key that signs: rotate first.
        """
        if name == self.current:
            raise ValueError(f"{name} signs: rotate to another key first.")
        with self._lock:
            self._keys.pop(name, None)

    def sign(self, name: str, what: bytes) -> bytes:
        """Return the signature of a text by a key; ``KeyError`` if it is not in force."""
        return hmac.new(self._keys[name], what, hashlib.sha256).digest()


class Bearer:
    """Issues tokens and reads them.

    Parameters
    ----------
    ring : Ring
    clock : callable
        Seconds since 1970.
    seconds : int
        For which a token holds.
    """

    def __init__(
        self, ring: Ring, clock: Callable[[], float] = time.time, seconds: int = 900
    ) -> None:
        if seconds < 1:
            raise ValueError(f"tokens of {seconds} s: give seconds above 0.")
        self.ring, self.clock, self.seconds = ring, clock, seconds

    def issue(self, user: str) -> str:
        """Return a token for a user whom somebody else has proved to be that one.

        Raises
        ------
        ValueError
            If it is no user.
        """
        if not _SUBJECT.fullmatch(user):
            raise ValueError(f"{user[:90]!r} is no {_SUBJECT.pattern}")
        now, name = int(self.clock()), self.ring.current
        told = {"exp": now + self.seconds, "iat": now, "key": name, "sub": user}
        payload = _encoded(json.dumps(told, separators=(",", ":")).encode())
        return f"{payload}.{_encoded(self.ring.sign(name, payload.encode()))}"

    def user(self, header: str | None) -> str:
        """Return whose token stands in a header ``Authorization``.

        Raises
        ------
        Refused
            If there is none, it was not signed here, is from tomorrow, or has expired.
        """
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("no token")
        payload, dot, signature = token.partition(".")
        if len(token) > LONGEST or not dot or not token.isascii():
            raise Refused("no token of this service")
        told = self._signed(payload, signature)
        now = self.clock()
        if told["iat"] > now + SKEW:
            raise Refused("issued in the future")
        if now >= told["exp"]:
            raise Refused("expired")
        return told["sub"]

    def _signed(self, payload: str, signature: str) -> dict:
        """Return a payload whose signature is right.

        The name of the key is read first, from a payload that may be anybody's; only a string that
        is one of the ring's names has an effect.
        """
        try:
            raw, given = _decoded(payload), _decoded(signature)
            told = json.loads(raw)
            right = self.ring.sign(told["key"], payload.encode())
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            raise Refused("not signed by a key that is in force") from None
        if not hmac.compare_digest(right, given):
            raise Refused("not signed by a key that is in force")
        return told


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encoded(raw) != text:  # another spelling of the same bytes
        raise ValueError("not canonical")
    return raw
