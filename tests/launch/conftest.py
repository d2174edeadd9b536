"""Fixtures of the launch tests; what costs seconds is made once for the session."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from places import (
    CHAPTER,
    PRELOADED,
    Colab,
    Run,
    bare_python,
    clean_environment,
    copy_checkout,
    install_old,
    site_packages,
)

from casebook.project import require_checkout

#: The last cell of the run on Colab: it says where everything came from.
WITNESS = """\
import json, sys
import casebook
from casebook.project import build_dir, data_dir
print(json.dumps({
    "colab": "google.colab" in sys.modules,
    "package": casebook.__file__,
    "data": str(data_dir()),
    "build": str(build_dir()),
}))"""


@pytest.fixture(scope="session")
def chapter() -> NotebookNode:
    """Return the committed chapter."""
    return nbformat.read(require_checkout() / "chapters" / f"{CHAPTER}.ipynb", as_version=4)


@pytest.fixture(scope="session")
def checkout_copy(tmp_path_factory) -> Path:
    """Return a clean copy of the checkout; not to be changed."""
    return copy_checkout(tmp_path_factory.mktemp("copy") / "course")


@pytest.fixture(scope="session")
def third_party(tmp_path_factory) -> Path:
    """Return a folder with all that is installed here, except the course.

    A ``.pth`` file names it. The links leave out the course's own metadata,
    so that neither Python nor pip sees the editable install.
    """
    folder = tmp_path_factory.mktemp("third_party")
    for scheme in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(scheme).iterdir():
            if "casebook" not in entry.name and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def make_colab(tmp_path_factory, third_party, checkout_copy) -> Callable[..., Colab]:
    """Return a function that makes a fresh stand-in for Colab.

    It has ``google.colab`` in ``sys.modules`` before the first cell, as Colab
    has, and neither network nor package index. With ``old=True`` its kernel has also
    loaded what Colab's has, in versions that the course replaces (:func:`places.install_old`).
    """

    def make(old: bool = False) -> Colab:
        folder = tmp_path_factory.mktemp("colab")
        python = bare_python(folder / "venv", third_party)
        stub = site_packages(python) / "google" / "colab"
        stub.mkdir(parents=True)
        (stub / "__init__.py").touch()
        startup = folder / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        preloaded = PRELOADED if old else {}
        imports = "".join(f"import {name}\n" for name in ("google.colab", *preloaded))
        (startup / "00-colab.py").write_text(imports, encoding="utf-8")
        index = folder / "index"
        if old:
            install_old(python, index)
        kernel = folder / "jupyter" / "kernels" / "python3"
        kernel.mkdir(parents=True)
        argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Bare Python", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        (content := folder / "content").mkdir()
        env = clean_environment(
            CASEBOOK_SOURCE=checkout_copy.as_uri(),
            CASEBOOK_PINS=checkout_copy / "requirements.txt",
            CASEBOOK_REAL_DATA="off",
            IPYTHONDIR=folder / "ipython",
            JUPYTER_PATH=folder / "jupyter",
            JUPYTER_CONFIG_DIR=folder / "config",
            JUPYTER_RUNTIME_DIR=folder / "runtime",
            PIP_CONFIG_FILE=os.devnull,
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_FIND_LINKS=index if old else "",
            PIP_NO_INDEX="1",
            PIP_NO_BUILD_ISOLATION="0",  # pip reads it as "build isolation: no"
        )
        return Colab(python, content, env)

    return make


@pytest.fixture(scope="session")
def colab(make_colab) -> Colab:
    """Return the Colab in which the chapter runs."""
    return make_colab(old=True)


@pytest.fixture(scope="session")
def with_witness(chapter) -> NotebookNode:
    """Return the chapter with a last cell that says where everything came from."""
    notebook = nbformat.from_dict({**chapter, "cells": [*chapter.cells]})
    notebook.cells.append(new_code_cell(WITNESS, id="witness"))
    return notebook


@pytest.fixture(scope="session")
def colab_stop(colab, with_witness) -> Run:
    """Press Run All in a fresh session, which has loaded other versions."""
    missing = subprocess.run(
        [colab.python, "-c", "import casebook"],
        env=colab.env,
        cwd=colab.content,
        capture_output=True,
        text=True,
    )
    assert "No module named 'casebook'" in missing.stderr, "the bare environment has the course"
    return colab.run(with_witness, CHAPTER)


@pytest.fixture(scope="session")
def colab_run(colab, colab_stop, with_witness) -> Run:
    """Execute the whole chapter after the restart that the first run asks for."""
    return colab.run(with_witness, CHAPTER)
