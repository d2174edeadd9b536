"""The parts of a service that training makes, each in a file of its own: one may be broken.

It trusts the folder, which is the service's own: a pickle can run code.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> save(folder.name, {"model": [1.0, 2.0], "history": {"A": 3}})
>>> load(folder.name, {"model": list, "history": dict, "zones": set})[0]
{'model': [1.0, 2.0], 'history': {'A': 3}}
>>> load(folder.name, {"model": dict})
({}, ['model.pickle: TypeError: holds a list, not dict'])
>>> folder.cleanup()
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from casebook.project import write_whole


def save(folder: Path | str, parts: Mapping[str, Any]) -> None:
    """Write each part to ``NAME.pickle``; a reader sees the old file or the new one."""
    for name, part in parts.items():
        write_whole(Path(folder) / f"{name}.pickle", pickle.dumps(part))


def load(folder: Path | str, kinds: Mapping[str, type]) -> tuple[dict[str, Any], list[str]]:
    """Read what :func:`save` wrote; a file that is missing or broken takes no other with it.

    Parameters
    ----------
    folder : Path or str
    kinds : mapping of str to type
        What each part must be.

    Returns
    -------
    parts : dict
        What could be read.
    missing : list of str
        Each file that could not, and why.
    """
    found: dict[str, Any] = {}
    missing: list[str] = []
    for name, kind in kinds.items():
        try:
            part = pickle.loads((Path(folder) / f"{name}.pickle").read_bytes())
            if not isinstance(part, kind):
                raise TypeError(f"holds a {type(part).__name__}, not {kind.__name__}")
            found[name] = part
        except Exception as error:  # what a broken pickle raises has no common name
            missing.append(f"{name}.pickle: {type(error).__name__}: {error}"[:200])
    return found, missing
