"""Where a reader opens a notebook: a clean copy of the checkout, an environment, a Colab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from casebook.project import require_checkout

CHAPTER = "00_how_a_case_works"
#: Settings of the calling session that a reader's machine would not have.
FOREIGN = ("CASEBOOK_", "COV_", "IPYTHON", "JUPYTER", "NBGRADER_", "PIP_", "PYTEST", "PYTHON")


def clean_environment(**values: str | Path) -> dict[str, str]:
    """Return the environment variables of a machine that knows nothing of this session."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and name != "VIRTUAL_ENV"
    }
    return kept | {name: str(value) for name, value in values.items()}


def copy_checkout(target: Path) -> Path:
    """Copy what git tracks or would track, and nothing else, into a new folder."""
    root = require_checkout()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (source := root / name).is_file():  # a deleted file stays listed until the commit
            goal = target / name
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, goal)
    return target


def bare_python(folder: Path, third_party: Path) -> Path:
    """Make an environment with the course's third-party packages and without the course."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, env=clean_environment())
    python = folder / "bin" / "python"
    (site_packages(python) / "third_party.pth").write_text(f"{third_party}\n", encoding="utf-8")
    return python


def site_packages(python: Path) -> Path:
    """Return the folder in which the environment of ``python`` installs."""
    (folder,) = python.parent.parent.glob("lib/python*/site-packages")
    return folder


#: What Colab's kernel has loaded before the first cell, in versions that the course replaces.
PRELOADED = {"numpy": "2.0.2", "pandas": "2.2.2", "matplotlib": "3.10.0", "pyarrow": "18.1.0"}
#: A package of such a version. As with the real ones, what is loaded works while its files
#: are there; when pip has replaced them, whatever is not loaded yet cannot be loaded any more.
OLD_MODULE = """\
__version__ = {version!r}


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise ImportError(
        f"{{__name__}} {{__version__}} is loaded and its files are those of another version: "
        "binary incompatibility"
    )
"""
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: places\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def install_old(python: Path, index: Path) -> None:
    """Give an environment the packages that Colab loads at its start, in other versions.

    The real ones cannot be installed here: no index is asked. So each is a module of that
    name and version in the environment's own folder, before the folder of third-party
    packages, with the metadata by which pip removes it. ``index`` gets a wheel for the
    pinned version that has metadata only: when pip has installed it, the old module is
    gone and Python finds the real package of that version among the third-party ones.
    """
    site = site_packages(python)
    index.mkdir()
    for name, old in PRELOADED.items():
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(OLD_MODULE.format(version=old), encoding="utf-8")
        info = site / f"{name}-{old}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(name=name, version=old), encoding="utf-8")
        (info / "INSTALLER").write_text("pip\n", encoding="utf-8")
        listed = [f"{name}/__init__.py", *(f"{info.name}/{p}" for p in ("METADATA", "INSTALLER"))]
        record = "".join(f"{path},,\n" for path in [*listed, f"{info.name}/RECORD"])
        (info / "RECORD").write_text(record, encoding="utf-8")
        pinned = version(name)
        assert pinned != old, f"{name} {old} is pinned now; name another one in PRELOADED"
        folder = f"{name}-{pinned}.dist-info"
        members = {
            f"{folder}/METADATA": METADATA.format(name=name, version=pinned),
            f"{folder}/WHEEL": WHEEL,
            f"{folder}/RECORD": "".join(
                f"{folder}/{p},,\n" for p in ("METADATA", "WHEEL", "RECORD")
            ),
        }
        with zipfile.ZipFile(index / f"{name}-{pinned}-py3-none-any.whl", "w") as wheel:
            for member, text in members.items():
                wheel.writestr(member, text)


@dataclass(frozen=True)
class Run:
    """A notebook that was executed elsewhere.

    Attributes
    ----------
    code : int
        Exit code; 0 when every cell ran.
    log : str
        What the command printed.
    notebook : NotebookNode or None
        With its outputs; None when a cell failed.
    """

    code: int
    log: str
    notebook: NotebookNode | None


@dataclass(frozen=True)
class Colab:
    """A stand-in for a fresh Colab runtime.

    Attributes
    ----------
    python : Path
        Its interpreter.
    content : Path
        Its working directory (``/content`` on Colab).
    env : dict
        Its environment variables.
    """

    python: Path
    content: Path
    env: dict[str, str]

    def run(self, notebook: NotebookNode, name: str) -> Run:
        """Execute a notebook from its first cell to its last."""
        source, result = self.content / f"{name}.ipynb", self.content / f"{name}-run.ipynb"
        nbformat.write(notebook, source)
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute"]
        command += ["--ExecutePreprocessor.timeout=240", "--output", result.name, str(source)]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=400, cwd=self.content
        )
        executed = nbformat.read(result, as_version=4) if result.is_file() else None
        log = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)  # without colours
        return Run(done.returncode, log, executed)
