"""Serve a chat model on loopback in the chat-completions format: ``make llm``.

    python -m casebook.llm.serve --port 8642

The small local model then answers whoever speaks OpenAI's format: the official client, a chapter
(``CASEBOOK_LLM_BASE_URL=http://127.0.0.1:8642/v1``), a gateway. One request is answered at a time.
The server listens on this machine alone and asks for no key.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any

from casebook.llm.errors import LLMError
from casebook.llm.local import NAME, LocalModel, Settings, load
from casebook.llm.messages import ChatModel, Message, Reply, ResponseFormat
from casebook.strict_json import parse

PORT = 8642
#: Bytes of a request, and seconds that a silent connection is kept.
LARGEST, SILENCE = 1_000_000, 30
#: Makes the model that answers under the settings of a request.
Maker = Callable[[Settings], ChatModel]
_OPTIONS = ("temperature", "top_p", "seed")


class Rejected(Exception):
    """A request that cannot be answered, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_request(body: Any) -> tuple[list[Message], ResponseFormat | None, Settings]:
    """Return conversation, response format and settings of a request's body.

    Raises
    ------
    Rejected
        With what is wrong.
    """
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise Rejected(400, "The body must be an object with a list of messages.")
    if body.get("tools"):
        raise Rejected(400, "This model calls no tools.")
    try:
        messages = [Message(one["role"], _text(one["content"])) for one in body["messages"]]
        form = _form(body.get("response_format"))
        stop = body.get("stop") or ()
        settings = Settings(
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            **{name: body[name] for name in _OPTIONS if body.get(name) is not None},
        )
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        return messages, form, replace(settings, max_tokens=most) if most else settings
    except (KeyError, TypeError, ValueError) as error:
        said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise Rejected(400, f"The request is wrong: {said}") from None


def _text(content: Any) -> str:
    """Return a message's text, which may come in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content


def _form(wanted: Any) -> ResponseFormat | None:
    if not wanted or wanted["type"] == "text":
        return None
    if wanted["type"] != "json_schema":
        raise ValueError("response_format must be json_schema: the grammar needs a schema.")
    return ResponseFormat(wanted["json_schema"]["name"], wanted["json_schema"]["schema"])


def completion(reply: Reply, number: int) -> dict[str, Any]:
    """Return a reply as the body of an answer."""
    message = {"role": "assistant", "content": reply.content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return _envelope("chat.completion", reply.model, number) | {
        "choices": [choice | {"logprobs": None}],
        "usage": _usage(reply),
    }


def piece(
    model: str, number: int, delta: dict[str, Any], finish: str | None = None
) -> dict[str, Any]:
    """Return one piece of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return _envelope("chat.completion.chunk", model, number) | {"choices": [choice]}


def _envelope(kind: str, model: str, number: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _usage(reply: Reply) -> dict[str, int]:
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


class LocalServer(ThreadingHTTPServer):
    """Serves models on 127.0.0.1.

    Parameters
    ----------
    make : callable
        Returns the model that answers under given :class:`~casebook.llm.local.Settings`.
    port : int
        0 takes a free one.
    name : str
        The model, as it is listed.
    """

    daemon_threads = True

    def __init__(self, make: Maker, port: int = 0, name: str = NAME) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.make, self.name = make, name
        self.turn = threading.Lock()
        self.answered = 0

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    server: LocalServer

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self._error(404, f"{self.path} is not served; /v1/chat/completions is.")
        one = {"id": self.server.name, "object": "model", "created": 0, "owned_by": "local"}
        return self._json(200, {"object": "list", "data": [one]})

    def do_POST(self) -> None:
        try:
            body = self._body()
            messages, form, settings = read_request(body)
            with self.server.turn:
                self.server.answered += 1
                model, number = self.server.make(settings), self.server.answered
                if body.get("stream"):
                    usage = bool((body.get("stream_options") or {}).get("include_usage"))
                    self._stream(model, messages, form, number, usage)
                else:
                    reply = model.complete(messages, response_format=form)
                    self._json(200, completion(reply, number))
        except Rejected as error:
            self._error(error.status, str(error))
        except (ValueError, TypeError) as error:
            self._error(400, str(error))
        except LLMError as error:
            self._error(500, str(error))
        except OSError:  # the client has gone
            self.close_connection = True

    def _body(self) -> Any:
        if self.path != "/v1/chat/completions":
            raise Rejected(404, f"{self.path} is not served; /v1/chat/completions is.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Rejected(411, "The request has no Content-Length.")
        if int(length) > LARGEST:
            raise Rejected(413, f"The request is larger than {LARGEST:,} bytes.")
        try:
            return parse(self.rfile.read(int(length)))
        except ValueError as error:
            raise Rejected(400, f"The body is not JSON: {error}.") from None

    def _stream(
        self,
        model: ChatModel,
        messages: Sequence[Message],
        form: ResponseFormat | None,
        number: int,
        usage: bool,
    ) -> None:
        chunks = model.stream(messages, response_format=form)
        first = next(chunks)  # what is wrong with the request shows before the first byte
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._event(piece(model.name, number, {"role": "assistant", "content": ""}))
        try:
            for chunk in chain([first], chunks):
                if chunk.text:
                    self._event(piece(model.name, number, {"content": chunk.text}))
                if chunk.reply:
                    self._event(piece(model.name, number, {}, chunk.reply.finish_reason))
                    if usage:
                        last = piece(model.name, number, {}) | {"usage": _usage(chunk.reply)}
                        self._event(last | {"choices": []})
        except LLMError as error:
            return self._event({"error": {"message": str(error), "code": 500}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode())
        self.wfile.flush()

    def _json(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400:  # the rest of the request was perhaps not read
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, message: str) -> None:
        with suppress(OSError):
            self._json(
                status, {"error": {"message": message, "type": "local_model", "code": status}}
            )

    def log_message(self, *_: object) -> None:
        """Print nothing: a log of requests is nobody's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the small local model until Ctrl-C: ``python -m casebook.llm.serve [--port 8642]``."""
    parser = argparse.ArgumentParser(prog="python -m casebook.llm.serve", description=main.__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"0 takes a free one ({PORT})")
    parser.add_argument("--threads", type=int, default=1, help="processors that it may use (1)")
    options = parser.parse_args(arguments)
    print(f"loading {NAME} (the first time takes half a minute) …", flush=True)
    try:
        engine = load(threads=options.threads)
        server = LocalServer(lambda settings: LocalModel(engine, settings), options.port)
    except (ModuleNotFoundError, ValueError, OSError) as error:
        parser.error(str(error))
    print(
        f"serving at {server.url}; to use it in the chapters, in another terminal:\n"
        f"CASEBOOK_LLM_BASE_URL={server.url} CASEBOOK_LLM_MODEL={NAME} make lab",
        flush=True,
    )
    for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell has told it to ignore them
        signal.signal(ending, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        server.serve_forever()
    server.server_close()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # All is closed. What torch would still take apart may abort while one of its threads runs.
    os._exit(status)
