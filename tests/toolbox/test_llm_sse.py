"""Server-sent events: the same however their bytes are cut."""

from __future__ import annotations

import asyncio
import doctest
from itertools import pairwise

import numpy as np
import pytest

from casebook.llm import sse
from casebook.llm.sse import LARGEST, events


def test_its_example_holds():
    assert doctest.testmod(sse).failed == 0


@pytest.mark.parametrize("seed", range(3))
def test_events_are_the_same_however_their_bytes_are_cut(seed):
    rng = np.random.default_rng(seed)
    raw = 'event: x\r\ndata: {"a": "ü"}\r\n\r\n: quiet\ndata: one\ndata:two\n\n\n\ndata: last\n\n'
    raw, sizes = raw.encode(), []
    while sum(sizes) < len(raw):
        sizes.append(int(rng.integers(1, 7)))
    ends = np.cumsum([0, *sizes])

    async def collect():
        async def chunks():
            for start, end in pairwise(ends):
                yield raw[start:end]

        return [data async for together in events(chunks()) for data in together]

    assert asyncio.run(collect()) == ['{"a": "ü"}', "one\ntwo", "last"]


@pytest.mark.parametrize("sent", [b"data: \xff\n\n", b"data: " + b"x" * (LARGEST + 1)])
def test_events_that_cannot_be_read_are_a_failure(sent):
    async def collect():
        async def chunks():
            yield sent

        return [data async for together in events(chunks()) for data in together]

    with pytest.raises(ValueError, match=r"UTF-8|utf-8|more than"):
        asyncio.run(collect())
