"""Some cases are executed without public data, too: 00, one by rotation, all when asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import rotation
import without_data

COMMITS = [f"{number:040x}" for number in range(40)]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Collect the commands that are started, in a checkout with four cases."""
    for name in ("00_a", "01_b", "02_c", "A_d"):
        (tmp_path / "chapters" / f"{name}.ipynb").parent.mkdir(exist_ok=True)
        (tmp_path / "chapters" / f"{name}.ipynb").touch()
    commands = []

    def run(command, cwd, env):
        commands.append((command[command.index("nbval") + 1 :], env["CASEBOOK_REAL_DATA"]))
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(without_data.subprocess, "run", run)
    monkeypatch.setattr(without_data, "require_checkout", lambda: tmp_path)
    monkeypatch.setattr(without_data, "present", lambda: ["tourism"])
    monkeypatch.setattr(rotation, "everything", lambda: False)
    return commands


def test_the_first_chapter_and_one_that_the_commit_chooses(started, monkeypatch):
    for commit in COMMITS:
        monkeypatch.setattr(rotation, "commit", lambda at=commit: at)
        assert without_data.main([]) == 3  # the exit code of nbval
    assert {mode for _, mode in started} == {"off"}
    assert {tuple(which) for which, _ in started} == {("00", "01"), ("00", "02"), ("00", "A")}


def test_every_case_when_everything_runs(started, monkeypatch):
    monkeypatch.setattr(rotation, "everything", lambda: True)
    without_data.main([])
    assert started == [(["00", "01", "02", "A"], "off")]


def test_one_case_alone_leaves_it_out_and_says_so(started, capsys):
    assert without_data.main(["07"]) == 0
    assert "left out, for `make test-all`: case 07 without public data" in capsys.readouterr().out
    assert started == []


def test_where_no_data_are_nothing_is_executed_again(started, monkeypatch):
    monkeypatch.setattr(without_data, "present", lambda: [])
    assert without_data.main([]) == 0
    assert started == []
