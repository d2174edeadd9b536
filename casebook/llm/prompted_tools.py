"""Tools for a chat model that calls none: it is asked for its next step, then for the arguments.

Models that were not trained for tools can still choose one, if each choice is a small JSON object:
first ``{"next": …}`` with the names of the tools and ``answer``, then the arguments of that tool,
under its schema as far as a grammar for JSON knows it (:mod:`casebook.llm.grammar`). An answer is
plain text. What a tool refuses comes back as a result, as it does to any model.

Examples
--------
>>> from casebook.llm import Scripted
>>> from casebook.llm.messages import Message, Tool
>>> number = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
>>> small = Scripted([{"next": "status"}, {"order": "10007"}, {"next": "answer"}, "It is shipped."])
>>> model, said = PromptedTools(small), [Message("user", "Where is 10007?")]
>>> tools = [Tool("status", "Where an order is.", number)]
>>> call = model.complete(said, tools=tools).tool_calls[0]
>>> call.name, dict(call.arguments)
('status', {'order': '10007'})
>>> said += [Message("assistant", tool_calls=(call,)), call.result('{"status": "shipped"}')]
>>> model.complete(said, tools=tools).content
'It is shipped.'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from casebook.llm.grammar import KNOWN
from casebook.llm.messages import (
    ChatModel,
    Chunk,
    Message,
    Reply,
    ResponseFormat,
    Tool,
    ToolCall,
    Usage,
)

#: Characters of a result that are shown, and the choice that is no tool.
SHOWN, ANSWER = 600, "answer"
#: Characters of a text among the arguments.
LONGEST = 60
WRITE = "Write the answer to the customer, in one or two sentences."


class PromptedTools:
    """A chat model with tools, on one without.

    Parameters
    ----------
    model : ChatModel
        It must write JSON of a given schema.
    shown : int
        Characters of a tool's result that it reads.
    """

    def __init__(self, model: ChatModel, shown: int = SHOWN) -> None:
        self.model, self.shown, self.name = model, shown, getattr(model, "name", "model")

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return a call of a tool, or an answer; without tools what the model says.

        Raises
        ------
        BadStructuredOutput, ValueError
            As of the model.
        """
        said = self.told(messages, tools)
        if not tools:
            return self.model.complete(said, response_format=response_format)
        names = [one.name for one in tools]
        choice = _object({"next": {"enum": [*names, ANSWER]}})
        first = self.model.complete(said, response_format=ResponseFormat("next", choice))
        chosen = first.data["next"]
        said = [*said, Message("assistant", first.content)]
        if chosen == ANSWER:
            said.append(Message("user", WRITE))
            last = self.model.complete(said)
            return Reply(last.content, self.name, first.usage + last.usage, last.finish_reason)
        tool = tools[names.index(chosen)]
        arguments, usage = self._arguments(tool, said)
        ident = f"call_{sum(len(m.tool_calls) for m in messages) + 1}"
        call = ToolCall(chosen, arguments, ident)
        return Reply("", self.name, first.usage + usage, "tool_calls", (call,))

    def _arguments(self, tool: Tool, said: list[Message]) -> tuple[Mapping[str, Any], Usage]:
        schema = simple(tool.parameters)
        if not schema["properties"]:
            return {}, Usage(0, 0)
        asked = [*said, Message("user", f"Give the arguments of {tool.name}.")]
        made = self.model.complete(asked, response_format=ResponseFormat("arguments", schema))
        return made.data, made.usage

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the whole answer in one piece."""
        reply = self.complete(messages, tools=tools, response_format=response_format)
        return iter([Chunk(reply.content), Chunk(reply=reply)])

    def told(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """Return a conversation without calls: they and their results as plain messages."""
        listed = "\n".join(f"- {one.name}: {one.description}" for one in tools)
        made = [] if messages and messages[0].role == "system" else [Message("system", "")]
        for message in messages:
            if message.role == "tool":
                made.append(Message("user", f"Result: {message.content[: self.shown]}"))
            elif message.tool_calls:
                made += [
                    Message("assistant", json.dumps({"next": c.name})) for c in message.tool_calls
                ]
            else:
                made.append(Message(message.role, message.content))
        if tools:
            steps = f"Steps that you can take:\n{listed}\n- {ANSWER}: Answers the customer."
            made[0] = Message("system", f"{made[0].content}\n{steps}".strip())
        return made


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def simple(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool's schema with the keywords that the grammar keeps, and short texts.

    >>> simple({"properties": {"n": {"type": "string", "pattern": "^[0-9]{5}$"}}})["properties"]
    {'n': {'type': 'string', 'maxLength': 60}}
    """
    own = parameters.get("properties", {})
    made = {n: {k: v for k, v in one.items() if k in KNOWN - {"title"}} for n, one in own.items()}
    for one in made.values():
        if one.get("type") == "string" and "enum" not in one:
            one["maxLength"] = min(one.get("maxLength", LONGEST), LONGEST)
    return _object(made)
