"""Servers that mean harm: bombs, echoes of the key, wrong types, answers without end.

The client's promises are tested one by one; the last tests switch the defences off and see the
promises break, so that a defence that is lost is noticed.
"""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable

import pytest
from llm_server import (
    USAGE,
    Connection,
    LLMServer,
    Step,
    call,
    completion,
    delta,
    echo,
    event,
    events,
    good_stream,
    payload,
    sse,
    status,
    whole,
)
from test_llm_client import (
    HELLO,
    KEY,
    PARCEL,
    PASSWORD,
    PATH,
    QUERY,
    WEATHER,
    ask,
    client,
    secret_client,
)

from casebook.llm import (
    AnswerTooLarge,
    LLMError,
    MalformedJSON,
    Message,
    Refused,
    RequestRejected,
    ServerFailed,
    WrongShape,
    transport,
    wire,
)

LIMIT = 2_000_000
MEGABYTE = 1_000_000


# Compressed answers -----------------------------------------------------------------------


def packed(data: bytes, times: int) -> bytes:
    """Return data compressed several times over."""
    for _ in range(times):
        data = gzip.compress(data)
    return data


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip", "deflate", "br", "zstd", "GZIP", "x"])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_in_any_encoding_is_not_unpacked(coding, streamed):
    body = packed(json.dumps(payload("hi")).encode(), 2)
    kind = "text/event-stream" if streamed else "application/json"
    error, asked = ask(whole(body, f"Content-Encoding: {coding}", kind=kind), streamed=streamed)
    assert (type(error), asked) == (MalformedJSON, 1)
    assert "It was not unpacked" in str(error)


def test_identity_is_no_encoding():
    step = whole(json.dumps(payload("hi")), "Content-Encoding: identity")
    assert ask(step)[0].content == "hi"


@pytest.mark.parametrize("code", [400, 429, 500])
def test_a_bomb_in_an_error_is_not_unpacked(code):
    bomb = packed(b"[" * 50 * MEGABYTE, 2)
    step = whole(bomb, "Content-Encoding: gzip, gzip", code=code)
    tracemalloc.start()
    try:
        error, _ = ask(step)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, LLMError) and f"answers {code}." in str(error)
    assert peak < 4 * MEGABYTE


@pytest.mark.parametrize("code", [400, 500])
@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 12_000, b"a " * 32_000, b"\xff" * 65_000]
)
def test_an_error_that_is_a_bomb_of_nesting_or_words_is_an_error(code, body):
    error, _ = ask(whole(body, code=code))
    assert type(error) is (RequestRejected if code == 400 else ServerFailed)
    assert len(str(error)) < 400


# Types and reasons ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain", "application/octet-stream", "image/png"]
)
def test_good_json_of_a_wrong_type_is_no_answer(kind):
    error, _ = ask(whole(json.dumps(payload("hi")), kind=kind))
    assert type(error) is MalformedJSON
    assert f"type is {kind}, not application/json" in str(error)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json", ""])
def test_json_by_another_name_is_taken(kind):
    assert ask(whole(json.dumps(payload("hi")), kind=kind))[0].content == "hi"


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_good_stream_of_a_wrong_type_is_none(kind):
    error, _ = ask(whole(good_stream("hi"), kind=kind), streamed=True)
    assert type(error) is WrongShape


@pytest.mark.parametrize("streamed", [False, True])
def test_what_a_filter_took_away_is_no_answer(streamed):
    stream = sse(events(delta("You may"), delta(finish="content_filter"), "[DONE]"))
    step = stream if streamed else completion("You may", finish="content_filter")
    error, _ = ask(step, streamed=streamed)
    assert type(error) is Refused
    assert error.so_far == ("You may" if streamed else "")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cut_answer_is_told_from_a_whole_one(streamed):
    stream = sse(events(delta("It costs 1"), delta(finish="length"), "[DONE]"))
    step = stream if streamed else completion("It costs 1", finish="length")
    assert ask(step, streamed=streamed)[0].cut
    whole_one = sse(good_stream("12")) if streamed else completion("12")
    assert not ask(whole_one, streamed=streamed)[0].cut


# The key ----------------------------------------------------------------------------------

DISGUISES: dict[str, Callable[[str], str]] = {
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64, one further": lambda text: b64encode(f"x{text}".encode()).decode(),
    "base64, two further": lambda text: b64encode(f"xy{text}".encode()).decode(),
    "base64 for addresses": lambda text: urlsafe_b64encode(f"?>{text}".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "backwards": lambda text: text[::-1],
    "in capitals": str.upper,
    "in letters": " ".join,
    "in lines": "\n".join,
    "in quotes": lambda text: json.dumps(list(text)),
    "with dots": lambda text: " … ".join(text[i : i + 5] for i in range(0, len(text), 5)),
    "in halves": lambda text: f"begins {text[:12]}, ends {text[12:]}",
}


def tells(text: str, secret: str, run: int = 8) -> bool:
    """Say whether a text holds eight letters of a secret in a row, in any of the disguises."""

    def letters(of: str) -> str:
        return "".join(filter(str.isalnum, of)).lower()

    said = letters(text)
    for form in (secret, secret[::-1], secret.encode().hex(), *_in_base64(secret)):
        plain = letters(form)
        if any(plain[i : i + run] in said for i in range(len(plain) - run + 1)):
            return True
    return False


def _in_base64(secret: str) -> list[str]:
    whole_ones = [b64encode(b"\0" * shift + secret.encode()).decode() for shift in range(3)]
    return [text[4:-4] for text in whole_ones]


@pytest.mark.parametrize("name", DISGUISES)
@pytest.mark.parametrize("code", [200, 400, 500])
def test_a_key_is_hidden_however_the_server_writes_it(name, code):
    def wrap(said: str) -> str:
        error = {"message": DISGUISES[name](said.rpartition(" ")[2])}
        return json.dumps({"error": error})

    with LLMServer(echo(code, wrap=wrap)) as server, pytest.raises(LLMError) as caught:
        secret_client(server).complete(HELLO)
    assert "[hidden]" in str(caught.value)
    assert not tells(str(caught.value), KEY)


@pytest.mark.parametrize("name", DISGUISES)
def test_the_search_for_the_key_would_find_it(name):
    assert tells(f"Error: {DISGUISES[name](KEY)} is wrong", KEY)
    assert not tells("The model is not there: check its name and the address of the server", KEY)


def test_a_message_without_a_secret_stays_as_it_is():
    said = "The model llama3.2 was not found; 404 (see /v1/models) — grüße, 日本."
    with LLMServer(status(404, message=said)) as server, pytest.raises(RequestRejected) as caught:
        secret_client(server).complete(HELLO)
    assert said in str(caught.value)


@pytest.fixture
def planted_environment(monkeypatch) -> list[str]:
    """Set every variable that the official client reads by itself."""
    values = {
        "OPENAI_API_KEY": "sk-planted-key-of-another-vendor",
        "OPENAI_ADMIN_KEY": "sk-planted-admin-key",
        "OPENAI_ORG_ID": "org-planted",
        "OPENAI_PROJECT_ID": "proj-planted",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/planted",
        "OPENAI_CUSTOM_HEADERS": "X-Planted: planted",
        "OPENAI_WEBHOOK_SECRET": "planted",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return list(values.values())


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("streamed", [False, True])
def test_nothing_of_the_official_client_s_own_is_sent(planted_environment, key, streamed):
    step = sse(good_stream("hi")) if streamed else completion("hi")
    with LLMServer(step) as server:
        model = client(server, key)
        list(model.stream(HELLO)) if streamed else model.complete(HELLO)
        (asked,) = server.requests
    expected = {"Host", "Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent"}
    assert asked.headers.keys() == expected | ({"Authorization"} if key else set())
    assert asked.headers["User-Agent"] == "casebook"
    assert "planted" not in str(asked.headers) + asked.path + str(asked.body)


def test_a_cookie_is_not_kept():
    step = whole(json.dumps(payload("hi")), "Set-Cookie: track=me; Path=/")
    with LLMServer(step) as server:
        model = client(server)
        for _ in range(2):
            model.complete(HELLO)
        assert not any("Cookie" in asked.headers for asked in server.requests)


def test_the_official_client_never_holds_key_or_address():
    with LLMServer(completion("hi")) as server:
        model = secret_client(server)
        with model._attempt() as (official, guard):
            shown = f"{vars(official)} {vars(official._client)} {official.base_url} {guard}"
        for secret in (KEY, PASSWORD, QUERY, PATH):
            assert secret not in shown


def test_half_a_character_is_sent():
    with LLMServer(completion("hi")) as server:
        client(server).complete([Message("user", "cut \ud83d")])
        assert server.requests[0].body["messages"][0]["content"] == "cut \ud83d"


# Without end ------------------------------------------------------------------------------


def pouring(pieces: Iterable[bytes], kind: str = "text/event-stream") -> Step:
    """Send pieces for as long as they are taken."""

    def step(connection: Connection) -> None:
        connection.head(200, f"Content-Type: {kind}")
        for piece in pieces:
            if connection.server.ending.is_set():
                return
            connection.write(piece)

    return step


def forever(piece: bytes, first: bytes = b"", size: int = 65_536) -> Iterable[bytes]:
    block = piece * max(1, size // len(piece))
    return itertools.chain([first], itertools.repeat(block))


ENDLESS = {
    "one event": (forever(b"x", b'data: {"choices": [{"delta": {"content": "'), "event of"),
    "lines of one event": (forever(b"data: 1\n"), "event of"),
    "a line of a comment": (forever(b"x", b": "), "event of"),
    "comments": (forever(b": ping\n\n"), "answer is larger"),
    "blank lines": (forever(b"\n"), "answer is larger"),
    "small pieces": (forever(event(delta("x"))), "answer is larger"),
    "refusals": (forever(event(delta(refusal="x"))), "answer is larger"),
    "arguments": (
        forever(event(delta(tool_calls=[{"index": 0, **call("weather", "x")}]))),
        "answer is larger",
    ),
    "events of usage": (forever(event({"choices": [], "usage": USAGE})), "answer is larger"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_stream_without_end_is_left(name):
    pieces, said = ENDLESS[name]
    error, asked = ask(pouring(pieces), streamed=True, tools=[WEATHER], max_bytes=300_000)
    assert (type(error), asked) == (AnswerTooLarge, 1)
    assert said in str(error)


def test_tool_calls_without_end_are_refused():
    pieces = (event(delta(tool_calls=[{"index": n, "id": f"c{n}"}])) for n in itertools.count())
    error, _ = ask(pouring(pieces), streamed=True, tools=[WEATHER])
    assert type(error) is WrongShape and "more than 128 tool calls" in str(error)


# Memory -----------------------------------------------------------------------------------


def whole_of(body: bytes) -> Step:
    """Send a body in small writes, so that the server keeps no copy of it."""
    view = memoryview(body)
    parts = [view[i : i + 65_536] for i in range(0, len(body), 65_536)]
    return pouring(parts, "application/json")


def filled(piece: bytes, head: bytes = b"", tail: bytes = b"", size: int = LIMIT - 200) -> bytes:
    return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


TEXT_HEAD = json.dumps(payload("@")).encode().partition(b"@")[0]
TEXT_TAIL = json.dumps(payload("@")).encode().partition(b"@")[2]
#: Bodies just below the limit, as JSON that grows when it is read.
BOMBS = {
    "text": filled(b"x", TEXT_HEAD, TEXT_TAIL),
    "one wide character": filled(b"x", TEXT_HEAD, "🎉".encode() + TEXT_TAIL),
    "one escaped wide character": filled(b"x", TEXT_HEAD, b"\\ud83c\\udf89" + TEXT_TAIL),
    "Chinese": filled("中".encode(), TEXT_HEAD, TEXT_TAIL),
    "escapes": filled(b"\\n", TEXT_HEAD, TEXT_TAIL),
    "escaped Chinese": filled(b"\\u4e2d", TEXT_HEAD, TEXT_TAIL),
    "escaped lists of a form": filled(b"\\u005b\\u005d\\u002c", TEXT_HEAD, TEXT_TAIL),
    "lists of a form": filled(b"[],", TEXT_HEAD + b"[", b"[]]" + TEXT_TAIL),
    "lists": filled(b"[],", b'{"choices": [', b"[]]}"),
    "objects": filled(b"{},", b'{"choices": [', b"{}]}"),
    "numbers": filled(b"1.5,", b'{"choices": [', b"1]}"),
    "texts": filled(b'"\xc4\x80",', b'{"choices": [', b'""]}'),
    "names": b"{" + b",".join(b'"%d":0' % n for n in range(LIMIT // 11)) + b"}",
    "nesting": b"[" * (LIMIT - 300),
    "words of an error": filled(b"a ", b'{"error": {"message": "', b'"}}'),
}
STREAMS = {
    "small pieces": event(delta("xy")),
    "wide pieces": event(delta("🎉")),
    "lists in events": event('{"choices": [' + "[]," * 20_000 + "[]]}"),
    "names in events": event("{" + ",".join(f'"{n}":0' for n in range(9_000)) + "}"),
    "wide text in events": event(delta("x" * 100_000 + "🎉")),
    "escapes in events": event(delta("\n" * 50_000)),
    "lines in events": b"data: 1\n" * 12_000 + b"\n",
    "a text that grows": event(delta("x" * 1000)) * 20 + event(delta("🎉")),
    "a value that grows": event(delta("[]," * 100)),
    "arguments that grow": event(delta(tool_calls=[{"index": 0, **call("weather", "[]," * 100)}])),
}


def peak(step: Step, streamed: bool) -> float:
    """Return the most memory that a request took, in limits of the client."""
    ask(completion("hi"))  # what is loaded once
    ask(sse(good_stream("hi")), streamed=True)
    tracemalloc.start()
    try:
        asked = {"tools": [WEATHER], "response_format": PARCEL}
        ask(step, streamed=streamed, max_bytes=LIMIT, **asked)
        return tracemalloc.get_traced_memory()[1] / LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_takes_at_most_four_times_the_limit(name):
    assert peak(whole_of(BOMBS[name]), streamed=False) <= 4


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_takes_at_most_four_times_the_limit(name):
    assert peak(pouring(forever(STREAMS[name])), streamed=True) <= 4


@pytest.mark.parametrize("name", ["lists", "one wide character", "lists of a form"])
def test_without_the_check_of_its_size_a_body_takes_more(name, monkeypatch):
    monkeypatch.setattr(wire, "check_size", lambda text, most: None)
    assert peak(whole_of(BOMBS[name]), streamed=False) > 4


def test_without_the_count_of_what_is_kept_a_stream_takes_more(monkeypatch):
    monkeypatch.setattr(wire.Assembly, "_counted", lambda self, text, parsed=False: text)
    one = STREAMS["a value that grows"]
    bomb = [event(delta("[")), *[one] * (LIMIT // len(one) - 2), event(delta("[]]"))]
    assert peak(pouring([*bomb, event(delta(finish="stop"))]), streamed=True) > 4


def test_without_the_bound_of_an_event_a_stream_takes_more(monkeypatch):
    monkeypatch.setattr(transport, "EVENT_SHARE", 1)
    bomb = b'data: {"choices": [' + b"[]," * 600_000 + b"[]]}\n\n"
    assert peak(pouring([bomb]), streamed=True) > 4


def test_unpacking_would_take_more(monkeypatch):
    """Two kilobytes, compressed twice, are eight megabytes for a client that unpacks."""
    import httpx

    bomb = packed(b" " * 4 * LIMIT + b"{}", 2)
    assert len(bomb) < 20_000
    headers = {"Content-Encoding": "gzip, gzip"}
    assert len(httpx.Response(200, headers=headers, content=bomb).content) >= 4 * LIMIT
    step = whole(bomb, "Content-Encoding: gzip, gzip")
    assert peak(step, streamed=False) < 1
