"""A queue on a clock that jumps: time that takes none, who goes first, who is refused."""

from __future__ import annotations

import asyncio

import pandas as pd
import pytest

from casebook.serving.queued import on_jumping_clock, queued


def test_the_clock_jumps_and_waits_for_nothing():
    async def hour() -> float:
        await asyncio.sleep(3_600)
        return asyncio.get_running_loop().time()

    assert on_jumping_clock(hour()) == pytest.approx(3_600)


def test_who_waits_for_ever_is_an_error():
    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="still waits"):
        on_jumping_clock(stuck())


def test_weights_decide_who_goes_first():
    rows = pd.DataFrame({"at": 0.0, "tenant": list("aaabbb"), "seconds": 1.0})
    even, heavy = (
        queued(rows, 1, fair=True, weights=own).sort_values("turn")["tenant"].sum()
        for own in (None, {"a": 1.0, "b": 4.0})
    )
    assert (even, heavy) == ("ababab", "abbbaa")


def test_too_many_of_one_tenant_are_refused():
    rows = pd.DataFrame({"at": 0.0, "tenant": ["a"] * 5 + ["b"], "seconds": 1.0})
    made = queued(rows, slots=1, fair=True, most=2)
    assert list(made["wait"].isna()) == [False, False, False, True, True, False]
