"""Errors in the form of OpenAI's API, streams in few writes, and an app in a thread."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI

from casebook.serving.in_thread import loop_of, serving
from casebook.serving.passthrough import app as passthrough
from casebook.serving.refusals import Refusal, error
from casebook.serving.stream_writer import BEHIND, StreamWriter
from casebook.serving.strict import Problem


def test_an_error_says_what_is_wrong_what_to_do_and_when_to_come_back():
    got = error(Refusal(429, "rate limit", "Too often.", "Wait.", 2.5), "r1")
    assert got.headers["retry-after"] == "3" and got.headers["x-request-id"] == "r1"
    told = json.loads(got.body)["error"]
    assert told["message"] == "Too often. Wait." and told["type"] == "rate_limit_error"
    assert error(Problem(401, "wrong key", "No.", "Send one.")).headers["www-authenticate"]
    assert error(Problem(413, "too large", "No.", "Less.")).headers["connection"] == "close"
    assert json.loads(error(Problem(500, "x", "a.", "b.")).body)["error"]["type"] == "api_error"


def test_a_client_that_does_not_read_holds_up_its_provider_and_has_left_in_the_end():
    async def stuck(_message):
        await asyncio.sleep(30)

    async def run():
        out = StreamWriter(stuck, patience=0.05)
        with pytest.raises(TimeoutError):
            await out.put(b"x" * (BEHIND + 1))
        out.leave()

    asyncio.run(run())


def test_a_pass_through_passes_on_what_comes():
    async def echo(scope, receive, send):
        if scope["type"] == "http":
            body = (await receive())["body"]
            head = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 418, "headers": head})
            await send({"type": "http.response.body", "body": body})

    with serving(echo) as there, serving(passthrough(there)) as url:
        got = httpx.post(f"{url}/v1/chat/completions", content=b"hello", trust_env=False)
        assert (got.status_code, got.text) == (418, "hello") and loop_of(url).is_running()


def test_an_app_that_does_not_start_is_an_error():
    def broken(_):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="did not start"), serving(FastAPI(lifespan=broken)):
        pass
