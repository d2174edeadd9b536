"""The first two cells of every notebook: where to run it, and set-up on Colab.

Both are written by the normaliser from the public address in pyproject.toml,
so that the address stands in one place.
"""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from casebook.project import settings

BADGES_ID = "launch-badges"
COLAB_ID = "colab-set-up"
#: Where the answers to an exercise are safe.
KEEPING = (
    "Your answers: on your machine, `make lab` opens `work/`, and `work/{name}` is your own copy, "
    "which no command of the course changes. In Colab, *File → Save a copy in Drive*. On Binder, "
    "download the notebook before you leave."
)


def _address() -> tuple[str, str, str]:
    """Return the repository's URL, its ``owner/name`` and the published release."""
    repository = settings()["repository"].rstrip("/")
    return repository, "/".join(repository.split("/")[-2:]), settings()["release"]


def colab_url(path: str) -> str:
    """Return the address that opens ``path`` of the release in Colab."""
    _, slug, release = _address()
    return f"https://colab.research.google.com/github/{slug}/blob/{release}/{path}"


def binder_url(path: str) -> str:
    """Return the address that opens ``path`` of the release in JupyterLab on Binder.

    An exercise opens as its working copy, which ``binder/postBuild`` makes.
    """
    _, slug, release = _address()
    return working(f"https://mybinder.org/v2/gh/{slug}/{release}?urlpath=lab/tree/{path}")


def working(url: str) -> str:
    """Return an address of JupyterLab with the working copy in place of the exercise."""
    return url.replace("lab/tree/exercises/", "lab/tree/work/")


def badges(path: str) -> NotebookNode:
    """Return the cell with the links that open this notebook elsewhere.

    An exercise also says where answers are kept. The rendered book has its own launch
    buttons and hides the cell.
    """
    repository, _, release = _address()
    source = (
        f"Run it: [in Colab]({colab_url(path)}) · [on Binder]({binder_url(path)}) · "
        f"[file in the repository]({repository}/blob/{release}/{path})"
    )
    if path.startswith("exercises/"):
        source += f"\n\n{KEEPING.format(name=path.removeprefix('exercises/'))}"
    cell = new_markdown_cell(source, metadata={"tags": ["remove-cell"]})
    cell.id = BADGES_ID
    return cell


def colab_set_up(group: str) -> NotebookNode:
    """Return the cell that installs the course's release on Colab and does nothing elsewhere.

    Parameters
    ----------
    group : str
        Optional-dependency group of the chapter; empty for none.
    """
    repository, slug, release = _address()
    requirement = f"casebook[{group}]" if group else "casebook"
    source = f'''\
# On Colab this installs the course's release; elsewhere it does nothing.
import os
import sys

if "google.colab" in sys.modules:
    source = os.environ.get(
        "CASEBOOK_SOURCE",
        "git+{repository}@{release}",
    )
    pins = os.environ.get(
        "CASEBOOK_PINS",
        "https://raw.githubusercontent.com/{slug}/{release}/requirements.txt",
    )
    try:  # after the restart that Colab may need, everything is here
        from casebook.colab import require

        require("{group}")
    except ImportError:
        %pip install --quiet "{requirement} @ {{source}}" -c {{pins}}
    from casebook.colab import stop_if_stale

    stop_if_stale("{group}")'''
    cell = new_code_cell(source, metadata={"tags": ["remove-cell"]})
    cell.id = COLAB_ID
    return cell
