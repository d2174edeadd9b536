"""What is loaded is compared with what is installed, and the sentence is all that a reader sees."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import pytest
from IPython.core.interactiveshell import InteractiveShell

from casebook import colab

GROUPS = ("", "forecasting", "fraud", "llm", "retrieval")


def load(monkeypatch, name: str, loaded: object) -> None:
    """Have the kernel loaded a module that says it is of that version."""
    module = ModuleType(name)
    module.__version__ = loaded
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("group", GROUPS)
def test_no_package_of_this_environment_is_taken_for_another_version(group):
    """Also those whose own spelling of their version differs from pip's (``v1.9.0``)."""
    loaded = 0
    for name in colab._requirements(group):
        try:
            importlib.import_module(colab.MODULES.get(name, name))
        except ModuleNotFoundError:
            continue  # named otherwise: it is not compared
        loaded += 1
    assert loaded >= 10
    colab.require(group)
    assert colab.stale(group) == []
    colab.stop_if_stale(group)


@pytest.mark.parametrize(
    ("module", "name"),
    [("numpy", "numpy"), ("pyarrow", "pyarrow"), ("sklearn", "scikit-learn")],
)
def test_another_version_is_named(monkeypatch, module, name):
    load(monkeypatch, module, "0.1")
    assert colab.stale("") == [f"{name} 0.1, not {version(name)}"]
    with pytest.raises(colab.RestartNeeded, match="Runtime → Restart session, then Runtime → Run"):
        colab.stop_if_stale("")


@pytest.mark.parametrize("said", [None, "unknown", 3])
def test_what_cannot_be_compared_stops_nobody(monkeypatch, said):
    load(monkeypatch, "numpy", said)
    assert colab.stale("") == []


def test_only_the_packages_of_the_group_are_compared(monkeypatch):
    load(monkeypatch, "lightgbm", "0.1")
    assert colab.stale("") == []
    assert len(colab.stale("forecasting")) == 1


def test_a_missing_package_is_an_import_error(monkeypatch):
    """So the set-up cell installs; the group's own packages count."""
    monkeypatch.setattr(colab, "requires", lambda _: ["numpy", "nowhere; extra == 'fraud'"])
    colab.require("")
    with pytest.raises(PackageNotFoundError, match="nowhere") as caught:
        colab.require("fraud")
    assert isinstance(caught.value, ImportError)


def test_a_reader_sees_one_line_and_run_all_ends(monkeypatch, capsys):
    load(monkeypatch, "numpy", "0.1")
    shell = InteractiveShell()
    done = shell.run_cell("from casebook.colab import stop_if_stale\nstop_if_stale('')")
    assert isinstance(done.error_in_exec, colab.RestartNeeded)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert line.startswith("Everything is installed. Now choose Runtime → Restart session")
