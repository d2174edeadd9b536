"""Provider adapters: Chat Completions and Messages to one form and back, streams and tools too.

An adapter writes a :class:`ModelRequest` as its provider's JSON, and turns what comes back into
:class:`Delta` objects. A whole answer is a stream of one delta, so that metering and guardrails
know one path only. Whatever else comes back is a :class:`ProviderError` of a few kinds; it never
quotes the provider, whose text may hold our key or somebody else's words.

The Messages format has no seed, no penalties and no schema: the first ones are dropped there, and a
schema is put into words (who asks for one checks the answer in any case).

Examples
--------
>>> said = Request((Message("system", "Be brief."), Message("user", "hi")))
>>> Messages().body(ModelRequest(said, 50, {"stop": ["\\n"]}), "m")["system"]
'Be brief.'
>>> Messages().whole({"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn",
...                   "usage": {"input_tokens": 9, "output_tokens": 1}})
Delta(text='Hello', finish='stop', tokens_in=9, tokens_out=1, n=1, calls=())
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from casebook.llm import wire
from casebook.llm.messages import Message, Request
from casebook.strict_json import parse

#: Bytes of a whole answer.
LARGEST = 8_000_000
#: Seconds for which a provider's Retry-After is believed, at most.
LONGEST = 60.0
#: What can be wrong with an attempt, and whether the same model may be asked again.
KINDS = {
    "rate_limited": False,  # 429
    "failed": True,  # 5xx, or an error within a stream
    "unreachable": True,
    "timeout": False,
    "malformed": False,  # not the format that it should be
    "cut": False,  # a stream that ended before its answer did
    "bad_request": False,  # 4xx: the request is at fault
    "unauthorized": False,  # 401, 403, 404: our key or the model's name is
    "busy": False,  # too many of this tenant wait
    "limited": False,  # the tenant's own limit of this model
    "open": False,  # its circuit breaker lets nothing through
}


class ProviderError(Exception):
    """An attempt that gave no whole answer.

    Attributes
    ----------
    kind : str
        Of :data:`KINDS`.
    wait : float or None
        Seconds after which another attempt makes sense, if the provider said so.
    """

    def __init__(self, kind: str, detail: str = "", wait: float | None = None) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail, self.wait = kind, detail, wait


@dataclass(frozen=True)
class ModelRequest:
    """What a model is asked, in no provider's format.

    Attributes
    ----------
    said : Request
        Conversation and tools.
    max_tokens : int
        Of the answer.
    options : mapping
        Sampling options, ``response_format``, ``tool_choice`` and ``parallel_tool_calls``, in the
        words of Chat Completions.
    stream : bool
    """

    said: Request
    max_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False

    def texts(self) -> Iterator[str]:
        """Yield all that a provider counts as input: texts, calls, tools and the schema."""
        for message in self.said.messages:
            yield message.content
            for call in message.tool_calls:
                yield call.name + json.dumps(call.arguments)
        for tool in self.said.tools:
            yield tool.name + tool.description + json.dumps(tool.parameters)
        if form := self.options.get("response_format"):
            yield json.dumps(form)


class CallPart(NamedTuple):
    """A part of a tool call: id and name come first, its arguments bit by bit."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(NamedTuple):
    """A part of an answer; usage and the reason of its end come when the provider sends them.

    ``n`` events with content came together in it: so many tokens at least.
    """

    text: str = ""
    finish: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    n: int = 1
    calls: tuple[CallPart, ...] = ()

    def joined(self, other: Delta) -> Delta:
        """Return this delta and the next one as one."""
        text, n = self.text + other.text, self.n + other.n
        counts = (mine if new is None else new for mine, new in zip(self[2:4], other[2:4]))  # noqa: B905
        return Delta(text, other.finish or self.finish, *counts, n, self.calls + other.calls)


#: The end of a stream, and an event that adds nothing.
END, NOTHING = Delta(finish="end of stream", n=0), Delta(n=0)


def assembled(parts: Iterable[CallPart]) -> list[dict[str, Any]]:
    """Return tool calls as a message has them, from their parts.

    Raises
    ------
    ProviderError
        ``malformed`` for a call without id or name, or arguments that are no JSON object.

    Examples
    --------
    >>> halves = CallPart(0, arguments='{"x":'), CallPart(0, arguments="1}")
    >>> assembled([CallPart(0, "c1", "find"), *halves])[0]["function"]
    {'name': 'find', 'arguments': '{"x":1}'}
    """
    made: dict[int, list[str]] = {}
    for index, *texts in parts:
        own = made.setdefault(index, ["", "", ""])
        own[0], own[1] = own[0] or texts[0], own[1] or texts[1]
        own[2] += texts[2]
    for call_id, name, arguments in made.values():
        if not call_id or not name:
            raise ProviderError("malformed", "a call without id or name")
        loaded(arguments or "{}")
    return [
        {"id": i, "type": "function", "function": {"name": name, "arguments": said or "{}"}}
        for _, (i, name, said) in sorted(made.items())
    ]


def _seconds(wait: str | None) -> float | None:
    """Return what a Retry-After asks for, a number or a date, at most :data:`LONGEST` seconds."""
    try:
        if wait and wait.isascii() and wait.isdigit():
            return min(LONGEST, float(wait[:9]))
        return min(LONGEST, max(0.0, parsedate_to_datetime(wait).timestamp() - time.time()))
    except (TypeError, ValueError, OverflowError):
        return None


def error_of(status: int, wait: str | None) -> ProviderError:
    """Return the error that a status of a provider is."""
    seconds = _seconds(wait)
    if status == 429:
        return ProviderError("rate_limited", "429", seconds or 1.0)
    if status in (401, 403, 404):
        return ProviderError("unauthorized", str(status))
    if status in (400, 413, 422):
        return ProviderError("bad_request", str(status))
    return ProviderError("failed", str(status), seconds)


def loaded(text: str | bytes) -> dict[str, Any]:
    """Return a provider's JSON object; ``malformed`` for anything else."""
    try:
        value = parse(text)
    except ValueError:
        raise ProviderError("malformed", "no JSON") from None
    if not isinstance(value, dict):
        raise ProviderError("malformed", "no object")
    return value


def _event(data: str) -> dict[str, Any]:
    """Return an event's object, read in a tenth of the time that a strict reader takes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ProviderError("malformed", "no JSON") from None
    if not isinstance(value, dict):
        raise ProviderError("malformed", "no object")
    return value


def _count(usage: Any, name: str) -> int | None:
    """Return a number of tokens; a provider that reports a negative one is not believed."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value is not True and 0 <= value < 10**9 else None


def _text(value: Any) -> str:
    """Return a text that may be left out or null."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _index(value: Any) -> int:
    """Return the number of a call."""
    if type(value) is not int:
        raise TypeError("no number")
    return value


class Chat:
    """Chat Completions, as OpenAI, vLLM, Ollama and most others speak it."""

    path = "/v1/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that open the provider."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, asked: ModelRequest, upstream: str) -> dict[str, Any]:
        """Return the request."""
        options = {"max_completion_tokens": asked.max_tokens, **asked.options}
        return wire.body(upstream, asked.said, stream=asked.stream, options=options)

    def whole(self, answer: Mapping[str, Any]) -> Delta:
        """Return a whole answer."""
        try:
            choice = answer["choices"][0]
            if not isinstance(choice["finish_reason"], str):
                raise TypeError("no reason")
            return self._delta(choice["message"], choice["finish_reason"], answer.get("usage"))
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ProviderError("malformed", "no completion") from None

    def event(self, data: str) -> Delta:
        """Return what an event adds; :data:`END` at the end."""
        if data == "[DONE]":
            return END
        sent = _event(data)
        if sent.get("error"):
            raise ProviderError("failed", "an error within the stream")
        try:
            choice = (sent.get("choices") or [{}])[0]
            finish = choice.get("finish_reason")
            finish = None if finish is None else _text(finish)
            return self._delta(choice.get("delta") or {}, finish, sent.get("usage"))
        except (AttributeError, TypeError, KeyError, IndexError):
            raise ProviderError("malformed", "no chunk") from None

    def _delta(self, said: Mapping[str, Any], finish: str | None, usage: Any) -> Delta:
        text = _text(said.get("content"))
        calls = tuple(
            CallPart(
                _index(one.get("index", at)),
                _text(one.get("id")),
                *(_text((one.get("function") or {}).get(name)) for name in ("name", "arguments")),
            )
            for at, one in enumerate(said.get("tool_calls") or ())
        )
        counts = (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        return Delta(text, finish, *counts, int(bool(text or calls)), calls)


#: Why an answer ended, in the words of the other format.
STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
CHOICES = {"auto": "auto", "required": "any", "none": "none"}


class Messages:
    """Messages, as Anthropic speaks it: system apart, roles in turns, length always given."""

    path = "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that open the provider."""
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def body(self, asked: ModelRequest, upstream: str) -> dict[str, Any]:
        """Return the request."""
        options = asked.options
        system = [one.content for one in asked.said.messages if one.role == "system"]
        if (form := options.get("response_format", {})).get("type", "text") != "text":
            schema = (form.get("json_schema") or {}).get("schema", {"type": "object"})
            system.append(f"Answer with JSON alone, of this schema: {json.dumps(schema)}")
        made: dict[str, Any] = {"model": upstream, "max_tokens": asked.max_tokens}
        made["messages"] = _turns(asked.said.messages)
        made |= {"system": "\n\n".join(system)} if system else {}
        made |= {"stream": True} if asked.stream else {}
        made |= {"stop_sequences": options["stop"]} if "stop" in options else {}
        if "temperature" in options:
            made["temperature"] = min(1.0, options["temperature"])
        made |= {"top_p": options["top_p"]} if "top_p" in options else {}
        return made | (self._tools(asked) if asked.said.tools else {})

    def _tools(self, asked: ModelRequest) -> dict[str, Any]:
        tools = [
            {"name": one.name, "description": one.description, "input_schema": one.parameters}
            for one in asked.said.tools
        ]
        wanted = asked.options.get("tool_choice", "auto")
        if isinstance(wanted, str):
            choice: dict[str, Any] = {"type": CHOICES[wanted]}
        else:
            choice = {"type": "tool", "name": wanted["function"]["name"]}
        if asked.options.get("parallel_tool_calls") is False and choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
        return {"tools": tools, "tool_choice": choice}

    def whole(self, answer: Mapping[str, Any]) -> Delta:
        """Return a whole answer."""
        try:
            parts = answer["content"]
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            calls = tuple(
                CallPart(at, _text(part["id"]), _text(part["name"]), json.dumps(part["input"]))
                for at, part in enumerate(parts)
                if part["type"] == "tool_use"
            )
            finish = STOPS.get(answer["stop_reason"], "stop")
        except (KeyError, TypeError):
            raise ProviderError("malformed", "no message") from None
        usage = answer.get("usage")
        counts = _count(usage, "input_tokens"), _count(usage, "output_tokens")
        return Delta(text, finish, *counts, 1, calls)

    def event(self, data: str) -> Delta:
        """Return what an event adds; :data:`END` at the end. Counts of tokens are running sums."""
        sent = _event(data)
        try:
            match sent.get("type"):
                case "content_block_delta":
                    if "partial_json" in sent["delta"]:
                        more = _text(sent["delta"]["partial_json"])
                        part = CallPart(_index(sent["index"]), "", "", more)
                        return Delta(calls=(part,))
                    text = _text(sent["delta"].get("text"))
                    return Delta(text, n=int(bool(text)))
                case "content_block_start" if sent["content_block"]["type"] == "tool_use":
                    block = sent["content_block"]
                    part = CallPart(_index(sent["index"]), _text(block["id"]), _text(block["name"]))
                    return Delta(calls=(part,))
                case "message_start":
                    counted = _count(sent["message"].get("usage"), "input_tokens")
                    return Delta("", None, counted, n=0)
                case "message_delta":
                    finish = STOPS.get(sent["delta"].get("stop_reason"), "stop")
                    return Delta("", finish, None, _count(sent.get("usage"), "output_tokens"), 0)
                case "message_stop":
                    return END
                case "error":
                    raise ProviderError("failed", "an error within the stream")
        except (KeyError, TypeError, AttributeError):
            raise ProviderError("malformed", "no event") from None
        return NOTHING  # ping, and kinds that may come one day


def _turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return a conversation in turns, a user's first; results of tools are a user's."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for one in messages:
        if one.role == "system":
            continue
        role = "user" if one.role == "tool" else one.role
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        if one.role == "tool":
            result = {"type": "tool_result", "tool_use_id": one.tool_call_id}
            turns[-1][1].append(result | {"content": one.content})
        elif one.content or not one.tool_calls:
            turns[-1][1].append({"type": "text", "text": one.content})
        turns[-1][1].extend(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
            for call in one.tool_calls
        )
    if not turns or turns[0][0] != "user":
        turns.insert(0, ("user", [{"type": "text", "text": "Begin."}]))
    return [{"role": role, "content": _content(blocks)} for role, blocks in turns]


def _content(blocks: list[dict[str, Any]]) -> Any:
    """Return blocks of text alone as one text."""
    if all(one["type"] == "text" for one in blocks):
        return "\n\n".join(one["text"] for one in blocks)
    return blocks


ADAPTERS = {"chat": Chat(), "messages": Messages()}
