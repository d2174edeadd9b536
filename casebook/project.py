"""Where the course's files are, in a checkout and in an installed package."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def checkout() -> Path | None:
    """Return the folder of the checkout, or None where only the package is installed."""
    root = _PACKAGE.parent
    return root if (root / "_toc.yml").is_file() else None


def require_checkout() -> Path:
    """Return the folder of the checkout.

    Raises
    ------
    RuntimeError
        If the course runs from an installed package (as on Colab).
    """
    root = checkout()
    if root is None:
        raise RuntimeError(
            "This command works on a checkout of the course, and casebook is installed "
            f"without one (in {_PACKAGE}). Clone the repository and run it there."
        )
    return root


def data_dir() -> Path:
    """Return the folder of the committed snapshots (``data/``)."""
    root = checkout()
    return root / "data" if root else _PACKAGE / "_data"


def solutions_dir() -> Path:
    """Return the folder of the solutions, in the checkout or in the installed package."""
    root = checkout()
    return root / "solutions" if root else _PACKAGE / "_solutions"


def build_dir() -> Path:
    """Return the folder for everything that is built (``_build/``), made if needed.

    ``CASEBOOK_BUILD_DIR`` overrides it; without a checkout it stands in the
    working directory.
    """
    default = (checkout() or Path.cwd()) / "_build"
    folder = Path(os.environ.get("CASEBOOK_BUILD_DIR") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that the old one or the new one is there, never a part.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    content : bytes
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


@cache
def settings() -> dict[str, str]:
    """Return ``[tool.casebook]`` of pyproject.toml: ``repository`` and ``release``."""
    with open(require_checkout() / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["tool"]["casebook"]


def in_book() -> bool:
    """Say whether the running kernel produces a page of the rendered book."""
    return os.environ.get("CASEBOOK_BOOK") == "1"
