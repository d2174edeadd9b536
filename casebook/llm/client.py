"""A client for every server that speaks OpenAI's chat-completions format.

The official client asks, tenacity repeats, and :mod:`casebook.llm.transport` stands between them
and the network. What is read from an answer is in :mod:`casebook.llm.wire`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from casebook.llm import wire
from casebook.llm.errors import (
    ConfigurationError,
    ConnectionFailed,
    LLMError,
    MalformedJSON,
    WrongShape,
)
from casebook.llm.messages import Chunk, Message, Reply, Request, ResponseFormat, Tool
from casebook.llm.schema import short
from casebook.llm.secrets import Secrets, address, keep_out_of_logs
from casebook.llm.timing import Budget, Deadline, Sources, Timeout, retry_after, retrying

if TYPE_CHECKING:
    import httpx
    import openai

    from casebook.llm.transport import Guard


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
        Bound of an answer. The memory that one takes is at most four times as large.
    sources : Sources, optional
        Clock, wait and chance.

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
        """Return the whole answer to a conversation; its calls and its JSON are checked.

        Raises
        ------
        TypeError, ValueError
            If the request is wrong; nothing was sent.
        LLMError
            If there is no answer that can be used; see :mod:`casebook.llm.errors`.
        """
        request = Request(tuple(messages), tuple(tools), response_format)
        body = self._body(request, stream=False)
        return retrying(self.budget, self._sources)(self._completed_once, request, body)

    def _completed_once(self, request: Request, body: bytes) -> Reply:
        import httpx

        with self._attempt() as (client, guard):
            answer = client.post("/chat/completions", cast_to=httpx.Response, content=body)
            kind, content = guard.kind, answer.content
            if kind and kind != "application/json" and not kind.endswith("+json"):
                raise MalformedJSON(
                    f"The answer's type is {short(kind, 60)}, not application/json. "
                    f"{wire.NOT_A_COMPLETION}"
                )
            wire.check_size(content, self._max_bytes)
            return wire.read_reply(wire.load(content, "The answer"), request, self.name)

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
        def begin() -> tuple[Chunk, Iterator[Chunk]]:
            pieces = self._streamed_once(request, body)
            return next(pieces), pieces

        tries, start = retrying(self.budget, self._sources), self._sources.clock()
        first, rest = tries(begin)  # what was passed on is never asked for again
        passed: list[str] = []
        try:
            for chunk in chain([first], rest):
                passed.append(chunk.text)
                yield chunk
        except LLMError as error:
            error.so_far = self._secrets.hide("".join(passed))
            error.attempts = tries.statistics["attempt_number"]
            error.seconds = self._sources.clock() - start
            raise
        finally:
            rest.close()

    def _streamed_once(self, request: Request, body: bytes) -> Iterator[Chunk]:
        import openai

        with self._attempt() as (client, guard):
            events = client.post(
                "/chat/completions",
                cast_to=object,
                content=body,
                stream=True,
                stream_cls=openai.Stream[object],
            )
            with events:
                if guard.kind != "text/event-stream":
                    raise WrongShape(
                        f"The answer's type is {short(guard.kind, 60) or 'not given'}, not "
                        f"text/event-stream. {wire.NOT_A_COMPLETION}"
                    )
                assembly = wire.Assembly(request, self.name, self._max_bytes)
                for event in events:
                    if text := assembly.add(event):
                        yield Chunk(text)
                reply = assembly.reply(guard.done)
        yield Chunk(reply=reply)

    def _body(self, request: Request, *, stream: bool) -> bytes:
        fields = wire.body(self.name, request, stream=stream, options=self._options)
        return json.dumps(fields).encode()

    # The way there and back --------------------------------------------------------------

    @contextmanager
    def _attempt(self) -> Iterator[tuple[openai.OpenAI, Guard]]:
        """Offer the official client for one attempt; an error says what happened on the way."""
        import httpx
        import openai

        from casebook.llm.transport import Guard

        with Deadline(self.timeout.attempt) as deadline, self._hiding():
            guard = Guard(
                self._pool(), self._address, self._authorization.value, self._secrets,
                self.timeout, self._max_bytes, deadline,
            )  # fmt: skip
            # It gets neither the key nor the address: the guard writes both.
            client = openai.OpenAI(
                api_key="kept-by-the-guard",
                base_url="http://model.invalid/v1",
                max_retries=0,
                http_client=httpx.Client(transport=guard, trust_env=False, follow_redirects=False),
            )
            try:
                yield client, guard
            except openai.APIStatusError as error:
                raise self._status(error) from None
            except openai.APIConnectionError as error:
                kept = guard.error or ConnectionFailed(f"The request failed: {error.__cause__!r}.")
                raise kept from None
            except openai.APIError as error:  # an event of the stream reports it
                raise wire.inner_error({"error": error.body}) from None
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
                raise MalformedJSON(
                    f"A piece of the stream is not JSON: {reason}. {wire.NOT_A_COMPLETION}"
                ) from None

    def _status(self, error: openai.APIStatusError) -> LLMError:
        """Return the error of a status that is no success, with what the server says."""
        said = wire.error_text(error.body)
        if error.body is None or isinstance(error.body, str):
            text = error.response.text.strip()
            said = "" if text.startswith("<") else " ".join(text[:2000].split())  # no page of HTML
        failed = wire.status_error(error.status_code, self._secrets.hide(said))
        asks = error.response.headers.get("retry-after")
        failed.retry_after = retry_after(asks, self._sources.now())
        return failed

    @contextmanager
    def _hiding(self) -> Iterator[None]:
        """Take the secrets out of errors that quote the server."""
        try:
            yield
        except LLMError as error:
            error.args = (self._secrets.hide(str(error.args[0])),)
            raise

    def _pool(self) -> httpx.HTTPTransport:
        """Return the way to the network, made at the first request."""
        from casebook.llm.transport import way_out

        with self._lock:
            if self._transport is None:
                keep_out_of_logs(self._secrets)
                self._transport = way_out(self._address.url)
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


class _Hidden:
    """A value that does not show itself."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "[hidden]"
