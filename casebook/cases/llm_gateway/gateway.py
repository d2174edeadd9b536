"""One request from its body to its bill, without HTTP.

:meth:`Gateway.admit` says whether a request may be asked at all: model, limit, prompt, guards,
length. :meth:`Gateway.run` reserves what it may cost, waits for its turn, asks, masks, settles, and
yields the text; the last thing it yields is a :class:`Done`, and only a settled request has one.

* Who got a complete answer pays what the provider counted.
* Who leaves in the middle pays for the pieces that were passed on to it, one token each at least.
* Who was failed pays nothing; what the provider will charge for it is the gateway's *waste*.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from casebook.cases.llm_gateway import prompts
from casebook.cases.llm_gateway.alerts import Alert, network, spending, used_from
from casebook.cases.llm_gateway.config import Config, Tenant
from casebook.cases.llm_gateway.guardrails import (
    Detector,
    Said,
    Topics,
    checked_aside,
    masked_calls,
    output_mask,
)
from casebook.cases.llm_gateway.jobs import (
    Done,
    Job,
    Tally,
    bill_of,
    broken_off,
    check_fits,
    check_schema,
    in_order,
    messages_of,
    wrong_answer,
)
from casebook.cases.llm_gateway.meter import Ask, Bill, Meter, OverBudget, Repeated
from casebook.cases.llm_gateway.requests import ChatRequest
from casebook.cases.llm_gateway.store import (
    Key,
    Store,
    StoreDown,
    get_config,
    hashed,
    logouts,
    revision,
)
from casebook.cases.llm_gateway.store import keys as stored_keys
from casebook.llm.adapters import Delta, ModelRequest, ProviderError, assembled
from casebook.llm.messages import Message
from casebook.llm.providers import Provider
from casebook.llm.schema import misfit
from casebook.serving.answer_cache import LONGEST, Cache, key_of
from casebook.serving.exposition import Metrics
from casebook.serving.failover import Answer, Caller
from casebook.serving.pooled import Pooled
from casebook.serving.quick_guard import attack
from casebook.serving.rate_limits import Limits, RedisLimits
from casebook.serving.refusals import Refusal
from casebook.serving.streamed import StreamMask
from casebook.strict_json import parse

LOG = logging.getLogger("llm_gateway")
#: Seconds for which an answer with an idempotency key can be had again.
REPLAY = 600
#: Seconds between two looks at the store, and at what is spent.
EVERY, LOOK = 1.0, 60.0
#: Characters of an answer that are searched at a time.
SLICE = 20_000
#: The model of a request that lets the gateway choose.
AUTO = "auto"


class Gateway:
    """Everything that a gateway process holds.

    Parameters
    ----------
    store : Store
    environ : mapping
        Where the keys of providers are.
    clock : callable
        Seconds since 1970.
    detect : callable
        Why a text looks like an attack.
    topics : callable, optional
        How close a text is to each topic.
    route : callable, optional
        Chooses among the models that a tenant may ask, for a request of the model ``auto``.
    limits : Limits or RedisLimits, optional
        In this process by default.
    fair : bool
        Whether tenants share a busy provider by weight.
    """

    def __init__(
        self,
        store: Store,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
        detect: Detector = attack,
        topics: Topics | None = None,
        route: Callable[[Said, Sequence[str]], str] | None = None,
        limits: Limits | RedisLimits | None = None,
        fair: bool = True,
    ) -> None:
        self.store, self.clock = store, clock
        self.detect, self.topics, self.route, self._fair_share = detect, topics, route, fair
        self.meter, self.metrics, self.cache = Meter(store, clock), Metrics(), Cache()
        self.limits = limits or Limits()
        self.config = Config(providers=(), models=(), tenants=())
        self.keys: dict[str, Key] = {}
        self.caller = Caller(lambda: self.config.provider, environ)
        self._pools: dict[tuple, Pooled] = {}
        self._prompts: dict[tuple[str, str], Any] = {}
        self._places: set[tuple[str, str]] = set()
        self._notes: deque[tuple[str, Key, str, float]] = deque(maxlen=10_000)
        self.logouts: set[str] = set()
        self._revision, self._looked = -1, 0.0
        self._followed = time.monotonic()

    @property
    def knows(self) -> bool:
        """Whether configuration and keys were read."""
        return self._revision >= 0

    async def refresh(self) -> None:
        """Take over keys and configuration, if they have changed.

        Raises
        ------
        Refusal
            503 if the store is down, or if it holds a configuration that cannot hold; keys that
            were revoked end all the same.
        """
        if not self.knows:  # a sign of life, before another gateway could take it for dead
            await self._stored(self.meter.live())
        now = await self._stored(self.store.do(revision))
        if now == self._revision:
            return
        self.keys = await self._stored(self.store.do(stored_keys))
        self.logouts = await self._stored(self.store.do(logouts))
        self._prompts.clear()
        try:
            self.config = await self._stored(self.store.do(get_config))
        except ValueError as error:
            what = f"The configuration in the store cannot hold: {error}"
            raise Refusal(503, "no configuration", what, "Send it again later.", 2.0) from None
        self._revision = now

    async def live(self) -> None:
        """Keep up with the store until cancelled: what fails is told, and holds up nothing else."""
        while True:
            began, well = time.monotonic(), True
            for step in (self.refresh, self.meter.live, self.watch):
                try:
                    await step()
                except Exception as error:  # whatever it is, the next second may be better
                    well = False
                    LOG.error(json.dumps({"store": step.__qualname__, "error": str(error)[:2000]}))
            self._followed = began if well else self._followed
            await asyncio.sleep(EVERY)

    @property
    def behind(self) -> float:
        """Seconds since it last followed its store without a fault."""
        return time.monotonic() - self._followed

    async def watch(self) -> list[Alert]:
        """Note from where keys were used, look at what is spent, and tell of what is unusual."""
        found, now = [], self.clock()
        if now >= self._looked + LOOK:
            self._looked, found = now, await self.store.do(spending, now)
        while self._notes:
            alert = await self.store.do(used_from, *self._notes[0])
            self._notes.popleft()
            found += [alert] if alert else []
        for one in found:
            self.metrics.count("alerts_total", tenant=one.tenant, kind=one.kind)
            LOG.warning(json.dumps({"alert": one.kind, "tenant": one.tenant, "what": one.what}))
        return found

    # Who asks, and what ---------------------------------------------------------------

    def holds(self, digest: str) -> Key | None:
        """Return the key of a hash, if it has not ended."""
        known = self.keys.get(digest)
        return known if known and known.holds(self.clock()) else None

    def who(self, authorization: str, address: str = "") -> tuple[Tenant, Key]:
        """Return the tenant of a key, and the key's role; note from where it is used.

        Raises
        ------
        Refusal
            401 without a key that holds, 403 if its tenant is not active.
        """
        kind, _, key = authorization.partition(" ")
        digest = hashed(key.strip())
        if kind.lower() != "bearer" or (known := self.holds(digest)) is None:
            what = "The key is missing, unknown, or has ended."
            raise Refusal(401, "wrong key", what, "Send Authorization: Bearer <key>.")
        tenant = self.config.tenant.get(known.tenant)
        if tenant is None or not tenant.active:
            what = "Your organisation's access is switched off."
            raise Refusal(403, "not active", what, "Ask your administrator.")
        self.note(digest, known, address)
        return tenant, known

    def note(self, digest: str, key: Key, address: str) -> None:
        """Keep from which network a key was used, until :meth:`watch` has looked at it."""
        place = network(address) if address else ""
        if place and (digest, place) not in self._places:
            if len(self._places) > 100_000:
                self._places.clear()
            self._places.add((digest, place))
            self._notes.append((digest, key, place, self.clock()))

    def model_of(self, tenant: Tenant, name: str | None) -> str:
        """Return the model that a request asks; 404 if there is none, 403 if it may not."""
        name = name or tenant.models[0]
        if name in tenant.models:
            return name
        known = self.config.model.get(name)
        do = f"Ask one of {', '.join(tenant.models)}."
        if known is None or known.private:
            raise Refusal(404, "unknown model", f"There is no model {name!r}.", do)
        raise Refusal(403, "model not allowed", f"You may not ask {name}.", do)

    async def admit(self, tenant: Tenant, asked: ChatRequest, idempotency: str = "") -> Job:
        """Return a request that may be asked.

        Raises
        ------
        Refusal
            400, 403, 404, 413, 422 or 429, with what to do.
        """
        request, said, prompt = await self._said(tenant, asked, idempotency)
        auto = asked.model == AUTO and self.route is not None
        name = self.model_of(tenant, self.route(said, tenant.models) if auto else asked.model)
        limit = tenant.limits.get(name)
        if limit and (wait := await self.limits.take(tenant.name, name, limit)):
            what = f"{name} may be asked {limit.per_minute} times a minute."
            raise Refusal(429, "rate limit", what, "Wait as Retry-After says.", wait)
        chain = self.config.chain(tenant.name, name)
        mosts = [asked.most, tenant.guard.most_out, *(one.most_out for one in chain)]
        most = min(number for number in mosts if number is not None)
        tools, strict, schema = asked.offered(), asked.strict_tools(), asked.schema_of_answer
        for one in [*strict.values()] + [schema] * (schema is not None):
            check_schema(one)
        request_of = lambda said: ModelRequest(  # noqa: E731
            in_order(said, tools), most, asked.options(), asked.stream
        )
        job = Job(request, tenant, chain, request_of(said), prompt, schema, strict)
        check_fits(job)
        said, job.flags = await checked_aside(tenant.guard, said, self.detect, self.topics)
        job.asked, job.replay = request_of(said), bool(idempotency)
        if tenant.cache_s:
            job.cache_key = key_of(name, repr(job.asked), strict, tenant.guard.model_dump())
        return job

    async def _said(
        self, tenant: Tenant, asked: ChatRequest, idempotency: str
    ) -> tuple[str, Said, str]:
        """Return a request's number, its conversation, and the registry's prompt in it."""
        once = idempotency and key_of(tenant.name, idempotency, asked.model_dump_json())[:32]
        request = once or uuid.uuid4().hex
        own = messages_of(asked)
        if (wanted := asked.prompt) is None:
            return request, own, ""
        at = (tenant.name, wanted.name)
        if (found := self._prompts.get(at)) is None:
            found = await self._stored(self.store.do(prompts.fetch, *at))
            if found[0]:  # names that nobody has are not kept
                self._prompts[at] = found
        unit = asked.user or request
        version, prompt = prompts.chosen(found, wanted.name, wanted.version, unit)
        filled = prompts.render(prompt, wanted.variables)
        said = [Message(role, text) for role, text in filled] + own
        return request, said, f"{wanted.name}@{version}"

    # The answer -----------------------------------------------------------------------

    async def run(self, job: Job) -> AsyncIterator[str | Done]:
        """Yield an answer's text in pieces, then :class:`Done`.

        A caller that stops early must close this generator: the request is settled then.

        Raises
        ------
        Refusal
            With the status that the client gets.
        """
        job.served = job.model.name
        if cached := await self._cached(job):
            for one in cached:
                yield one
            return
        await self._reserve(job)
        tally, answer, how = Tally(job), None, "failed"
        try:
            answer = await self.caller.ask(job.chain, job.asked, self._turn(job), job.tried)
            job.served = answer.model.name
            async for text in self._passed(job, answer.pieces(), tally):
                yield text
            self._check(job, tally)
            calls = self._calls(job, tally)
            finish = "tool_calls" if calls else tally.finish or "stop"
            done = Done(answer.model.name, finish, *tally.tokens(), calls=calls)
            await self._settle(job, bill_of(answer.model, done[2:4], "complete"))
            how = ""
            self._keep(job, "".join(tally.text), done)
            yield done
        except ProviderError as failure:
            raise broken_off(failure) from None
        except (asyncio.CancelledError, GeneratorExit):
            how = how and "left"
            raise
        finally:
            if answer:
                await answer.close()
            await self._end(job, answer, tally, how)

    async def _end(self, job: Job, answer: Answer | None, tally: Tally, how: str) -> None:
        """Bill what came to a client that left, or nothing; what is settled stays so."""
        if how == "left" and answer and tally.passed:
            with suppress(StoreDown):
                bill = bill_of(answer.model, tally.tokens(left=True), how)
                await self.meter.settle(job.request, bill)
                return
        if how:
            waste = answer.model.cost(*tally.tokens()) if answer else 0
            await self.meter.release(job.request, waste, how)

    def _turn(self, job: Job) -> Callable[[Provider], Any]:
        def turn(provider: Provider) -> Any:
            rules = (provider.slots, provider.per_minute, provider.burst)
            if (pool := self._pools.get((provider.name, *rules))) is None:
                pool = Pooled(*rules, fair=self._fair_share)
                self._pools[provider.name, *rules] = pool
            return pool.turn(job.tenant.name, job.tenant.weight)

        return turn

    async def _passed(
        self, job: Job, pieces: AsyncIterator[Delta], tally: Tally
    ) -> AsyncIterator[str]:
        """Yield what may leave of an answer; end it where it is long enough."""
        mask = output_mask(job.tenant.guard)
        async for piece in pieces:
            if tally.pieces + piece.n > job.asked.max_tokens and job.asked.stream:
                tally.finish = "length"  # its provider did not stop where it was told to
                break
            tally.add(piece)
            text = _fed(mask, piece.text) if mask else piece.text
            if text:
                tally.text.append(text)
                tally.passed = tally.pieces
                yield text
        tally.passed = tally.pieces
        if mask and (text := mask.end()):
            tally.text.append(text)
            yield text
        job.flags += [
            f"redacted in answer: {n} {kind}" for kind, n in (mask.found if mask else {}).items()
        ]

    def _calls(self, job: Job, tally: Tally) -> list[dict[str, Any]]:
        """Return an answer's tool calls, as they may leave: whole, and masked as its text is."""
        for call in (made := assembled(tally.calls)):
            function = call["function"]
            schema = job.strict.get(function["name"])
            if schema is not None and misfit(parse(function["arguments"]), schema):
                raise wrong_answer("A tool call does not fit its tool's schema.")
        calls, kinds = masked_calls(job.tenant.guard, made)
        job.flags += [f"redacted in call: {n} {kind}" for kind, n in kinds.items()]
        return calls

    def _check(self, job: Job, tally: Tally) -> None:
        """Refuse an answer that is not of the schema that was asked for."""
        if job.schema is None or tally.calls:  # a model that calls tools first answers later
            return
        try:
            fault = misfit(parse("".join(tally.text)), job.schema)
        except ValueError as error:
            fault = str(error)
        if fault:
            raise wrong_answer("The model's answer does not fit the schema.")

    # Money ------------------------------------------------------------------------------

    def _ask(self, job: Job, most: int) -> Ask:
        budget = job.tenant.budget if job.tenant.over == "reject" else 0
        model, at = job.model.name, self.clock()
        return Ask(job.request, job.tenant.name, model, most, at, budget, job.prompt)

    async def _reserve(self, job: Job) -> None:
        with self._refusing():
            spent = await self._stored(self.meter.reserve(self._ask(job, job.most)))
        if job.tenant.budget and spent > job.tenant.budget:
            job.flags.append("over budget")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Tell a client why its request is not opened."""
        try:
            yield
        except OverBudget:
            what = "What this request may cost is not left of the month's budget."
            do = "Lower max_tokens, ask a cheaper model, or have the budget raised."
            raise Refusal(402, "over budget", what, do) from None
        except Repeated as error:
            open_ = error.args[0] == "open"
            what = f"A request with this Idempotency-Key {'is being' if open_ else 'was'} answered."
            do = "Wait for it." if open_ else "Send another key for another request."
            raise Refusal(409, "repeated", what, do, 1.0 if open_ else None) from None

    async def _settle(self, job: Job, bill: Bill) -> None:
        """Bill a request; an answer whose bill is not on disk is not complete."""
        if not await self._stored(self.meter.settle(job.request, bill)):
            what = "The request took too long and was given up."
            raise Refusal(503, "given up", what, "Send it again.", 1.0)

    async def _stored(self, work: Any) -> Any:
        try:
            return await work
        except StoreDown:
            what = "The gateway's store does not answer."
            raise Refusal(503, "store down", what, "Send it again later.", 2.0) from None

    async def _cached(self, job: Job) -> tuple[str, Done] | None:
        """Return the answer to the same request, or to the same question, if it is kept."""
        name = job.tenant.name
        if job.replay and (same := self.cache.get(name, job.request)):
            return same  # it was billed
        if not (job.cache_key and (found := self.cache.get(name, job.cache_key))):
            return None
        text, done = found
        bill = Bill(done.model, done.tokens_in, done.tokens_out, 0, "cached")
        with self._refusing():
            await self._stored(self.meter.free(self._ask(job, 0), bill))
        return text, done._replace(how="cached")

    def _keep(self, job: Job, text: str, done: Done) -> None:
        if len(text) > LONGEST:
            return
        if job.replay:
            self.cache.put(job.tenant.name, job.request, (text, done), REPLAY)
        if job.cache_key and done.model == job.model.name:
            self.cache.put(job.tenant.name, job.cache_key, (text, done), job.tenant.cache_s)


def _fed(mask: StreamMask, text: str) -> str:
    """Return what may leave of a text, which can be longer than what is searched at a time."""
    return "".join(mask.feed(text[at : at + SLICE]) for at in range(0, len(text), SLICE))
