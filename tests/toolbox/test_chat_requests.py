"""A request in the Chat Completions format: what is told to who sends another."""

from __future__ import annotations

import json

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
