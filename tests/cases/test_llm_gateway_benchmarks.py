"""Case 20: recorded tables against reduced live runs, and the checks on planted faults."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.llm_gateway import benchmarks, counted, isolated, measured, studies, waiting
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


def test_one_world_of_cascades_that_misjudge_their_check_is_the_recorded_one():
    keys = ["seed", "believed", "policy"]
    live = studies.misjudged(studies.SEEDS[:1], (0.5, 1.0))
    stored = live[keys].merge(recorded("misjudged"), on=keys, validate="1:1")
    pd.testing.assert_frame_equal(live, stored[[*live]], rtol=5e-3, check_dtype=False)


def test_the_page_says_of_money_and_checks_what_the_tables_say():
    table = recorded("ladder").query("families == 'all'")
    saved = studies.money(table)
    free = studies.CASCADES[0]
    assert saved.loc["logistic", "low"] > 0 and saved.loc["logistic", "share_high"] < 0.02
    assert saved.loc[free, "low"] > saved.loc["logistic", "saved"] > saved.loc["rules", "saved"]
    assert studies.money(table, "all strong").loc["error cost alone", "low"] > 0
    known = table[table["policy"].isin(["error cost alone", studies.ORACLE])]
    by_power = {
        power: studies.closed(pd.concat([known, rows]))[free].mean()
        for power, rows in recorded("checks").groupby("power")
    }
    assert by_power[0.5] < 0.05 and by_power[2.0] > 1, "the title of the page's figure"
    by_belief = recorded("misjudged").groupby(["policy", "believed"])["euro"].mean()[free]
    assert by_belief.idxmin() == 1.0, "whoever knows the check's power pays least"


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


def test_every_detector_misses_most_of_a_new_family():
    table = recorded("detected").query("new_families")
    assert (table.groupby("detector")["recall_at_1"].mean() < 0.5).all()


# Waits and late clients -------------------------------------------------------------------


def test_one_minute_of_tenants_that_rush_is_the_recorded_one():
    live = waiting.neighbours(("within limits",), ("limits", "both"), seeds=studies.SEEDS[:1])
    keys = ["seed", "rush", "arm"]
    stored = live[keys].merge(recorded("noisy"), on=keys, validate="1:1")
    pd.testing.assert_frame_equal(live, stored[[*live]], rtol=1e-3, check_dtype=False)


def test_one_arm_stops_both_rushes_and_long_answers_need_a_cap():
    p99 = recorded("noisy").groupby(["rush", "arm"])["p99"].mean()
    for rush in ("beyond limits", "within limits"):
        assert p99[rush, "both"] < p99[rush, "nothing"] / 4
    assert p99["within limits", "limits"] > 0.9 * p99["within limits", "nothing"]
    assert p99["within limits", "both, by contract"] > 2 * p99["within limits", "both"]
    assert p99["none", "both"] > p99["none", "limits"], "without a rush the queue costs waiting"
    for rush in ("long, small", "long, large"):
        assert p99[rush, "both"] > max(p99[rush, "limits"], 1.5 * p99[rush, "both, capped"])


def test_without_a_key_a_repeat_is_another_request_and_nobody_pays_for_what_is_not_read():
    table = recorded("official").set_index(["provider", "key"])
    assert (table["twice"] == 0).all() and (table["for_nothing"] == 0).all()
    for provider in ("late once", "always late"):
        keyed = table.loc[(provider, True)]
        assert len({*keyed[["calls", "answered", "asked", "bills"]]}) == 1, "once each"
    alone = table.loc[("always late", False)]
    assert (alone["answered"], alone["bills"], alone["asked"]) == (0, 0, 3 * alone["calls"])


# Limits -----------------------------------------------------------------------------------


def test_the_limiter_is_exact_in_a_reduced_run_as_in_the_table():
    stored, live = recorded("limiter"), counted.limiter(20, 2)
    assert stored["error"].abs().max() <= 0.01
    own = live[live["limiter"] != "over HTTP"]
    named = [set(one["limiter"].str.replace("real", "fake")) for one in (live, stored)]
    assert named[0] == named[1] and named[0] == {
        "one process", "2 clients, fake Redis", "23 clients, fake Redis", "over HTTP"
    }  # fmt: skip
    assert (own["error"] == 0).all() and (own["passed"] < own["asked"]).sum() >= 4
    http = live.set_index("limiter").loc["over HTTP"]  # where the machine is busy, they come late
    assert 0.9 * http["allowed"] <= http["passed"] < http["asked"]


def test_exact_arithmetic_by_hand_and_against_a_bucket_that_leaks():
    limit = Limit(per_minute=60, burst=2)
    assert counted.exact([0, 0, 0, 0.5, 1.0, 1.5, 2.0], limit) == 4
    assert counted.exact([10.0, 0.0], limit) == 2, "a clock that goes back passes nothing anew"
    at = counted.patterns(30, 5)["four times the limit"]
    faster = Limit(per_minute=303, burst=20)
    assert counted.exact(at, faster) > counted.exact(at, Limit(per_minute=300, burst=20))


# Isolation --------------------------------------------------------------------------------


def test_nothing_leaks_and_each_planted_leak_is_found():
    table = recorded("isolation").fillna({"planted": ""}).set_index("planted")
    assert table.loc["", "leaks"] == 0 and table.loc["", "equal"] > 0.4 * table.loc["", "queries"]
    assert list(table.index) == ["", *isolated.PLANTED]
    assert (table.drop("")["leaks"] > 0).all()
    assert table["queries"].iloc[0] == table["queries"].iloc[1], "the peer has as many"


def test_a_reduced_run_leaks_nothing_though_tenants_send_equal_bodies():
    answered, found = isolated._looked("", 60, 2)
    assert found == [] and answered > 40
    assert isolated.equal(60, 2) > 20


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("a cache by content", "answer"),
        ("idempotency keys without a tenant", "answer"),
        ("metrics of all", "metrics"),
    ],
)
def test_a_reduced_run_finds_a_planted_leak(fault, where):
    assert where in isolated._looked(fault, 60, 2, rps=15)[1]


def test_a_number_that_two_tenants_have_seen_is_a_leak(monkeypatch):
    monkeypatch.setattr(isolated, "_askers", lambda *_: ["t0", "t0", "t1"])
    ends = pd.DataFrame({"end": ["answer-1.", "answer-1.", "answer-2."]})
    assert isolated._foreign(ends, 3, 1) == []
    assert isolated._foreign(ends.assign(end="answer-1."), 3, 1) == ["answer"]
    assert isolated._foreign(ends.assign(end="word-of-t1"), 3, 1) == ["answer"] * 2


# What it carries --------------------------------------------------------------------------


def test_work_of_a_reduced_run_is_near_the_recorded_one():
    keys = ["load", "form", "path"]
    live = measured.work(n=16, rounds=2, loads=("short",)).set_index(keys)["cpu_ms"]
    stored = recorded("work")
    assert (stored["failed"] == 0).all()
    both = pd.concat([live, stored.set_index(keys)["cpu_ms"]], axis=1, join="inner")
    assert len(both) == len(live) == 2 * (len(measured.PATHS) - 1)
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


def test_more_processes_do_not_give_what_one_text_takes_too_long_for():
    table, ms = recorded("guard_tail").set_index("guard"), recorded("latency")
    assert table.loc["all", "over"] > 0.01, "so p99 is over 50 ms on an idle core"
    ms = ms.set_index(["load", "path"])["added_p99"]
    assert ms["trace", "guarded"] > 50 and ms["trace", "guarded"] > 2 * ms["trace", "gateway"]


def test_every_sum_of_the_store_holds_and_writers_of_one_file_wait_for_each_other():
    table = recorded("commits")
    assert (table[["failed", "off"]] == 0).all(axis=None)
    p99 = table.query("durable").set_index(["tenants", "processes"])["p99"]
    assert (p99.xs(4, level=1) > 3 * p99.xs(1, level=1)).all()


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
