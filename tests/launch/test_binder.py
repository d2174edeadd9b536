"""Binder: the recipe of the image, the course in it, and links that lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
from places import bare_python, clean_environment, copy_checkout

from casebook.author import files
from casebook.author.launch import binder_url
from casebook.project import require_checkout, settings

ROOT = require_checkout()
NOTEBOOKS = files.notebooks(root=ROOT)
LINK = re.compile(r"https?://[^\s)\"'>\]]+")
#: Hosts whose links name a file of the repository.
HOSTS = ("mybinder.org", "colab.research.google.com", "github.com")


def recipe(folder: Path) -> str:
    """Return what repo2docker would build from a folder; it needs no Docker for that."""
    done = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."],
        cwd=folder,
        env=clean_environment(DOCKER_HOST="unix:///nowhere"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def recipe_faults(text: str) -> list[str]:
    """Return what a recipe lacks."""
    wanted = {
        "Python 3.11": r"Building conda environment for python=3\.11\b",
        "binder/requirements.txt installed": r'^RUN .*pip install .*-r "binder/requirements\.txt"',
        "OpenMP for LightGBM": r"^apt-get install .*\blibgomp1\b",
        "postBuild run": r"^RUN \./binder/postBuild\b",
    }
    return [what for what, pattern in wanted.items() if not re.search(pattern, text, re.M)]


def linked_file(link: str) -> str | None:
    """Return the file of this repository that a link opens; None for a link elsewhere.

    Raises
    ------
    ValueError
        If it opens another repository or another release than the published one.
    """
    parts = urlsplit(link)
    if parts.hostname not in HOSTS:
        return None
    slug, release = "/".join(settings()["repository"].split("/")[-2:]), settings()["release"]
    tree = parse_qs(parts.query).get("urlpath", [""])[0]
    for start, rest in (
        (f"/v2/gh/{slug}/{release}", tree.removeprefix("lab/tree/")),  # work/: a copy of exercises/
        (f"/github/{slug}/blob/{release}/", None),
        (f"/{slug}/blob/{release}/", None),
    ):
        if parts.path.startswith(start):
            return re.sub("^work/", "exercises/", rest or parts.path.removeprefix(start))
    if parts.hostname == "github.com" and "/blob/" not in parts.path:
        return None  # the home of some project
    raise ValueError(f"{link} does not open {slug} at {release}")


def link_faults(notebook: nbformat.NotebookNode, name: str, root: Path) -> list[str]:
    """Return the launch links of a notebook that open nothing, and those that are missing."""
    found, opened = [], {host: set() for host in HOSTS}
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for link in LINK.findall(cell.source):
            try:
                path = linked_file(link)
            except ValueError as error:
                found.append(f"{name}: {error}")
                continue
            if path is not None:
                opened[urlsplit(link).hostname].add(path)
                if not (root / path).is_file():
                    found.append(f"{name}: {link} opens {path!r}, which is not there")
    return found + [
        f"{name}: no link opens it on {host}" for host in HOSTS if name not in opened[host]
    ]


@pytest.fixture
def course(tmp_path) -> Path:
    """Return a copy of the checkout that a test may break."""
    return copy_checkout(tmp_path / "course")


def test_the_recipe_is_complete(checkout_copy):
    assert recipe_faults(recipe(checkout_copy)) == []


@pytest.mark.parametrize(
    ("broken", "missing"),
    [
        (
            "binder",
            {
                "Python 3.11",
                "binder/requirements.txt installed",
                "OpenMP for LightGBM",
                "postBuild run",
            },
        ),
        ("binder/apt.txt", {"OpenMP for LightGBM"}),
        ("binder/runtime.txt", {"Python 3.11"}),
        ("binder/postBuild", {"postBuild run"}),
    ],
)
def test_a_recipe_without_its_file_is_refused(course, broken, missing):
    path = course / broken
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert set(recipe_faults(recipe(course))) == missing


def test_binder_installs_the_pins_of_the_repository():
    folder = ROOT / "binder"
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.split() for line in lines if line and not line.startswith("#")]
    named = {option: (folder / path).resolve() for option, path in wanted}
    assert named == {"-r": ROOT / "requirements.txt", "-c": ROOT / "constraints.txt"}


def test_post_build_installs_the_course_from_its_checkout(course, tmp_path, third_party):
    """Run the real script in a bare environment; what it installs is the copy itself."""
    python = bare_python(tmp_path / "venv", third_party)
    env = clean_environment(
        PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        PIP_CONFIG_FILE=os.devnull,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INDEX="1",
    )
    where = [python, "-c", "import casebook.project as p; print(p.data_dir())"]
    before = subprocess.run(where, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'casebook'" in before.stderr, "the environment is not bare"
    script = course / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    done = subprocess.run([script], env=env, cwd=course, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = subprocess.run(where, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(after.stdout.strip()) == course / "data"
    copies = {path.name for path in (course / "work").glob("*.ipynb")}
    assert copies == {path.name for path in (course / "exercises").glob("*.ipynb")} != set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_launch_link_opens_a_file_of_the_repository(path):
    assert link_faults(files.read(path), path.relative_to(ROOT).as_posix(), ROOT) == []


@pytest.mark.parametrize(
    ("path", "opened"),
    [("exercises/00_a.ipynb", "work/00_a.ipynb"), ("chapters/00_a.ipynb", "chapters/00_a.ipynb")],
)
def test_binder_opens_the_working_copy_of_an_exercise(path, opened):
    assert binder_url(path).endswith(f"?urlpath=lab/tree/{opened}")


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("?urlpath=lab/tree/chapters/", "?urlpath=lab/tree/chapter/", "which is not there"),
        ("/github/ml-systems", "/github/someone-else", "does not open"),
        ("[on Binder](https://mybinder.org", "[on Binder](https://example.org", "no link opens it"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(right, wrong, reason):
    path = NOTEBOOKS[0]
    notebook = files.read(path)
    badges = next(cell for cell in notebook.cells if cell.id == "launch-badges")
    assert right in badges.source
    badges.source = badges.source.replace(right, wrong)
    faults = link_faults(notebook, path.relative_to(ROOT).as_posix(), ROOT)
    assert any(reason in fault for fault in faults), faults
