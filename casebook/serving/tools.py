"""Tools that a model may ask for: typed arguments, limits, and refusals that are answers.

A model's wish is text from a stranger. :class:`Toolset` takes it as far as a call of Python: the
name must be known, the arguments must fit a strict pydantic model to the letter, and only so many
calls are made. What fits is *well-formed*, not *allowed*: that is for whoever is called to decide.

Examples
--------
>>> class Which(Strict):
...     number: Annotated[str, Field(pattern=r"^[0-9]{5}$", description="five digits")]
>>> tools = Toolset([Typed("order_status", "Says where an order is.", Which,
...                        lambda asked: {"order": asked.number, "status": "shipped"})], most=2)
>>> tools.run(ToolCall("order_status", {"number": "10007"})).body["status"]
'shipped'
>>> tools.run(ToolCall("order_status", {"number": "all"})).body["do"]
'Send number as five digits.'
>>> tools.run(ToolCall("order_status", {"number": "10007"})).body["error"]
'limit'
>>> tools.offered()[0].parameters["required"]
['number']
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from casebook.llm import Tool, ToolCall
from casebook.serving.strict import Problem, Strict, parse

__all__ = ["Annotated", "Field", "Result", "Strict", "Tool", "ToolCall", "Toolset", "Typed"]


#: The error of a tool whose system did not answer in time.
SILENT = "no answer"


@dataclass(frozen=True)
class Typed:
    """A tool: its name, what a model reads of it, its arguments, and what it calls.

    Attributes
    ----------
    call : callable
        Takes the checked arguments, returns a JSON object. A :class:`Problem` is a refusal, an
        ``OSError`` (such as ``TimeoutError``) means that the system behind it did not answer.
    """

    name: str
    says: str
    model: type[Strict]
    call: Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Result:
    """What came of a call: ``body`` is told to the model; ``ok``: it was made."""

    ok: bool
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The body as a model reads it."""
        return json.dumps(self.body, ensure_ascii=False)


class Toolset:
    """The tools of one conversation.

    Parameters
    ----------
    tools : iterable of Typed
    most : int
        Calls that are made, good or bad.

    Attributes
    ----------
    made : int
        Calls so far.
    """

    def __init__(self, tools: Iterable[Typed], most: int) -> None:
        self._tools, self.most, self.made = {one.name: one for one in tools}, most, 0

    def offered(self) -> tuple[Tool, ...]:
        """Return the tools as a model is told of them."""
        return tuple(_offered(one.name, one.says, one.model) for one in self._tools.values())

    def run(self, call: ToolCall) -> Result:
        """Run a call, or say why not; nothing that a model sends raises."""
        self.made += 1
        if self.made > self.most:
            return _refused("limit", f"More than {self.most} calls were made.", "Hand over.")
        tool = self._tools.get(call.name)
        if tool is None:
            return _refused(
                "unknown tool", f"There is no {call.name[:40]!r}.", f"Use {', '.join(self._tools)}."
            )
        try:
            asked = parse(json.dumps(dict(call.arguments)).encode(), tool.model)
            return Result(True, dict(tool.call(asked)))
        except Problem as problem:
            return Result(False, problem.body)
        except OSError:
            return _refused(SILENT, f"{call.name} did not answer.", "Call it again, or hand over.")


@lru_cache(maxsize=256)
def _offered(name: str, says: str, model: type[Strict]) -> Tool:
    return Tool(name, says, {"required": []} | model.model_json_schema())


def _refused(error: str, what: str, do: str) -> Result:
    return Result(False, {"error": error, "what": what, "do": do})
