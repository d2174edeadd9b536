"""Artifacts: read after their hash was checked, made with a manifest, every difference found."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from casebook.project import require_checkout
from casebook.recorded import artifacts
from casebook.recorded.artifacts import (
    MANIFEST,
    Recipe,
    artifact,
    check,
    faults,
    frame_hash,
    main,
    make,
)

CASE = "07_planted"
COMMAND = "make artifacts N=07"
ENTRY = ["command", "inputs", "versions", "seeds", "seconds", "rows", "sha256"]


def forecasts() -> pd.DataFrame:
    return pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=3), "y": [1 / 3, 2.0, 3.0]})


def other_forecasts() -> pd.DataFrame:
    return forecasts().assign(y=0.0)


def trials() -> pd.DataFrame:
    return pd.DataFrame({"log": [True, False], "WAPE": [1 / 3, 0.25]})


def nothing() -> pd.DataFrame:
    return trials().iloc[:0]


def fails() -> pd.DataFrame:
    raise OSError("the disk is full")


def recompute(stored, rng):
    """Compare one drawn row with what is made now."""
    made, row = forecasts(), int(rng.integers(1000)) % 3
    same = stored["forecasts.parquet"]["y"][row] == made["y"][row]
    return f"row {row}", [] if same else [f"row {row} differs"]


@pytest.fixture
def planted(tmp_path, monkeypatch) -> SimpleNamespace:
    """Plant a case with two artifacts; ``folder`` holds them once they were made."""
    module = SimpleNamespace(
        ARTIFACTS={
            "forecasts.parquet": Recipe(forecasts, {"panel": lambda: "abc"}, {"world": 7}),
            "trials.csv": Recipe(trials),
        },
        PACKAGES=("numpy", "pandas"),
        recompute=recompute,
    )
    monkeypatch.setattr(artifacts, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(artifacts, "case_of", {"07": CASE}.__getitem__)
    monkeypatch.setattr(artifacts, "builder", lambda case: module)
    folder = tmp_path / CASE / "artifacts"
    return SimpleNamespace(module=module, folder=folder, manifest=folder / MANIFEST)


@pytest.fixture
def made(planted) -> SimpleNamespace:
    make(CASE)
    return planted


def edit_manifest(planted, file: str, **values) -> None:
    entries = json.loads(planted.manifest.read_text())
    entries[file].update(values)
    planted.manifest.write_text(json.dumps(entries))


def plant_forecast(planted, **columns) -> None:
    """Change a forecast, and the manifest's hash with it: what only the sample can find."""
    path = planted.folder / "forecasts.parquet"
    forecasts().assign(**columns).to_parquet(path)
    edit_manifest(
        planted, path.name, sha256=artifacts.hashlib.sha256(path.read_bytes()).hexdigest()
    )


# Making and reading ------------------------------------------------------------------


def test_what_was_made_is_read_back(made):
    pd.testing.assert_frame_equal(artifact(CASE, "forecasts.parquet"), forecasts())
    pd.testing.assert_frame_equal(artifact(CASE, "trials.csv"), trials(), atol=1e-5)
    assert sorted(p.name for p in made.folder.iterdir()) == [
        "forecasts.parquet",
        MANIFEST,
        "trials.csv",
    ]


def test_the_manifest_says_how_and_names_no_machine(made):
    entries = artifacts.manifest(CASE)
    assert [*entries] == ["forecasts.parquet", "trials.csv"]
    for file, entry in entries.items():
        assert [*entry] == ENTRY
        assert entry["command"] == COMMAND
        assert entry["rows"] == len(artifact(CASE, file))
        assert entry["versions"]["pandas"] == pd.__version__
    first = entries["forecasts.parquet"]
    assert first["seeds"] == {"world": 7}
    assert [*first["inputs"]] == ["code", "panel"]
    text = made.manifest.read_text()
    assert str(Path.cwd()) not in text and str(made.folder) not in text
    assert not platform.node() or platform.node() not in text


def test_versions_are_those_of_the_release_not_of_the_build(monkeypatch):
    monkeypatch.setattr(artifacts.importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert artifacts._versions(["torch"]) == {"torch": "2.13.0"}


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [(fails, OSError, "disk is full"), (nothing, ValueError, "trials.csv came out empty")],
)
def test_what_goes_wrong_leaves_the_old_files(made, build, error, message):
    before = {p.name: p.read_bytes() for p in made.folder.iterdir()}
    made.module.ARTIFACTS["forecasts.parquet"] = Recipe(other_forecasts)
    made.module.ARTIFACTS["trials.csv"] = Recipe(build)
    with pytest.raises(error, match=message):
        make(CASE)
    assert {p.name: p.read_bytes() for p in made.folder.iterdir()} == before


@pytest.mark.parametrize("action", [make, check])
def test_without_the_packages_it_says_which_environment_has_them(made, action):
    made.module.PACKAGES = ("pandas", "no-such-package")
    with pytest.raises(ModuleNotFoundError, match="no-such-package not installed") as caught:
        action(CASE)
    assert "make .venv-artifacts/.installed" in str(caught.value)


@pytest.mark.parametrize(
    ("plant", "error", "message"),
    [
        (lambda p: p.manifest.unlink(), FileNotFoundError, f"run `{COMMAND}`"),
        (lambda p: (p.folder / "trials.csv").unlink(), FileNotFoundError, "trials.csv is missing"),
        (
            lambda p: (p.folder / "trials.csv").write_text("log,WAPE\nTrue,0.1\n"),
            ValueError,
            f"trials.csv was altered.*`{COMMAND}`",
        ),
    ],
    ids=["no manifest", "missing", "altered"],
)
def test_a_file_that_is_not_the_one_that_was_made_is_refused(made, plant, error, message):
    plant(made)
    with pytest.raises(error, match=message):
        artifact(CASE, "trials.csv")
    assert len(faults(CASE)) == 1
    assert main(["check", "07"]) == 1


def test_a_file_that_the_manifest_does_not_name_is_refused(made):
    (made.folder / "more.csv").write_text("a\n1\n")
    with pytest.raises(KeyError, match=r"does not name 'more\.csv'; it names: forecasts"):
        artifact(CASE, "more.csv")


# Differences -------------------------------------------------------------------------


def test_what_was_just_made_has_no_faults(made, capsys):
    assert faults(CASE) == []
    assert main(["check", "07", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert f"sample    {CASE}: seed 3" in out
    assert f"agrees    {CASE}" in out


@pytest.mark.parametrize(
    ("plant", "line"),
    [
        (
            lambda p: p.module.ARTIFACTS.update({"forecasts.parquet": Recipe(other_forecasts)}),
            f"made from other inputs: run `{COMMAND}` (code, panel changed)",
        ),
        (
            lambda p: p.module.ARTIFACTS["forecasts.parquet"].inputs.update(panel=lambda: "abd"),
            f"made from other inputs: run `{COMMAND}` (panel changed)",
        ),
        (
            lambda p: edit_manifest(p, "forecasts.parquet", command="make book"),
            f"the command 'make book' is not `{COMMAND}`",
        ),
        (
            lambda p: edit_manifest(p, "forecasts.parquet", rows=4),
            "4 rows in the manifest, 3 in the file",
        ),
        (
            lambda p: edit_manifest(p, "forecasts.parquet", seeds={"world": 8}),
            "made with the seeds {'world': 8}, not {",
        ),
        (
            lambda p: edit_manifest(p, "forecasts.parquet", versions={"pandas": "1.0"}),
            f"made with pandas 1.0, here is {pd.__version__}",
        ),
        (
            lambda p: p.module.ARTIFACTS.update({"third.csv": Recipe(trials)}),
            "third.csv is not in the manifest",
        ),
        (
            lambda p: p.module.ARTIFACTS.pop("forecasts.parquet"),
            "forecasts.parquet is in the manifest and no recipe makes it",
        ),
        (
            lambda p: (p.folder / "notes.txt").write_text("?"),
            "notes.txt is no artifact: the manifest does not name it",
        ),
    ],
    ids=["code", "input", "command", "rows", "seeds", "versions", "new", "gone", "stranger"],
)
def test_a_planted_difference_is_one_clear_line_and_no_sample_is_made(made, plant, line, capsys):
    plant(made)
    found = faults(CASE)
    # The planted recipe of other code has no seeds either.
    assert [line in fault for fault in found].count(True) == 1
    assert len(found) == (2 if "code" in line else 1)
    assert main(["check", "07"]) == 1
    out = capsys.readouterr().out
    assert f"differs   {CASE}: " in out and line in out
    assert "sample" not in out


def test_a_package_that_is_not_here_is_not_compared(made):
    edit_manifest(made, "trials.csv", versions={"no-such-package": "1.0"})
    assert faults(CASE) == []


def test_the_sample_finds_a_changed_forecast_whose_hash_was_changed_too(made, capsys):
    plant_forecast(made, y=[9.0, 9.0, 9.0])
    assert faults(CASE) == []
    assert main(["check", "07"]) == 1
    assert "differs   07_planted: row" in capsys.readouterr().out


def test_the_sample_is_drawn_by_the_printed_seed(made, capsys):
    def drawn(*arguments: str) -> list[str]:
        main(["check", "07", *arguments])
        return capsys.readouterr().out.splitlines()

    seeds, rows = set(), set()
    for _ in range(8):
        first = drawn()
        seed = first[0].rpartition(" ")[2]
        seeds.add(seed)
        rows.add(first[1])
        assert drawn("--seed", seed) == first
    assert len(seeds) > 1 and len(rows) > 1


def test_a_frame_has_one_hash():
    frame = forecasts()
    assert frame_hash(frame) == frame_hash(frame.set_axis([5, 6, 7]))
    assert frame_hash(frame) == frame_hash(frame.assign(y=frame["y"] + 1e-12))
    others = [
        frame.iloc[::-1],
        frame.rename(columns={"y": "x"}),
        frame.assign(y=frame["y"] + 1e-3),
        frame.iloc[1:],
    ]
    assert len({frame_hash(f) for f in [frame, *others]}) == 5


# Cases -------------------------------------------------------------------------------


def test_the_cases_with_artifacts_are_found():
    assert "01_demand_forecasting" in artifacts.cases()
    assert "00_how_a_case_works" not in artifacts.cases()
    assert hasattr(artifacts.builder("01_demand_forecasting"), "ARTIFACTS")


@pytest.mark.parametrize("given", ["local", "local_model"])
def test_what_belongs_to_no_case_is_known_by_two_names(given):
    assert artifacts._named(given) == "local_model" in artifacts.cases()
    assert artifacts.command("local_model") == "make artifacts N=local"
    assert artifacts._named("01") == artifacts._named("01_demand_forecasting")


def test_a_case_without_artifacts_says_so(capsys):
    with pytest.raises(KeyError, match="00_how_a_case_works has no artifacts"):
        artifacts.builder("00_how_a_case_works")
    for number, words in (("00", "has no artifacts"), ("99", "No case '99'")):
        with pytest.raises(SystemExit) as caught:
            main(["check", number])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


def test_the_module_and_the_builders_are_light():
    code = (
        "import sys; from casebook.recorded import artifacts; assert 'pandas' not in sys.modules\n"
        "for case in artifacts.cases(): artifacts.builder(case)\n"
        "heavy = {'torch', 'neuralforecast', 'ray', 'lightgbm', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=require_checkout())
