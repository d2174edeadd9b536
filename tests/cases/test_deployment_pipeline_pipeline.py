"""Case 21: the pipeline makes the same bytes twice, refuses bad data, and is traced back."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from deployment_pipeline_shared import empty

from casebook.cases.deployment_pipeline import gates, measured, pipeline, steps, world
from casebook.cases.deployment_pipeline.registry import CHAMPION, GATES, PromotionRefused, Registry
from casebook.data.contracts import ContractBroken

SETTINGS = {"rounds": 15}
UNTIL = world.START


@pytest.fixture(scope="module")
def rows():
    return measured.history(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def run(rows, folder):
    return pipeline.run(folder, rows, UNTIL, SETTINGS)


def test_features_and_wait_are_those_of_the_world():
    assert steps.FEATURES == world.FEATURES
    assert steps.SETTINGS["wait"] == world.WAIT


def test_another_process_makes_the_same_bytes_from_rows_in_a_file(rows, run, tmp_path):
    rows.to_parquet(tmp_path / "payments.parquet")
    command = [sys.executable, "-m", pipeline.__name__, "--folder", str(tmp_path / "runs")]
    command += ["--data", str(tmp_path / "payments.parquet"), "--until", str(UNTIL)]
    command += ["--settings", json.dumps(SETTINGS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    told = json.loads(done.stdout)
    assert told["new"] == ["source", *pipeline.STEPS]
    assert (told["run"], told["keys"]) == (run.key, run.keys)
    other = tmp_path / "runs" / run.path("train").name
    for name in ("model.txt", "meta.json"):
        assert (other / name).read_bytes() == (run.path("train") / name).read_bytes()


def test_what_comes_later_changes_nothing_and_a_setting_only_what_depends_on_it(rows, run, folder):
    later = rows.copy()
    new = later["at"] >= UNTIL
    assert new.any()
    later.loc[new, "amount"] = 7.0
    late_report = later["known_at"] > UNTIL
    assert late_report.any()
    later.loc[late_report, "fraud"] = True
    again = pipeline.run(folder, later, UNTIL, SETTINGS)
    assert (again.new, again.key) == ((), run.key)
    other = pipeline.run(folder, rows, UNTIL, {**SETTINGS, "seed": 3})
    assert other.new == ("train", "evaluate")
    earlier = later.copy()
    earlier.loc[0, "amount"] += 1
    assert pipeline.run(folder, earlier, UNTIL, SETTINGS).new == ("source", *pipeline.STEPS)
    with pytest.raises(ValueError, match=r"no setting \['round'\]"):
        pipeline.run(folder, rows, UNTIL, {"round": 3})


def test_the_same_rows_in_another_order_train_nothing_again(rows, run, folder):
    again = pipeline.run(folder, rows.sample(frac=1, random_state=1), UNTIL, SETTINGS)
    assert again.new == ("source", "data")
    assert again.path("train") == run.path("train")


def test_no_payment_is_learned_whose_label_could_still_come(rows, run):
    train, test = (
        pd.read_parquet(run.path("features") / f"{n}.parquet") for n in ("train", "test")
    )
    assert test["at"].max() < UNTIL - world.WAIT * steps.DAY
    assert train["at"].max() < test["at"].min()
    seen = steps.as_of(rows, UNTIL)
    assert not seen.loc[seen["known_at"].isna(), "fraud"].any()
    assert len(train) == json.loads((run.path("train") / "meta.json").read_text())["rows"]


def test_the_model_saves_money_against_the_rules_and_its_card_is_whole(run):
    worth = json.loads((run.path("evaluate") / "evaluation.json").read_text())
    assert worth["average_precision"] > 0.2
    assert worth["saved_against_rules"][0] > 0
    card = json.loads((run.path("evaluate") / "card.json").read_text())
    assert {*card} == {*gates.CARD}


def test_what_travels_with_a_model_tells_whether_it_scores_as_in_training(run):
    model = steps.Model.load(run.path("train"))
    assert model.probed() == ""
    assert any(probe["score"] > 0.01 for probe in model.meta["probes"])
    moved = [{**probe, "score": probe["score"] * 1.0001} for probe in model.meta["probes"]]
    assert "20 of 20 probes" in steps.Model(model.text, {**model.meta, "probes": moved}).probed()
    assert "other inputs" in steps.Model(model.text, {**model.meta, "inputs": ["amount"]}).probed()


def test_one_payment_gets_the_rules_and_inputs_of_the_table(rows):
    some = rows.sample(300, random_state=0)
    some.iloc[0, some.columns.get_loc("amount")] = -40.0
    dicts = some.to_dict("records")
    assert np.array_equal(np.vstack([steps.vector(one) for one in dicts]), steps.matrix(some))
    assert [steps.rule_for(one) for one in dicts] == steps.by_rules(some).tolist()


def _changed(frame, name, value, share=1.0):
    frame = frame.copy()
    frame[name] = frame[name].astype(object if isinstance(value, str) else float)
    frame.loc[frame.index[: max(int(share * len(frame)), 1)], name] = value
    return frame


FOUR = (pd.Timestamp("2025-10-01"), pd.Timestamp("2025-10-04 23:59:59"))
BROKEN = {
    "no rows": (lambda f: f.iloc[:0], "the table is empty"),
    "a column is gone": (lambda f: f.drop(columns="speed"), "column 'speed' is missing"),
    "a column is empty": (lambda f: _changed(f, "tenure", np.nan), "tenure is empty"),
    "words": (lambda f: _changed(f, "amount", "much"), "amount is empty"),
    "cents": (lambda f: f.assign(amount=f["amount"] * 100), "send euro, not cents"),
    "four days of cents": (
        lambda f: f.assign(amount=f["amount"].where(~f["at"].between(*FOUR), f["amount"] * 100)),
        "(2025-10-01, 2025-10-02, 2025-10-03, 2025-10-04), usual are 5 to 200; send euro",
    ),
    "not finite": (lambda f: _changed(f, "amount", np.inf, 0.6), "not between -50000 and 50000"),
    "no time": (lambda f: f.assign(at=f["at"].where(f.index % 50 > 0)), "empty: at is empty"),
    "each thrice": (lambda f: pd.concat([f, f, f], ignore_index=True), "the same payment again"),
    "a share of 2": (lambda f: _changed(f, "terminal_risk_30d", 2.0), "not between 0 and 1"),
    "labels as text": (lambda f: f.assign(fraud="no"), "type: fraud"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_table_is_refused_with_what_is_wrong_and_what_to_do(rows, name):
    spoil, says = BROKEN[name]
    with pytest.raises(ContractBroken) as told:
        steps.accepted(spoil(rows))
    assert says in str(told.value)
    assert "; " in str(told.value)


def test_a_few_bad_rows_are_put_aside_and_counted(rows):
    good, lines = steps.accepted(_changed(rows, "speed", -1.0, 3 / len(rows)))
    assert len(good) == len(rows) - 3
    assert "range: not between 0 and 250000: 3 rows" in lines[0]
    text = rows.astype({"amount": str})
    assert len(steps.accepted(text)[0]) == len(rows)  # a number as text is that number


def test_a_run_refuses_what_joining_and_waiting_used_to_hide(rows, tmp_path):
    """Rows without a time fell behind the clock, and text became false, before any contract."""
    lost = rows.assign(at=rows["at"].where(rows.index % 50 > 0))
    for bad, says in ((lost, "at is empty"), (rows.assign(fraud="true"), "type: fraud")):
        with pytest.raises(ContractBroken, match=says):
            pipeline.run(tmp_path, bad, UNTIL)
    labels = pd.DataFrame({"row": rows.index, "known_at": rows["known_at"], "fraud": rows["fraud"]})
    assert len(steps.joined(rows, labels)) == len(rows)
    with pytest.raises(ValueError, match="3 reports are on a payment that has one"):
        steps.joined(rows, pd.concat([labels, labels.head(3)]))
    with pytest.raises(ValueError, match="send true and false"):
        steps.joined(rows, labels.astype({"fraud": str}))
    good, said = steps.accepted(pd.concat([rows, rows.head(2)], ignore_index=True), 0.5)
    assert len(good) == len(rows) and "repeat: the same payment again: 2 rows" in said[0]


def test_training_needs_both_kinds(rows):
    with pytest.raises(ValueError, match="0 frauds among 50"):
        steps.train(rows[~rows["fraud"]].head(50))


def test_versions_names_lineage_and_the_way_back(rows, run, folder, tmp_path):
    registry = empty(tmp_path / "registry.db")
    first = registry.register(run)
    assert (first, registry.register(run)) == (1, 1)
    assert (registry.version("challenger"), registry.version(CHAMPION)) == (1, None)
    other = pipeline.run(folder, rows, UNTIL, {**SETTINGS, "seed": 3})
    second = registry.register(other)
    passed = pd.DataFrame({"value": 1.0, "limit": 2.0, "passed": True}, index=GATES)
    assert registry.register(run, passed) == first
    registry.may_lead(first)
    models = {version: registry.folder(version).name for version in (first, second)}
    assert registry.follow(models[first]) == first
    assert registry.register(run, passed.assign(passed=False)) == first  # known, and no challenger
    assert registry.register(other) == second == registry.version("challenger")
    for version, says in ((first, "money: 1.0 against 2.0"), (second, "money: not asked")):
        with pytest.raises(PromotionRefused, match=says):
            registry.may_lead(version)
    for model, names in (
        (models[second], (second, first)),
        (models[second], (second, first)),
        ("another", (None, second)),  # it is no version
        (models[second], (second, None)),
        (models[first], (first, second)),
    ):
        assert registry.follow(model) == names[0]
        assert (registry.version(CHAMPION), registry.version("before")) == names
        assert registry.version("challenger") is None
    assert registry.folder(CHAMPION) == run.path("train").resolve()
    lineage = Registry(registry.file).lineage(first)  # as another process reads it
    assert list(lineage.index) == ["source", *pipeline.STEPS]
    assert lineage.equals(run.lineage())
    assert steps.as_of(rows, UNTIL).pipe(pipeline.dag.of_frame) in lineage.loc["source", "inputs"]
    with pytest.raises(LookupError, match="no version 9"):
        registry.folder(9)
    text = run.path("train") / "model.txt"
    kept = text.read_text()
    record = run.path("train") / "step.json"
    told = record.read_text()
    text.write_text(kept + " ")
    with pytest.raises(LookupError, match="altered"):
        registry.load(first)
    record.write_text(told.replace(steps._hash(kept), steps._hash(kept + " ")))
    with pytest.raises(LookupError, match="not what was kept"):  # altered with its own record
        registry.load(first)
    text.write_text(kept)
    record.write_text(told)
