"""Two wire formats to one and back: Chat Completions and Messages, whole answers and streams.

An adapter writes a :class:`Question` as its provider's JSON, and turns what comes back into
:class:`Piece` objects. A whole answer is a stream of one piece, so that metering and guardrails
know one path only. Whatever else comes back is a :class:`Failure` of a few kinds; it never quotes
the provider, whose text may hold our key or another tenant's words.

The Messages format has no seed, no penalties and no schema: the first ones are dropped there, and a
schema is put into words (the gateway checks the answer against it in any case).

Examples
--------
>>> question = Question([("system", "Be brief."), ("user", "hi")], 50, {"stop": ["\\n"]}, False)
>>> Messages().body(question, "m")["system"]
'Be brief.'
>>> Messages().whole({"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn",
...                   "usage": {"input_tokens": 9, "output_tokens": 1}})
Piece(text='Hello', finish='stop', tokens_in=9, tokens_out=1, n=1)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from casebook.cases.llm_gateway.requests import Question
from casebook.strict_json import parse

#: Bytes of a whole answer.
LARGEST = 8_000_000
#: What can be wrong with an attempt, and whether the same model may be asked again.
KINDS = {
    "limited": False,  # 429
    "failed": True,  # 5xx, or an error inside of a stream
    "unreachable": True,
    "late": False,
    "nonsense": False,  # not the format that it should be
    "cut": False,  # a stream that ended before its answer did
    "rejected": False,  # 4xx: the request is at fault
    "locked": False,  # 401, 403, 404: our key or the model's name is
    "busy": False,  # too many of this tenant wait
    "open": False,  # its breaker lets nothing through
}


class Failure(Exception):
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


class Piece(NamedTuple):
    """A part of an answer; usage and the reason of its end come when the provider sends them.

    ``n`` events with text came together in it: so many tokens at least.
    """

    text: str = ""
    finish: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    n: int = 1

    def joined(self, other: Piece) -> Piece:
        """Return this piece and the next one as one."""
        text, n = self.text + other.text, self.n + other.n
        counts = (mine if new is None else new for mine, new in zip(self[2:4], other[2:4]))  # noqa: B905
        return Piece(text, other.finish or self.finish, *counts, n)


#: The end of a stream, and an event that adds nothing.
END, NOTHING = Piece(finish="end of stream", n=0), Piece(n=0)


def failed(status: int, wait: str | None) -> Failure:
    """Return the failure that a status of a provider is."""
    seconds = float(wait) if wait and wait.isdigit() else None
    if status == 429:
        return Failure("limited", "429", seconds or 1.0)
    if status in (401, 403, 404):
        return Failure("locked", str(status))
    if status in (400, 413, 422):
        return Failure("rejected", str(status))
    return Failure("failed", str(status), seconds)


def loaded(text: str | bytes) -> dict[str, Any]:
    """Return a provider's JSON object; ``nonsense`` for anything else."""
    try:
        value = parse(text)
    except ValueError:
        raise Failure("nonsense", "no JSON") from None
    if not isinstance(value, dict):
        raise Failure("nonsense", "no object")
    return value


def _event(data: str) -> dict[str, Any]:
    """Return an event's object, read in a tenth of the time that a strict reader takes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Failure("nonsense", "no JSON") from None
    if not isinstance(value, dict):
        raise Failure("nonsense", "no object")
    return value


def _count(usage: Any, name: str) -> int | None:
    """Return a number of tokens; a provider that reports a negative one is not believed."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value is not True and 0 <= value < 10**9 else None


class Chat:
    """Chat Completions, as OpenAI, vLLM, Ollama and most others speak it."""

    path = "/v1/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that open the provider."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, question: Question, upstream: str) -> dict[str, Any]:
        """Return the request."""
        messages = [{"role": role, "content": text} for role, text in question.messages]
        made = {"model": upstream, "messages": messages, "max_completion_tokens": question.most}
        if question.stream:
            made |= {"stream": True, "stream_options": {"include_usage": True}}
        return made | question.options

    def whole(self, answer: Mapping[str, Any]) -> Piece:
        """Return a whole answer."""
        try:
            choice = answer["choices"][0]
            text, finish = choice["message"]["content"] or "", choice["finish_reason"]
        except (KeyError, IndexError, TypeError):
            raise Failure("nonsense", "no completion") from None
        if not isinstance(text, str) or not isinstance(finish, str):
            raise Failure("nonsense", "no completion")
        return self._counted(text, finish, answer.get("usage"))

    def event(self, data: str) -> Piece:
        """Return what an event adds; :data:`END` at the end."""
        if data == "[DONE]":
            return END
        sent = _event(data)
        if sent.get("error"):
            raise Failure("failed", "an error inside of the stream")
        choices = sent.get("choices") or [{}]
        try:
            text = (choices[0].get("delta") or {}).get("content") or ""
            finish = choices[0].get("finish_reason")
        except (AttributeError, TypeError, KeyError, IndexError):
            raise Failure("nonsense", "no chunk") from None
        if not isinstance(text, str) or not isinstance(finish, str | None):
            raise Failure("nonsense", "no chunk")
        return self._counted(text, finish, sent.get("usage"))

    def _counted(self, text: str, finish: str | None, usage: Any) -> Piece:
        counts = (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        return Piece(text, finish, *counts, n=int(bool(text)))


#: Why an answer ended, in the words of the other format.
STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class Messages:
    """Messages, as Anthropic speaks it: system apart, roles in turns, length always given."""

    path = "/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that open the provider."""
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def body(self, question: Question, upstream: str) -> dict[str, Any]:
        """Return the request."""
        system, turns = [], []
        for role, text in question.messages:
            if role in ("system", "developer"):
                system.append(text)
            elif turns and turns[-1]["role"] == role:
                turns[-1]["content"] += f"\n\n{text}"
            else:
                turns.append({"role": role, "content": text})
        if not turns or turns[0]["role"] != "user":
            turns.insert(0, {"role": "user", "content": "Begin."})
        options = question.options
        if (form := options.get("response_format", {})).get("type", "text") != "text":
            schema = (form.get("json_schema") or {}).get("schema", {"type": "object"})
            system.append(f"Answer with JSON alone, of this schema: {json.dumps(schema)}")
        made = {"model": upstream, "messages": turns, "max_tokens": question.most}
        made |= {"system": "\n\n".join(system)} if system else {}
        made |= {"stream": True} if question.stream else {}
        made |= {"stop_sequences": options["stop"]} if "stop" in options else {}
        if "temperature" in options:
            made["temperature"] = min(1.0, options["temperature"])
        return made | ({"top_p": options["top_p"]} if "top_p" in options else {})

    def whole(self, answer: Mapping[str, Any]) -> Piece:
        """Return a whole answer."""
        try:
            text = "".join(part["text"] for part in answer["content"] if part["type"] == "text")
            finish = STOPS.get(answer["stop_reason"], "stop")
        except (KeyError, TypeError):
            raise Failure("nonsense", "no message") from None
        usage = answer.get("usage")
        return Piece(text, finish, _count(usage, "input_tokens"), _count(usage, "output_tokens"))

    def event(self, data: str) -> Piece:
        """Return what an event adds; :data:`END` at the end. Counts of tokens are running sums."""
        sent = _event(data)
        try:
            match sent.get("type"):
                case "content_block_delta":
                    return Piece(str(sent["delta"].get("text", "")))
                case "message_start":
                    counted = _count(sent["message"].get("usage"), "input_tokens")
                    return Piece("", None, counted, n=0)
                case "message_delta":
                    finish = STOPS.get(sent["delta"].get("stop_reason"), "stop")
                    return Piece("", finish, None, _count(sent.get("usage"), "output_tokens"), 0)
                case "message_stop":
                    return END
                case "error":
                    raise Failure("failed", "an error inside of the stream")
        except (KeyError, TypeError, AttributeError):
            raise Failure("nonsense", "no event") from None
        return NOTHING  # ping, and kinds that may come one day


ADAPTERS = {"chat": Chat(), "messages": Messages()}
