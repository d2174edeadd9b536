"""The committed artifacts: hashes hold, nothing is stale, and a sample made anew agrees.

The sample is trained by the environment of the artifacts, which ``make test`` makes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rotation
from test_environment import differences, imports, pins, read_pins

from casebook.cases.demand_forecasting import artifacts as demand
from casebook.cases.demand_forecasting.world import DAYS
from casebook.evaluate import forests
from casebook.forecasting import networks, recurrent
from casebook.forecasting.classical import seasonal_naive_week
from casebook.forecasting.walk import at_origin, planning_origins
from casebook.project import require_checkout
from casebook.recorded import artifacts
from casebook.recorded.artifacts import MANIFEST, artifact, cases, faults

ROOT = require_checkout()
CASE = "01_demand_forecasting"
PYTHON = ROOT / ".venv-artifacts" / "bin" / "python"
#: Importable name where it is not that of the package.
NAMES = {
    "pytorch_lightning": "pytorch-lightning",
    "sklearn": "scikit-learn",
    "torch_geometric": "torch-geometric",
}


# --- pins ---------------------------------------------------------------------------------------


def test_the_pins_stand_in_the_constraints_and_agree_with_the_main_ones():
    direct, everything = (
        read_pins("requirements-artifacts.txt"),
        read_pins("constraints-artifacts.txt"),
    )
    assert differences(direct, {n: v for n, v in everything.items() if n in direct}) == []
    main = read_pins("constraints.txt")
    shared = main.keys() & everything.keys()
    assert {"numpy", "pandas", "pyarrow", "holidays"} <= shared
    assert {n: everything[n] for n in shared} == {n: main[n] for n in shared}


def test_the_main_environment_has_none_of_it():
    apart = {"torch", "neuralforecast", "ray", "pytorch-lightning"}
    assert apart <= read_pins("constraints-artifacts.txt").keys()
    assert not apart & read_pins("constraints.txt").keys()
    assert pins("torch==2.13.0+cpu")[1] == []  # a build's name is read as part of the version
    builds = (ROOT / "constraints-artifacts.txt").read_text(encoding="utf-8")
    assert "+" not in builds, "a pin names one build of a package"


def test_a_builder_imports_what_its_environment_pins():
    pinned = read_pins("constraints-artifacts.txt").keys()
    for case in cases():
        source = Path(artifacts.builder(case).__file__).read_text(encoding="utf-8")
        tops = {name.split(".")[0] for name in imports(source)}
        others = tops - {"casebook"} - sys.stdlib_module_names
        assert {NAMES.get(name, name) for name in others} <= pinned


# --- manifests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases())
def test_nothing_is_missing_altered_or_stale(case):
    assert faults(case) == []


@pytest.mark.parametrize("case", cases())
def test_the_versions_are_the_pinned_ones(case):
    pinned = read_pins("constraints-artifacts.txt")
    for entry in artifacts.manifest(case).values():
        assert entry["versions"] == {n: pinned[n] for n in artifacts.builder(case).PACKAGES}


@pytest.mark.parametrize("case", cases())
def test_artifacts_are_small(case):
    files = [p for p in (ROOT / "data" / case / "artifacts").iterdir() if p.name != MANIFEST]
    assert files and all(path.stat().st_size <= 2**20 for path in files)


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """Copy the artifacts of case 01; the toolbox reads the copy."""
    folder = tmp_path / "data" / CASE / "artifacts"
    shutil.copytree(ROOT / "data" / CASE / "artifacts", folder)
    monkeypatch.setattr(artifacts, "data_dir", lambda: tmp_path / "data")
    return folder


def edit(folder: Path, file: str, **values: object) -> None:
    """Change what the manifest says of a file."""
    entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    entries[file].update(values)
    (folder / MANIFEST).write_text(json.dumps(entries), encoding="utf-8")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("plant", "line"),
    [
        (lambda f: append(f / "trials.csv"), "trials.csv was altered"),
        (lambda f: (f / "forecasts.parquet").unlink(), "forecasts.parquet is missing"),
        (
            lambda f: edit(f, "forecasts.parquet", inputs={"code": "0", "panel": "0"}),
            "forecasts.parquet: made from other inputs: run `make artifacts N=01`",
        ),
        (lambda f: edit(f, "trials.csv", command="python try.py"), "the command 'python try.py'"),
    ],
    ids=["altered", "missing", "stale", "command"],
)
def test_a_planted_fault_is_named(copied, plant, line):
    assert faults(CASE) == []
    plant(copied)
    assert [line in fault for fault in faults(CASE)] == [True]


# --- case 01: what is in the files ----------------------------------------------------------------


@pytest.fixture(scope="module")
def forecasts() -> pd.DataFrame:
    return artifact(CASE, "forecasts.parquet")


def test_the_forecasts_are_those_that_were_asked_for(forecasts):
    assert [*forecasts] == ["unique_id", "ds", "origin", "tft", "nbeats"]
    values = forecasts[["tft", "nbeats"]].to_numpy()
    assert np.isfinite(values).all() and (values >= 0).all()
    origins = planning_origins(DAYS[-1])
    assert sorted(forecasts["origin"].unique()) == origins
    for origin in origins:
        _, future, _ = at_origin(*demand.panel(demand.SEED), origin)
        rows = forecasts.loc[forecasts["origin"] == origin, ["unique_id", "ds"]]
        asked = future[["unique_id", "ds"]].sort_values(["unique_id", "ds"], ignore_index=True)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), asked)


def test_the_best_of_five_trials_was_chosen():
    trials = artifact(CASE, "trials.csv")
    assert trials["network"].value_counts().to_dict() == {"tft": 5, "nbeats": 5}
    assert trials.notna().all().all()
    for number, settings in enumerate(demand.TRIALS):
        row = trials.loc[number, [*demand.Settings.__dataclass_fields__]].to_dict()
        assert demand.Settings(**row) == settings
    for network, rows in trials.groupby("network"):
        assert demand.CHOSEN[network] == demand.TRIALS[rows["mean"].idxmin()]


# --- case 01: series as the networks see them -----------------------------------------------------


@pytest.fixture(scope="module")
def cut() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and future rows of the last test origin."""
    train, future, _ = at_origin(*demand.panel(demand.SEED), planning_origins(DAYS[-1])[-1])
    return train, future


@pytest.mark.parametrize("log", [True, False])
def test_a_series_is_seen_relative_to_its_last_eight_weeks(cut, log):
    train, future = cut
    past, ahead, static, scale = networks.network_frames(train, future, log)
    name = "DE/DE1"
    own = train[train["unique_id"] == name].sort_values("ds")
    assert scale[name] == pytest.approx(own["y"].tail(56).mean() + 1)
    seen = past.loc[past["unique_id"] == name, "y"].to_numpy()
    back = scale[name] * np.exp(seen) - 1 if log else scale[name] * seen
    np.testing.assert_allclose(back, own["y"], atol=1e-6)
    assert past["ds"].max() < ahead["ds"].min()
    assert (ahead.groupby("unique_id").size() == 28).all()
    assert static.drop(columns="unique_id").sum(axis=1).eq(1).all() and static.shape[1] == 8


def test_a_route_that_is_new_or_closed_is_in_no_training(cut):
    train, future = cut
    last = train["ds"].max()
    of, age = train["unique_id"], (last - train["ds"]).dt.days
    closed = train[~((of == "DE/DE1/r1") & (age >= 6)) & ~((of == "DE/DE1/r2") & (age == 0))]
    assert {"DE/DE1/r1", "DE/DE1/r2"} <= {*networks.usual(train).index}
    assert not {"DE/DE1/r1", "DE/DE1/r2"} & {*networks.usual(closed).index}
    values = seasonal_naive_week(closed, future)
    values[future["unique_id"] == "DE/DE1/r1"] = np.nan
    filled = demand.with_analogues(closed, future, values)
    known = np.isfinite(values)
    assert np.isfinite(filled).all() and (filled[known] == values[known]).all()
    assert 0 < filled[~known].mean() < 10 * values[known].mean()


# --- the sample -----------------------------------------------------------------------------------


def from_first_origin(forecasts: pd.DataFrame) -> pd.DataFrame:
    return forecasts[forecasts["origin"] == forecasts["origin"].min()].copy()


def test_what_another_processor_changes_is_no_difference(forecasts):
    stored = from_first_origin(forecasts)
    assert demand.compare_forecasts(stored, stored, "tft") == ("equal to the last bit", [])
    noise = np.random.default_rng(0).normal(1, 0.03, len(stored))
    how, found = demand.compare_forecasts(stored, stored.assign(tft=stored["tft"] * noise), "tft")
    assert found == [] and how.startswith("within")


@pytest.mark.parametrize(
    ("plant", "line"),
    [
        (lambda f: f.assign(tft=f["tft"] * 1.1), "of the level depot differ by"),
        (
            lambda f: f.assign(tft=f["tft"].where(f["unique_id"] != "DE/DE1/r1", f["tft"] * 1.5)),
            "the forecasts of DE/DE1/r1 differ by",
        ),
        (lambda f: f.iloc[1:], "1 rows are only stored, or only made anew"),
        (lambda f: f.assign(tft=f["tft"].where(f["tft"] != f["tft"].max())), "missing or negative"),
        (lambda f: f.assign(tft=-f["tft"]), "missing or negative"),
    ],
    ids=["all", "one route", "row", "missing", "negative"],
)
def test_a_planted_change_of_a_forecast_is_found(forecasts, plant, line):
    stored = from_first_origin(forecasts)
    _, found = demand.compare_forecasts(plant(stored), stored, "tft")
    assert any(line in fault for fault in found)


def test_a_planted_change_of_a_trial_is_found():
    row = artifact(CASE, "trials.csv").iloc[3]
    made = {k: row[k] for k in row.index if k != "seconds"}
    assert demand.compare_trial(row, made) == ("WAPE within 0.0000", [])
    assert demand.compare_trial(row, made | {"mean": row["mean"] + 0.01})[1] == []
    _, found = demand.compare_trial(row, made | {"mean": row["mean"] + 0.03})
    assert [fault.startswith("trial: mean is") for fault in found] == [True]
    _, found = demand.compare_trial(row, made | {"steps": 401})
    assert found == ["trial: steps is 400 in the file, 401 in the code"]


# --- the sample, made by the environment of the artifacts -----------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess:
    """Run the environment of the artifacts on one thread; it is an error that it is not there."""
    if not PYTHON.is_file():
        pytest.fail(
            f"there is no {PYTHON.relative_to(ROOT)}: `make .venv-artifacts/.installed` makes the "
            "environment of the artifacts (`make test` does so first)"
        )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [PYTHON, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_without_the_environment_it_is_an_error_that_says_what_to_run(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PYTHON", ROOT / "no-environment" / "python")
    with pytest.raises(pytest.fail.Exception, match=r"`make \.venv-artifacts/\.installed`"):
        run("-m", "casebook.recorded.artifacts", "check", "01")


def sample_key(case: str) -> str:
    """Return the key of a sample: what the manifest says of code, inputs and files, and judges."""
    judges = [Path(module.__file__) for module in (artifacts, artifacts.builder(case))]
    pinned = ROOT / "constraints-artifacts.txt"
    manifest = artifacts.data_dir() / case / "artifacts" / MANIFEST
    return rotation.key_of(manifest, pinned, *judges)


def test_a_file_or_code_that_is_made_otherwise_is_another_sample(copied):
    before = sample_key(CASE)
    assert sample_key(CASE) == before
    edit(copied, "trials.csv", sha256="0")
    assert sample_key(CASE) != before


@pytest.mark.parametrize("case", [case for case in cases() if case != CASE])
def test_a_random_sample_made_anew_agrees(case):
    with rotation.turn("sample", case, sample_key(case), among=cases()):
        result = run("-m", "casebook.recorded.artifacts", "check", case)
        print(result.stdout)  # the seed, for whoever reads of a failure
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"agrees    {case}" in result.stdout


#: Case 07: a trial in which a call helps where ``a`` is high, and sequences of which the order
#: alone says who is lost; chance alone, for the network, as the control.
LEARNERS = """
import numpy as np, pandas as pd
from sklearn.metrics import roc_auc_score
from casebook.evaluate.effects import Sample
from casebook.evaluate.forests import causal_forest
from casebook.forecasting import recurrent

rng, n = np.random.default_rng(0), 6_000
x = pd.DataFrame(rng.random((n, 2)), columns=["a", "b"]).mask(rng.random((n, 2)) < 0.1)
effect = np.where(x["a"] > 0.5, 0.4, -0.2)
chance = np.where(x["b"] > 0.5, 0.5, 0.2)
drawn = rng.random(n) < chance
lost = rng.random(n) < 0.4 - effect * drawn
sample = Sample(x, lost, drawn, chance, rng.integers(500, size=n))
found = causal_forest(sample, {"n_estimators": 20, "min_samples_leaf": 50})(x)
print(np.corrcoef(found, effect)[0, 1] > 0.8, abs(found.mean() - effect.mean()) < 0.1)

weeks = np.sort(rng.integers(20, size=(n, 12)), axis=1)
falls = rng.random(n) < 0.5
weeks[falls] = weeks[falls, ::-1]
fit, test = slice(0, 4_000), slice(4_000, n)
for event in (rng.random(n) < np.where(falls, 0.8, 0.2), rng.random(n) < 0.5):
    settings = recurrent.Settings(width=8, epochs=10, learning_rate=1e-2)
    predict = recurrent.fit(weeks[fit], x[fit], event[fit], settings)
    again = recurrent.fit(weeks[fit], x[fit], event[fit], settings)
    p = predict(weeks[test], x[test])
    assert np.array_equal(p, again(weeks[test], x[test]))
    print(round(roc_auc_score(event[test], p), 1))
"""


def test_the_forest_finds_an_effect_and_the_network_an_order_and_nothing_where_there_is_none():
    sources = [Path(module.__file__) for module in (forests, recurrent)]
    key = rotation.key_of(LEARNERS, ROOT / "constraints-artifacts.txt", *sources)
    with rotation.turn("sample", "learners", key, among=cases()):
        result = run("-c", LEARNERS)
        assert result.stdout.split() == ["True", "True", "0.8", "0.5"], result.stderr


#: Check the artifacts and then a copy in another folder by the same network: it is trained once.
TWICE = """
import functools, pathlib, sys
from casebook.cases.demand_forecasting import artifacts as demand
from casebook.recorded import artifacts

demand.forecasts_at = functools.cache(demand.forecasts_at)
demand.trial = functools.cache(demand.trial)
returned = artifacts.main(["check", "01", "--seed", sys.argv[2]])
print("-- planted", flush=True)
artifacts.data_dir = lambda: pathlib.Path(sys.argv[1])
sys.exit(returned or 10 + artifacts.main(["check", "01", "--seed", sys.argv[2]]))
"""


def plant(folder: Path, file: str, change) -> None:
    """Change a table and its hash in the manifest, so that only the sample can tell."""
    path = folder / file
    parquet = path.suffix == ".parquet"
    changed = change(pd.read_parquet(path) if parquet else pd.read_csv(path))
    changed.to_parquet(path, index=False) if parquet else changed.to_csv(path, index=False)
    edit(folder, file, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("case", [CASE])
def test_a_random_sample_made_anew_agrees_and_a_changed_one_does_not(copied, case):
    """One network is trained, which chance chooses, and compared with both."""
    seed = secrets.randbelow(10_000)
    with rotation.turn("sample", case, sample_key(case), among=cases()):

        def raised(table: pd.DataFrame) -> pd.DataFrame:
            rows = table["unique_id"] == "FR/FR2"
            return table.assign(**{n: table[n].where(~rows, 1.5 * table[n]) for n in demand.CHOSEN})

        plant(copied, "forecasts.parquet", raised)
        plant(copied, "trials.csv", lambda table: table.assign(mean=table["mean"] + 0.5))
        assert faults(case) == []
        result = run("-c", TWICE, str(copied.parents[1]), str(seed))
        print(result.stdout)  # the seed, for whoever reads of a failure
        whole, _, changed = result.stdout.partition("-- planted")
        assert f"agrees    {case}" in whole, result.stdout + result.stderr
        assert result.returncode == 11, result.stdout + result.stderr
        network = demand.draw(np.random.default_rng(seed))[0]
        said = "trial: mean is" if network == "trial" else f"{network}: the forecasts of FR/FR2"
        assert said in changed
