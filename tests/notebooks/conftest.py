"""Nothing that these tests start writes outside their temporary folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import tiny


@pytest.fixture(autouse=True, scope="module")
def own_folders(tmp_path_factory):
    """Give Jupyter, IPython, pre-commit and git folders of this session's own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        patch.setenv("PRE_COMMIT_HOME", str(home / "pre-commit"))
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        # nbgrader calls alembic by its name, as in an activated environment.
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("NBGRADER_EXECUTION", raising=False)
        yield


@pytest.fixture
def checkout(tmp_path) -> Path:
    """Return a checkout with no notebook in it."""
    return tiny.checkout(tmp_path / "checkout")
