"""The body of a request for an answer, in the Chat Completions format of OpenAI's API.

Fields that a server does not know are refused by name, since a field that is dropped silently is a
wrong answer later. :func:`casebook.serving.refusals.told` gives an error the form that clients of
that API show, with ``what`` is wrong and what to ``do`` besides.

Examples
--------
>>> from casebook.serving.refusals import told
>>> from casebook.serving.strict import Problem, parse
>>> raw = b'{"messages": [{"role": "user", "content": "hi"}], "top_k": 5}'
>>> try:
...     parse(raw, ChatRequest)
... except Problem as problem:
...     told(problem)["error"]["what"]
'"top_k" is no field.'
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from casebook.llm.messages import Message, Tool, ToolCall
from casebook.serving.refusals import Refusal
from casebook.serving.strict import Strict
from casebook.strict_json import parse as parse_json

#: Options that go to a provider as they are.
OPTIONS = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
)


#: Levels of a tool's schema or of a call's arguments.
DEEPEST = 100


def plain(value: Any) -> Any:
    """Return a value that every provider can read; else :class:`ValueError`.

    Examples
    --------
    >>> plain({"x": [1, "a"]})
    {'x': [1, 'a']}
    """
    held = [(value, 0)]
    while held:
        one, depth = held.pop()
        if depth > DEEPEST:
            raise ValueError(f"it nests more than {DEEPEST} levels deep")
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("it holds a number beyond what JSON readers take")
        if isinstance(one, str) and not one.isascii():
            one.encode()  # half a surrogate has no UTF-8
        inside = [*one, *one.values()] if isinstance(one, dict) else one
        held += [(x, depth + 1) for x in inside] if isinstance(one, dict | list) else []
    return value


Json = Annotated[dict[str, Any], AfterValidator(plain)]


class Part(Strict):
    """A part of a message; only text is passed on."""

    type: Literal["text"]
    text: str


class Function(Strict):
    """A call of a tool: its arguments are a JSON object, written as a text."""

    name: str
    arguments: str = Field(max_length=200_000)


class Call(Strict):
    """What an assistant's message asks for."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: Function

    @property
    def made(self) -> ToolCall:
        """The call as a model's adapter writes it."""
        try:
            given = plain(parse_json(self.function.arguments or "{}"))
        except ValueError as error:
            raise ValueError(f"the arguments of {self.id} are not such JSON: {error}") from None
        return ToolCall(self.function.name, given, self.id)


class Said(Strict):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: None = None
    tool_calls: list[Call] = Field(default=[], max_length=128)
    tool_call_id: str | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    @property
    def message(self) -> Message:
        """The message as a model's adapter writes it."""
        if self.content is None and not self.tool_calls:
            raise ValueError(f"a message of the {self.role} has no content")
        role = "system" if self.role == "developer" else self.role
        calls = tuple(call.made for call in self.tool_calls)
        return Message(role, self.text, calls, self.tool_call_id)


class Described(Strict):
    """What a tool does and takes."""

    name: str
    description: str = Field(default="", max_length=10_000)
    parameters: Json = Field(default={"type": "object", "properties": {}})
    strict: bool | None = None


class Offered(Strict):
    """A tool that the model may ask for; the client runs it."""

    type: Literal["function"]
    function: Described


class Named(Strict):
    """The name of a tool."""

    name: str


class Choice(Strict):
    """The one tool that has to be called."""

    type: Literal["function"]
    function: Named


class StreamOptions(Strict):
    """Whether a stream ends with its usage."""

    include_usage: bool = False


class Schema(Strict):
    """A JSON schema with its name."""

    name: str = Field(max_length=64)
    schema_: Json = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class Format(Strict):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class PromptOf(Strict):
    """A prompt of a registry, with the values of its variables."""

    name: str = Field(max_length=64)
    version: Annotated[int, Field(ge=1)] | None = None
    variables: dict[str, str] = Field(default={}, max_length=100)


_MESSAGES = "a list of 1 to 500 messages, each with role and content (text) or tool_calls"
_TOOLS = 'a list of 1 to 128 of {"type": "function", "function": {"name", "parameters"}}'
_PENALTY = Field(default=None, ge=-2, le=2, description="a number from -2 to 2")
_MOST = Field(default=None, ge=1, le=1_000_000, description="a whole number from 1 to 1000000")


class ChatRequest(Strict):
    """The body of ``POST /v1/chat/completions``; ``prompt`` is a field of ours."""

    invalid: ClassVar[str] = "invalid request"
    remedy: ClassVar[str] = "Send messages, or prompt, or both; tool_choice needs its tools."

    messages: list[Said] = Field(default=[], max_length=500, description=_MESSAGES)
    model: str | None = Field(default=None, max_length=64, description="the name of a model")
    prompt: PromptOf | None = Field(default=None, description="an object: name, variables, version")
    stream: bool = Field(default=False, description="true or false")
    stream_options: StreamOptions | None = Field(
        default=None, description='{"include_usage": true or false}'
    )
    max_tokens: int | None = _MOST
    max_completion_tokens: int | None = _MOST
    temperature: float | None = Field(default=None, ge=0, le=2, description="a number from 0 to 2")
    top_p: float | None = Field(default=None, ge=0, le=1, description="a number from 0 to 1")
    stop: str | Annotated[list[str], Field(max_length=4)] | None = Field(
        default=None, description="a text, or up to four"
    )
    seed: int | None = Field(default=None, description="a whole number")
    presence_penalty: float | None = _PENALTY
    frequency_penalty: float | None = _PENALTY
    n: Literal[1] | None = Field(default=None, description="1: one answer a request")
    user: str | None = Field(default=None, max_length=256, description="a text")
    response_format: Format | None = Field(
        default=None, description='{"type": "json_schema", "json_schema": {"name", "schema"}}'
    )
    tools: list[Offered] | None = Field(
        default=None, min_length=1, max_length=128, description=_TOOLS
    )
    tool_choice: Literal["auto", "none", "required"] | Choice | None = Field(
        default=None, description='"auto", "none", "required", or one tool of the list'
    )
    parallel_tool_calls: bool | None = Field(default=None, description="true or false")

    @model_validator(mode="after")
    def _something(self) -> ChatRequest:
        if not self.messages and self.prompt is None:
            raise ValueError("there is neither a message nor a prompt")
        if (self.tool_choice or self.parallel_tool_calls is not None) and not self.tools:
            raise ValueError("tool_choice or parallel_tool_calls stands without tools")
        offered = {tool.function.name for tool in self.tools or ()}
        if isinstance(self.tool_choice, Choice) and self.tool_choice.function.name not in offered:
            raise ValueError("tool_choice names a tool that is not in the list")
        return self

    @property
    def most(self) -> int | None:
        """How many tokens the answer may have, if that was said."""
        return self.max_completion_tokens or self.max_tokens

    def offered(self) -> tuple[Tool, ...]:
        """Return the tools.

        Raises
        ------
        Refusal
            422 for a name or a schema that is none.
        """
        try:
            functions = [one.function for one in self.tools or ()]
            return tuple(Tool(one.name, one.description, one.parameters) for one in functions)
        except ValueError as error:
            raise Refusal(422, "invalid tools", str(error), "Correct the tool.") from None

    def strict_tools(self) -> dict[str, dict[str, Any]]:
        """Return the schemas that calls must fit, by tool."""
        functions = [one.function for one in self.tools or ()]
        return {one.name: one.parameters for one in functions if one.strict}

    def options(self) -> dict[str, Any]:
        """Return what a provider is told besides the conversation."""
        given = self.model_dump(include=set(OPTIONS), exclude_none=True, by_alias=True)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return given | ({"stop": stop} if stop else {})
