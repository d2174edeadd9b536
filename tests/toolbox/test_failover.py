"""Failover: what a call does when providers fail, over HTTP against mock providers."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace

import pytest

from casebook.llm.adapters import ADAPTERS, ModelRequest, ProviderError, error_of
from casebook.llm.messages import Message, Request, Tool
from casebook.llm.mock_providers import FAULTS, MockProvider
from casebook.llm.providers import Model, Provider
from casebook.serving.failover import Caller, RetryBudget
from casebook.serving.in_thread import serving
from casebook.serving.provider_health import VOLUME
from casebook.serving.refusals import Refusal, told

ASKED = ModelRequest(
    Request((Message("system", "Be brief."), Message("user", "where is it?"))), 400
)
STREAMED = replace(ASKED, stream=True)
NOWHERE = "http://127.0.0.1:1"


class World:
    """Two providers behind a caller; ``p1`` speaks Chat Completions, ``p2`` Messages."""

    def __init__(self, stack, first=None, second=None, **waits):
        self.p1 = MockProvider("chat", **(first or {}))
        self.p2 = MockProvider("messages", **(second or {}))
        urls = [stack.enter_context(serving(one)) for one in (self.p1, self.p2)]
        names = zip(("p1", "p2"), urls, ("chat", "messages"), strict=True)
        self.providers = {n: Provider(name=n, url=u, format=f, **waits) for n, u, f in names}
        self.small, self.large = (
            Model(name=name, provider=at, upstream=f"up-{name}", price_in=150, price_out=600)
            for name, at in (("small", "p1"), ("large", "p2"))
        )
        self.now = [0.0]

    def run(self, work):
        """Run ``work(caller)`` in a loop of its own."""

        async def inner():
            caller = Caller(lambda: self.providers, {}, lambda: self.now[0])
            try:
                return await work(caller)
            finally:
                await caller.close()

        return asyncio.run(inner())


async def heard(caller, chain, question):
    """Return text, finish, tokens and who answered."""
    answer = await caller.ask(chain, question)
    pieces = [piece async for piece in answer.pieces()]
    counts = [max((p[at] for p in pieces if p[at] is not None), default=None) for at in (2, 3)]
    finish = next(piece.finish for piece in pieces if piece.finish)
    return "".join(piece.text for piece in pieces), finish, *counts, answer.model.name


@pytest.fixture
def stack():
    with ExitStack() as made:
        yield made


@pytest.mark.parametrize("question", [ASKED, STREAMED])
def test_both_formats_bring_the_same_answer_and_what_the_provider_counted(stack, question):
    world = World(stack, {"seed": 5}, {"seed": 5})

    async def work(caller):
        return [await heard(caller, [one], question) for one in (world.small, world.large)]

    first, second = world.run(work)
    assert first[0] == second[0] and first[1] == second[1] == "stop" and len(first[0]) > 5
    for got, provider in ((first, world.p1), (second, world.p2)):
        assert got[2:4] == (provider.ledger[0].tokens_in, provider.ledger[0].tokens_out)
    assert world.p2.bodies[0]["system"] == "Be brief."
    assert world.p2.bodies[0]["messages"] == [{"role": "user", "content": "where is it?"}]
    assert world.p1.bodies[0]["max_completion_tokens"] == world.p2.bodies[0]["max_tokens"] == 400


def test_an_answer_that_is_too_long_ends_with_length_in_both_formats(stack):
    world = World(stack, {"seed": 4}, {"seed": 4})

    async def work(caller):
        short = replace(STREAMED, max_tokens=3)
        return [await heard(caller, [one], short) for one in (world.small, world.large)]

    assert [got[1:4:2] for got in world.run(work)] == [("length", 3)] * 2


# Faults --------------------------------------------------------------------------------

#: What a client gets when its only provider has this fault: as JSON, and before a stream begins.
STATUS = {
    "rate_limited": 429,
    "failed": 502,
    "overloaded": 502,
    "bad_request": 400,
    "unauthorized": 503,
}
STATUS |= {"timeout": 504, "malformed": 502, "cut": 502, "stream_error": 200, "slow": 200}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_status_and_another_model_takes_over(stack, fault):
    world = World(stack, {"script": [fault] * 9, "pause_s": 2.0}, first_s=1.0, total_s=1.0)

    async def alone(caller):
        with pytest.raises(Refusal) as caught:
            await heard(caller, [world.small], ASKED)
        return caught.value

    if STATUS[fault] != 200:
        refusal = world.run(alone)
        assert refusal.status == STATUS[fault]
        assert "sk-secret" not in str(told(refusal)) and "where is it" not in str(told(refusal))
        assert refusal.wait or refusal.status == 400
    if STATUS[fault] not in (200, 400):
        got = world.run(lambda caller: heard(caller, [world.small, world.large], ASKED))
        assert got[4] == "large"


@pytest.mark.parametrize("fault", ["cut", "stream_error"])
@pytest.mark.parametrize("form", ["small", "large"])
def test_a_stream_that_breaks_after_its_first_piece_is_an_error_and_nobody_takes_over(
    stack, fault, form
):
    script = {"script": [fault], "says": lambda body: ["a ", "b ", "c ", "d "]}
    world, seen = World(stack, script, script), []
    other = {"small": "large", "large": "small"}[form]

    async def work(caller):
        answer = await caller.ask([getattr(world, form), getattr(world, other)], STREAMED)
        async for piece in answer.pieces():
            seen.append(piece.text)

    with pytest.raises(ProviderError, match=r"cut|failed"):
        world.run(work)
    assert "".join(seen) == "a b " and len(world.p1.ledger) + len(world.p2.ledger) == 1


def test_a_provider_that_nobody_runs_is_503_and_one_that_pauses_too_long_is_late(stack):
    world = World(stack, {"script": ["slow"], "says": lambda _: ["a"] * 4}, idle_s=0.1)

    async def pauses(caller):
        answer = await caller.ask([world.small], STREAMED)
        return [piece async for piece in answer.pieces()]

    with pytest.raises(ProviderError, match="timeout"):
        world.run(pauses)
    world.providers = {"p1": Provider(name="p1", url=NOWHERE, format="chat")}
    with pytest.raises(Refusal) as caught:
        world.run(lambda caller: caller.ask([world.small], ASKED))
    assert caught.value.status == 503


def test_retries_are_a_tenth_of_the_calls_when_a_provider_is_down(stack):
    world = World(stack, {"shares": {"failed": 1.0}})

    async def work(caller):
        caller.health = {}
        caller.budget = RetryBudget(share=0.1, least=2)
        for _ in range(40):
            caller.health.clear()  # without a breaker
            with pytest.raises(Refusal):
                await caller.ask([world.small], ASKED)

    world.run(work)
    assert 40 + 4 <= len(world.p1.ledger) <= 40 + 6


def test_a_breaker_opens_a_probe_closes_it_and_a_429_is_kept(stack):
    script = ["failed"] * VOLUME + ["ok", "ok", "rate_limited"]
    world = World(stack, {"script": script})

    async def one(caller):
        try:
            return (await heard(caller, [world.small], ASKED))[4]
        except Refusal as refusal:
            return refusal.status, refusal.wait

    async def work(caller):
        caller.budget = RetryBudget(share=0, least=0)
        found = [await one(caller) for _ in range(VOLUME)]
        shut = await one(caller)
        world.now[0] = 6.0
        probes = [await one(caller) for _ in range(2)]
        limited = [await one(caller) for _ in range(3)]
        world.now[0] = 8.1
        return found, shut, probes, limited, await one(caller)

    found, shut, probes, limited, again = world.run(work)
    assert [status for status, _ in found] == [502] * VOLUME and shut[0] == 503
    assert probes == ["small", "small"], "two probes close it"
    assert limited == [(429, 2.0)] * 3, "it is asked once; then the wait that it gave is kept"
    assert again == "small" and len(world.p1.ledger) == VOLUME + 4


def test_who_leaves_ends_the_providers_work_and_says_nothing_about_its_health(stack):
    world = World(stack, {"token_s": 0.01, "says": lambda _: ["a"] * 400})

    async def work(caller):
        for _ in range(VOLUME + 1):
            answer = await caller.ask([world.small], STREAMED)
            async for piece in answer.pieces():
                if piece.text:
                    break
            await answer.close()
        task = asyncio.create_task(caller.ask([world.large, world.small], STREAMED))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pool = caller._client._transport._pool
        return caller.health["small"].state, len(pool.connections)

    assert world.run(work) == ("closed", 0)


# Once more, and how often --------------------------------------------------------------


def refused(world, chain, times=1, question=ASKED, budget=None):
    """Ask so often; return statuses and what the caller counted."""

    async def work(caller):
        caller.budget = budget or caller.budget
        found = []
        for _ in range(times):
            caller.health.clear()  # without a breaker
            try:
                found.append((await heard(caller, chain, question))[4])
            except Refusal as refusal:
                found.append(refusal.status)
        return found, caller.counts

    return world.run(work)


def test_a_fallback_to_the_same_provider_draws_on_the_retry_budget_and_another_does_not(stack):
    world = World(stack, {"shares": {"failed": 1.0}}, {"seed": 5})
    dear = world.small.model_copy(update={"name": "dear", "upstream": "up-dear"})
    budget = RetryBudget(share=0.1, least=0)
    found, counts = refused(world, [world.small, dear], 40, budget=budget)
    assert set(found) == {502} and 40 <= len(world.p1.ledger) <= 40 + 4
    assert counts["p1", "spared"] >= 40
    found, _ = refused(world, [world.small, world.large], 5, budget=RetryBudget(0, 0))
    assert found == ["large"] * 5


def test_the_retry_budget_earns_once_a_call_however_long_its_chain_is(stack):
    world = World(stack, {"shares": {"failed": 1.0}}, {"shares": {"failed": 1.0}})
    others = [world.large.model_copy(update={"name": f"m{n}"}) for n in range(3)]
    budget = RetryBudget(share=0.1, least=0)
    refused(world, [world.small, world.large, *others], 40, budget=budget)
    repeats = len(world.p1.ledger) + len(world.p2.ledger) - 2 * 40
    assert repeats <= 4, "a tenth of 40 calls"


def test_a_whole_answer_has_the_whole_time_and_a_stream_only_that_of_its_first_piece(stack):
    world = World(stack, {"token_s": 0.02, "says": lambda _: ["a "] * 30}, first_s=0.3, total_s=5.0)
    assert refused(world, [world.small])[0] == ["small"], "0.6 s as a whole"
    late = World(stack, {"first_s": 1.0}, first_s=0.3, total_s=5.0)
    assert refused(late, [late.small], question=STREAMED)[0] == [504]
    late.providers["p1"] = late.providers["p1"].model_copy(update={"total_s": 0.4})
    assert refused(late, [late.small])[0] == [504]


@pytest.mark.parametrize("wrong", [float("inf"), "\ud800", float("nan")])
@pytest.mark.parametrize("form", ["small", "large"])
def test_what_cannot_be_written_is_the_clients_fault_and_no_provider_hears_of_it(
    stack, wrong, form
):
    world = World(stack)
    tool = Tool("f", "", {"type": "object", "properties": {"x": {"enum": [wrong]}}})
    question = replace(ASKED, said=replace(ASKED.said, tools=(tool,)))

    async def work(caller):
        for _ in range(VOLUME):
            with pytest.raises(Refusal) as caught:
                await caller.ask([getattr(world, form)], question)
        return caught.value.status, caller.health

    assert world.run(work) == (422, {}) and not world.p1.ledger + world.p2.ledger


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [("7", 7.0), ("999999999999", 60.0), ("9" * 400, 60.0), ("soon", None), ("\u0663", None),
     ("Fri, 31 Dec 2100 23:59:59 GMT", 60.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0), (None, None)],
)  # fmt: skip
def test_a_provider_that_asks_for_a_long_wait_is_believed_for_a_minute(wait, seconds):
    assert error_of(503, wait).wait == seconds
    assert error_of(429, wait).wait == (seconds or 1.0)


@pytest.mark.parametrize("index", [[0], "0", None, 1.5, True])
def test_a_call_whose_number_is_none_is_malformed(index):
    call = {"index": index, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    chunk = json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]})
    with pytest.raises(ProviderError, match="malformed"):
        ADAPTERS["chat"].event(chunk)
    block = {"type": "tool_use", "id": "c", "name": "f"}
    started = {"type": "content_block_start", "index": index, "content_block": block}
    with pytest.raises(ProviderError, match="malformed"):
        ADAPTERS["messages"].event(json.dumps(started))
