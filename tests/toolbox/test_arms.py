"""Arms: who is answered by which, what a restart keeps, and whose age is told."""

from __future__ import annotations

import threading
from typing import NamedTuple

import pandas as pd

from casebook.evaluate.experiments import srm
from casebook.serving.arms import Arms, Plan
from casebook.serving.shelf import Shelf

NOW = pd.Timestamp("2025-03-05")


class Model(NamedTuple):
    trained: pd.Timestamp


def of(hours: float) -> Model:
    return Model(NOW - pd.Timedelta(hours=hours))


def later(new: Model, old: Model) -> str:
    return "" if new.trained > old.trained else "it is no later"


def in_both(arms: Arms) -> set[str]:
    return {arms.of(user) for user in range(40)}


def test_a_stop_holds_after_a_restart_and_a_broken_treatment_stops_no_control(tmp_path):
    Shelf(tmp_path).put(of(20))
    Shelf(tmp_path, "treatment").put(of(10))
    both, told = {"control", "treatment"}, []
    for answer in (both, {"control"}):
        models, faults = Arms.load(tmp_path)
        arms = Arms(models, {}, folder=tmp_path)
        assert in_both(arms) == answer and faults == [] and not arms.runs(None)
        arms.stop("revenue fell")
        told.append(arms.stopped)
        arms.close()
    assert told == ["revenue fell"] * 2
    (tmp_path / "stopped").unlink()
    (tmp_path / "treatment.serves").write_bytes(b"cut off")
    models, [fault] = Arms.load(tmp_path)
    assert {*models} == {"control"} and fault.startswith("no experiment: treatment.serves")
    (tmp_path / "stopped").write_bytes(b"\xff\xfe")
    (tmp_path / "model.serves").unlink()
    models, [fault, _] = Arms.load(tmp_path)
    arms = Arms(models, {}, folder=tmp_path)
    assert models == {"control": None} and fault.startswith("model.serves: ") and arms.stopped
    assert [row.alarm for row in arms.ages(NOW, 48)] == [True]
    Shelf(tmp_path).offer(of(1))
    assert arms.refresh()["swapped"] and arms.digest("control", arms.swaps["control"].current.value)
    arms.close()


def test_a_new_model_has_threads_although_the_old_one_hangs_in_all(tmp_path):
    over, arms = threading.Event(), Arms({"control": of(20)}, {}, folder=tmp_path, threads=1)
    arms.breakers["control"].budget_ms = 20.0
    told = [arms.breakers["control"].ask(lambda _: over.wait(20), 0).why for _ in range(2)]
    Shelf(tmp_path).offer(of(1))
    arms.refresh()
    told.append(arms.breakers["control"].ask(lambda _: 1, 0).why)
    arms.back()
    told.append(arms.breakers["control"].ask(lambda _: 1, 0).why)
    over.set()
    arms.close()
    assert told == ["timeout", "busy", "", ""]  # the second is the planted fault


def test_both_arms_are_refreshed_and_the_age_of_each_that_answers_is_told(tmp_path):
    arms = Arms({"control": of(50), "treatment": of(60)}, {"age": later}, folder=tmp_path)
    Shelf(tmp_path, "treatment").offer(of(70))
    told = arms.refresh()
    assert not told["swapped"] and told["treatment"]["why"] == "age: it is no later"
    assert [row.alarm for row in arms.ages(NOW, 48)] == [True, True]
    Shelf(tmp_path).offer(of(1))
    assert arms.refresh()["swapped"] and [r.alarm for r in arms.ages(NOW, 48)] == [False, True]
    arms.stop("")
    assert arms.stopped == "stopped" and [r.alarm for r in arms.ages(NOW, 48)] == [False]
    assert arms.back().value == of(50) and arms.ages(NOW, 48)[0].alarm
    arms.close()


def test_the_hash_splits_users_as_planned():
    plan = Plan(shares={"control": 0.8, "treatment": 0.2})
    counts = pd.Series([plan.arm(user) for user in range(5_000)]).value_counts()
    assert srm(counts.to_dict(), plan.shares).p > 0.001
    assert plan.arm(7) == Plan(shares=plan.shares).arm(7)
    assert [plan.arm(u) for u in range(60)] != [plan._replace(salt="b").arm(u) for u in range(60)]
