"""A chat-completions server on loopback that plays scripted answers and faults.

    with LLMServer(status(429, "Retry-After: 1"), completion("hi")) as server:
        OpenAICompatible(server.url, "m").complete([Message("user", "hello")])
    assert len(server.requests) == 2

Each request takes the next step; the last one is repeated. A step is a function of the
:class:`Connection` and may write anything, or nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass
class Received:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = field(repr=False)


class Connection:
    """What a step writes to: one request's connection."""

    def __init__(self, handler: BaseHTTPRequestHandler, server: LLMServer) -> None:
        self._handler = handler
        self.server = server
        self.request = server.requests[-1]

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def head(self, code: int = 200, *headers: str, keep: bool = False) -> None:
        """Send status and headers; ``keep`` leaves the connection open for a next request."""
        self._handler.close_connection = not keep
        lines = [f"HTTP/1.1 {code} Scripted", *headers, *([] if keep else ["Connection: close"])]
        self.write("\r\n".join(lines).encode() + b"\r\n\r\n")

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        self.server.ending.wait(seconds)


Step = Callable[[Connection], None]


class LLMServer:
    """Plays steps on 127.0.0.1, on a port that the system chooses.

    Attributes
    ----------
    url : str
        Base URL.
    requests : list of Received
        In the order of their arrival.
    connections : int
        How many were opened.
    """

    def __init__(self, *steps: Step) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.ending = threading.Event()
        self._steps = list(steps)
        self._lock = threading.Lock()
        plays = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                plays.connections += 1
                super().setup()

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(length)
                with plays._lock:
                    step = plays._steps[min(len(plays.requests), len(plays._steps) - 1)]
                    body = json.loads(raw) if raw else None
                    received = Received(self.command, self.path, dict(self.headers), body)
                    plays.requests.append(received)
                    connection = Connection(self, plays)
                self.close_connection = True
                with suppress(OSError):  # the client has gone
                    step(connection)

            do_POST = do_GET = _serve

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> LLMServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


# Whole answers ---------------------------------------------------------------------------


def whole(
    data: bytes | str,
    *headers: str,
    code: int = 200,
    kind: str = "application/json",
    keep: bool = False,
) -> Step:
    """Send a body with its length."""
    data = data.encode() if isinstance(data, str) else data

    def step(connection: Connection) -> None:
        length = f"Content-Length: {len(data)}"
        connection.head(code, f"Content-Type: {kind}", length, *headers, keep=keep)
        connection.write(data)

    return step


def payload(content: Any = "", *, finish: Any = "stop", **message: Any) -> dict[str, Any]:
    """Return a completion as a server sends it."""
    said = {"role": "assistant", "content": content, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny-1",
        "choices": [{"index": 0, "message": said, "finish_reason": finish, "logprobs": None}],
        "usage": USAGE,
    }


def call(name: str, arguments: Any, id_: str = "call_a") -> dict[str, Any]:
    """Return a tool call as a server sends it; arguments that are no string become JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": text}}


def completion(content: Any = "", **more: Any) -> Step:
    """Send a good completion."""
    return whole(json.dumps(payload(content, **more)))


def status(code: int, *headers: str, message: str = "scripted", body: str | None = None) -> Step:
    """Send an error as OpenAI words it."""
    error = {"error": {"message": message, "type": "scripted", "code": None}}
    return whole(json.dumps(error) if body is None else body, *headers, code=code)


# Streams ---------------------------------------------------------------------------------


def delta(content: Any = None, *, finish: Any = None, **more: Any) -> dict[str, Any]:
    """Return one piece of a streamed completion."""
    piece = {"content": content, **more} if content is not None else more
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "tiny-1",
        "choices": [{"index": 0, "delta": piece, "finish_reason": finish}],
        "usage": None,
    }


def usage_chunk(**counts: Any) -> dict[str, Any]:
    """Return the piece at the end that counts the tokens."""
    return {**delta(), "choices": [], "usage": counts or USAGE}


def event(piece: dict[str, Any] | str, end: str = "\n") -> bytes:
    """Return a server-sent event."""
    text = piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)
    return f"data: {text}{end}{end}".encode()


def events(*pieces: dict[str, Any] | str, end: str = "\n") -> bytes:
    """Return the events of a stream, ``[DONE]`` included where it is given."""
    return b"".join(event(piece, end) for piece in pieces)


def good_stream(*texts: str) -> bytes:
    """Return a whole, good stream."""
    pieces = [delta("", role="assistant"), *(delta(text) for text in texts)]
    return events(*pieces, delta(finish="stop"), usage_chunk(), "[DONE]")


def sse(*parts: bytes, pause: float = 0.0, chunked: bool = True, finish: bool = True) -> Step:
    """Send parts of a stream as they are, with a pause after each.

    ``chunked`` frames them, so that the client sees each part by itself; without ``finish`` the
    connection ends in the middle of the frame.
    """

    def step(connection: Connection) -> None:
        framing = ["Transfer-Encoding: chunked"] if chunked else []
        connection.head(200, "Content-Type: text/event-stream; charset=utf-8", *framing)
        for part in parts:
            connection.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            if pause:
                connection.pause(pause)
        if chunked and finish:
            connection.write(b"0\r\n\r\n")

    return step


def split(data: bytes, size: int = 1) -> list[bytes]:
    """Cut bytes into parts, in the middle of lines and characters."""
    return [data[i : i + size] for i in range(0, len(data), size)]


# Faults ----------------------------------------------------------------------------------


def silent(seconds: float = 30.0) -> Step:
    """Take the request and say nothing."""
    return lambda connection: connection.pause(seconds)


def hang_up(connection: Connection) -> None:
    """Close without an answer."""


def cut_body(connection: Connection) -> None:
    """Announce more than is sent."""
    connection.head(200, "Content-Type: application/json", "Content-Length: 1000")
    connection.write(b'{"choices": [')


def drip(data: bytes, pause: float, *, head: bool = True) -> Step:
    """Send byte by byte: each one comes in time, all of them never do."""

    def step(connection: Connection) -> None:
        if head:
            connection.head(200, "Content-Type: application/json")
        for byte in split(data):
            connection.write(byte)
            connection.pause(pause)
            if connection.server.ending.is_set():
                return

    return step


def endless(connection: Connection, code: int = 200) -> None:
    """Send as much as is taken."""
    connection.head(code, "Content-Type: application/json")
    while not connection.server.ending.is_set():
        connection.write(b" " * 65536)


def redirect(location: str, code: int = 307) -> Step:
    """Send the client elsewhere."""
    return whole(b"", f"Location: {location}", code=code)


def echo(code: int, *, wrap: Callable[[str], str] = str) -> Step:
    """Send back what must not be seen: the path and the Authorization header."""

    def step(connection: Connection) -> None:
        said = f"{connection.request.path} {connection.request.headers.get('Authorization')}"
        body = wrap(said).encode()
        connection.head(
            code,
            "Content-Type: application/json",
            f"Location: http://127.0.0.1:9{connection.request.path}",
            f"X-Echo: {said}",
            f"Content-Length: {len(body)}",
        )
        connection.write(body)

    return step


def in_turn(*steps: Step, before: Iterable[Callable[[], None]]) -> list[Step]:
    """Return steps that do something first, such as moving a clock."""

    def both(act: Callable[[], None], step: Step) -> Step:
        def run(connection: Connection) -> None:
            act()
            step(connection)

        return run

    return [both(act, step) for act, step in zip(before, steps, strict=True)]
