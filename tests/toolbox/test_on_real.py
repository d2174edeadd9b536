"""Results on real data: as of this run where the data are here, else as recorded."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pandas as pd
import pytest
import rotation

import casebook.data.files
import casebook.recorded.real
from casebook.author import files, keys
from casebook.data import RealDataUnavailable, RealFile, find_real
from casebook.project import data_dir, require_checkout
from casebook.recorded import bench
from casebook.recorded.real import from_real, on_real, other_data, sources_of

ROOT = require_checkout()
REAL = [
    (folder.name, name)
    for folder in sorted(data_dir().glob("[0-9][0-9]_*"))
    for name in bench.tables(folder.name)
    if name.startswith("real_")
]
#: Relative to the largest value of a column: libraries of other machines round otherwise.
TOLERANCE = 0.01
#: Seconds of a recording above which it is repeated whole by `make test-all` alone; in every run
#: a part of it is, by a test of its case.
LONG = 30


def compared_in_part(case: str, name: str) -> bool:
    """Say whether a test of the case, by name, compares a live part of a table."""
    module = case.split("_", 1)[1]
    texts = [path.read_text() for path in (ROOT / "tests/cases").glob(f"test_{module}_*.py")]
    return any(
        re.search(rf'def test_a_live_part\w+\(.*?\):(?:(?!\ndef ).)*"{name}"', text, flags=re.S)
        for text in texts
    )


def size(table: pd.DataFrame, column: str) -> float:
    """Return what a column's values are measured by: its largest, or the width of its interval."""
    largest = float(np.nanmax(np.abs(table[column].astype(float)), initial=0.0))
    if end := re.fullmatch(r"(.*?)(?:low|high)", column):
        low, high = (table[f"{end[1]}{name}"].astype(float) for name in ("low", "high"))
        return max(largest, float(np.nanmax(high - low)))
    return largest


def differences(recorded: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    """Return where a result of this run is not the recorded one."""
    if list(recorded) != list(now) or len(recorded) != len(now):
        return [f"{recorded.shape} {list(recorded)} recorded, {now.shape} {list(now)} now"]
    found = []
    for column in recorded:
        one, other = recorded[column], now[column].reset_index(drop=True)
        if not pd.api.types.is_numeric_dtype(one):
            same = one.fillna("").astype(str) == other.fillna("").astype(str)
        else:
            slack = TOLERANCE * size(recorded, column)
            same = np.isclose(one, other, rtol=0, atol=slack, equal_nan=True)
        found += [
            f"row {row}: {column} is {other[row]}, not {one[row]}" for row in one[~same].index
        ]
    return found


def test_the_chapters_with_real_data_have_recorded_results():
    assert {case.split("_")[0] for case, _ in REAL} >= {"00", "01", "12", "16"}


@pytest.mark.parametrize(("case", "name"), REAL)
def test_no_result_on_real_data_is_stale(case, name):
    assert other_data(case, name) == [], f"run `make bench N={case[:2]} ONLY={name}`"
    assert not bench.stale(case, name), f"run `make bench N={case[:2]} ONLY={name}`"


@pytest.mark.parametrize(("case", "name"), REAL)
def test_a_result_of_this_run_is_the_recorded_one(case, name):
    recorded = bench.recorded(case, name).frame
    sources = sources_of(recorded)
    if absent := [source for source in sources if find_real(source) is None]:
        pytest.skip(f"{', '.join(absent)} not here, or real data are switched off")
    if bench.recorded(case, name).seconds > LONG and not rotation.everything():
        assert compared_in_part(case, name)
        return
    assert differences(recorded, bench.benchmarks(case)[name]()) == []


def test_a_table_that_nothing_compares_is_found():
    assert compared_in_part("01_demand_forecasting", "real_rossmann")
    assert not compared_in_part("01_demand_forecasting", "real_planted")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.assign(MASE=t["MASE"] * 1.02), "row 0: MASE"),
        (lambda t: t.assign(model=["naive", "LightGBM"]), "row 0: model is naive"),
        (lambda t: t.assign(low=0.0), "row 0: low is 0.0, not nan"),
        (lambda t: t.assign(high=np.nan), "row 1: high is nan"),
        (lambda t: t.assign(high=t["high"] + 0.02 * (t["high"] - t["low"])), "row 1: high"),
        (lambda t: t.assign(high=t["high"] + 0.005 * (t["high"] - t["low"])), None),
        (lambda t: t.iloc[:1], "recorded"),
        (lambda t: t.drop(columns="MASE"), "recorded"),
    ],
)
def test_a_result_that_differs_is_found(change, complaint):
    recorded = bench.recorded("00_how_a_case_works", "real_tourism").frame
    assert differences(recorded, recorded.copy()) == []
    found = differences(recorded, change(recorded))
    assert any(complaint in line for line in found) if complaint else found == []


# A planted result ----------------------------------------------------------------------

CASE = "01_planted"


def real_planted() -> pd.DataFrame:
    return from_real(pd.DataFrame({"model": ["naive", "ours"], "MASE": [1.0, 0.5]}), "planted")


def replace_registry(patch, entries) -> None:
    for module in (casebook.data.files, casebook.recorded.real):
        patch.setattr(module, "registry", lambda: entries)


def real_other() -> pd.DataFrame:
    return real_planted()


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Plant a registry of one file, which is here, and record a result on it."""
    entry = RealFile("planted", "Planted trips", "01_case/x.csv", "0a" * 32, "none", "this test")
    replace_registry(monkeypatch, {"planted": entry})
    monkeypatch.setattr(casebook.recorded.real, "real", lambda name: tmp_path / "x.csv")
    monkeypatch.setattr(bench, "_folder", lambda case: tmp_path / case)
    monkeypatch.setattr(bench, "benchmarks", lambda case: {"real_planted": real_planted})
    bench.record(CASE, "real_planted", real_planted)
    return tmp_path / CASE / "real_planted.json"


def absent(name):
    raise RealDataUnavailable(name, "its server cannot be reached", "Connect to the network")


def test_where_the_data_are_here_the_result_is_of_this_run(planted):
    def changed() -> pd.DataFrame:
        return real_planted().assign(MASE=0.7)

    changed.__name__ = "real_planted"
    result = on_real(CASE, changed)
    assert result.frame.to_dict("list") == {"model": ["naive", "ours"], "MASE": [0.7, 0.7]}
    assert result.caption("MASE by model.") == "MASE by model."


def test_where_they_are_absent_it_is_the_recorded_one_and_the_caption_says_so(
    planted, monkeypatch, shown
):
    monkeypatch.setattr(casebook.recorded.real, "real", absent)
    result = on_real(CASE, real_planted)
    assert result.frame.to_dict("list") == {"model": ["naive", "ours"], "MASE": [1.0, 0.5]}
    day = json.loads(planted.read_text())["date"]
    assert result.caption("MASE by model.") == (
        f"MASE by model. Recorded on {day} from Planted trips; details: "
        '`casebook.data.explain("planted")`.'
    )
    assert shown == []


@pytest.mark.parametrize("known", [{}, {"planted": "0b" * 32}])
def test_a_recording_from_another_file_is_stale(planted, monkeypatch, known):
    assert other_data(CASE, "real_planted") == []
    entries = {
        name: RealFile(name, "Planted trips", "01_case/x.csv", sha, "none", "this test")
        for name, sha in known.items()
    }
    replace_registry(monkeypatch, entries)
    assert other_data(CASE, "real_planted") == ["planted"]


def test_a_recording_by_other_code_is_stale(planted):
    assert not bench.stale(CASE, "real_planted")
    meta = json.loads(planted.read_text())
    planted.write_text(json.dumps({**meta, "fingerprint": "0" * 16}))
    assert bench.stale(CASE, "real_planted")


def test_without_a_recording_the_command_is_named(planted):
    with pytest.raises(FileNotFoundError, match="`make bench N=01` runs them"):
        on_real(CASE, real_other)


def test_how_a_file_is_found_does_not_make_a_result_stale_but_how_it_is_read_does():
    benchmark = bench.benchmarks("00_how_a_case_works")["real_tourism"]
    reached = bench._reached(benchmark).definitions
    assert not {module for module, _ in reached} & set(bench.CLOSED)
    assert ("casebook.data.tables", "tourism") in reached
    assert all(importlib.util.find_spec(module) for module in bench.CLOSED)


@pytest.mark.parametrize(("case", "name"), REAL)
def test_the_page_shows_each_result_and_depends_on_its_code_and_its_data(case, name):
    """What a cell reaches decides when a page is executed again."""
    root = require_checkout()
    reached = keys.reached(root, files.read(root / "chapters" / f"{case}.ipynb"))
    if bench.recorded(case, name).seconds > LONG:  # shown as recorded: its file is what counts
        assert name in reached.named
        return
    assert (bench.benchmarks(case)[name].__module__, name) in reached.definitions
    assert set(sources_of(bench.recorded(case, name).frame)) <= reached.named
