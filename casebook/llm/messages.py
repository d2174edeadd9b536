"""What is said to a language model and what it says: records, and the protocol of a model.

The records cannot be changed, and a wrong one cannot be made: chapters and gateways may rely on
that. The names are those of the chat-completions format that most vendors speak.
"""

from __future__ import annotations

import base64
import copy
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from casebook.llm.schema import check_schema

Role = Literal["system", "user", "assistant", "tool"]
#: What vendors take as the name of a tool or of a schema.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Types of images that vendors read.
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")


def _text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} is of type {type(value).__name__}: give a string.")


def _name(value: object, what: str) -> None:
    _text(value, what)
    if not NAME.fullmatch(value):
        raise ValueError(
            f"{what} is {value!r}: give 1 to 64 letters, digits, underscores or hyphens."
        )


def _all(values: object, kind: type, what: str) -> tuple:
    values = tuple(values)
    if wrong := [value for value in values if not isinstance(value, kind)]:
        raise TypeError(f"{what} hold a {type(wrong[0]).__name__}: give {kind.__name__} objects.")
    return values


@dataclass(frozen=True)
class Image:
    """An image that a user message shows to the model.

    Attributes
    ----------
    data : bytes
        The file.
    media_type : str
        ``image/png``, ``image/jpeg``, ``image/webp`` or ``image/gif``.

    Raises
    ------
    ValueError
        If there are no bytes or the type is another one.
    """

    data: bytes = field(repr=False)
    media_type: str = "image/png"

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes) or not self.data:
            raise ValueError("An image is the bytes of its file: path.read_bytes().")
        if self.media_type not in IMAGES:
            raise ValueError(f"media_type is {self.media_type!r}: give one of {', '.join(IMAGES)}.")

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class ToolCall:
    """A model's wish that a tool be run. Whether it is, others decide.

    Attributes
    ----------
    name : str
        The tool.
    arguments : mapping
        A JSON object; a copy of what was given. Do not change it.
    id : str
        What the answer to the call refers to; empty until it stands in a message.

    Raises
    ------
    ValueError
        If the arguments are no JSON object.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        _text(self.name, "The name of a tool call")
        _text(self.id, "The id of a tool call")
        try:
            if not isinstance(self.arguments, Mapping):
                raise TypeError("they are no mapping")
            if not all(isinstance(name, str) for name in self.arguments):
                raise TypeError("a name is no string")
            arguments = json.loads(json.dumps(dict(self.arguments), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"The arguments of the call of {self.name!r} are no JSON object: {error}."
            ) from None
        object.__setattr__(self, "arguments", arguments)

    def result(self, content: str) -> Message:
        """Return the message that answers this call."""
        return Message("tool", content, tool_call_id=self.id)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes
    ----------
    role : {"system", "user", "assistant", "tool"}
        Who speaks.
    content : str
        The text.
    tool_calls : tuple of ToolCall
        What an assistant message asks for, each with an id of its own.
    tool_call_id : str, optional
        The call that a tool message answers.
    images : tuple of Image
        What a user message shows.

    Raises
    ------
    TypeError, ValueError
        If a field does not fit the role.
    """

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"role is {self.role!r}: give one of {', '.join(get_args(Role))}.")
        _text(self.content, "The content of a message")
        object.__setattr__(self, "tool_calls", _all(self.tool_calls, ToolCall, "tool_calls"))
        object.__setattr__(self, "images", _all(self.images, Image, "images"))
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"A {self.role} message calls no tools; an assistant message does.")
        if self.images and self.role != "user":
            raise ValueError(f"A {self.role} message shows no images; a user message does.")
        ids = [call.id for call in self.tool_calls]
        if not all(ids) or len(set(ids)) < len(ids):
            raise ValueError(
                f"Each tool call of a message needs an id of its own; these are {ids}."
            )
        if (self.role == "tool") != bool(self.tool_call_id):
            raise ValueError(
                "A tool message, and no other, names the call that it answers: tool_call_id. "
                "`call.result(text)` makes one."
            )


@dataclass(frozen=True)
class Tool:
    """A function that a model may ask for.

    Attributes
    ----------
    name, description : str
        What the model reads to choose it.
    parameters : mapping
        JSON schema of the arguments, an object; a copy of what was given.

    Raises
    ------
    ValueError
        If the name or the schema is none.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        _name(self.name, "The name of a tool")
        _text(self.description, f"The description of the tool {self.name!r}")
        check_schema(self.parameters, f"the tool {self.name!r}")
        object.__setattr__(self, "parameters", copy.deepcopy(dict(self.parameters)))


@dataclass(frozen=True)
class ResponseFormat:
    """The JSON that an answer must be: structured output.

    Attributes
    ----------
    name : str
        Name of the schema.
    schema : mapping
        JSON schema of the answer, an object; a copy of what was given.
    strict : bool
        Ask the server to keep to the schema while it generates. OpenAI then takes a subset of
        JSON schema only: all properties required, ``additionalProperties`` false. The answer is
        checked here in either case.

    Raises
    ------
    ValueError
        If the name or the schema is none.
    """

    name: str
    schema: Mapping[str, Any]
    strict: bool = True

    def __post_init__(self) -> None:
        _name(self.name, "The name of a response format")
        check_schema(self.schema, f"the response format {self.name!r}")
        object.__setattr__(self, "schema", copy.deepcopy(dict(self.schema)))


@dataclass(frozen=True)
class Usage:
    """Tokens that a reply cost.

    Attributes
    ----------
    prompt_tokens, completion_tokens : int
        Read and written.
    estimated : bool
        Whether they are :func:`estimate_tokens` of the texts and not the count of a tokenizer.

    Raises
    ------
    ValueError
        If a number is no count.
    """

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False

    def __post_init__(self) -> None:
        for what in ("prompt_tokens", "completion_tokens"):
            count = getattr(self, what)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise ValueError(f"{what} is {count!r}: give a count.")

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the tokens of both; estimated if one of them is."""
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True)
class Reply:
    """A complete answer, which model gave it, and what it cost.

    Attributes
    ----------
    content : str
        The text; empty where the model only calls tools.
    model : str
        The model as the server names it.
    usage : Usage
        Tokens.
    finish_reason : str
        ``stop``, ``length`` (cut by the limit of tokens), ``tool_calls``, ``content_filter``, or
        what else a server says.
    tool_calls : tuple of ToolCall
        What the model asks for.
    data : object
        The value of ``content`` where a response format was asked for; checked.
    """

    content: str
    model: str
    usage: Usage
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    data: Any = None

    @property
    def cut(self) -> bool:
        """Whether the limit of tokens ended the answer: its text is not complete."""
        return self.finish_reason == "length"

    @property
    def message(self) -> Message:
        """The reply as a turn of the conversation."""
        return Message("assistant", self.content, tool_calls=self.tool_calls)


@dataclass(frozen=True)
class Chunk:
    """A piece of a streamed answer.

    Attributes
    ----------
    text : str
        What was added; empty in the last one.
    reply : Reply, optional
        The whole, checked reply, in the last one.
    """

    text: str = ""
    reply: Reply | None = None


@runtime_checkable
class ChatModel(Protocol):
    """What a chapter may ask of a language model.

    Attributes
    ----------
    name : str
        The model that answers; a page that shows its output prints it.
    """

    name: str

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the whole answer to a conversation."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the answer in pieces, in order; the last one holds the reply."""
        ...


@dataclass(frozen=True)
class Request:
    """What a model is asked: a conversation that is in order, and what may come back.

    Raises
    ------
    TypeError, ValueError
        If there is no message, a tool message answers no call, a call has no answer, or two
        tools share a name.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    response_format: ResponseFormat | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", _all(self.messages, Message, "messages"))
        object.__setattr__(self, "tools", _all(self.tools, Tool, "tools"))
        if not self.messages:
            raise ValueError("There are no messages: give at least one.")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError(f"Two tools share a name: {names}.")
        if not isinstance(self.response_format, ResponseFormat | None):
            raise TypeError("response_format is no ResponseFormat: ResponseFormat(name, schema).")
        self._check_answers()

    def _check_answers(self) -> None:
        waiting: list[str] = []
        for number, message in enumerate(self.messages):
            if message.role == "tool":
                if message.tool_call_id not in waiting:
                    raise ValueError(
                        f"Message {number} answers the tool call {message.tool_call_id!r}; "
                        f"waiting for an answer: {waiting or 'none'}."
                    )
                waiting.remove(message.tool_call_id)
            elif waiting:
                raise ValueError(
                    f"Message {number} comes before the tool calls {waiting} are answered."
                )
            else:
                waiting = [call.id for call in message.tool_calls]
        if waiting:
            raise ValueError(f"The tool calls {waiting} are not answered: `call.result(text)`.")


# Tokens, where nobody counted them -----------------------------------------------------


def estimate_tokens(text: str) -> int:
    """Return a rough number of tokens: one for every four characters begun.

    OpenAI's rule of thumb for English [1]_. Other languages and code take more: a budget that
    rests on this number needs a margin.

    References
    ----------
    .. [1] OpenAI Help Center, "What are tokens and how to count them?"
    """
    return math.ceil(len(text) / 4)


def estimate_usage(
    messages: Sequence[Message], content: str, tool_calls: Sequence[ToolCall] = ()
) -> Usage:
    """Return the estimated tokens of a conversation and its answer; images count nothing."""

    def tokens(text: str, calls: Sequence[ToolCall]) -> int:
        return estimate_tokens(text) + sum(
            estimate_tokens(call.name + json.dumps(call.arguments)) for call in calls
        )

    return Usage(
        sum(tokens(message.content, message.tool_calls) for message in messages),
        tokens(content, tool_calls),
        estimated=True,
    )
