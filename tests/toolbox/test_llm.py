"""The seam to a language model: records, protocol, stand-ins, environment, and the wire's parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from casebook.llm import (
    ArgumentsDoNotFit,
    ArgumentsNotJSON,
    ChatModel,
    Chunk,
    Compromised,
    ConfigurationError,
    ConnectionFailed,
    Image,
    LLMError,
    Message,
    NoChoices,
    OpenAICompatible,
    OutputDoesNotFit,
    OutputNotJSON,
    Refused,
    Reply,
    Request,
    ResponseFormat,
    Scripted,
    ServerFailed,
    StandIn,
    Tool,
    ToolCall,
    UnknownTool,
    Usage,
    WrongShape,
    describe,
    estimate_tokens,
    estimate_usage,
    from_env,
    schema,
    wire,
)
from casebook.llm.secrets import Secrets, address

HELLO = [Message("user", "hello")]
REFUND = Tool(
    "refund",
    "Pay money back.",
    {
        "type": "object",
        "properties": {"order": {"type": "string"}, "euros": {"type": "number", "minimum": 0}},
        "required": ["order", "euros"],
        "additionalProperties": False,
    },
)
GOOD = {"order": "A1", "euros": 5}
PARCEL = ResponseFormat(
    "parcel",
    {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
)


# Records -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Message("user", "hi"), "content"),
        (Reply("hi", "parrot", Usage(1, 1)), "content"),
        (Usage(1, 1), "prompt_tokens"),
        (ToolCall("refund", GOOD), "arguments"),
        (REFUND, "parameters"),
        (PARCEL, "schema"),
        (Chunk("a"), "text"),
        (Image(b"x"), "data"),
        (Request(tuple(HELLO)), "messages"),
    ],
)
def test_what_was_said_cannot_be_changed(record, name):
    with pytest.raises(FrozenInstanceError):
        setattr(record, name, "something else")


def test_what_a_caller_changes_later_changes_no_record():
    arguments, parameters = {"order": ["A1"]}, {"type": "object", "properties": {}}
    call, tool = ToolCall("refund", arguments), Tool("t", "d", parameters)
    arguments["order"].append("B2")
    parameters["properties"]["x"] = {}
    assert call.arguments == {"order": ["A1"]}
    assert tool.parameters == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Message("robot", "hi"), "role is 'robot': give one of system, user"),
        (lambda: Message("user", None), "content of a message is of type NoneType"),
        (lambda: Message("user", "", tool_calls=(ToolCall("a", id="1"),)), "user message calls no"),
        (lambda: Message("assistant", "", tool_calls=(ToolCall("a"),)), "needs an id of its own"),
        (
            lambda: Message("assistant", tool_calls=(ToolCall("a", id="1"), ToolCall("b", id="1"))),
            "needs an id of its own",
        ),
        (lambda: Message("assistant", tool_calls=("refund",)), "tool_calls hold a str"),
        (lambda: Message("tool", "ok"), "names the call that it answers"),
        (lambda: Message("user", "ok", tool_call_id="1"), "names the call that it answers"),
        (lambda: Message("assistant", images=(Image(b"x"),)), "assistant message shows no images"),
        (lambda: Image(b""), "bytes of its file"),
        (lambda: Image("photo.png"), "bytes of its file"),
        (lambda: Image(b"x", "image/tiff"), "media_type is 'image/tiff'"),
        (lambda: ToolCall("a", [1]), "no JSON object: they are no mapping"),
        (lambda: ToolCall("a", {1: 2}), "no JSON object: a name is no string"),
        (lambda: ToolCall("a", {"x": {1}}), "no JSON object"),
        (lambda: ToolCall("a", {"x": float("nan")}), "no JSON object"),
        (lambda: Tool("pay back", "d", {"type": "object"}), "name of a tool is 'pay back'"),
        (lambda: Tool("t", None, {"type": "object"}), "description of the tool 't'"),
        (lambda: Tool("t", "d", {"type": "array"}), "must be a mapping with 'type': 'object'"),
        (
            lambda: Tool("t", "d", {"type": "object", "properties": {"x": {"type": "objekt"}}}),
            r"schema of the tool 't' is none: \$.properties.x.type",
        ),
        (lambda: ResponseFormat("", {"type": "object"}), "name of a response format is ''"),
        (lambda: ResponseFormat("r", {"type": "string"}), "the response format 'r' must be"),
        (lambda: Usage(-1, 0), "prompt_tokens is -1"),
        (lambda: Usage(1, True), "completion_tokens is True"),
        (lambda: Request(()), "no messages"),
        (lambda: Request(("hi",)), "messages hold a str: give Message objects"),
        (lambda: Request(tuple(HELLO), (REFUND, REFUND)), "Two tools share a name"),
        (lambda: Request(tuple(HELLO), (), {"type": "object"}), "response_format is no Response"),
    ],
)
def test_a_wrong_record_cannot_be_made(make, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        make()


def test_a_tool_call_is_answered_by_its_result():
    reply = Reply("", "m", Usage(1, 1), "tool_calls", (ToolCall("refund", GOOD, "c1"),))
    answer = reply.tool_calls[0].result("paid")
    assert answer == Message("tool", "paid", tool_call_id="c1")
    assert Request((*HELLO, reply.message, answer)).messages[1] is not None


CALLING = Message("assistant", tool_calls=(ToolCall("a", id="1"), ToolCall("b", id="2")))
ONE, TWO = (Message("tool", "ok", tool_call_id=id_) for id_ in "12")


@pytest.mark.parametrize("messages", [[CALLING, TWO, ONE], [*HELLO, CALLING, ONE, TWO, *HELLO]])
def test_calls_are_answered_in_any_order(messages):
    assert Request(tuple(messages)).messages == tuple(messages)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([ONE], "Message 0 answers the tool call '1'; waiting for an answer: none"),
        ([CALLING, ONE], r"The tool calls \['2'\] are not answered"),
        ([CALLING, ONE, ONE], r"Message 2 answers the tool call '1'; waiting .* \['2'\]"),
        ([CALLING, ONE, *HELLO], r"Message 2 comes before the tool calls \['2'\]"),
        ([CALLING, CALLING], "Message 1 comes before the tool calls"),
    ],
)
def test_a_conversation_out_of_order_is_refused(messages, reason):
    with pytest.raises(ValueError, match=reason):
        Request(tuple(messages))


def test_usage_adds_up_and_stays_estimated():
    assert Usage(1, 2) + Usage(3, 4) == Usage(4, 6)
    assert (Usage(1, 2) + Usage(3, 4, estimated=True)).estimated
    assert Usage(3, 4).total_tokens == 7


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2)])
def test_the_estimate_is_a_token_for_four_characters_begun(text, tokens):
    assert estimate_tokens(text) == tokens


def test_the_estimate_counts_every_message_and_tool_calls():
    history = [Message("user", "abcd"), CALLING, ONE, TWO]
    # "a{}" and "b{}" are three characters each, "ok" two
    assert estimate_usage(history, "abcde", (ToolCall("a"),)) == Usage(5, 3, estimated=True)


# Protocol ------------------------------------------------------------------------------


class Parrot:
    """A minimal model: says the last message again."""

    name = "parrot"

    def complete(self, messages, *, tools=(), response_format=None):
        text = messages[-1].content
        return Reply(text, self.name, Usage(len(messages), len(text.split())))

    def stream(self, messages, *, tools=(), response_format=None):
        yield Chunk(reply=self.complete(messages))


class WithoutStream:
    name = "mute"
    complete = Parrot.complete


class WithoutName:
    complete = Parrot.complete
    stream = Parrot.stream


@pytest.mark.parametrize(
    "model",
    [Parrot(), Scripted([]), Compromised(""), OpenAICompatible("http://localhost/v1", "m")],
    ids=lambda model: type(model).__name__,
)
def test_these_are_chat_models(model):
    assert isinstance(model, ChatModel)


@pytest.mark.parametrize("model", [WithoutStream(), WithoutName(), "gpt"])
def test_these_are_none(model):
    assert not isinstance(model, ChatModel)


def test_importing_the_seam_is_quick_and_loads_neither_client_nor_validator():
    code = (
        "import json, sys, time; start = time.process_time(); import casebook.llm; "
        "print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    command = [sys.executable, "-c", code]
    runs = [
        json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds for seconds, _ in runs) < 0.3
    assert not {"httpx", "jsonschema", "ssl", "numpy", "pandas"} & set(runs[0][1])


def test_without_jsonschema_a_schema_is_refused_not_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    schema._validators.cache_clear()
    schema._schema_fault.cache_clear()
    with pytest.raises(ImportError, match=r'pip install "casebook\[llm\]"'):
        Scripted([{"id": "P7"}]).complete(HELLO, response_format=PARCEL)


def test_a_schema_that_is_none_is_refused_when_a_value_is_held_against_it():
    """Loading the validator takes long, so what only it sees waits for the first value."""
    wrong = {"type": "object", "properties": {"n": {"type": "integer", "minimum": "x"}}}
    form = ResponseFormat("n", wrong)
    with pytest.raises(ValueError, match=r"The schema is none: \$.properties.n.minimum"):
        Scripted([{"n": 1}]).complete(HELLO, response_format=form)


def test_making_a_schema_loads_no_validator_and_checking_a_value_loads_no_grammar_of_addresses():
    code = (
        "import sys; from casebook.llm import ResponseFormat, schema\n"
        "form = ResponseFormat('r', {'type': 'object'})\n"
        "assert 'jsonschema' not in sys.modules\n"
        "assert schema.misfit({}, form.schema) is None\n"
        "assert 'jsonschema' in sys.modules and 'rfc3987_syntax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Stand-ins -----------------------------------------------------------------------------


class Counter(StandIn):
    name = "word counter"
    does = "counts your words"

    def answer(self, request):
        return f"You said {len(request.messages[-1].content.split())} words."


def test_a_stand_in_answers_the_same_every_time_and_estimates_its_tokens():
    message = [Message("user", "one two")]
    reply = Counter().complete(message)
    assert reply == Counter().complete(message)
    assert reply.content == "You said 2 words."
    assert (reply.model, reply.finish_reason) == ("word counter", "stop")
    assert reply.usage == Usage(2, 5, estimated=True)


@pytest.mark.parametrize("text", ["", "one", "two words", " odd\n  blanks  "])
def test_the_pieces_of_a_stream_are_the_answer(text):
    *pieces, last = Scripted([text]).stream(HELLO)
    assert "".join(piece.text for piece in pieces) == text == last.reply.content
    assert all(piece.text and piece.reply is None for piece in pieces)
    assert last.text == ""


def test_a_script_plays_in_order_and_keeps_what_was_asked():
    model = Scripted(["one", ToolCall("refund", GOOD), {"id": "P7"}])
    assert model.complete(HELLO).content == "one"
    called = model.complete(HELLO, tools=[REFUND])
    assert (called.finish_reason, called.tool_calls) == (
        "tool_calls",
        (ToolCall("refund", GOOD, "call_1"),),
    )
    history = [*HELLO, called.message, called.tool_calls[0].result("paid")]
    assert model.complete(history, response_format=PARCEL).data == {"id": "P7"}
    assert [len(request.messages) for request in model.requests] == [1, 1, 3]
    assert model.requests[2].response_format == PARCEL
    with pytest.raises(RuntimeError, match="The script has 3 answers, and request 4 came"):
        model.complete(HELLO)


def test_new_calls_never_take_the_id_of_an_old_one():
    model = Scripted([ToolCall("refund", GOOD), [ToolCall("refund", GOOD)] * 2])
    first = model.complete(HELLO, tools=[REFUND])
    history = [*HELLO, first.message, first.tool_calls[0].result("paid")]
    second = model.complete(history, tools=[REFUND])
    assert [call.id for call in (*first.tool_calls, *second.tool_calls)] == [
        "call_1",
        "call_2",
        "call_3",
    ]


def test_a_script_raises_the_errors_in_it():
    with pytest.raises(ConnectionFailed, match="planted"):
        Scripted([ConnectionFailed("planted")]).complete(HELLO)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ToolCall("delete_everything"), UnknownTool),
        (ToolCall("refund", {"order": "A1", "euros": -1}), ArgumentsDoNotFit),
        ("no json", OutputNotJSON),
        ({"id": 7}, OutputDoesNotFit),
        (Reply("{}", "m", Usage(1, 1)), OutputDoesNotFit),
        ([3], TypeError),
    ],
)
def test_a_script_is_checked_as_a_real_model_is(answer, error):
    with pytest.raises(error):
        Scripted([answer]).complete(HELLO, tools=[REFUND], response_format=PARCEL)


def test_one_answer_is_no_script():
    with pytest.raises(TypeError, match="put the one answer into a list"):
        Scripted("hello")


@pytest.mark.parametrize(
    ("emits", "calls", "content", "data"),
    [
        (ToolCall("delete", {"sure": True}), [ToolCall("delete", {"sure": True})], "", None),
        (ToolCall("refund", {"euros": "x"}), [ToolCall("refund", {"euros": "x"})], "", None),
        ([ToolCall("refund", GOOD)] * 2, [ToolCall("refund", GOOD)] * 2, "", None),
        ("I shall not.", [], "I shall not.", None),
        ({"id": 7}, [], '{"id": 7}', {"id": 7}),
    ],
)
def test_a_compromised_model_emits_anything_in_every_turn(emits, calls, content, data):
    model = Compromised(emits)
    for _ in range(2):
        reply = model.complete(HELLO, tools=[REFUND], response_format=PARCEL)
        assert [replace(call, id="") for call in reply.tool_calls] == calls
        assert (reply.content, reply.data) == (content, data)
        *_, last = model.stream(HELLO, tools=[REFUND], response_format=PARCEL)
        assert last.reply == reply
    assert len(model.requests) == 4


def test_a_compromised_model_may_read_before_it_acts():
    model = Compromised(lambda request: ToolCall("mail", {"text": request.messages[0].content}))
    (call,) = model.complete([Message("system", "the secret is 42")]).tool_calls
    assert call.arguments == {"text": "the secret is 42"}


# Environment ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("CASEBOOK_LLM_")]:
        monkeypatch.delenv(name)


def with_env(monkeypatch, **values: str) -> ChatModel:
    for name, value in {"BASE_URL": "http://localhost:11434/v1", "MODEL": "m", **values}.items():
        monkeypatch.setenv(f"CASEBOOK_LLM_{name}", value)
    return from_env(Parrot())


def test_without_an_address_the_stand_in_answers(monkeypatch):
    stand_in = Parrot()
    assert from_env(stand_in) is stand_in
    monkeypatch.setenv("CASEBOOK_LLM_BASE_URL", "  ")
    monkeypatch.setenv("CASEBOOK_LLM_MODEL", "m")
    assert from_env(stand_in) is stand_in


def test_with_an_address_a_client_answers(monkeypatch):
    model = with_env(monkeypatch, MODEL=" llama3.2 ", API_KEY="", TIMEOUT="2.5", RETRIES="0")
    assert isinstance(model, OpenAICompatible)
    assert (model.name, model.shown_url) == ("llama3.2", "http://localhost:11434/v1")
    assert (model.timeout.connect, model.timeout.read, model.timeout.attempt) == (2.5, 2.5, 2.5)
    assert model.budget.attempts == 1


def test_a_long_time_out_leaves_the_connection_its_own(monkeypatch):
    timeout = with_env(monkeypatch, TIMEOUT="600").timeout
    assert (timeout.connect, timeout.read, timeout.attempt) == (5, 600, 600)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"BASE_URL": "localhost:11434/v1"}, "BASE_URL"),
        ({"BASE_URL": "ftp://localhost/v1"}, "BASE_URL"),
        ({"BASE_URL": "http://"}, "BASE_URL"),
        ({"BASE_URL": "http://localhost:port/v1"}, "BASE_URL"),
        ({"BASE_URL": "http://localhost:11434/v1/chat/completions"}, "BASE_URL"),
        ({"BASE_URL": "http://local host/v1"}, "BASE_URL"),
        ({"BASE_URL": "http://localhost/v1#top"}, "BASE_URL"),
        ({"BASE_URL": "http://[::1/v1"}, "BASE_URL"),
        ({"MODEL": " "}, "MODEL"),
        ({"API_KEY": "sk planted-secret-key"}, "API_KEY"),
        ({"API_KEY": "sk-planted-secret\nkey"}, "API_KEY"),
        ({"API_KEY": "sk-planted-sécret-key"}, "API_KEY"),
        ({"TIMEOUT": "soon"}, "TIMEOUT"),
        ({"TIMEOUT": "0"}, "TIMEOUT"),
        ({"TIMEOUT": "nan"}, "TIMEOUT"),
        ({"TIMEOUT": "inf"}, "TIMEOUT"),
        ({"RETRIES": "-1"}, "RETRIES"),
        ({"RETRIES": "2.5"}, "RETRIES"),
        ({"RETRIES": "٣"}, "RETRIES"),
        ({"URL": "http://localhost:11434/v1"}, "URL"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(monkeypatch, values, name):
    with pytest.raises(ConfigurationError, match=f"CASEBOOK_LLM_{name}") as caught:
        with_env(monkeypatch, **values)
    assert isinstance(caught.value, ValueError)
    assert "planted" not in str(caught.value)


def test_a_key_from_a_file_may_end_with_a_line_break(monkeypatch):
    assert isinstance(with_env(monkeypatch, API_KEY="sk-planted-secret-key\n"), OpenAICompatible)


@pytest.mark.parametrize("stand_in", [None, "extractive", WithoutStream(), Counter])
def test_a_stand_in_must_be_a_model(stand_in):
    with pytest.raises(TypeError, match="The stand-in is no ChatModel"):
        from_env(stand_in)


def test_the_page_of_a_stand_in_says_so_and_how_to_switch():
    text = describe(Counter())
    assert "**word counter**, a deterministic offline stand-in that counts your words" in text
    assert "no language model ran" in text
    (line,) = [line for line in text.splitlines() if line.endswith("make lab")]
    settings = dict(part.split("=", 1) for part in line.split()[:-2])
    assert settings["CASEBOOK_LLM_BASE_URL"] == "http://localhost:11434/v1"  # Ollama's port
    assert "http://localhost:8000/v1" in text  # vLLM's


def test_the_line_that_switches_is_one_that_works(monkeypatch):
    (line,) = [line for line in describe(Counter()).splitlines() if line.endswith("make lab")]
    for part in line.split()[:-2]:
        monkeypatch.setenv(*part.split("=", 1))
    assert isinstance(from_env(Counter()), OpenAICompatible)


def test_the_page_of_a_language_model_names_it_and_its_server():
    text = describe(OpenAICompatible("https://me:pw-planted@api.example.org/v1?k=planted", "big"))
    assert "`big` at `https://api.example.org/v1`" in text
    assert "planted" not in text


def test_another_model_is_named_and_not_called_a_stand_in():
    text = describe(Parrot())
    assert "come from **parrot**." in text and "stand-in" not in text


# Schemas -------------------------------------------------------------------------------


def test_a_misfit_names_the_path():
    assert schema.misfit({"order": "A1", "euros": "x"}, REFUND.parameters).startswith("$.euros:")
    assert "'sure'" in schema.misfit({**GOOD, "sure": True}, REFUND.parameters)
    assert schema.misfit(GOOD, REFUND.parameters) is None


# The wire ------------------------------------------------------------------------------


def test_a_request_on_the_wire():
    call = ToolCall("refund", GOOD, "c1")
    history = [
        Message("system", "be kind"),
        Message("user", "see", images=(Image(b"\x89PNG"),)),
        Message("assistant", tool_calls=(call,)),
        call.result("paid"),
    ]
    request = Request(tuple(history), (REFUND,), PARCEL)
    body = wire.body("m", request, stream=True, options={"temperature": 0})
    assert body["messages"] == [
        {"role": "system", "content": "be kind"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "refund", "arguments": json.dumps(GOOD)},
                }
            ],
        },
        {"role": "tool", "content": "paid", "tool_call_id": "c1"},
    ]
    assert body["tools"][0]["function"]["parameters"] == REFUND.parameters
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "parcel", "schema": PARCEL.schema, "strict": True},
    }
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert (body["model"], body["temperature"]) == ("m", 0)


def test_an_option_of_none_takes_a_field_away():
    request = Request(tuple(HELLO))
    body = wire.body("m", request, stream=True, options={"stream_options": None})
    assert body.keys() == {"model", "messages", "stream"}


def completion(**message) -> dict:
    said = {"content": "hi", **message}
    return {"choices": [{"message": said, "finish_reason": "stop"}]}


def wire_call(name="refund", arguments='{"order": "A1", "euros": 5}', id_="c1") -> dict:
    return {"id": id_, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("payload", "error", "reason"),
    [
        ([], WrongShape, "The answer is a list, not an object"),
        ({}, WrongShape, "choices is missing"),
        ({"choices": {}}, WrongShape, "choices is an object, not a list"),
        ({"choices": []}, NoChoices, "choices is empty"),
        ({"choices": [1]}, WrongShape, r"choices\[0\] is of type int, not an object"),
        ({"choices": [{}]}, WrongShape, r"choices\[0\].message is missing"),
        (completion(content=["hi"]), WrongShape, r"message.content is a list, not a text"),
        ({"choices": [{"message": {"content": "hi"}}]}, WrongShape, "finish_reason is missing"),
        ({**completion(), "usage": {"prompt_tokens": -5}}, WrongShape, "usage.prompt_tokens is -5"),
        ({**completion(), "usage": [1]}, WrongShape, "usage is a list"),
        ({**completion(), "model": 4}, WrongShape, "model is of type int"),
        (completion(tool_calls={}), WrongShape, "tool_calls is an object, not a list"),
        (completion(tool_calls=[{}]), WrongShape, r"tool_calls\[0\].function is missing"),
        (completion(tool_calls=[wire_call(id_=None)]), WrongShape, r"tool_calls\[0\] has no id"),
        (completion(tool_calls=[wire_call(name="")]), WrongShape, r"tool_calls\[0\] has no name"),
        (completion(tool_calls=[wire_call()] * 2), WrongShape, "Two tool calls share an id"),
        (completion(tool_calls=[wire_call(arguments=GOOD)]), WrongShape, "arguments is an object"),
        (completion(tool_calls=[wire_call("delete")]), UnknownTool, "'delete'.*offered: refund"),
        (completion(tool_calls=[wire_call(arguments="{")]), ArgumentsNotJSON, "'refund' are not"),
        (completion(tool_calls=[wire_call(arguments="[]")]), ArgumentsNotJSON, "is a list"),
        (
            completion(tool_calls=[wire_call(arguments='{"order": "A", "euros": 1, "euros": 9}')]),
            ArgumentsNotJSON,
            "'euros' stands twice",
        ),
        (completion(tool_calls=[wire_call(arguments="")]), ArgumentsDoNotFit, "is a required"),
        (
            completion(tool_calls=[wire_call(arguments='{"order": "A", "euros": "1"}')]),
            ArgumentsDoNotFit,
            r"\$.euros: '1' is not of type 'number'",
        ),
        (completion(content=None, refusal="I must not."), Refused, "I must not."),
        ({"error": {"message": "out of memory"}}, ServerFailed, "out of memory"),
        ({"error": "out of memory"}, ServerFailed, "out of memory"),
    ],
)
def test_a_wrong_completion_is_named(payload, error, reason):
    with pytest.raises(error, match=reason) as caught:
        wire.read_reply(payload, Request(tuple(HELLO), (REFUND,)), "m")
    assert type(caught.value) is error
    assert isinstance(caught.value, LLMError)


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ("The id is P7.", OutputNotJSON, "had to be JSON of the schema 'parcel'"),
        ('```json\n{"id": "P7"}\n```', OutputNotJSON, "had to be JSON"),
        ('{"id": 7}', OutputDoesNotFit, r"\$.id: 7 is not of type 'string'"),
        ("null", OutputDoesNotFit, "None is not of type 'object'"),
    ],
)
def test_a_wrong_structured_answer_is_named(content, error, reason):
    with pytest.raises(error, match=reason):
        wire.read_reply(completion(content=content), Request(tuple(HELLO), (), PARCEL), "m")


def test_an_answer_cut_by_its_limit_says_so():
    payload = completion(content='{"id": "P')
    payload["choices"][0]["finish_reason"] = "length"
    with pytest.raises(OutputNotJSON, match="raise max_tokens"):
        wire.read_reply(payload, Request(tuple(HELLO), (), PARCEL), "m")


@pytest.mark.parametrize(("reason", "cut"), [("stop", False), ("length", True)])
def test_a_text_cut_by_its_limit_can_be_told(reason, cut):
    payload = completion(content="It costs 1")
    payload["choices"][0]["finish_reason"] = reason
    reply = wire.read_reply(payload, Request(tuple(HELLO)), "m")
    assert (reply.cut, reply.finish_reason) == (cut, reason)


def test_an_answer_that_a_filter_touched_is_none():
    payload = completion(content="You may take 500")
    payload["choices"][0]["finish_reason"] = "content_filter"
    with pytest.raises(Refused, match="A filter of the server"):
        wire.read_reply(payload, Request(tuple(HELLO)), "m")


def test_what_a_server_leaves_out_is_filled_in():
    reply = wire.read_reply(completion(content=None), Request(tuple(HELLO)), "asked")
    assert reply == Reply("", "asked", Usage(2, 0, estimated=True))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"error": {"message": "a\n b"}}, "a b"),
        ({"error": "a"}, "a"),
        ({"message": "a", "object": "error"}, "a"),
        ({"detail": "a"}, "a"),
        ({"error": {"code": 1}}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_the_words_of_servers_about_their_errors(payload, said):
    assert wire.error_text(payload) == said


# Secrets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:11434/v1/", "http://localhost:11434/v1"),
        ("https://api.example.org/openai/v1beta", "https://api.example.org/openai/v1beta"),
        ("https://me:pw@api.example.org/v1?key=k", "https://api.example.org/v1"),
        ("https://api.example.org/T0k3n-in-path/v1", "https://api.example.org/…/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_key(url, shown):
    assert address(url).shown == shown
    assert shown in repr(address(url))


def test_the_query_is_sent_and_the_password_becomes_a_header():
    found = address("https://me:p%40ss@api.example.org/v1/?api-version=2")
    assert found.url == "https://api.example.org/v1/chat/completions?api-version=2"
    assert found.basic == "Basic bWU6cEBzcw=="


def test_user_and_password_are_hidden_raw_quoted_and_encoded():
    hidden = address("https://me:p%40ss@api.example.org/v1").hidden
    assert {"p%40ss", "p@ss", "bWU6cEBzcw=="} <= set(hidden) and "me" not in hidden
    assert {"t%40ken", "t@ken"} <= set(address("https://t%40ken@api.example.org/v1").hidden)


@pytest.mark.parametrize(
    "text",
    [
        "key sk-planted/secret+1 is wrong",
        "path /v1?k=sk-planted%2Fsecret%2B1",
        "cut sk-planted/sec…",
        'json "sk-planted/secret+1"',
    ],
)
def test_a_secret_is_hidden_in_each_of_its_forms(text):
    hidden = Secrets(["sk-planted/secret+1"]).hide(text)
    assert "planted" not in hidden and "[hidden]" in hidden


def test_a_placeholder_is_no_secret():
    assert Secrets(["ollama"]).hide("`ollama pull`") == "`ollama pull`"
