"""Requests at given moments: streams, clients that leave, what fails, open and closed loops."""

from __future__ import annotations

import asyncio

import pytest

from casebook.serving.in_thread import serving
from casebook.serving.scheduled import Request, Scheduled


async def odd(scope, receive, send):
    """Answer by path: a stream, one that is cut, a refusal, a whole answer after a while."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    path, kind = scope["path"], b"text/event-stream"
    if path == "/refused":
        head = [(b"content-length", b"2"), (b"retry-after", b"3"), (b"x-request-id", b"r1")]
        await send({"type": "http.response.start", "status": 429, "headers": head})
        await send({"type": "http.response.body", "body": b"no"})
        return
    if path == "/slow":
        await asyncio.sleep(0.1)
        kind = b"text/plain"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for n in range(6):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % n, "more_body": True})
        await asyncio.sleep(0.002)
        if path == "/cut" and n == 3:
            raise ConnectionError("planted")
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


@pytest.fixture(scope="module")
def url():
    with serving(odd) as url:
        yield url


def rows(requests, **options):
    with Scheduled(requests, **options) as sent:
        return sent.wait()


def test_what_came_back_is_told_as_it_was(url):
    asked = [
        Request(f"{url}/stream", {}, at=0.3, keep=20),
        Request(f"{url}/cut", {}, at=0.4),
        Request(f"{url}/refused", {}, at=0.2),
        Request(f"{url}/stream", {}, at=0.5, leaves=2),
        Request("http://127.0.0.1:9/", {}, at=0.0),
    ]
    nobody, refused, stream, cut, left = rows(asked).to_dict("records")
    assert (nobody["status"], nobody["whole"]) == (0, False)
    assert (refused["status"], refused["retry_after"], refused["id"]) == (429, "3", "r1")
    assert refused["whole"] and refused["end"] == "no"
    assert stream["whole"] and len(stream["end"]) == 20 and stream["end"].endswith("[DONE]\n\n")
    assert (cut["status"], cut["whole"], cut["left"]) == (200, False, False)
    assert (left["whole"], left["left"]) == (False, True)
    assert stream["first_ms"] < stream["ms"]


def test_an_open_loop_counts_the_wait_from_the_moment_at_which_a_request_was_due(url):
    slow = [Request(f"{url}/slow", {}, at=0.01 * n) for n in range(8)]
    assert rows(slow)["ms"].min() > 100
    one_client = rows(slow, most=1)
    assert one_client["whole"].all(), "a stream of another kind needs no mark of its end"
    assert one_client["sent"].is_monotonic_increasing


def test_no_requests_are_an_error():
    with pytest.raises(ValueError, match="at least one"):
        Scheduled([])
