"""Artifacts: small files whose making costs too much for a page, made by ``make artifacts``.

A case keeps its recipes in ``casebook/cases/<case>/artifacts.py``: a dict ``ARTIFACTS`` of
:class:`Recipe` by file name, a tuple ``PACKAGES`` of the packages that the result depends on, and
a function ``recompute`` that makes a small random sample anew.

``python -m casebook.recorded.artifacts make 01`` writes the files to ``data/<case>/artifacts/``
with
``manifest.json`` beside them: for each file the command, the hashes of what determines it,
versions, seeds, seconds, rows and its own hash. ``python -m casebook.recorded.artifacts check 01``
compares
the files with the manifest, the manifest with the code, and the sample with the files. A chapter
reads a file by :func:`artifact`.

Making and recomputing need the packages of ``requirements-artifacts.txt``, which stand in an
environment of their own; reading and comparing hashes do not.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from casebook.project import data_dir, write_whole
from casebook.recorded.bench import case_of, fingerprint

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MANIFEST = "manifest.json"
#: Folders in ``data/`` that belong to no case, with the module that makes their artifacts.
SHARED = {"local_model": "casebook.recorded.local_model"}


@dataclass(frozen=True)
class Recipe:
    """How one artifact is made.

    Attributes
    ----------
    build : callable
        Returns the frame; a function at the top of a module. The code that it reaches is part of
        the inputs (:func:`casebook.recorded.bench.fingerprint`).
    inputs : mapping of str to callable
        What else determines the frame, by name: functions that return its hash, such as that of
        a panel.
    seeds : mapping of str to int
        By what is drawn with them.
    """

    build: Callable[[], pd.DataFrame]
    inputs: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)


class Builder(Protocol):
    """What the module ``artifacts`` of a case holds."""

    ARTIFACTS: Mapping[str, Recipe]
    PACKAGES: Sequence[str]

    def recompute(
        self, stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
    ) -> tuple[str, list[str]]:
        """Make a random sample anew.

        Return what was made and how near it comes, and a line for each difference.
        """


# Reading -----------------------------------------------------------------------------


def command(case: str) -> str:
    """Return the command that makes the artifacts of a case."""
    return f"make artifacts N={case.split('_')[0]}"


def _folder(case: str) -> Path:
    return data_dir() / case / "artifacts"


def manifest(case: str) -> dict[str, dict]:
    """Read the manifest of a case.

    Parameters
    ----------
    case : str
        Folder in ``data/``, such as ``"01_demand_forecasting"``.

    Returns
    -------
    dict of str to dict
        By file: ``command``, ``inputs``, ``versions``, ``seeds``, ``seconds``, ``rows``,
        ``sha256``.

    Raises
    ------
    FileNotFoundError
        If the case has none.
    """
    path = _folder(case) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{case} has no {path.parent.name}/{MANIFEST}: run `{command(case)}`."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def artifact(case: str, file: str) -> pd.DataFrame:
    """Read an artifact after its hash was checked.

    Parameters
    ----------
    case : str
        Folder in ``data/``, such as ``"01_demand_forecasting"``.
    file : str
        Name of a parquet or csv file in its ``artifacts/``.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError
        If the manifest or the file is not there.
    KeyError
        If the manifest does not name the file.
    ValueError
        If the file is not the one that the manifest names.
    """
    entries = manifest(case)
    if file not in entries:
        raise KeyError(
            f"{case}/artifacts/{MANIFEST} does not name {file!r}; it names: "
            f"{', '.join(entries) or 'nothing'}."
        )
    path = _folder(case) / file
    if not path.is_file():
        raise FileNotFoundError(
            f"{case}/artifacts/{file} is missing. Restore it, or run `{command(case)}`."
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entries[file]["sha256"]:
        raise ValueError(
            f"{case}/artifacts/{file} was altered after it was made: its hash differs from the "
            f"manifest's. Restore it, or run `{command(case)}`."
        )
    return _read(content, file)


def _read(content: bytes, file: str) -> pd.DataFrame:
    import pandas as pd

    read = pd.read_csv if file.endswith(".csv") else pd.read_parquet
    return read(io.BytesIO(content))


def frame_hash(frame: pd.DataFrame, digits: int = 6) -> str:
    """Return a hash of a frame's content: the same for the same rows in the same order.

    Parameters
    ----------
    frame : DataFrame
        Its index does not count.
    digits : int
        Decimals that count: the last bits of a number may differ between processors.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    import pandas as pd

    digest = hashlib.sha256("\0".join(map(str, frame.columns)).encode())
    rounded = frame.round(digits)
    digest.update(pd.util.hash_pandas_object(rounded, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


# Making ------------------------------------------------------------------------------


def _module(case: str) -> str:
    return SHARED.get(case) or f"casebook.cases.{case.partition('_')[2]}.artifacts"


def _has_builder(case: str) -> bool:
    try:
        return find_spec(_module(case)) is not None
    except ModuleNotFoundError:  # the case has no package of systems
        return False


def builder(case: str) -> Builder:
    """Return the module that makes the artifacts of a case.

    Parameters
    ----------
    case : str
        Such as ``"01_demand_forecasting"``.

    Raises
    ------
    KeyError
        If the case has none.
    """
    if not _has_builder(case):
        raise KeyError(f"{case} has no artifacts: there is no module {_module(case)}.")
    return importlib.import_module(_module(case))


def cases() -> list[str]:
    """Return the cases that have artifacts, and what belongs to no case."""
    folders = [*sorted(path.name for path in data_dir().glob("[0-9][0-9]_*")), *SHARED]
    return [case for case in folders if _has_builder(case)]


def _inputs(recipe: Recipe) -> dict[str, str]:
    return {"code": fingerprint(recipe.build)} | {
        name: value() for name, value in recipe.inputs.items()
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions, without the name of a build such as ``+cpu``."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _content(frame: pd.DataFrame, file: str) -> bytes:
    if file.endswith(".csv"):
        return frame.to_csv(index=False, float_format="%.5g", lineterminator="\n").encode()
    return frame.to_parquet(index=False, compression="zstd")


def needed(packages: Sequence[str]) -> None:
    """Say what to do where a package is not installed.

    Raises
    ------
    ModuleNotFoundError
        With the missing packages and the commands that install and run them.
    """
    if missing := [name for name in packages if name not in _versions(packages)]:
        raise ModuleNotFoundError(
            f"{', '.join(missing)} not installed here. `make .venv-artifacts/.installed` makes the "
            "environment of the artifacts; `make artifacts` runs in it, and "
            "`.venv-artifacts/bin/python -m casebook.recorded.artifacts` does."
        )


def make(case: str) -> None:
    """Make all artifacts of a case and write them with their manifest.

    Parameters
    ----------
    case : str
        Such as ``"01_demand_forecasting"``.

    Raises
    ------
    KeyError
        If the case has no artifacts.
    ModuleNotFoundError
        Outside the environment of the artifacts.
    ValueError
        If a recipe makes an empty frame. What was made before stays as it is then.
    """
    module = builder(case)
    needed(module.PACKAGES)
    made, entries = {}, {}
    for file, recipe in module.ARTIFACTS.items():
        inputs, start = _inputs(recipe), time.perf_counter()
        frame = recipe.build()
        seconds = time.perf_counter() - start
        if frame.empty:
            raise ValueError(f"{file} came out empty: nothing was written.")
        made[file] = _content(frame, file)
        entries[file] = {
            "command": command(case),
            "inputs": inputs,
            "versions": _versions(module.PACKAGES),
            "seeds": dict(recipe.seeds),
            "seconds": round(seconds),
            "rows": len(frame),
            "sha256": hashlib.sha256(made[file]).hexdigest(),
        }
        print(
            f"made      {case}/artifacts/{file}  {len(frame):,} rows  {seconds:.0f} s", flush=True
        )
    for file, content in made.items():
        write_whole(_folder(case) / file, content)
    write_whole(_folder(case) / MANIFEST, (json.dumps(entries, indent=2) + "\n").encode())


# Checking ----------------------------------------------------------------------------


def faults(case: str) -> list[str]:
    """Compare the artifacts of a case with the manifest, and the manifest with the code.

    Parameters
    ----------
    case : str
        Such as ``"01_demand_forecasting"``.

    Returns
    -------
    list of str
        A line for each difference; none is as it should be. Nothing is trained.
    """
    module, again = builder(case), f"run `{command(case)}`"
    try:
        entries = manifest(case)
    except FileNotFoundError as error:
        return [error.args[0]]
    found = [
        f"{file} is in the manifest and no recipe makes it: {again}"
        for file in entries.keys() - module.ARTIFACTS.keys()
    ]
    known = {MANIFEST, *entries}
    found += [
        f"{path.name} is no artifact: the manifest does not name it"
        for path in _folder(case).iterdir()
        if path.name not in known
    ]
    for file, recipe in module.ARTIFACTS.items():
        if file not in entries:
            found.append(f"{file} is not in the manifest: {again}")
            continue
        try:
            rows = len(artifact(case, file))
        except (FileNotFoundError, ValueError) as error:
            found.append(error.args[0])
            continue
        found += [f"{file}: {fault}" for fault in _entry_faults(case, entries[file], recipe, rows)]
    return found


def _entry_faults(case: str, entry: Mapping, recipe: Recipe, rows: int) -> list[str]:
    """Return where an entry of the manifest departs from its file and its recipe."""
    again, found = f"run `{command(case)}`", []
    if entry["command"] != command(case):
        found.append(f"the command {entry['command']!r} is not `{command(case)}`")
    if entry["rows"] != rows:
        found.append(f"{entry['rows']} rows in the manifest, {rows} in the file")
    if entry["seeds"] != dict(recipe.seeds):
        found.append(f"made with the seeds {entry['seeds']}, not {dict(recipe.seeds)}: {again}")
    now = _inputs(recipe)
    if changed := sorted(
        k for k in {*now, *entry["inputs"]} if now.get(k) != entry["inputs"].get(k)
    ):
        found.append(f"made from other inputs: {again} ({', '.join(changed)} changed)")
    here = _versions(list(entry["versions"]))
    found += [
        f"made with {name} {version}, here is {here[name]}: {again}"
        for name, version in entry["versions"].items()
        if here.get(name, version) != version
    ]
    return found


def check(case: str, seed: int | None = None) -> list[str]:
    """Compare everything, and make a random sample of the artifacts anew.

    Parameters
    ----------
    case : str
        Such as ``"01_demand_forecasting"``.
    seed : int, optional
        Of the sample; drawn by default, and printed.

    Returns
    -------
    list of str
        A line for each difference. Where hashes differ, no sample is made.

    Raises
    ------
    KeyError
        If the case has no artifacts.
    ModuleNotFoundError
        Outside the environment of the artifacts.
    """
    import numpy as np

    module = builder(case)
    needed(module.PACKAGES)
    seed = secrets.randbelow(10_000) if seed is None else seed
    if found := faults(case):
        return found
    stored = {file: artifact(case, file) for file in module.ARTIFACTS}
    print(f"sample    {case}: seed {seed}", flush=True)
    line, found = module.recompute(stored, np.random.default_rng(seed))
    print(f"compared  {line}", flush=True)
    return found


def compared(
    what: str, row: pd.Series, made: pd.Series, tolerance: float = 0.02
) -> tuple[str, list[str]]:
    """Compare the numbers of a stored row with the same row made anew.

    Parameters
    ----------
    what : str
        What the row is of.
    row, made : Series
    tolerance : float
        Relative: machines add up in another order.

    Returns
    -------
    what : str
        With how near it comes.
    differences : list of str

    Examples
    --------
    >>> import pandas as pd
    >>> compared("world 3", pd.Series({"euro": 100.0}), pd.Series({"euro": 101.0}))
    ('world 3: within 1.0%', [])
    """
    off = {name: abs(made[name] - row[name]) / max(abs(row[name]), 1e-9) for name in row.index}
    differences = [
        f"{what}: {name} is {row[name]:.4g} in the file, {made[name]:.4g} here"
        for name in off
        if not off[name] <= tolerance
    ]
    return f"{what}: within {max(off.values()):.1%}", differences


def _named(given: str) -> str:
    """Return the folder of a case, or of what belongs to none, by its number or its name."""
    shared = {part: name for name in SHARED for part in (name, name.split("_")[0])}
    return shared.get(given) or case_of(given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or check the artifacts of a case: ``python -m casebook.recorded.artifacts make|check
    [01]``."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m casebook.recorded.artifacts", description=main.__doc__
    )
    parser.add_argument("action", choices=["make", "check"])
    parser.add_argument(
        "case", nargs="?", help="number of the case, such as 01, or local_model (all)"
    )
    parser.add_argument("--seed", type=int, help="of the sample that check draws")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a library counts the cores
    well = True
    try:
        for case in [_named(options.case)] if options.case else cases():
            if options.action == "make":
                make(case)
            elif found := check(case, options.seed):
                well = False
                print("\n".join(f"differs   {case}: {line}" for line in found), flush=True)
            else:
                print(f"agrees    {case}", flush=True)
    except (KeyError, ModuleNotFoundError) as error:
        parser.error(error.args[0])
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
