"""Conversations of a model that are kept and replayed; tools for a model that calls none."""

from __future__ import annotations

import pytest

from casebook.llm import Compromised, Message, Scripted
from casebook.llm.messages import ResponseFormat, Tool
from casebook.llm.prompted_tools import ANSWER, SHOWN, PromptedTools, simple
from casebook.recorded.kept_model import Keeping, Replayed

NUMBER = {"type": "object", "properties": {"order": {"type": "string", "pattern": "^[0-9]+$"}}}
TOOLS = [
    Tool("status", "Where an order is.", NUMBER),
    Tool("reset", "Mails a link.", {"type": "object"}),
]
SAID = [Message("system", "Be brief."), Message("user", "Where is 10007?")]


def test_a_step_and_then_its_arguments_are_asked_for_and_a_tool_without_any_at_once():
    small = Scripted([{"next": "status"}, {"order": "10007"}, {"next": "reset"}])
    model = PromptedTools(small)
    (call,) = model.complete(SAID, tools=TOOLS).tool_calls
    assert (call.name, dict(call.arguments)) == ("status", {"order": "10007"})
    enum = small.requests[0].response_format.schema["properties"]["next"]["enum"]
    assert list(enum) == ["status", "reset", ANSWER] and not small.requests[0].tools
    (call,) = model.complete(SAID, tools=TOOLS).tool_calls
    assert (call.name, dict(call.arguments)) == ("reset", {})
    assert simple(TOOLS[0].parameters)["required"] == ["order"]


def test_calls_and_long_results_are_shown_as_plain_messages():
    small = Scripted([{"next": "status"}, {"order": "1"}, {"next": ANSWER}, "It is shipped."])
    model = PromptedTools(small)
    (call,) = model.complete(SAID, tools=TOOLS).tool_calls
    said = [*SAID, Message("assistant", tool_calls=(call,)), call.result("x" * 2 * SHOWN)]
    assert model.complete(said, tools=TOOLS).content == "It is shipped."
    shown = small.requests[-1].messages
    assert {one.role for one in shown} == {"system", "user", "assistant"}
    assert max(len(one.content) for one in shown) < SHOWN + 20


def test_what_was_kept_is_answered_again_also_with_other_drawn_numbers():
    kept = Keeping(Scripted(["Fine.", {"next": "x"}]))
    kept.beginning("7")
    asked = [*SAID, Message("user", f"Proposal {'a' * 16}")]
    form = ResponseFormat("next", {"type": "object", "properties": {"next": {"enum": ["x"]}}})
    kept.complete(asked), kept.complete(SAID, response_format=form)
    again = Replayed(kept.frame())
    other = [*SAID, Message("user", f"Proposal {'b' * 16}")]
    assert again.complete(other).content == "Fine."
    assert again.complete(SAID, response_format=form).data == {"next": "x"}
    assert kept.frame()[["id", "variant"]].to_numpy().tolist() == [["7", "0"], ["7", "1"]]


def test_a_new_question_is_a_miss_and_a_failure_that_was_kept_is_none():
    kept = Keeping(Compromised(lambda request: {}["nothing"]))
    with pytest.raises(KeyError):
        kept.complete(SAID)
    again = Replayed(kept.frame())
    with pytest.raises(LookupError):
        again.complete(SAID)
    assert again.missed == 0
    with pytest.raises(LookupError):
        again.complete([*SAID[:1], Message("user", "Something else")])
    assert again.missed == 1
