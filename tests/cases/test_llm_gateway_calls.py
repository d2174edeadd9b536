"""Case 20: two wire formats, and what a call does when providers fail."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import httpx
import pytest
from llm_gateway_kit import document, serving

from casebook.cases.llm_gateway.adapters import (
    ADAPTERS,
    Failure,
    failed,
    loaded,
)
from casebook.cases.llm_gateway.calls import FAILURES, Caller, RetryBudget
from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.requests import ChatRequest, Problem, Question, Refusal, parse, told
from casebook.cases.llm_gateway.world.providers import FAULTS, MockProvider

ASKED = Question([("system", "Be brief."), ("user", "where is it?")], 400, {}, False)
STREAMED = ASKED._replace(stream=True)


class World:
    """Two providers behind a caller; ``p1`` speaks Chat Completions, ``p2`` Messages."""

    def __init__(self, stack, first=None, second=None, **waits):
        self.p1 = MockProvider("chat", **(first or {}))
        self.p2 = MockProvider("messages", **(second or {}))
        urls = [stack.enter_context(serving(one)) for one in (self.p1, self.p2)]
        raw = document(*urls)
        for one in raw["providers"]:
            one.update(waits)
        self.config, self.now = read(raw), [0.0]
        self.small, self.large = self.config.model["small"], self.config.model["large"]

    def run(self, work):
        """Run ``work(caller)`` in a loop of its own."""

        async def inner():
            caller = Caller(lambda: self.config, {}, lambda: self.now[0])
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
        short = STREAMED._replace(most=3)
        return [await heard(caller, [one], short) for one in (world.small, world.large)]

    assert [got[1:4:2] for got in world.run(work)] == [("length", 3)] * 2


def test_the_messages_format_gets_turns_a_schema_in_words_and_no_option_that_it_lacks():
    schema = {"type": "object"}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    options = {"temperature": 1.7, "seed": 3, "stop": ["END"], "response_format": form}
    said = [("assistant", "Hello"), ("user", "a"), ("user", "b"), ("developer", "c")]
    made = ADAPTERS["messages"].body(Question(said, 9, options, True), "up")
    assert [turn["role"] for turn in made["messages"]] == ["user", "assistant", "user"]
    assert made["messages"][2]["content"] == "a\n\nb"
    assert made["temperature"] == 1.0 and made["stop_sequences"] == ["END"] and made["stream"]
    assert "c" in made["system"] and json.dumps(schema) in made["system"] and "seed" not in made


@pytest.mark.parametrize("form", ["chat", "messages"])
@pytest.mark.parametrize(
    "sent",
    ["[]", "{", '{"choices": [3]}', '{"choices": [{"message": 3}]}', '{"content": [{}]}', "nan"],
)
def test_what_is_no_answer_is_a_failure_and_never_a_crash(form, sent):
    with pytest.raises(Failure, match="nonsense"):
        ADAPTERS[form].whole(loaded(sent))
    for event in (sent, '{"choices": [{"delta": 3}]}', '{"type": "message_delta", "delta": 3}'):
        try:
            ADAPTERS[form].event(event)
        except Failure as failure:
            assert failure.kind == "nonsense"


def test_a_negative_count_of_tokens_is_not_believed():
    choice = {"message": {"content": "x"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": -5, "completion_tokens": True}
    piece = ADAPTERS["chat"].whole({"choices": [choice], "usage": usage})
    assert piece.tokens_in is None and piece.tokens_out is None


# Faults --------------------------------------------------------------------------------

#: What a client gets when its only provider has this fault: as JSON, and before a stream begins.
STATUS = {"limited": 429, "failed": 502, "overloaded": 502, "refused": 400, "locked": 503}
STATUS |= {"late": 504, "nonsense": 502, "cut": 502, "inner": 200, "slow": 200}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_status_and_another_model_takes_over(stack, fault):
    world = World(stack, {"script": [fault] * 9, "pause_s": 2.0}, first_s=1.0)

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


@pytest.mark.parametrize("fault", ["cut", "inner"])
@pytest.mark.parametrize("form", ["small", "large"])
def test_a_stream_that_breaks_after_its_first_piece_is_an_error_and_nobody_takes_over(
    stack, fault, form
):
    script = {"script": [fault], "says": lambda body: ["a ", "b ", "c ", "d "]}
    world, seen = World(stack, script, script), []
    other = {"small": "large", "large": "small"}[form]

    async def work(caller):
        answer = await caller.ask([world.config.model[form], world.config.model[other]], STREAMED)
        async for piece in answer.pieces():
            seen.append(piece.text)

    with pytest.raises(Failure, match=r"cut|failed"):
        world.run(work)
    assert "".join(seen) == "a b " and len(world.p1.ledger) + len(world.p2.ledger) == 1


def test_a_provider_that_nobody_runs_is_503_and_one_that_pauses_too_long_is_late(stack):
    world = World(stack, {"script": ["slow"], "says": lambda _: ["a"] * 4}, idle_s=0.1)
    gone = read(document())

    async def pauses(caller):
        answer = await caller.ask([world.small], STREAMED)
        return [piece async for piece in answer.pieces()]

    with pytest.raises(Failure, match="late"):
        world.run(pauses)
    world.config = gone
    with pytest.raises(Refusal) as caught:
        world.run(lambda caller: caller.ask([gone.model["small"]], ASKED))
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
    script = ["failed"] * FAILURES + ["ok", "ok", "limited"]
    world = World(stack, {"script": script})

    async def one(caller):
        try:
            return (await heard(caller, [world.small], ASKED))[4]
        except Refusal as refusal:
            return refusal.status, refusal.wait

    async def work(caller):
        caller.budget = RetryBudget(share=0, least=0)
        found = [await one(caller) for _ in range(FAILURES)]
        shut = await one(caller)
        world.now[0] = 6.0
        probes = [await one(caller) for _ in range(2)]
        limited = [await one(caller) for _ in range(3)]
        world.now[0] = 8.1
        return found, shut, probes, limited, await one(caller)

    found, shut, probes, limited, again = world.run(work)
    assert [status for status, _ in found] == [502] * FAILURES and shut[0] == 503
    assert probes == ["small", "small"], "two probes close it"
    assert limited == [(429, 2.0)] * 3, "it is asked once; then the wait that it gave is kept"
    assert again == "small" and len(world.p1.ledger) == FAILURES + 4


def test_who_leaves_ends_the_providers_work_and_says_nothing_about_its_health(stack):
    world = World(stack, {"token_s": 0.01, "says": lambda _: ["a"] * 400})

    async def work(caller):
        for _ in range(FAILURES + 1):
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
        return caller.health["p1"].state, len(pool.connections)

    assert world.run(work) == ("closed", 0)


# What a client sends -------------------------------------------------------------------

HELLO = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"{", 400, "Send one JSON object"),
        (b"[]", 400, "Send one JSON object"),
        (b'{"messages": [], "messages": []}', 400, "twice"),
        (b'{"messages": []}', 422, "Send messages, or prompt, or both."),
        ({**HELLO, "tools": []}, 422, '"tools" is no field. Leave it out'),
        ({**HELLO, "n": 2}, 422, "Send n as 1: one answer a request."),
        ({**HELLO, "temperature": "hot"}, 422, "Send temperature as a number from 0 to 2."),
        ({**HELLO, "max_tokens": 0}, 422, "Send max_tokens as a whole number"),
        ({"messages": [{"role": "king", "content": "hi"}]}, 422, "Send messages as a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            422,
            "Send messages",
        ),
        ({**HELLO, "stop": ["a"] * 5}, 422, "Send stop as a text, or up to four."),
    ],
)
def test_a_wrong_body_is_told_what_to_send(raw, status, said):
    with pytest.raises(Problem) as caught:
        parse(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), ChatRequest)
    error = told(caught.value)["error"]
    assert caught.value.status == status and said in error["message"], error
    assert error["type"] == "invalid_request_error" and error["do"]


def test_a_planned_fault_that_is_none_is_refused_and_statuses_have_their_kind():
    with pytest.raises(ValueError, match="are no faults: give some of limited"):
        MockProvider("chat", shares={"boom": 0.1})
    assert failed(429, None).wait == 1.0 and failed(503, "7").wait == 7.0
    assert failed(529, "soon").wait is None and failed(404, None).kind == "locked"
    assert isinstance(httpx.ConnectError("x"), httpx.RequestError)
