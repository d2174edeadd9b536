"""A release names one tag everywhere, and CI refuses to publish any other."""

from __future__ import annotations

import pytest
import tiny

from casebook.author import files, release
from casebook.author.launch import BADGES_ID, COLAB_ID


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a copy of the checkout with its package (the tests of this module go in order)."""
    return tiny.copy_of_the_checkout(tmp_path_factory.mktemp("release") / "course")


def command(course, *arguments: str):
    return tiny.run("casebook.author", *arguments, cwd=course, PYTHONPATH=str(course))


def test_the_tag_is_written_into_every_notebook(course):
    done = command(course, "release", "v9.8.7")
    assert done.returncode == 0, done.stdout
    assert release.declared(course) == "v9.8.7"
    for path in files.notebooks(root=course):
        cells = {cell.id: cell.source for cell in files.read(path).cells}
        assert '@v9.8.7"' in cells[COLAB_ID], path
        assert "/v9.8.7/requirements.txt" in cells[COLAB_ID], path
        assert "/blob/v9.8.7/" in cells[BADGES_ID], path
    assert command(course, "release", "--check", "v9.8.7").returncode == 0


def test_gate_another_tag_is_refused(course):
    done = command(course, "release", "--check", "v9.8.8")
    assert done.returncode == 1
    assert "names the release 'v9.8.7', not 'v9.8.8'" in done.stdout


def test_gate_a_notebook_of_another_release_is_refused(course):
    path = files.notebooks("chapters", root=course)[0]
    old = next(c.source for c in files.read(path).cells if c.id == COLAB_ID)
    tiny.plant(path, COLAB_ID, source=old.replace("v9.8.7", "v9.8.6"))
    done = command(course, "release", "--check", "v9.8.7")
    assert done.returncode == 1
    assert "cell 'colab-set-up' is missing or not as generated" in done.stdout


@pytest.mark.parametrize("tag", ["", "9.8", "v9", "main", 'v9.8"', "v9.8; x"])
def test_no_tag(course, tag):
    before = (course / "pyproject.toml").read_text()
    with pytest.raises(ValueError, match="no tag of a release"):
        release.set_release(course, tag)
    assert (course / "pyproject.toml").read_text() == before


def test_a_pyproject_without_the_line(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.casebook]\n")
    with pytest.raises(ValueError, match="0 lines"):
        release.set_release(tmp_path, "v1.2")
