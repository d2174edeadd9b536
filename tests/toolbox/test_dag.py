"""Steps that are made once for their content: killed, altered, and run by two at a time."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from casebook.recorded import dag


def source(have, out, settings):
    (out / "words").write_text("a b")


def count(have, out, settings):
    words = (have["source"] / "words").read_text().split()
    (out / "n").write_text(str(len(words) * settings["times"]))


def report(have, out, settings):
    (out / "told").write_text("n = " + (have["count"] / "n").read_text())


def steps(times=1, words="one"):
    return {
        "source": dag.Step(source, {}, content=words),
        "count": dag.Step(count, {"times": times}, ("source",)),
        "report": dag.Step(report, {}, ("count",)),
    }


POINTS = [f"{what} {step}" for step in steps() for what in ("begun", "made", "written", "finished")]


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_at_any_point_a_run_goes_on_and_makes_the_same(tmp_path, point):
    whole = dag.run(tmp_path / "whole", steps())

    def kill(here):
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            dag.run(tmp_path / "cut", steps(), hook=kill)
        finally:
            os._exit(0)  # only if the kill did not come
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = dag.run(tmp_path / "cut", steps())
    done = POINTS.index(point) // 4 + point.startswith("finished")
    assert again.new == tuple(steps())[done:]
    assert (again.key, again.keys) == (whole.key, whole.keys)


def test_a_setting_makes_what_depends_on_it_and_equal_outputs_stop_there(tmp_path):
    first = dag.run(tmp_path, steps())
    assert first.new == ("source", "count", "report")
    other = dag.run(tmp_path, steps(times=2))
    assert other.new == ("count", "report")
    assert (other.path("report") / "told").read_text() == "n = 4"
    same_words = dag.run(tmp_path, steps(words="said otherwise"))
    assert same_words.new == ("source",)
    assert dag.read(tmp_path, other.keys).lineage().equals(other.lineage())


@pytest.mark.parametrize("name", ["n", "step.json"])
def test_an_altered_folder_is_refused_when_read_and_made_again_when_run(tmp_path, name):
    first = dag.run(tmp_path, steps())
    (first.path("count") / name).write_text("7")
    with pytest.raises(LookupError, match="run it again"):
        dag.read(tmp_path, first.keys)
    again = dag.run(tmp_path, steps())
    assert again.new == ("count",)
    assert again.key == first.key


def test_two_runs_at_a_time_end_with_the_same(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: dag.run(tmp_path, steps()), range(8)))
    assert len({run.key for run in runs}) == 1
    assert len([p for p in tmp_path.iterdir() if not p.name.startswith(".")]) == 3


def other_source(have, out, settings):
    (out / "words").write_text("a b c")


def test_the_code_of_a_step_that_reads_none_counts_too(tmp_path):
    dag.run(tmp_path, steps())
    changed = {**steps(), "source": steps()["source"]._replace(make=other_source)}
    again = dag.run(tmp_path, changed)
    assert again.new == ("source", "count", "report")
    assert (again.path("report") / "told").read_text() == "n = 3"


@pytest.mark.parametrize("altered", [False, True])
def test_what_another_run_makes_after_the_look_stays(tmp_path, monkeypatch, altered):
    if altered:
        (dag.run(tmp_path, steps()).path("source") / "words").write_text("x")
    look, others = dag._stored, []

    def slow(out):
        try:
            return look(out)
        except LookupError:
            if not others:  # between this look and what follows from it
                others.append(None)
                others[0] = dag.run(tmp_path, steps())
            raise

    monkeypatch.setattr(dag, "_stored", slow)
    mine = dag.run(tmp_path, steps())
    moved = len([path for path in tmp_path.iterdir() if path.name.endswith(".altered")])
    assert moved == altered  # by the other run; what it made is good
    assert mine.new == (() if altered else ("source", "count", "report"))
    assert len(others) == altered


def test_what_killed_runs_left_goes_after_a_day(tmp_path):
    old, fresh = (tmp_path / f".source-0.{name}.part" for name in ("old", "fresh"))
    for part in (old, fresh):
        part.mkdir()
        (part / "words").write_text("a")
    ago = time.time() - 2 * 86_400
    os.utime(old, (ago, ago))
    dag.run(tmp_path, steps())
    assert fresh.exists() and not old.exists()


def test_a_step_that_fails_leaves_nothing(tmp_path):
    bad = {**steps(), "count": dag.Step(count, {}, ("source",))}
    with pytest.raises(KeyError):
        dag.run(tmp_path, bad)
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["source"]


def test_the_hash_of_a_table_tells_types_names_and_order():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, None]})
    others = [
        frame.rename(columns={"a": "c"}),
        frame.astype({"a": float}),
        frame.iloc[::-1],
        frame.fillna(0.0),
        frame[["b", "a"]],
    ]
    hashes = {dag.of_frame(one) for one in [frame, *others]}
    assert len(hashes) == 6
    assert dag.of_frame(frame.set_axis([5, 6])) in hashes


def test_a_folder_that_was_altered_with_its_own_record_is_refused(tmp_path):
    first = dag.run(tmp_path, steps())
    kept = dict(first.made_of["count"]["outputs"])
    assert dag.read(tmp_path, first.keys, kept).key == first.key
    out = first.path("count")
    told = (out / "step.json").read_text()
    (out / "n").write_text("7")
    other = hashlib.sha256(b"7").hexdigest()
    (out / "step.json").write_text(told.replace(kept["n"], other))
    with pytest.raises(LookupError, match="not what was kept"):
        dag.read(tmp_path, first.keys, kept)
    (out / "step.json").write_text(told.replace('"times": 1', '"times": 9'))
    with pytest.raises(LookupError, match="something else than it is called after"):
        dag.read(tmp_path, first.keys)
