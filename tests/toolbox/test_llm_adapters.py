"""Provider adapters: two wire formats to one and back, and the mock providers that speak them."""

from __future__ import annotations

import json

import pytest

from casebook.llm.adapters import ADAPTERS, ModelRequest, ProviderError, error_of, loaded
from casebook.llm.messages import Message, Request
from casebook.llm.mock_providers import MockProvider


def test_the_messages_format_gets_turns_a_schema_in_words_and_no_option_that_it_lacks():
    schema = {"type": "object"}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    options = {"temperature": 1.7, "seed": 3, "stop": ["END"], "response_format": form}
    said = [("assistant", "Hello"), ("user", "a"), ("user", "b"), ("system", "c")]
    asked = Request(tuple(Message(*one) for one in said))
    made = ADAPTERS["messages"].body(ModelRequest(asked, 9, options, True), "up")
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
    with pytest.raises(ProviderError, match="malformed"):
        ADAPTERS[form].whole(loaded(sent))
    for event in (sent, '{"choices": [{"delta": 3}]}', '{"type": "message_delta", "delta": 3}'):
        try:
            ADAPTERS[form].event(event)
        except ProviderError as failure:
            assert failure.kind == "malformed"


def test_a_negative_count_of_tokens_is_not_believed():
    choice = {"message": {"content": "x"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": -5, "completion_tokens": True}
    piece = ADAPTERS["chat"].whole({"choices": [choice], "usage": usage})
    assert piece.tokens_in is None and piece.tokens_out is None


def test_a_planned_fault_that_is_none_is_refused_and_statuses_have_their_kind():
    with pytest.raises(ValueError, match="are no faults: give some of rate_limited"):
        MockProvider("chat", shares={"boom": 0.1})
    assert error_of(429, None).wait == 1.0 and error_of(503, "7").wait == 7.0
    assert error_of(529, "soon").wait is None and error_of(404, None).kind == "unauthorized"
