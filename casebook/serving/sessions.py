"""Sessions of a small server-rendered page: signed cookies, forms of its own alone, escaping.

A session is a cookie that names who logged in and until when, signed with a secret of the server.
It is ``HttpOnly`` (no script reads it) and ``SameSite=Strict`` (another site's page does not send
it). Each form carries a token that belongs to its session, and a request that another site began is
refused by its ``Origin``. The page runs no script at all: the content security policy forbids it.

Examples
--------
>>> sessions = Sessions(secret=b"a secret of the server", clock=lambda: 0.0)
>>> cookie = sessions.begin("who")
>>> sessions.who(cookie), sessions.who(cookie[:-1] + "A"), sessions.who("")
('who', None, None)
>>> sessions.fits(cookie, sessions.token(cookie)), sessions.fits(cookie, "guess")
(True, False)
>>> html("<p title='{x}'>{x}</p>", x="<script>'")
"<p title='&lt;script&gt;&#x27;'>&lt;script&gt;&#x27;</p>"
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from html import escape
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request, Response

from casebook.serving.refusals import Refusal

#: Of every page: it shows text and sends forms to its own server; nothing else is allowed.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Safe(str):
    """HTML that is right already; any other text is escaped."""

    __slots__ = ()


def html(template: str, /, **values: Any) -> Safe:
    """Fill a template; values are escaped unless they are :class:`Safe`."""
    shown = {k: v if isinstance(v, Safe) else escape(str(v)) for k, v in values.items()}
    return Safe(template.format(**shown))


def rows(template: str, items: Iterable[dict[str, Any]]) -> Safe:
    """Fill a template once for each item."""
    return Safe("".join(html(template, **item) for item in items))


class Sessions:
    """Signs and reads session cookies.

    Parameters
    ----------
    secret : bytes, optional
        Shared by the processes that serve one page; by default one of this process, whose
        sessions end with it.
    seconds : float
        How long a session lasts.
    name : str
        Of the cookie.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        secret: bytes | None = None,
        seconds: float = 8 * 3600,
        name: str = "session",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret, self._seconds = secret or secrets.token_bytes(32), seconds
        self.name, self._clock = name, clock

    def _sign(self, *parts: str) -> str:
        return hmac.new(self._secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()

    def begin(self, who: str) -> str:
        """Return the cookie of a new session."""
        if "." in who:
            raise ValueError(f"{who[:40]!r} holds a dot: give a name without one.")
        body = f"{who}.{int(self._clock() + self._seconds)}.{secrets.token_hex(16)}"
        return f"{body}.{self._sign('session', body)}"

    @staticmethod
    def number(cookie: str) -> tuple[str, float]:
        """Return the number of a session that :meth:`who` knows, and when it ends."""
        _, ends, number, _ = cookie.split(".")
        return number, float(ends)

    def who(self, cookie: str) -> str | None:
        """Return who logged in, or None for a cookie that is forged or has ended."""
        body, _, signed = cookie.rpartition(".")
        wanted = self._sign("session", body)
        if not hmac.compare_digest(signed.encode(), wanted.encode()):
            return None
        who, ends, _ = body.split(".")
        return who if float(ends) > self._clock() else None

    def token(self, cookie: str) -> str:
        """Return what the forms of a session carry."""
        return self._sign("form", cookie)

    def fits(self, cookie: str, token: str) -> bool:
        """Say whether a form was made for this session."""
        return hmac.compare_digest(self.token(cookie).encode(), token.encode())

    def put(self, response: Response, cookie: str, secure: bool) -> None:
        """Give a browser its cookie; an empty one ends the session there."""
        age = int(self._seconds) if cookie else 0
        response.set_cookie(
            self.name, cookie, max_age=age, httponly=True, samesite="strict", secure=secure
        )


def check_origin(request: Request) -> None:
    """Refuse a request that another site's page began.

    Raises
    ------
    Refusal
        403.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin and origin.partition("://")[2] != request.headers.get("host")
    if foreign or site not in (None, "same-origin", "none"):
        what = "Another site's page sent this form."
        raise Refusal(403, "wrong origin", what, "Open the page here and send it again.")


async def form_of(request: Request, most: int = 100_000, seconds: float = 10.0) -> dict[str, str]:
    """Return the fields of a form that this site's own page sent.

    Raises
    ------
    Refusal
        403 from another site, 408 for a form that does not come, 413 or 415 for what is no form of
        that size.
    """
    check_origin(request)
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise Refusal(415, "not a form", f"It is of type {kind[:60]!r}.", "Use the page's form.")
    raw = b""
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > most:
                    what = f"The form has more than {most:,} bytes."
                    raise Refusal(413, "too large", what, "Send less.")
    except TimeoutError:
        what = f"The form did not come within {seconds:g} s."
        raise Refusal(408, "too slow", what, "Send it again, in one piece.") from None
    try:
        fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Refusal(400, "no form", "The form cannot be read.", "Send it again.") from None
    return {name: values[0] for name, values in fields.items()}


def page(title: str, body: str, status: int = 200) -> Response:
    """Return a whole page; ``body`` is HTML, the title is escaped."""
    made = html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="style.css"></head><body><main>{body}</main></body></html>',
        title=title,
        body=Safe(body),
    )
    return Response(made, status, dict(HEADERS), "text/html; charset=utf-8")
