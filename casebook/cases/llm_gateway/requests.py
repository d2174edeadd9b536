"""What a client may send and what it is told when that goes wrong: the Chat Completions format.

Fields that the gateway does not know are refused by name, since a field that is dropped silently is
a wrong answer later. An error has the form of OpenAI's API, so that every client shows it, with
``what`` is wrong and what to ``do`` besides.

Examples
--------
>>> raw = b'{"messages": [{"role": "user", "content": "hi"}], "top_k": 5}'
>>> try:
...     parse(raw, ChatRequest)
... except Problem as problem:
...     told(problem)["error"]["what"]
'"top_k" is no field.'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from casebook.serving.strict import Problem, Strict, parse

__all__ = ["ChatRequest", "Problem", "Question", "Refusal", "parse", "told"]

#: What a status is called in an error, as clients of OpenAI's API know it.
TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
#: Options that go to a provider as they are.
OPTIONS = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
)


class Refusal(Problem):
    """A request that is refused, with the seconds after which it may be sent again."""

    def __init__(
        self, status: int, error: str, what: str, do: str, wait: float | None = None
    ) -> None:
        super().__init__(status, error, what, do)
        self.wait = wait


def told(problem: Problem) -> dict[str, Any]:
    """Return the body of an error."""
    said = problem.body
    kind = "api_error" if problem.status >= 500 else "invalid_request_error"
    error = {
        "message": f"{said['what']} {said['do']}",
        "type": TYPES.get(problem.status, kind),
        "param": None,
        "code": said["error"].replace(" ", "_"),
    }
    return {"error": error | {"what": said["what"], "do": said["do"]}}


class Part(Strict):
    """A part of a message; only text is passed on."""

    type: Literal["text"]
    text: str


class Said(Strict):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    @property
    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(Strict):
    """Whether a stream ends with its usage."""

    include_usage: bool = False


class Schema(Strict):
    """A JSON schema with its name."""

    name: str = Field(max_length=64)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class Format(Strict):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class PromptOf(Strict):
    """A prompt of the tenant's registry, with the values of its variables."""

    name: str = Field(max_length=64)
    version: Annotated[int, Field(ge=1)] | None = None
    variables: dict[str, str] = Field(default={}, max_length=100)


_MESSAGES = "a list of 1 to 500 messages, each with role and content (text)"
_PENALTY = Field(default=None, ge=-2, le=2, description="a number from -2 to 2")
_MOST = Field(default=None, ge=1, le=1_000_000, description="a whole number from 1 to 1000000")


class ChatRequest(Strict):
    """The body of ``POST /v1/chat/completions``; ``prompt`` is this gateway's own field."""

    invalid: ClassVar[str] = "invalid request"
    remedy: ClassVar[str] = "Send messages, or prompt, or both."

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

    @model_validator(mode="after")
    def _something(self) -> ChatRequest:
        if not self.messages and self.prompt is None:
            raise ValueError("there is neither a message nor a prompt")
        return self

    @property
    def most(self) -> int | None:
        """How many tokens the answer may have, if that was said."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must fit, if there is one."""
        form = self.response_format
        return form.json_schema.schema_ if form and form.json_schema else None

    def options(self) -> dict[str, Any]:
        """Return what a provider is told besides the conversation."""
        given = self.model_dump(include=set(OPTIONS), exclude_none=True, by_alias=True)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return given | ({"stop": stop} if stop else {})


class Question(NamedTuple):
    """What a model is asked, in no provider's format: (role, text), options, length, stream."""

    messages: Sequence[tuple[str, str]]
    most: int
    options: dict[str, Any]
    stream: bool
