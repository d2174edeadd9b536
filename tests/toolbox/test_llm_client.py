"""The client end to end, against a server on loopback that plays faults."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import random
import threading
import time
import traceback
from email.utils import formatdate

import pytest
from llm_server import (
    LLMServer,
    call,
    completion,
    cut_body,
    delta,
    drip,
    echo,
    endless,
    event,
    events,
    good_stream,
    hang_up,
    in_turn,
    payload,
    redirect,
    silent,
    split,
    sse,
    status,
    usage_chunk,
    whole,
)
from pace import patience, until

from casebook.llm import (
    AnswerTooLarge,
    ArgumentsDoNotFit,
    ArgumentsNotJSON,
    Budget,
    ConfigurationError,
    ConnectionFailed,
    LLMError,
    MalformedJSON,
    Message,
    NoChoices,
    OpenAICompatible,
    OutputDoesNotFit,
    RateLimited,
    Redirected,
    Refused,
    RequestRejected,
    ResponseFormat,
    ServerFailed,
    Sources,
    StreamCut,
    TimedOut,
    Timeout,
    Tool,
    ToolCall,
    UnknownTool,
    Usage,
    WrongShape,
    describe,
)
from casebook.llm.schema import misfit
from casebook.llm.timing import retry_after

HELLO = [Message("user", "hello")]
WEATHER = Tool(
    "weather",
    "Weather of a town.",
    {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
)
PARCEL = ResponseFormat(
    "parcel", {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
)
#: So short that a test can wait for it.
QUICK = Timeout(connect=0.25, read=0.25, attempt=0.45)
#: So long that a busy machine does not run into it.
PATIENT = Timeout(connect=5, read=5, attempt=10)
ONCE = Budget(attempts=1)
AGAIN = Budget(attempts=3, seconds=5, base=0.001)


class Time:
    """A clock that only waits and scripted steps move, and a log of the waits."""

    def __init__(self, seed: int = 0) -> None:
        self.seconds = 1000.0
        self.waits: list[float] = []
        self.bounds: list[float] = []
        self._random = random.Random(seed)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def uniform(self, low: float, high: float) -> float:
        self.bounds.append(high)
        return self._random.uniform(low, high)

    @property
    def sources(self) -> Sources:
        return Sources(lambda: self.seconds, lambda: self.seconds, self.sleep, self.uniform)


def client(server: LLMServer, key: str | None = None, **settings) -> OpenAICompatible:
    settings = {"timeout": PATIENT, "budget": ONCE, **settings}
    return OpenAICompatible(server.url, "tiny", key, **settings)


def ask(*steps, streamed: bool = False, **settings):
    """Ask a server that plays steps; return the reply, or the error, and how often it was asked."""
    question = {
        name: settings.pop(name) for name in ("tools", "response_format") if name in settings
    }
    with LLMServer(*steps) as server:
        model = client(server, **settings)
        try:
            if streamed:
                *_, last = model.stream(HELLO, **question)
                return last.reply, len(server.requests)
            return model.complete(HELLO, **question), len(server.requests)
        except LLMError as error:
            return error, len(server.requests)


# It works ------------------------------------------------------------------------------


def test_a_question_and_its_answer():
    with LLMServer(completion("Hi, Grüße 🎉")) as server:
        model = client(server, "sk-some-key-of-a-reader", options={"temperature": 0})
        reply = model.complete(HELLO)
        (asked,) = server.requests
    assert (reply.content, reply.model, reply.finish_reason) == ("Hi, Grüße 🎉", "tiny-1", "stop")
    assert reply.usage == Usage(7, 3)
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["Authorization"] == "Bearer sk-some-key-of-a-reader"
    assert asked.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
        "temperature": 0,
    }


def test_without_a_key_no_header_is_sent():
    with LLMServer(completion("hi")) as server:
        client(server).complete(HELLO)
        assert "Authorization" not in server.requests[0].headers


def test_a_tool_is_called_and_answered():
    calling = completion(None, finish="tool_calls", tool_calls=[call("weather", {"town": "Bonn"})])
    with LLMServer(calling, completion("Rain.")) as server:
        model = client(server)
        asked = model.complete(HELLO, tools=[WEATHER])
        assert asked.tool_calls == (ToolCall("weather", {"town": "Bonn"}, "call_a"),)
        history = [*HELLO, asked.message, asked.tool_calls[0].result("rain")]
        assert model.complete(history, tools=[WEATHER]).content == "Rain."
        assert server.requests[1].body["messages"][1:] == [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call("weather", {"town": "Bonn"})],
            },
            {"role": "tool", "content": "rain", "tool_call_id": "call_a"},
        ]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_structured_answer_is_a_value(streamed):
    step = sse(good_stream('{"id":', ' "P7"}')) if streamed else completion('{"id": "P7"}')
    reply, _ = ask(step, streamed=streamed, response_format=PARCEL)
    assert reply.data == {"id": "P7"}


STREAM = b": OPEN\n\n" + good_stream("Grü", "ße\u2028an ", "alle 🎉")


@pytest.mark.parametrize("parts", [[STREAM], split(STREAM, 1), split(STREAM, 5)])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_stream_is_the_same_however_it_is_cut(parts, chunked):
    with LLMServer(sse(*parts, chunked=chunked)) as server:
        *pieces, last = client(server).stream(HELLO)
        assert server.requests[0].body["stream_options"] == {"include_usage": True}
    assert [piece.text for piece in pieces] == ["Grü", "ße\u2028an ", "alle 🎉"]
    assert last.reply.content == "Grüße\u2028an alle 🎉"
    assert (last.reply.usage, last.reply.finish_reason) == (Usage(7, 3), "stop")


def test_pieces_are_passed_on_as_they_arrive():
    """The server sends the second piece only after the first was handed on."""
    handed_on = threading.Event()

    def step(connection):
        connection.head(200, "Content-Type: text/event-stream; charset=utf-8")
        connection.write(event(delta("one ")))
        if handed_on.wait(patience(5)):
            connection.write(event(delta("two")) + good_stream())

    with LLMServer(step) as server:
        stream = client(server, timeout=Timeout(*map(patience, (5, 10, 20)))).stream(HELLO)
        assert next(stream).text == "one "
        handed_on.set()
        assert "".join(piece.text for piece in stream) == "two"


def test_tool_calls_arrive_in_pieces():
    def piece(index, **function):
        return {"index": index, "function": function}

    first = {"id": "call_a", "type": "function", **piece(0, name="weather", arguments="")}
    second = {"id": "call_b", "type": "function", **piece(1, name="weather", arguments='{"to')}
    step = sse(
        events(
            delta("", role="assistant", tool_calls=[first]),
            delta(tool_calls=[piece(0, arguments='{"town"')]),
            delta(tool_calls=[second, piece(0, arguments=': "Bo')]),
            delta(tool_calls=[{"id": "call_a", **piece(0, arguments='nn"}')}]),  # some repeat it
            delta(tool_calls=[piece(1, arguments='wn": "Köln"}')]),
            delta(finish="tool_calls"),
            usage_chunk(),
            "[DONE]",
        )
    )
    reply, _ = ask(step, streamed=True, tools=[WEATHER])
    assert reply.finish_reason == "tool_calls"
    assert [(c.id, c.arguments) for c in reply.tool_calls] == [
        ("call_a", {"town": "Bonn"}),
        ("call_b", {"town": "Köln"}),
    ]


def test_tool_calls_without_an_index_are_told_apart_by_their_ids():
    def piece(arguments, **more):
        return {"function": {"name": "weather" if more else None, "arguments": arguments}, **more}

    step = sse(
        events(
            delta(tool_calls=[piece('{"town":', id="a")]),
            delta(tool_calls=[piece(' "Bonn"}')]),
            delta(tool_calls=[piece('{"town": "Ulm"}', id="b")], finish="tool_calls"),
            "[DONE]",
        )
    )
    reply, _ = ask(step, streamed=True, tools=[WEATHER])
    assert [c.arguments["town"] for c in reply.tool_calls] == ["Bonn", "Ulm"]


@pytest.mark.parametrize(
    "pieces",
    [
        [delta("hi"), delta(finish="stop")],  # [DONE] is missing
        [delta("hi", finish="stop"), "[DONE]"],  # no usage
        [{"choices": [], "prompt_filter_results": []}, delta("hi", finish="stop"), "[DONE]"],
        [delta("hi", finish="stop"), {**usage_chunk(), "choices": None}, "[DONE]"],
    ],
)
def test_habits_of_servers_are_taken(pieces):
    reply, _ = ask(sse(events(*pieces)), streamed=True)
    assert (reply.content, reply.finish_reason) == ("hi", "stop")
    counted = any(isinstance(p, dict) and p.get("usage") for p in pieces)
    assert reply.usage == (Usage(7, 3) if counted else Usage(2, 1, estimated=True))


def test_a_stream_that_is_left_closes_its_connection():
    left = threading.Event()

    def step(connection):
        try:
            sse(*[event(delta("x" * 1000))] * 100_000)(connection)
        except OSError:
            left.set()

    with LLMServer(step) as server:
        stream = client(server).stream(HELLO)
        next(stream)
        stream.close()
        assert left.wait(5)


def test_one_client_serves_several_threads():
    with LLMServer(completion("hi")) as server:
        model, replies = client(server), []
        threads = [
            threading.Thread(target=lambda: replies.append(model.complete(HELLO).content))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies == ["hi"] * 8


def test_a_closed_client_can_be_used_again():
    with LLMServer(completion("hi")) as server, client(server) as model:
        model.complete(HELLO)
        model.close()
        assert model.complete(HELLO).content == "hi"


def test_a_wrong_request_raises_at_once_and_is_not_sent():
    with LLMServer(completion("hi")) as server:
        for method in (client(server).complete, client(server).stream):
            with pytest.raises(ValueError, match="no messages"):
                method([])
            with pytest.raises(TypeError, match="tools hold a str"):
                method(HELLO, tools=["weather"])
        assert server.requests == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": " "}, "The model has no name"),
        ({"options": {"stream": True}}, "The client sets stream itself"),
        ({"options": {"stop": {1}}}, "The options are no JSON"),
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"key": ""}, "The key holds"),
    ],
)
def test_wrong_settings_are_refused(settings, reason):
    with pytest.raises(ConfigurationError, match=reason):
        OpenAICompatible(**{"base_url": "http://127.0.0.1/v1", "model": "m", **settings})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Timeout(connect=0), r"time-out \(connect\) is 0"),
        (lambda: Timeout(read=float("inf")), r"time-out \(read\) is inf"),
        (lambda: Timeout(1, 5, 4), "shorter than that of its parts"),
        (lambda: Budget(attempts=0), "attempts is 0"),
        (lambda: Budget(attempts=True), "attempts is True"),
        (lambda: Budget(seconds=-1), "budget's seconds is -1"),
        (lambda: Budget(base="1"), "budget's base is '1'"),
    ],
)
def test_wrong_limits_are_refused(make, reason):
    with pytest.raises(ConfigurationError, match=reason):
        make()


# What is repeated, and what is not -----------------------------------------------------


def enough(name: str) -> Timeout:
    """Return the time-out for a fault of the table."""
    return QUICK if "silent" in name or "dripping" in name else PATIENT


#: Fault, streamed, its error, and whether it is repeated.
FAULTS = {
    **{f"status {code}": (status(code), False, RateLimited if code == 429 else ServerFailed, True)
       for code in (429, 500, 502, 503, 504)},
    **{f"status {code}": (status(code), False, RequestRejected, False)
       for code in (400, 401, 403, 404, 408, 409, 413, 422)},
    "status 501": (status(501), False, ServerFailed, False),
    "hang up": (hang_up, False, ConnectionFailed, True),
    "cut body": (cut_body, False, ConnectionFailed, True),
    "silent": (silent(), False, TimedOut, True),
    "dripping head": (drip(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 99, 0.1, head=False), False,
                      TimedOut, True),
    "dripping body": (drip(b" " * 99, 0.1), False, TimedOut, False),
    "malformed JSON": (whole('{"choices": ['), False, MalformedJSON, False),
    "a page of HTML": (whole("<html>log in", kind="text/html"), False, MalformedJSON, False),
    "not UTF-8": (whole(b'{"choices": "\xff"}'), False, MalformedJSON, False),
    "nothing": (whole(""), False, MalformedJSON, False),
    "gzip that is none": (whole("{}", "Content-Encoding: gzip"), False, MalformedJSON, False),
    "wrong shape": (whole('{"answer": "hi"}'), False, WrongShape, False),
    "empty choices": (whole('{"choices": []}'), False, NoChoices, False),
    "refusal": (completion(None, refusal="No."), False, Refused, False),
    "unknown tool": (completion(None, tool_calls=[call("rm", {})]), False, UnknownTool, False),
    "bad arguments": (completion(None, tool_calls=[call("weather", "{")]), False,
                      ArgumentsNotJSON, False),
    "misfit": (completion(None, tool_calls=[call("weather", {})]), False, ArgumentsDoNotFit, False),
    "endless": (endless, False, AnswerTooLarge, False),
    "redirect": (redirect("http://127.0.0.1:9/v1"), False, Redirected, False),
    "error inside": (whole('{"error": {"message": "busy", "code": 503}}'), False,
                     ServerFailed, True),
    "bad request inside": (whole('{"error": {"message": "no", "code": 400}}'), False,
                           ServerFailed, False),
    "empty stream": (sse(), True, StreamCut, True),
    "stream cut before a text": (sse(event(delta("", role="assistant")), finish=False), True,
                                 StreamCut, True),
    "stream cut after a text": (sse(event(delta("one")), finish=False), True, StreamCut, False),
    "stream ended after a text": (sse(event(delta("one"))), True, StreamCut, False),
    "[DONE] without a reason": (sse(events(delta("one"), "[DONE]")), True, StreamCut, False),
    "[DONE] alone": (sse(events("[DONE]")), True, NoChoices, False),
    "stream silent": (lambda c: (c.head(200, "Content-Type: text/event-stream"), c.pause(9)), True,
                      TimedOut, True),
    "stream silent after a text": (sse(event(delta("one")), b": ping\n", pause=9), True, TimedOut,
                                   False),
    "dripping stream": (sse(*[event(delta("x"))] * 99, pause=0.1), True, TimedOut, False),
    "malformed piece": (sse(event(delta("one")), event("{")), True, MalformedJSON, False),
    "piece of a wrong shape": (sse(event(delta("one")), event('{"choices": 1}')), True, WrongShape,
                               False),
    "error after a text": (sse(event(delta("one")), event('{"error": {"message": "x"}}')), True,
                           ServerFailed, False),
    "error before a text": (sse(event('{"error": {"message": "x"}}')), True, ServerFailed, True),
    "no stream": (completion("hi"), True, WrongShape, False),
    "stream of a bad call": (sse(events(delta(tool_calls=[{"index": 0, **call("weather", "{")}]),
                                        delta(finish="tool_calls"), "[DONE]")), True,
                             ArgumentsNotJSON, False),
    "endless stream": (sse(*[b": " + b"x" * 9999 + b"\n"] * 30), True, AnswerTooLarge, False),
    "stream rejected": (status(400), True, RequestRejected, False),
    "stream limited": (status(429), True, RateLimited, True),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_own_error_and_is_repeated_or_not(name):
    step, streamed, error, repeated = FAULTS[name]
    found, asked = ask(
        step,
        streamed=streamed,
        tools=[WEATHER],
        timeout=enough(name),
        budget=Budget(attempts=2, seconds=5, base=0.001),
        max_bytes=200_000,
    )
    assert type(found) is error, found
    assert asked == found.attempts == (2 if repeated else 1)
    after_text = streamed and ("after a text" in name or "piece" in name or "reason" in name)
    assert found.so_far == ("one" if after_text else "x" * len(found.so_far))
    assert ("so_far" in str(found)) == bool(found.so_far)


@pytest.mark.parametrize(
    "fault",
    ["status 429", "status 500", "status 502", "status 503", "status 504", "hang up", "cut body"],
)
def test_a_passing_fault_is_got_over(fault):
    reply, asked = ask(FAULTS[fault][0], FAULTS[fault][0], completion("hi"), budget=AGAIN)
    assert (reply.content, asked) == ("hi", 3)


def test_a_stream_that_broke_before_its_first_text_is_got_over():
    steps = [FAULTS["stream cut before a text"][0], sse(good_stream("one", " two"))]
    with LLMServer(*steps) as server:
        pieces = list(client(server, budget=AGAIN).stream(HELLO))
    assert [piece.text for piece in pieces] == ["one", " two", ""]


def test_nothing_is_said_twice():
    """A stream that broke after a text is not begun again: its reader would see the text twice."""
    steps = [FAULTS["stream cut after a text"][0], sse(good_stream("one", " two"))]
    with LLMServer(*steps) as server:
        stream = client(server, budget=AGAIN).stream(HELLO)
        assert next(stream).text == "one"
        with pytest.raises(StreamCut) as caught:
            next(stream)
        assert len(server.requests) == 1
    assert caught.value.so_far == "one"


def test_a_server_that_is_not_there():
    with LLMServer(completion("hi")) as server:
        model = client(server, budget=AGAIN)
    with pytest.raises(ConnectionFailed, match="Is the server running") as caught:
        model.complete(HELLO)
    assert caught.value.attempts == 3
    assert "3 attempts were made" in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("status 401", "CASEBOOK_LLM_API_KEY"),
        ("status 404", "ollama pull"),
        ("status 400", "The request has to change"),
        ("status 429", "send less at a time"),
        ("a page of HTML", "usually ends in /v1"),
        ("silent", "CASEBOOK_LLM_TIMEOUT"),
        ("endless", "max_tokens"),
        ("redirect", "make it the base URL"),
    ],
)
def test_an_error_says_what_to_do(fault, advice):
    error, _ = ask(FAULTS[fault][0], timeout=enough(fault), max_bytes=200_000)
    assert advice in str(error)


def test_the_words_of_the_server_are_passed_on():
    error, _ = ask(status(400, message="max_tokens is too large"))
    assert "answers 400: max_tokens is too large." in str(error)
    error, _ = ask(whole("404 page not found", code=404, kind="text/plain"))
    assert "answers 404: 404 page not found." in str(error)
    error, _ = ask(whole("<html>bad gateway</html>", code=502, kind="text/html"))
    assert "html" not in str(error)
    error, _ = ask(status(400, message="x" * 100_000))
    assert len(str(error)) < 400


# Time ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        (" 3 ", 3),
        (formatdate(1060, usegmt=True), 60),
        (formatdate(900, usegmt=True), 0),
        ("Thu, 01 Jan 1970 00:17:00 -0000", 20),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("٣", None),
        ("1e9", None),
        ("Fri, 99 Foo 1970 00:00:00 GMT", None),
    ],
)
def test_what_retry_after_asks(value, seconds):
    assert retry_after(value, now=1000.0) == seconds


@pytest.mark.parametrize("asks", ["9", formatdate(1009, usegmt=True)])
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_waited_for(asks, code):
    clock = Time()
    steps = [status(code, f"Retry-After: {asks}"), completion("hi")]
    reply, _ = ask(*steps, sources=clock.sources, budget=Budget(2, 60))
    assert (reply.content, clock.waits) == ("hi", [9])


def test_a_wait_beyond_the_budget_is_not_begun():
    clock = Time()
    error, asked = ask(status(429, "Retry-After: 61"), sources=clock.sources, budget=Budget(5, 60))
    assert type(error) is RateLimited
    assert (asked, clock.waits, clock.seconds) == (1, [], 1000)
    assert "asks to wait 61.0 s, and 60.0 s of the budget are left" in str(error)


def test_waits_are_random_below_a_bound_that_doubles_up_to_a_cap():
    clock = Time()
    budget = Budget(attempts=8, seconds=1000, base=0.5, cap=8)
    error, asked = ask(status(503), sources=clock.sources, budget=budget)
    assert (asked, error.attempts) == (8, 8)
    assert clock.bounds == [0.5, 1, 2, 4, 8, 8, 8]
    assert all(0 <= wait <= bound for wait, bound in zip(clock.waits, clock.bounds, strict=True))
    assert len(set(clock.waits)) == 7


@pytest.mark.parametrize("seed", range(30))
def test_time_never_exceeds_the_budget_by_more_than_an_attempt(seed):
    """Random faults, waits that servers ask for, and slow answers, on a clock of the test's."""
    chance, clock = random.Random(seed), Time(seed)
    budget = Budget(
        chance.randint(1, 8), chance.uniform(1, 40), chance.uniform(0.1, 5), chance.uniform(1, 20)
    )
    timeout = Timeout(1, 5, chance.uniform(5, 20))
    kinds = [
        lambda: status(chance.choice([429, 500, 503]), f"Retry-After: {chance.randint(0, 30)}"),
        lambda: status(chance.choice([429, 502, 504])),
        lambda: hang_up,
        lambda: cut_body,
    ]
    starts = []

    def pass_time():
        starts.append(clock.seconds)
        clock.seconds += chance.uniform(0, timeout.attempt)

    steps = [chance.choice(kinds)() for _ in range(8)]
    steps = in_turn(*steps, before=[pass_time] * 8)
    error, asked = ask(*steps, sources=clock.sources, budget=budget, timeout=timeout)
    assert isinstance(error, LLMError)
    assert asked == len(starts) == error.attempts <= budget.attempts
    assert clock.seconds - 1000 <= budget.seconds + timeout.attempt
    assert max(starts) - 1000 < budget.seconds
    assert error.seconds == pytest.approx(clock.seconds - 1000)


def test_a_wait_that_oversleeps_starts_no_attempt():
    clock = Time()
    sources = Sources(
        lambda: clock.seconds, lambda: clock.seconds, lambda s: clock.sleep(s + 100), clock.uniform
    )
    error, asked = ask(status(503), sources=sources, budget=Budget(5, 60))
    assert asked == 1
    assert "used up the budget" in str(error)


@pytest.mark.parametrize(
    ("step", "streamed"),
    [
        (silent(), False),
        (FAULTS["dripping head"][0], False),
        (FAULTS["dripping body"][0], False),
        (FAULTS["dripping stream"][0], True),
        (sse(*[b": ping\n\n"] * 99, pause=0.05), True),
        (
            lambda c: (c.head(503, "Content-Length: 99"), drip(b"x" * 99, 0.05, head=False)(c)),
            False,
        ),
    ],
    ids=["silent", "head", "body", "stream", "comments", "error"],
)
def test_on_a_real_clock_an_attempt_ends_when_its_time_is_over(step, streamed):
    """Each byte comes in time for the socket; only a deadline ends these."""
    budget, timeout = Budget(attempts=9, seconds=0.3, base=0.01), Timeout(0.1, 0.2, 0.3)
    start = time.perf_counter()
    error, _ = ask(step, streamed=streamed, budget=budget, timeout=timeout)
    assert isinstance(error, TimedOut | ServerFailed)
    assert time.perf_counter() - start < budget.seconds + timeout.attempt + patience(0.35)


def test_a_reader_that_dawdles_ends_the_attempt_too():
    limit = patience(0.3)
    with LLMServer(sse(*[event(delta("x"))] * 3, good_stream(), pause=limit)) as server:
        stream = client(server, timeout=Timeout(limit, limit, limit)).stream(HELLO)
        assert next(stream).text == "x"
        time.sleep(1.2 * limit)
        with pytest.raises(TimedOut, match=r"was not done after the [\d.]+ s of an attempt"):
            list(stream)


def test_each_attempt_has_a_connection_of_its_own_that_its_deadline_can_cut():
    """On a connection that was kept, the client would not know the socket to shut down."""
    kept = whole(json.dumps(payload("hi")), keep=True)
    with LLMServer(kept, kept, FAULTS["dripping head"][0]) as server:
        model = client(server, timeout=Timeout(*map(patience, (0.3, 0.3, 0.4))))
        assert [model.complete(HELLO).content for _ in range(2)] == ["hi", "hi"]
        with pytest.raises(TimedOut):
            model.complete(HELLO)
        assert server.connections == 3


def test_nothing_is_waited_for_after_the_end_of_a_stream():
    start, pause = time.perf_counter(), patience(4)
    with LLMServer(sse(good_stream("hi"), event("no JSON"), pause=pause)) as server:
        *_, last = client(server).stream(HELLO)
        assert last.reply.content == "hi"
        assert time.perf_counter() - start < pause


def test_no_thread_is_left_behind():
    ask(completion("hi"))
    ask(silent(), timeout=Timeout(0.1, 0.1, 9))
    until(
        lambda: not [t for t in threading.enumerate() if isinstance(t, threading.Timer)],
        "its end",
        5,
    )


# Size ----------------------------------------------------------------------------------


def test_a_huge_body_is_not_read_to_its_end():
    sent = []

    def step(connection):
        connection.head(200, "Content-Type: application/json")
        for _ in range(2000):
            connection.write(b" " * 65536)
            sent.append(65536)

    error, _ = ask(step, max_bytes=1_000_000)
    assert type(error) is AnswerTooLarge
    assert "larger than 1,000,000 bytes" in str(error)
    assert sum(sent) < 20_000_000


def test_a_huge_error_is_not_read_to_its_end():
    start = time.perf_counter()
    error, _ = ask(lambda connection: endless(connection, 500))
    assert type(error) is ServerFailed
    assert time.perf_counter() - start < patience(PATIENT.attempt / 2)


def test_a_body_of_just_the_bound_is_read():
    body = json.dumps(payload("hi"))
    assert ask(whole(body), max_bytes=len(body))[0].content == "hi"
    assert type(ask(whole(body), max_bytes=len(body) - 1)[0]) is AnswerTooLarge


# Secrets -------------------------------------------------------------------------------

KEY, PASSWORD, QUERY, PATH = (
    f"{what}-Planted-{what}9" for what in ("key", "pass", "query", "path")
)
SECRETS = (KEY, PASSWORD, QUERY, PATH, "Planted", "cGFzcy1QbGFudGVkL", "Bearer key")


def told(*texts: str) -> None:
    """Fail if a text tells a secret."""
    for text in texts:
        for secret in SECRETS:
            assert secret not in text, f"{secret} in: {text}"


ECHOES = {
    "echo 400": echo(400, wrap=lambda said: json.dumps({"error": {"message": said}})),
    "echo 401, long": echo(401, wrap=lambda s: json.dumps({"error": {"message": "x" * 160 + s}})),
    "echo 429": echo(429),
    "echo 500": echo(500, wrap=lambda said: json.dumps({"detail": said})),
    "echo 302": echo(302),
    "echo error": echo(200, wrap=lambda said: json.dumps({"error": said})),
    "not JSON": echo(200),
    "tool name": echo(
        200, wrap=lambda said: json.dumps(payload(None, tool_calls=[call(said, {})]))
    ),
    "tool arguments": echo(
        200,
        wrap=lambda said: json.dumps(
            payload(None, tool_calls=[call("weather", {"town": [said.partition("?")[2]]})])
        ),
    ),
    "structured": echo(200, wrap=lambda said: json.dumps(payload(json.dumps({"id": [said]})))),
    "echo refusal": echo(200, wrap=lambda said: json.dumps(payload(None, refusal=said))),
    "usage": echo(200, wrap=lambda s: json.dumps({**payload("hi"), "usage": {"prompt_tokens": s}})),
}


@pytest.fixture
def log():
    """Catch all that is logged, at every level, as handlers see it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.setLevel(level)
    root.removeHandler(handler)


def secret_client(server: LLMServer, key: str | None = KEY, **settings) -> OpenAICompatible:
    base = f"http://me:{PASSWORD}@127.0.0.1:{server.port}/{PATH}/v1?k={QUERY}"
    settings = {"timeout": PATIENT, "budget": ONCE, **settings}
    return OpenAICompatible(base, "tiny", key, **settings)


@pytest.mark.parametrize(
    ("name", "key"),
    [*((name, KEY) for name in FAULTS | ECHOES), *((name, None) for name in ECHOES)],
)
def test_no_secret_is_told(name, key, log):
    """Neither the bearer token nor, without one, user and password; nor path and query."""
    step, streamed = (ECHOES[name], False) if name in ECHOES else FAULTS[name][:2]
    with LLMServer(step) as server:
        model = secret_client(server, key, timeout=enough(name), max_bytes=200_000)
        with pytest.raises(LLMError) as caught:
            if streamed:
                list(model.stream(HELLO, tools=[WEATHER]))
            else:
                form = PARCEL if name == "structured" else None
                model.complete(HELLO, tools=[WEATHER], response_format=form)
        (asked,) = server.requests
    # They were sent …
    assert asked.path == f"/{PATH}/v1/chat/completions?k={QUERY}"
    assert asked.headers["Authorization"].startswith("Bearer key" if key else "Basic ")
    # … and stand nowhere else.
    error = caught.value
    told(str(error), repr(error), error.so_far, str(error.args), str(vars(error)))
    told("".join(traceback.format_exception(error)))
    assert error.__cause__ is None  # what httpx says is not ours to answer for
    told(repr(model), str(model), str(vars(model)), describe(model))
    assert "send_request_headers" in log.getvalue()
    told(log.getvalue())


def test_the_log_that_is_searched_would_show_a_secret(log):
    """Without the filter the libraries below the client print what the server sent back."""
    from casebook.llm import secrets

    loggers = [logging.getLogger(name) for name in secrets.LOGGERS]
    with LLMServer(echo(302)) as server:
        model = secret_client(server)
        model._pool()
        for logger in loggers:
            logger.removeFilter(secrets._FILTER)
        try:
            with pytest.raises(Redirected):
                model.complete(HELLO)
        finally:
            for logger in loggers:
                logger.addFilter(secrets._FILTER)
    assert KEY in log.getvalue() and QUERY in log.getvalue()


def test_a_secret_that_streams_in_pieces_is_hidden_in_what_arrived():
    step = sse(*(event(delta(part)) for part in (KEY[:5], KEY[5:])), finish=False)
    with LLMServer(step) as server, pytest.raises(StreamCut) as caught:
        list(secret_client(server).stream(HELLO))
    assert caught.value.so_far == "[hidden]"


def test_a_client_with_its_key_is_not_copied():
    with LLMServer(completion("hi")) as server:
        for copying in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="holds a key"):
                copying(secret_client(server))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(code):
    with LLMServer(completion("stolen")) as other:
        error, asked = ask(redirect(f"http://localhost:{other.port}/v1?k=1", code), key=KEY)
        assert other.requests == []
    assert (type(error), asked) == (Redirected, 1)
    assert "to http://localhost. The client does not follow" in str(error)


def test_a_schema_that_refers_to_another_document_fetches_nothing():
    with LLMServer(whole('{"type": "string"}')) as server:
        form = {"type": "object", "properties": {"x": {"$ref": f"{server.url}/x.json"}}}
        with pytest.raises(ValueError, match="which it does not define"):
            misfit({"x": 1}, form)
        assert server.requests == []


# Proxies -------------------------------------------------------------------------------


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_proxy_of_the_environment_is_used(no_proxies, name, scheme):
    if name == "HTTP_PROXY":
        no_proxies.delenv("REQUEST_METHOD", raising=False)
    with LLMServer(completion("hi")) as proxy:
        no_proxies.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
        model = OpenAICompatible("http://model.invalid/v1", "m", timeout=PATIENT, budget=ONCE)
        assert model.complete(HELLO).content == "hi"
        assert proxy.requests[0].path == "http://model.invalid/v1/chat/completions"


def test_a_server_on_this_machine_needs_no_proxy(no_proxies):
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ask(completion("hi"))[0].content == "hi"


def test_a_proxy_that_is_none_is_named_without_its_password(no_proxies):
    no_proxies.setenv("HTTP_PROXY", f"gopher://me:{PASSWORD}@127.0.0.1")
    with pytest.raises(ConfigurationError, match="HTTP_PROXY, HTTPS_PROXY or ALL_PROXY") as caught:
        OpenAICompatible("http://model.invalid/v1", "m").complete(HELLO)
    told("".join(traceback.format_exception(caught.value)))


def test_a_misfit_of_a_structured_stream_keeps_the_text():
    error, asked = ask(sse(good_stream('{"id":', " 7}")), streamed=True, response_format=PARCEL)
    assert (type(error), error.so_far, asked) == (OutputDoesNotFit, '{"id": 7}', 1)
