"""A check that passed is left out until something changes, its turn comes or everything runs."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
import rotation

NAMES = ["01_a", "02_b", "03_c"]
COMMITS = [f"{number:040x}" for number in range(60)]


@pytest.fixture(autouse=True)
def own_records(build_folder, monkeypatch):
    """Nothing is recorded, and not everything is asked for; it is the turn of 01_a."""
    monkeypatch.delenv(rotation.EVERYTHING, raising=False)
    at = next(c for c in COMMITS if rotation.chosen(NAMES, "contract", c) == "01_a")
    monkeypatch.setattr(rotation, "commit", lambda *_: at)


def run(name: str, key: str, fails: bool = False) -> str:
    """Run a check within its turn; return how it ended."""
    try:
        with rotation.turn("contract", name, key, NAMES):
            assert not fails
    except pytest.skip.Exception:
        return "left out"
    except AssertionError:
        return "failed"
    return "passed"


def test_on_a_new_machine_all_are_due():
    assert [run(name, "key") for name in NAMES] == ["passed"] * 3


def test_what_passed_is_left_out_but_for_one():
    assert [run(name, "key") for name in NAMES] == ["passed"] * 3
    assert [run(name, "key") for name in NAMES] == ["passed", "left out", "left out"]


def test_a_planted_change_makes_it_run_again(tmp_path):
    solution = tmp_path / "solution.ipynb"
    solution.write_text("x = 1")
    assert run("02_b", rotation.key_of("reached", solution)) == "passed"
    assert run("02_b", rotation.key_of("reached", solution)) == "left out"
    solution.write_text("x = 2")
    assert run("02_b", rotation.key_of("reached", solution), fails=True) == "failed"
    # A failure is not recorded, nor does the earlier pass count for it.
    assert run("02_b", rotation.key_of("reached", solution)) == "passed"
    assert run("02_b", rotation.key_of("reached otherwise", solution)) == "passed"
    assert run("02_b", rotation.key_of("reached otherwise", solution)) == "left out"


def test_parts_of_a_key_are_not_run_together():
    assert rotation.key_of("ab", "c") != rotation.key_of("a", "bc")


def test_everything_runs_when_asked(monkeypatch):
    assert run("02_b", "key") == "passed"
    monkeypatch.setenv(rotation.EVERYTHING, "1")
    assert run("02_b", "key") == "passed"


def test_kinds_of_checks_are_recorded_apart():
    rotation.passed("contract", "02_b", "key")
    assert rotation.due("contract", "02_b", "key", NAMES) == ""
    assert rotation.due("plan", "02_b", "key", NAMES) == "no pass is recorded"


def test_every_name_has_its_turn_and_one_at_a_time():
    turns = [rotation.chosen(NAMES, "contract", at) for at in COMMITS]
    assert set(turns) == set(NAMES)
    assert min(turns.count(name) for name in NAMES) >= 10
    assert turns == [rotation.chosen(NAMES[::-1], "contract", at) for at in COMMITS]
    assert turns != [rotation.chosen(NAMES, "plan", at) for at in COMMITS]


def test_the_commit_is_that_of_the_checkout_or_zeros(tmp_path, monkeypatch):
    monkeypatch.undo()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=rotation.require_checkout(), capture_output=True
    )
    assert rotation.commit() == head.stdout.decode().strip()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert rotation.commit(tmp_path) == "0" * 40


def test_a_notebook_that_is_not_executed_yet_is_executed_for_its_key(monkeypatch):
    asked = []
    made = SimpleNamespace(key="k")
    monkeypatch.setattr(rotation.execute, "stored", lambda *_: None)
    monkeypatch.setattr(rotation.execute, "executed", lambda _, name: asked.append(name) or made)
    assert rotation.notebook_key("solutions/01_a", "more") == rotation.key_of("k", "more")
    assert asked == ["solutions/01_a"]
