"""YAML files that a build reads again and again: parsed once for each content."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

import yaml

#: libyaml's loader reads the same language, about ten times faster.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> object:
    """Return what a YAML file holds; the caller may change it.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    yaml.YAMLError
        If it is not YAML.
    """
    return copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))


@lru_cache(maxsize=256)
def _parsed(text: str) -> object:
    return yaml.load(text, LOADER)
