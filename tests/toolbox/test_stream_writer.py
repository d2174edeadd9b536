"""A client that does not read is given up, wherever in its answer that is."""

from __future__ import annotations

import asyncio

import pytest

from casebook.serving.stream_writer import BEHIND, StreamWriter


def sender(sent, full):
    """Return an ASGI ``send`` that takes ``full`` messages and no more."""

    async def send(message):
        if len(sent) >= full:
            await asyncio.sleep(60)
        sent.append(message)

    return send


@pytest.mark.parametrize("full", [0, 1])
def test_who_does_not_read_has_left_also_at_the_end_of_an_answer(full):
    sent = []

    async def answer():
        out = StreamWriter(sender(sent, full), patience=0.05)
        await out.put(b"a")
        await asyncio.sleep(0)
        await out.end(b"b")

    with pytest.raises(TimeoutError):
        asyncio.run(answer())
    assert len(sent) == full


def test_who_does_not_read_the_first_line_has_left_too():
    async def answer():
        await StreamWriter(sender([], 0), patience=0.05).send({"type": "http.response.start"})

    with pytest.raises(TimeoutError):
        asyncio.run(answer())


def test_a_client_that_is_far_behind_holds_up_its_provider_and_loses_nothing():
    sent = []

    async def answer():
        out = StreamWriter(sender(sent, 9), patience=1.0)
        for _ in range(3):
            await out.put(b"x" * (BEHIND + 1))
        await out.end(b".")

    asyncio.run(answer())
    assert sum(len(one["body"]) for one in sent) == 3 * (BEHIND + 1) + 1
    assert [one["more_body"] for one in sent][-1] is False
