"""An empty registry of case 21: to make its tables takes seconds, so they are made once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from casebook.cases.deployment_pipeline.registry import Registry


@cache
def _tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder) / "registry.db")
        assert registry.version("champion") is None
        return registry.file.read_bytes()


def empty(file: Path) -> Registry:
    """Return a registry without versions, in a new file."""
    file.write_bytes(_tables())
    return Registry(file)
