"""Strict bodies over HTTP: sizes, kinds, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import httpx
import pytest
from fastapi import Request
from pace import patience

from casebook.serving.load import Server
from casebook.serving.strict import Problem, Reply
from casebook.serving.strict_app import read, response, strict_app


def echo(most: int = 100, seconds: float = 5.0):
    """Return an app that reads a body and says how long it is; a text of none is its failure."""
    made = strict_app("echo")

    @made.post("/echo")
    async def length(request: Request):
        sent = json.loads(await read(request, most, seconds))
        if sent == "busy":
            raise Problem(503, "busy", "Others wait.", "Try again.")
        return response(Reply(200, {"length": 1 / len(sent)}))

    return made


@pytest.fixture
def app():
    return echo()


def send(app, body, kind="application/json", path="/echo", **headers) -> httpx.Response:
    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=body, headers={"Content-Type": kind} | headers)

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("given", "status", "error"),
    [
        ({"body": b'"' + b"x" * 100 + b'"'}, 413, "too large"),
        ({"body": b'"x"', "kind": "text/plain"}, 415, "not JSON"),
        ({"body": b'"x"', "kind": ""}, 415, "not JSON"),
        ({"body": b'"busy"'}, 503, "busy"),
        ({"body": b'""'}, 500, "internal error"),
        ({"body": b'"x"', "path": "/nowhere"}, 404, "not found"),
        ({"body": b'"x"', "path": "/docs"}, 404, "not found"),
    ],
)
def test_errors_look_alike(app, given, status, error):
    found = send(app, **given)
    assert found.status_code == status and found.json()["error"] == error
    assert set(found.json()) == {"error", "what", "do"} and all(found.json().values())
    assert ("Retry-After" in found.headers) == (status == 503)
    assert "Zero" not in found.text  # what failed inside is for the log
    assert send(app, b'"ab"', "Application/JSON; charset=utf-8").json() == {"length": 0.5}


def test_what_may_be_a_card_number_is_not_told_back(app):
    assert "4111111111111111" not in send(app, b'"x"', path="/cards/4111111111111111").text


# Size and patience -----------------------------------------------------------------------------


def check_size(app) -> None:
    """A body beyond the limit is refused, announced or not or wrongly, and not read to its end."""
    taken = []

    async def pieces():
        for chunk in [b" " * 50] * 1000:
            taken.append(chunk)
            yield chunk

    assert send(app, b'"' + b"x" * 98 + b'"').status_code == 200
    for body, more in ((b" " * 101, {}), (pieces(), {}), (b" " * 900, {"Content-Length": "10"})):
        assert send(app, body, **more).json()["error"] == "too large"
    assert len(taken) <= 4


def test_a_huge_body_is_refused(app):
    check_size(app)


def test_an_app_without_the_limit_is_found():
    with pytest.raises(AssertionError):
        check_size(echo(most=10**9))


def test_a_body_that_does_not_come_is_not_waited_for():
    async def call():
        sent = []

        async def receive():
            await asyncio.sleep(patience(30))

        async def keep(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/echo", "query_string": b""}
        scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1"}
        scope |= {"scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": ""}
        await echo(seconds=0.05)(scope, receive, keep)
        return sent[0]["status"]

    start = time.monotonic()
    assert asyncio.run(call()) == 408
    assert time.monotonic() - start < patience(5)


def test_a_huge_body_is_refused_on_the_wire_before_it_is_sent():
    head = "POST /echo HTTP/1.1\nHost: x\nContent-Type: application/json\n"
    chunk = b"%x\r\n" % 9000 + b" " * 9000 + b"\r\n"
    announced, chunked = "Content-Length: 1000000000", "Transfer-Encoding: chunked"
    with Server("test_strict_app:echo") as server:
        port = int(server.url.rsplit(":", 1)[1])
        for more, body in ((announced, b""), (chunked, chunk)):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(
                    (head + more).replace("\n", "\r\n").encode() + b"\r\n\r\n" + body
                )
                reply = b""
                while piece := connection.recv(65536):
                    reply += piece
            assert reply.startswith(b"HTTP/1.1 413") and b"too large" in reply
