"""What a conversation holds, as a planner made of rules reads it: what was said and returned.

Examples
--------
>>> from casebook.llm.messages import Message, ToolCall
>>> call = ToolCall("order_status", {"order_id": "10007"}, "c1")
>>> said = [Message("system", "intent: refund"), Message("user", "Where is it?"),
...         Message("assistant", tool_calls=[call]), call.result('{"status": "shipped"}')]
>>> seen = read(Request(tuple(said)))
>>> seen.intent, seen.said, seen.of("order_status")
('refund', ['Where is it?'], [({'order_id': '10007'}, {'status': 'shipped'})])
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from casebook.llm.messages import Request, ToolCall


@dataclass
class Read:
    """What a conversation holds, as a planner sees it.

    Attributes
    ----------
    intent : str
        From the system message.
    said : list of str
        By the customer.
    results : list of (ToolCall, dict)
        Calls with what came of them.
    told : int
        Answers that were given already.
    """

    intent: str = ""
    said: list[str] = field(default_factory=list)
    results: list[tuple[ToolCall, dict[str, Any]]] = field(default_factory=list)
    told: int = 0

    def of(self, name: str) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Return arguments and results of the calls of one tool that were answered.

        What did not answer in time counts as not asked, so that a planner asks again.
        """
        own = [(call.arguments, body) for call, body in self.results if call.name == name]
        return [(asked, body) for asked, body in own if body.get("error") != "no answer"]

    @property
    def text(self) -> str:
        """All that the customer said."""
        return "\n".join(self.said)


def read(request: Request) -> Read:
    """Return what a conversation holds."""
    made, calls = Read(), {}
    for message in request.messages:
        if message.role == "system":
            found = re.search(r"intent: (\w+)", message.content)
            made.intent = found[1] if found else ""
        elif message.role == "user":
            made.said.append(message.content)
        elif message.role == "assistant":
            calls |= {call.id: call for call in message.tool_calls}
            made.told += not message.tool_calls
        else:
            made.results.append((calls[message.tool_call_id], json.loads(message.content)))
    return made
