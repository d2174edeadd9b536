"""A request in the Chat Completions format: what is told to who sends another."""

from __future__ import annotations

import json
import time

import pytest

from casebook.serving.chat_requests import ChatRequest
from casebook.serving.refusals import told
from casebook.serving.strict import Problem, parse

HELLO = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"{", 400, "Send one JSON object"),
        (b"[]", 400, "Send one JSON object"),
        (b'{"messages": [], "messages": []}', 400, "twice"),
        (b'{"messages": []}', 422, "Send messages, or prompt, or both"),
        ({**HELLO, "top_k": 5}, 422, '"top_k" is no field. Leave it out'),
        ({**HELLO, "tools": []}, 422, "Send tools as a list of 1 to 128"),
        ({**HELLO, "tool_choice": "auto"}, 422, "tool_choice needs its tools"),
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


MANY = {f"k{at}": 0 for at in range(35_000)}
TOOL = {"type": "object", "properties": dict.fromkeys(MANY, True)}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [1] * 300_000}]},
        {**HELLO, "tools": [{"type": "function", "function": {"name": "a", "parameters": TOOL}}]},
        HELLO | MANY,
        {"prompt": {"name": "a", "variables": MANY}},
    ],
)
def test_a_body_of_many_values_is_refused_before_each_is_checked(body):
    raw = json.dumps(body).encode()
    began = time.perf_counter()
    with pytest.raises(Problem, match="more than 10,000 values") as caught:
        parse(raw, ChatRequest)
    assert caught.value.status == 413 and time.perf_counter() - began < 0.5


def test_a_long_conversation_is_still_read():
    parts = [{"type": "text", "text": "x"}] * 3
    asked = parse(json.dumps({"messages": [{"role": "user", "content": parts}] * 500}).encode(),
                  ChatRequest)  # fmt: skip
    assert asked.messages[499].text == "xxx"
    with pytest.raises(Problem, match=r"messages\.0\.content"):
        parse(json.dumps({"messages": [{"role": "user", "content": parts * 334}]}).encode(),
              ChatRequest)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (
            {"prompt": {"name": "a", "variables": {"b": 0, "c": 0}}},
            "prompt.variables.b is 0. prompt.variables.c is 0.",
        ),
        ({"messages": [{"role": "user", "content": [1] * 9}]},
         "messages.0.content is [1, 1, 1, 1, 1, 1, 1, 1, 1]. messages.0.content.0 is 1."
         " messages.0.content.1 is 1. messages.0.content.2 is 1. messages.0.content.3 is 1."),
        ({"messages": [{"role": "user", "content": "a", "top_k": 1}]},
         "messages.0.top_k is no field."),
        ({"messages": [{"content": "a"}]}, "messages.0.role is missing."),
        ({"prompt": {}}, "prompt.name is missing."),
    ],
)  # fmt: skip
def test_a_fault_inside_a_field_is_told_once_and_where_it_is(body, what):
    with pytest.raises(Problem) as caught:
        parse(json.dumps(body).encode(), ChatRequest)
    assert caught.value.what == what
