"""The page's gateway on loopback, and its queue on a clock that jumps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.llm_gateway import exercise_data, questions, waiting
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


def test_the_same_traffic_waits_the_same():
    first, second = (waiting.neighbours(("within limits",), seconds=15) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


@pytest.fixture(scope="module")
def rushes() -> pd.DataFrame:
    return waiting.neighbours(seconds=30).set_index(["rush", "arm"])


def test_limits_stop_who_is_beyond_them_and_nobody_else(rushes):
    own = rushes.loc["beyond limits"]
    assert own.loc["limits", "p99"] < own.loc["nothing", "p99"] / 3
    assert own.loc["limits", "p99"] < own.loc["fair queue", "p99"]
    assert own.loc["limits", "own_refused"] > 0.8 and own.loc["limits", "refused"] == 0


def test_what_limits_allow_is_for_the_fair_queue_and_weights_move_it(rushes):
    own = rushes.loc["within limits"]
    assert own.loc["limits", "p99"] > 0.9 * own.loc["nothing", "p99"]
    assert own.loc["both", "p99"] < own.loc["limits", "p99"] / 2
    assert own.loc["both, by contract", "p99"] > own.loc["both", "p99"]
    assert own.loc["both, by contract", "own_refused"] <= own.loc["both", "own_refused"]


def test_who_is_refused_waits_for_ever():
    made = pd.DataFrame({"at": range(4), "tenant": list("aaab"), "wait": [1.0, np.nan, 3.0, 9.0]})
    told = waiting.waits(made, {"b": 1.0}, start=0)
    assert (told["p50"], told["p99"], told["own"]) == (3.0, np.inf, 9.0)
    assert told["late"] == pytest.approx(2 / 3), "one is refused, one waits 3 s"
    assert told["refused"] == pytest.approx(1 / 3) and told["own_refused"] == 0


def test_a_rush_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no rush 'loud'"):
        waiting.added("loud", waiting.share_of(3, 1))


@pytest.mark.parametrize(("rule", "fair"), [("fair", True), ("arrival", False)])
def test_the_exercise_queues_as_the_gateway_does(rule, fair):
    for seed in range(5):
        queue = exercise_data.queue(seed)
        waits = waiting.queued(queue.assign(seconds=1.0), slots=1, fair=fair)["wait"]
        np.testing.assert_allclose(exercise_data.served(queue, rule), waits, atol=1e-6)


def test_a_wrong_answer_hears_what_is_wrong_and_not_what_is_right():
    pieces = questions.given("pieces")
    right = exercise_data.least(pieces)
    for hold, why in ((right + 5, "fewer"), (right - 1, "so few")):
        told = questions.q4.outcome(1, 1, hold, "most").message.split("`hold`: ")[1]
        assert why in told and str(right) not in told
    events = questions.given("events")
    settled = events[events["event"] == "settle"]["request"]
    twice = {*settled[settled.duplicated()]}
    once = min({*settled} - twice)
    for chosen, why in ((set(), "Nothing"), ({once}, once), ({min(twice)}, "not all of it")):
        told = questions.q3.outcome(1, 1, chosen, 1, "third").message
        assert why in told.split("`twice`: ")[1].split("`held`")[0]
    bill = exercise_data.billed(events)
    assert "`bill`" in questions.q3.outcome(1, bill + 1, twice, 1, "third").message


def test_the_traces_are_named_in_the_result():
    try:
        found = waiting.real_bursts(seeds=(1,))
    except RealDataUnavailable:
        pytest.skip("the traces are not here")
    assert set(sources_of(found)) == {"azure_llm_conversation", "azure_llm_code"}
    own = found.groupby("trace")[["alone", "cv"]].first()
    assert own.loc["code", "alone"] > 10 and 1.5 < own.loc["code", "cv"] < 5
