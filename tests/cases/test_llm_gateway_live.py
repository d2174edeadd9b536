"""The page's gateway on loopback, and its queue on a clock that jumps."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest

from casebook.cases.llm_gateway import exercise_data, waiting
from casebook.cases.llm_gateway.live import Live, killed
from casebook.data.files import RealDataUnavailable
from casebook.recorded.real import sources_of


def test_both_sides_of_a_bill_are_seen():
    with Live() as here:
        here.plan("north", "cut", "failed", "failed")
        with pytest.raises(Exception, match="broke off"):
            list(here.ask("acme", "Hello", stream=True))
        assert here.ask("acme", "Hello").model == "grand"
        meter = here.meter("acme")
        assert list(meter["state"]) == ["released", "settled"]
        assert list(meter["cost"] > 0) == [False, True]
        assert [one.fault for one in here.providers["north"].ledger] == ["cut", "failed", "failed"]
        assert here.row("acme")["model"] == "grand"
        assert here.faults() == []


def test_a_killed_gateway_leaves_a_reservation_and_no_bill():
    streams, dead, after = killed(pieces=3)
    assert streams[1:] == ("open", streams[2], 0)
    assert streams[2] > 0
    assert dead[1:] == streams[1:]
    assert after[1:] == ("released", 0, 0)


def test_the_clock_jumps_and_waits_for_nothing():
    async def hour() -> float:
        await asyncio.sleep(3_600)
        return asyncio.get_running_loop().time()

    assert waiting.on_jumping_clock(hour()) == pytest.approx(3_600)


def test_who_waits_for_ever_is_an_error():
    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="still waits"):
        waiting.on_jumping_clock(stuck())


def test_the_same_traffic_waits_the_same():
    first, second = (waiting.neighbours((20.0,), seconds=15) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_a_fair_queue_protects_the_others_and_moves_waits():
    found = waiting.neighbours((0.0, 40.0), seconds=30).set_index(["more", "fair"])
    assert found.loc[(40.0, True), "p99"] < found.loc[(40.0, False), "p99"] / 2
    assert found.loc[(40.0, True), "own"] > found.loc[(40.0, False), "own"]


def test_too_many_of_one_tenant_are_refused():
    rows = pd.DataFrame({"at": 0.0, "tenant": ["a"] * 5 + ["b"], "seconds": 1.0})
    made = waiting.queued(rows, slots=1, fair=True, most=2)
    assert list(made["wait"].isna()) == [False, False, False, True, True, False]


@pytest.mark.parametrize(("rule", "fair"), [("fair", True), ("arrival", False)])
def test_the_exercise_queues_as_the_gateway_does(rule, fair):
    for seed in range(5):
        queue = exercise_data.queue(seed)
        waits = waiting.queued(queue.assign(seconds=1.0), slots=1, fair=fair)["wait"]
        np.testing.assert_allclose(exercise_data.served(queue, rule), waits, atol=1e-6)


def test_the_traces_are_named_in_the_result():
    try:
        found = waiting.real_bursts(more=5.0)
    except RealDataUnavailable:
        pytest.skip("the traces are not here")
    assert set(sources_of(found)) == {"azure_llm_conversation", "azure_llm_code"}
    assert found.groupby("trace")["cv"].first()["code"] > 10
