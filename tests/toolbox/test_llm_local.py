"""The small local model without its weights: an engine of the tests' says which token comes next.

What needs the weights themselves is in tests/install/test_local_model.py.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from test_llm_grammar import TOKENS, VOCABULARY

from casebook.llm import (
    BadStructuredOutput,
    ChatModel,
    ConfigurationError,
    Image,
    Message,
    OpenAICompatible,
    OutputNotJSON,
    ResponseFormat,
    Scripted,
    Tool,
    Usage,
    environment,
    from_env,
    local,
)
from casebook.llm.local import LocalModel, Settings, answer, generate, pick
from casebook.llm.serve import LARGEST, PORT, LocalServer
from casebook.project import require_checkout

HELLO = [Message("user", "hello")]
END = TOKENS.index(b"")
FORM = ResponseFormat(
    "parcel",
    {
        "type": "object",
        "properties": {"intent": {"enum": ["refund", "return"]}, "id": {"type": "string"}},
        "required": ["intent", "id"],
    },
)


def tokens_of(text: str) -> list[int]:
    """Return a text as the longest tokens, with the end."""
    code, found = text.encode(), []
    while code:
        token = max((t for t in TOKENS if t and code.startswith(t)), key=len)
        found.append(TOKENS.index(token))
        code = code[len(token) :]
    return [*found, END]


class Planned:
    """An engine that wants to say given texts, one for each session; ``noise`` makes it waver."""

    vocabulary = VOCABULARY
    ends = frozenset({END})

    def __init__(self, *texts: str, noise: float = 0.0, prompt: int = 7) -> None:
        self._plans = [tokens_of(text) for text in texts]
        self._noise, self._prompt = noise, prompt
        self.sessions = 0

    def encode(self, messages) -> list[int]:
        return [0] * self._prompt

    def session(self):
        plan = self._plans[min(self.sessions, len(self._plans) - 1)]
        self.sessions += 1
        written = -self._prompt

        def scores(given: list[int]) -> np.ndarray:
            nonlocal written
            written += len(given)
            found = np.random.default_rng(written).normal(0, 1, len(TOKENS)) * self._noise
            found[plan[min(written, len(plan) - 1)]] += 5 if self._noise else 50
            return found

        return scores


# Generating ----------------------------------------------------------------------------


def test_an_answer_its_tokens_and_its_end():
    made = answer(Planned("refund order 12, für über"), HELLO, Settings())
    assert (made.text, made.finish_reason) == ("refund order 12, für über", "stop")
    expected = len(tokens_of("refund order 12, für über"))
    assert (made.prompt_tokens, made.completion_tokens) == (7, expected)


def test_the_limit_of_tokens_ends_an_answer():
    made = answer(Planned("refund order"), HELLO, Settings(max_tokens=1))
    assert (made.text, made.finish_reason, made.completion_tokens) == ("refund", "length", 1)


@pytest.mark.parametrize("stop", ["order", " ord", "12", "d o"])
def test_a_stop_text_ends_an_answer_and_is_not_in_it(stop):
    text = "the order 12 is here"
    pieces = list(generate(Planned(text), HELLO, Settings(stop=(stop, "never"))))
    assert pieces[-1].text == text.partition(stop)[0] == "".join(pieces[:-1])
    assert pieces[-1].finish_reason == "stop"


def test_what_might_have_been_a_stop_text_is_shown_in_the_end():
    *pieces, last = generate(Planned("an ord"), HELLO, Settings(stop=("order",)))
    assert "".join(pieces) == last.text == "an ord"


def test_a_character_in_two_tokens_arrives_whole():
    plan = [TOKENS.index(b"\xc3"), TOKENS.index(b"\xbc"), END]
    engine = Planned("x")
    engine._plans = [plan]
    *pieces, last = generate(engine, HELLO, Settings())
    assert pieces == ["ü"] and last.text == "ü"


def test_time_to_the_first_token_and_to_the_last():
    ticks = count(100.0, 0.5)
    *_, last = generate(Planned("abc"), HELLO, Settings(), clock=lambda: next(ticks))
    assert (last.first_seconds, last.seconds) == (0.5, 1.0)


def test_draws_are_the_same_for_a_seed_and_others_for_another():
    engine = Planned("refund order 12 of the customer", noise=3.0)
    drawn = [
        answer(engine, HELLO, Settings(temperature=1.5, seed=seed, max_tokens=20)).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_draws_follow_the_scores():
    rng, scores = np.random.default_rng(0), np.log([0.6, 0.3, 0.1])
    drawn = [pick(scores, Settings(temperature=1.0), rng) for _ in range(3000)]
    shares = np.bincount(drawn, minlength=3) / 3000
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.03)
    kept = {pick(scores, Settings(temperature=1.0, top_p=0.8), rng) for _ in range(500)}
    assert kept == {0, 1}
    assert pick(scores, Settings(), rng) == 0


def test_a_conversation_that_leaves_no_room_is_refused():
    with pytest.raises(ValueError, match=r"has 2,000 tokens and the answer may have 256"):
        answer(Planned("x", prompt=2000), HELLO, Settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0), ("max_tokens", True), ("max_tokens", 10**6), ("temperature", -1),
        ("temperature", float("nan")), ("temperature", "warm"), ("top_p", 0), ("top_p", 1.5),
        ("seed", -1), ("seed", 1.5), ("stop", ("",)), ("stop", (3,)), ("json", "yes"),
        ("attempts", 0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name} is"):
        Settings(**{name: value})


# The protocol --------------------------------------------------------------------------


def test_it_is_a_chat_model_and_counts_its_tokens():
    model = LocalModel(Planned("refund"))
    assert isinstance(model, ChatModel)
    reply = model.complete(HELLO)
    assert (reply.content, reply.usage) == ("refund", Usage(7, 2))
    *pieces, last = LocalModel(Planned("refund order")).stream(HELLO)
    assert [piece.text for piece in pieces] == ["refund", " order"]
    assert last.reply.content == "refund order"


def test_under_the_grammar_prose_becomes_json():
    prose = "I am sorry to hear that; your order will be refunded"
    reply = LocalModel(Planned(prose)).complete(HELLO, response_format=FORM)
    assert reply.data["intent"] in ("refund", "return")
    assert json.loads(reply.content) == reply.data


def test_in_one_attempt_prose_is_an_error():
    model = LocalModel(Planned("I am sorry"), Settings(json="once"))
    with pytest.raises(OutputNotJSON):
        model.complete(HELLO, response_format=FORM)


def test_retries_stop_at_the_first_json_that_fits_and_all_tokens_count():
    good = '{"intent": "refund", "id": "P7"}'
    engine = Planned("I am sorry", '{"intent": "x", "id": "P7"}', good)
    reply = LocalModel(engine, Settings(json="retry")).complete(HELLO, response_format=FORM)
    assert (reply.data, engine.sessions) == ({"intent": "refund", "id": "P7"}, 3)
    texts = ("I am sorry", '{"intent": "x", "id": "P7"}', good)
    assert reply.usage == Usage(21, sum(len(tokens_of(text)) for text in texts))


def test_retries_end():
    engine = Planned("I am sorry")
    with pytest.raises(BadStructuredOutput) as caught:
        LocalModel(engine, Settings(json="retry", attempts=2)).complete(HELLO, response_format=FORM)
    assert (engine.sessions, caught.value.attempts) == (2, 2)


def test_the_schema_is_told():
    told = local.with_schema([Message("system", "Be brief."), *HELLO], FORM.schema)
    assert told[0].content.startswith("Be brief.\n\n") and '"refund"' in told[0].content
    assert local.with_schema(HELLO, FORM.schema)[0].role == "system"


def test_tools_and_images_are_refused():
    model = LocalModel(Planned("x"))
    with pytest.raises(ValueError, match="calls no tools"):
        model.complete(HELLO, tools=[Tool("t", "d", {"type": "object"})])
    with pytest.raises(ValueError, match="sees no images"):
        model.complete([Message("user", "see", images=(Image(b"x"),))])


# The file ------------------------------------------------------------------------------


def test_a_file_that_was_altered_is_not_loaded(tmp_path, monkeypatch):
    package = tmp_path / local.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package was run')")
    (package / local.FILE).write_bytes(b"GGUF planted")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="not the file that is pinned: it was not loaded"):
        local.load()
    (package / local.FILE).unlink()
    with pytest.raises(ValueError, match="missing: it was not loaded"):
        local.model_file()


def test_without_the_wheel_the_error_says_where_it_belongs(monkeypatch):
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="`make llm`"):
        local.load()


def test_expanded_weights_that_were_altered_are_expanded_again(tmp_path):
    import hashlib

    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert not local._kept(tmp_path)
    right = {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "hashes.json").write_text(json.dumps(right))
    assert local._kept(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert not local._kept(tmp_path)


def test_the_cache_is_the_course_s(monkeypatch, tmp_path):
    monkeypatch.setenv("CASEBOOK_CACHE_DIR", str(tmp_path))
    assert tmp_path in local.cache_folder().parents
    monkeypatch.delenv("CASEBOOK_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "ml-systems-casebook" in local.cache_folder().parents


# The server ----------------------------------------------------------------------------


@contextmanager
def serving(*texts: str, **more) -> Iterator[LocalServer]:
    engine = Planned(*(texts or ("refund order 12",)), **more)
    server = LocalServer(lambda settings: LocalModel(engine, settings, "tiny"), name="tiny")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def official():
    """Return a function that makes the official client of a server."""
    import openai

    return lambda server: openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)


def test_the_official_client_gets_an_answer(official):
    with serving() as server:
        got = official(server).chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}]
        )
        assert [model.id for model in official(server).models.list()] == ["tiny"]
    assert got.choices[0].message.content == "refund order 12"
    assert (got.choices[0].finish_reason, got.usage.prompt_tokens) == ("stop", 7)
    assert got.usage.completion_tokens == len(tokens_of("refund order 12"))


def test_the_official_client_gets_a_stream(official):
    with serving() as server:
        stream = official(server).chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=2,
        )
        pieces = list(stream)
    said = [p.choices[0].delta.content for p in pieces if p.choices and p.choices[0].delta.content]
    assert said == ["refund", " order"]
    assert [p.choices[0].finish_reason for p in pieces if p.choices][-1] == "length"
    assert pieces[-1].usage.completion_tokens == 2


def test_settings_reach_the_model(official):
    asked: list[Settings] = []

    def make(settings: Settings) -> LocalModel:
        asked.append(settings)
        return LocalModel(Planned("refund order 12"), settings)

    server = LocalServer(make)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with server:
        got = official(server).chat.completions.create(
            model="x", messages=[{"role": "user", "content": "hi"}], temperature=0.5, top_p=0.9,
            seed=4, stop=" order", max_completion_tokens=9,
        )  # fmt: skip
        server.shutdown()
    thread.join()
    assert got.choices[0].message.content.startswith("refund")
    assert asked == [Settings(9, 0.5, 0.9, 4, (" order",))]


def test_the_course_s_own_client_speaks_with_it(monkeypatch):
    with serving("I am sorry") as server:
        monkeypatch.setenv("CASEBOOK_LLM_BASE_URL", server.url)
        monkeypatch.setenv("CASEBOOK_LLM_MODEL", "tiny")
        model = from_env(LocalModel(Planned("x")))
        assert isinstance(model, OpenAICompatible)
        assert model.complete(HELLO).content == "I am sorry"
        assert model.complete(HELLO, response_format=FORM).data["intent"] in ("refund", "return")
        *_, last = model.stream(HELLO)
        assert last.reply.usage == Usage(7, len(tokens_of("I am sorry")))


def test_it_listens_on_this_machine_alone():
    with serving() as server:
        assert server.server_address[0] == "127.0.0.1"
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
        for address in {a for a in others if ":" not in a and not a.startswith("127.")}:
            with pytest.raises(OSError):
                socket.create_connection((address, server.server_address[1]), 1).close()


GOOD = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/completions", GOOD, 404, "is not served"),
        ("/v1/chat/completions", "{", 400, "not JSON"),
        ("/v1/chat/completions", [], 400, "an object with a list of messages"),
        ("/v1/chat/completions", {"messages": []}, 400, "no messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400, "content is missing"),
        ("/v1/chat/completions", {"messages": ["hi"]}, 400, "request is wrong"),
        ("/v1/chat/completions", {"messages": [{"role": "x", "content": "a"}]}, 400, "role is 'x'"),
        ("/v1/chat/completions", {**GOOD, "tools": [{}]}, 400, "calls no tools"),
        ("/v1/chat/completions", {**GOOD, "temperature": 9}, 400, "temperature is 9"),
        ("/v1/chat/completions", {**GOOD, "max_tokens": 10**9}, 400, "max_tokens is 1000000000"),
        ("/v1/chat/completions", {**GOOD, "stop": [""]}, 400, "stop is"),
        ("/v1/chat/completions", {**GOOD, "stop": 3}, 400, "request is wrong"),
        ("/v1/chat/completions", {**GOOD, "response_format": {"type": "json_object"}}, 400,
         "must be json_schema"),
        ("/v1/chat/completions", {**GOOD, "response_format": {"type": "json_schema",
         "json_schema": {"name": "n", "schema": {"type": "object", "properties": {
          "a": {"type": "string", "pattern": "x"}}}}}}, 400, "does not cover pattern"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_a_wrong_request_is_told_what_is_wrong(path, body, status, words, streamed):
    if isinstance(body, dict):
        body = {**body, "stream": streamed}
    with serving() as server:
        way = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        way.request("POST", path, body if isinstance(body, str) else json.dumps(body))
        answered = way.getresponse()
        error = json.load(answered)["error"]
        way.close()
    assert (answered.status, error["code"]) == (status, status)
    assert words in error["message"]


def test_a_request_that_is_too_large_is_not_read():
    with serving() as server:
        way = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        way.putrequest("POST", "/v1/chat/completions")
        way.putheader("Content-Length", str(LARGEST + 1))
        way.endheaders()
        assert way.getresponse().status == 413
        way.close()


def test_json_that_does_not_come_about_is_a_failure_of_the_server():
    engine = Planned("I am sorry")
    server = LocalServer(lambda s: LocalModel(engine, replace(s, json="once"), "tiny"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with server:
        model = OpenAICompatible(server.url, "tiny")
        with pytest.raises(Exception, match="had to be JSON"):
            model.complete(HELLO, response_format=FORM)
        server.shutdown()
    thread.join()


def test_the_pages_name_the_address_at_which_it_is_served():
    told = environment.describe(Scripted([]))
    assert f"http://127.0.0.1:{PORT}/v1" in told and local.NAME in told and "`make llm`" in told
    book = (require_checkout() / "book" / "local_model.md").read_text(encoding="utf-8")
    line = (
        f"{environment.PREFIX}BASE_URL={environment.SMALL} {environment.PREFIX}MODEL={local.NAME}"
    )
    assert f"{line} make lab" in book
    makefile = (require_checkout() / "Makefile").read_text(encoding="utf-8")
    assert f"PORT ?= {PORT}\n" in makefile
