"""Where the course's files are, in a checkout and in an installed package."""

from __future__ import annotations

import os
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

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


def folder_from(variable: str, env: Mapping[str, str] | None = None) -> Path | None:
    """Return the absolute path that an environment variable gives.

    A relative path starts at the checkout, wherever the process was started, so that it means the
    same to ``make``, to the kernel of a notebook and to a test. ``~`` is the home folder.

    Parameters
    ----------
    variable : str
        Such as ``"CASEBOOK_DATA_DIR"``.
    env : mapping of str to str, optional
        The environment; that of this process by default.

    Returns
    -------
    Path or None
        None where the variable is unset or empty. Whether the folder exists is not asked.
    """
    given = (os.environ if env is None else env).get(variable)
    if not given:
        return None
    start = checkout() or Path.cwd()  # without a checkout there is only the working directory
    return Path(os.path.abspath(start / os.path.expanduser(given)))


def real_data_off() -> bool:
    """Say whether ``CASEBOOK_REAL_DATA`` switches the public data off.

    Raises
    ------
    ValueError
        If its value is none of ``on``, ``off`` (in upper or lower case) and empty.
    """
    given = os.environ.get("CASEBOOK_REAL_DATA", "")
    if given.lower() not in ("", "on", "off"):
        raise ValueError(
            f"CASEBOOK_REAL_DATA is {given!r}; allowed are on and off (empty is the same as on)."
        )
    return given.lower() == "off"


def build_dir() -> Path:
    """Return the folder for everything that is built (``_build/``), made if needed.

    ``CASEBOOK_BUILD_DIR`` overrides it (:func:`folder_from`); without a checkout it is in the
    working directory.
    """
    folder = folder_from("CASEBOOK_BUILD_DIR") or (checkout() or Path.cwd()) / "_build"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` if the block ends well, and is gone if not.

    It is written beside ``path`` under a name of its own, flushed to the disk and renamed, which
    POSIX and Windows do in one step within a folder. Two processes that write the same file do
    not meet; its mode is what the umask says.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that the old one or the new one is there, never a part.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    content : bytes or callable
        The bytes, or what writes them into an open file.
    """
    with whole(path) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


@cache
def settings() -> dict[str, str]:
    """Return ``[tool.casebook]`` of pyproject.toml: ``repository`` and ``release``."""
    with open(require_checkout() / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["tool"]["casebook"]


def in_book() -> bool:
    """Say whether the running kernel produces a page of the rendered book."""
    return os.environ.get("CASEBOOK_BOOK") == "1"
