"""One request from its body to its bill, without HTTP.

:meth:`Gateway.admit` says whether a request may be asked at all: model, limit, prompt, guards,
length. :meth:`Gateway.run` reserves what it may cost, waits for its turn, asks, masks, settles, and
yields the text; the last thing it yields is a :class:`Done`, and only a settled request has one.

* Who got a complete answer pays what the provider counted. With an idempotency key the answer is
  kept for ten minutes, on disk with its bill, so that a repeat gets it and pays nothing.
* Who leaves a stream pays for what was released to it, and so does a tenant whose own guard ends
  one. A text that must fit a schema is released only when it does.
* Who was failed pays nothing; what the provider will charge for it is the gateway's *waste*.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from casebook.cases.llm_gateway.alerts import Alert, Watch
from casebook.cases.llm_gateway.config import Config, Tenant
from casebook.cases.llm_gateway.jobs import (
    Done,
    Job,
    Tally,
    answer_of,
    broken_off,
    check_fits,
    check_schemas,
    in_order,
    kept_of,
    messages_of,
    wrong_answer,
)
from casebook.cases.llm_gateway.meter import Ask, Bill, Kept, Meter, OverBudget, Repeated, kept
from casebook.cases.llm_gateway.store import Store, StoreDown, get_config
from casebook.llm.adapters import Delta, ModelRequest, ProviderError, assembled
from casebook.llm.bounded_schema import fits
from casebook.llm.messages import Message, Tool
from casebook.llm.providers import Model, Provider
from casebook.serving import prompts
from casebook.serving.answer_cache import LONGEST, Cache, key_of
from casebook.serving.api_keys import Key, hashed, logouts, revision
from casebook.serving.api_keys import keys as stored_keys
from casebook.serving.chat_requests import ChatRequest
from casebook.serving.conversation_guard import (
    Detector,
    Said,
    Topics,
    checked_aside,
    masked_calls,
    masked_json,
    output_mask,
)
from casebook.serving.exposition import Metrics
from casebook.serving.failover import Caller
from casebook.serving.pooled import Pooled
from casebook.serving.quick_guard import attack
from casebook.serving.rate_limits import Limits, RedisLimits
from casebook.serving.refusals import Refusal
from casebook.serving.streamed import StreamMask

LOG = logging.getLogger("llm_gateway")
#: Seconds for which an answer with an idempotency key can be had again.
REPLAY = 600
#: Seconds between two looks at the store.
EVERY = 1.0
#: Characters of an answer that are searched at a time.
SLICE = 20_000
#: Letters of an idempotency key.
KEY = 200
#: Options that are searched for personal data.
SEARCHED = ("stop", "response_format")
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
        self.uses = Watch()
        self.logouts: set[str] = set()
        self._revision, self._followed = -1, time.monotonic()

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
        """Tell of what is unusual in how keys are used and in what is spent."""
        found = await self.uses.look(self.store, self.clock())
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
        self.uses.note(digest, known, address, self.clock())
        return tenant, known

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
        request, said, prompt, first = await self._said(tenant, asked, idempotency)
        auto = asked.model == AUTO and self.route is not None
        name = self.model_of(tenant, self.route(said, tenant.models) if auto else asked.model)
        if wait := await self._limited(tenant, name):
            what = f"{name} may be asked {tenant.limits[name].per_minute} times a minute."
            raise Refusal(429, "rate limit", what, "Wait as Retry-After says.", wait)
        chain = self.config.chain(tenant.name, name)
        mosts = [asked.most, tenant.guard.most_out, *(one.most_out for one in chain)]
        most = min(number for number in mosts if number is not None)
        tools, options = asked.offered(), asked.options()
        job = Job(request, tenant, chain, _asked(said, tools, most, options, asked.stream), prompt)
        check_fits(job)
        besides = {"tools": [[one.description, one.parameters] for one in tools]}
        besides |= {name: options[name] for name in SEARCHED if name in options}
        said, besides, job.flags = await checked_aside(
            tenant.guard, said, self.detect, self.topics, besides=besides, prompt=first
        )
        tools = tuple(
            Tool(t.name, *own) for t, own in zip(tools, besides.pop("tools"), strict=True)
        )
        job.strict = {t.name: t.parameters for t in tools if t.name in asked.strict_tools()}
        form = besides.get("response_format", {}).get("json_schema")
        job.schema = form["schema"] if form else None
        schemas = [*job.strict.values()] + [job.schema] * (job.schema is not None)
        await asyncio.to_thread(check_schemas, schemas)
        job.asked = _asked(said, tools, most, options | besides, asked.stream)
        if idempotency:
            job.once = key_of(asked.model_dump_json())[:32]
        if tenant.cache_s:
            job.cache_key = key_of(name, repr(job.asked), job.strict, tenant.guard.model_dump())
        return job

    async def _said(
        self, tenant: Tenant, asked: ChatRequest, idempotency: str
    ) -> tuple[str, Said, str, int]:
        """Return a request's number, its conversation, and the registry's prompt in it."""
        if len(idempotency) > KEY:
            what = f"The Idempotency-Key has {len(idempotency)} letters."
            raise Refusal(422, "invalid request", what, f"Send at most {KEY}.")
        once = idempotency and key_of(tenant.name, idempotency)[:32]
        request = once or uuid.uuid4().hex
        own = messages_of(asked)
        if (wanted := asked.prompt) is None:
            return request, own, "", 0
        at = (tenant.name, wanted.name)
        if (found := self._prompts.get(at)) is None:
            found = await self._stored(self.store.do(prompts.fetch, *at))
            if found[0]:  # names that nobody has are not kept
                self._prompts[at] = found
        unit = asked.user or request
        version, prompt = prompts.chosen(found, wanted.name, wanted.version, unit)
        filled = prompts.render(prompt, wanted.variables)
        said = [Message(role, text) for role, text in filled] + own
        return (
            request,
            said,
            f"{wanted.name}@{version}",
            sum(role == "system" for role, _ in filled),
        )

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
        if known := await self._known(job):
            for one in known:
                yield one
            return
        tally, answer, how = Tally(job), None, "failed"
        try:
            answer = await self.caller.ask(job.chain, job.asked, self._turn(job), job.tried)
            job.served = answer.model.name
            how = "refused"  # what raises a Refusal from here on is a rule of the tenant
            async for text in self._passed(job, answer.pieces(), tally):
                yield text
            calls = await self._calls(job, tally)
            if job.schema is not None and not calls:
                yield await self._formed(job, tally)
            how = "failed"
            done = await self._settle(job, answer.model, tally, calls)
            how = ""
            yield done
        except ProviderError as failure:
            how = "failed"
            raise broken_off(failure) from None
        except (asyncio.CancelledError, GeneratorExit):
            how = how and "left"
            raise
        finally:
            if answer:
                await answer.close()
            if how:
                await self._end(job, answer.model if answer else None, tally, how)

    async def _end(self, job: Job, model: Model | None, tally: Tally, how: str) -> None:
        """Bill what was released to a client before its answer ended early, or nothing."""
        if how in ("left", "refused") and model and tally.passed:
            with suppress(StoreDown):
                await self.meter.settle(job.request, tally.bill(model, how))
                return
        waste, guessed = tally.waste(model)
        await self.meter.release(job.request, waste, how, guessed)

    def _turn(self, job: Job) -> Callable[[Provider, Model], Any]:
        @asynccontextmanager
        async def turn(provider: Provider, model: Model) -> AsyncIterator[None]:
            rules = (provider.slots, provider.per_minute, provider.burst)
            if (pool := self._pools.get((provider.name, *rules))) is None:
                pool = Pooled(*rules, fair=self._fair_share)
                self._pools[provider.name, *rules] = pool
            if model != job.model and (wait := await self._limited(job.tenant, model.name)):
                raise ProviderError("limited", "", wait)
            async with pool.turn(job.tenant.name, job.tenant.weight):
                yield

        return turn

    async def _limited(self, tenant: Tenant, model: str) -> float:
        """Take a token of a tenant for a model; return 0, or the seconds to wait."""
        limit = tenant.limits.get(model)
        return await self.limits.take(tenant.name, model, limit) if limit else 0.0

    async def _passed(
        self, job: Job, pieces: AsyncIterator[Delta], tally: Tally
    ) -> AsyncIterator[str]:
        """Yield what may leave of an answer; end it where it is long enough."""
        mask = None if job.schema is not None else output_mask(job.tenant.guard)
        async for piece in pieces:
            if tally.pieces + piece.n > job.asked.max_tokens and job.asked.stream:
                tally.finish = "length"  # its provider did not stop where it was told to
                break
            tally.add(piece)
            text = _fed(mask, piece.text) if mask else piece.text
            if text:
                tally.text.append(text)
            if text and job.schema is None:
                tally.passed = job.asked.stream * (mask.passed if mask else tally.came)
                yield text
        if mask:
            text = mask.end()
            job.flags += [f"redacted in answer: {n} {kind}" for kind, n in mask.found.items()]
            if text:
                tally.text.append(text)
                tally.passed = job.asked.stream * tally.came
                yield text

    async def _calls(self, job: Job, tally: Tally) -> list[dict[str, Any]]:
        """Return an answer's tool calls, as they may leave: whole, and masked as its text is."""
        for call in (made := assembled(tally.calls)):
            function = call["function"]
            schema = job.strict.get(function["name"])
            if schema and not await asyncio.to_thread(fits, function["arguments"], schema):
                raise wrong_answer("A tool call does not fit its tool's schema.")
        calls, kinds = masked_calls(job.tenant.guard, made)
        job.flags += [f"redacted in call: {n} {kind}" for kind, n in kinds.items()]
        return calls

    async def _formed(self, job: Job, tally: Tally) -> str:
        """Return an answer of the schema that was asked for, as it may leave; else refuse it."""
        text = "".join(tally.text)
        if not await asyncio.to_thread(fits, text, job.schema):
            raise wrong_answer("The model's answer does not fit the schema.")
        text, kinds = masked_json(job.tenant.guard, text)
        job.flags += [f"redacted in answer: {n} {kind}" for kind, n in kinds.items()]
        tally.text, tally.passed = [text], job.asked.stream * tally.came
        return text

    # Money ------------------------------------------------------------------------------

    def _ask(self, job: Job, most: int) -> Ask:
        budget = job.tenant.budget if job.tenant.over == "reject" else 0
        model, at = job.model.name, self.clock()
        return Ask(job.request, job.tenant.name, model, most, at, budget, job.prompt, job.once)

    async def _known(self, job: Job) -> tuple[str, Done] | None:
        """Return an answer that is there already; else open the request.

        The same question's, if the tenant lets answers be kept; or that of the same request, which
        was billed.
        """
        try:
            if found := job.cache_key and self.cache.get(job.tenant.name, job.cache_key):
                text, done = found[0], found[1]._replace(how="cached")
                bill = Bill(done.model, done.tokens_in, done.tokens_out, 0, "cached")
                keep = self._kept(job, text, done)
                await self._stored(self.meter.free(self._ask(job, 0), bill, keep))
                job.served = done.model
                return text, done
            spent = await self._stored(self.meter.reserve(self._ask(job, job.most)))
            if job.tenant.budget and spent > job.tenant.budget:
                job.flags.append("over budget")
            return None
        except OverBudget:
            what = "What this request may cost is not left of the month's budget."
            do = "Lower max_tokens, ask a cheaper model, or have the budget raised."
            raise Refusal(402, "over budget", what, do) from None
        except Repeated as error:
            return await self._again(job, error.args[0])

    async def _again(self, job: Job, state: str) -> tuple[str, Done]:
        """Return the answer to a request that was settled, or say why there is none."""
        do = "Send another key for another request."
        if state == "other":
            what = "This Idempotency-Key was sent with another body."
            raise Refusal(422, "key reused", what, do)
        if state == "open":
            what = "A request with this Idempotency-Key is being answered."
            raise Refusal(409, "repeated", what, "Wait for it.", 1.0)
        now = self.clock()
        if not (body := await self._stored(self.store.do(kept, job.request, now))):
            what = "A request with this Idempotency-Key was answered, and its answer is not kept."
            raise Refusal(409, "repeated", what, do)
        text, done = answer_of(job, body)
        job.served = done.model
        return text, done

    def _kept(self, job: Job, text: str, done: Done) -> Kept | None:
        """Return an answer as it is kept with its bill, if its request may come again."""
        body = kept_of(job, text, done) if job.once else ""
        return Kept(body, self.clock() + REPLAY) if 0 < len(body) <= 2 * LONGEST else None

    async def _settle(self, job: Job, model: Model, tally: Tally, calls: list) -> Done:
        """Bill a request; an answer whose bill is not on disk is not complete."""
        finish, text = "tool_calls" if calls else tally.finish or "stop", "".join(tally.text)
        bill = tally.bill(model, "complete")
        done = Done(model.name, finish, *bill[1:3], calls=calls)
        keep = self._kept(job, text, done)
        if not await self._stored(self.meter.settle(job.request, bill, keep)):
            what = "The request took too long and was given up."
            raise Refusal(503, "given up", what, "Send it again.", 1.0)
        size = len(text) + len(json.dumps(done.calls))
        if job.cache_key and done.model == job.model.name and size <= LONGEST:
            found, seconds = (text, done), job.tenant.cache_s
            self.cache.put(job.tenant.name, job.cache_key, found, seconds)
        return done

    async def _stored(self, work: Any) -> Any:
        try:
            return await work
        except StoreDown:
            what = "The gateway's store does not answer."
            raise Refusal(503, "store down", what, "Send it again later.", 2.0) from None


def _asked(
    said: Said, tools: Sequence[Tool], most: int, options: Mapping[str, Any], stream: bool
) -> ModelRequest:
    return ModelRequest(in_order(said, tools), most, options, stream)


def _fed(mask: StreamMask, text: str) -> str:
    """Return what may leave of a text, which can be longer than what is searched at a time."""
    return "".join(mask.feed(text[at : at + SLICE]) for at in range(0, len(text), SLICE))
