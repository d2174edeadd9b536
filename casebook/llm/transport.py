"""The guard between the official client and the network: what goes out and what comes in.

The official client builds the request, decodes the stream and names the statuses. It reads answers
without a bound, unpacks every encoding, sends the machine's particulars and whatever its own
environment variables add, and logs headers. So the guard writes the headers itself, counts each
byte before it is kept, unpacks nothing, follows no redirect and ends an attempt at its deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from casebook.llm.errors import (
    AnswerTooLarge,
    ConfigurationError,
    ConnectionFailed,
    LLMError,
    MalformedJSON,
    Redirected,
    StreamCut,
    TimedOut,
)
from casebook.llm.schema import short
from casebook.llm.secrets import Address, Secrets
from casebook.llm.timing import Deadline, Timeout

if TYPE_CHECKING:
    import ssl

#: Bytes of an error's body that are read for its message.
ERROR_BYTES = 64 * 1024
#: Media type of a stream.
STREAM = "text/event-stream"
#: One event of a stream may take this part of the bound: decoding copies it several times.
EVENT_SHARE = 16
_KEPT = ("content-type", "retry-after")
_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")


@dataclass(eq=False)
class Guard(httpx.BaseTransport):
    """One attempt of a request.

    Attributes
    ----------
    inner : httpx.BaseTransport
        The way to the network.
    address, authorization, secrets, timeout, most
        Of the client: where to, the Authorization header, what is hidden, times, bytes.
    deadline : Deadline
        Of the attempt.
    error : LLMError, optional
        What was raised here: the official client wraps it.
    arrived : int
        Bytes of the body so far.
    kind : str
        Media type of the answer.
    done : bool
        Whether the stream ended with ``[DONE]``.
    """

    inner: httpx.BaseTransport
    address: Address
    authorization: str
    secrets: Secrets
    timeout: Timeout
    most: int
    deadline: Deadline
    error: LLMError | None = None
    arrived: int = 0
    kind: str = ""
    done: bool = False

    def __repr__(self) -> str:
        return f"Guard({self.address.shown})"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as the guard writes it, and return what may be seen of the answer."""
        try:
            response = self.inner.handle_request(self._outgoing(request.read()))
        except httpx.RequestError as error:
            raise self.kept(self.broken(error)) from None
        status, headers = response.status_code, response.headers
        self.kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        packed = headers.get("content-encoding", "identity").strip().lower() != "identity"
        if 300 <= status < 400 or (packed and status < 300):
            response.close()
            raise self.kept(self._refused(status, headers))
        shown = {name: headers[name] for name in _KEPT if name in headers}
        body = _Body(self, response, failed=status >= 400, empty=packed)
        return httpx.Response(status, headers=shown, stream=body)

    def _outgoing(self, body: bytes) -> httpx.Request:
        headers = {
            "Accept": f"application/json, {STREAM}",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "casebook",
        }
        if self.authorization:
            headers["Authorization"] = self.authorization
        times = httpx.Timeout(self.timeout.read, connect=self.timeout.connect).as_dict()
        extensions = {"timeout": times, "trace": self.deadline.trace}
        return httpx.Request(
            "POST", self.address.url, headers=headers, content=body, extensions=extensions
        )

    def kept(self, error: LLMError) -> LLMError:
        """Keep an error for whoever meets the official client's instead."""
        self.error = error
        return error

    def _refused(self, status: int, headers: httpx.Headers) -> LLMError:
        where = self.address.shown
        if status < 300:
            return MalformedJSON(
                f"The answer of {where} is compressed ({short(headers['content-encoding'], 60)}), "
                "which was not asked for. It was not unpacked: a few bytes can become gigabytes."
            )
        target = self.secrets.hide(_origin(headers.get("location", "")))
        return Redirected(
            f"{where} sends the request on ({status}) to {target}. The client does not follow, so "
            "that the key stays here: if that address is right, make it the base URL."
        )

    def broken(self, error: httpx.RequestError) -> LLMError:
        """Return what happened to the connection."""
        where = self.address.shown
        if self.deadline.passed or isinstance(error, httpx.TimeoutException):
            return self.too_late(error)
        reason = short(self.secrets.hide(str(error))).rstrip(".") or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return ConnectionFailed(
                f"{where} cannot be reached: {reason}. Is the server running, and is the base URL "
                "right?"
            )
        if self.kind == STREAM:
            return StreamCut(f"The stream of {where} broke: {reason}. Ask again.")
        return ConnectionFailed(
            f"The connection to {where} broke: {reason}. The server's log may say why."
        )

    def too_late(self, error: Exception | None = None) -> TimedOut:
        """Return the error of a time-out or of the deadline."""
        if isinstance(error, httpx.ConnectTimeout):
            what = f"was not reached within {self.timeout.connect:g} s"
        elif self.deadline.passed:
            what = f"was not done after the {self.timeout.attempt:g} s of an attempt"
        else:
            what = f"was silent for {self.timeout.read:g} s"
        return TimedOut(
            f"{self.address.shown} {what}. Is the model loaded, and is it too slow here? Allow it "
            "more time (CASEBOOK_LLM_TIMEOUT), or take a smaller one.",
            transient=not self.arrived,
        )


@dataclass
class _Body(httpx.SyncByteStream):
    """The bytes of an answer, counted; those of an error only as far as its message."""

    guard: Guard
    response: httpx.Response
    failed: bool
    empty: bool
    _open: int = 0
    _tail: bytes = field(default=b"", repr=False)

    def __iter__(self) -> Iterator[bytes]:
        if self.empty:
            return
        try:
            for piece in self.response.stream:
                yield self._counted(piece)
                if self.failed and self.guard.arrived >= ERROR_BYTES:
                    return
        except httpx.RequestError as error:
            if not self.failed:  # of an error's body, what came is enough
                raise self.guard.kept(self.guard.broken(error)) from None
        if self.guard.deadline.passed and not self.failed:
            # A body that ends with its connection would seem complete.
            raise self.guard.kept(self.guard.too_late())

    def _counted(self, piece: bytes) -> bytes:
        guard = self.guard
        guard.arrived += len(piece)
        if self.failed:
            return piece[: max(0, ERROR_BYTES - guard.arrived + len(piece))]
        most, what = guard.most, "answer"
        too_large = guard.arrived > most
        if guard.kind == STREAM and not too_large:
            too_large = self._event(piece) > max(most // EVENT_SHARE, 4096)
            most, what = max(most // EVENT_SHARE, 4096), "event of the stream"
        if too_large:
            raise guard.kept(
                AnswerTooLarge(
                    f"The {what} is larger than {most:,} bytes; the rest was not read. Set "
                    "max_tokens in the options of the client, or raise its max_bytes."
                )
            )
        return piece

    def _event(self, piece: bytes) -> int:
        """Return the bytes since the last blank line, which ends an event."""
        seen = self._tail + piece
        end = max(seen.rfind(mark) + len(mark) if mark in seen else 0 for mark in _ENDS)
        self._open = len(seen) - end if end else self._open + len(piece)
        self._tail = seen[-16:]
        self.guard.done = self.guard.done or b"data: [DONE]" in seen or b"data:[DONE]" in seen
        return self._open

    def close(self) -> None:
        """Close the connection."""
        self.response.close()


def way_out(url: str) -> httpx.HTTPTransport:
    """Return the way to the network: a new connection each time, no cookies, no redirects.

    Raises
    ------
    ConfigurationError
        If the environment names a proxy that is none.
    """
    limits = httpx.Limits(max_keepalive_connections=0)  # the deadline may cut a connection
    try:
        return httpx.HTTPTransport(verify=_certificates(), limits=limits, proxy=_proxy(url))
    except ValueError:
        raise ConfigurationError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no address of a proxy: give one such as "
            "http://proxy.example.org:3128."
        ) from None


@cache
def _certificates() -> ssl.SSLContext:
    """Return what servers are checked against; loading it costs more than a request."""
    return httpx.create_ssl_context()


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address; none for this machine."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if parts.hostname in ("localhost", "127.0.0.1", "::1") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _origin(url: str) -> str:
    """Return scheme and host of an address, which hold no key."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    return f"{parts.scheme}://{host}" if host else "another path of the same server"
