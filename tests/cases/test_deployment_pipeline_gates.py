"""Case 21: each gate passes a good candidate and stops one that has its fault."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np
import pandas as pd
import pytest
from deployment_pipeline_shared import empty

from casebook.cases.deployment_pipeline import gates, measured, pipeline, registry, steps, world

NOW = world.START
#: The machine of a test may do other work meanwhile.
BUSY = gates.Limits(p99_ms=5_000)


@dataclass(frozen=True)
class Fake(steps.Model):
    """A model with other scores, which its service gives as well."""

    how: str = ""

    @cached_property
    def true(self):
        return steps.Model(self.text, self.meta)

    def score(self, frame):
        p = self.true.score(frame)
        if self.how == "a constant":
            return np.full(len(p), 1e-4)
        if self.how == "nothing":
            return np.full(len(p), np.nan)
        if self.how == "blind online":
            return np.where(frame["online"] > 0, 1e-6, p)
        return np.minimum(30 * p, 1.0)

    def one(self, payment):
        p = self.true.one(payment)
        online = payment["online"] > 0
        of = {"a constant": 1e-4, "nothing": np.nan, "blind online": 1e-6 if online else p}
        return of.get(self.how, min(30 * p, 1.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return pipeline.run(folder, measured.history(250, seed=5), NOW, {"rounds": 25})


@pytest.fixture(scope="module")
def given(run):
    rows = pd.read_parquet(run.path("features") / "test.parquet")
    card = json.loads((run.path("evaluate") / "card.json").read_text())
    return steps.Model.load(run.path("train")), rows, card


def check(given, how="", **changes):
    model, rows, card = given
    candidate = Fake(model.text, model.meta, how) if how else model
    all_of = {"candidate": candidate, "champion": model, "rows": rows, "card": card, "now": NOW}
    all_of["limits"] = BUSY
    return gates.check(**all_of | changes)


def test_a_candidate_as_good_as_the_champion_passes_each_gate(given):
    table = check(given)
    assert table["passed"].all()
    assert (table["what"] == "").all()
    assert table.loc[["money", "ranking", "worst slice"], "value"].tolist() == [0, 0, 0]
    assert check(given, champion=None).loc["money", "passed"]  # the first one, against the rules


def slowly(model):
    """Answer one payment in twenty slowly: the 99th percentile is too slow, and the mean is not."""
    asked = count()

    def one(payment):
        time.sleep(0.06 * (next(asked) % 20 == 0))
        return model.one(payment)

    return one


FAULTS = {
    "money": {"how": "thirty times"},
    "ranking": {"how": "a constant"},
    "worst slice": {"how": "blind online", "limits": gates.Limits(slice_money=100, p99_ms=5_000)},
    "skew": {"one": lambda model: lambda payment: model.one({**payment, "customer_sum_24h": 0.0})},
    "latency": {"one": slowly, "limits": gates.Limits()},
    "model card": {"card": lambda card: {**card, "limits": " "}},
    "freshness": {"now": NOW + 30 * steps.DAY},
}


@pytest.mark.parametrize("gate", FAULTS)
def test_each_gate_stops_its_fault(given, gate):
    fault = dict(FAULTS[gate])
    if "one" in fault:
        fault["one"] = fault["one"](given[0])
    if "card" in fault:
        fault["card"] = fault["card"](given[2])
    table = check(given, **fault)
    assert {*FAULTS} == {*table.index} == {*registry.GATES}
    assert not table.loc[gate, "passed"]
    assert table.loc[gate, "what"]
    if gate not in ("money", "ranking", "worst slice"):
        assert table["passed"].sum() == len(table) - 1


def test_scores_that_are_no_numbers_and_a_clock_set_back_are_stopped(given):
    assert not check(given, "nothing").loc["ranking", "passed"]
    past = check(given, now=NOW - 90 * steps.DAY)
    assert "seen the future" in past.loc["freshness", "what"]


def test_rows_of_the_training_and_rows_of_few_days_are_no_test(given):
    _, rows, _ = given
    with pytest.raises(ValueError, match="has learned from some"):
        check(given, rows=rows.assign(at=rows["at"] - 60 * steps.DAY))
    model = given[0]
    late = steps.Model(model.text, {**model.meta, "trained_until": str(rows["at"].max())})
    with pytest.raises(ValueError, match="the champion has learned from some"):
        check(given, champion=late)
    with pytest.raises(ValueError, match="1 rows have no time"):
        check(given, rows=rows.assign(at=rows["at"].where(rows.index != rows.index[7])))
    with pytest.raises(ValueError, match="rows of 3 days; 14"):
        check(given, rows=rows[rows["at"] < rows["at"].min().normalize() + 3 * steps.DAY])


def test_a_slice_without_days_is_not_passed(given):
    _, rows, _ = given
    table = check(given, rows=rows[rows["online"] == 0])
    assert not table.loc["worst slice", "passed"]
    assert "online: too few days" in table.loc["worst slice", "what"]


def test_every_slice_is_judged_and_not_the_widest_alone(given):
    """One slice is certainly worse, another has the highest upper end and may be as good."""
    _, rows, _ = given
    days, rng = rows["at"].dt.normalize(), np.random.default_rng(0)
    noise = pd.Series(rng.normal(-50, 250, days.nunique()), index=days.unique())
    extra = np.where(rows["online"] > 0, 30.0, days.map(noise).to_numpy())
    ends = {
        name: gates.mean_interval(gates._by_day(extra[mine], days[mine]), 1 - 0.05 / 4)
        for name, mine in ((n, of(rows).to_numpy(bool)) for n, of in gates.SLICES.items())
    }
    assert max(ends, key=lambda name: ends[name].high) != "online"
    assert ends["in person"].low < 0 < ends["online"].low
    row = gates._slices(extra, rows, days, gates.Limits())
    assert not row[4] and "online" in row[5]


def test_rows_without_a_fraud_stop_a_candidate_and_break_nothing(given):
    _, rows, _ = given
    table = check(given, rows=rows.assign(fraud=False))
    assert "no fraud among these rows" in table.loc["ranking", "what"]


@pytest.mark.parametrize(("now", "status"), [([], 1), (["--now", str(NOW)], 0)])
def test_the_labels_of_a_run_age_by_the_clock(run, tmp_path, capsys, now, status):
    """The world's days lie in the past: without another clock its run is old."""
    (tmp_path / "run.json").write_text(json.dumps({"keys": run.keys}))
    empty(tmp_path / "r")
    words = ["--folder", run.folder, "--run", tmp_path / "run.json", "--registry", tmp_path / "r"]
    assert gates.main([*map(str, words), *now]) == status
    said = capsys.readouterr().out
    assert ("train it on later payments" in said) == bool(status)
