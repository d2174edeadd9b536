"""Strict bodies over HTTP: sizes, kinds, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fastapi import Request

from casebook.serving.strict import Problem, Reply
from casebook.serving.strict_app import read, response, strict_app


@pytest.fixture
def app():
    made = strict_app("echo")

    @made.post("/echo")
    async def echo(request: Request):
        sent = json.loads(await read(request, 100, 5.0))
        if sent == "busy":
            raise Problem(503, "busy", "Others wait.", "Try again.")
        return response(Reply(200, {"length": 1 / len(sent)}))

    return made


def send(app, body, kind="application/json", path="/echo") -> httpx.Response:
    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=body, headers={"Content-Type": kind})

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("given", "status", "error"),
    [
        ({"body": b'"' + b"x" * 100 + b'"'}, 413, "too large"),
        ({"body": b'"x"', "kind": "text/plain"}, 415, "not JSON"),
        ({"body": b'"busy"'}, 503, "busy"),
        ({"body": b'""'}, 500, "internal error"),
        ({"body": b'"x"', "path": "/nowhere"}, 404, "not found"),
    ],
)
def test_errors_look_alike(app, given, status, error):
    found = send(app, **given)
    assert found.status_code == status and found.json()["error"] == error
    assert set(found.json()) == {"error", "what", "do"} and all(found.json().values())
    assert ("Retry-After" in found.headers) == (status == 503)
    assert send(app, b'"ab"').json() == {"length": 0.5}


def test_what_may_be_a_card_number_is_not_told_back(app):
    assert "4111111111111111" not in send(app, b'"x"', path="/cards/4111111111111111").text
