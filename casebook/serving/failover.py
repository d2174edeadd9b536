"""Failover: a chain of models, repeats with a budget, a breaker for each model, time-outs.

The wanted model is asked first, then the others of the chain. Whatever reaches a provider that this
request has asked before draws on the *retry budget*
(:mod:`casebook.serving.provider_health`): the same model once more, and the next model of a chain
that stays with its provider. Another provider is asked without it. All this ends with the first
piece of an answer: after it another model cannot take over, and a stream that breaks is an error.

A breaker belongs to a model, not to its provider: one model can be overloaded while the others of
its provider are well. A body is written before a breaker is asked, so that a request that cannot be
sent says nothing about anybody's health.

Examples
--------
>>> written({"say": "é"})
b'{"say":"\\xc3\\xa9"}'
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from typing import Any

import httpx

from casebook.llm.adapters import (
    ADAPTERS,
    END,
    KINDS,
    LARGEST,
    NOTHING,
    Delta,
    ModelRequest,
    ProviderError,
    error_of,
    loaded,
)
from casebook.llm.providers import Model, Provider
from casebook.llm.sse import events
from casebook.serving.fair import Full
from casebook.serving.provider_health import Probe, ProviderHealth, RetryBudget
from casebook.serving.refusals import Refusal

__all__ = ["Answer", "Caller", "RetryBudget"]

#: What is entered while a provider works: its queue. It may raise a :class:`ProviderError`.
Turn = Callable[[Provider, Model], AbstractAsyncContextManager]
#: Says that a provider's 429 of before still holds.
KEPT = "kept"
#: Seconds before a second attempt, at most.
BACK_OFF = 0.2
#: Seconds for which the end of a connection is waited for, after that of its answer.
LINGER = 0.05
#: Failures of attempts that were not sent, and of those for which a provider may charge.
UNSENT, CHARGED = ("open", "busy", "limited"), ("timeout", "cut", "malformed")


class Answer:
    """An answer that has begun.

    Attributes
    ----------
    model : Model
        Which answers.
    """

    def __init__(self, model: Model, first: Delta, rest: AsyncIterator[Delta]) -> None:
        self.model, self._first, self._rest = model, first, rest

    async def pieces(self) -> AsyncIterator[Delta]:
        """Yield the pieces; :class:`ProviderError` if they break off."""
        yield self._first
        async for piece in self._rest:
            yield piece

    async def close(self) -> None:
        """Leave the provider, whether the answer is complete or not."""
        await self._rest.aclose()


class Caller:
    """Asks providers over kept connections.

    Parameters
    ----------
    providers : callable
        Returns the providers that hold now, by name.
    environ : mapping
        Where the keys of providers are.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        providers: Callable[[], Mapping[str, Provider]],
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers, self._environ, self._clock = providers, environ, clock
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        self._client = httpx.AsyncClient(limits=limits, timeout=None, trust_env=False)
        self.health: dict[str, ProviderHealth] = {}
        self.budget = RetryBudget()
        self.counts: Counter[tuple[str, str]] = Counter()
        self._limited: dict[str, float] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(
        self,
        chain: Sequence[Model],
        asked: ModelRequest,
        turn: Turn = lambda *_: nullcontext(),
        tried: list[tuple[str, str]] | None = None,
    ) -> Answer:
        """Return the first answer that begins, of the models of a chain in their order.

        ``turn`` returns what is entered for a provider and a model while they work; ``tried`` is
        told model and kind of failure of each attempt that failed.

        Raises
        ------
        Refusal
            When nobody answers: 400, 429, 502, 503 or 504.
        """
        tried, waits, sent = ([] if tried is None else tried), [], set()
        self.budget.earn()
        for model in chain:
            for attempt in (0, 1):
                if model.provider in sent and not self.budget.take():
                    self.counts[model.provider, "spared"] += 1
                    break
                if attempt:
                    await asyncio.sleep(random.uniform(0.5, 1) * BACK_OFF)
                try:
                    return await self._attempt(model, asked, turn)
                except ProviderError as failure:
                    tried.append((model.name, failure.kind))
                    self.counts[model.provider, failure.kind] += 1
                    waits += [failure.wait] if failure.wait else []
                    was_sent = failure.kind not in UNSENT and failure.detail != KEPT
                    sent |= {model.provider} if was_sent else set()
                    if not KINDS[failure.kind]:
                        break
            if tried and tried[-1][1] == "bad_request":  # nobody else is asked
                break
        raise _refused(tried, waits)

    async def _attempt(self, model: Model, asked: ModelRequest, turn: Turn) -> Answer:
        """Ask one model once; return when its first piece is there."""
        now, provider = self._clock(), self._providers()[model.provider]
        if (until := self._limited.get(model.name, 0)) > now:
            raise ProviderError("rate_limited", KEPT, until - now)
        body = written(ADAPTERS[provider.format].body(asked, model.upstream))
        sent = self._sent(provider, body, asked.stream, asked.max_tokens)
        rest = self._pieces(model, sent, turn, asked.stream)
        try:
            first = await anext(rest)
        except ProviderError as failure:
            if failure.kind == "rate_limited":
                self._limited[model.name] = self._clock() + (failure.wait or 1.0)
            raise
        return Answer(model, first, rest)

    def _health(self, model: Model) -> ProviderHealth:
        if (health := self.health.get(model.name)) is None:
            health = self.health[model.name] = ProviderHealth(clock=self._clock)
        return health

    async def _pieces(
        self, model: Model, pieces: AsyncIterator[Delta], turn: Turn, stream: bool
    ) -> AsyncIterator[Delta]:
        """Yield a model's pieces, and tell its breaker how that went.

        Only what the provider takes counts against its time, not a client that reads slowly.
        """
        provider = self._providers()[model.provider]
        spent, patience, ended = 0.0, provider.first_s if stream else provider.total_s, False
        async with AsyncExitStack() as stack:
            await _queue(stack, turn(provider, model), provider.first_s)
            call = Probe(self._health(model))
            try:
                while True:
                    began = self._clock()
                    async with asyncio.timeout(min(patience, provider.total_s - spent)):
                        piece = await _next(pieces)
                    spent += self._clock() - began
                    if piece is None:
                        break
                    call.lives()
                    patience, ended = provider.idle_s, ended or piece.finish is not None
                    yield piece
                if not ended:
                    raise ProviderError("cut", "the stream ended before its answer")
            except (ProviderError, TimeoutError, ValueError, httpx.HTTPError) as error:
                failure = _failure(error, call.begun)
                call.failed(failure.kind)
                raise failure from None
            finally:
                call.forget()
                await pieces.aclose()

    async def _sent(
        self, provider: Provider, body: bytes, stream: bool, most: int
    ) -> AsyncIterator[Delta]:
        """Send a request and yield what comes, as it comes."""
        adapter = ADAPTERS[provider.format]
        headers = adapter.headers(self._environ.get(provider.key_env, ""))
        headers = {"content-type": "application/json", **headers}
        url = provider.url.rstrip("/") + adapter.path
        async with self._client.stream("POST", url, content=body, headers=headers) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, response.headers.get("retry-after"))
            if not stream:
                yield adapter.whole(loaded(await _read(response)))
                return
            batches = events(response.aiter_bytes())
            async for piece in _joined(adapter, batches, most):
                yield piece
            with suppress(TimeoutError):  # only a connection that was read to its end is kept
                async with asyncio.timeout(LINGER):
                    async for _ in batches:
                        pass


def written(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON in UTF-8.

    Raises
    ------
    Refusal
        422 for what JSON cannot hold; no provider is asked.
    """
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError):
        what = "The request holds a number or a sign that JSON cannot hold, or nests too deeply."
        raise Refusal(422, "invalid request", what, "Correct its tools and calls.") from None


async def _joined(
    adapter: Any, batches: AsyncIterator[Sequence[str]], most: int
) -> AsyncIterator[Delta]:
    """Yield what events add, those that came together as one, up to the end of the answer.

    What comes beyond ``most`` events is never joined with what comes before.
    """
    passed = 0
    async for together in batches:
        piece, failure, event = NOTHING, None, NOTHING
        for data in together:
            try:
                if (event := adapter.event(data)) is END:
                    break
            except ProviderError as raised:
                failure = raised
                break
            if piece.n and passed + piece.n + event.n > most:
                yield piece
                passed, piece = passed + piece.n, NOTHING
            piece = piece.joined(event)
        if piece != NOTHING:
            passed += piece.n
            yield piece
        if failure:
            raise failure
        if event is END:
            return


async def _queue(stack: AsyncExitStack, turn: AbstractAsyncContextManager, seconds: float) -> None:
    """Wait for a turn, which ends with the stack."""
    try:
        async with asyncio.timeout(seconds):
            await stack.enter_async_context(turn)
    except (Full, TimeoutError):
        raise ProviderError("busy", "", 1.0) from None


async def _next(pieces: AsyncIterator[Delta]) -> Delta | None:
    """Return the next piece, or None at the end."""
    try:  # a piece is a tuple, which `anext` cannot take as its default
        return await anext(pieces)
    except StopAsyncIteration:
        return None


def _failure(error: Exception, begun: bool) -> ProviderError:
    """Return what an error of the connection is."""
    name = type(error).__name__
    match error:
        case ProviderError():
            return error
        case TimeoutError():
            return ProviderError("timeout")
        case ValueError():
            return ProviderError("malformed", "no events")
        case httpx.ConnectError():
            return ProviderError("unreachable", name)
    return ProviderError("cut" if begun else "failed", name)


async def _read(response: httpx.Response) -> bytes:
    raw = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            raw += chunk
            if len(raw) > LARGEST:
                raise ProviderError("malformed", "the answer is too large")
    except httpx.HTTPError as error:  # it was at work, so it may charge for it
        raise ProviderError("cut", type(error).__name__) from None
    return bytes(raw)


def _refused(tried: Sequence[tuple[str, str]], waits: Sequence[float]) -> Refusal:
    """Return what a client is told when nobody answered: by the last failure, and who failed."""
    last = {kind for _, kind in tried}
    what = f"No model answered ({', '.join(f'{name}: {kind}' for name, kind in tried)})."
    wait = min(waits, default=1.0)
    again: dict[str, Any] = {"do": "Send it again later.", "wait": wait}
    if tried[-1][1] == "bad_request":
        do = "Check the length of the conversation and the options."
        return Refusal(400, "provider refused", "The provider refused the request.", do)
    if last <= {"rate_limited", "busy", "limited"}:
        return Refusal(429, "providers busy", what, **again)
    if last <= {"open", "unreachable", "rate_limited", "busy", "limited", "unauthorized"}:
        return Refusal(503, "no provider", what, **again)
    if tried[-1][1] == "timeout":
        return Refusal(504, "provider late", what, **again)
    return Refusal(502, "provider failed", what, **again)
