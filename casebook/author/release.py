"""A release: one tag in pyproject.toml, in every launch link and in every Colab cell."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TAG = re.compile(r"v\d+(\.\d+)+")
_LINE = re.compile(r'^release = ".*"$', flags=re.M)


def set_release(root: Path, tag: str) -> None:
    """Write the tag into ``[tool.casebook]`` of pyproject.toml.

    Raises
    ------
    ValueError
        If the tag is not of the form ``v1.2``, or the line does not stand there once.
    """
    if not TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no tag of a release: write v and numbers, such as v1.2.")
    path = root / "pyproject.toml"
    text, count = _LINE.subn(f'release = "{tag}"', path.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f'{path} has {count} lines `release = "…"`; there must be one.')
    path.write_text(text, encoding="utf-8")


def declared(root: Path) -> str:
    """Return the release that pyproject.toml names."""
    with open(root / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["tool"]["casebook"]["release"]
