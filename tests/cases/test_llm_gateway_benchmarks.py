"""Case 20: recorded tables against reduced live runs, and the checks on planted faults."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.llm_gateway import benchmarks, counted, isolated, measured, studies
from casebook.cases.llm_gateway.artifacts import CASE
from casebook.recorded import bench
from casebook.serving.rate_limits import Limit


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CASE, name).frame


@pytest.mark.parametrize("name", sorted(benchmarks.BENCHMARKS))
def test_no_table_is_stale(name):
    assert not bench.stale(CASE, name)


# Routing and detectors --------------------------------------------------------------------


def test_one_world_of_the_ladder_is_the_recorded_one():
    keys = ["seed", "families", "policy"]
    live = studies.ladder(studies.SEEDS[:1], ("rules", studies.SHIPPED, studies.CASCADES[1]))
    stored = live[keys].merge(recorded("ladder"), on=keys, validate="1:1")
    pd.testing.assert_frame_equal(live, stored[[*live]], rtol=5e-3, check_dtype=False)


def test_the_oracle_is_the_floor_and_the_settings_have_won_or_tie():
    table = recorded("ladder").query("families == 'all'")
    euro = table.pivot(index="seed", columns="policy", values="euro")
    assert len(euro) >= 15
    checked = (studies.ALWAYS, *studies.CASCADES)
    routers = [name for name in euro if name not in checked]
    assert (euro["oracle"] <= euro[routers].min(axis=1) + 0.05).all()
    loss = recorded("router_trials").groupby(["model", "settings"])["log_loss"].mean()
    for name, own in studies.CHOSEN.items():
        chosen = loss[name, f"{own.strength:g} {own.directions} {own.leaves}"]
        assert chosen <= loss[name].min() + 2e-4  # two settings of the trees tie


def test_every_detector_is_judged_on_every_family_and_a_random_split_flatters():
    table = recorded("detected")
    assert (table.query("new_families").groupby("detector").size() == 9).all()
    recall = table.groupby(["detector", "new_families"])["recall"].mean()
    assert recall["logistic", False] > recall["logistic", True] + 0.1


# Limits -----------------------------------------------------------------------------------


def test_the_limiter_is_exact_in_a_reduced_run_as_in_the_table():
    stored, live = recorded("limiter"), counted.limiter(20, 2)
    assert stored["error"].abs().max() <= 0.01
    own = live[live["limiter"] != "over HTTP"]
    assert set(live["limiter"]) == set(stored["limiter"])
    assert (own["error"] == 0).all()
    http = live.set_index("limiter").loc["over HTTP"]  # where the machine is busy, they come late
    assert 0.9 * http["allowed"] <= http["passed"] < http["asked"]


def test_exact_arithmetic_by_hand_and_against_a_bucket_that_leaks():
    limit = Limit(per_minute=60, burst=2)
    assert counted.exact([0, 0, 0, 0.5, 1.0, 1.5, 2.0], limit) == 4
    assert counted.exact([10.0, 0.0], limit) == 2, "a clock that goes back passes nothing anew"
    at = counted.patterns(30, 5)["four times the limit"]
    faster = Limit(per_minute=303, burst=20)
    assert counted.exact(at, faster) > counted.exact(at, Limit(per_minute=300, burst=20))


# Bills ------------------------------------------------------------------------------------

ZERO = (
    "billed twice",
    "answered, not billed",
    "tokens differ",
    "invoice differs",
    "open at the end",
    "sums that differ",
)


def test_bills_are_exact_in_the_table_and_in_a_reduced_run():
    for table in (recorded("metering"), counted.metering(60, 1, 30)):
        n = table.set_index("what")["n"]
        assert (n[[*ZERO]] == 0).all()
        assert n["answered"] + n["left"] >= 0.95 * n["requests"]
        assert n["sent"] > n["requests"] and n["kills"] >= 1


def seen_and_billed() -> tuple[pd.DataFrame, dict]:
    """Return two answers and one client that left, and their bills."""
    end = 'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}'
    rows = [("a", 200, True, False, "a", end), ("b", 200, True, False, "b", end)]
    rows.append(("c", 200, False, True, "c", ""))
    seen = pd.DataFrame(rows, columns=["request", "status", "whole", "left", "id", "end"])
    bills = [(one, "t", "complete", 3, 4, 10) for one in "ab"] + [("c", "t", "left", 3, 1, 5)]
    names = ["id", "tenant", "how", "tokens_in", "tokens_out", "cost"]
    made = pd.DataFrame(bills, columns=names)
    return seen, {"bills": made, "sums": {"t": 25}, "still": 0, "off": 0}


def test_differences_find_each_fault_that_is_planted():
    seen, found = seen_and_billed()
    assert not any(counted.differences(seen, **found)[what] for what in ZERO)
    bills = found["bills"]
    twice = pd.concat([bills, bills.head(1).assign(id="a:again")])
    planted = {
        "billed twice": {"bills": twice},
        "answered, not billed": {"bills": bills.query("id != 'b'")},
        "tokens differ": {"bills": bills.assign(tokens_out=9)},
        "invoice differs": {"sums": {"t": 26}},
        "open at the end": {"still": 1},
        "sums that differ": {"off": 1},
    }
    for what, fault in planted.items():
        assert counted.differences(seen, **{**found, **fault})[what] > 0, what
    unseen = counted.differences(seen.assign(whole=False), **found)
    assert unseen["billed, not answered"] == 2


# Isolation --------------------------------------------------------------------------------


def test_nothing_leaks_and_each_planted_leak_is_found():
    table = recorded("isolation").fillna({"planted": ""}).set_index("planted")
    assert table.loc["", "leaks"] == 0 and table.loc["", "at_most"] <= 0.002
    assert set(table.index) == {"", *isolated.PLANTED}
    assert (table.drop("")["leaks"] > 0).all()
    answered, found = isolated._looked("", 60, 2)
    assert found == [] and answered > 40
    assert "answer" in isolated._looked("a cache for all", 60, 2)[1]


# What it carries --------------------------------------------------------------------------


def test_work_of_a_reduced_run_is_near_the_recorded_one():
    keys = ["load", "form", "path"]
    live = measured.work(n=16, rounds=2, loads=("short",)).set_index(keys)["cpu_ms"]
    stored = recorded("work")
    assert (stored["failed"] == 0).all()
    both = pd.concat([live, stored.set_index(keys)["cpu_ms"]], axis=1, join="inner")
    assert len(both) == len(live) == 8
    assert (both.iloc[:, 0] / both.iloc[:, 1]).between(0.4, 2.5).all()  # other machines


def test_latency_is_of_the_same_requests_on_all_paths():
    table = recorded("latency").set_index(["load", "path"])
    assert (table["failed"] == 0).all()
    for load in measured.LOADS:
        own = table.loc[load]
        assert list(own.index) == [*measured.PATHS] and own["n"].nunique() == 1
        share = own["rps"] / own["saturation"]
        assert share["guarded"] == pytest.approx(measured.PLANNED, rel=0.01)
        assert (own["low"] <= own["ratio"] + 1e-9).all() and own.loc["bare", "ratio"] == 1


def test_guards_cost_more_the_longer_a_text_is():
    table = recorded("guard_cost").pivot(index="guard", columns="characters", values="ms")
    for guard in ("personal data, some there", "attacks by rules", "all"):
        assert table.loc[guard, 400] < table.loc[guard, 1_600] < table.loc[guard, 4_600]
    assert set(counted.guard_cost(3)["guard"]) == set(table.index)


def test_a_mask_holds_the_first_words_and_not_the_last_ones():
    """At a model's pace, text is held back for as long as the mask's characters take."""
    live = measured.first_words(n=8)
    for table in (recorded("first_words"), live):
        own = table.set_index("path")
        assert (own["failed"] == 0).all()
        held = 120 / len(measured.PIECE) * 1000 * measured.PACE
        assert own.loc["redacting", "added"] > 0.8 * held > own.loc["gateway", "added"]
        assert own["whole_p50"].max() < own["whole_p50"].min() + held / 2


def test_memory_stays_and_crowds_are_refused_politely():
    mb = recorded("memory")
    assert (mb["failed"] == 0).all() and mb["requests"].max() >= 30_000
    stored = recorded("connections")
    live = measured.connections(60, most=20, first_s=1.0, probes=3)
    for table in (stored, live):
        crowd = table[table["phase"] == "crowd"].set_index("status")
        assert crowd.loc[503, "polite"] == crowd.loc[503, "n"]
        assert crowd["n"].sum() == crowd["polite"].sum(), "nobody is left without an answer"
        assert table.query("phase == 'afterwards'")["status"].tolist() == [200]
    with pytest.raises(ValueError, match="lower every"):
        measured.memory(10, 20)


def test_loads_come_from_the_trace_or_say_that_they_are_simulated(monkeypatch):
    rows = measured.asked(50, 2, "trace")
    assert rows["at"].is_monotonic_increasing and rows["characters"].nunique() > 5
    monkeypatch.setattr(measured, "trace", lambda: None)
    other = measured.asked(50, 2, "short")
    assert set(other["arrivals"]) == {"simulated"} and set(other["characters"]) == {measured.SHORT}
    with pytest.raises(ValueError, match="no load"):
        measured.asked(50, 2, "long")
