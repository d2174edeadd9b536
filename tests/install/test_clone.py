"""A clone has the committed bytes whatever git is told, and ignores what its users make."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from casebook.project import require_checkout

ROOT = require_checkout()
#: Git as on a machine of nobody: no settings of the user or the system.
ENV = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
AUTHOR = ("-c", "user.name=Reader", "-c", "user.email=reader@example.org")
#: Folders that nbgrader, readers and pip leave in the checkout.
LEFT = ("work", "autograded", "feedback", "release", "source", "submitted", "build", "classes")


def git(*arguments: str | Path, cwd: Path) -> str:
    """Run git; return what it printed."""
    done = subprocess.run(
        ["git", *map(str, arguments)], cwd=cwd, env=ENV, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """Return a repository with the files that git tracks or would track here."""
    root = tmp_path_factory.mktemp("origin") / "course"
    root.mkdir()
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    git("init", "-q", cwd=root)
    git("add", "-A", cwd=root)
    git(*AUTHOR, "commit", "-q", "-m", "Copy", cwd=root)
    return root


def clone(origin: Path, target: Path) -> Path:
    """Clone as on a machine where git turns line ends into those of Windows."""
    options = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    git("clone", "-q", *options, origin, target, cwd=target.parent)
    return target


def hash_faults(root: Path) -> list[str]:
    """Return the recorded tables that do not have the hash beside them."""
    metas = sorted(root.glob("data/*/benchmarks/*.json"))
    assert metas
    return [
        meta.stem
        for meta in metas
        if hashlib.sha256(meta.with_suffix(".csv").read_bytes()).hexdigest()
        != json.loads(meta.read_text(encoding="utf-8"))["sha256"]
    ]


def changed(one: Path, other: Path) -> list[str]:
    """Return the tracked files whose bytes differ."""
    names = filter(None, git("ls-files", "-z", cwd=one).split("\0"))
    return [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]


def test_a_clone_with_crlf_has_the_committed_bytes(origin, tmp_path):
    copy = clone(origin, tmp_path / "clone")
    assert changed(origin, copy) == []
    assert git("status", "--porcelain", cwd=copy) == ""
    for script in (".ci/run", "binder/postBuild"):
        subprocess.run(["bash", "-n", copy / script], check=True)
    assert hash_faults(copy) == []


def test_without_gitattributes_recorded_files_and_scripts_change(origin, tmp_path):
    """The planted fault."""
    bare = tmp_path / "bare"
    git("clone", "-q", origin, bare, cwd=tmp_path)
    git("rm", "-q", ".gitattributes", cwd=bare)
    git(*AUTHOR, "commit", "-q", "-m", "Without", cwd=bare)
    found = changed(bare, clone(bare, tmp_path / "clone"))
    assert {".ci/run", "binder/postBuild"} <= set(found)
    assert hash_faults(tmp_path / "clone") != []
    broken = subprocess.run(["bash", "-n", tmp_path / "clone" / ".ci/run"], capture_output=True)
    assert broken.returncode != 0


def read_by_ruff(root: Path) -> int:
    """Return how many of the files that were left ruff would read."""
    listed = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files", "--no-cache", "."],
        cwd=root,
        env=ENV,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return sum(Path(name).name == "left.py" for name in listed)


def test_git_and_ruff_ignore_what_readers_and_teachers_make(origin, tmp_path):
    copy = clone(origin, tmp_path / "clone")
    for folder in LEFT:
        (copy / folder / "00_x").mkdir(parents=True)
        (copy / folder / "00_x" / "left.py").write_text("import  os;x=1\n", encoding="utf-8")
    for name in ("gradebook.db", "gradebook.db-journal", "grades.csv"):
        (copy / name).touch()
    assert git("status", "--porcelain", "--untracked-files=all", cwd=copy) == ""
    assert read_by_ruff(copy) == 0
    (copy / ".gitignore").write_text("", encoding="utf-8")  # the planted fault
    assert "submitted/00_x/left.py" in git("status", "--porcelain", "-uall", cwd=copy)
    assert read_by_ruff(copy) > 0


def test_building_from_the_checkout_leaves_nothing_in_it(origin, tmp_path):
    copy = clone(origin, tmp_path / "clone")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", tmp_path, copy]
    subprocess.run([*map(str, command)], check=True, env={**ENV, "PIP_CONFIG_FILE": os.devnull})
    [_] = tmp_path.glob("casebook-*.whl")
    assert not (copy / "build").exists()
    assert git("status", "--porcelain", cwd=copy) == ""
