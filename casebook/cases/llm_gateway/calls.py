"""One call: a chain of models, retries with a budget, a breaker for each provider, time-outs.

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

from casebook.cases.llm_gateway.adapters import (
    ADAPTERS,
    END,
    KINDS,
    LARGEST,
    NOTHING,
    Failure,
    Piece,
    failed,
    loaded,
)
from casebook.cases.llm_gateway.config import Config, Model, Provider
from casebook.cases.llm_gateway.requests import Question, Refusal
from casebook.llm.sse import events
from casebook.serving.breaker import Breaker
from casebook.serving.fair import Full

Turn = Callable[[Provider], AbstractAsyncContextManager]
#: Failures of the last calls that open a breaker (5 %), and seconds until it is tried again.
FAILURES, WINDOW, COOL_OFF = 5, 100, 5.0
#: Seconds before a second attempt, at most.
BACK_OFF = 0.2
#: Seconds for which the end of a connection is waited for, after that of its answer.
LINGER = 0.05
#: What says something about a provider's health.
UNWELL = ("failed", "unreachable", "late", "nonsense", "cut")


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


class Health(Breaker):
    """The breaker of the toolbox for calls that an event loop waits for."""

    def admit(self) -> int:
        """Return the generation of a call that may be made.

        Raises
        ------
        Failure
            ``open``, with the seconds until a probe.
        """
        generation = self._admit()
        if generation is None:
            left = self.cool_off - (self._clock() - self._since)
            raise Failure("open", "", max(1.0, left))
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
    Failure
        ``open`` if the breaker lets no call through.
    """

    def __init__(self, health: Health) -> None:
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

    def __init__(self, model: Model, first: Piece, rest: AsyncIterator[Piece]) -> None:
        self.model, self._first, self._rest = model, first, rest

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces; :class:`Failure` if they break off."""
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
    config : callable
        Returns the configuration that holds now.
    environ : mapping
        Where the keys of providers are.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._environ, self._clock = config, environ, clock
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        self._client = httpx.AsyncClient(limits=limits, timeout=None, trust_env=False)
        self.health: dict[str, Health] = {}
        self.budget = RetryBudget()
        self.counts: Counter[tuple[str, str]] = Counter()
        self._limited: dict[str, float] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(
        self,
        chain: Sequence[Model],
        question: Question,
        turn: Turn = lambda _: nullcontext(),
        tried: list[tuple[str, str]] | None = None,
    ) -> Answer:
        """Return the first answer that begins.

        Parameters
        ----------
        chain : sequence of Model
            Whom to ask, in this order.
        question : Question
        turn : callable
            Returns what is entered for a provider while it works: its queue.
        tried : list, optional
            Is told model and kind of failure of each attempt that failed.

        Raises
        ------
        Refusal
            When nobody answers: 400, 429, 502, 503 or 504.
        """
        tried = [] if tried is None else tried
        waits: list[float] = []
        self.budget.earn()
        for model in chain:
            for attempt in (0, 1):
                try:
                    return await self._attempt(model, question, turn)
                except Failure as failure:
                    tried.append((model.name, failure.kind))
                    self.counts[model.provider, failure.kind] += 1
                    waits += [failure.wait] if failure.wait else []
                    if failure.kind == "rejected":
                        raise _refused(tried, waits) from None
                    if attempt or not KINDS[failure.kind] or not self.budget.take():
                        break
                    await asyncio.sleep(random.uniform(0.5, 1) * BACK_OFF)
        raise _refused(tried, waits)

    async def _attempt(self, model: Model, question: Question, turn: Turn) -> Answer:
        """Ask one model once; return when its first piece is there."""
        now = self._clock()
        if (until := self._limited.get(model.name, 0)) > now:
            raise Failure("limited", "", until - now)
        rest = self._pieces(model, question, turn)
        try:
            first = await anext(rest)
        except Failure as failure:
            if failure.kind == "limited":
                self._limited[model.name] = self._clock() + (failure.wait or 1.0)
            raise
        return Answer(model, first, rest)

    def _health(self, provider: Provider) -> Health:
        if (health := self.health.get(provider.name)) is None:
            rules = {"failures": FAILURES, "window": WINDOW, "cool_off": COOL_OFF}
            health = self.health[provider.name] = Health(**rules, clock=self._clock)
        return health

    async def _pieces(self, model: Model, question: Question, turn: Turn) -> AsyncIterator[Piece]:
        """Yield a model's pieces, and tell its provider's breaker how that went.

        Only what the provider takes counts against its time, not a client that reads slowly.
        """
        provider = self._config().provider[model.provider]
        pieces, spent, patience, ended = self._sent(provider, model, question), 0.0, 0.0, False
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
                    raise Failure("cut", "the stream ended before its answer")
            except (Failure, TimeoutError, ValueError, httpx.HTTPError) as error:
                failure = _failure(error, call.begun)
                call.failed(failure.kind)
                raise failure from None
            finally:
                call.forget()
                await pieces.aclose()

    async def _sent(
        self, provider: Provider, model: Model, question: Question
    ) -> AsyncIterator[Piece]:
        """Send a question and yield what comes, as it comes."""
        adapter = ADAPTERS[provider.format]
        headers = adapter.headers(self._environ.get(provider.key_env, ""))
        body = adapter.body(question, model.upstream)
        url = provider.url.rstrip("/") + adapter.path
        async with self._client.stream("POST", url, json=body, headers=headers) as response:
            if response.status_code != 200:
                raise failed(response.status_code, response.headers.get("retry-after"))
            if not question.stream:
                yield adapter.whole(loaded(await _read(response)))
                return
            batches = events(response.aiter_bytes())
            async for together in batches:
                piece, failure = NOTHING, None
                for data in together:
                    try:
                        if (event := adapter.event(data)) is END:
                            break
                    except Failure as raised:
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
        raise Failure("busy", "", 1.0) from None


async def _next(pieces: AsyncIterator[Piece]) -> Piece | None:
    """Return the next piece, or None at the end."""
    try:  # a piece is a tuple, which `anext` cannot take as its default
        return await anext(pieces)
    except StopAsyncIteration:
        return None


def _failure(error: Exception, begun: bool) -> Failure:
    """Return what an error of the connection is."""
    name = type(error).__name__
    match error:
        case Failure():
            return error
        case TimeoutError():
            return Failure("late")
        case ValueError():
            return Failure("nonsense", "no events")
        case httpx.ConnectError():
            return Failure("unreachable", name)
    return Failure("cut" if begun else "failed", name)


async def _read(response: httpx.Response) -> bytes:
    raw = bytearray()
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > LARGEST:
            raise Failure("nonsense", "the answer is too large")
    return bytes(raw)


def _refused(tried: Sequence[tuple[str, str]], waits: Sequence[float]) -> Refusal:
    """Return what a client is told when nobody answered: by the last failure, and who failed."""
    last = {kind for _, kind in tried}
    what = f"No model answered ({', '.join(f'{name}: {kind}' for name, kind in tried)})."
    wait = min(waits, default=1.0)
    again: dict[str, Any] = {"do": "Send it again later.", "wait": wait}
    if tried[-1][1] == "rejected":
        do = "Check the length of the conversation and the options."
        return Refusal(400, "provider refused", "The provider refused the request.", do)
    if last <= {"limited", "busy"}:
        return Refusal(429, "providers busy", what, **again)
    if last <= {"open", "unreachable", "limited", "busy", "locked"}:
        return Refusal(503, "no provider", what, **again)
    if tried[-1][1] == "late":
        return Refusal(504, "provider late", what, **again)
    return Refusal(502, "provider failed", what, **again)
