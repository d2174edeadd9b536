"""The chat-completions format: from a request to JSON, and from JSON or a stream to a reply.

Nothing here opens a connection. The format is that of OpenAI's ``/v1/chat/completions``, which
vLLM, Ollama and most vendors speak too; fields that are not needed are ignored.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from casebook.llm.errors import (
    AnswerTooLarge,
    ArgumentsDoNotFit,
    ArgumentsNotJSON,
    LLMError,
    MalformedJSON,
    NoChoices,
    OutputDoesNotFit,
    OutputNotJSON,
    RateLimited,
    Refused,
    RequestRejected,
    ServerFailed,
    StreamCut,
    UnknownTool,
    WrongShape,
)
from casebook.llm.messages import Message, Reply, Request, ToolCall, Usage, estimate_usage
from casebook.llm.schema import misfit, short
from casebook.strict_json import parse

#: What the client itself says in a request; options may not.
RESERVED = {"model", "messages", "stream", "tools", "response_format"}
#: Statuses after which another attempt may help.
TRANSIENT = {429, 500, 502, 503, 504}
#: Bytes that an answer of any size may take: what a small one is made of.
SLACK = 500_000
TOO_LARGE = (
    "The answer would take more than {:,} bytes of memory. Set max_tokens in the options of the "
    "client, or raise its max_bytes."
)
#: Tool calls of one answer.
MOST_CALLS = 128
NOT_A_COMPLETION = (
    "The server does not speak the chat-completions format as it should: check the base URL, "
    "which usually ends in /v1, and the server's version."
)
ASK_AGAIN = "Ask again, put an example into the prompt, or take a model that follows schemas."
ENLARGE = (
    "The answer was cut by the limit of tokens (finish_reason is length): raise max_tokens in the "
    "options of the client."
)


# There ---------------------------------------------------------------------------------


def _message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        images = [{"type": "image_url", "image_url": {"url": i.url}} for i in message.images]
        wire["content"] = [{"type": "text", "text": message.content}, *images]
    if message.tool_calls:
        wire["content"] = message.content or None
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def body(
    model: str, request: Request, *, stream: bool, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON body of a request.

    Options stand beside what the request says; one whose value is None takes a field away, such
    as ``stream_options`` for a server that does not know it.
    """
    wire: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": stream,
    }
    if stream:
        wire["stream_options"] = {"include_usage": True}
    if request.tools:
        wire["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in request.tools
        ]
    if form := request.response_format:
        wire["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": form.name, "schema": form.schema, "strict": form.strict},
        }
    return {name: value for name, value in {**wire, **options}.items() if value is not None}


# Back: fields --------------------------------------------------------------------------

_KINDS = {str: "a text", list: "a list", dict: "an object"}


def _field(holder: Any, name: str, kind: type, path: str = "", *, default: Any = None) -> Any:
    """Return a field of an object; absent or null gives ``default``.

    Raises
    ------
    WrongShape
        If the holder is no object, or the field is of another kind.
    """
    if not isinstance(holder, dict):
        raise WrongShape(
            f"{path.rstrip('.') or 'The answer'} is {_shown(holder)}, not an object. "
            f"{NOT_A_COMPLETION}"
        )
    value = holder.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise WrongShape(f"{path}{name} is {_shown(value)}, not {_KINDS[kind]}. {NOT_A_COMPLETION}")
    return value


def _needed(holder: Any, name: str, kind: type, path: str = "") -> Any:
    value = _field(holder, name, kind, path)
    if value is None:
        raise WrongShape(f"{path}{name} is missing. {NOT_A_COMPLETION}")
    return value


def _shown(value: Any) -> str:
    """Name a wrong value by its kind only: it is the server's, and may hold anything."""
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(
        type(value), f"of type {type(value).__name__}"
    )


def check_size(text: bytes, most: int) -> None:
    """Raise if the value of a JSON text would take much more memory than the text itself.

    Each value of a list or an object costs about a hundred bytes, however short it is written; and
    one character beyond the first 256 (or 65,536) makes each of its text take two (or four) bytes.

    Raises
    ------
    AnswerTooLarge
        If text and value would take more than three times ``most`` bytes.
    """
    values = sum(text.count(mark) for mark in (b",", b"[", b"{", b":"))
    escaped = text.count(b"\\u")
    highest = max(text, default=0)
    wide = 4 if highest >= 0xF0 or escaped else 2 if highest >= 0xC4 else 1
    # Decoding makes room for as many characters as there are bytes; then text and value are there.
    decoded = len(text) * (2 if wide == 1 else 1.25 * wide)
    if len(text) + decoded + 100 * values + 20 * escaped > 3 * most + SLACK:
        raise AnswerTooLarge(TOO_LARGE.format(3 * most))


def load(text: str | bytes, what: str) -> Any:
    """Return the value of a JSON text of the server.

    Raises
    ------
    MalformedJSON
        With the reason; the text itself is not quoted.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise MalformedJSON(f"{what} is not JSON: {error}. {NOT_A_COMPLETION}") from None


def error_text(payload: Any) -> str:
    """Return what the error object of a server says, on one line; empty if nothing."""
    error = payload.get("error", payload) if isinstance(payload, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        message = payload.get("detail") if isinstance(payload, dict) else None
    return " ".join(message[:5000].split()) if isinstance(message, str) else ""


def _check_no_error(payload: Any) -> None:
    """Raise if a server reports a failure under the status 200, as some do inside a stream."""
    if isinstance(payload, dict) and payload.get("error"):
        raise inner_error(payload)


def inner_error(payload: dict[str, Any]) -> ServerFailed:
    """Return the error that an answer reports under ``error``."""
    code = payload["error"].get("code") if isinstance(payload["error"], dict) else None
    said = short(error_text(payload))
    return ServerFailed(
        f"The server reports an error inside its answer{': ' + said if said else ''}. "
        "Its log says more.",
        transient=code in TRANSIENT if isinstance(code, int) else True,
    )


def _usage(payload: dict[str, Any]) -> Usage | None:
    usage = _field(payload, "usage", dict)
    if not usage:
        return None
    try:
        # A completion of nothing is left out by some servers.
        return Usage(usage.get("prompt_tokens"), usage.get("completion_tokens", 0))
    except ValueError as error:
        raise WrongShape(f"usage.{short(str(error))} {NOT_A_COMPLETION}") from None


# Back: the reply -----------------------------------------------------------------------


@dataclass
class _RawCall:
    """A tool call as it came: ``arguments`` is still a text."""

    id: str = ""
    name: str = ""
    arguments: str = ""


def _tool_calls(raw: Iterable[_RawCall], request: Request, cut: bool) -> tuple[ToolCall, ...]:
    calls = []
    for number, one in enumerate(raw):
        if not one.id or not one.name:
            missing = "id" if not one.id else "name"
            raise WrongShape(f"tool_calls[{number}] has no {missing}. {NOT_A_COMPLETION}")
        try:
            # Some servers write nothing where a function has no arguments.
            arguments = parse(one.arguments.strip() or "{}")
            if not isinstance(arguments, dict):
                raise ValueError(f"it is {_shown(arguments)}, not an object")
        except ValueError as error:
            raise ArgumentsNotJSON(
                f"The arguments of the call of {short(one.name, 64)!r} are not a JSON object: "
                f"{error}. {ENLARGE if cut else ASK_AGAIN}"
            ) from None
        calls.append(ToolCall(one.name, arguments, one.id))
    if len({call.id for call in calls}) < len(calls):
        raise WrongShape(f"Two tool calls share an id. {NOT_A_COMPLETION}")
    check_tool_calls(calls, request)
    return tuple(calls)


def check_tool_calls(calls: Iterable[ToolCall], request: Request) -> None:
    """Raise if a call is not of an offered tool with arguments that fit.

    Raises
    ------
    UnknownTool, ArgumentsDoNotFit
        With the name of the tool and what is wrong.
    """
    offered = {tool.name: tool for tool in request.tools}
    for call in calls:
        if call.name not in offered:
            raise UnknownTool(
                f"The model called {short(call.name, 64)!r}; it was offered: "
                f"{', '.join(offered) or 'no tool'}. {ASK_AGAIN}"
            )
        if reason := misfit(call.arguments, offered[call.name].parameters):
            raise ArgumentsDoNotFit(
                f"The arguments of the call of {call.name!r} do not fit its schema: {reason}. "
                f"{ASK_AGAIN}"
            )


def structured(content: str, request: Request, finish_reason: str) -> Any:
    """Return the value of a structured answer, or None where none was asked for.

    Raises
    ------
    OutputNotJSON, OutputDoesNotFit
        With what is wrong.
    """
    form = request.response_format
    if form is None:
        return None
    advice = ENLARGE if finish_reason == "length" else ASK_AGAIN
    try:
        data = parse(content)
    except ValueError as error:
        raise OutputNotJSON(
            f"The answer had to be JSON of the schema {form.name!r} and is none: {error}. {advice}"
        ) from None
    if reason := misfit(data, form.schema):
        raise OutputDoesNotFit(
            f"The answer does not fit the schema {form.name!r}: {reason}. {advice}"
        )
    return data


def _reply(
    request: Request,
    *,
    content: str,
    calls: Iterable[_RawCall],
    refusal: str,
    finish_reason: str,
    usage: Usage | None,
    model: str,
) -> Reply:
    """Return a reply of what a completion or a stream held, checked."""
    if refusal and not content:
        raise Refused(f"The model declined to answer: {short(refusal)} Put the request otherwise.")
    if finish_reason == "content_filter":
        raise Refused(
            "A filter of the server took away the answer or a part of it (finish_reason is "
            "content_filter): put the request otherwise."
        )
    tool_calls = _tool_calls(calls, request, cut=finish_reason == "length")
    return Reply(
        content,
        model,
        usage or estimate_usage(request.messages, content, tool_calls),
        finish_reason,
        tool_calls,
        # A model that calls tools first answers later.
        None if tool_calls else structured(content, request, finish_reason),
    )


def read_reply(payload: Any, request: Request, model: str) -> Reply:
    """Return the reply of a whole completion.

    Parameters
    ----------
    payload : object
        The parsed body of the answer.
    request : Request
        What was asked.
    model : str
        The name that was asked for, in case the answer has none.

    Raises
    ------
    ServerFailed, WrongShape, NoChoices, Refused, BadToolCall, BadStructuredOutput
        If it is no completion, or not one of what was asked for.
    """
    _check_no_error(payload)
    choices = _needed(payload, "choices", list)
    if not choices:
        raise NoChoices(
            "The completion holds no answer (choices is empty). Ask again; a content filter of "
            "the server may have taken it away."
        )
    path = "choices[0]."
    message = _needed(choices[0], "message", dict, path)
    path += "message."
    calls = []
    for number, one in enumerate(_field(message, "tool_calls", list, path, default=[])):
        where = f"{path}tool_calls[{number}]."
        function = _needed(one, "function", dict, where)
        calls.append(
            _RawCall(
                _field(one, "id", str, where, default=""),
                _field(function, "name", str, f"{where}function.", default=""),
                _field(function, "arguments", str, f"{where}function.", default=""),
            )
        )
    return _reply(
        request,
        content=_field(message, "content", str, path, default=""),
        calls=calls,
        refusal=_field(message, "refusal", str, path, default=""),
        finish_reason=_needed(choices[0], "finish_reason", str, "choices[0]."),
        usage=_usage(payload),
        model=_field(payload, "model", str) or model,
    )


# Back: a stream ------------------------------------------------------------------------


class Assembly:
    """A reply that arrives in pieces."""

    def __init__(self, request: Request, model: str, most: int) -> None:
        self._most, self._characters, self._wide, self._values = most, 0, 1, 0
        self._request = request
        self._model = model
        self._content: list[str] = []
        self._refusal = io.StringIO()
        self._calls: dict[int, tuple[_RawCall, io.StringIO]] = {}
        self._finish_reason = ""
        self._usage: Usage | None = None
        self._any_choice = False

    def add(self, payload: Any) -> str:
        """Take an event, and return the text that it adds."""
        _check_no_error(payload)
        self._usage = _usage(payload) or self._usage
        self._model = _field(payload, "model", str) or self._model
        text = ""
        for choice in _field(payload, "choices", list, default=[]):
            if isinstance(choice, dict) and (choice.get("index") or 0) != 0:
                continue  # one answer was asked for
            self._any_choice = True
            delta = _field(choice, "delta", dict, "choices[0].", default={})
            path = "choices[0].delta."
            text += _field(delta, "content", str, path, default="")
            self._refusal.write(self._counted(_field(delta, "refusal", str, path, default="")))
            for piece in _field(delta, "tool_calls", list, path, default=[]):
                self._add_call(piece, f"{path}tool_calls[].")
            reason = _field(choice, "finish_reason", str, "choices[0].")
            self._finish_reason = reason or self._finish_reason
        self._content.append(self._counted(text, parsed=self._request.response_format is not None))
        return text

    def _counted(self, text: str, parsed: bool = False) -> str:
        """Return a text that is kept, once it is sure that there is room for it and its value."""
        wide = 1 if text.isascii() else 4 if max(text) > "\uffff" else 2
        self._characters, self._wide = self._characters + len(text), max(self._wide, wide)
        self._values += sum(map(text.count, ",[{:")) if parsed else 0
        if self._characters * self._wide + 100 * self._values > self._most + SLACK:
            raise AnswerTooLarge(TOO_LARGE.format(self._most))
        return text

    def _add_call(self, piece: Any, path: str) -> None:
        id_ = _field(piece, "id", str, path, default="")
        index = piece.get("index")
        if not isinstance(index, int):
            # Some servers leave the index out: then a new id begins a new call.
            index = len(self._calls) if id_ or not self._calls else max(self._calls)
        call, written = self._calls.setdefault(index, (_RawCall(), io.StringIO()))
        if len(self._calls) > MOST_CALLS:
            raise WrongShape(f"There are more than {MOST_CALLS} tool calls. {NOT_A_COMPLETION}")
        function = _field(piece, "function", dict, path, default={})
        call.id = call.id or id_
        call.name = call.name or _field(function, "name", str, f"{path}function.", default="")
        arguments = _field(function, "arguments", str, f"{path}function.", default="")
        written.write(self._counted(arguments, parsed=True))

    def reply(self, done: bool) -> Reply:
        """Return the whole reply once the stream has ended, with ``[DONE]`` or without.

        A reply with a finish reason is complete even where ``[DONE]`` is missing.

        Raises
        ------
        StreamCut
            If the stream ended too early.
        NoChoices, Refused, BadToolCall, BadStructuredOutput
            As :func:`read_reply`.
        """
        if done and not self._any_choice:
            raise NoChoices("The stream held no answer (choices was empty). Ask again.")
        if not self._finish_reason:
            raise StreamCut(
                "The stream ended without a finish reason: the answer is not complete. The server "
                "or a proxy between closed it; ask again."
            )
        return _reply(
            self._request,
            content="".join(self._content),
            calls=[
                replace(call, arguments=written.getvalue())
                for _, (call, written) in sorted(self._calls.items())
            ],
            refusal=self._refusal.getvalue(),
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
        )


def status_error(status: int, said: str) -> LLMError:
    """Return the error of an HTTP status that is no success.

    Parameters
    ----------
    status : int
        400 to 599.
    said : str
        What the server says about it, or empty.
    """
    answer = f"The server answers {status}" + (f": {short(said)}" if said else "") + "."
    if status == 429:
        return RateLimited(f"{answer} Wait, send less at a time, or raise the limit there.")
    if status >= 500:
        return ServerFailed(f"{answer} Its log says more.", transient=status in TRANSIENT)
    advice = {
        401: "The key is missing or wrong: set CASEBOOK_LLM_API_KEY.",
        403: "The key may not do this: set another one in CASEBOOK_LLM_API_KEY.",
        404: "Check the model's name and the base URL, which usually ends in /v1; Ollama has a "
        "model only after `ollama pull`.",
        413: "The conversation is too long for the server: shorten it.",
    }
    return RequestRejected(f"{answer} {advice.get(status, 'The request has to change.')}")
