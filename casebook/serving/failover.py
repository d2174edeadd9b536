"""Failover: a chain of models, retries with a budget, a breaker for each provider, time-outs.

The wanted model is asked first. What fails is asked once more if the *retry budget* has something
left (a tenth of all calls): without one, retries multiply the load of a provider that is down
already. Then the next model of the chain is asked. All this ends with the first piece of an answer:
after it another model cannot take over, and a stream that breaks is an error.

Examples
--------
>>> budget = RetryBudget(share=0.1, least=1)
>>> [budget.take() for _ in range(2)]
[True, False]
>>> for _ in range(10):
...     budget.earn()
>>> budget.take()
True
"""

from __future__ import annotations

import asyncio
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
from casebook.serving.breaker import Breaker
from casebook.serving.fair import Full
from casebook.serving.refusals import Refusal

Turn = Callable[[Provider], AbstractAsyncContextManager]
#: ProviderErrors of the last calls that open a breaker (5 %), and seconds until it is tried again.
FAILURES, WINDOW, COOL_OFF = 5, 100, 5.0
#: Seconds before a second attempt, at most.
BACK_OFF = 0.2
#: Seconds for which the end of a connection is waited for, after that of its answer.
LINGER = 0.05
#: What says something about a provider's health.
UNWELL = ("failed", "unreachable", "timeout", "malformed", "cut")


class RetryBudget:
    """Retries that may be made: a share of the calls, and a few at the start."""

    def __init__(self, share: float = 0.1, least: float = 10.0) -> None:
        self.share, self.most, self.left = share, max(least, 100 * share), least

    def earn(self) -> None:
        """Count a call."""
        self.left = min(self.most, self.left + self.share)

    def take(self) -> bool:
        """Take a retry, if there is one."""
        if self.left < 1 - 1e-9:
            return False
        self.left -= 1
        return True


class ProviderHealth(Breaker):
    """The breaker of the toolbox for calls that an event loop waits for."""

    def admit(self) -> int:
        """Return the generation of a call that may be made.

        Raises
        ------
        ProviderError
            ``open``, with the seconds until a probe.
        """
        generation = self._admit()
        if generation is None:
            left = self.cool_off - (self._clock() - self._since)
            raise ProviderError("open", "", max(1.0, left))
        return generation

    def record(self, generation: int, why: str) -> None:
        """Count a call that has ended."""
        self._record(generation, why, why)

    def forget(self, generation: int) -> None:
        """Let a call count for nothing: its client went away."""
        with self._lock:
            if generation == self._generation:
                self._probing = False


class Probe:
    """One call, as its provider's breaker hears of it.

    Raises
    ------
    ProviderError
        ``open`` if the breaker lets no call through.
    """

    def __init__(self, health: ProviderHealth) -> None:
        self._health, self._generation = health, health.admit()
        self.begun = self._told = False

    def lives(self) -> None:
        """Tell of the first piece: a long answer is no longer a probe."""
        if not self._told:
            self._health.record(self._generation, "")
        self.begun = self._told = True

    def failed(self, kind: str) -> None:
        """Tell of a failure; a provider that refuses is well."""
        if kind in UNWELL or not self._told:
            self._health.record(self._generation, kind if kind in UNWELL else "")
        self._told = True

    def forget(self) -> None:
        """Tell of the end: a call of which nothing was told has lost its client."""
        if not self._told:
            self._health.forget(self._generation)


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
        turn: Turn = lambda _: nullcontext(),
        tried: list[tuple[str, str]] | None = None,
    ) -> Answer:
        """Return the first answer that begins.

        Parameters
        ----------
        chain : sequence of Model
            Whom to ask, in this order.
        asked : ModelRequest
        turn : callable
            Returns what is entered for a provider while it works: its queue.
        tried : list, optional
            Is told model and kind of failure of each attempt that failed.

        Raises
        ------
        Refusal
            When nobody answers: 400, 429, 502, 503 or 504.
        """
        tried, waits = ([] if tried is None else tried), []
        self.budget.earn()
        for model in chain:
            for attempt in (0, 1):
                try:
                    return await self._attempt(model, asked, turn)
                except ProviderError as failure:
                    tried.append((model.name, failure.kind))
                    self.counts[model.provider, failure.kind] += 1
                    waits += [failure.wait] if failure.wait else []
                    if failure.kind == "bad_request":
                        raise _refused(tried, waits) from None
                    if attempt or not KINDS[failure.kind] or not self.budget.take():
                        break
                    await asyncio.sleep(random.uniform(0.5, 1) * BACK_OFF)
        raise _refused(tried, waits)

    async def _attempt(self, model: Model, asked: ModelRequest, turn: Turn) -> Answer:
        """Ask one model once; return when its first piece is there."""
        now = self._clock()
        if (until := self._limited.get(model.name, 0)) > now:
            raise ProviderError("rate_limited", "", until - now)
        rest = self._pieces(model, asked, turn)
        try:
            first = await anext(rest)
        except ProviderError as failure:
            if failure.kind == "rate_limited":
                self._limited[model.name] = self._clock() + (failure.wait or 1.0)
            raise
        return Answer(model, first, rest)

    def _health(self, provider: Provider) -> ProviderHealth:
        if (health := self.health.get(provider.name)) is None:
            rules = {"failures": FAILURES, "window": WINDOW, "cool_off": COOL_OFF}
            health = self.health[provider.name] = ProviderHealth(**rules, clock=self._clock)
        return health

    async def _pieces(self, model: Model, asked: ModelRequest, turn: Turn) -> AsyncIterator[Delta]:
        """Yield a model's pieces, and tell its provider's breaker how that went.

        Only what the provider takes counts against its time, not a client that reads slowly.
        """
        provider = self._providers()[model.provider]
        pieces, spent, patience, ended = self._sent(provider, model, asked), 0.0, 0.0, False
        async with AsyncExitStack() as stack:
            await _queue(stack, turn(provider), provider.first_s)
            call = Probe(self._health(provider))
            patience = provider.first_s
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
        self, provider: Provider, model: Model, asked: ModelRequest
    ) -> AsyncIterator[Delta]:
        """Send a request and yield what comes, as it comes."""
        adapter = ADAPTERS[provider.format]
        headers = adapter.headers(self._environ.get(provider.key_env, ""))
        body = adapter.body(asked, model.upstream)
        url = provider.url.rstrip("/") + adapter.path
        async with self._client.stream("POST", url, json=body, headers=headers) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, response.headers.get("retry-after"))
            if not asked.stream:
                yield adapter.whole(loaded(await _read(response)))
                return
            batches = events(response.aiter_bytes())
            async for together in batches:
                piece, failure = NOTHING, None
                for data in together:
                    try:
                        if (event := adapter.event(data)) is END:
                            break
                    except ProviderError as raised:
                        failure = raised
                        break
                    piece = piece.joined(event)
                if piece != NOTHING:
                    yield piece
                if failure:
                    raise failure
                if event is END:
                    break
            with suppress(TimeoutError):  # only a connection that was read to its end is kept
                async with asyncio.timeout(LINGER):
                    async for _ in batches:
                        pass


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
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > LARGEST:
            raise ProviderError("malformed", "the answer is too large")
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
    if last <= {"rate_limited", "busy"}:
        return Refusal(429, "providers busy", what, **again)
    if last <= {"open", "unreachable", "rate_limited", "busy", "unauthorized"}:
        return Refusal(503, "no provider", what, **again)
    if tried[-1][1] == "timeout":
        return Refusal(504, "provider late", what, **again)
    return Refusal(502, "provider failed", what, **again)
