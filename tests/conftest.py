"""What all tests share: where the real data are, and where built files go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

#: CPU seconds by case, one case alone, the order of files.
pytest_plugins = ["testrunner"]

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
NOBODY = 65534

# At import, so that every kernel and subprocess of the session inherits it.
if SHARED_DATA.is_dir():
    os.environ.setdefault("CASEBOOK_DATA_DIR", str(SHARED_DATA))


@pytest.fixture
def build_folder(tmp_path, monkeypatch) -> Path:
    """Build into a folder of this test's own instead of ``_build``."""
    folder = tmp_path / "_build"
    monkeypatch.setenv("CASEBOOK_BUILD_DIR", str(folder))
    return folder


@pytest.fixture
def without_rights():
    """Run a test as a user without special rights, in a folder of its own.

    Root may read and write everything, so a test that is run by root becomes nobody for a while.
    """
    import encodings.idna  # noqa: F401  nobody may not load modules of root's Python

    import pooch  # noqa: F401
    import requests  # noqa: F401

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = getattr(os, "geteuid", lambda: 1)() == 0
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


@pytest.fixture(scope="session")
def needs_real_data() -> Path:
    """Return the local tourism file; skip the test where there is none."""
    from casebook.data import find_real

    path = find_real("tourism")
    if path is None:
        pytest.skip(
            "the tourism file is neither in CASEBOOK_DATA_DIR nor in the cache, "
            "or real data are switched off (CASEBOOK_REAL_DATA=off)"
        )
    return path


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """Collect what the toolbox displays: one bundle (MIME type to content) for each output."""
    import casebook.exercises.grading
    import casebook.page.claims
    import casebook.page.figures

    bundles: list[dict] = []

    def display(bundle: dict, *, raw: bool) -> None:
        assert raw, "without raw=True the page would show the dictionary itself"
        bundles.append(bundle)

    for module in (casebook.page.claims, casebook.page.figures, casebook.exercises.grading):
        monkeypatch.setattr(module, "display", display)
    return bundles
