"""Mock providers: two wire formats over HTTP, with faults by plan and heavy-tailed answers.

A provider is an ASGI app. Each request meets the next fault of its ``script``; after that, one
drawn with ``shares`` from the seed and the request's number, so that the same plan comes again.
The length of an answer is log-normal: most are short, a few are twenty times the median. What was
done is written into ``ledger``, the truth that a meter is held against.

Faults: ``rate_limited`` (429 with Retry-After), ``failed`` (500), ``overloaded`` (529),
``bad_request`` (400), ``unauthorized`` (401), ``timeout`` (silence), ``slow`` (a pause within the
answer), ``cut`` (the connection ends within the answer), ``stream_error`` (an error event within a
stream) and ``malformed`` (a page of HTML with status 200).

Examples
--------
>>> provider = MockProvider("chat", seed=1, shares={"failed": 0.5})
>>> [provider.fault(number) for number in range(6)]
['ok', 'failed', 'failed', 'failed', 'failed', 'failed']
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FAULTS = (
    "rate_limited", "failed", "overloaded", "bad_request", "unauthorized", "timeout", "slow",
    "cut", "stream_error", "malformed",
)  # fmt: skip
STATUS = {"rate_limited": 429, "failed": 500, "overloaded": 529, "bad_request": 400}
STATUS |= {"unauthorized": 401}
#: Why an answer with tool calls ends.
TOOLS = "tool_calls"
#: Median of an answer's tokens, and the spread of their logarithm.
MEDIAN, SPREAD = 40, 0.9
_WORDS = (
    "the", "parcel", "order", "was", "sent", "to", "our", "store", "and", "will", "be", "there",
)  # fmt: skip


@dataclass
class Served:
    """What a provider did with a request; ``sent`` counts the tokens that left it."""

    number: int
    model: str
    fault: str
    tokens_in: int
    tokens_out: int = 0
    sent: int = 0
    whole: bool = False
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()


class MockProvider:
    """A provider as an ASGI app.

    Parameters
    ----------
    form : str
        ``chat`` or ``messages``.
    seed : int
    shares : mapping of str to float
        Of faults; the rest is answered.
    script : sequence of str
        Faults (or ``ok``) of the first requests.
    token_s, first_s : float
        Seconds for each token, and before the first one.
    pause_s : float
        Of ``slow``, and of ``timeout``.
    says : callable, optional
        Makes the tokens of an answer from the body of its request.
    calls : callable, optional
        Makes tool calls, each a name and arguments, from the body of a request with tools.
    """

    def __init__(
        self,
        form: str,
        seed: int = 0,
        shares: Mapping[str, float] | None = None,
        script: Sequence[str] = (),
        *,
        token_s: float = 0.0,
        first_s: float = 0.0,
        pause_s: float = 0.5,
        says: Callable[[Mapping[str, Any]], Sequence[str]] | None = None,
        calls: Callable[[Mapping[str, Any]], Sequence[tuple[str, Mapping]]] = lambda _: (),
    ) -> None:
        self.form, self.seed, self.script, self.says = form, seed, list(script), says
        self.calls = calls
        self.shares = dict(shares or {})
        if unknown := {*self.shares, *script} - {*FAULTS, "ok"}:
            raise ValueError(f"{sorted(unknown)} are no faults: give some of {', '.join(FAULTS)}.")
        self.token_s, self.first_s, self.pause_s = token_s, first_s, pause_s
        self.ledger: list[Served] = []
        self.bodies: list[dict[str, Any]] = []

    def fault(self, number: int) -> str:
        """Return what happens to a request, by its number."""
        if number < len(self.script):
            return self.script[number]
        names = [*self.shares, "ok"]
        rest = 1 - sum(self.shares.values())
        rng = np.random.default_rng((self.seed, number))
        return str(rng.choice(names, p=[*self.shares.values(), rest]))

    def _tokens(self, number: int, body: Mapping[str, Any], most: int) -> tuple[list[str], str]:
        """Return the tokens of an answer, and why it ends."""
        rng = np.random.default_rng((self.seed, number, 1))
        if self.says:
            tokens = list(self.says(body))
        else:
            n = 1 + int(rng.lognormal(np.log(MEDIAN), SPREAD))
            tokens = [f"{word} " for word in rng.choice(_WORDS, n)]
        return tokens[:most], "length" if len(tokens) > most else "stop"

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        body, number = json.loads(raw), len(self.ledger)
        words = len(json.dumps(body["messages"]).split()) + len(str(body.get("system", "")).split())
        served = Served(number, body["model"], self.fault(number), words)
        served.calls = self.calls(body) if body.get("tools") else ()
        self.ledger.append(served)
        self.bodies.append(body)
        if served.fault in STATUS:
            said = {"error": {"message": f"our key is sk-secret; you said {raw[:200]!r}"}}
            extra = [(b"retry-after", b"2")] if served.fault == "rate_limited" else []
            await _reply(send, STATUS[served.fault], json.dumps(said).encode(), extra)
        elif served.fault == "malformed":
            await _reply(send, 200, b"<html>It works!</html>")
        else:
            await asyncio.sleep(self.pause_s if served.fault == "timeout" else self.first_s)
            answer = self._stream if body.get("stream") else self._whole
            await answer(served, body, send)

    async def _whole(self, served: Served, body: Mapping[str, Any], send: Callable) -> None:
        most = body.get("max_completion_tokens") or body["max_tokens"]
        tokens, finish = self._tokens(served.number, body, most)
        served.tokens_out = len(tokens)
        await asyncio.sleep(self.token_s * len(tokens))
        made = json.dumps(WHOLE[self.form](served, "".join(tokens), finish)).encode()
        if served.fault == "cut":
            start = {"type": "http.response.start", "status": 200}
            await send(start | {"headers": [(b"content-length", str(len(made)).encode())]})
            await send({"type": "http.response.body", "body": made[:50], "more_body": True})
            raise ConnectionError("cut by plan")
        await _reply(send, 200, made)
        served.sent, served.whole = len(tokens), True

    async def _stream(self, served: Served, body: Mapping[str, Any], send: Callable) -> None:
        most = body.get("max_completion_tokens") or body["max_tokens"]
        tokens, finish = self._tokens(served.number, body, most)
        served.tokens_out, half = len(tokens), len(tokens) // 2
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for at, (event, is_token) in enumerate(STREAM[self.form](served, tokens, finish)):
            if is_token and served.sent == half:
                if served.fault == "cut":
                    raise ConnectionError("cut by plan")
                if served.fault == "stream_error":
                    event = _event({"type": "error", "error": {"message": "overloaded sk-secret"}})
                await asyncio.sleep(self.pause_s if served.fault == "slow" else 0)
            if is_token and self.token_s and at:
                await asyncio.sleep(self.token_s)
            served.sent += is_token
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if served.fault == "stream_error" and is_token and served.sent > half:
                break
        else:
            served.whole = True
        await send({"type": "http.response.body", "body": b""})


async def _reply(send: Callable, status: int, body: bytes, headers: Sequence[tuple] = ()) -> None:
    """Send a whole answer."""
    head = [(b"content-type", b"application/json"), *headers]
    head.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


# The two formats -----------------------------------------------------------------------


def _chat(served: Served, text: str, finish: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if served.calls:
        message["tool_calls"], finish = [_call(*one) for one in enumerate(served.calls)], TOOLS
    choice = {"index": 0, "message": message, "finish_reason": finish}
    made = {"id": f"c-{served.number}", "object": "chat.completion", "created": 1}
    return made | {"model": served.model, "choices": [choice], "usage": _usage(served)}


def _call(at: int, call: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return {"id": f"call_{at}", "type": "function", "function": function}


def _blocks(served: Served) -> list[dict[str, Any]]:
    return [
        {"type": "tool_use", "id": f"call_{at}", "name": name, "input": given}
        for at, (name, given) in enumerate(served.calls)
    ]


def _usage(served: Served) -> dict[str, int]:
    spent = {"prompt_tokens": served.tokens_in, "completion_tokens": served.tokens_out}
    return spent | {"total_tokens": served.tokens_in + served.tokens_out}


def _message(served: Served, text: str, finish: str) -> dict[str, Any]:
    reason = {"stop": "end_turn", "length": "max_tokens"}[finish]
    reason = "tool_use" if served.calls else reason
    made: dict[str, Any] = {"id": f"m-{served.number}", "type": "message", "role": "assistant"}
    made |= {"model": served.model}
    made["content"] = [{"type": "text", "text": text}, *_blocks(served)]
    usage = {"input_tokens": served.tokens_in, "output_tokens": served.tokens_out}
    return made | {"stop_reason": reason, "stop_sequence": None, "usage": usage}


def _event(data: Mapping[str, Any]) -> bytes:
    named = f"event: {data['type']}\n" if "type" in data else ""
    return f"{named}data: {json.dumps(data)}\n\n".encode()


def _chat_stream(
    served: Served, tokens: Sequence[str], finish: str
) -> Iterator[tuple[bytes, bool]]:
    base = {"id": f"c-{served.number}", "object": "chat.completion.chunk", "created": 1}
    base |= {"model": served.model}

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        return _event(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    yield chunk({"role": "assistant", "content": ""}), False
    for token in tokens:
        yield chunk({"content": token}), True
    for at, call in enumerate(served.calls):
        made = _call(at, call)
        said, empty = made["function"]["arguments"], {"name": call[0], "arguments": ""}
        yield chunk({"tool_calls": [made | {"index": at, "function": empty}]}), True
        for half in (said[:5], said[5:]):
            yield chunk({"tool_calls": [{"index": at, "function": {"arguments": half}}]}), True
    yield chunk({}, TOOLS if served.calls else finish), False
    yield _event(base | {"choices": [], "usage": _usage(served)}), False
    yield b"data: [DONE]\n\n", False


def _message_stream(
    served: Served, tokens: Sequence[str], finish: str
) -> Iterator[tuple[bytes, bool]]:
    whole = _message(served, "", finish)
    begun = {"content": [], "stop_reason": None}
    begun |= {"usage": {"input_tokens": served.tokens_in, "output_tokens": 1}}
    yield _event({"type": "message_start", "message": whole | begun}), False
    block = {"type": "text", "text": ""}
    yield _event({"type": "content_block_start", "index": 0, "content_block": block}), False
    yield _event({"type": "ping"}), False
    for token in tokens:
        delta = {"type": "text_delta", "text": token}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta}), True
    yield _event({"type": "content_block_stop", "index": 0}), False
    for at, block in enumerate(_blocks(served), 1):
        begun, said = {"type": "content_block_start", "index": at}, json.dumps(block["input"])
        yield _event(begun | {"content_block": block | {"input": {}}}), True
        for half in (said[:5], said[5:]):
            delta = {"type": "input_json_delta", "partial_json": half}
            yield _event({"type": "content_block_delta", "index": at, "delta": delta}), True
        yield _event({"type": "content_block_stop", "index": at}), False
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": served.tokens_out}
    yield _event({"type": "message_delta", "delta": delta, "usage": usage}), False
    yield _event({"type": "message_stop"}), False


WHOLE = {"chat": _chat, "messages": _message}
STREAM = {"chat": _chat_stream, "messages": _message_stream}


def app(form: str, **options: Any) -> MockProvider:
    """Return a provider for :class:`casebook.serving.load.Server`, which starts a process."""
    return MockProvider(form, **options)
