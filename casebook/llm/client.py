"""A client for every server that speaks OpenAI's chat-completions format.

It stands on httpx's transport and on no vendor's package: a chapter needs one request, and needs
to know exactly how often it is made, how long it may take and what an error says.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from casebook.llm import wire
from casebook.llm.errors import (
    AnswerTooLarge,
    ConfigurationError,
    ConnectionFailed,
    LLMError,
    MalformedJSON,
    Redirected,
    StreamCut,
    TimedOut,
    WrongShape,
)
from casebook.llm.messages import Chunk, Message, Reply, Request, ResponseFormat, Tool
from casebook.llm.schema import short
from casebook.llm.secrets import Secrets, address, keep_out_of_logs
from casebook.llm.timing import Budget, Deadline, Sources, Timeout, Tries, retry_after

if TYPE_CHECKING:
    import ssl

    import httpx

#: Bytes of an error's body that are read for its message.
ERROR_BYTES = 64 * 1024
#: Media type of a stream.
STREAM = "text/event-stream"


@dataclass
class _Exchange:
    """An answer that is arriving."""

    response: httpx.Response
    deadline: Deadline
    most: int
    arrived: int = 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, up to the bound."""
        import httpx

        for piece in self.response.iter_bytes():
            self.arrived += len(piece)
            if self.arrived > self.most:
                raise AnswerTooLarge(
                    f"The answer is larger than {self.most:,} bytes; the rest was not read. Set "
                    "max_tokens in the options of the client, or raise its max_bytes."
                )
            yield piece
        if self.deadline.passed:  # a body that ends with its connection would seem complete
            raise httpx.ReadTimeout("the deadline has passed")

    @property
    def kind(self) -> str:
        """The media type of the answer."""
        return self.response.headers.get("content-type", "").partition(";")[0].strip().lower()


class OpenAICompatible:
    """A language model behind a chat-completions server: a vendor, vLLM, Ollama, a gateway.

    Repeated are requests that met 429, 500, 502, 503 or 504, a connection that failed or broke,
    and a time-out before the first byte of the answer, all within the budget. Never repeated are
    other statuses, a time-out after the first byte (the model is at work: asking again doubles its
    load and the bill) and a stream of which something was passed on. Redirects are not followed.
    A client may be used by several threads; each attempt has a connection of its own.

    Parameters
    ----------
    base_url : str
        Such as ``http://localhost:11434/v1``. It may hold user and password or a query.
    model : str
        Name of the model there.
    key : str, optional
        Sent as a bearer token, to this host only. Of fewer than eight characters it counts as a
        placeholder, which is not searched for in messages.
    timeout : Timeout, optional
        Of one attempt; 120 s.
    budget : Budget, optional
        Of attempts; three.
    options : mapping, optional
        Further fields of each request, such as ``{"temperature": 0, "max_tokens": 500}``.
    max_bytes : int
        Bound of an answer.
    sources : Sources, optional
        Clock, wait and chance.

    Attributes
    ----------
    name : str
        The model.
    shown_url : str
        The base URL without what must not be seen.

    Raises
    ------
    ConfigurationError
        If a parameter is wrong; keys and addresses are not repeated.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str | None = None,
        *,
        timeout: Timeout | None = None,
        budget: Budget | None = None,
        options: Mapping[str, Any] | None = None,
        max_bytes: int = 8_000_000,
        sources: Sources | None = None,
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise ConfigurationError("The model has no name: give one that the server knows.")
        if key is not None and not (isinstance(key, str) and re.fullmatch(r"[!-~]+", key)):
            raise ConfigurationError(
                "The key holds a blank, a line break or a character that is not ASCII: give it as "
                "the vendor shows it."
            )
        if not isinstance(max_bytes, int) or max_bytes < 1:
            raise ConfigurationError(f"max_bytes is {max_bytes!r}: give a count, at least 1.")
        self.name = model
        self.timeout = timeout or Timeout()
        self.budget = budget or Budget()
        self._options = dict(options or {})
        if said := sorted(wire.RESERVED & self._options.keys()):
            raise ConfigurationError(f"The client sets {', '.join(said)} itself; not in options.")
        try:
            json.dumps(self._options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"The options are no JSON: {error}.") from None
        self._address = address(base_url)
        self.shown_url = self._address.shown
        self._secrets = Secrets([*([key] if key else []), *self._address.hidden])
        self._authorization = _Hidden(f"Bearer {key}" if key else self._address.basic)
        self._max_bytes = max_bytes
        self._sources = sources or Sources()
        self._lock = threading.Lock()
        self._transport: httpx.HTTPTransport | None = None

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.shown_url!r}, {self.name!r})"

    def __reduce__(self) -> tuple:
        raise TypeError("A client holds a key and is not pickled: make one where it is used.")

    # Questions ---------------------------------------------------------------------------

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the whole answer to a conversation.

        Parameters
        ----------
        messages : sequence of Message
            The conversation; each tool call in it is answered.
        tools : sequence of Tool
            What the model may call.
        response_format : ResponseFormat, optional
            The JSON that the answer must be.

        Returns
        -------
        Reply
            Its tool calls and its structured output are checked.

        Raises
        ------
        TypeError, ValueError
            If the request is wrong; nothing was sent.
        LLMError
            If there is no answer that can be used; see :mod:`casebook.llm.errors`.
        """
        request = Request(tuple(messages), tuple(tools), response_format)
        body = self._body(request, stream=False)
        tries = Tries(self.budget, self._sources)
        while True:
            try:
                with self._attempt(body) as exchange:
                    text = b"".join(exchange.pieces())
                with self._hiding():
                    return wire.read_reply(wire.load(text, "The answer"), request, self.name)
            except LLMError as error:
                tries.failed(error)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the answer in pieces; the last one holds the whole, checked reply.

        Parameters, returns and errors are those of :meth:`complete`. A wrong request raises at
        once; an error after a piece was passed on holds the text so far in ``so_far``. Closing
        the iterator closes the connection.
        """
        request = Request(tuple(messages), tuple(tools), response_format)
        return self._streamed(request, self._body(request, stream=True))

    def _streamed(self, request: Request, body: bytes) -> Iterator[Chunk]:
        tries = Tries(self.budget, self._sources)
        while True:
            passed: list[str] = []
            try:
                for chunk in self._streamed_once(request, body):
                    passed.append(chunk.text)
                    yield chunk
                return
            except LLMError as error:
                error.so_far = self._secrets.hide("".join(passed))
                tries.failed(error)

    def _streamed_once(self, request: Request, body: bytes) -> Iterator[Chunk]:
        with self._attempt(body) as exchange, self._hiding():
            if exchange.kind != STREAM:
                raise WrongShape(
                    f"The answer's type is {short(exchange.kind, 60) or 'not given'}, not "
                    f"{STREAM}. {wire.NOT_A_COMPLETION}"
                )
            assembly = wire.Assembly(request, self.name)
            for data in wire.events(exchange.pieces()):
                if text := assembly.add(data):
                    yield Chunk(text)
                if assembly.done:
                    break
        with self._hiding():
            reply = assembly.reply()
        yield Chunk(reply=reply)

    # The way there and back --------------------------------------------------------------

    def _body(self, request: Request, *, stream: bool) -> bytes:
        fields = wire.body(self.name, request, stream=stream, options=self._options)
        return json.dumps(fields).encode()

    @contextmanager
    def _hiding(self) -> Iterator[None]:
        """Take the secrets out of errors that quote the server."""
        try:
            yield
        except LLMError as error:
            error.args = (self._secrets.hide(str(error.args[0])),)
            raise

    @contextmanager
    def _attempt(self, body: bytes) -> Iterator[_Exchange]:
        """Ask once; an error says what happened on the way."""
        import httpx

        exchange = None
        with Deadline(self.timeout.attempt) as deadline:
            try:
                response = self._pool().handle_request(self._request(body, deadline))
                exchange = _Exchange(response, deadline, self._max_bytes)
                try:
                    self._check_status(response)
                    yield exchange
                finally:
                    response.close()
            except httpx.RequestError as error:
                if deadline.passed or isinstance(error, httpx.TimeoutException):
                    arrived = exchange is not None and exchange.arrived > 0
                    raise self._too_late(error, deadline, arrived) from None
                raise self._broken(error, exchange) from None

    def _request(self, body: bytes, deadline: Deadline) -> httpx.Request:
        import httpx

        headers = {
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "casebook",
        }
        if authorization := self._authorization.value:
            headers["Authorization"] = authorization
        timeout = httpx.Timeout(self.timeout.read, connect=self.timeout.connect).as_dict()
        return httpx.Request(
            "POST",
            self._address.url,
            headers=headers,
            content=body,
            extensions={"timeout": timeout, "trace": deadline.trace},
        )

    def _pool(self) -> httpx.HTTPTransport:
        """Return the transport: it follows no redirects, keeps no cookies and logs no URL."""
        import httpx

        with self._lock:
            if self._transport is None:
                keep_out_of_logs(self._secrets)
                # One connection for each attempt: the deadline may cut it.
                limits = httpx.Limits(max_keepalive_connections=0)
                try:
                    self._transport = httpx.HTTPTransport(
                        verify=_certificates(), limits=limits, proxy=_proxy(self._address.url)
                    )
                except ValueError:
                    raise ConfigurationError(
                        "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no address of a proxy: give one "
                        "such as http://proxy.example.org:3128."
                    ) from None
            return self._transport

    def close(self) -> None:
        """Close what is open; the client can be used again."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def __enter__(self) -> OpenAICompatible:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What went wrong ---------------------------------------------------------------------

    def _check_status(self, response: httpx.Response) -> None:
        """Raise the error of a status that is no success."""
        status = response.status_code
        if status < 300:
            return
        if status < 400:
            raise Redirected(
                f"{self.shown_url} sends the request on ({status}) to "
                f"{self._secrets.hide(_origin(response.headers.get('location', '')))}. The client "
                "does not follow, so that the key stays here: if that address is right, make it "
                "the base URL."
            )
        error = wire.status_error(status, self._said(response))
        error.retry_after = retry_after(response.headers.get("retry-after"), self._sources.now())
        raise error

    def _said(self, response: httpx.Response) -> str:
        """Return what the server says about its error, without secrets; never raises."""
        import httpx

        text = b""
        with suppress(httpx.RequestError):
            for piece in response.iter_bytes():
                text += piece
                if len(text) >= ERROR_BYTES:
                    break
        try:
            said = wire.error_text(wire.load(text, "The error"))
        except MalformedJSON:
            said = text.decode("utf-8", "replace").strip()
            said = "" if said.startswith("<") else said  # a page of HTML
        return self._secrets.hide(said)

    def _too_late(self, error: Exception, deadline: Deadline, arrived: bool) -> TimedOut:
        import httpx

        where = self.shown_url
        if isinstance(error, httpx.ConnectTimeout):
            what = f"{where} was not reached within {self.timeout.connect:g} s"
        elif deadline.passed:
            what = f"{where} was not done after the {self.timeout.attempt:g} s of an attempt"
        else:
            what = f"{where} was silent for {self.timeout.read:g} s"
        return TimedOut(
            f"{what}. Is the model loaded, and is it too slow here? Allow it more time "
            "(CASEBOOK_LLM_TIMEOUT), or take a smaller one.",
            transient=not arrived,
        )

    def _broken(self, error: Exception, exchange: _Exchange | None) -> LLMError:
        import httpx

        if isinstance(error, httpx.DecodingError):
            return MalformedJSON(f"The compressed answer of {self.shown_url} cannot be read.")
        reason = short(self._secrets.hide(str(error))).rstrip(".") or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return ConnectionFailed(
                f"{self.shown_url} cannot be reached: {reason}. Is the server running, and is the "
                "base URL right?"
            )
        if exchange is not None and exchange.kind == STREAM:
            return StreamCut(f"The stream of {self.shown_url} broke: {reason}. Ask again.")
        return ConnectionFailed(
            f"The connection to {self.shown_url} broke: {reason}. The server's log may say why."
        )


class _Hidden:
    """A value that does not show itself."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "[hidden]"


@cache
def _certificates() -> ssl.SSLContext:
    """Return what servers are checked against; loading it costs more than a request."""
    import httpx

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
