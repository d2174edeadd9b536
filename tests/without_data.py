"""Execute and compare some cases as where no public data are: ``python tests/without_data.py``.

Chapter 00 and one other case, which the commit chooses; every case when everything runs
(``make test-all``); none when one case alone was asked for, or when this run has no data anyway.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import rotation
import testrunner

from casebook.data.files import find_real, registry
from casebook.project import require_checkout

FIRST = "00"


def numbers(root: Path) -> list[str]:
    """Return the numbers of the cases to run without public data."""
    every = [name.split("_")[0] for name in testrunner.case_names(root)]
    others = [number for number in every if number != FIRST]
    if rotation.everything() or not others:
        return every
    return [*(n for n in every if n == FIRST), rotation.chosen(others, "without-data")]


def present() -> list[str]:
    """Return the public data sets that this run has used."""
    return [name for name in registry() if find_real(name)]


def main(arguments: Sequence[str]) -> int:
    """Run nbval without public data; return its exit code."""
    if arguments:
        print(f"left out, for `make test-all`: case {' '.join(arguments)} without public data")
        return 0
    if not present():
        print("no public data are here: the notebooks have been executed without them")
        return 0
    root = require_checkout()
    which = numbers(root)
    print(f"without public data: {', '.join(which)}", flush=True)
    command = [sys.executable, "-m", "casebook.author", "nbval", *which]
    return subprocess.run(
        command, cwd=root, env={**os.environ, "CASEBOOK_REAL_DATA": "off"}
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
