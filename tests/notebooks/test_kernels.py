"""A kernel of another Python is named, with where it was found and what to do."""

from __future__ import annotations

import json
import sys

import pytest
import tiny

from casebook.author import kernels
from casebook.author.__main__ import main


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return a function that puts a kernel into a folder of JUPYTER_PATH."""

    def kernel(program: str):
        folder = tmp_path / "jupyter" / "kernels" / kernels.NAME
        folder.mkdir(parents=True)
        argv = [program, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Foreign", "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
        return folder

    return kernel


def test_the_own_kernel_is_accepted():
    assert kernels.foreign_kernel() is None
    kernels.require_own_kernel()


@pytest.mark.parametrize("program", [sys.executable, "python3", "python"])
def test_a_kernel_that_starts_this_python_is_accepted(plant, program):
    plant(program)
    assert kernels.foreign_kernel() is None


def test_a_foreign_kernel_is_named(plant):
    folder = plant("/opt/other/bin/python")
    with pytest.raises(kernels.ForeignKernel) as caught:
        kernels.require_own_kernel()
    said = str(caught.value)
    assert "\n" not in said
    assert str(folder) in said and "/opt/other/bin/python" in said and sys.prefix in said
    assert "Unset JUPYTER_PATH" in said


def test_a_foreign_kernel_of_the_user_is_to_be_removed(plant, tmp_path, monkeypatch):
    """It is in the folder of the user, as `ipykernel install --user` leaves it."""
    plant("/opt/other/bin/python")
    monkeypatch.delenv("JUPYTER_PATH")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert "jupyter kernelspec remove python3" in kernels.foreign_kernel()


def test_a_kernel_that_is_not_there_is_named():
    assert "finds no kernel 'nowhere'" in kernels.foreign_kernel("nowhere")


def test_record_says_it_in_one_line_and_changes_nothing(checkout, capfd, plant):
    path = tiny.add(checkout, "chapters/00_tiny.ipynb", tiny.checked("n", "print(3)", "2\n"))
    before = path.read_bytes()
    plant("/opt/other/bin/python")
    assert main(["--root", str(checkout), "record", "00"]) == 1
    said = capfd.readouterr().out
    assert said.startswith("failed      The kernel 'python3' that Jupyter found in ")
    assert len(said.splitlines()) == 1
    assert path.read_bytes() == before
