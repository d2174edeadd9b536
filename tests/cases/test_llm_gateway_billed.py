"""Case 20: bills against ledgers, prices and what clients received; each check on a fault."""

from __future__ import annotations

import pandas as pd
import pytest
from llm_gateway_kit import Running

from casebook.cases.llm_gateway import billed
from casebook.cases.llm_gateway.artifacts import CASE
from casebook.recorded import bench

#: The row that must find each planted fault.
FINDS = {
    "prices doubled": "not at the price",
    "seven tokens more": "not as the ledger",
    "who leaves pays the most": "left, not as received",
    "keys ignored": "billed twice",
}


def test_the_table_has_exact_bills_and_finds_every_planted_fault():
    table = bench.recorded(CASE, "metering").frame.fillna({"arm": ""})
    n = table.pivot(index="arm", columns="what", values="n")
    assert {*n.index} == {"", billed.PAUSED, *billed.PLANTED}
    assert (n.loc[["", billed.PAUSED], [*billed.ZERO]] == 0).all(axis=None)
    assert n.loc["", "open at a kill"] >= 10 * n.loc["", "kills"] >= 100
    for arm in ("", billed.PAUSED):
        n_asked, reached = n.loc[arm, "requests"], n.loc[arm, ["answered", "left"]].sum()
        assert reached >= 0.95 * n_asked and n.loc[arm, "sent"] > n_asked, arm
    assert n.loc[billed.PAUSED, "billed at a kill"] > 0, "kills between a bill and its last byte"
    for fault, row in FINDS.items():
        assert n.loc[fault, row] > 0, fault


def test_bills_are_exact_in_a_reduced_run_with_a_kill_under_open_streams():
    n = billed._metered(40, 1, 60, 1)
    assert not any(n[what] for what in billed.ZERO), n
    assert n["open at a kill"] >= 5, "who never kills shows nothing"
    assert n["answered"] + n["left"] >= 0.9 * n["requests"] and n["left"] > 0
    assert n["billed, not answered"] == 0
    assert n["sent"] > n["requests"], "who never asks again with its key is never billed twice"


def test_three_faults_at_once_are_found_in_a_reduced_run():
    faults = list(FINDS)[:3]
    n = billed._metered(40, 0, 60, 1, " + ".join(faults))
    assert all(n[FINDS[fault]] > 0 for fault in faults), n


def _event(text: str) -> str:
    return f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}}}]}}\n\n'


@pytest.fixture
def found() -> billed.Found:
    """Two answers and one client that left, with bills of 150 and 600 nano-dollars a token."""
    end = 'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}'
    rows = [("r0", 200, True, False, "a", end), ("r1", 200, True, False, "b", end)]
    rows.append(("r2", 200, False, True, "c", _event("to ") + _event("our ")))
    seen = pd.DataFrame(rows, columns=["request", "status", "whole", "left", "id", "end"])
    bills = [(one, "t", "m", "complete", 3, 4, 2_850) for one in "ab"]
    bills.append(("c", "t", "m", "left", 3, 2, 1_650))
    names = ["id", "tenant", "model", "how", "tokens_in", "tokens_out", "cost"]
    counted = [("r0", "m", 3, 4, True), ("r1", "m", 3, 4, True), ("r2", "m", 3, 9, False)]
    ledger = pd.DataFrame(counted, columns=["request", "model", *names[4:6], "whole"])
    owners = {"a": "r0", "b": "r1", "c": "r2"}
    return billed.Found(seen, pd.DataFrame(bills, columns=names), ledger, owners, {"t": 7_350})


def test_what_agrees_has_no_difference(found):
    told = billed.differences(found)
    assert not any(told[what] for what in billed.ZERO), told
    assert (told["answered"], told["left"], told["billed"]) == (2, 1, 3)


def test_differences_find_each_fault_that_is_planted(found):
    bills, left = found.bills, found.bills["how"] == "left"
    again = pd.concat([bills, bills.head(1).assign(id="a:again")])
    planted = {
        "billed twice": {"bills": again},
        "answered, not billed": {"bills": bills.query("id != 'b'")},
        "tokens differ": {"bills": bills.assign(tokens_out=9)},
        "not as the ledger": {"ledger": found.ledger.assign(tokens_out=5)},
        "not at the price": {"bills": bills.assign(cost=2 * bills["cost"])},
        "left, not as received": {
            "bills": bills.assign(tokens_out=bills["tokens_out"] + 99 * left)
        },
        "billed, nobody asked": {"owners": {"a": "r0", "b": "r1"}},
        "invoice differs": {"sums": {"t": 26}},
        "open at the end": {"still": 1},
        "sums that differ": {"off": 1},
    }
    assert {*planted} == {*billed.ZERO}
    for what, fault in planted.items():
        assert billed.differences(found._replace(**fault))[what] > 0, what
    less = bills.assign(tokens_out=bills["tokens_out"] - left)
    assert billed.differences(found._replace(bills=less))["left, not as received"] == 1
    unseen = found._replace(seen=found.seen.assign(whole=False))
    assert billed.differences(unseen)["billed, not answered"] == 2


def test_an_answer_of_a_fallback_is_not_kept_as_the_wanted_models():
    def change(raw: dict) -> None:
        raw["tenants"][0]["cache_s"] = 60

    body = {"messages": [{"role": "user", "content": "Who answers?"}], "model": "small"}
    with Running(change) as running:
        running.plan(["failed"] * 2, [])
        served = [running.post("acme", body).json()["model"] for _ in range(3)]
        assert served == ["large", "small", "small"]
        assert (len(running.p1.ledger), len(running.p2.ledger)) == (3, 1)
        assert running.last("acme")["how"] == "cached", "the wanted model's own answer is kept"
