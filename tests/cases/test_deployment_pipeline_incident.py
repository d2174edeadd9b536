"""The drill: logs that hold the fault and nothing else, a parser that survives, a diagnosis."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import incident
from casebook.cases.deployment_pipeline.incident import (
    FAULTS,
    RUNBOOK,
    START,
    diagnose,
    drill,
    drills,
    logs,
    parse,
    post_mortem,
    severity,
    signals,
)
from casebook.cases.deployment_pipeline.world import CHAPTER
from casebook.project import solutions_dir
from casebook.recorded import bench

# Logs, what is read of them, and drills are made once for all tests.
made = cache(lambda kind, until=None: logs(kind, 3, until))
read = cache(lambda kind, until=None: parse(made(kind, until).lines))
done = cache(drill)


def before(second, *given):
    """Return the requests of a log before a second of the drill."""
    rows = read(*given).rows
    return rows[rows["at"] < START + pd.Timedelta(seconds=second)]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_shows_after_its_start_and_not_before(kind):
    ill = made(kind)
    assert ill.start == made("none").start and 600 <= ill.start <= 960 and 0.03 <= ill.size <= 0.6
    assert before(ill.start - 21, "none").equals(before(ill.start - 21, kind))
    table = signals(read(kind).rows)
    after = table.index >= START + pd.Timedelta(seconds=ill.start)
    rates = table.drop(columns="n").div(table["n"], axis=0)
    rise = rates[after].mean() - rates[~after].mean()
    own = {"bad_release": "failed", "cold_start": "failed", "store_down": "fallback"}
    assert rise.idxmax() in (own | {"schema_break": "refused", "unit_change": "declined"})[
        kind
    ] or (kind in ("store_down", "cold_start") and rise.idxmax() == "slow")


def test_a_mended_fault_leaves_the_lines_before_as_they_were():
    for kind in FAULTS:
        assert before(1_195, kind).equals(before(1_195, kind, 1_200))
        assert signals(read(kind, 1_200).rows).iloc[22:]["failed"].max() < 5


def test_unit_change_is_silent_for_those_who_watch_requests():
    rows, calm = read("unit_change").rows, read("none").rows
    assert (rows["status"] == calm["status"]).all() and (rows["ms"] == calm["ms"]).all()
    assert rows["declined"].sum() > calm["declined"].sum()


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_mitigated_and_resolved_in_this_order(kind):
    run = done(kind, 2 if kind == "unit_change" else 0)  # with seed 0 it is too small to be found
    assert run.found.kind == kind
    assert run.timeline["event"].tolist() == ["started", "detected", "mitigated", "resolved"]
    assert run.timeline["at"].is_monotonic_increasing and run.timeline["minutes"].iloc[0] == 0
    waited = run.timeline["at"].iloc[2] - run.timeline["at"].iloc[1]
    assert waited.total_seconds() == RUNBOOK[kind].seconds
    assert 0 < run.impact["share"] < 1 and run.impact["hit"] <= run.impact["requests"]


def test_the_table_has_the_truth_beside_what_was_named_and_quiet_logs_alarm_nobody(monkeypatch):
    monkeypatch.setattr(incident, "drill", done)
    live = drills(seeds=(0,))
    stored = bench.recorded(CHAPTER, "drills").frame
    own = stored[stored["seed"] == 0].fillna({"named": "none", "total": "none", "severity": "none"})
    pd.testing.assert_frame_equal(own.reset_index(drop=True), live, rtol=1e-3, check_dtype=False)
    table = live.set_index("kind")
    assert table.loc["none", "named"] == "none" and pd.isna(table.loc["none", "delay"])
    ill = table.drop("none")
    assert ill.index.tolist() == list(FAULTS)
    assert (ill["named"].eq(ill.index) | ill["named"].eq("none")).all()  # late, never another
    assert (table["right"] == (table["named"] == table.index)).all()
    assert (ill["delay"].dropna() > 0).all() and (ill["mitigated"] > ill["delay"]).sum() >= 3


def test_a_wrong_diagnosis_ends_nothing(monkeypatch):
    wrong = incident.Found("schema_break", "a guess", "failed", START + pd.Timedelta(minutes=18))
    monkeypatch.setattr(incident, "diagnose", lambda *args, **kwargs: wrong)
    run = drill("bad_release", 1)
    assert run.timeline["event"].tolist() == ["started", "detected"]
    assert "did not end: the diagnosis is wrong" in post_mortem(run)


def test_the_matrix_of_the_page_is_that_of_the_code():
    table, shares = incident.matrix(), (0.001, 0.05, 0.5)
    for kind in FAULTS:
        row = table.loc[incident._HARM[kind]]
        assert [said.split(":")[0] for said in row] == [severity(kind, share) for share in shares]
    page = (solutions_dir().parent / "chapters" / f"{CHAPTER}.ipynb").read_text()
    assert "incident.matrix()" in page
    assert "| SEV" not in page  # a second source


def test_the_severity_matrix():
    assert severity("store_down", 0.005) == "SEV4" and severity("store_down", 0.6) == "SEV2"
    assert severity("bad_release", 0.2) == "SEV1" and severity("schema_break", 0.01) == "SEV2"
    for row in incident.MATRIX.values():
        assert list(row) == sorted(row, reverse=True)  # more requests are never less severe
    assert set(incident.MATRIX) == {incident._HARM[kind] for kind in FAULTS}


@pytest.mark.parametrize("kind", ["bad_release", "store_down"])
def test_the_post_mortem_holds_what_the_run_measured(kind):
    run = done(kind, 0)
    text = post_mortem(run)
    assert run.severity in text and run.found.evidence in text and RUNBOOK[kind].first in text
    assert f"{run.impact['hit']:.0f} of {run.impact['requests']:.0f}" in text
    assert all(f"{at:%H:%M:%S} | {event}" in text for event, at, _ in run.timeline.to_numpy())
    assert "nan" not in text and "{" not in text


def test_nothing_found_is_nothing_to_write_up():
    run = done("none", 0)
    assert run.found is None and run.timeline.empty and run.severity == "none"
    with pytest.raises(ValueError, match="no incident"):
        post_mortem(run)


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="one of bad_release"):
        logs("gremlins", 1)


def test_broken_lines_are_counted_and_change_no_diagnosis():
    lines, sound = made("bad_release").lines, read("bad_release")
    rubbish = ["", "\x00", "{}", None, 7, b"bytes", "2026-02-30T00:00:00Z INFO a=b", "=" * 5_000]
    mixed = parse([*rubbish, *reversed(lines), *rubbish])
    assert diagnose(mixed) == diagnose(sound)
    assert sum(mixed.bad.values()) == sum(sound.bad.values()) + 2 * len(rubbish)
    assert 0.004 * len(lines) < sum(sound.bad.values()) < 0.02 * len(lines)


def test_a_wrong_clock_and_no_lines_alarm_nobody():
    stray = "2020-01-01T00:00:00Z ERROR caller=web version=v1 pod=a status=500 ms=2 "
    found = parse([stray + "declined=0 fallback=0", *made("none").lines])
    assert len(found.rows) and diagnose(found) is None
    assert diagnose(parse([])) is None


def clock(line):
    """Return the time of a line, such as 12:00:01; "" for a broken one."""
    return str(line)[11:19] if str(line).startswith("2026-03-02T") else ""


def test_lines_that_stop_are_an_outage_and_the_end_of_lines_is_none():
    lines = made("none").lines
    stopped = [line for line in lines if clock(line) < "12:00"]
    gap = [*stopped, *(line for line in lines if clock(line) >= "12:15")]
    gap += [line.replace("T12:0", "T12:2") for line in lines if "12:00" <= clock(line) < "12:05"]
    cut = parse(stopped)
    for some, until in ((cut, incident.END), (parse(gap), None)):
        found = diagnose(some, until=until)
        assert (found.kind, found.signal) == ("outage", "silent")
        assert f"{found.at:%H:%M}" == "12:01" and "'till': 0" in found.evidence
    partly = [line for line in stopped if clock(line) < "11:59:10"]
    assert diagnose(parse(partly)) is None
    assert diagnose(read("none"), until=incident.END) is None
    table = signals(cut.rows, incident.END)
    lost = table[table["silent"] > 0]
    assert len(lost) == 15 and (lost["silent"] == lost["n"]).all()


def test_a_caller_with_few_requests_is_never_silent():
    rows = read("none").rows
    few = rows[rows["caller"] == "till"].iloc[::5]
    assert (signals(few, incident.END)["silent"] == 0).all()


def test_one_pod_of_the_only_version_is_no_bad_release():
    def hurt(line):
        ill = "pod=fraud-2" in line and clock(line) >= "12:00"
        return line.replace("status=200", "status=500") if ill else line

    found = diagnose(parse([hurt(line) for line in made("none").lines]))
    assert (found.kind, found.signal) == ("unknown", "failed")
    assert "of pod fraud-2" in found.evidence
    assert {*RUNBOOK} == {*incident._HARM} == {*FAULTS, "outage", "unknown"}


def test_what_hits_a_small_caller_drowns_in_the_total():
    silent, refused = (parse(logs(k, 7).lines) for k in ("unit_change", "schema_break"))
    assert diagnose(silent).kind == "unit_change" and diagnose(silent, by_caller=False) is None
    assert diagnose(refused).at < diagnose(refused, by_caller=False).at


def test_what_the_recorded_drills_promise():
    table = bench.recorded(CHAPTER, "drills").frame.fillna({"named": "none", "total": "none"})
    assert table.groupby("kind")["seed"].nunique().min() >= 15
    assert (table.loc[table["kind"] == "none", "named"] == "none").all()
    ill = table[table["kind"] != "none"]
    assert (ill["named"].eq(ill["kind"]) | ill["named"].eq("none")).mean() > 0.95
    assert ill["right"].sum() > (ill["total"] == ill["kind"]).sum()
